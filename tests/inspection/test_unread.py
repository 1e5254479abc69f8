"""What rows say and nothing reads: keys without a meaning, keys that a template leaves out, dropped characters."""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.faulty_feedback import canonical, inspected, pair, write
from support.tiny_models import CHATML, char_tokenizer, save_tiny_model
from tokenizers import Tokenizer, decoders, models, normalizers
from transformers import PreTrainedTokenizerFast

from trueup.batch.pieces import around, dropped
from trueup.inspection.encoded import Coding, load_coding
from trueup.inspection.findings import TRIES, kind_of_key
from trueup.inspection.inspection import Inspection, inspect
from trueup.settings.command_settings import InspectSettings


def coding_of(tokenizer: Any, folder: Path) -> Coding:
    save_tiny_model(folder / "model", tokenizer=tokenizer)
    return load_coding(InspectSettings(model=str(folder / "model")))


def without_z(**options: Any) -> PreTrainedTokenizerFast:
    tokenizer = char_tokenizer(chat_template="<bos>" + CHATML.replace("<|im_end|>", "<eos>"), **options)
    tokenizer.backend_tokenizer.normalizer = normalizers.Replace("z", "")
    return tokenizer


def lost(inspection: Inspection) -> list[tuple[tuple[int, ...], tuple[str, ...], str]]:
    return [
        (tuple(row for rows in one.rows.values() for row in rows), one.details, one.part)
        for one in inspection.problems
        if one.kind == "lost-text"
    ]


@pytest.mark.parametrize(
    ("text", "kept", "gone"),
    [
        ("na\u00efve \u4f60\u597d", "nave", "\u00ef"),
        ("A b\tc", "a bc", ""),
        ("na\u00efve", "naive", ""),
        ("na\u00efve", "nai\u0308ve", ""),
        ("\ufb01ne", "fine", ""),
        ("a\u200bb\x07", "ab", ""),
        ("it\u2019s", "it's", ""),
        ("(a) (b)", "a (b)", "()"),
        ("aab", "ab", "a"),
    ],
)
def test_what_is_dropped(text: str, kept: str, gone: str) -> None:
    found = dropped(text, kept)
    if text.startswith("na") and kept == "nave":
        assert found == "i\u4f60\u597d"  # the letter without its accent
    else:
        assert found == gone


def test_an_excerpt_shows_the_place() -> None:
    assert "b\u00efc" in around("a" * 50 + "b\u00efc" + "d" * 50, "i")
    assert around("short", "o") == "short"


PLACES: dict[str, dict[str, Any]] = {
    "the prompt": pair("buzz:"),
    "the chosen response": pair(chosen=" fuzzy"),
    "the last response": canonical({"content": " a", "score": 1}, {"content": " zoo", "score": 0}),
    "a message": {
        "prompt": [{"role": "user", "content": "fuzzy"}],
        "completion": [{"role": "assistant", "content": "it is"}],
    },
    "an answer": {
        "prompt": [{"role": "user", "content": "ask"}],
        "completion": [{"role": "assistant", "content": "fizz"}],
    },
}


@pytest.mark.parametrize("place", PLACES)
def test_a_planted_loss_is_found_at_its_row(place: str, tmp_path: Path) -> None:
    row = PLACES[place]
    sound = {key: _without_z(value) for key, value in row.items()}
    file = write(tmp_path / "a.jsonl", [sound, row, sound])
    inspection = inspect([str(file)], coding=coding_of(without_z(), tmp_path), show=0)
    ((rows, details, part),) = lost(inspection)
    assert (rows, part) == ((2,), "training")
    (detail,) = details
    assert detail.startswith(f"{file}:2 drops 'z' of '") and "z" in detail.rpartition("of ")[2]


def _without_z(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_z(one) for one in value]
    if isinstance(value, dict):
        return {key: _without_z(one) for key, one in value.items()}
    return value.replace("z", "y") if isinstance(value, str) else value


def test_a_template_that_holds_the_character_does_not_hide_the_loss(tmp_path: Path) -> None:
    tokenizer = without_z()
    tokenizer.chat_template = tokenizer.chat_template.replace("<bos>", "<bos>QQQQ ")
    tokenizer.backend_tokenizer.normalizer = normalizers.Replace("uzz", "u")
    row = {**PLACES["a message"], "prompt": [{"role": "user", "content": "zzz fuzzy qqq"}]}
    ((rows, _, _),) = lost(inspected(tmp_path, row, coding=coding_of(tokenizer, tmp_path)))
    assert rows == (1,)


@pytest.mark.parametrize(
    "normaliser",
    [
        normalizers.Lowercase(),
        normalizers.Strip(),
        normalizers.NFKC(),
        normalizers.Replace(" ", "_"),
        normalizers.Replace("\u2019", "'"),
        normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents(), normalizers.Lowercase()]),
    ],
    ids=str,
)
def test_normalisers_that_keep_what_is_said(normaliser: Any, tmp_path: Path) -> None:
    tokenizer = char_tokenizer()
    tokenizer.backend_tokenizer.normalizer = normaliser
    rows = [pair("Say It:  now", " It is  ", " no"), pair("it\u2019s", " caf\u00e9", " \ufb01ne")]
    assert lost(inspected(tmp_path, *rows, coding=coding_of(tokenizer, tmp_path))) == []


