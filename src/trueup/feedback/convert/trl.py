"""TRL's plain rows: a pair, a labelled completion or a demonstration each. https://huggingface.co/docs/trl."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

from trueup.feedback import views
from trueup.feedback.canonical import content_json
from trueup.feedback.convert.pieces import Piece, Pieces, Target, bare, look
from trueup.feedback.convert.restricted import because, no_pair
from trueup.feedback.groups import Discarded, Group, View
from trueup.feedback.layouts.layout import PROMPT_ANSWERED
from trueup.feedback.layouts.trl import repeated_prompt
from trueup.feedback.records import Comparison, Example, Response
from trueup.feedback.turns import ends_with_assistant, split_at_last_request

R = TypeVar("R")

REPEATS = "both responses begin with the prompt, which would be taken off them"
GRADED = "its label is neither true nor false (--threshold makes it one of them)"


def looked_at(view: View[R], example: Example) -> tuple[Group[R], tuple[int, ...]] | Discarded:
    """As `look`, where a row can hold the prompt: one that is answered already would be read as none."""
    if ends_with_assistant(example.prompt.content):
        return Discarded(PROMPT_ANSWERED, example.origin)
    return look(view, example)


def pairs(example: Example) -> Pieces | Discarded:
    """A row for each pair, with the scores of its sides, and their source where it is the same."""
    looked = looked_at(views.pairs, example)
    if isinstance(looked, Discarded):
        return looked
    group, positions = looked
    pieces = []
    for better, worse, _ in group.relation.pairs:
        at = (positions[better], positions[worse])
        chosen, rejected = (example.responses[position] for position in at)
        if repeated_prompt(example.prompt.content, chosen.content, rejected.content):
            continue
        source = chosen.source if chosen.source == rejected.source else None
        sides = tuple(Response(one.content, score=one.score, source=source) for one in (chosen, rejected))
        pieces.append(Piece(replace(example, responses=sides, comparisons=(Comparison(0, 1),)), at))
    return tuple(pieces) or Discarded(REPEATS, example.origin)


def no_row(example: Example, position: int) -> str:
    """Why a comparison is no row, as a clause."""
    one = example.comparisons[position]
    sides = (example.responses[one.better].content, example.responses[one.worse].content)
    repeated = sides[0] != sides[1] and repeated_prompt(example.prompt.content, *sides)
    return REPEATS if repeated else no_pair(example, position)


def points(example: Example, *, threshold: float | None) -> Pieces | Discarded:
    """A row for each response that has a label; those at or above the threshold are true."""
    looked = looked_at(views.points_with_demonstrations, example)
    if isinstance(looked, Discarded):
        return looked
    group, positions = looked
    pieces = []
    for at, label in zip(positions, group.relation.labels, strict=True):
        if threshold is not None:
            label = float(label >= threshold)
        if label in (0, 1):
            pieces.append(single(example, at, replace(bare(example.responses[at]), label=label)))
    return tuple(pieces) or Discarded("no label is true or false", example.origin)


def no_point(example: Example, position: int) -> str:
    """Why a response is no row, as a clause."""
    looked = look(views.points, example)
    return GRADED if not isinstance(looked, Discarded) and position in looked[1] else "nothing labels it"


def demonstrations(example: Example) -> Pieces | Discarded:
    """A row for each response to imitate."""
    looked = looked_at(views.demonstrations, example)
    if isinstance(looked, Discarded):
        return looked
    marked = ((at, replace(bare(example.responses[at]), demonstration=True)) for at in looked[1])
    return tuple(single(example, at, response) for at, response in marked)


def single(example: Example, position: int, response: Response) -> Piece:
    """The example with one response and no comparisons."""
    return Piece(replace(example, responses=(response,), comparisons=()), (position,))


def pair_row(piece: Example) -> dict[str, object]:
    """`{"prompt": ..., "chosen": ..., "rejected": ..., "score_chosen": ..., "score_rejected": ...}`."""
    chosen, rejected = piece.responses
    row: dict[str, object] = {
        "prompt": content_json(piece.prompt.content),
        "chosen": content_json(chosen.content),
        "rejected": content_json(rejected.content),
    }
    row |= there({"score_chosen": chosen.score, "score_rejected": rejected.score})
    return row | beside(piece)


def completion_row(piece: Example) -> dict[str, object]:
    """`{"prompt": ..., "completion": ...}`, with `"label": true` or `false` where the response has a label."""
    (response,) = piece.responses
    row: dict[str, object] = {
        "prompt": content_json(piece.prompt.content),
        "completion": content_json(response.content),
    }
    label = None if response.label is None else response.label == 1
    return row | there({"label": label}) | beside(piece)


def messages_row(piece: Example) -> dict[str, object]:
    """`{"messages": ...}`: the prompt and the response as one conversation."""
    prompt, response = piece.prompt.content, piece.responses[0].content
    assert not isinstance(prompt, str) and not isinstance(response, str)
    return {"messages": content_json(prompt + response), **beside(piece)}


def beside(piece: Example) -> dict[str, object]:
    """What every kind of row may have: who wrote it, and the tools of the conversation."""
    row = there({"source": piece.responses[0].source})
    tools = piece.prompt.tools
    return {**row, "tools": [dict(one) for one in tools]} if tools else row


def there(values: Mapping[str, object]) -> dict[str, object]:
    """The values that are not None."""
    return {key: value for key, value in values.items() if value is not None}


def is_conversation(piece: Example) -> bool:
    """Whether prompt and response, put together, come apart again at the same place."""
    prompt, response = piece.prompt.content, piece.responses[0].content
    if isinstance(prompt, str) or isinstance(response, str):
        return False
    return split_at_last_request(prompt + response) == (prompt, response)


KINDS = ("pairs", "points", "demonstrations")
PAIRS = Target(
    "TRL's pairs",
    pairs,
    pair_row,
    "a row of TRL's pairs",
    because("no pair uses it"),
    no_row,
    {
        "probability": "a row of TRL's pairs is a plain preference",
        "source": "a row of TRL's pairs has two sides with one source",
    },
)


def points_target(threshold: float | None) -> Target:
    """Rows of prompt, completion and label."""
    return Target(
        "TRL's points",
        partial(points, threshold=threshold),
        completion_row,
        "a row of TRL's points",
        no_point,
        reasons={"label": "the threshold made another of it"},
    )


def demonstrations_target(examples: Sequence[Example]) -> Target:
    """Rows of messages where every demonstration is a conversation that comes apart again, else prompts and
    completions: one file holds one layout.
    """
    made = (demonstrations(example) for example in examples)
    pieces = [piece for one in made if not isinstance(one, Discarded) for piece in one]
    row = messages_row if all(is_conversation(piece.example) for piece in pieces) else completion_row
    name = "TRL's demonstrations"
    return Target(
        name, demonstrations, row, f"a row of {name}", because("nothing says that it is to be imitated")
    )


def usual_kind(examples: Sequence[Example]) -> str:
    """Pairs if there are comparisons, else points if there are labels, else demonstrations; scores alone
    rank, so that they give pairs.
    """
    responses = [response for example in examples for response in example.responses]
    if any(example.comparisons for example in examples):
        return "pairs"
    if any(response.label is not None for response in responses):
        return "points"
    if any(response.demonstration for response in responses):
        return "demonstrations"
    return "pairs"
