"""What a run makes of feedback that is malformed, or that says nothing: one line that names the place and the remedy,
exit code 2 and nothing left behind; or, where something is left to learn from, a line that counts what is not.

The wordings of each reader and view are tested with them; here is one of each kind, on its way to the user."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.small_runs import command, metrics_of, model_bytes, write_feedback
from support.tiny_models import CHATML, char_tokenizer, save_tiny_model

Row = dict[str, Any]
Rows = list[Row | bytes]

GOOD: Row = {"prompt": "say:", "chosen": " a", "rejected": " b"}
USER = {"role": "user", "content": "say red"}
ASSISTANT = {"role": "assistant", "content": "red"}


def labelled(*labels: float | bool) -> Rows:
    return [{"prompt": f"say {n}:", "completion": f" {n}", "label": label} for n, label in enumerate(labels)]


def scored(*scores: float, prompt: str = "say:") -> Row:
    return {"prompt": prompt, "responses": [f" {n}" for n in range(len(scores))], "scores": list(scores)}


def chat(*turns: Row) -> Row:
    return {"messages": list(turns)}


FROM_0_TO_10 = ("--scale", "range", "--score_low", 0, "--score_high", 10)
MISSING = {True: "undesirable", False: "desirable"}

REFUSED: dict[str, tuple[str, Rows, tuple[object, ...], str]] = {
    "every bad row, not the first alone": (
        "dpo", [GOOD] * 5 + [GOOD | {"chosen": 1}, GOOD | {"rejected": 2}], (),
        r"data\.jsonl:6: chosen: .*2 bad rows in this file \(rows 6, 7\); --skip-bad leaves bad rows out",
    ),
    "a score outside the range given": (
        "ulma", [scored(0, 10), scored(3, 11)], FROM_0_TO_10,
        r"data\.jsonl:2: the score 11 lies outside the range of scores, 0 to 10",
    ),
    "no answer anywhere": (
        "sft", [chat(USER)] * 3, (),
        r"no row can be used: .*3 rows because .*no turn of the assistant \(rows 1, 2, 3\)",
    ),
    "only identical pairs": ("dpo", [GOOD | {"rejected": " a"}], (), "identical pair"),
    **{
        f"labels of one class, {method} {label}": (
            method, labelled(*[label] * 5), (),
            f"^trueup: all 5 labels are {label:d}: there is no {MISSING[label]} response to learn from",
        )
        for method, label in (("kto", True), ("tr-kto", False))
    },
    "rewards that are all the same": ("ca", labelled(*[True] * 5), (), "^trueup: all 5 rewards are 1"),
    "equal scores everywhere": (
        "rrhf", [scored(1, 1, 1), scored(0.5, 0.5)], (),
        r"the 2 examples of \S+data\.jsonl hold 5 scored responses, and no rankings.*2 for all scores equal\)",
    ),
    "single responses to one prompt": (
        "rrhf", [scored(1), scored(0)], (),
        r"2 for a single response cannot be ranked\); put the responses to one prompt together.*--merge-prompts true",
    ),
    "single responses to different prompts": (
        "rrhf", [scored(1), scored(0, prompt="count:")], (),
        r"2 for a single response cannot be ranked\); give other feedback((?!merge).)*$",
    ),
    "scores that make no labels": (
        "ulma", [scored(2, 2), scored(2)], ("--scale", "min-max"),
        "all 3 scores are 2; they tell no response from another",
    ),
    "a prompt longer than the limit": (
        "dpo", [GOOD | {"prompt": "a" * 50}], ("--max-length", 40), r"data\.jsonl row 1.*--max-prompt-length"
    ),
}  # fmt: skip
TAKEN: dict[str, tuple[str, Rows, tuple[object, ...], tuple[str, ...]]] = {
    "one label of the other class, which no batch of four need hold": (
        "kto", labelled(True, True, True, True, False), (), ("^labels: 4 desirable, 1 undesirable$",)
    ),
    "equal scores and single responses among others": (
        "rrhf", [scored(1, 0), scored(2, 2), scored(1), scored(3, 3)], (),
        (r"^rankings: 4 examples gave 1 group.*discarded: 2 for all scores equal \(\S+data\.jsonl:2, \S+data\.jsonl:4\)"
         r".* 1 for a single response cannot be ranked \(\S+:3\)$",),
    ),
    "single responses to one prompt, merged": (
        "rrhf", [scored(1), {**scored(0), "responses": [" other"]}], ("--merge-prompts", "true"), ()
    ),
    "a conversation without an answer": (
        "sft", [chat(USER, ASSISTANT), chat(USER), chat(USER)], (),
        (r"not used: 2 rows because the conversation has no turn of the assistant \(rows 2, 3\)$",
         "^demonstrations: 1 example gave 1 group, 1 response, 1 demonstration$"),
    ),
    "bad rows that are skipped": (
        "dpo", [GOOD] * 5 + [GOOD | {"chosen": 1}, GOOD | {"rejected": 2}], ("--skip_bad", 2),
        (r"skipped 2 bad rows \(rows 6, 7\); the first: ",),
    ),
    "a prompt that is cut": (
        "dpo", [GOOD | {"prompt": "a" * 50}], ("--max-length", 40, "--max-prompt-length", 20), ()
    ),
    "a prompt that stands several times is held out whole": (  # three in four rows each, of which a quarter is less
        "dpo", [{"prompt": f"say {n % 3}:", "chosen": f" {n}", "rejected": " b"} for n in range(12)],
        ("--eval_fraction", 0.25), ("evaluation on 4 of 4 held-out examples",),
    ),
}  # fmt: skip
Train = Callable[..., tuple[int, list[str]]]


def content(rows: Rows) -> bytes:
    return b"".join(row if isinstance(row, bytes) else json.dumps(row).encode() + b"\n" for row in rows)


@pytest.fixture
def train(tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Train:
    """Train for a step; the exit code and what was said. A run that was refused leaves nothing behind."""

    def run(method: str, rows: Rows, *more: object) -> tuple[int, list[str]]:
        path, output = tmp_path / "data.jsonl", tmp_path / "run"
        path.write_bytes(content(rows))
        capsys.readouterr()
        common = ("--model", tiny_model, "--data", path, "--output", output, "--steps", 1, "--batch_size", 4)
        code = command("train", method, *common, *more)
        said = capsys.readouterr().err.splitlines()
        errors = [line for line in said if line.startswith("trueup: ")]
        assert len(errors) == (code != 0) and not any("Traceback" in line for line in said), said
        assert output.exists() == (code == 0)
        return code, said

    return run


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str, train: Train) -> None:
    method, rows, options, message = REFUSED[name]
    code, said = train(method, rows, *options)
    assert code == 2
    assert re.search(message, said[-1]), said[-1]


@pytest.mark.parametrize("name", TAKEN)
def test_taken_with_a_word(name: str, train: Train) -> None:
    method, rows, options, messages = TAKEN[name]
    code, said = train(method, rows, *options)
    assert code == 0
    for message in messages:
        assert any(re.search(message, line) for line in said), said


@pytest.mark.parametrize(("shared", "own"), [(0, 4), (2, 3)])
def test_prompts_trained_on_and_evaluated_on(shared: int, own: int, train: Train, tmp_path: Path) -> None:
    """Refused unless it is allowed; no word where they differ."""
    rows = [{"prompt": f"say {n}:", "chosen": " a", "rejected": " b"} for n in range(12)]
    other = tmp_path / "other.jsonl"
    other.write_bytes(content([row | {"chosen": " c"} for row in rows[:shared]] + rows[12 - own :]))
    given = (rows[: 12 - own], "--eval_data", other)
    count = f"{shared} of {shared + own} evaluation examples have a prompt that is also trained on ({other}:1"
    code, said = train("dpo", *given)
    if not shared:
        assert code == 0 and not any("also trained on" in line for line in said)
        return
    assert code == 2 and count in said[-1] and "--allow-overlap" in said[-1]
    code, said = train("dpo", *given, "--allow_overlap", "true")
    assert code == 0
    assert any(line.startswith("warning: ") and count in line for line in said)


def test_a_template_that_raises_names_the_row_and_its_own_reason(train: Train, tmp_path: Path) -> None:
    template = tmp_path / "template.jinja"
    raising = "{% if messages[0].role == 'system' %}{{ raise_exception('no system turn, please') }}{% endif %}"
    template.write_text(raising + CHATML)
    rows = [chat(USER, ASSISTANT), chat({"role": "system", "content": "be brief"}, USER, ASSISTANT)]
    code, said = train("sft", rows, "--chat_template", template)
    assert code == 2
    assert re.search(r"data\.jsonl:2.*no system turn, please", said[-1]), said[-1]


def test_parts_of_text_are_trained_on_as_the_text_they_make(train: Train, tmp_path: Path) -> None:
    weights = []
    for said in ("red", [{"type": "text", "text": "r"}, {"type": "text", "text": "ed"}]):
        assert train("sft", [chat(USER, {**ASSISTANT, "content": said})] * 4)[0] == 0
        weights.append(model_bytes(tmp_path / "run"))
        assert len(metrics_of(tmp_path / "run")) == 1
        (tmp_path / "run").rename(tmp_path / f"run-{len(weights)}")
    assert weights[0] == weights[1] != {}


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
