"""What feedback is converted to: canonical rows, of everything or of what one view uses, and TRL's plain rows.

In canonical rows, what a view finds is put in the words of that view: pairs as comparisons, a ranking as scores, points
as labels. Reading the output again, the view finds exactly what it found in the input. TRL's rows are a pair, a
labelled completion or a demonstration each. https://huggingface.co/docs/trl
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

from trueup.feedback import records, views
from trueup.feedback.canonical import content_json, example_to_row, prompt_json
from trueup.feedback.convert.conversion import Because, RowContent, RowContents, Take, Target, bare, look_at
from trueup.feedback.layouts.layout import PROMPT_ANSWERED
from trueup.feedback.layouts.trl import repeated_prompt
from trueup.feedback.records import Comparison, Discarded, Example, Response, View
from trueup.feedback.turns import ends_with_assistant, split_at_last_request

R = TypeVar("R")

REPEATS = "both responses begin with the prompt, which would be taken off them"
GRADED = "its label is neither true nor false (--threshold makes it one of them)"
NO_PAIR, NO_LABEL = "no pair uses it", "nothing labels it"


Pieces = Callable[[Example, R, tuple[int, ...]], RowContents | Discarded]
"""Example, what a view found in it, and the positions of the responses that this relates -> what the output says."""


def seen_by(view: View[R], make: Pieces[R], *, answered: bool = True) -> Take:
    """What is made of what a view finds.

    Args:
        answered: whether a row can hold a prompt that ends with an answer; one of TRL's would be read as none.
    """

    def take(example: Example) -> RowContents | Discarded:
        if not answered and ends_with_assistant(example.prompt.content):
            return Discarded(PROMPT_ANSWERED, example.origin)
        found = look_at(view, example)
        return found if isinstance(found, Discarded) else make(example, *found)

    return take


def everything(example: Example) -> RowContents:
    """The example as it is."""
    return (RowContent(example, tuple(range(len(example.responses)))),)


def as_pairs(example: Example, relation: records.PairRelation, positions: tuple[int, ...]) -> RowContents:
    """The responses that stand in a pair, and a comparison for each pair."""
    compared = tuple(Comparison(*one) for one in relation.pairs)
    return (piece(example, positions, [unjudged(example, at) for at in positions], compared),)


def as_rankings(example: Example, relation: records.RankRelation, positions: tuple[int, ...]) -> RowContents:
    """The responses that are ranked, each with its score."""
    ranked = zip(positions, relation.scores, strict=True)
    return (piece(example, positions, [replace(unjudged(example, at), score=score) for at, score in ranked]),)


def as_points(example: Example, relation: records.PointRelation, positions: tuple[int, ...]) -> RowContents:
    """The responses that have a label or are marked as demonstrations; nothing else is a label by itself."""
    labelled = []
    for at, label, marked in zip(positions, relation.labels, relation.demonstrations, strict=True):
        # A demonstration goes without a label: it is taken for 1 again.
        unsaid = marked and example.responses[at].label is None
        labelled.append(replace(unjudged(example, at), label=None if unsaid else label, demonstration=marked))
    return (piece(example, positions, labelled),)


def unjudged(example: Example, at: int) -> Response:
    """A response without what is said of it; who wrote it, and in which tokens, stays."""
    return replace(bare(example.responses[at]), tokens=example.responses[at].tokens)


def piece(
    example: Example,
    positions: tuple[int, ...],
    responses: Sequence[Response],
    comparisons: tuple[Comparison, ...] = (),
) -> RowContent:
    """The example with these responses and comparisons, and all else as it is."""
    return RowContent(Example(example.prompt, tuple(responses), comparisons), positions)


def no_pair(example: Example, position: int) -> str:
    """Why a comparison is no pair, as a clause."""
    one = example.comparisons[position]
    same = example.responses[one.better].content == example.responses[one.worse].content
    return "its two responses are identical" if same else views.CONTRADICTING


CANONICAL = Target("canonical", everything, example_to_row)
PAIRS = Target(
    "pairs", seen_by(views.pairs, as_pairs), example_to_row, {"response": NO_PAIR, "comparison": no_pair}
)
RANKINGS = Target(
    "rankings", seen_by(views.rankings, as_rankings), example_to_row, {"response": "it has no rank"}
)
POINTS = Target(
    "points", seen_by(views.points_with_demonstrations, as_points), example_to_row, {"response": NO_LABEL}
)
OWN = {target.name: target for target in (CANONICAL, PAIRS, RANKINGS, POINTS)}
"""Targets in trueup's own form, by name."""


def trl_pairs(
    example: Example, relation: records.PairRelation, positions: tuple[int, ...]
) -> RowContents | Discarded:
    """A row for each pair, with the scores of its sides, and their source where it is the same."""
    pieces = []
    for better, worse, _ in relation.pairs:
        at = (positions[better], positions[worse])
        chosen, rejected = (example.responses[position] for position in at)
        if repeated_prompt(example.prompt.content, chosen.content, rejected.content):
            continue
        source = chosen.source if chosen.source == rejected.source else None
        sides = [Response(one.content, score=one.score, source=source) for one in (chosen, rejected)]
        pieces.append(piece(example, at, sides, (Comparison(0, 1),)))
    return tuple(pieces) or Discarded(REPEATS, example.origin)


