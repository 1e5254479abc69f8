"""Conversion by values: which rows come out, and what is said of what does not."""

from dataclasses import replace
from pathlib import Path

import pytest
from support.example_strategies import as_messages

from trueup.errors import InputError
from trueup.feedback import conversion as targets
from trueup.feedback.canonical import write_rows
from trueup.feedback.conversion import Account, convert
from trueup.feedback.read import read_feedback
from trueup.feedback.records import Comparison, Example, Message, Origin, Prompt, Response

TWICE = Example(
    Prompt("p", origin=Origin("a.jsonl", 7)),
    (Response("a", source="ann"), Response("a", label=0.25, source="bob"), Response("b", label=1.0, source="cy")),
    (Comparison(0, 1), Comparison(1, 2), Comparison(2, 1), Comparison(0, 2, 0.75)),
)


def test_of_two_identical_responses_the_right_one_is_kept() -> None:
    (row,) = convert([TWICE], targets.POINTS).rows
    assert row["responses"] == [
        {"content": "a", "label": 0.25, "source": "bob"},
        {"content": "b", "label": 1.0, "source": "cy"},
    ]


def test_what_is_dropped_is_named_with_its_reason_and_row() -> None:
    conversion = convert(
        [TWICE, replace(TWICE, comparisons=(), prompt=replace(TWICE.prompt, origin=Origin("a.jsonl", 8)))],
        targets.PAIRS,
    )
    assert conversion.rows == (
        {
            "prompt": "p",
            "responses": [{"content": "a", "source": "ann"}, {"content": "b", "source": "cy"}],
            "comparisons": [{"better": 0, "worse": 1, "probability": 0.75}],
        },
        {
            "prompt": "p",
            "responses": [{"content": "a", "source": "bob"}, {"content": "b", "source": "cy"}],
            "comparisons": [{"better": 1, "worse": 0}],
        },
    )
    assert conversion.lines() == [
        "dropped 2 responses: 2 because no pair uses it (a.jsonl:7, a.jsonl:8)",
        "dropped 4 labels: 4 because a file of pairs holds no labels (a.jsonl:7, a.jsonl:8)",
        "dropped 2 sources: 2 because it belongs to what is left out (a.jsonl:7, a.jsonl:8)",
        "dropped 3 comparisons: 3 because its two responses are identical, or comparisons contradict each other "
        "(a.jsonl:7)",
        "made 1 comparison from what else is said of the responses",
    ]


def test_what_trl_pairs_cannot_hold_is_named() -> None:
    conversion = convert([TWICE], targets.TRL_PAIRS)
    assert conversion.rows == ({"prompt": "p", "chosen": "a", "rejected": "b"},)
    lines = "\n".join(conversion.lines())
    assert "dropped 1 probability: 1 because a row of TRL's pairs is a plain preference (a.jsonl:7)" in lines
    assert "dropped 3 sources: 3 because a row of TRL's pairs has two sides with one source (a.jsonl:7)" in lines


def test_a_ranking_becomes_all_its_pairs_with_their_scores() -> None:
    scored = [Response(text, score=score) for text, score in (("x", 0.5), ("y", 2.0), ("z", -1.0))]
    rows = convert([Example(Prompt("p"), tuple(scored))], targets.TRL_PAIRS).rows
    assert [(row["chosen"], row["score_chosen"], row["rejected"], row["score_rejected"]) for row in rows] == [
        ("x", 0.5, "z", -1.0), ("y", 2.0, "x", 0.5), ("y", 2.0, "z", -1.0),
    ]  # fmt: skip


def test_a_graded_label_is_named_or_put_on_one_side_of_the_threshold() -> None:
    graded = [
        Example(Prompt("p", origin=Origin("g.jsonl", row)), (Response("a", label=label),))
        for row, label in enumerate((1.0, 0.7, 0.2), 1)
    ]
    together = Example(Prompt("p", origin=Origin("g.jsonl", 4)), tuple(one.responses[0] for one in graded))
    strict = convert([*graded, together], targets.trl_points_target(None))
    assert [row["label"] for row in strict.rows] == [True, True]
    assert strict.lines()[:2] == [
        "dropped 2 examples: 2 for no label is true or false (g.jsonl:2, g.jsonl:3)",
        "dropped 4 responses: 2 because it has no label, or one that is neither true nor false (--threshold makes it "
        "one of them) (g.jsonl:4), 2 with their example",
    ]
    split = convert(graded, targets.trl_points_target(0.7))
    assert [row["label"] for row in split.rows] == [True, True, False]
    assert split.lines() == [
        "dropped 2 labels: 2 because the threshold made another of it (g.jsonl:2, g.jsonl:3)",
        "made 2 labels from what else is said of the responses",
    ]


