"""What an annotator is, something that judges the responses of examples; and one that scores each by a function.
A user's own function is named by its file: `rewards.py:brevity`, where `brevity(prompt, response)` returns a number."""

import math
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from inspect import signature
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, Protocol

from trueup import errors, python_objects, words
from trueup.feedback import containers, records, turns
from trueup.settings import annotator_kinds, annotator_settings

FEWEST = 20
ARGUMENTS, COMPARED = ("prompt", "response"), ("prompt", "first", "second")
"""What a function is called with that scores, and one that compares."""
FORM = "FILE.py:FUNCTION, e.g. rewards.py:brevity"
SCORE_OF = "score of "  # begins the names of totals that are sums of the scores of one of several annotators
NO_TEXT = "a response of several turns is no one text to score"


@dataclass(frozen=True, slots=True)
class Annotated:
    examples: tuple[records.Example | records.Discarded, ...]
    """In the order given: the example with scores on its responses or with comparisons; or why it has neither. An
    example of which only some verdicts could be read keeps those."""
    totals: Mapping[str, float] = field(default_factory=dict)
    """What it took, as sums: `verdicts` asked for, `unreadable`, `cached`, `requests`, `tokens`, `cost`, ..."""

    @property
    def kept(self) -> tuple[records.Example, ...]:
        return tuple(one for one in self.examples if isinstance(one, records.Example))

    @property
    def dropped(self) -> tuple[records.Discarded, ...]:
        return tuple(one for one in self.examples if isinstance(one, records.Discarded))


class Annotator(Protocol):
    """Judges responses, by scores (higher is better, on one scale for all prompts) or by comparisons.
    A judgement depends on prompt and responses alone, never on what was judged before, so that a run that is
    resumed is judged as one that was not interrupted."""

    @property
    def name(self) -> str:
        """For messages and records."""

    @property
    def gives(self) -> str:
        """`scores` or `comparisons`."""

    def annotate(self, examples: Sequence[records.Example]) -> Annotated:
        """Judge the responses of each example; what was said of them before is replaced.
        InputError: an example cannot be judged by this annotator at all; it is named. AnnotatorError: it cannot be
        reached or afforded, or too many of its verdicts cannot be read; what it has judged by then is in its cache."""


class Unusable:
    """Counts answers that cannot be used, and stops where their share is above `most`; the rest words its message."""

    def __init__(self, most: float, what: str, use: str, instead: str) -> None:
        self._most, self._what, self._use, self._instead = most, what, use, instead
        self._all = 0
        self._reasons: Counter[str] = Counter()

    def add(self, name: str, reasons: Sequence[str | None]) -> None:
        """Count some more of one judge's: why each cannot be used, None where it can."""
        self._all += len(reasons)
        self._reasons.update(one for one in reasons if one is not None)
        bad = self._reasons.total()
        if self._all >= FEWEST and bad > self._most * self._all:
            common = ", ".join(f"{reason} ({count})" for reason, count in self._reasons.most_common(3))
            raise errors.AnnotatorError(
                f"{name}: {bad} of {self._all} {self._what} ({bad / self._all:.0%}) cannot be {self._use}, and no more "
                f"than {self._most:.0%} may: {common}. Choose {self._instead}, or raise annotator.max_unreadable"
            )


def summed(totals: Iterable[Mapping[str, float]]) -> dict[str, float]:
    sums: dict[str, float] = {}
    for one in totals:
        for name, value in one.items():
            sums[name] = sums.get(name, 0) + value
    return sums


class Scorer(Protocol):
    """Says in one number how good a response is; higher is better, on one scale for all prompts."""

    def __call__(self, prompts: Sequence[records.Content], responses: Sequence[str]) -> list[float]:
        """One finite number for each response, to a prompt as the user gave it, without condition or chat template.
        InputError: a response cannot be scored; the message names the number of its prompt, from 1."""


@dataclass(frozen=True, slots=True)
class ScoringAnnotator:
    """Gives every response a score: `ScoringAnnotator(load_scorer("rewards.py:brevity"), "rewards.py:brevity")`."""

    scorer: Scorer
    name: str
    gives: ClassVar[str] = "scores"

    def annotate(self, examples: Sequence[records.Example]) -> Annotated:
        made = Annotated(tuple(map(self._scored, examples)))
        return replace(made, totals={"scores": float(sum(len(one.responses) for one in made.kept))})

    def _scored(self, example: records.Example) -> records.Example | records.Discarded:
        texts = [single_text(one.content) for one in example.responses]
        known = [text for text in texts if text is not None]
        if len(known) < len(texts):
            return records.Discarded(NO_TEXT, example.origin)
        with errors.naming(example.origin):
            scores = self.scorer([example.prompt.content] * len(known), known)
        return with_scores(example, scores, self.name)


def with_scores(example: records.Example, scores: Sequence[float], name: str) -> records.Example:
    """The example with these finite scores; what was said of its responses goes, but for marks of demonstrations."""
    for number, score in enumerate(scores, start=1):
        if not math.isfinite(score):
            where = f"{example.origin}: " if example.origin else ""
            raise errors.AnnotatorError(
                f"{where}{name} gave response {number} the score {score}, which is not a finite number. Mend the "
                "annotator, or leave the example out"
            )
    both = zip(example.responses, scores, strict=True)
    responses = tuple(replace(one, score=float(score), label=None) for one, score in both)
    return replace(example, responses=responses, comparisons=(), votes=())


