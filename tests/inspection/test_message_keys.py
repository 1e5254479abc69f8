"""Keys of messages that a chat template leaves out."""

from pathlib import Path
from typing import Any

from support.faulty_feedback import write
from support.tiny_models import CHATML, char_tokenizer, save_tiny_model

from trueup.inspection.encoded import load_coding
from trueup.inspection.inspection import inspect
from trueup.inspection.unread import TRIES

PLAIN = "<bos>" + CHATML.replace("<|im_end|>", "<eos>")
NAMED = PLAIN.replace("{{ m.role }}", "{{ m.role }}{{ m.name or '' }}")


def row(asked: dict[str, Any], answered: dict[str, Any]) -> dict[str, Any]:
    return {
        "prompt": [{"role": "user", "content": "ask", **asked}],
        "completion": [{"role": "assistant", "content": "it is", **answered}],
    }


def unused(folder: Path, template: str, rows: list[dict[str, Any]]) -> dict[str, tuple[int, ...]]:
    save_tiny_model(folder / "model", tokenizer=char_tokenizer(chat_template=template))
    coding = load_coding(str(folder / "model"), max_length=None, max_prompt_length=None)
    inspection = inspect([str(write(folder / "a.jsonl", rows))], coding=coding, show=0)
    return {
        one.what.partition("the key ")[2].partition(" ")[0]: tuple(
            row for rows in one.rows.values() for row in rows
        )
        for one in inspection.problems
        if one.kind == "unused-message-key"
    }


ROWS = [
    row({}, {}),
    row({"name": "ann"}, {"reasoning_content": "let me see"}),
    row({"name": "bo"}, {"reasoning_content": ""}),
    row({}, {"reasoning_content": "well", "loss": True}),
]


def test_keys_that_a_template_leaves_out(tmp_path: Path) -> None:
    assert NAMED != PLAIN
    assert unused(tmp_path / "a", PLAIN, ROWS) == {"name": (2, 3), "reasoning_content": (2, 4)}
    assert unused(tmp_path / "b", NAMED, ROWS) == {"reasoning_content": (2, 4)}


def test_a_key_that_is_used_late_is_used(tmp_path: Path) -> None:
    late = PLAIN.replace(
        "{{ m.content }}",
        "{{ m.content }}{{ m.mood if m.mood == 'odd' }}",
    )
    assert late != PLAIN
    rows = [row({"mood": "calm"}, {})] * (TRIES - 1) + [row({"mood": "odd"}, {})]
    assert unused(tmp_path, late, rows) == {}
