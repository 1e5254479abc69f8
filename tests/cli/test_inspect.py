"""`trueup inspect` as a command: what it prints, in colour and without, its exit codes, what it refuses."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from support.faulty_feedback import pair, write
from support.tiny_models import CHATML, char_tokenizer, save_tiny_model

from trueup.cli.app import run

SOUND = [pair(f"say {n}:", f" it is {n}", f" not {n} at all") for n in range(6)]
WARNED = [*SOUND, pair("say:", " the same", " the same")]
NOTED = [{**row, "zebra": 1} for row in SOUND]
TORN = [*SOUND, '{"torn']
ESCAPE = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("COLUMNS", "FORCE_COLOR", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = save_tiny_model(
        tmp_path_factory.mktemp("models") / "model", tokenizer=char_tokenizer(chat_template=CHATML)
    )
    (folder / "model.safetensors").unlink()
    return str(folder)


Trueup = Callable[..., tuple[int, str, str]]


@pytest.fixture
def trueup(capsys: pytest.CaptureFixture[str]) -> Trueup:
    def call(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = run(["inspect", *map(str, arguments)])
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return code, said.out, said.err

    return call


CODES = {
    "sound": (SOUND, 0, 0),
    "a note": (NOTED, 0, 0),
    "a warning": (WARNED, 0, 2),
    "a judgement that is not used": ([{**row, "chosen_rating": 1} for row in SOUND], 0, 2),
    "a part of the request that is not used": ([{**row, "images": ["a"]} for row in SOUND], 0, 2),
    "an error": (TORN, 0, 2),
    "nothing left": ([pair(chosen="")], 2, 2),
}


@pytest.mark.parametrize("name", CODES)
@pytest.mark.parametrize("form", [(), ("--json",)], ids=["text", "json"])
def test_exit_codes(name: str, form: tuple[str, ...], trueup: Trueup, tmp_path: Path) -> None:
    rows, plain, strict = CODES[name]
    file = write(tmp_path / "data.jsonl", rows)
    for options, expected in (((), plain), (("--strict",), strict)):
        code, out, err = trueup(file, *options, *form)
        assert code == expected
        assert str(file) in out
        assert err.startswith("trueup: ") == bool(expected)


def test_the_last_line_counts(trueup: Trueup, tmp_path: Path) -> None:
    _, _, err = trueup(write(tmp_path / "data.jsonl", [*WARNED, "{torn"]), "--strict")
    assert err == "trueup: 1 error and 1 warning; all are listed above\n"


def test_a_file_that_is_not_there(trueup: Trueup, tmp_path: Path) -> None:
    assert trueup(tmp_path / "none.jsonl") == (2, "", f"trueup: {tmp_path / 'none.jsonl'}: no such file\n")
    file = write(tmp_path / "data.jsonl", SOUND)
    for between in ((), ("--eval-data",)):
        code, out, err = trueup(file, *between, tmp_path / "none.jsonl")
        assert (code, err) == (2, "trueup: 1 error and 0 warnings; all are listed above\n")
        assert "none.jsonl: no such file" in out and "TRL pairs, 6 rows" in out


def test_json_also_where_no_file_can_be_read(trueup: Trueup, model: str, tmp_path: Path) -> None:
    missing = tmp_path / "none.jsonl"
    for options in ((), ("--model", model), ("--model", model, "--row", "3")):
        code, out, err = trueup(missing, "--json", *options)
        made = json.loads(out)
        assert (code, err) == (2, "trueup: 1 error and 0 warnings; all are listed above\n")
        (problem,) = made["problems"]
        assert (problem["kind"], problem["part"]) == ("unreadable-file", "training")
        assert problem["details"] == [f"{missing}: no such file"]
        assert made["files"] == made["shown"] == [] and made["lengths"] is None
        assert made["views"]["pairs"] == {"units": 0, "examples": 0, "discarded": {}}


FAULTS = [
    *SOUND[:3],
    *(pair(f"empty {n}:", "") for n in range(7)),
    *({**pair(f"odd {n}:"), "a key": 1, "system_prompt": "be kind"} for n in range(25)),
    *WARNED[-1:],
    "{torn",
]


@pytest.mark.parametrize("width", [80, 60, 25])
@pytest.mark.parametrize("held_out", [False, True])
def test_places_are_true_at_every_width(
    held_out: bool, width: int, trueup: Trueup, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read back from the screen: every row that is named has the fault, and no name or number is broken."""
    files = [tmp_path / "one/pairs of ann-and-bo.jsonl", tmp_path / "two/pairs of ann-and-bo.jsonl"]
    for number, file in enumerate(files):
        file.parent.mkdir()
        write(file, [*SOUND[: 2 * number], *FAULTS])
    given = [files[0], "--eval-data", files[1]] if held_out else files
    given += ["--model", model, "--max-length", "30", "--show", "0"]
    _, out, _ = trueup(*given, "--json")
    problems = json.loads(out)["problems"]
    monkeypatch.setenv("COLUMNS", str(width))
    _, out, _ = trueup(*given)
    section = out.partition("\nProblems\n")[2].partition("\n\n")[0]
    blocks = re.split(r"^  (?=(?:error|warning|note): )", section, flags=re.MULTILINE)[1:]
    assert len(blocks) == len(problems) > 5
    for block, problem in zip(blocks, problems, strict=True):
        said = " ".join(block.split())
        head = f"{problem['severity']}: {problem['what']}"
        assert said.startswith(head) and said.endswith("-> " + problem["remedy"])
        of_part = f"of the {problem['part']} data)" if problem["rows"] else f"({problem['part']} data)"
        assert (of_part in said) == (held_out and problem["part"] is not None)
        for name, rows in problem["rows"].items():
            if len(rows) == 1:
                assert f" {name}:{rows[0]} " in said
                continue
            first = ", ".join(map(str, rows[:5]))
            more = f", and {len(rows) - 5} more (--json lists all) " if len(rows) > 5 else " "
            assert f" {name}: rows {first}{more}" in said
        for line in block.splitlines():
            assert len(line) <= width or str(tmp_path) in line or len(line.split()) == 1


