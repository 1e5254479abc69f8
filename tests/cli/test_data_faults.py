"""Feedback that is well formed and yet says nothing, too little or too much: what a run makes of its shape."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.small_runs import command, metrics_of, model_bytes, write_feedback
from support.tiny_models import CHATML, char_tokenizer, save_tiny_model

Row = dict[str, Any]

USER = {"role": "user", "content": "say red"}
ASSISTANT = {"role": "assistant", "content": "red"}


def labelled(*labels: float | bool) -> list[Row]:
    return [{"prompt": f"say {n}:", "completion": f" {n}", "label": label} for n, label in enumerate(labels)]


def scored(*scores: float, prompt: str = "say:") -> Row:
    return {"prompt": prompt, "responses": [f" {n}" for n in range(len(scores))], "scores": list(scores)}


def chat(*turns: Row) -> Row:
    return {"messages": list(turns)}


def lines(rows: list[Row]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


@pytest.fixture
def train(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, list[str]]]:
    """Train for a step; the exit code and what was said. A run that was refused leaves nothing behind."""

    def run(method: str, data: bytes | list[Row], *more: object) -> tuple[int, list[str]]:
        path, output = tmp_path / "data.jsonl", tmp_path / "run"
        path.write_bytes(data if isinstance(data, bytes) else lines(data))
        arguments = (
            "--model",
            tiny_model,
            "--data",
            path,
            "--output",
            output,
            "--steps",
            1,
            "--batch_size",
            4,
        )
        capsys.readouterr()
        code = command("train", method, *arguments, *more)
        said = capsys.readouterr().err.splitlines()
        errors = [line for line in said if line.startswith("trueup: ")]
        assert len(errors) == (code != 0) and not any("Traceback" in line for line in said), said
        assert output.exists() == (code == 0)
        return code, said

    return run


Train = Callable[..., tuple[int, list[str]]]


@pytest.mark.parametrize("method", ["kto", "tr-kto"])
@pytest.mark.parametrize("label", [True, False])
def test_labels_of_one_class_are_refused_with_their_number(method: str, label: bool, train: Train) -> None:
    code, said = train(method, labelled(*[label] * 5))
    missing = "undesirable" if label else "desirable"
    assert code == 2
    assert said[-1].startswith(
        f"trueup: all 5 labels are {label:d}: there is no {missing} response to learn from"
    )


@pytest.mark.parametrize("method", ["ca", "rwr"])
@pytest.mark.parametrize("label", [True, False])
def test_rewards_that_are_all_the_same_are_refused_with_their_number(
    method: str, label: bool, train: Train
) -> None:
    code, said = train(method, labelled(*[label] * 5))
    assert code == 2
    assert said[-1].startswith(f"trueup: all 5 rewards are {label:d}")


def test_a_few_labels_of_the_other_class_are_enough(train: Train) -> None:
    """One of five, which no batch of four need hold."""
    code, said = train("kto", labelled(True, True, True, True, False))
    assert code == 0
    assert "labels: 4 desirable, 1 undesirable" in said


class TestRankings:
    def test_equal_scores_everywhere_leave_nothing_to_rank(self, train: Train) -> None:
        code, said = train("rrhf", [scored(1, 1, 1), scored(0.5, 0.5)])
        assert code == 2
        assert re.search(
            r"the 2 examples of \S+data\.jsonl hold 5 scored responses, and no rankings", said[-1]
        )
        assert "(discarded: 2 for all scores equal)" in said[-1]

    def test_equal_scores_in_some_rows_are_counted_and_named(self, train: Train) -> None:
        code, said = train("rrhf", [scored(1, 0), scored(2, 2), scored(0, 1), scored(3, 3)])
        assert code == 0
        (line,) = [line for line in said if line.startswith("rankings: ")]
        assert line.startswith("rankings: 4 examples gave 2 groups")
        assert re.search(r"discarded: 2 for all scores equal \(\S+data\.jsonl:2, \S+data\.jsonl:4\)$", line)

    def test_a_single_response_cannot_be_ranked(self, train: Train) -> None:
        code, said = train("rrhf", [scored(1), scored(0)])
        assert code == 2
        assert (
            "2 for a single response cannot be ranked); put the responses to one prompt together" in said[-1]
        )
        assert "--merge-prompts true" in said[-1]
        rows = [scored(1), {**scored(0), "responses": [" other"]}]
        assert train("rrhf", rows, "--merge-prompts", "true")[0] == 0

    def test_of_different_prompts_there_is_nothing_to_put_together(self, train: Train) -> None:
        code, said = train("rrhf", [scored(1), scored(0, prompt="count:")])
        assert code == 2
        assert "2 for a single response cannot be ranked); give other feedback" in said[-1]
        assert "merge" not in said[-1]

    def test_single_responses_among_others_are_counted(self, train: Train) -> None:
        code, said = train("rrhf", [scored(1), scored(0, 1), scored(2)])
        assert code == 0
        (line,) = [line for line in said if line.startswith("rankings: ")]
        assert re.search(r"2 for a single response cannot be ranked \(\S+:1, \S+:3\)$", line)


@pytest.mark.parametrize("method", ["dpo", "slic", "paired-kto"])
def test_a_single_response_compares_nothing(method: str, train: Train) -> None:
    row = {"prompt": "say:", "responses": [{"content": " red", "score": 1}]}
    code, said = train(method, [row, row])
    assert code == 2
    assert "2 for nothing compares two responses" in said[-1]


def test_a_threshold_beside_the_best_of_n_is_refused(train: Train) -> None:
    code, said = train("fa", [scored(1, 0)], "--best-of-n", "true", "--threshold", 0.5)
    assert code == 2
    assert said[-1].startswith("trueup: threshold 0.5 with best_of_n true: ")


class TestNumbers:
    @pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
    def test_a_score_that_is_not_finite_names_its_place(self, number: str, train: Train) -> None:
        row = '{"prompt": "p", "responses": ["a", "b"], "scores": [0, %s]}\n' % number  # noqa: UP031
        code, said = train("rrhf", lines([scored(0, 1)]) + row.encode())
        assert code == 2
        assert re.search(r"data\.jsonl:2: scores\[1\]: .*finite", said[-1])

    @pytest.mark.parametrize("label", ["1.5", "-0.1", "2", "NaN", "1e999", '"good"', "null"])
    def test_a_label_out_of_range_names_its_place(self, label: str, train: Train) -> None:
        row = f'{{"prompt": "p", "completion": "a", "label": {label}}}\n'
        code, said = train("ulma", lines(labelled(True)) + row.encode())
        assert code == 2
        assert re.search(r"data\.jsonl:2: label: found .*(number from 0 to 1|finite)", said[-1])

    def test_a_score_outside_the_range_that_was_given_names_its_row(self, train: Train) -> None:
        scale = ("--scale", "range", "--score_low", 0, "--score_high", 10)
        code, said = train("ulma", [scored(0, 10), scored(3, 11)], *scale)
        assert code == 2
        assert re.search(r"data\.jsonl:2: the score 11 lies outside the range of scores, 0 to 10", said[-1])
        assert train("ulma", [scored(0, 10), scored(3, 9)], *scale)[0] == 0

    @pytest.mark.parametrize("method", ["ulma", "pointwise-dpo"])
    def test_scores_that_are_all_the_same_make_no_labels(self, method: str, train: Train) -> None:
        code, said = train(method, [scored(2, 2), scored(2)], "--scale", "min-max")
        assert code == 2
        assert "all 3 scores are 2; they tell no response from another" in said[-1]

    def test_scores_are_not_taken_for_labels_unasked(self, train: Train) -> None:
        code, said = train("ulma", [scored(0, 1)])
        assert code == 2
        assert "scores are not labels" in said[-1]


class TestConversations:
    @pytest.mark.parametrize(
        ("turns", "message"),
        [
            ([{**USER, "role": "human"}, ASSISTANT], r"messages\[0\]\.role: found text 'human'.*mean 'user'\?"),
            ([USER, {**ASSISTANT, "role": "asistant"}], r"messages\[1\]\.role: .*did you mean 'assistant'\?"),
            ([USER, {**ASSISTANT, "role": ""}], r"messages\[1\]\.role: found text ''.*expected one of system"),
            ([USER, {**ASSISTANT, "role": None}], r"messages\[1\]\.role: found null, expected text"),
            ([USER, {**ASSISTANT, "content": 4}], r"messages\[1\]\.content: found the number 4, expected text"),
            (
                [USER, {"role": "tool", "content": "4"}, ASSISTANT],
                r"messages\[1\]\.role: found text 'tool', expected an assistant turn",
            ),
            (
                [{**USER, "content": [{"type": "image_url", "image_url": "x"}]}, ASSISTANT],
                r"messages\[0\]\.content\[0\]\.type: found text 'image_url', expected 'text': only text can be used",
            ),
            (
                [{**USER, "content": [{"type": "text", "text": 4}]}, ASSISTANT],
                r"messages\[0\]\.content\[0\]\.text: found the number 4, expected text",
            ),
        ],
    )  # fmt: skip
    def test_a_turn_that_is_wrong_names_its_path(self, turns: list[Row], message: str, train: Train) -> None:
        code, said = train("sft", [chat(USER, ASSISTANT), chat(*turns)])
        assert code == 2
        assert re.search(r"data\.jsonl:2: " + message, said[-1]), said[-1]

    def test_a_response_that_a_user_speaks_names_its_path(self, train: Train) -> None:
        """Roles out of order: what is to be learned would be the words of the user."""
        good = {"prompt": [USER], "chosen": [ASSISTANT], "rejected": [ASSISTANT | {"content": "no"}]}
        code, said = train("dpo", [good, good | {"rejected": [ASSISTANT, USER, ASSISTANT]}])
        assert code == 2
        assert re.search(
            r"data\.jsonl:2: rejected\[1\]\.role: found text 'user', .* belong to the prompt", said[-1]
        )

    def test_parts_of_text_are_trained_on_as_the_text_they_make(self, train: Train, tmp_path: Path) -> None:
        parts = [{"type": "text", "text": "r"}, {"type": "text", "text": "ed"}]
        weights = []
        for content in ("red", parts):
            assert train("sft", [chat(USER, {**ASSISTANT, "content": content})] * 4)[0] == 0
            weights.append(model_bytes(tmp_path / "run"))
            (tmp_path / "run").rename(tmp_path / f"run-{len(weights)}")
        assert weights[0] == weights[1] != {}

    @pytest.mark.parametrize(
        ("turns", "reason"),
        [
            ([USER], "the conversation has no turn of the assistant"),
            ([USER, ASSISTANT, USER], "the conversation does not end with a turn of the assistant"),
            ([ASSISTANT], "no turn stands before the response"),
            ([USER, {**ASSISTANT, "content": " \n"}], "a response is empty"),
        ],
    )
    def test_a_conversation_without_an_answer_is_counted_and_named(
        self, turns: list[Row], reason: str, train: Train, tmp_path: Path
    ) -> None:
        code, said = train("sft", [chat(USER, ASSISTANT), chat(*turns), chat(*turns)])
        assert code == 0
        assert said[0].endswith(f"not used: 2 rows because {reason} (rows 2, 3)")
        assert "demonstrations: 1 example gave 1 group, 1 response, 1 demonstration" in said
        assert len(metrics_of(tmp_path / "run")) == 1

    def test_no_answer_anywhere_is_an_error(self, train: Train) -> None:
        code, said = train("sft", [chat(USER)] * 3)
        assert code == 2
        assert re.search(
            r"no row can be used: .*3 rows because .*no turn of the assistant \(rows 1, 2, 3\)", said[-1]
        )


class TestFields:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"chosen": None}, r"chosen: found null, expected text or a list of messages"),
            ({"prompt": ["say"]}, r"prompt\[0\]: found text 'say', expected an object"),
            ({"rejected": {"text": "x"}}, r"rejected: found an object with the keys text, expected text"),
            ({"chosen": True}, r"chosen: found true, expected text"),
            ({"score_chosen": "high"}, r"score_chosen: found text 'high', expected a finite number"),
        ],
    )
    def test_a_field_of_the_wrong_kind_names_its_path(self, change: Row, message: str, train: Train) -> None:
        good = {"prompt": "say:", "chosen": " a", "rejected": " b"}
        code, said = train("dpo", [good, good | change])
        assert code == 2
        assert re.search(r"data\.jsonl:2: " + message, said[-1]), said[-1]

    def test_every_bad_row_is_named_and_not_the_first_alone(self, train: Train) -> None:
        good = {"prompt": "say:", "chosen": " a", "rejected": " b"}
        rows = [good] * 5 + [good | {"chosen": 1}, good | {"rejected": 2}]
        code, said = train("dpo", rows)
        assert code == 2
        assert "2 bad rows in this file (rows 6, 7); --skip-bad leaves bad rows out" in said[-1]
        code, said = train("dpo", rows, "--skip_bad", 2)
        assert code == 0
        assert any("skipped 2 bad rows (rows 6, 7); the first: " in line for line in said)

    def test_keys_that_mean_nothing_are_named_with_the_near_one(self, train: Train) -> None:
        good = {"prompt": "say:", "chosen": " a", "rejected": " b"}
        code, said = train("dpo", [good, good | {"score_choosen": 1, "id": 3}])
        assert code == 0
        assert any(
            re.search(r"keys not used: score_choosen \(1 row.*'score_chosen'\?\), id \(1 row\)", line)
            for line in said
        )


def test_a_padding_token_that_is_the_end_of_sequence_changes_nothing(tmp_path: Path) -> None:
    """Nothing is padded, so that the end of a response stays something to learn."""
    data = write_feedback(tmp_path, count=8)["demonstrations"]
    weights = []
    for name in ("<pad>", "<eos>"):
        tokenizer = char_tokenizer(chat_template=CHATML)
        tokenizer.pad_token = name
        model = save_tiny_model(tmp_path / f"model {name}", tokenizer=tokenizer)
        output = tmp_path / f"run {name}"
        arguments = ("--model", model, "--data", data, "--output", output, "--steps", 4, "--batch_size", 4)
        assert command("train", "sft", *arguments) == 0
        weights.append(model_bytes(output))
    assert weights[0] == weights[1] != {}


def test_a_template_that_raises_names_the_row_and_its_own_reason(train: Train, tmp_path: Path) -> None:
    template = tmp_path / "template.jinja"
    template.write_text(
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system turn, please') }}{% endif %}"
        + CHATML
    )
    rows = [chat(USER, ASSISTANT), chat({"role": "system", "content": "be brief"}, USER, ASSISTANT)]
    code, said = train("sft", rows, "--chat_template", template)
    assert code == 2
    assert re.search(r"data\.jsonl:2.*no system turn, please", said[-1]), said[-1]


class TestOverlap:
    """Prompts that are trained on and evaluated on."""

    @pytest.mark.parametrize(("shared", "own"), [(3, 0), (2, 3), (1, 1)])
    def test_it_is_refused_unless_it_is_allowed(
        self, shared: int, own: int, train: Train, tmp_path: Path
    ) -> None:
        rows = [{"prompt": f"say {n}:", "chosen": " a", "rejected": " b"} for n in range(12)]
        other = tmp_path / "other.jsonl"
        other.write_bytes(lines([row | {"chosen": " c"} for row in rows[:shared]] + rows[12 - own :]))
        given = (rows[: 12 - own], "--eval_data", other)
        count = (
            f"{shared} of {shared + own} evaluation examples have a prompt that is also trained on ({other}:1"
        )
        code, said = train("dpo", *given)
        assert code == 2
        assert count in said[-1]
        assert "--allow-overlap" in said[-1]
        code, said = train("dpo", *given, "--allow_overlap", "true")
        assert code == 0
        assert any(line.startswith("warning: ") and count in line for line in said)

    def test_prompts_that_differ_need_no_word(self, train: Train, tmp_path: Path) -> None:
        rows = [{"prompt": f"say {n}:", "chosen": " a", "rejected": " b"} for n in range(12)]
        other = tmp_path / "other.jsonl"
        other.write_bytes(lines(rows[8:]))
        code, said = train("dpo", rows[:8], "--eval_data", other)
        assert code == 0
        assert not any("also trained on" in line for line in said)

    def test_a_prompt_that_stands_several_times_is_held_out_whole(self, train: Train) -> None:
        """Three prompts in four rows each: a quarter is less than one of them."""
        rows = [{"prompt": f"say {n % 3}:", "chosen": f" {n}", "rejected": " b"} for n in range(12)]
        code, said = train("dpo", rows, "--eval_fraction", 0.25)
        assert code == 0
        assert any("evaluation on 4 of 4 held-out examples" in line for line in said)