def single_text(response: records.Content) -> str | None:
    """A response as one text; None where it has several turns, or calls a tool."""
    if isinstance(response, str):
        return response
    (*earlier, last) = response
    return None if earlier or last.extra.get("tool_calls") else last.content


@dataclass(frozen=True, slots=True)
class FunctionScorer:
    """Scores each response by a call of `function(prompt, response)`, a conversation being a list of messages."""

    name: str
    file: str
    function: Callable[[Any, str], Any]

    def __call__(self, prompts: Sequence[records.Content], responses: Sequence[str]) -> list[float]:
        return [
            self.called(prompt, response, where=f"prompt {number}, ")
            for number, (prompt, response) in enumerate(zip(prompts, responses, strict=True), start=1)
        ]

    def called(self, prompt: records.Content, *responses: str, where: str = "", share: bool = False) -> float:
        """What the function says of a prompt and responses: a finite number, or a share."""
        said = prompt if isinstance(prompt, str) else prompt[-1].content if prompt else ""
        where = f"{self.name}: {where}{words.shortened(said)}"
        given = prompt if isinstance(prompt, str) else [turns.message_json(message) for message in prompt]
        try:
            found = self.function(given, *responses)
        except Exception as error:  # the function is the user's and may raise anything
            raise errors.InputError(f"{where}: the function failed: {_what(error, self.file)}. Mend it") from error
        try:
            value = math.nan if isinstance(found, str) else float(found)
        except (TypeError, ValueError, OverflowError, RuntimeError):
            value = math.nan
        if not math.isfinite(value) or (share and not 0 <= value <= 1):
            what = "number from 0 to 1" if share else "finite number"
            raise errors.InputError(
                f"{where}: the function returned {words.shortened(repr(found))[1:-1]}; it must return a {what}"
            )
        return value


def load_function_annotator(choice: annotator_kinds.FunctionAnnotator) -> ScoringAnnotator:
    return ScoringAnnotator(load_scorer(choice.function), choice.function)


def load_scorer(name: str, arguments: Sequence[str] = ARGUMENTS) -> FunctionScorer:
    """The scorer that a name stands for: `rewards.py:brevity`, `python:brevity`.
    Its file is run as Python runs a script, and may import what lies beside it. `arguments` are those it is to have."""
    if not annotator_settings.is_function(name):
        raise errors.InputError(f"{name!r} names no function; give {FORM}")
    if name.startswith(python_objects.PREFIX):
        found = python_objects.held(name)
        if not callable(found):
            raise errors.InputError(f"{name} is a {type(found).__name__}, no function; give one")
        file = getattr(getattr(found, "__code__", None), "co_filename", "")
    else:
        file, _, function = name.rpartition(":")
        module = _run(file)
        found = getattr(module, function, None)
        if not callable(found):
            known = [key for key, one in vars(module).items() if callable(one) and not key.startswith("_")]
            others = f"; it has {', '.join(map(words.printable, known)) or 'none'}"
            meant = words.did_you_mean(function, known, quoted=True)
            raise errors.InputError(f"{file} has no function {function}{meant or others}")
    _check_arguments(name, found, arguments)
    return FunctionScorer(name, file, found)


def unfit(function: Callable[..., Any], arguments: Sequence[str]) -> str:
    """Why a function cannot be called with such arguments; empty where it can, or does not tell."""
    try:
        signature(function).bind(*arguments)
    except TypeError as error:
        return str(error)
    except ValueError:  # one that is not written in Python need not tell
        pass
    return ""


def _check_arguments(name: str, function: Callable[..., Any], arguments: Sequence[str]) -> None:
    if not (why := unfit(function, arguments)):
        return
    both = {ARGUMENTS: "a prompt and a response", COMPARED: "a prompt and two responses"}
    other, prefix = (COMPARED, "comparing:") if arguments == ARGUMENTS else (ARGUMENTS, "")
    instead = "" if unfit(function, other) else f", or give it as {prefix}{name}"
    raise errors.InputError(
        f"{name} cannot be called with {both[tuple(arguments)]}: {why}. Define "
        f"{name.rpartition(':')[2]}({', '.join(arguments)}){instead}"
    )


def _run(file: str) -> ModuleType:
    source = containers.read_bytes(Path(file))
    module = ModuleType(f"trueup_scorer_{Path(file).stem}")
    module.__file__ = file
    sys.modules[module.__name__] = module  # dataclasses and the like look themselves up there
    sys.path.insert(0, str(Path(file).absolute().parent))
    try:
        exec(compile(source, file, "exec"), module.__dict__)
    except (Exception, SystemExit) as error:  # the file is the user's and may raise anything
        raise errors.InputError(f"{file} cannot be run: {_what(error, file)}. Mend it") from error
    finally:
        sys.path.pop(0)
    return module


def _what(error: BaseException, file: str) -> str:
    """`ValueError: no such word (line 12)`."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
    text = error.msg if isinstance(error, SyntaxError) else words.one_line(str(error))
    place = f" (line {line})" if line else ""
    return f"{type(error).__name__}{': ' + text if text else ''}{place}"
