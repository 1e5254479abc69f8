"""Tables of any columns: `--columns` and `--values`, on the command line and in YAML."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from trueup.cli.app import run
from trueup.config.layers import flatten, nest, read_yaml
from trueup.errors import InputError
from trueup.feedback.read import read_feedback
from trueup.settings.command_settings import ConvertSettings
from trueup.settings.validation import SettingsError, validate

Captured = pytest.CaptureFixture[str]
Write = Callable[..., Path]

CHATS = ({"user_message": "hi", "bot_reply": "ho", "feedback": "Thumbs_Up", "label": 7},)
CHATS += ({"user_message": "hi", "bot_reply": "hu", "feedback": "thumbs_down"},)
COLUMNS = ("prompt=user_message", "response=bot_reply", "label=feedback")
VALUES = ("thumbs_up=true", "thumbs_down=false")

pytestmark = pytest.mark.usefixtures("here")


def converted(capsys: Captured, *arguments: str, code: int = 0) -> tuple[list[dict[str, object]], str]:
    assert run(["convert", *arguments, "--to", "canonical", "--output", "-"]) == code
    said = capsys.readouterr()
    return [json.loads(line) for line in said.out.splitlines()], said.err


def labels(rows: Sequence[dict[str, object]]) -> list[object]:
    return [one["responses"][0].get("label") for one in rows]  # type: ignore[index]


def test_a_table_is_read_by_its_columns_and_values(write: Write, capsys: Captured) -> None:
    write(*CHATS)
    rows, said = converted(capsys, "--columns", *COLUMNS, "--values", *VALUES, "data.jsonl")
    assert [(one["prompt"], one["responses"]) for one in rows] == [
        ("hi", [{"content": "ho", "label": 1.0}]),
        ("hi", [{"content": "hu", "label": 0.0}]),
    ]
    assert "label (the column of this name) (1 row)" in said


@pytest.mark.parametrize(
    ("columns", "row", "parts"),
    [
        (("prompt=q", "chosen=w", "rejected=l", "system=s"), {"q": "a", "w": "b", "l": "c", "s": "d"}, 2),
        (("prompt=q", "response=r", "score=stars"), {"q": "a", "r": "b", "stars": 4}, 1),
        (("messages=chat",), {"chat": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}, 1),
        (("conversations=chat",), {"chat": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}, 1),
    ],
)  # fmt: skip
def test_every_part_can_be_a_column(
    columns: Sequence[str], row: object, parts: int, write: Write, capsys: Captured
) -> None:
    write(row)
    rows, said = converted(capsys, "data.jsonl", *(f"--columns={one}" for one in columns))
    assert len(rows[0]["responses"]) == parts and "not used" not in said  # type: ignore[arg-type]


def test_what_stands_within_a_column_is_named_by_the_way_to_it(write: Write, capsys: Captured) -> None:
    ways = ("--columns", "prompt=request.text", "chosen=responses.1.text", "rejected=responses.0.text")
    write({"request": {"text": "hi"}, "responses": [{"text": "ho"}, {"text": "hu"}], "prompt": 1})
    rows, said = converted(capsys, "data.jsonl", *ways)
    assert (rows[0]["prompt"], rows[0]["responses"]) == ("hi", [{"content": "hu"}, {"content": "ho"}])
    assert "responses (the column of this name) (1 row)" in said
    write({"request": {"text": "hi"}, "responses": [{"text": "ho"}]})
    assert "chosen is to be read from 'responses.1.text', but" in converted(capsys, "data.jsonl", *ways, code=2)[1]


def test_a_score_can_be_a_word(write: Write, capsys: Captured) -> None:
    write(*({"q": "p", "r": one, "s": one} for one in ("good", "bad")))
    arguments = ("--columns", "prompt=q", "response=r", "score=s", "--values", "good=true", "bad=-1")
    rows, _ = converted(capsys, "data.jsonl", *arguments)
    assert [one["responses"][0]["score"] for one in rows] == [1.0, -1.0]  # type: ignore[index]


@pytest.mark.parametrize(
    ("values", "good", "bad"),
    [(("yes=true", "no=false"), "Yes", "no"), (("1=true", "-1=false"), 1, -1), (("up=1", "down=0"), "up ", "down")],
)
def test_opposites_of_labels(values: Sequence[str], good: object, bad: object, write: Write, capsys: Captured) -> None:
    made = [{"prompt": "p", "completion": "a", "label": one} for one in (good, bad, True)]
    write(*made)
    assert labels(converted(capsys, "data.jsonl", "--values", *values)[0]) == [1.0, 0.0, 1.0]
    text = "prompt,completion,label\n" + "".join(f"p,7,{one}\n" for one in (good, bad))
    write(name="data.csv", raw=text.encode())
    rows, _ = converted(capsys, "data.csv", "--values", *values)
    assert labels(rows) == [1.0, 0.0]
    assert rows[0]["responses"][0]["content"] == "7"  # type: ignore[index]


def test_a_csv_column_is_of_the_kind_that_it_is_called(write: Write, capsys: Captured) -> None:
    write(name="data.csv", raw=b"q,r,v\n1,02,up\n3,4.0,down\n")
    arguments = ("--columns", "prompt=q", "response=r", "label=v", "--values", "up=true", "down=false")
    rows, _ = converted(capsys, "data.csv", *arguments)
    assert [(one["prompt"], one["responses"][0]["content"]) for one in rows] == [("1", "02"), ("3", "4.0")]  # type: ignore[index]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--columns", "prompt=user_mesage"),
         "data.jsonl:1: columns: prompt is to be read from 'user_mesage', but the "),
        (("--columns", "promt=user_message"), "'promt' is none of prompt, response, "),
        (("--columns", "prompt=a", "prompt=b"), "'prompt' is given twice"),
        (("--columns", "prompt=a", "response=a"), "'a' is given twice"),
        (("--columns", "prompt"), "must say what a column is, as in prompt=user_message; got 'prompt'"),
        (("--values", "yes=good"), "must say which value is good, as in thumbs_up=true thumbs_down=false"),
        (("--values", "yes=true", "YES=false"), "'YES' is given twice, with two meanings"),
        (("--columns", *COLUMNS, "--values", "thumbs_up=true"),
         "data.jsonl:2: label: found text 'thumbs_down', of which values says nothing (it has thumbs_up)"),
        (("--columns", *COLUMNS), "as in --values thumbs_up=true thumbs_down=false"),
    ],
)  # fmt: skip
def test_what_a_table_does_not_have_is_refused(
    arguments: Sequence[str], says: str, write: Write, capsys: Captured
) -> None:
    write(*CHATS)
    assert says in converted(capsys, "data.jsonl", *arguments, code=2)[1]


@pytest.mark.parametrize("row", [{"unchosen": "a", "rejected": "b"}, {"chosen": "a", "not_rejected": "b"}])
def test_a_side_is_not_taken_for_its_opposite(row: dict[str, object], write: Write) -> None:
    with pytest.raises(InputError, match="no known layout") as caught:
        read_feedback([write({"prompt": "p", **row})])
    assert "did you mean" not in str(caught.value)


def test_yaml_says_the_same(write: Write) -> None:
    file = write(
        name="run.yaml",
        raw=b"columns: {prompt: user.text, label: feedback}\nvalues: {yes: true, -1: 0.5, n.a.: 0, No: 0}\n",
    )
    given = {"data": "a", "to": "trl", "output": "-"} | nest(flatten(read_yaml(file)[0]))
    settings = validate(ConvertSettings, given, where="trueup convert")
    assert settings.columns == ("prompt=user.text", "label=feedback")
    assert settings.values == ("yes=true", "-1=0.5", "n.a.=0", "No=0")
    assert validate(ConvertSettings, settings.model_dump(), where="trueup convert") == settings
    with pytest.raises(SettingsError, match="'promt=x': 'promt' is none of"):
        validate(ConvertSettings, given | {"columns": {"promt": "x"}}, where="trueup convert")


def test_training_and_inspecting_read_the_same_table(write: Write, capsys: Captured) -> None:
    write(*CHATS)
    write(name="run.yaml", raw=b"columns: {prompt: user_message, response: bot_reply, label: feedback}\n")
    more = ("--values", *VALUES)
    assert run(["inspect", "data.jsonl", "--columns", *COLUMNS, *more]) == 0
    assert "2 labelled responses" in capsys.readouterr().out
    arguments = ("--model", "world", "--data", "data.jsonl", "--output", "run", "--steps", "1", *more)
    assert run(["train", "ulma", "--config", "run.yaml", "--chat", "false", *arguments]) == 0
    assert "prompts with responses with a label, 2 rows" in capsys.readouterr().err
