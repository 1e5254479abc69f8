"""What an example becomes when it is converted: smaller examples, each of which one row of the output holds.

Everything that is said to be kept or dropped is found by comparing these with the example they come from.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from trueup.feedback.groups import Discarded, Group, View
from trueup.feedback.records import Example, Response

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Piece:
    """What one row of the output says, as an example."""

    example: Example
    positions: tuple[int, ...]
    """Where its responses stand in the example that it comes from."""


Pieces = tuple[Piece, ...]
"""At least one; for TRL's rows one for each pair, point or demonstration."""


@dataclass(frozen=True, slots=True)
class Target:
    """What to convert to."""

    name: str
    """As it is said in reports: `pairs`."""
    take: Callable[[Example], Pieces | Discarded]
    row: Callable[[Example], dict[str, object]]
    """A piece as a JSON-ready object; what reads files makes the same piece of it."""
    holds: str
    """What the output is called when it is said what it cannot hold: `a file of pairs`."""
    unused: Callable[[Example, int], str]
    """Why no piece has the response at a position, as a clause."""
    uncompared: Callable[[Example, int], str] | None = None
    """Why no piece has the comparison at a position; None where no comparisons are held at all."""
    reasons: Mapping[str, str] | None = None
    """Kind of feedback -> why it is not kept with its response, where this needs saying."""


class Numbered(str):
    """Stands for a response's content: equal to whatever stands for the same, and knows its position."""

    position: int


def numbered(content: str, position: int) -> Numbered:
    """A stand-in for the content at a position."""
    made = Numbered(content)
    made.position = position
    return made


def look(view: View[R], example: Example) -> tuple[Group[R], tuple[int, ...]] | Discarded:
    """The group that a view makes of an example, and where its responses stand in the example.

    Two responses may have the same content and differ in all else, so that the content does not tell which
    of them a view took. Views only ask whether contents are equal; here they see stand-ins for them.
    """
    contents = [response.content for response in example.responses]
    stand_ins = tuple(
        replace(response, content=numbered(str(contents.index(response.content)), position))
        for position, response in enumerate(example.responses)
    )
    group = view(replace(example, responses=stand_ins))
    if isinstance(group, Discarded):
        return group
    positions = []
    for content in group.responses:
        assert isinstance(content, Numbered), "views pass contents on as they are"
        positions.append(content.position)
    return replace(group, responses=tuple(contents[at] for at in positions)), tuple(positions)


def bare(response: Response) -> Response:
    """The response without what is said of it; who wrote it stays."""
    return Response(response.content, source=response.source)