def no_trl_pair(example: Example, position: int) -> str:
    """Why a comparison is no row, as a clause."""
    one = example.comparisons[position]
    sides = (example.responses[one.better].content, example.responses[one.worse].content)
    repeated = sides[0] != sides[1] and repeated_prompt(example.prompt.content, *sides)
    return REPEATS if repeated else no_pair(example, position)


def trl_points(
    example: Example, relation: records.PointRelation, positions: tuple[int, ...], *, threshold: float | None
) -> RowContents | Discarded:
    """A row for each response that has a label; those at or above the threshold are true."""
    pieces = []
    for at, given in zip(positions, relation.labels, strict=True):
        label = given if threshold is None else float(given >= threshold)
        if label in (0, 1):
            pieces.append(piece(example, (at,), [replace(bare(example.responses[at]), label=label)]))
    return tuple(pieces) or Discarded("no label is true or false", example.origin)


def no_trl_point(example: Example, position: int) -> str:
    """Why a response is no row, as a clause."""
    found = look_at(views.points, example)
    return GRADED if not isinstance(found, Discarded) and position in found[1] else NO_LABEL


def trl_demonstrations(
    example: Example, relation: records.DemonstrationRelation, positions: tuple[int, ...]
) -> RowContents:
    """A row for each response to imitate."""
    marked = ((at, replace(bare(example.responses[at]), demonstration=True)) for at in positions)
    return tuple(piece(example, (at,), [response]) for at, response in marked)


def pair_row(piece: Example) -> dict[str, object]:
    """`{"prompt": ..., "chosen": ..., "rejected": ..., "score_chosen": ..., "score_rejected": ...}`."""
    chosen, rejected = piece.responses
    sides = {"chosen": content_json(chosen.content), "rejected": content_json(rejected.content)}
    return trl_row(piece, **sides, score_chosen=chosen.score, score_rejected=rejected.score)


def completion_row(piece: Example) -> dict[str, object]:
    """`{"prompt": ..., "completion": ...}`, with `"label": true` or `false` where the response has a label."""
    (response,) = piece.responses
    label = None if response.label is None else response.label == 1
    return trl_row(piece, completion=content_json(response.content), label=label)


def messages_row(piece: Example) -> dict[str, object]:
    """`{"messages": ...}`: the prompt and the response as one conversation."""
    prompt, response = piece.prompt.content, piece.responses[0].content
    assert not isinstance(prompt, str) and not isinstance(response, str)
    return trl_row(piece, prompt=None, messages=content_json(prompt + response))


def trl_row(piece: Example, **said: object) -> dict[str, object]:
    """A row that says what is not None, who wrote the response, and what belongs to the prompt."""
    prompt = prompt_json(piece.prompt)
    row = {"prompt": prompt.pop("prompt"), **said, "source": piece.responses[0].source, **prompt}
    return {key: value for key, value in row.items() if value is not None}


def is_conversation(piece: Example) -> bool:
    """Whether prompt and response, put together, come apart again at the same place."""
    prompt, response = piece.prompt.content, piece.responses[0].content
    if isinstance(prompt, str) or isinstance(response, str):
        return False
    return split_at_last_request(prompt + response) == (prompt, response)


TRL_PAIRS = Target(
    "TRL's pairs",
    seen_by(views.pairs, trl_pairs, answered=False),
    pair_row,
    {
        "response": NO_PAIR,
        "comparison": no_trl_pair,
        "probability": "a row of TRL's pairs is a plain preference",
        "source": "a row of TRL's pairs has two sides with one source",
    },
)


def trl_points_target(threshold: float | None) -> Target:
    """Rows of prompt, completion and label."""
    take = seen_by(views.points, partial(trl_points, threshold=threshold), answered=False)
    dropped: dict[str, str | Because] = {
        "response": no_trl_point,
        "label": "the threshold made another of it",
    }
    return Target("TRL's points", take, completion_row, dropped)


def trl_demonstrations_target(examples: Sequence[Example]) -> Target:
    """Rows of messages where every demonstration is a conversation that comes apart again, else prompts and
    completions: one file holds one layout.
    """
    take = seen_by(views.demonstrations, trl_demonstrations, answered=False)
    made = [one for one in map(take, examples) if not isinstance(one, Discarded)]
    comes_apart = all(is_conversation(piece.example) for pieces in made for piece in pieces)
    row = messages_row if comes_apart else completion_row
    dropped = {"response": "nothing says that it is to be imitated"}
    return Target("TRL's demonstrations", take, row, dropped)


def usual_kind(examples: Sequence[Example]) -> str:
    """Pairs if there are comparisons, else points if there are labels, else demonstrations; scores alone
    rank, so that they give pairs.
    """
    found = records.count(examples)
    if found.comparisons:
        return "pairs"
    return "points" if found.labelled else "demonstrations" if found.demonstrations else "pairs"
