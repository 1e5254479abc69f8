"""Who judges, by name: one annotator, several that decide together, and what a name on the command line stands for."""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic.dataclasses import dataclass

from trueup import errors, python_objects, words
from trueup.settings import annotator_kinds, schema, validation
from trueup.settings.annotator_kinds import AnnotatorKind, Comparing, Gives, Scoring, Share

CRITERIA = {
    "coherence": "It is clear, and its sentences follow from each other.",
    "correctness": "All that it says is true, and what it concludes follows.",
    "detail": "It says as much as the prompt calls for: nothing that matters is missing, and nothing is drawn out.",
    "helpfulness": "It does what is asked for, and is of use to whoever asked.",
    "harmlessness": "It does not insult, endanger or deceive anybody, and helps nobody to do so.",
}
"""Criteria that are known by name, those of the trust-region paper, and what a response has to be for each."""
REWARDS = ("gold", "proxy")


def spelled(given: Any) -> Any:
    """An annotator given as one text, `openai?base_url=http://localhost:8000/v1&model=J`, as its settings."""
    if not isinstance(given, str):
        return given
    name, _, rest = given.partition("?")
    more = [part.partition("=") for part in rest.split("&")] if rest else []
    try:
        made = annotator_layer(name)
        if odd := [key for key, equals, _ in more if not equals]:
            instead = "write NAME?setting=value&setting=value, or in a file {kind: NAME, setting: value}"
            raise errors.InputError(
                f"annotator {words.as_given(name)}: {words.as_given(odd[0])} is no setting; {instead}"
            )
    except errors.InputError as error:  # said of the setting that holds the name, `annotator` or another
        raise schema.unfit(str(error).removeprefix("annotator ")) from None
    return made | {key: value for key, _, value in more}


def _once_each(judges: tuple[Any, ...]) -> tuple[Any, ...]:
    for place, one in enumerate(judges):
        if one in judges[:place]:
            twice = f"{words.as_given(str(vars(one)[one.about.main]))} twice with the same settings"
            raise ValueError(f"of names {twice}, which counts it double; name each once")
    return judges


Member = Annotated[Comparing | Scoring, Field(discriminator="kind"), BeforeValidator(spelled)]
Members = Annotated[tuple[Member, ...], BeforeValidator(schema.one_or_several), AfterValidator(_once_each)]


