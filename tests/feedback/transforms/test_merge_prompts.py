"""Examples of one prompt become one, whatever they say and wherever they stand."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from trueup.feedback.records import Comparison, Example, Message, Origin, Prompt, Response, Vote
from trueup.feedback.transforms import MergedPrompts, merged


def example(prompt: str, *responses: Response, comparisons: tuple[Comparison, ...] = ()) -> Example:
    return Example(Prompt(prompt), responses, comparisons)


def test_by_hand() -> None:
    one = Example(
        Prompt("p", origin=Origin("a.jsonl", 1)),
        (Response("a", score=1.0, source="beam"), Response("b", score=0.0)),
        (Comparison(0, 1, 0.8),),
        (Vote(1, 0, "second", "ann"),),
    )
    other = example("q", Response("a"))
    again = example(
        "p", Response("c"), Response("b", score=2.0, label=0.5, demonstration=True), Response("a", source="ann"),
        comparisons=(Comparison(0, 1), Comparison(2, 1, 0.6)),
    )  # fmt: skip
    again = replace(again, votes=(Vote(2, 1, "tie", "bob"),))
    fitted = MergedPrompts().fit([one, other, again])
    assert fitted.rewrite([one, other, again]) == [
        Example(
            Prompt("p", origin=Origin("a.jsonl", 1)),
            (one.responses[0], Response("b", score=1.0, label=0.5, demonstration=True), Response("c")),
            (Comparison(0, 1, 0.8), Comparison(2, 1)),
            (Vote(1, 0, "second", "ann"), Vote(0, 1, "tie", "bob")),
        ),
        other,
    ]
    assert fitted.found == (
        "merged by prompt: 3 examples gave 2; 2 duplicate responses removed, 2 of them judged differently, which get "
        "the mean",
    )


def test_a_comparison_of_a_response_with_itself_is_left_out() -> None:
    """Two of the responses are one once merged; what was said between them says nothing any more."""
    given = example(
        "p", Response("a"), Response("b"), Response("a"),
        comparisons=(Comparison(0, 2), Comparison(2, 1, 0.7), Comparison(2, 0)),
    )  # fmt: skip
    wanted = example("p", Response("a"), Response("b"), comparisons=(Comparison(0, 1, 0.7),))
    assert merged([given]) == [wanted]


def test_prompts_are_the_same_to_the_letter() -> None:
    """A space more, or a name in a message, makes another prompt."""
    prompts = (
        "p", "p ", (Message("user", "p"),), (Message("user", "p", {"name": "ann"}),), (Message("system", "p"),),
    )  # fmt: skip
    examples = [Example(Prompt(prompt), (Response("a"),)) for prompt in prompts]
    assert merged(examples) == examples
    tools = replace(examples[2], prompt=replace(examples[2].prompt, tools=({"name": "add"},)))
    assert merged([examples[2], tools]) == [examples[2], tools]


some = st.lists(
    st.builds(
        lambda prompt, contents: Example(Prompt(prompt), tuple(Response(content, score=1.0) for content in contents)),
        st.sampled_from("pqr"),
        st.lists(st.sampled_from("abcd"), min_size=1, max_size=3),
    ),
    max_size=8,
)


@given(some)
def test_nothing_is_lost_but_duplicates(examples: list[Example]) -> None:
    made = merged(examples)
    assert len({one.prompt.key for one in made}) == len(made)
    before = {(one.prompt.content, response.content) for one in examples for response in one.responses}
    after = [(one.prompt.content, response.content) for one in made for response in one.responses]
    assert len(after) == len(set(after))
    assert set(after) == before
    assert merged(made) == made
