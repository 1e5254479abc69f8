"""`trueup label`: the page in a real browser, the process behind it killed, and what comes of the clicks."""

import json
import re
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait
from support.browser import browser, errors_of, needs_browser
from support.faulty_feedback import write
from support.small_runs import metrics_of

from trueup.cli.app import run
from trueup.errors import InputError
from trueup.feedback import views
from trueup.feedback.read import read_feedback
from trueup.feedback.records import Comparison, Example, Prompt, Response, Vote, agreement_of_people
from trueup.labelling.votes import Clicks, pairs_of
from trueup.settings.command_settings import LabelSettings

HOSTILE = (
    '<script>window.hacked=1</script><img src=x onerror="window.hacked=1"> [click](javascript:window.hacked=1) '
    "![image](http://192.0.2.1/x.png) <http://192.0.2.1> \x1b[2J\u202e &lt;b&gt; **bold** \U0001f600"
)


class Served:
    """The page of a process."""

    def __init__(self, process: subprocess.Popen[str], address: str) -> None:
        self.process, self.address = process, address
        self.place = urlsplit(address)

    def request(self, method: str, path: str, body: object = None, **headers: str) -> tuple[int, Any]:
        connection = HTTPConnection(str(self.place.hostname), self.place.port, timeout=10)
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        reply = connection.getresponse()
        status, text = reply.status, reply.read().decode()
        connection.close()
        return status, text if text.startswith("<!") else json.loads(text)

    def ask(self, what: str, person: str, **more: object) -> dict[str, Any]:
        status, said = self.request("POST", self.place.path + what, {"person": person, **more})
        assert status == 200, said
        return dict(said)


@contextmanager
def serving(folder: Path, *more: str) -> Iterator[Served]:
    """`trueup label` in a process of its own, ended by Ctrl-C unless it has been killed."""
    command = [sys.executable, "-m", "trueup", "label", "candidates.jsonl", "--output", "people.jsonl", *more]
    process = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    with process, process.stderr as said:
        lines = []
        for line in said:
            lines.append(line)
            if found := re.search(r"http://127\.0\.0\.1:\d+/\S{32}/", line):
                break
        else:
            pytest.fail("".join(lines))
        try:
            yield Served(process, found[0])
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                assert process.wait(20) == 0


def candidates(folder: Path, count: int = 10) -> None:
    write(folder / "candidates.jsonl", (
        {"prompt": f"say {at}:",
         "responses": [{"content": f" good {at}", "source": "model-a"}, {"content": f" bad {at}"}]}
        for at in range(count)
    ))  # fmt: skip


def choose(shown: dict[str, Any], wanted: str) -> str:
    """The verdict by which the response with the wanted word wins, or the verdict itself."""
    if wanted in ("tie", "neither"):
        return wanted
    return "first" if wanted in shown["first"] else "second"


def label(served: Served, person: str, wanted: Callable[[int], str], most: int = 100) -> list[str]:
    seen, shown = [], served.ask("next", person)
    while (pair := shown["pair"]) and len(seen) < most:
        number = int(re.findall(r"say (\d+):", pair["prompt"])[0])
        seen.append(pair["first"])
        shown = served.ask("click", person, number=shown["number"], verdict=choose(pair, wanted(number)))
        assert shown["kept"]
    return seen


ANN = {8: "bad", 9: "tie"}
BOB = {6: "bad", 7: "bad", 8: "bad"}


