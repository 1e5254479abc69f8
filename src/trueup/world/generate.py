"""Feedback from the world: examples of any kind, the same for the same seed. Text only.

Each example draws its prompt, its responses and its judgements from three chances of its own, so that more
examples only add rows, and noise changes verdicts and nothing else. `examples` asks the prompts of
`prompts(count, seed)`.
"""

import math
from collections.abc import Callable, Iterable
from functools import partial
from itertools import combinations
from random import Random
from typing import Annotated, Any, Final, Literal
from urllib.parse import parse_qsl

from pydantic import Field

from trueup import errors, words
from trueup.feedback.records import Comparison, Example, Origin, Prompt, Response
from trueup.settings import schema, validation
from trueup.world import language, people

PROMPTS = "world:prompts"
KINDS: Final = ("demonstrations", "pairs", "rankings", "points", "scores", "mixed")
NUM_RESPONSES: Final = {"pairs": 2, "rankings": 4}
WRITERS: Final[dict[str, people.Writer]] = {"demonstrator": people.demonstrator, "expert": people.expert}
REDRAWS = 8


def prompts(count: int, seed: int = 0) -> tuple[str, ...]:
    chances = (_chance(seed, row, "prompt") for row in range(1, count + 1))
    return tuple(language.render(language.random_task(chance)) for chance in chances)


def examples(
    kind: str, *, count: int = 1000, seed: int = 0, responses: int | None = None, noise: float = 0.0,
    temperature: float = 0.0, weights: language.Weights | None = None, reward: people.Reward | None = None,
    writer: people.Writer | None = None,
) -> tuple[Example, ...]:  # fmt: skip
    """`count` examples of one kind of feedback.

    Args:
        kind: demonstrations: responses to imitate. pairs: comparisons of every two responses that differ in
            reward. rankings: a score per response. points: a thumb (label 1 or 0) per response.
            scores: a mark (label in [0, 1]) per response. mixed: demonstrations on the odd rows, points on
            the even ones.
        responses: per prompt; by default 4 for rankings, 2 for pairs, 1 otherwise.
        noise, temperature: of the annotator; see `Rater`.
        weights: what the annotator cares about, as weights of the gold reward's aspects.
        reward: what the annotator judges by instead of the gold reward, such as `trueup.world.language.proxy`.
        writer: who writes the responses; by default the expert writes demonstrations, the demonstrator all else.
    """
    if kind not in KINDS:
        raise errors.InputError(f"unknown kind of world feedback {kind!r}{_meant(kind, KINDS)}")
    num_responses = NUM_RESPONSES.get(kind, 1) if responses is None else responses
    _check_range("count", count, 1)
    _check_range("responses", num_responses, 2 if kind in NUM_RESPONSES else 1)
    _check_range("noise", noise, 0, 1)
    _check_range("temperature", temperature, 0)
    if reward is not None and weights is not None:
        raise errors.InputError("weights belong to the gold reward; give weights or another reward, not both")
    judged_by = reward or (partial(language.gold, weights=weights) if weights else language.gold)
    annotator = people.Rater(judged_by, temperature, noise)

    def example(row: int, prompt: str) -> Example:
        shown = "demonstrations" if kind == "mixed" and row % 2 else "points" if kind == "mixed" else kind
        author = writer or (people.expert if shown == "demonstrations" else people.demonstrator)
        name = str(getattr(author, "__name__", type(author).__name__))
        chance = _chance(seed, row, "responses")
        written = author(prompt, num_responses, chance)
        for _ in range(REDRAWS if kind in NUM_RESPONSES else 0):
            if len({annotator.reward(prompt, response) for response in written}) > 1:
                break
            written = author(prompt, num_responses, chance)
        judged, compared = _judge(shown, prompt, written, annotator, _chance(seed, row, "judgement"), name)
        return Example(Prompt(prompt, origin=Origin(f"world:{kind}", row)), judged, compared)

    return tuple(example(row, prompt) for row, prompt in enumerate(prompts(count, seed), start=1))


