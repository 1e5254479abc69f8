"""What layouts of public data sets share: one request, the answers to it, and which of two was preferred."""

from collections.abc import Sequence
from dataclasses import replace

from trueup.feedback.fields import Place, number
from trueup.feedback.layouts.layout import Unusable
from trueup.feedback.records import Comparison, Content, Example, Message, Origin, Response

TIE = "the two responses tie"


def request(asked: str) -> tuple[Message, ...]:
    """A prompt of one turn: what the user asked."""
    return (Message("user", asked),)


def answer(said: str) -> tuple[Message, ...]:
    """A response of one turn."""
    return (Message("assistant", said),)


def judged(
    prompt: Content, pair: tuple[Response, Response], better: int | None, origin: Origin
) -> Example | Unusable:
    """Two responses and which was preferred; None is a tie, which is nothing to learn from on its own.

    Where a tie has two labels that differ, both get the score 0: the tie compares them, not the labels.
    """
    if better is not None:
        return Example(prompt, pair, (Comparison(better, 1 - better),), origin)
    if all(one.score is None and one.label is None for one in pair):
        return Unusable(TIE)
    if None not in (labels := [one.label for one in pair]) and labels[0] != labels[1]:
        pair = (replace(pair[0], score=0.0), replace(pair[1], score=0.0))
    return Example(prompt, pair, origin=origin)


def demonstrated(
    responses: Sequence[Response], shown: Content, *, label: float | None = None
) -> tuple[Response, ...]:
    """The responses with one to imitate: marked where it is among them, added where it is not."""
    if any(one.content == shown for one in responses):
        return tuple(replace(one, demonstration=one.content == shown) for one in responses)
    return (*responses, Response(shown, label=label, demonstration=True))


def whole(value: object, place: Place, lowest: int, highest: int | None = None) -> int:
    """The value as a whole number in a range; 2.0 is one."""
    made = number(value, place)
    if made != int(made) or made < lowest or (highest is not None and made > highest):
        span = f"of at least {lowest}" if highest is None else f"from {lowest} to {highest}"
        raise place.unexpected(value, f"a whole number {span}")
    return int(made)