def test_a_killed_process_loses_no_click_and_the_export_is_trained_on(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    candidates(tmp_path)
    monkeypatch.chdir(tmp_path)
    with serving(tmp_path, "--repeat_share", "0") as served:
        label(served, "ann", lambda at: "good", most=1)
        shown = served.ask("next", "ann")
        assert "model-a" not in json.dumps(shown)
        served.ask("click", "ann", number=1, verdict="undo")
        assert not served.ask("click", "ann", number=1, verdict="tie")["kept"]  # as of a page that is not up to date
        label(served, "ann", lambda at: ANN.get(at, "good"), most=4)
        before = served.ask("next", "ann")
        assert (before["number"], before["progress"]["done"]) == (6, 4)
        served.process.kill()
        served.process.wait()
    with serving(tmp_path, "--repeat_share", "0") as served:
        assert served.ask("next", "ann") == before
        label(served, "ann", lambda at: ANN.get(at, "good"))
        label(served, "bob", lambda at: BOB.get(at, "good"))
        progress = served.ask("next", "bob")["progress"]
        # Both say good 6 times and bad once of 10; by chance (8 x 7 + 1 x 3) / 100.
        assert progress["kappa"] == pytest.approx((0.7 - 0.59) / (1 - 0.59))
        # Of 20 judgements 15 are good, 4 bad and 1 is a tie; 3 pairs differ.
        assert progress["alpha"] == pytest.approx(1 - 19 * 6 / (400 - 15**2 - 4**2 - 1))
        assert (progress["shared"], progress["contested"], progress["kappa_pairs"]) == (10, 3, 10)
        assert [(one["name"], one["judged"]) for one in progress["people"]] == [("ann", 10), ("bob", 10)]
        assert run(["label", "candidates.jsonl", "--output", "people.jsonl", "--export"]) == 2
        assert "locked" in capsys.readouterr().err
    examples = read_feedback(["people.jsonl"]).examples
    assert [one.comparisons for one in examples] == [
        *[(Comparison(0, 1),)] * 6, (), (), (Comparison(1, 0),), (Comparison(0, 1, 0.75),),
    ]  # fmt: skip
    assert all(one.responses[0].source == "model-a" for one in examples)
    assert [[vote.annotator for vote in one.votes] for one in examples] == [["ann", "bob"]] * 10
    told = f"votes of 2 people on 10 pairs, 10 judged by several, Krippendorff's alpha {progress['alpha']:.2f}"
    assert agreement_of_people(examples) == told
    (tied,) = (vote for vote in examples[9].votes if vote.annotator == "ann")
    assert tied.preferred == "tie" and {tied.first, tied.second} == {0, 1}
    kept = Path("people.jsonl").read_bytes()
    Path("people.jsonl").unlink()
    assert run(["label", "candidates.jsonl", "--output", "people.jsonl", "--export"]) == 0
    assert Path("people.jsonl").read_bytes() == kept
    for method, more in (("dpo", ()), ("reward-model", ("--eval_fraction", "0.5"))):
        command = ["train", method, "--model", str(tiny_model), "--data", "people.jsonl", "--output", method]
        assert run([*command, *more, "--steps", "2", "--batch_size", "4"]) == 0
        assert [line["step"] for line in metrics_of(Path(method)) if "loss" in line] == [1, 2]
    assert json.loads(Path("reward-model/calibration.json").read_text())["pairs"] == 4
    assert run(["convert", "people.jsonl", "--to", "pairs", "--output", "pairs.jsonl"]) == 0
    assert "dropped 20 votes" in capsys.readouterr().err
    candidates(tmp_path, count=5)
    assert run(["label", "candidates.jsonl", "--output", "people.jsonl", "--export"]) == 2
    assert "5 pairs that these files do not hold" in capsys.readouterr().err


@needs_browser
def test_the_page_in_a_browser(tmp_path: Path) -> None:
    asked = "Name **three** fruits."
    row = {"prompt": [{"role": "user", "content": asked}], "responses": [
        {"content": [{"role": "assistant", "content": text}]} for text in (HOSTILE, "1. Apples\n2. Pears", "Plums")
    ]}  # fmt: skip
    write(tmp_path / "candidates.jsonl", [row])
    with serving(tmp_path, "--criterion", "Be brief & <kind>.") as served, browser(tmp_path) as driver:

        def until(expected: str) -> None:
            WebDriverWait(driver, 10, 0.02).until(lambda _: driver.find_element(By.ID, "count").text == expected)

        def press(key: str, expected: str) -> None:
            driver.find_element(By.TAG_NAME, "body").send_keys(key)
            until(expected)

        driver.get(served.address)
        driver.find_element(By.ID, "name").send_keys("ann <b>\n")
        until("0 of 3")
        assert driver.find_element(By.ID, "criterion").text == "Be brief & <kind>."
        assert driver.find_element(By.CSS_SELECTOR, "#prompt-text strong").text == "three"
        texts = set()
        press("1", "1 of 3")
        press("u", "0 of 3")
        for number, key in enumerate("02b", start=1):
            texts |= {driver.find_element(By.ID, side).text for side in ("first", "second")}
            press(key, f"{number} of 3")
        assert driver.find_element(By.ID, "end").is_displayed()
        press("u", "2 of 3")
        driver.refresh()
        until("2 of 3")
        press("s", "3 of 3")
        (hostile,) = (text for text in texts if "script" in text)
        assert "<script>window.hacked=1</script>" in hostile and "[click](javascript:" in hostile
        assert "&lt;b&gt; bold \U0001f600" in hostile and r"\x1b[2J\u202e" in hostile
        assert driver.execute_script("return window.hacked") is None  # type: ignore[no-untyped-call]
        assert not driver.find_elements(By.CSS_SELECTOR, "a, img")
        requests = [json.loads(one["message"])["message"] for one in driver.get_log("performance")]
        sent = [one["params"] for one in requests if one["method"] == "Network.requestWillBeSent"]
        urls = [one["request"]["url"] for one in sent if one["documentURL"].startswith(served.address)]
        assert served.address + "click" in urls and all(url.startswith(served.address) for url in urls)
        assert errors_of(driver) == []
        driver.find_element(By.ID, "export").click()
        WebDriverWait(driver, 10, 0.02).until(lambda _: "written" in driver.find_element(By.ID, "error").text)
        assert served.request("GET", served.place.path)[0] == 200
        for path, more in (
            ("/x/", {}), (served.place.path, {"Host": f"evil.example:{served.place.port}"}),
            (served.place.path, {"Origin": "http://evil.example"}), (served.place.path, {"Origin": "null"}),
        ):  # fmt: skip
            assert served.request("POST", path + "next", {"person": "eve"}, **more)[0] in (403, 404)
        for body in ({"person": ""}, {"person": "a\n"}, {}, [], {"person": "x" * 81}, {"person": 3}):
            assert served.request("POST", served.place.path + "click", body)[0] == 400
    (example,) = read_feedback([tmp_path / "people.jsonl"]).examples
    assert Counter(vote.preferred for vote in example.votes) == {"tie": 1, "second": 1}
    assert {vote.annotator for vote in example.votes} == {"ann <b>"}


def pair(number: int, *more: str, comparisons: tuple[Comparison, ...] = ()) -> Example:
    texts = (f"a{number}", f"b{number}", *more)
    return Example(Prompt(f"{number}"), tuple(map(Response, texts)), comparisons)


@contextmanager
def clicks(folder: Path, examples: list[Example], gold: list[Example] | None = None, **more: Any) -> Iterator[Clicks]:
    settings = LabelSettings(data=("x",), output="x.jsonl", **more)
    made = Clicks(folder / "x.db", examples, gold or [], settings)
    yield made
    made.close()


def click(on: Clicks, person: str, verdict: str = "first") -> tuple[str, bool]:
    shown = on.next(person)
    assert shown is not None and on.add(person, on.counts[person], verdict)
    return shown[0].key, shown[1]


def test_gold_and_repeated_pairs_are_mixed_in_and_sides_are_random(tmp_path: Path) -> None:
    known = [pair(1000 + at, comparisons=(Comparison(0, 1),)) for at in range(50)]
    with clicks(tmp_path, [pair(at) for at in range(150)], known, gold_share=0.2, repeat_share=0.1) as on:
        seen = []
        while on.next("ann"):
            seen.append(click(on, "ann"))
        count = Counter(key for key, _ in seen)
        gold = sum(key in on.gold for key, _ in seen)
        again = [key for key, number in count.items() if number > 1]
        assert set(on.pairs) <= set(count) and max(count.values()) == 2 and not set(again) & set(on.gold)
        assert 0.14 < gold / len(seen) < 0.26 and 0.06 < len(again) / len(seen) < 0.14
        assert 0.4 < sum(swapped for _, swapped in seen) / len(seen) < 0.6
        places: dict[str, list[int]] = {}
        for at, (key, _) in enumerate(seen):
            places.setdefault(key, []).append(at)
        assert min(places[key][1] - places[key][0] for key in again) > 5
        (ann,) = on.progress("ann")["people"]
        right = sum(key in on.gold and not swapped for key, swapped in seen)
        same = sum(seen[places[key][0]][1] == seen[places[key][1]][1] for key in again)
        known = {"name": "ann", "judged": 150, "gold": gold, "right": right}
        assert ann == {**known, "again": len(again), "same": same}
        assert sum(len(one.votes) for one in on.examples()) == 150 + len(again)  # none of gold


def test_what_is_contested_or_in_doubt_comes_first_and_enough_people_are_enough(tmp_path: Path) -> None:
    sure = [pair(at, comparisons=(Comparison(0, 1, p),)) for at, p in enumerate((0.99, 0.6, 0.8, 1.0))]
    with clicks(tmp_path, sure, people=2, repeat_share=0.0) as on:
        order = [next(one for one in on.pairs if on.pairs[one].example is sure[at]) for at in (1, 2, 0, 3)]
        assert [click(on, "ann", "tie")[0] for _ in range(4)] == order
        assert on.next("ann") is None
        on.settings = on.settings.model_copy(update={"people": 3})
        assert [click(on, "bob", "tie")[0] for _ in range(3)] == order[:3]
        click(on, "bob", "neither")  # the last one is contested now
        assert click(on, "eve", "skip")[0] == order[3]
        assert click(on, "eve")[0] == order[0]
        on.settings = on.settings.model_copy(update={"people": 2})
        assert on.next("dan") is None  # two have compared each
        assert [one.comparisons for one in on.examples()] == [(), on.examples()[1].comparisons, (), ()]
        (comparison,) = on.examples()[1].comparisons
        assert comparison.probability == pytest.approx(2 / 3)  # two ties and one preference


def test_pairs_of_several_responses(tmp_path: Path) -> None:
    """On a ring each is shown twice; equal ones count once; what is decided may be left out, and is then kept."""
    many = pair(0, *"cdef", "a0")
    settings = LabelSettings(data=("x",), output="x.jsonl")
    found = pairs_of([many], settings)
    assert Counter(at for one in found for at in (one.one, one.other)) == dict.fromkeys(range(6), 2)
    assert len(pairs_of([many], LabelSettings(data=("x",), output="x.jsonl", pairs=100))) == 15
    assert found == pairs_of([many], settings)
    assert pairs_of([many], LabelSettings(data=("x",), output="x.jsonl", seed=1)) != found
    jury = pair(1, "c1", comparisons=(Comparison(2, 0, 0.9), Comparison(2, 1, 0.9)))
    with clicks(tmp_path, [jury, pair(2, comparisons=(Comparison(0, 1),))], undecided=True) as on:
        (one,) = on.pairs.values()
        assert (one.one, one.other) == (0, 1)
        swapped = click(on, "ann")[1]
        made = on.examples()
        vote = Vote(1, 0, "first", "ann") if swapped else Vote(0, 1, "first", "ann")
        assert made[0].votes == (vote,) and len(made[0].comparisons) == 3 and len(made) == 2
        assert isinstance(views.rankings(made[0]), views.Group)


def test_a_click_that_cannot_be_kept_does_not_count(tmp_path: Path) -> None:
    with clicks(tmp_path, [pair(0)]) as on:
        assert not on.add("ann", 0, "undo")
        on.rows.execute("PRAGMA query_only = ON")
        with pytest.raises(InputError, match=r"x\.db: the click cannot be kept"):
            on.add("ann", 0, "first")
        assert on.progress("ann")["done"] == 0 and on.examples() == []


@pytest.mark.parametrize(
    ("rejected", "more", "said"),
    [
        ("b", (), "no prompt has two different responses to compare"),
        ("c", ("--undecided",), "two different responses that nothing decides"),
        ("c", ("--gold", "candidates.jsonl"), "no pair has a known answer"),
        ("c", ("--output", "x.csv"), "give a name that ends in .jsonl"),
        ("c", ("--port", "PORT"), "give another --port"),
    ],
)
def test_what_is_refused_before_a_page_is_shown(
    rejected: str, more: tuple[str, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("candidates.jsonl").write_text(json.dumps({"prompt": "a", "chosen": "b", "rejected": rejected}))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        given = [one.replace("PORT", str(taken.getsockname()[1])) for one in more]
        assert run(["label", "candidates.jsonl", "--output", "x.jsonl", *given]) == 2
    assert said in capsys.readouterr().err


def test_without_its_extra_the_page_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "trueup.labelling.serving", raising=False)
    monkeypatch.delattr("trueup.labelling.serving", raising=False)
    monkeypatch.setitem(sys.modules, "starlette", None)
    assert run(["label", "x.jsonl", "--output", "y.jsonl"]) == 2
    assert "starlette, which is not installed: pip install 'trueup[labelling]'" in capsys.readouterr().err
