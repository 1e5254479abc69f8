"""`trueup report --votes`: who voted, in which order, how far they agree, and with the judge."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from support.run_folders import dpo_lines, evaluation, make_run
from support.small_runs import command


def row(number: int, votes: list[tuple[int, str, str]], **more: Any) -> dict[str, Any]:
    """A prompt with a response of the run and one of M; a vote is the response shown first, the verdict, the person."""
    responses = [{"content": f"new {number}", "source": "run"}, {"content": f"old {number}", "source": "M"}]
    said = [{"first": at, "second": 1 - at, "preferred": what, "annotator": who} for at, what, who in votes]
    return {"prompt": f"p{number}", "responses": responses, "votes": said, **more}


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    return path


def cells(text: str, name: str) -> list[str]:
    found = re.search(rf'<tr><th dir="auto">{name}</th>(.*?)</tr>', text)
    assert found, name
    return [re.sub(r"<svg.*?</svg>|<[^>]+>", "", one).strip() for one in found[1].split("</td>")[:-1]]


def test_who_said_what_and_as_the_judge(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Ann prefers the run's response four times of five, twice of them asked again; Ben what is shown first."""
    folder = make_run(tmp_path / "run", dpo_lines(2))
    (folder / "evaluation").mkdir()
    (folder / "evaluation/evaluation.json").write_text(json.dumps(evaluation("run", "M")))
    better = [{"better": int(number == 1), "worse": int(number != 1)} for number in range(5)]  # M in one of five
    judged = [row(number, [], comparisons=[one]) for number, one in enumerate(better)]
    write(folder / "evaluation/responses.jsonl", judged)
    said = [
        row(0, [(0, "first", "ann"), (0, "first", "ben")]),
        row(1, [(1, "second", "ann"), (1, "first", "ben")]),
        row(2, [(0, "first", "ann"), (1, "first", "ben"), (1, "second", "ann")]),
        row(3, [(0, "first", "ann"), (0, "tie", "ben"), (0, "second", "ann")]),
        row(4, [(1, "first", "ann"), (1, "first", "<b>&")]),
    ]
    assert command("report", folder, "--votes", write(tmp_path / "people.jsonl", said)) == 0
    text = (folder / "report.html").read_text()
    assert "votes of 3 people on 5 pairs, 5 judged by several, Krippendorff" in text and "&lt;b&gt;&amp;" in text
    assert "the judge says the same of 0.67 (0.21 to 0.94) of 3 pairs that most decide" in text
    ann, ben = cells(text, "ann"), cells(text, "ben")
    shares = [[one.split()[0] for one in own] for own in (ann, ben)]
    assert shares[0] == ["7", "0.57", "0.00", "0.50", "0.40", "0.60"]
    assert shares[1] == ["4", "1.00", "0.25", "-", "0.25", "0.67"]
    assert cells(text, "M against run")[0] == "5"
    assert cells(text, "M against run")[1].startswith("0.45 (")  # 0, 1/2, 1/2, 1/4, 1
    plain = write(tmp_path / "plain.jsonl", [row(0, [], comparisons=[{"better": 0, "worse": 1}])])
    assert command("report", folder, "--votes", plain) == 2
    assert "nobody voted in it" in capsys.readouterr().err