def test_names_are_short_where_no_other_is_alike(trueup: Trueup, tmp_path: Path) -> None:
    _, out, _ = trueup(write(tmp_path / "data.jsonl", WARNED))
    assert "    data.jsonl:7\n" in out and "of the training data" not in out


def test_every_malformed_row_up_to_twenty(trueup: Trueup, tmp_path: Path) -> None:
    code, out, _ = trueup(write(tmp_path / "data.jsonl", [*SOUND, *['{"torn'] * 25]))
    assert code == 0
    listed = re.findall(r"^  .*data\.jsonl:([0-9]+):[0-9]+: not JSON", out, re.MULTILINE)
    assert listed == [str(row) for row in range(7, 27)]
    assert "  and 5 more (--json lists all)\n" in out


def test_plain_where_there_is_no_terminal(trueup: Trueup, model: str, tmp_path: Path) -> None:
    code, out, _ = trueup(write(tmp_path / "data.jsonl", WARNED), "--model", model, "--show", 1, "--ids")
    assert code == 0
    assert "\x1b" not in out and out.isascii()
    assert "  prompt (7): <bos><1>|s<24>|a<6>|y<30>| <" in out
    assert re.search(r"scored \(9\):  <[0-9]+>\|i<14>\|t<25>.*<eos><2>\n", out)
    assert max(map(len, out.splitlines())) <= 130


