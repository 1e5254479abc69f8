"""Real feedback, read and counted by another way."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

from trueup.feedback import views
from trueup.feedback.read import read_feedback
from trueup.feedback.records import Message

Shared = Callable[[str], Path]

HH = {"hh_rlhf/harmless-base-test.jsonl.gz": 2312, "hh_rlhf/helpful-base-test.jsonl.gz": 2354}


def test_hh(shared: Shared) -> None:
    """Counted here with `split` on the mark of the assistant, where the reader uses `rpartition`."""
    paths = [shared(name) for name in HH]
    feedback = read_feedback(paths)
    assert [report.layout for report in feedback.files] == ["HH transcripts"] * 2
    assert [report.rows for report in feedback.files] == list(HH.values())
    expected: dict[tuple[str, int], tuple[str, str, str]] = {}
    different, empty, identical = [], [], []
    for path in paths:
        for number, line in enumerate(gzip.decompress(path.read_bytes()).split(b"\n")[:-1], start=1):
            row = json.loads(line)
            chosen, rejected = (row[key].split("\n\nAssistant:") for key in ("chosen", "rejected"))
            place = (str(path), number)
            if chosen[:-1] != rejected[:-1]:
                different.append(place)
            elif "" in (chosen[-1].strip(), rejected[-1].strip()):
                empty.append(place)
            else:
                prompt = "\n\nAssistant:".join([*chosen[:-1], ""])
                expected[place] = (prompt, chosen[-1], rejected[-1])
                identical += [place] if row["chosen"] == row["rejected"] else []
    assert (len(different), len(empty), len(identical)) == (14, 8, 2)
    found = {
        (one.origin.file, one.origin.row): (
            one.prompt.content,
            one.responses[0].content,
            one.responses[1].content,
        )
        for one in feedback.examples
        if one.origin
    }
    assert found == expected
    named = {
        reason: [(report.path, row) for report in feedback.files for row in report.unusable[reason]]
        for reason in feedback.files[0].unusable
    }
    assert named == {"the two sides have different prompts": different, "a response is empty": empty}
    made = views.apply(views.pairs, feedback.examples)
    origins = [(one.file, one.row) for one in made.discarded["identical pair"] if one]
    assert (origins, made.units) == (identical, {"pairs": len(expected) - len(identical)})
    assert set(made.discarded) == {"identical pair"}
    first = feedback.files[0].lines()
    assert first == [
        f"{paths[0]}: HH transcripts, 2312 rows, 2303 comparisons; not used: 4 rows because a response "
        "is empty (rows 87, 517, 926, 1104), 5 rows because the two sides have different prompts "
        "(rows 1255, 1689, 1951, 1953, 2037)"
    ]


def test_torchtune_pair_with_an_implied_prompt(shared: Shared) -> None:
    (example,) = read_feedback([shared("formats/torchtune/tests__assets__hh_rlhf_tiny.json")]).examples
    assert example.prompt.content == (Message("user", "What do I do when I have a hole in my trousers?"),)
    chosen, rejected = ((Message("assistant", text),) for text in ("Fix the hole.", "Take them off."))
    assert [one.content for one in example.responses] == [chosen, rejected]


def test_llamafactory_labelled_messages(shared: Shared) -> None:
    path = shared("formats/llamafactory/kto_en_demo.json")
    feedback = read_feedback([path])
    rows = json.loads(path.read_text("utf-8"))
    assert len(feedback.examples) == feedback.files[0].counts.labelled == len(rows) == 300
    for row, example in zip(rows, feedback.examples, strict=True):
        (response,) = example.responses
        assert isinstance(example.prompt.content, tuple) and isinstance(response.content, tuple)
        turns = [
            {"role": one.role, "content": one.content} for one in example.prompt.content + response.content
        ]
        assert turns == row["messages"] and response.label == float(row["label"])
        assert turns[-2]["role"] == "user"