def _judge(
    kind: str, prompt: str, written: tuple[str, ...], annotator: people.Rater, chance: Random, source: str
) -> tuple[tuple[Response, ...], tuple[Comparison, ...]]:
    said: dict[str, Callable[[str], dict[str, Any]]] = {
        "demonstrations": lambda text: {"demonstration": True},
        "points": lambda text: {"label": float(annotator.approves(prompt, text, chance))},
        "scores": lambda text: {"label": annotator.grade(prompt, text, chance)},
    }
    if kind == "rankings":
        scores = zip(written, annotator.scores(prompt, written, chance), strict=True)
        judged = tuple(Response(text, score, source=source) for text, score in scores)
    else:
        say = said.get(kind)
        judged = tuple(Response(text, source=source, **(say(text) if say else {})) for text in written)
    compared: list[Comparison] = []
    for first, second in combinations(range(len(written) if kind == "pairs" else 0), 2):
        preferred = annotator.prefers(prompt, written[first], written[second], chance)
        if preferred is not None:
            compared.append(Comparison(first, second) if preferred else Comparison(second, first))
    return judged, tuple(compared)


def from_name(name: str) -> tuple[Example, ...]:
    """The examples that `world:pairs?count=2000&seed=1&noise=0.1&writer=expert` stands for.
    The keys are count, seed, responses, noise, temperature, writer (demonstrator or expert), reward (gold or proxy),
    and the weights helpfulness, harmlessness and brevity."""
    scheme, _, rest = name.partition(":")
    kind = rest.partition("?")[0]
    write = f"write world:KIND, KIND one of {', '.join(KINDS)}"
    if scheme != "world" or not kind:
        raise errors.InputError(f"{name!r} names no world feedback; {write}")
    if is_prompt_name(name):
        raise errors.InputError(f"{name!r}: prompts alone, and feedback is needed here; {write}")
    if kind not in KINDS:
        near = words.did_you_mean(kind, (*KINDS, "prompts"), quoted=True) or _meant(kind, KINDS)
        raise errors.InputError(f"{name!r}: unknown kind of world feedback {kind!r}{near}")
    given = _query(name)
    if "writer" in given:
        given["writer"] = WRITERS[given["writer"]]
    if "reward" in given:
        given["reward"] = language.proxy if given["reward"] == "proxy" else None
    weights = {key: given.pop(key) for key in ("helpfulness", "harmlessness", "brevity") if key in given}
    if weights:
        given["weights"] = language.Weights(**weights)
    with errors.naming(repr(name)):
        return examples(kind, **given)


def is_prompt_name(name: str) -> bool:
    return name.partition("?")[0] == PROMPTS


def prompts_from_name(name: str) -> tuple[Prompt, ...]:
    """The prompts that `world:prompts?count=512&seed=1` stands for, those of feedback of the same seed."""
    given = _query(name)
    if further := given.keys() - {"count", "seed"}:
        raise errors.InputError(f"{name!r}: {min(further)} is no setting of prompts alone; they have count and seed")
    numbered = enumerate(prompts(given.get("count", 1000), given.get("seed", 0)), start=1)
    return tuple(Prompt(text, origin=Origin(PROMPTS, row)) for row, text in numbered)


class Query(schema.Settings):
    """What may stand behind the question mark of a name."""

    count: schema.Count = 1000
    seed: int = 0
    responses: schema.Count | None = None
    noise: Annotated[float, Field(ge=0, le=1)] = 0.0
    temperature: Annotated[float, Field(ge=0)] = 0.0
    writer: Literal["demonstrator", "expert"] | None = None
    reward: Literal["gold", "proxy"] = "gold"
    helpfulness: float | None = None
    harmlessness: float | None = None
    brevity: float | None = None


def _query(name: str) -> dict[str, Any]:
    """The settings in the query of a name that are given."""
    pairs = parse_qsl(name.partition("?")[2], keep_blank_values=True)
    keys = [key for key, _ in pairs]
    if twice := [key for key in keys if keys.count(key) > 1]:
        raise errors.InputError(f"{name!r}: {twice[0]} is given twice; give it once")
    with errors.naming(repr(name)):
        return validation.validate(Query, dict(pairs), where="the world").model_dump(exclude_unset=True)


def _chance(seed: int, row: int, part: str) -> Random:
    return Random(f"trueup world {seed} {row} {part}")


def _check_range(key: str, value: float, low: float, high: float = math.inf) -> None:
    if not low <= value <= high:
        bounds = f"at least {low}" if high == math.inf else f"in [{low}, {high}]"
        raise errors.InputError(f"{key} must be {bounds}; got {value}")


def _meant(word: str, known: Iterable[str]) -> str:
    return words.did_you_mean(word, known, quoted=True) or f"; choose from {', '.join(known)}"
