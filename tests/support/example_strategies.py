"""Small examples at random, in which responses are often identical and comparisons often contradict each other."""

from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from trueup.feedback.records import Comparison, Content, Example, Message, Origin, Prompt, Response, Vote


def as_messages(text: str) -> Content:
    return (Message("assistant", text),)


@st.composite
def examples(draw: st.DrawFn, *, distinct: bool = False) -> Example:
    """An example of text or messages; with `distinct`, no two of its responses are the same."""
    chat = draw(st.booleans())
    prompt: Content = (Message("user", "Why?"),) if chat else draw(st.sampled_from(["p:", "q:"]))
    texts = draw(st.lists(st.sampled_from(["a", "b", "c", " d"]), min_size=1, max_size=4, unique=distinct))
    responses = tuple(
        Response(
            as_messages(text) if chat else text,
            score=draw(st.none() | st.sampled_from([0.0, 1.0, 1.5])),
            label=draw(st.none() | st.sampled_from([0.0, 0.25, 0.75, 1.0])),
            demonstration=draw(st.booleans()),
            source=draw(st.none() | st.sampled_from(["ann", "bob"])),
            tokens=draw(st.none() | st.sampled_from([(7, 0), (7,)])),
        )
        for text in texts
    )
    keep = draw(st.sets(st.sampled_from(["score", "label", "demonstration"])))
    for kind in {"score", "label", "demonstration"} - keep:
        nothing: Any = {kind: False if kind == "demonstration" else None}
        responses = tuple(replace(one, **nothing) for one in responses)
    places = st.integers(0, len(texts) - 1)
    ends = st.tuples(places, places, st.sampled_from([0.75, 1.0])).filter(lambda one: one[0] != one[1])
    compared = draw(st.lists(ends, max_size=4)) if len(texts) > 1 else []
    tools = draw(st.sampled_from([(), ({"type": "function", "function": {"name": "f"}},)])) if chat else ()
    comparisons = tuple(Comparison(*one) for one in compared)
    votes = tuple(Vote(*one[:2], draw(st.sampled_from(["second", "tie"])), "ann") for one in compared[:2])
    return Example(Prompt(prompt, tools=tools, origin=Origin("in.jsonl", 1)), responses, comparisons, votes)


def many(*, distinct: bool = False) -> st.SearchStrategy[list[Example]]:
    """One to three of them, as the rows of a file."""
    listed = st.lists(examples(distinct=distinct), min_size=1, max_size=3)
    return listed.map(
        lambda made: [
            replace(one, prompt=replace(one.prompt, origin=Origin("in.jsonl", row))) for row, one in enumerate(made, 1)
        ]
    )