@dataclass(frozen=True, config=schema.STRICT_DATACLASS)
class JuryAnnotator:
    """Several annotators that judge every pair, each by itself, and decide together."""

    of: Members
    """Names of annotators, as in openai?base_url=http://localhost:8000/v1&model=J; in a file also mappings."""
    kind: Literal["jury"] = "jury"
    gives: ClassVar[Gives] = "comparisons"
    about: ClassVar[AnnotatorKind] = AnnotatorKind(
        "annotators.jury:load_jury", "of", ("jury",), files={"gold": annotator_kinds.GOLD}
    )
    agreement: Share = 0.6
    """Share of the judges that have to prefer the same response; else the pair is undecided."""
    instruction: str | None = None
    """What to prefer, in words, for those that are told nothing of their own."""
    gold: schema.Text | None = None
    """A file of feedback with pairs of known answers, which are mixed in and say how often each judge is right."""
    gold_share: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Gold pairs mixed in for each example that is judged."""

    def __post_init__(self) -> None:
        if len(self.of) < 2:
            raise ValueError("a jury has two judges or more, and of names one; give another one")
        told = [one for one in self.of if isinstance(one, annotator_kinds.Instructed)]
        if self.instruction is not None and not told:
            raise ValueError("instruction is given, and none of the judges takes one; leave it out")


def criterion_of(given: str) -> tuple[str, float]:
    """A criterion and its weight: `helpfulness=2`, `It is short.`, which has 1. InputError: the weight is 0."""
    text, equals, number = given.rpartition("=")
    try:
        weight = float(number) if equals else 1.0
    except ValueError:
        text, weight = given, 1.0
    text = (text or given).strip()
    if not 0 < abs(weight) < float("inf"):
        raise errors.InputError(f"criterion {words.as_given(text)}: the weight {weight:g} says nothing; give another")
    return text, weight


@dataclass(frozen=True, config=schema.STRICT_DATACLASS)
class RubricAnnotator:
    """A rubric: judges rate each response by one criterion after the other; one score a response."""

    of: Annotated[Members, Field(min_length=1)]
    """Who rates: names of local and openai judges, as for a jury; of several the mean."""
    kind: Literal["rubric"] = "rubric"
    gives: ClassVar[Gives] = "scores"
    about: ClassVar[AnnotatorKind] = AnnotatorKind(
        "annotators.rubric:load_rubric", "of", ("rubric",), files={"file": annotator_kinds.RUBRIC}
    )
    criteria: schema.Texts = ()
    """What a response has to be: helpfulness=2, or a sentence of yours. Those of a prompt (rubric) join them."""
    file: schema.Text | None = None
    """A file with further criteria, one on each line."""

    def __post_init__(self) -> None:
        for one in self.criteria:
            criterion_of(one)
        if odd := [one.kind for one in self.of if not isinstance(one, annotator_kinds.Rating)]:
            judges = "give judges that are local or openai"
            raise ValueError(f"of names {odd[0]}, which rates by no criterion; {judges}")


@dataclass(frozen=True, config=schema.STRICT_DATACLASS)
class WeightedAnnotator:
    """Several annotators that score, added up by weights; one score a response."""

    of: Annotated[Members, Field(min_length=1)]
    """Who scores: names of annotators, as for a jury, such as reward:FOLDER and rewards.py:brevity."""
    kind: Literal["weighted"] = "weighted"
    gives: ClassVar[Gives] = "scores"
    about: ClassVar[AnnotatorKind] = AnnotatorKind("annotators.rubric:load_weighted", "of", ("weighted",))
    weights: schema.Numbers = ()
    """What each score is multiplied by, in order of the names; below 0 for what is to be small. Left out: 1 each."""

    def __post_init__(self) -> None:
        if odd := [one.kind for one in self.of if one.gives != "scores"]:
            raise ValueError(f"of names {odd[0]}, which compares; give annotators that score, or a jury")
        if self.weights and len(self.weights) != len(self.of):
            raise ValueError(f"weights are {len(self.weights)} and of names {len(self.of)}; give one for each")
        if 0 in self.weights:
            raise ValueError("weights hold a 0, with which a score says nothing; leave that annotator out")


Several = JuryAnnotator | RubricAnnotator | WeightedAnnotator


Judges = Comparing | JuryAnnotator
Scorers = Scoring | RubricAnnotator | WeightedAnnotator
AnnotatorChoice = Annotated[Judges | Scorers, Field(discriminator="kind")]
JudgeChoice = Annotated[Judges, Field(discriminator="kind")]
"""One that compares."""
ScorerChoice = Annotated[Scorers, Field(discriminator="kind")]
"""One that scores."""
KINDS: dict[str, Any] = {choice.kind: choice for choice in get_args(get_args(AnnotatorChoice)[0])}
"""Value of `annotator.kind` -> the class of its settings."""


def _forms(*gives: Gives) -> str:
    """The names of all kinds that give this: kinds alone first, then `KIND:REST`, then functions."""
    found = [(kind, form) for kind, one in KINDS.items() if one.gives in gives for form in one.about.forms]
    found.sort(key=lambda named: 0 if named[0] == named[1] else 1 + ("FILE.py" in named[1]))
    *most, last = (form for _, form in found)
    return f"{', '.join(most)} or {last}"


ANNOTATORS = _forms("scores", "comparisons")
"""Names that stand for an annotator, for messages; `expanded` reads them."""
JUDGES = _forms("comparisons")
REWARD_FORMS = _forms("scores").replace("reward:FOLDER", "a reward model's FOLDER")


def decisive(value: Any) -> Any:
    """A plain value of a setting; of annotators among a jury without what cannot change how they judge."""
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        return value
    fields = {name: field for kind in KINDS.values() for name, field in kind.__pydantic_fields__.items()}
    marks = [(name, mark) for name, field in fields.items() for mark in field.metadata]
    free = {name for name, mark in marks if isinstance(mark, schema.Role) and mark.affects == "nothing"}
    return [{name: inner for name, inner in one.items() if name not in free} for one in value]


def annotators_in(choice: AnnotatorChoice) -> dict[str, AnnotatorChoice]:
    """The annotators that a choice is made of, by a name each for messages and metrics; one alone has none."""
    if not isinstance(choice, Several):
        return {"": choice}
    found: dict[str, AnnotatorChoice] = {}
    for one in choice.of:
        name = str(vars(one)[one.about.main])
        number = sum(known.partition(" #")[0] == name for known in found)
        found[f"{name} #{number + 1}" if number else name] = one
    return found


def is_function(name: str) -> bool:
    """Whether a name has the form FILE.py:FUNCTION, or stands for an object of Python (`trueup.python_objects`)."""
    if name.startswith(python_objects.PREFIX) and name != python_objects.PREFIX:
        return True
    file, colon, function = name.rpartition(":")
    return bool(colon) and file.endswith(".py") and len(file) > len(".py") and function.isidentifier()


def annotator_layer(name: str) -> dict[str, Any]:
    """What a name stands for: `reward:rm` is `{"kind": "reward", "model": "rm"}`. InputError lists the forms."""
    if "://" in name:  # which may hold a secret, and is not shown
        raise errors.InputError("annotator must be a name, not a URL; give openai with annotator.base_url")
    kind, colon, rest = name.partition(":")
    if kind == "world" and colon and rest not in REWARDS:
        known = f"the world has {' and '.join(REWARDS)}{words.did_you_mean(rest, REWARDS)}"
        raise errors.InputError(f"annotator {words.as_given(name)} is not known; {known}")
    if kind in KINDS and not colon:
        return {"kind": kind}
    if kind in KINDS and rest and (KINDS[kind].about.main != "function" or is_function(rest)):
        return {"kind": kind, KINDS[kind].about.main: rest}
    if kind not in KINDS and is_function(name):
        return {"kind": "function", "function": name}
    folder = "/" in name and not colon
    close = f"; did you mean reward:{name}?" if folder else words.did_you_mean(kind, KINDS)
    raise errors.InputError(f"annotator {words.as_given(name)} is not known; give {ANNOTATORS}{close}")


def reward_layer(name: str) -> dict[str, Any]:
    """Return what `reward: NAME` stands for: an annotator that scores. A plain folder is a reward model's."""
    kind, colon, _ = name.partition(":")
    if kind in KINDS and KINDS[kind].gives == "comparisons":
        compares = f"reward {words.as_given(name)} is refused, as it compares responses and gives no score"
        raise errors.InputError(f"{compares}; give {REWARD_FORMS}, or give it as annotator")
    if (kind in KINDS and (colon or kind in KINDS[kind].about.forms)) or is_function(name):
        return annotator_layer(name)
    if kind in KINDS or not name.strip() or name.endswith(".py") or ".py:" in name:
        raise errors.InputError(f"reward {words.as_given(name)} is not known; give {REWARD_FORMS}")
    return {"kind": "reward", "model": name}


