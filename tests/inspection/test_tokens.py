"""Tokens: faults that show only there, each planted once, and the same account that training gives."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.faulty_feedback import inspected, pair, point, ranked, rows_of_kinds, write
from support.refusals import refused
from support.tiny_models import CHARACTERS, CHATML, SPECIAL, char_tokenizer, save_tiny_model
from tokenizers import normalizers

from trueup.batch.encode import Encoder, Limits
from trueup.batch.tokenizing import tokens_of
from trueup.display import collected
from trueup.feedback.condition import Condition
from trueup.inspection.encoded import Coding, EncodedFeedback, all_responses, load_coding
from trueup.inspection.inspection import inspect, token_text
from trueup.inspection.statistics import KINDS
from trueup.models.load import load
from trueup.settings.command_settings import InspectSettings

SOUND = [pair(f"say {n}:", f" it is {n}", f" not {n} at all") for n in range(6)]
CHAT = [
    {
        "prompt": [{"role": "user", "content": f"say {n}"}],
        "chosen": [{"role": "assistant", "content": f"it is {n}"}],
        "rejected": [{"role": "assistant", "content": f"not {n} at all"}],
    }
    for n in range(6)
]
Make = Callable[..., Coding]


def coding_of(model: object, **given: Any) -> Coding:
    return load_coding(InspectSettings(model=str(model), **given))


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """What encodes with a tokenizer of single characters; the folder holds no weights."""

    def made(
        max_length: int | None = None,
        max_prompt_length: int | None = None,
        *,
        normalizer: Any = None,
        pad_token: str = "<pad>",
        vocabulary: int | None = None,
        chat: bool | None = False,
        **options: Any,
    ) -> Coding:
        folder = tmp_path / "model"
        if not folder.exists():
            tokenizer = char_tokenizer(**{"chat_template": CHATML, **options})
            tokenizer.backend_tokenizer.normalizer = normalizer
            tokenizer.pad_token = pad_token
            save_tiny_model(folder, tokenizer=tokenizer)
            (folder / "model.safetensors").unlink()
        if vocabulary:
            replace_in(folder / "config.json", f'"vocab_size": {vocabulary + 1}', f'"vocab_size": {vocabulary}')
        return coding_of(folder, max_length=max_length, max_prompt_length=max_prompt_length, chat=chat)

    return made


def replace_in(file: Path, before: str, after: str) -> None:
    assert before in file.read_text()
    file.write_text(file.read_text().replace(before, after))


TWO_ENDS = CHATML.replace("<|im_end|>", "<eos>")

PLANTED: dict[str, tuple[list[Any], list[Any], dict[str, Any]]] = {
    "cut-response": (SOUND, [pair("p:", "y" * 30, "long enough")], {"max_length": 25}),
    "cut-prompt": (SOUND, [pair("p" * 20)], {"max_prompt_length": 10}),
    "left-out": (SOUND, [pair("p" * 30)], {"max_length": 25}),
    "left-out, an empty prompt": (SOUND, [pair(" ")], {"bos": False, "normalizer": normalizers.Strip()}),
    "double-beginning": (SOUND, [pair("<bos><bos>say:")], {}),
    "no-beginning": ([], CHAT, {}),
    "raw-text": ([], [pair("say:")], {"chat": None}),
    "spelled-beginning": (SOUND, [pair("<bos>say:")], {}),
    "double-end": (SOUND, [pair("<|im_start|>say:", "it is red<eos><eos><eos>")], {}),
    "text-after-end": (SOUND, [pair("<|im_start|>say:", "it is<eos> red")], {}),
    "unknown-tokens": (SOUND, [pair(chosen="it is \u00e9")], {}),
    "spelled-special": (SOUND, [pair(chosen="it is <eos> red")], {}),
    "padding-is-end": (SOUND, [], {"pad_token": "<eos>"}),
    "vocabulary": (SOUND, [], {"vocabulary": len(SPECIAL) + len(CHARACTERS)}),
}
ALONG = {
    "double-beginning": {"encoding", "spelled-beginning"},
    "spelled-beginning": {"encoding"},
    "double-end": {"encoding"},
    "text-after-end": {"encoding"},
    "left-out, an empty prompt": {"empty-prompt"},
    "no-beginning": {"template-without-end"},
}
"""What comes with a fault because it is true as well."""


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_fault_is_found_once(name: str, make: Make, tmp_path: Path) -> None:
    sound, rows, options = PLANTED[name]
    coding = make(**options)
    if sound:
        before = rows_of_kinds(inspected(tmp_path, *sound, coding=coding))
        assert set(before) <= ({name} if not rows else set())
    found = rows_of_kinds(inspected(tmp_path, *sound, *rows, coding=coding))
    kind = name.partition(",")[0]
    expected = tuple(range(len(sound) + 1, len(sound) + len(rows) + 1))
    assert found.pop(kind) == expected
    assert set(found) == ALONG.get(name, set())


def test_raw_text_may_spell_its_end(make: Make, tmp_path: Path) -> None:
    inspection = inspected(tmp_path, pair(chosen=" it is red<eos>", rejected=" no<eos>"), show=1, coding=make())
    assert rows_of_kinds(inspection) == {}
    assert "".join(inspection.shown[0].responses[0].runs[0].texts) == " it is red<eos>"


def test_an_end_in_the_words_of_a_message_is_text(make: Make, tmp_path: Path) -> None:
    coding = make(chat_template="<bos>" + TWO_ENDS)
    row = {**CHAT[0], "chosen": [{"role": "assistant", "content": "it is<eos> red"}]}
    inspection = inspected(tmp_path, *CHAT, row, coding=coding)
    assert rows_of_kinds(inspection) == {"encoding": (7,)}
    assert "spell special tokens" in inspection.problems[0].what


def test_a_tool_turn_between_two_of_the_assistant_is_not_text_after_an_end(make: Make, tmp_path: Path) -> None:
    coding = make(chat_template="<bos>" + TWO_ENDS)
    turns = [
        {"role": "user", "content": "what is it?"}, {"role": "assistant", "content": "let me see"},
        {"role": "tool", "content": "seven"}, {"role": "assistant", "content": "it is seven"},
    ]  # fmt: skip
    inspection = inspected(tmp_path, {"messages": turns}, show=1, coding=coding)
    assert rows_of_kinds(inspection) == {}
    (shown,) = inspection.shown
    assert [run.role for run in shown.responses[0].runs] == ["scored", "masked", "scored"]
    assert "".join(shown.responses[0].runs[0].texts) == "let me see<eos>"
    assert "".join(shown.responses[0].runs[2].texts) == "it is seven<eos>"


def test_a_template_that_does_not_end_an_answer(make: Make, tmp_path: Path) -> None:
    """`<|im_end|>` is a token of its own, but not one that the model stops at."""
    coding = make(chat_template="<bos>" + CHATML)
    assert rows_of_kinds(inspected(tmp_path, *CHAT, coding=coding)) == {"template-without-end": ()}


def test_a_response_that_the_tokenizer_cannot_express(make: Make, tmp_path: Path) -> None:
    coding = make(normalizer=normalizers.Replace("z", ""))
    found = rows_of_kinds(inspected(tmp_path, *SOUND, pair(chosen="zzzz"), coding=coding))
    assert found == {"empty-as-tokens": (7,), "lost-text": (7,)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"no chat template.*--chat-template"),
        ("{{ raise_exception('system first') }}", "refuses a conversation.*system first"),
    ],
)
def test_conversations_that_cannot_be_encoded(text: str | None, message: str, make: Make, tmp_path: Path) -> None:
    """Every row is named, not only the first, at which training stops."""
    inspection = inspected(tmp_path, *CHAT[:3], show=2, coding=make(chat_template=text))
    assert rows_of_kinds(inspection) == {"cannot-encode": (1, 2, 3)}
    assert re.search(message, inspection.problems[0].what)
    assert inspection.tokens is not None and inspection.tokens.left_out == 3
    assert inspection.lengths is None
    assert [one.left_out for one in inspection.shown] == [inspection.problems[0].what] * 2


def test_a_template_that_loops_is_refused_before_anything_is_looked_at(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trueup.models.tokenizer.SECONDS", 0.5)
    loop = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    with refused(r"the chat template was stopped after 0\.5 seconds"):
        make(chat_template=loop)


@pytest.mark.parametrize(("max_length", "max_prompt_length"), [(20, None), (20, 8), (12, 11), (40, 20), (6, None)])
def test_the_account_is_that_of_training(
    max_length: int, max_prompt_length: int | None, make: Make, tmp_path: Path
) -> None:
    rows = [pair("p" * n, "y" * (3 * n % 17 + 3), "n" * (5 * n % 13 + 3)) for n in range(3, 20)]
    rows += [ranked(3, 2, 1, prompt="q" * n) for n in range(3, 12)]
    coding = make(max_length, max_prompt_length)
    files = [write(tmp_path / "a.jsonl", rows[:17]), write(tmp_path / "b.jsonl", rows[17:])]
    inspection = inspect([str(file) for file in files], coding=coding)
    examples = inspection.training.examples
    loaded = coding.loaded
    limits = Limits(max_length, max_prompt_length)
    encoder = Encoder(loaded.tokenizer, end_ids=loaded.end_ids, limits=limits)
    with collected() as lines:
        groups = tokens_of(map(all_responses, examples), encoder, what="training")
    tokenized = inspection.tokens
    assert tokenized is not None
    assert len(groups) == len(examples) - tokenized.left_out
    said = " ".join(lines)
    responses = sum(len(group.responses) for group in groups)
    assert (f"{tokenized.responses_cut} of {responses} responses lost their end" in said) == bool(
        tokenized.responses_cut
    )
    assert (f"{tokenized.prompts_cut} of {len(groups)} prompts lost" in said) == bool(tokenized.prompts_cut)
    assert inspection.lengths is not None
    lengths = [one for one in EncodedFeedback(examples, coding).lengths if one is not None]
    assert [one.prompt for one in lengths] == [len(str(one.prompt.content)) + 1 for one in examples]
    uncut = [len(str(response.content)) + 1 for one in examples for response in one.responses]
    counted = sum(inspection.lengths[kind]["count"] for kind in KINDS[1:] if kind in inspection.lengths)
    assert tokenized.responses == len(uncut) <= counted


def test_shown_tokens_are_those_of_training(make: Make, tmp_path: Path) -> None:
    coding = make(max_length=14, max_prompt_length=8)
    rows = [pair("say it now:", " it is red", " no"), point(0.25, "p", " word")]
    (first,) = inspected(tmp_path, rows[0], show=1, coding=coding).shown
    assert first.prompt is not None
    assert first.prompt.texts == ("<bos>", *"it now:")
    assert (first.prompt_cut, [one.cut for one in first.responses]) == (True, [True, False])
    assert [one.said for one in first.responses] == ["chosen", "rejected"]
    (chosen,), (rejected,) = (one.runs for one in first.responses)
    assert chosen.texts == tuple(" it is")
    assert rejected.texts == (*" no", "<eos>")
    decoded = coding.tokenizer.decode([*first.prompt.ids, *rejected.ids])
    assert decoded == "<bos>it now: no<eos>"


def test_what_a_token_stands_for(shared: Callable[[str], Path], tmp_path: Path) -> None:
    sentencepiece = coding_of(shared("models/stories260K")).tokenizer
    ids = sentencepiece("once upon a\ntime \u00e9").input_ids
    text = "".join(token_text(token, sentencepiece) for token in ids)
    assert "once upon a\\n" in text or "once upon a<0x0A>" in text
    assert text.isprintable()
    assert token_text(5, char_tokenizer()) == "<|im_end|>"
    newline = char_tokenizer()("\n").input_ids[-1]
    assert token_text(newline, char_tokenizer()) == "\\n"


def test_a_row_by_its_number(make: Make, tmp_path: Path) -> None:
    inspection = inspected(tmp_path, *SOUND, rows=["3", "a.jsonl:2"], coding=make())
    assert [one.origin for one in inspection.shown] == [f"{tmp_path / 'a.jsonl'}:{row}" for row in (3, 2)]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("9", r"--row 9: .*a\.jsonl has no such row; it has 8"),
        ("7", "--row 7: training leaves this row out: a response is empty"),
        ("8", "--row 8: the row is malformed: .*a.jsonl:8"),
        ("other.jsonl:1", "--row other.jsonl:1: no such file among .*a.jsonl"),
        ("three", "--row three: give the number of a row, or FILE:NUMBER"),
    ],
)
def test_a_row_that_is_not_there(row: str, message: str, make: Make, tmp_path: Path) -> None:
    with refused(message):
        inspected(tmp_path, *SOUND, pair(rejected=""), "{torn", rows=[row], coding=make())


def test_a_row_of_one_of_several_files(make: Make, tmp_path: Path) -> None:
    a, b = (write(tmp_path / name, SOUND) for name in ("a.jsonl", "b.jsonl"))
    with refused(r"--row 1: there are 2 files; say which by --row .*a\.jsonl:1"):
        inspect([str(a), str(b)], coding=make(), rows=["1"])
    inspection = inspect([str(a), str(b)], coding=make(), rows=["b.jsonl:1", f"{a}:2"])
    assert [one.origin for one in inspection.shown] == [f"{b}:1", f"{a}:2"]


def test_the_world_needs_no_model(tmp_path: Path) -> None:
    coding = coding_of("world")
    inspection = inspect(["world:pairs?count=20"], coding=coding, rows=["world:pairs:3"])
    assert inspection.tokens is not None
    assert inspection.tokens.responses == sum(len(one.responses) for one in inspection.training.examples) == 40
    assert inspection.shown[0].origin == "world:pairs:3"
    assert not {"unknown-tokens", "cut-response", "no-beginning"} & set(rows_of_kinds(inspection))


@pytest.mark.slow
@pytest.mark.world
def test_the_worlds_tokenizer_is_that_of_its_model() -> None:
    import torch

    from trueup.world.model import world_model_path

    ours, loaded = (
        load_coding(InspectSettings(model="world")).loaded,
        load(str(world_model_path()), device=torch.device("cpu")),
    )
    network: Any = loaded.network
    assert ours.end_ids == loaded.end_ids
    assert ours.tokenizer.get_vocab() == loaded.tokenizer.get_vocab()
    assert (ours.positions, ours.vocabulary) == (network.config.max_position_embeddings, network.config.vocab_size)


def test_a_condition_of_the_model_is_in_every_prompt(make: Make, tmp_path: Path) -> None:
    make()
    Condition(" <{reward}>", 1, "end", reward=2.0).save(tmp_path / "model")
    inspection = inspected(tmp_path, *SOUND, show=1, coding=make())
    assert inspection.shown[0].prompt is not None
    assert "".join(inspection.shown[0].prompt.texts) == "<bos>say 0: <2.0>"


def test_limits(make: Make, tmp_path: Path) -> None:
    assert make().encoder.limits.max_length == 512
    with refused(r"max_length 513 is more than .* was made for, 512; give less"):
        make(513)
    with refused("max_prompt_length 20 leaves no room for a response within max_length 20"):
        make(20, 20)
    positions = '"max_position_embeddings": '
    replace_in(tmp_path / "model/config.json", positions + "512", positions + "9999")
    assert make().encoder.limits.max_length == 1024
    assert make(5000).encoder.limits.max_length == 5000


def test_a_folder_without_a_tokenizer(tiny_model: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    with refused("has no tokenizer"):
        coding_of(folder)
