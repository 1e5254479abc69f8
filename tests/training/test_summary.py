"""What a run says at its end of what it took, and which learning rate it advises at its start."""

import json
import math
import re
import zlib
from pathlib import Path
from statistics import fmean
from types import SimpleNamespace
from typing import Any

import pytest
from support.faulty_server import Answer, FaultyServer, ReceivedRequest
from support.judge_answers import likely, text_of, variety
from support.judged_runs import judged
from support.online_runs import online, write_reward
from support.small_runs import Killed, at_step, command, options, run_here, settings, write_feedback

from trueup.display import figure
from trueup.methods import METHODS
from trueup.training import setup


def killed_at(step: int, *arguments: object) -> None:
    def kill(policy: object) -> None:
        raise Killed

    with at_step(step, kill), pytest.raises(Killed):
        command(*arguments)


def test_what_an_endpoint_took_is_counted_over_all_sittings(
    tiny_model: Path, tmp_path: Path, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests, tokens, cost and unreadable verdicts, as the server knows them."""
    monkeypatch.setenv("OPENAI_API_KEY", "EMPTY")

    def unreadable(text: str) -> bool:
        return zlib.crc32(text.encode()) % 5 == 0

    def some_unreadable(asked: ReceivedRequest) -> Answer:
        return likely({"x": 0.9, "y": 0.1}) if unreadable(text_of(asked)) else variety(asked)

    prices = {"annotator.input_price": 2000, "annotator.output_price": 5000, "annotator.max_cost": 1e6}
    more = {**prices, "annotator.max_unreadable": 1, "annotator.cache": "false", "annotator.asks": 1}
    with FaultyServer(some_unreadable) as server:
        killed_at(4, "train", "oaif", *options(judged(tiny_model, tmp_path, tmp_path / "run", server.url, **more)))
        assert command("train", "oaif", "--resume", tmp_path / "run") == 0
        posed = [text_of(one) for one in server.asked if one.text]
    (line,) = (line for line in told if line.startswith("annotator: "))
    found = re.fullmatch(
        r"annotator: ([\d,]+) requests, ([\d,]+) tokens, ([\d,.]+) cost, (\d+) of (\d+) verdicts unreadable", line
    )
    assert found is not None
    requests, tokens, cost, unread, verdicts = (float(one.replace(",", "")) for one in found.groups())
    assert requests == len(posed) >= verdicts == len({*posed}) > 30 and tokens == 301 * requests
    assert cost == pytest.approx(requests * (300 * 2000 + 5000) / 1e6, rel=1e-4)
    assert unread == sum(map(unreadable, {*posed})) > 0


def test_scores_at_its_start_and_end(tiny_model: Path, tmp_path: Path, told: list[str]) -> None:
    write_reward(tmp_path)
    run_here("rrhf", online(tiny_model, tmp_path, tmp_path / "run", learning_rate=0.05))
    rows = [json.loads(line) for line in (tmp_path / "run" / "examples.jsonl").read_text().splitlines()]
    means = [
        figure(fmean(one["score"] for row in rows if row["round"]["number"] == number for one in row["responses"]))
        for number in (1, 6)
    ]
    assert f"sampled: 72 responses in 6 rounds: score {' -> '.join(means)}" in told and means[0] != means[1]


def test_the_learning_rate_of_a_paper_is_not_taken_for_that_of_a_small_model(
    tiny_model: Path, tmp_path: Path, told: list[str]
) -> None:
    """Said where it is left out, and nothing where one is given."""
    data = write_feedback(tmp_path)
    default = METHODS["dpo"].defaults["learning_rate"]
    for name, more in {"small": {}, "lora": {"lora.rank": 2}, "given": {"learning_rate": 2e-6}}.items():
        values = settings("dpo", tiny_model, data, tmp_path / name, steps=1, epochs=None) | more
        if name != "given":
            del values["learning_rate"]
        told.clear()
        run_here("dpo", values)
        advised = [line for line in told if "is usual: --learning_rate" in line]
        if name == "given":
            assert advised == []
            continue
        rate = f"{min(1e-3, default * (10 if more else 1) * math.sqrt(7e9 / 25_184)):.0e}"
        what = "an adapter of a model" if more else "a model"
        assert re.fullmatch(
            rf"learning_rate {default:g} is the paper's, for all weights of a model of billions; for {what} of "
            rf"[\d,]+ weights about {rate} is usual: --learning_rate {rate}",
            *advised,
        )


@pytest.mark.parametrize(
    ("size", "adapted", "advised"),
    [
        (7e9, False, None), (1e9, False, None), (7e9, True, 10), (7e8, False, math.sqrt(10)),
        (7e8, True, 10 * math.sqrt(10)), (7e7, False, 10),
    ],
)  # fmt: skip
def test_the_advice_grows_with_an_adapter_and_a_smaller_model(
    size: float, adapted: bool, advised: float | None, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setup.prepare, "num_parameters", lambda network: int(size))
    monkeypatch.setattr(setup.lora, "is_adapted", lambda network: adapted)
    policy: Any = SimpleNamespace(network=None)
    setup.suggest_rate(policy, 1e-6)
    assert [line.rpartition(" ")[2] for line in told] == ([] if advised is None else [f"{1e-6 * advised:.0e}"])