def judge_layer(name: str) -> dict[str, Any]:
    made = annotator_layer(name)
    if KINDS[made["kind"]].gives == "scores":
        scores = f"annotator {words.as_given(name)} is refused, as it scores responses and compares none"
        raise errors.InputError(f"{scores}; give {JUDGES}, or give it as reward")
    return made


@contextmanager
def called(setting: str) -> Iterator[None]:
    """Have what is said of `annotator` within said of the setting that holds the annotator there."""
    try:
        yield
    except (errors.InputError, errors.AnnotatorError) as error:
        raise type(error)(re.sub(r"\bannotator(?=[. ])", setting, str(error))) from error


def expanded_apart(layer: dict[str, Any]) -> dict[str, Any]:
    rest = dict(layer)
    _spell_out(rest, "judge", judge_layer)
    _spell_out(rest, "reward", reward_layer)
    return rest


def _spell_out(layer: dict[str, Any], setting: str, spelled: Callable[[str], dict[str, Any]]) -> None:
    if isinstance(name := layer.get(setting), str):
        del layer[setting]
        with called(setting):
            _put(layer, setting, f"{setting} {words.as_given(name)}", spelled(name))


def expanded(layer: dict[str, Any]) -> dict[str, Any]:
    """Return a layer of settings with what its `annotator: NAME`, `reward: NAME` and `eval_by: NAME` stand for."""
    rest = dict(layer)
    reward = rest.pop("reward", None)
    if reward is not None:
        if not isinstance(reward, str):
            raise errors.InputError(f"reward must be {REWARD_FORMS}; got {words.as_given(reward)}")
        beside = [name for name in rest if name.partition(".")[0] == "annotator"]
        if beside and (reward not in KINDS or "annotator" in rest):
            raise errors.InputError(f"reward and {beside[0]} are both given, and a reward is an annotator; give one")
        _put(rest, "annotator", f"reward {words.as_given(reward)}", reward_layer(reward))
    _spell_out(rest, "annotator", annotator_layer)
    _spell_out(rest, "eval_by", annotator_layer)
    return rest


def _put(layer: dict[str, Any], setting: str, name: str, made: Mapping[str, Any]) -> None:
    for key, value in made.items():
        path = f"{setting}.{key}"
        if path in layer and not validation.same(layer[path], value):
            raise errors.InputError(f"{name} and {path} {words.as_given(layer[path])} are given and differ; give one")
        layer[path] = value