def test_a_pair_that_reading_would_change_is_not_written() -> None:
    """Both responses begin with the prompt, which the reader would take off them."""
    sides = (Response("Hello. a"), Response("Hello. b"))
    example = Example(Prompt("Hello."), sides, (Comparison(0, 1),))
    with pytest.raises(InputError, match="1 for both responses begin with the prompt"):
        convert([example], targets.TRL_PAIRS)
    third = replace(example, responses=(*sides, Response("c")), comparisons=(Comparison(0, 1), Comparison(1, 2)))
    conversion = convert([third], targets.TRL_PAIRS)
    assert len(conversion.rows) == 1
    assert any("or both responses begin with the prompt" in line for line in conversion.lines())


@pytest.mark.parametrize("target", ["pairs", "points", "demonstrations"])
def test_a_prompt_that_is_answered_already_is_no_row(target: str, tmp_path: Path) -> None:
    """The reader leaves such rows out, as a chat template has no place for a second answer."""
    good = Response(as_messages("a"), label=1.0, demonstration=True)
    whole = Example(
        Prompt((Message("user", "Hi"),)), (good, Response(as_messages("b"), label=0.0)), (Comparison(0, 1),)
    )
    answered = replace(
        whole, prompt=Prompt((Message("user", "Hi"), Message("assistant", "Hello.")), origin=Origin("a.jsonl", 7))
    )
    both = [whole, answered]
    to = {
        "pairs": targets.TRL_PAIRS,
        "points": targets.trl_points_target(None),
        "demonstrations": targets.trl_demonstrations_target(both),
    }
    conversion = convert(both, to[target])
    assert conversion.rows == convert([whole], to[target]).rows
    assert conversion.lines()[0] == (
        "dropped 1 example: 1 for the prompt ends with a turn of the assistant (a.jsonl:7)"
    )
    write_rows(str(tmp_path / "out.jsonl"), conversion.rows)
    assert len(read_feedback([tmp_path / "out.jsonl"]).examples) == len(conversion.rows)


def test_conversations_that_do_not_come_apart_again_are_prompts_and_completions() -> None:
    whole = Example(Prompt((Message("user", "Hi"),)), (Response(as_messages("a"), demonstration=True),))
    turns = (Message("assistant", "a"), Message("user", "b"), Message("assistant", "c"))
    opened = replace(whole, responses=(Response(turns, demonstration=True),))
    assert [set(row) for row in convert([whole], targets.trl_demonstrations_target([whole])).rows] == [{"messages"}]
    both = [whole, opened]
    rows = convert(both, targets.trl_demonstrations_target(both)).rows
    assert [set(row) for row in rows] == [{"prompt", "completion"}] * 2
    assert rows[1]["completion"] == [{"role": turn.role, "content": turn.content} for turn in turns]


def test_what_else_trl_needs_to_know_is_said() -> None:
    text = Example(Prompt("p"), (Response("a", label=1.0),))
    chat = Example(Prompt((Message("user", "p"),)), (Response(as_messages("a"), label=0.0),))
    assert convert([text, chat], targets.trl_points_target(None)).notes == (
        "note: there are 1 row of text and 1 row of messages; TRL wants one kind in a file",
    )
    assert convert([text], targets.trl_points_target(None)).notes == ()
    chat = replace(chat, responses=(replace(chat.responses[0], demonstration=True),))
    (note,) = convert([chat], targets.trl_demonstrations_target([chat])).notes
    assert "assistant_only_loss" in note


@pytest.mark.parametrize(
    ("responses", "compared", "kind"),
    [
        ((Response("a", 1.0, 1.0, True), Response("b")), (Comparison(0, 1),), "pairs"),
        ((Response("a", 1.0, 1.0, True),), (), "points"),
        ((Response("a", 1.0, None, True),), (), "demonstrations"),
        ((Response("a", 1.0), Response("b", 2.0)), (), "pairs"),
    ],
)
def test_the_usual_kind(responses: tuple[Response, ...], compared: tuple[Comparison, ...], kind: str) -> None:
    assert targets.usual_kind([Example(Prompt("p"), responses, compared)]) == kind


def test_nothing_to_write_is_an_error() -> None:
    example = Example(Prompt("p", origin=Origin("d.jsonl", 3)), (Response("a", demonstration=True),))
    message = (
        "no pairs can be made of 1 example with 1 demonstration (dropped: 1 for nothing compares two responses "
        "(d.jsonl:3)); convert to another form"
    )
    with pytest.raises(InputError) as error:
        convert([example], targets.PAIRS)
    assert str(error.value) == message


def test_an_account_counts_soft_comparisons_by_their_own() -> None:
    """Two annotators compared the same two responses, one of them surely."""
    example = Example(Prompt("p"), (Response("a"), Response("b")), (Comparison(0, 1, 0.75), Comparison(0, 1)))
    account = Account(targets.TRL_PAIRS)
    account.add(example, targets.TRL_PAIRS.take(example))
    lost = [account.lost(kind) for kind in ("comparison", "probability")]
    assert (lost, account.made["comparison"]) == ([0, 1], 0)
