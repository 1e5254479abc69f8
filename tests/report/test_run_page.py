"""`trueup report`, and the page that every run leaves: what it says, of finished runs, broken ones and hostile ones."""

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver.common.by import By
from support.browser import browser, errors_of, needs_browser
from support.run_folders import HOSTILE, RIGHT_TO_LEFT, dpo_lines, evaluation, make_run, sampled
from support.small_runs import at_step, command, options, run_here, settings, write_feedback

from trueup.errors import Stopped
from trueup.metrics import read_lines
from trueup.report import run_page

Captured = pytest.CaptureFixture[str]


def page(folder: Path) -> str:
    assert command("report", folder) == 0
    return (folder / "report.html").read_text()


def words(text: str) -> str:
    bare = re.sub(r"<(style|script)>.*?</\1>", "", text, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", bare).split())


def test_every_run_leaves_its_page(tiny_model: Path, tmp_path: Path, told: list[str]) -> None:
    run_here("dpo", settings("dpo", tiny_model, write_feedback(tmp_path), tmp_path / "run", steps=2, epochs=None))
    text = (tmp_path / "run/report.html").read_text()
    first, last = read_lines(tmp_path / "run/metrics.jsonl")
    assert f"loss: 0.693 at step 0, {last['loss']:.3g} at step 1" in text and first["loss"] == pytest.approx(
        0.6931, abs=1e-4
    )
    assert "done after 2 steps" in text and "24 examples gave" in text
    assert any(str(tmp_path / "run/report.html") in line for line in told)
    assert page(tmp_path / "run").count("<figure>") == text.count("<figure>") > 5


@pytest.mark.parametrize("works", [True, False])
def test_a_run_that_broke_off_leaves_its_page_too_and_its_own_error(
    works: bool, tiny_model: Path, tmp_path: Path, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_feedback(tmp_path)
    if not works:
        monkeypatch.setattr(run_page.page, "write_page", lambda *given: 1 / 0)
    values = settings("dpo", tiny_model, data, tmp_path / "run", learning_rate=1e30, max_grad_norm=1e30)
    assert command("train", "dpo", *options(values)) == 5
    assert (tmp_path / "run/report.html").exists() == works
    if works:
        text = words((tmp_path / "run/report.html").read_text())
        assert "it failed, last saved at step" in text and "loss: 0.693 at step 0" in text

        def stop(policy: Any) -> None:
            raise Stopped("SIGTERM")

        with at_step(4, stop):
            again = values | {"output": str(tmp_path / "stopped"), "learning_rate": 1e-3}
            assert command("train", "dpo", *options(again)) == 143
        assert "it was stopped" in words((tmp_path / "stopped/report.html").read_text())


def test_a_page_that_cannot_be_written_costs_the_run_nothing(
    tiny_model: Path, tmp_path: Path, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_page.page, "write_page", lambda *given: 1 / 0)
    run_here("sft", settings("sft", tiny_model, write_feedback(tmp_path), tmp_path / "run", steps=1, epochs=None))
    assert json.loads((tmp_path / "run/status.json").read_text())["state"] == "done"
    assert any("the report was not written" in line and f"trueup report {tmp_path}" in line for line in told)


def test_ten_thousand_steps_and_samples_are_less_than_two_megabytes_and_the_same_bytes(tmp_path: Path) -> None:
    lines = [line | {f"more/{at}": float(line["step"] % 7 + at) for at in range(4)} for line in dpo_lines(10_000)]
    rows = [sampled(at, "prompt " + "<&>" * 300, ("answer " + "<&>" * 300, 0.5), ("no", 0.1)) for at in range(10_000)]
    folder = make_run(tmp_path / "run", lines, rows=rows)
    first = page(folder)
    assert 100_000 < len(first.encode()) < 2_000_000
    assert page(folder) == first
    assert "more that were read have no room" in first


def test_curves_are_thinned_without_losing_means_and_extremes() -> None:
    from trueup.report.charts import MOST_POINTS, thinned

    points = [(float(at), float(at * 7919 % 1009)) for at in range(10_080)]
    means, low, high = thinned(points)
    assert len(means) == len(low) == len(high) == MOST_POINTS
    assert sum(y for _, y in means) / len(means) == pytest.approx(sum(y for _, y in points) / len(points))
    assert min(y for _, y in low) == 0 and max(y for _, y in high) == 1008
    assert thinned(points[:5]) == (points[:5], points[:5], points[:5])


def test_no_name_in_a_chart_stands_over_another() -> None:
    from trueup.report.charts import Series, plot

    text = plot("t", [Series(name, [(0.0, y)]) for name, y in (("one", 1.0), ("two", 1.0), ("far", 9.0))], named=True)
    heights = sorted(float(y) for y in re.findall(r'y="([\d.]+)" text-anchor="\w+">(?:one|two|far)<', text))
    assert len(heights) == 3 and all(after - before >= 11 for before, after in pairwise(heights))


@pytest.mark.parametrize(("chosen", "said"), [(-0.5, "have become less likely"), (0.5, "at least as likely")])
def test_what_became_of_chosen_responses_is_said_in_a_sentence(chosen: float, said: str, tmp_path: Path) -> None:
    told = words(page(make_run(tmp_path / "run", dpo_lines(50, chosen))))
    assert f"Chosen responses {'' if chosen < 0 else 'are '}{said}" in told
    assert ("lower the learning rate" in told) == (chosen < 0)


@pytest.mark.parametrize(
    ("status", "damage", "said"),
    [
        ({"state": "stopped", "step": 4, "steps": 90}, "", "it was stopped, last saved at step 4 of 90"),
        ({"state": "running", "step": 4, "steps": 90}, "", "it was killed, last saved at step 4 of 90"),
        ({}, "", "it has no status, last saved at step 0 of an unknown number"),
        (None, 'nonsense\n{"step": "x"}\n\xff\n{"step": 9, "loss": NaN}\n{"torn', "left out: lines 7, 8, 9"),
    ],
    ids=["stopped", "killed", "no status", "damaged"],
)
def test_a_run_that_is_not_whole_has_its_page(status: Any, damage: str, said: str, tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", dpo_lines(6), status=status)
    with (folder / "metrics.jsonl").open("a", encoding="latin-1") as file:
        file.write(damage)
    text = words(page(folder))
    assert said in text and "0.693" in text and ("This page shows what there is" in text) == (status is not None)


def test_a_run_without_figures_or_reference_has_its_page(tmp_path: Path) -> None:
    told = words(page(make_run(tmp_path / "empty", method="sft", status={"state": "failed", "step": 0, "steps": 3})))
    assert "There are no figures yet" in told and "reference" not in told.partition("Configuration")[0]
    scores = [{"step": at, "rewards/chosen": -3.0, "rewards/accuracies": 0.7} for at in (1, 2)]
    told = words(page(make_run(tmp_path / "scores", scores, method="reward-model")))
    assert "less likely" not in told  # the level of a score means nothing


def test_what_is_written_to_held_out_prompts_is_shown_with_its_divergence(tmp_path: Path) -> None:
    measured = [
        {"step": at, "eval_score": at / 10, "eval_wins": 0.5, "eval_sequence_kl": at / 5, "eval_words": 4.0 + at}
        for at in (0, 10, 20)
    ]  # fmt: skip
    lines = [*dpo_lines(20), *({"eval_kl": -7.0} | one for one in measured)]
    text = page(make_run(tmp_path / "run", lines))
    assert "eval_score against eval_sequence_kl" in text and "eval_wins against eval_sequence_kl" in text
    assert "on the way: 0 at KL 0, 2 at KL 4" in text  # the score by its own divergence, not that of feedback
    assert "Wins against the start model" in text and "Responses are 6 times as long as at first" in words(text)


def test_judges_are_told_of_by_their_totals(tmp_path: Path) -> None:
    counts = {"verdicts": 10.0, "unreadable": 2.0, "first": 6.0, "flipped": 1.0}
    rounds = [{f"annotator/{name}": count for name, count in counts.items()}] * 2
    folder = make_run(tmp_path / "run", dpo_lines(2), rounds=rounds)
    counts = {"shared": 10.0, "alike": 8.0, "a/judged": 10.0, "a/agreed": 9.0}
    jury = {f"annotator/{name}": count for name, count in counts.items()}
    several = words(page(make_run(tmp_path / "jury", dpo_lines(2), rounds=[jury])))
    assert "two judges agree on 80%" in several and "sides with the jury on 90%" in several
    assert "a/judged" not in several
    calibration = {"accuracy": {"value": 0.7}, "bins": [{"said": 0.6, "seen": 0.5, "error": None}]}
    (folder / "calibration.json").write_text(json.dumps(calibration))
    told = words(page(folder))
    assert "verdicts 20" in told and "verdicts that could not be read 4" in told
    assert "where 0.5 is fair 0.750" in told
    assert "Accuracy on held-out pairs 0.7" in told


def test_an_evaluation_in_the_folder_is_shown_with_what_was_gained_and_lost(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", dpo_lines(2))
    (folder / "evaluation").mkdir()
    (folder / "evaluation/evaluation.json").write_text(json.dumps(evaluation("run", "M")))
    rows = [sampled(0, f"p{at}", (f"new {at}", at), (f"old {at}", 2)) for at in range(5)]
    for row in rows:
        row["responses"][0]["source"] = "run"
    (folder / "evaluation/responses.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + "{bad\n")
    text = page(folder)
    gained, lost = text.partition("Where it gained most")[2].split("Where it lost most")
    assert gained.index("new 4") < gained.index("old 4") < gained.index("new 3")
    assert lost.index("new 0") < lost.index("old 0") < lost.index("new 1")
    assert "0.75 (0.65 to 0.85)" in text and "M: 1 at KL from the reference, nats a response 0." in text
    assert "responses.jsonl: 1 row cannot be read" in text
    (folder / "evaluation/evaluation.json").write_text('{"models": 3}')
    assert "is not as trueup evaluate writes it" in page(folder)


def test_what_is_no_run_or_no_page_is_refused(tmp_path: Path, capsys: Captured) -> None:
    assert command("report", tmp_path) == 2
    assert "is not a run, as it has no run.yaml" in capsys.readouterr().err
    folder, other = make_run(tmp_path / "run", dpo_lines(2)), tmp_path / "notes.html"
    other.write_text("<p>mine</p>")
    assert command("report", folder, "--output", other) == 2
    assert "no page of trueup" in capsys.readouterr().err and other.read_text() == "<p>mine</p>"


HOSTILE_LINE = {"step": 3, HOSTILE: 1.0, f"{HOSTILE}/score": 2.0, "loss": float("inf"), "online/score": 0.5}


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A run of which everything that can hold a text holds markup and scripts."""
    rows = [
        sampled(at, f"question {at} {RIGHT_TO_LEFT}", (f"{HOSTILE} answer {at}", 0.1 * at), ("plain", -1.0))
        for at in range(30)
    ]
    rows.append(sampled(30, "x" * 5_000, (HOSTILE * 3, float(10**300))))
    status = {"state": "done", "step": 3, "steps": 3, "warnings": [HOSTILE]}
    folder = make_run(
        tmp_path / HOSTILE.replace("/", "_")[:60], [*dpo_lines(2), HOSTILE_LINE], rows=rows, status=status,
        settings={"run_name": HOSTILE, "annotator": {"base_url": "http://localhost:1/v1", "instruction": HOSTILE}},
        rounds=[{f"annotator/{HOSTILE}": 1.0}],
    )  # fmt: skip
    (folder / "run.log").write_text(f"2026 INFO {HOSTILE}: 4 examples gave 4\nsk-abcdefghijklmnop \x1b[2J{HOSTILE}\n")
    (folder / "evaluation.json").write_text(json.dumps(evaluation(HOSTILE, "M")))
    return folder


@needs_browser
def test_in_a_browser_it_is_searched_and_sorted_and_asks_and_runs_nothing(hostile: Path, tmp_path: Path) -> None:
    text = page(hostile)
    assert "abcdefghijklmnop" not in text and "\x1b" not in text and "\u202e" not in text
    assert "<script>window" not in text and "<img" not in text
    with browser(tmp_path, dark=True) as driver:
        driver.get((hostile / "report.html").as_uri())
        assert driver.title == HOSTILE
        assert driver.execute_script("return window.taken") is None

        def column(at: int) -> list[str]:
            rows = driver.find_elements(By.CSS_SELECTOR, "#samples tbody tr:not([hidden])")
            return [row.find_elements(By.TAG_NAME, "td")[at].text for row in rows]

        search = driver.find_element(By.ID, "search")
        search.send_keys("ANSWER 22 question")
        assert column(4) == ["2.2"]
        assert driver.find_element(By.ID, "found").text == "1 of 61"
        search.clear()
        search.send_keys(" ")
        heads = driver.find_elements(By.CSS_SELECTOR, "#samples th")
        heads[4].find_element(By.TAG_NAME, "button").click()
        scores = [float(one) for one in column(4)]
        assert len(scores) == 61 and scores == sorted(scores)
        heads[4].find_element(By.TAG_NAME, "button").click()
        assert [float(one) for one in column(4)] == sorted(scores, reverse=True)
        assert heads[4].get_attribute("aria-sort") == "descending"
        dark = driver.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert max(map(int, re.findall(r"\d+", dark))) < 60
        for name in ("svg", "figure"):
            assert driver.find_elements(By.TAG_NAME, name)
        driver.execute_script("document.querySelectorAll('details').forEach(one => one.open = true)")
        driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride", {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True}
        )
        assert driver.execute_script("return document.documentElement.scrollWidth") == 360
        assert all(0 <= head.rect["x"] <= 360 - head.rect["width"] for head in heads)  # sorting stays in reach
        assert errors_of(driver) == []
        told = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    own = (hostile / "report.html").as_uri()
    asked = [one["params"] for one in told if one["method"] == "Network.requestWillBeSent"]
    assert [one["request"]["url"] for one in asked if one["documentURL"] == own] == [own]