def test_a_vocabulary_without_a_mark_for_unknown_text(tmp_path: Path) -> None:
    """As small byte-pair vocabularies do: what is not in them vanishes."""
    vocabulary = {name: number for number, name in enumerate(["<pad>", "<bos>", "<eos>", *"abcdefghij :"])}
    raw = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    raw.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<eos>", pad_token="<eos>")
    rows = [pair("abc:", " a", " b"), pair("a\u4f60c:", " a", " b"), pair("abc:", " ax", " b")]
    file = tmp_path / "a.jsonl"
    ((found, details, _),) = lost(inspected(tmp_path, *rows, coding=coding_of(tokenizer, tmp_path)))
    assert found == (2, 3)
    assert details == (f"{file}:2 drops '\u4f60' of 'a\u4f60c:'", f"{file}:3 drops 'x' of ' ax'")


def test_each_part_has_its_own(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", [pair("bus:"), pair("buzz:")])
    held_out = write(tmp_path / "b.jsonl", [pair("zoo:"), pair("one:")])
    coding = coding_of(without_z(), tmp_path)
    found = lost(inspect([str(file)], [str(held_out)], coding=coding))
    assert [(rows, part) for rows, _, part in found] == [((2,), "training"), ((1,), "evaluation")]
    assert [len(details) for _, details, _ in found] == [1, 1]


def test_real_text(shared: Callable[[str], Path], tmp_path: Path) -> None:
    """The vocabulary of the stories has no quotation marks of print; that of bytes has everything."""
    path = tmp_path / "hh.jsonl"
    text = gzip.decompress(shared("data/hh_rlhf/harmless-base-test.jsonl.gz").read_bytes())
    path.write_bytes(b"".join(text.splitlines(keepends=True)[:800]))
    small = load_coding(InspectSettings(model=str(shared("models/tinystories-656k-bf16"))))
    inspection = inspect([str(path)], coding=small, show=0)
    ((rows, _, _),) = lost(inspection)
    tokenizer, expected = small.tokenizer, []
    for example in inspection.training.examples:
        texts = [str(example.prompt.content), *(str(one.content) for one in example.responses)]
        ids = tokenizer(texts, add_special_tokens=False).input_ids
        kept = tokenizer.batch_decode(ids, clean_up_tokenization_spaces=False)
        missing = (set(text) - set(back) for text, back in zip(texts, kept, strict=True))
        if any(one.isascii() and one.isprintable() and one != " " for found in missing for one in found):
            assert example.origin is not None
            expected.append(example.origin.row)
    assert len(expected) > 30 and set(expected) <= set(rows)


KEYS = {
    "unused-request-key": ("system_prompt", "history", "Question", "userInput", "images"),
    "unused-judgement-key": ("score_chosen", "chosen_score", "Rating", "meanRewards", "rank_1", "score_ratio"),
    "unused-key": ("prompt_id", "score_source", "input_length", "model", "id", "", "7", "chosen_model", "b"),
}  # fmt: skip


@pytest.mark.parametrize("kind", KEYS)
def test_what_a_key_was_meant_to_say(kind: str) -> None:
    assert {key: kind_of_key(key) for key in KEYS[kind]} == dict.fromkeys(KEYS[kind], kind)


PLAIN = "<bos>" + CHATML.replace("<|im_end|>", "<eos>")
NAMED = PLAIN.replace("{{ m.role }}", "{{ m.role }}{{ m.name or '' }}")


def talk(asked: dict[str, Any], answered: dict[str, Any]) -> dict[str, Any]:
    return {
        "prompt": [{"role": "user", "content": "ask", **asked}],
        "completion": [{"role": "assistant", "content": "it is", **answered}],
    }


def unused(folder: Path, template: str, rows: list[dict[str, Any]]) -> dict[str, tuple[int, ...]]:
    coding = coding_of(char_tokenizer(chat_template=template), folder)
    inspection = inspected(folder, *rows, coding=coding, show=0)
    return {
        one.what.partition("the key ")[2].partition(" ")[0]: tuple(row for rows in one.rows.values() for row in rows)
        for one in inspection.problems
        if one.kind == "unused-message-key"
    }


ROWS = [
    talk({}, {}),
    talk({"name": "ann"}, {"reasoning_content": "let me see"}),
    talk({"name": "bo"}, {"reasoning_content": ""}),
    talk({}, {"reasoning_content": "well", "loss": True}),
]


def test_keys_that_a_template_leaves_out(tmp_path: Path) -> None:
    assert NAMED != PLAIN
    assert unused(tmp_path / "a", PLAIN, ROWS) == {"name": (2, 3), "reasoning_content": (2, 4)}
    assert unused(tmp_path / "b", NAMED, ROWS) == {"reasoning_content": (2, 4)}


def test_a_key_that_is_used_late_is_used(tmp_path: Path) -> None:
    late = PLAIN.replace("{{ m.content }}", "{{ m.content }}{{ m.mood if m.mood == 'odd' }}")
    assert late != PLAIN
    rows = [talk({"mood": "calm"}, {})] * (TRIES - 1) + [talk({"mood": "odd"}, {})]
    assert unused(tmp_path, late, rows) == {}