def test_colours_tell_prompt_scored_and_masked_apart(
    trueup: Trueup, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = [("user", "ask"), ("assistant", "look"), ("tool", "seven"), ("assistant", "it is")]
    row = {"messages": [{"role": role, "content": text} for role, text in turns]}
    file = write(tmp_path / "data.jsonl", [row])
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    _, out, _ = trueup(file, "--model", model)
    lines = [line for line in out.splitlines() if re.search(r"(prompt|scored|masked) \([0-9]+", line)]
    assert [ESCAPE.sub("", line).split()[0] for line in lines] == ["prompt", "scored", "masked", "scored"]
    painted = [re.findall(r"\x1b\[([0-9;]*)m([^\x1b|]+)\x1b", line) for line in lines]
    colours = [{colour for colour, text in tokens if text != "|"} for tokens in painted]
    assert all(len(one) == 1 for one in colours)
    assert colours[1] == colours[3] and len({*colours[0], *colours[1], *colours[2]}) == 3
    assert "".join(text for _, text in painted[2]).endswith("assistant\\n")
    monkeypatch.setenv("NO_COLOR", "1")
    _, bare, _ = trueup(file, "--model", model)
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", bare)
    assert ESCAPE.sub("", bare) == ESCAPE.sub("", out)


def test_json_is_all_there_is_on_standard_output(trueup: Trueup, model: str, tmp_path: Path) -> None:
    file = write(tmp_path / "data.jsonl", [*WARNED, "{torn", {"prompt": "q:", "chosen": "", "rejected": "x"}])
    held_out = write(tmp_path / "held_out.jsonl", [pair("say 1:"), pair("other:")])
    options = ("--model", model, "--chat", "false", "--json", "--row", "7")
    code, out, _ = trueup(file, "--eval-data", held_out, *options)
    assert code == 0
    made = json.loads(out)
    assert [(one["path"], one["part"], one["rows"], one["examples"]) for one in made["files"]] == [
        (str(file), "training", 9, 7),
        (str(held_out), "evaluation", 2, 2),
    ]
    assert made["views"]["pairs"] == {"units": 6, "examples": 6, "discarded": {"identical pair": 1}}
    assert {name: seen["units"] for name, seen in made["views"].items()} == {
        "pairs": 6, "rankings": 6, "points": 12, "demonstrations": 6,
    }  # fmt: skip
    assert made["lengths"]["unit"] == "tokens" and made["lengths"]["chosen"]["count"] == 6
    assert list(made["lengths"]["chosen"]["quantiles"]) == ["0.05", "0.25", "0.5", "0.75", "0.95"]
    assert made["longer_chosen"] == {"pairs": 6, "longer": 0, "equal": 0}
    assert made["labels"] is made["scores"] is None
    assert made["overlap"] == [{"evaluation": f"{held_out}:1", "training": [f"{file}:2"]}]
    assert made["tokens"] == {
        "model": model, "max_length": 512, "max_prompt_length": None, "turns": "last",
        "template_date": None, "end_ids": [2], "examples": 9, "left_out": 0, "prompts_cut": 0,
        "responses": 18, "responses_cut": 0,
    }  # fmt: skip
    problems = {one["kind"]: one for one in made["problems"]}
    assert list(problems) == ["malformed-row", "unusable-row", "identical-responses", "prompt-overlap"]
    assert problems["identical-responses"]["rows"] == {str(file): [7]}
    assert problems["malformed-row"]["details"][0].startswith(f"{file}:8:2: not JSON")
    (shown,) = made["shown"]
    assert shown["origin"] == f"{file}:7" and "".join(shown["prompt"]["texts"]) == "<bos>say:"
    assert [one["said"] for one in shown["responses"]] == ["nothing said"] * 2
    assert {run["role"] for one in shown["responses"] for run in one["runs"]} == {"scored"}


def test_json_without_a_model(trueup: Trueup, tmp_path: Path) -> None:
    _, out, err = trueup(write(tmp_path / "data.jsonl", SOUND), "--json")
    made = json.loads(out)
    assert (made["tokens"], made["shown"], made["problems"], err) == (None, [], [], "")
    assert made["lengths"]["unit"] == "characters"


@pytest.mark.parametrize(
    "option",
    [
        *(("--max-length", "9"), ("--max-prompt-length", "9"), ("--turns", "all"), ("--eos-token", "x")),
        *(("--chat-template", "x"), ("--trust-remote-code",), ("--show", "0"), ("--row", "1"), ("--ids",)),
    ],
)
def test_options_about_tokens_need_a_model(option: tuple[str, ...], trueup: Trueup, tmp_path: Path) -> None:
    code, out, err = trueup(write(tmp_path / "data.jsonl", SOUND), *option)
    assert (code, out) == (2, "")
    assert err == f"trueup: {option[0]} is about tokens; give the folder of a model with --model\n"


def test_turns_as_in_training(trueup: Trueup, model: str, tmp_path: Path) -> None:
    turns = [("user", "ask"), ("assistant", "first"), ("user", "more"), ("assistant", "second")]
    row = {"messages": [{"role": role, "content": text} for role, text in turns]}
    file = write(tmp_path / "data.jsonl", [row])
    scored = {}
    for choice in ("last", "all"):
        _, out, _ = trueup(file, "--model", model, "--turns", choice, "--json")
        runs = json.loads(out)["shown"][0]["responses"][0]["runs"]
        scored[choice] = ["".join(run["texts"]) for run in runs if run["role"] == "scored"]
    assert [text.partition("<")[0] for text in scored["last"]] == ["second"]
    assert [text.partition("<")[0] for text in scored["all"]] == ["first", "second"]
    _, out, _ = trueup(file, "--model", model, "--turns", "all")
    assert "earlier turns of the assistant are learned in 1 of 1 example" in out


def test_hostile_text_cannot_steer_the_terminal(trueup: Trueup, model: str, tmp_path: Path) -> None:
    evil = "\x1b[31mred\x1b]0;title\x07[bold]"
    rows = [pair(evil, evil + " a", evil + " b"), {**pair(), evil: 1}, pair(chosen=[evil])]
    _, out, _ = trueup(write(tmp_path / "data.jsonl", rows), "--model", model)
    assert "\x1b" not in out and "\x07" not in out
    assert "[|b|o|l|d|]" in out
