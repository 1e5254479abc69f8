"""Real feedback, with every number counted another way."""

import gzip
import logging
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from trueup.inspection.encoded import EncodedFeedback, load_coding
from trueup.inspection.findings import Finding
from trueup.inspection.inspection import inspect
from trueup.inspection.statistics import character_lengths, lengths_by_kind
from trueup.settings.command_settings import InspectSettings

Shared = Callable[[str], Path]
HH = ("hh_rlhf/harmless-base-test.jsonl.gz", "hh_rlhf/helpful-base-test.jsonl.gz")


def places(problem: Finding) -> list[tuple[str, int]]:
    return [(file, row) for file, rows in problem.rows.items() for row in rows]


def test_hh(shared: Shared) -> None:
    paths = [shared(f"data/{name}") for name in HH]
    began = time.monotonic()
    inspection = inspect([str(path) for path in paths])
    assert time.monotonic() - began < 150  # seconds, on a busy machine
    examples = inspection.training.examples
    near, identical, sides = [], [], []
    for one in examples:
        assert one.origin is not None
        place = (one.origin.file, one.origin.row)
        chosen, rejected = (str(response.content) for response in one.responses)
        if any(len("".join(side.split())) < 3 for side in (chosen, rejected)):
            near.append(place)
        if chosen == rejected:
            identical.append(place)
        else:
            sides.append((len(chosen), len(rejected)))
    found = {
        one.kind + (f": {one.what}" if one.kind == "unusable-row" else ""): places(one) for one in inspection.problems
    }
    unusable = {
        f"unusable-row: {reason}": [
            (report.path, row) for report in inspection.training.files for row in report.unusable[reason]
        ]
        for reason in inspection.training.files[0].unusable
    }
    assert found == {**unusable, "identical-responses": identical, "near-empty-response": near}
    assert sorted(len(rows) for rows in found.values()) == [2, 3, 8, 14]
    lengths, preferred = lengths_by_kind(examples, [character_lengths(one) for one in examples])
    assert len(lengths.pop("other_responses")) == 2 * 2  # of identical responses
    chosen_lengths, rejected_lengths = (list(one) for one in zip(*sides, strict=True))
    prompts = [len(one.prompt.content) for one in examples]
    assert lengths == {"prompts": prompts, "chosen": chosen_lengths, "rejected": rejected_lengths}
    longer = sum(chosen > rejected for chosen, rejected in sides)
    assert preferred == inspection.longer_chosen
    assert (preferred.pairs, preferred.longer) == (4642, longer)
    assert {name: seen.units for name, seen in inspection.views.items()} == {
        "pairs": 4642, "rankings": 4642, "points": 9284, "demonstrations": 4642,
    }  # fmt: skip


def test_hh_as_tokens(shared: Shared, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Lengths against the tokenizer itself, run over all texts at once."""
    path, model = tmp_path / "hh.jsonl", shared("models/stories260K")
    lines = gzip.decompress(shared(f"data/{HH[0]}").read_bytes()).splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:600]))
    coding = load_coding(InspectSettings(model=str(model), max_length=256))
    library = logging.getLogger("transformers")
    library.addHandler(caplog.handler)
    try:
        inspection = inspect([str(path)], coding=coding)
    finally:
        library.removeHandler(caplog.handler)
    assert caplog.messages == []  # the library warns of long texts
    assert inspection.tokens is not None and inspection.lengths is not None
    prompts = [example.prompt.content for example in inspection.training.examples]
    ids = coding.tokenizer(prompts).input_ids
    assert inspection.lengths["unit"] == "tokens"
    lengths = [one and one.prompt for one in EncodedFeedback(inspection.training.examples, coding).lengths]
    assert lengths == [len(one) for one in ids]
    too_long = [len(one) >= 256 for one in ids]
    assert inspection.tokens.left_out == sum(too_long)
    (left_out,) = (one for one in inspection.problems if one.kind == "left-out")
    named = [one.origin for one, out in zip(inspection.training.examples, too_long, strict=True) if out]
    assert places(left_out) == [(one.file, one.row) for one in named if one]
    assert {one.kind for one in inspection.problems} == {
        "unusable-row", "near-empty-response", "left-out", "cut-response",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "rows", "kinds"),
    [
        ("finegrained_rlhf/qa_feedback_dev_first250.json", 250, {"unusable-row", "unused-key"}),
        (
            "open_instruct_human_eval/annotations_first575.jsonl",
            575,
            {
                *("duplicate", "identical-responses", "contradicting-rows", "contradicting-labels"),
                *("near-empty-response", "unused-key"),
            },
        ),
        ("topical_chat/topical_chat.json", 360, {"demonstrated-by-score", "single-response"}),
        ("gsm8k_solutions/solutions_first400.jsonl", 400, {"identical-responses"}),
        ("formats/llamafactory/kto_en_demo.json", 300, {"near-empty-response"}),
        ("truthfulqa/TruthfulQA.csv", 817,
         {"identical-responses", "contradicting-labels", "near-empty-response", "unused-key"}),
    ],
)  # fmt: skip
def test_other_data_sets(shared: Shared, name: str, rows: int, kinds: set[str]) -> None:
    inspection = inspect([str(shared(f"data/{name}"))])
    (report,) = inspection.training.files
    assert report.rows == rows
    assert {one.kind for one in inspection.problems} == kinds
