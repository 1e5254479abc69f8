"""`trueup export`: runs, checkpoints and folders as models for other programs."""

import base64
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import torch
from huggingface_hub import constants, hf_api, repocard
from peft import PeftModel
from safetensors.torch import load_file
from support.small_runs import KIND, at_step, break_off, command, run_here, settings, write_feedback
from transformers import AutoModelForCausalLM

from trueup.models.reward import load_reward
from trueup.models.tokenizer import quiet_library

Captured = pytest.CaptureFixture[str]
IDS = torch.tensor([[4, 9, 11, 6]])
LORA = {"lora.rank": 4}


@pytest.fixture(scope="module")
def runs(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Finished runs of 12 steps, by name, saved at every third and the last two kept; one is broken off in step 8."""
    folder = tmp_path_factory.mktemp("exported")
    data = write_feedback(folder)
    made = {name: folder / name for name in ("full", "lora", "reward-model", "ca", "broken")}
    more = {"lora": LORA, "reward-model": LORA, "ca": {"keep_checkpoints": 9}}
    for name, output in made.items():
        method = name if name in KIND else "dpo"
        values = settings(method, tiny_model, data, output, **more.get(name, {}))
        if name == "broken":
            break_off(method, values, before_step=8)
        else:
            run_here(method, values)
    return made


def export(capsys: Captured, *arguments: object) -> tuple[int, str]:
    code = command("export", *arguments)
    said = capsys.readouterr()
    return code, said.out + said.err


def weights(folder: Path) -> dict[str, torch.Tensor]:
    (file,) = folder.glob("*.safetensors")
    return load_file(file)


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def logits(network: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = network.eval()(IDS).logits
    return found


@pytest.mark.parametrize("name", ["full", "lora", "reward-model", "ca"])
def test_the_model_of_a_finished_run(name: str, runs: dict[str, Path], tmp_path: Path, capsys: Captured) -> None:
    """Weights, card, condition and scores as they are."""
    code, said = export(capsys, runs[name], "--output", tmp_path / "model")
    assert code == 0, said
    before, after = runs[name] / "model", tmp_path / "model"
    assert same(weights(after), weights(before))
    assert {path.name for path in after.iterdir()} == {path.name for path in before.iterdir()}
    for kept in ("README.md", "condition.json", "reward.json", "tokenizer.json"):
        assert not (before / kept).exists() or (after / kept).read_bytes() == (before / kept).read_bytes()
    assert "read again and found to be what was to be written" in said
    assert "vLLM:   vllm serve " in said


@pytest.mark.parametrize(("source", "step"), [("full", "9"), ("broken", "6"), ("broken", None)])
def test_a_checkpoint_of_a_run(
    source: str, step: str | None, runs: dict[str, Path], tmp_path: Path, capsys: Captured
) -> None:
    """By its step, by its folder, and the newest of a run that is not done."""
    saved = runs[source] / "checkpoints" / f"step-{int(step or 6):08d}"
    expected = load_file(saved / "policy.safetensors")
    given = [[runs[source]] if step is None else [runs[source], "--step", step], [saved]]
    for number, arguments in enumerate(given):
        output = tmp_path / str(number)
        code, said = export(capsys, *arguments, "--output", output)
        assert code == 0, said
        found = AutoModelForCausalLM.from_pretrained(output)
        assert all(torch.equal(value, expected[name]) for name, value in found.named_parameters())
        assert f"step {step or 6} of" in (output / "README.md").read_text()


def test_a_merged_adapter_is_pefts_merge(
    runs: dict[str, Path], tiny_model: Path, tmp_path: Path, capsys: Captured
) -> None:
    with quiet_library():
        base = AutoModelForCausalLM.from_pretrained(tiny_model)
        adapted = PeftModel.from_pretrained(base, runs["lora"] / "model")
    assert export(capsys, runs["lora"], "--merge", "--output", tmp_path / "merged")[0] == 0
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    torch.testing.assert_close(logits(merged), logits(adapted), atol=1e-5, rtol=1e-5)
    assert torch.equal(logits(merged), logits(adapted.merge_and_unload()))
    card = (tmp_path / "merged" / "README.md").read_text()
    assert "library_name: transformers" in card and "from transformers import AutoModelForCausalLM as" in card


def test_a_merged_reward_model_scores_as_its_adapter(runs: dict[str, Path], tmp_path: Path, capsys: Captured) -> None:
    assert export(capsys, runs["reward-model"], "--merge", "--output", tmp_path / "merged")[0] == 0
    cpu = torch.device("cpu")
    before = load_reward(str(runs["reward-model"] / "model"), device=cpu).network
    after = load_reward(str(tmp_path / "merged"), device=cpu).network
    torch.testing.assert_close(logits(after), logits(before), atol=1e-5, rtol=1e-5)


def test_weights_are_cast(runs: dict[str, Path], tmp_path: Path, capsys: Captured) -> None:
    assert export(capsys, runs["full"], "--dtype", "bfloat16", "--output", tmp_path / "half")[0] == 0
    expected = {name: value.bfloat16() for name, value in weights(runs["full"] / "model").items()}
    assert same(weights(tmp_path / "half"), expected)
    assert json.loads((tmp_path / "half" / "config.json").read_text())["dtype"] == "bfloat16"
    assert export(capsys, tmp_path / "half", "--output", tmp_path / "again")[0] == 0
    assert same(weights(tmp_path / "again"), expected)  # as they are


def test_what_an_adapter_stands_on(runs: dict[str, Path], tiny_model: Path, tmp_path: Path, capsys: Captured) -> None:
    for base, expected in ((None, str(tiny_model.resolve())), ("ann/base", "ann/base")):
        output = tmp_path / str(base).replace("/", "-")
        options = [] if base is None else ["--base", base]
        assert export(capsys, runs["lora"], *options, "--output", output)[0] == 0
        assert json.loads((output / "adapter_config.json").read_text())["base_model_name_or_path"] == expected


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("full", ["--merge"], "it is no adapter, so there is nothing to merge"),
        ("full", ["--base", "x/y"], "--base says what an adapter stands on"),
        ("lora", ["--merge", "--base", "x/y"], "--base says what an adapter stands on"),
        ("full", ["--step", "4"], "there is no checkpoint of step 4; there are those of 9, 12"),
        ("full/model", ["--step", "4"], "is not the folder of a run, so it has no steps"),
        ("full/checkpoints/step-00000009", ["--step", "9"], "is a checkpoint, and --step names another"),
        ("full", ["--public"], "--public is about the hub; give --push OWNER/NAME"),
        ("full", ["--push", "model"], "--push 'model' is no name on the hub; give OWNER/NAME"),
        ("full", ["--push", "ann/model"], "--push ann/model: the hub is switched off; unset HF_HUB_OFFLINE"),
        ("absent", [], "absent"),
    ],
)
def test_what_cannot_be_is_refused(
    name: str, arguments: list[str], said: str, runs: dict[str, Path], tmp_path: Path,
    capsys: Captured,
) -> None:  # fmt: skip
    code, line = export(capsys, runs["full"].parent / name, *arguments, "--output", tmp_path / "model")
    assert (code, line.count("\n")) == (2, 1)
    assert said in line
    assert not (tmp_path / "model").exists()


def test_nothing_is_overwritten(runs: dict[str, Path], tmp_path: Path, capsys: Captured) -> None:
    code, said = export(capsys, runs["full"], "--output", tmp_path)
    assert (code, "the folder is there already" in said) == (2, True)


def test_a_damaged_checkpoint_is_refused(tiny_model: Path, tmp_path: Path, capsys: Captured) -> None:
    values = settings("dpo", tiny_model, write_feedback(tmp_path), tmp_path / "run")
    with at_step(99, print):
        run_here("dpo", values)
    file = tmp_path / "run" / "checkpoints" / "step-00000009" / "policy.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    code, said = export(capsys, tmp_path / "run", "--step", 9, "--output", tmp_path / "model")
    assert (code, "policy.safetensors does not match its checksum" in said) == (4, True)


class Uploads:
    """As much of a hub as takes a folder: what was asked for, and the files that came."""

    def __init__(self, status: int = 200) -> None:
        self.status = status
        self.created: dict[str, Any] = {}
        self.files: dict[str, bytes] = {}
        self.tokens: set[str] = set()
        self.address = ""

    def handler(hub) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                hub.tokens.add(self.headers.get("Authorization", ""))
                answer: dict[str, Any] = {}
                if self.path == "/api/repos/create":
                    hub.created = json.loads(body)
                    answer = {"url": f"{hub.address}/{hub.created['organization']}/{hub.created['name']}"}
                elif self.path == "/api/validate-yaml":  # as the hub does
                    if "base_model: /" in json.loads(body)["content"]:
                        self.reply({"errors": [{"message": "base_model is no id"}]}, 400)
                        return
                elif "/preupload/" in self.path:
                    names = [one["path"] for one in json.loads(body)["files"]]
                    answer = {
                        "files": [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names]
                    }
                elif "/commit/" in self.path:
                    for line in map(json.loads, body.splitlines()):
                        if line["key"] == "file":
                            hub.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
                    answer = {
                        "commitUrl": f"{hub.address}/ann/model/commit/1",
                        "commitOid": "1",
                        "pullRequestUrl": None,
                    }
                self.reply(answer)

            def do_GET(self) -> None:
                self.reply({"sha": "1", "siblings": [], "id": "ann/model"})

            def reply(self, answer: dict[str, Any], status: int | None = None) -> None:
                content = json.dumps(answer).encode()
                self.send_response(status or hub.status or 200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        return Handler

    def running(self) -> Iterator[str]:
        with ThreadingHTTPServer(("127.0.0.1", 0), self.handler()) as server:
            Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
            self.address = f"http://127.0.0.1:{server.server_port}"
            yield self.address
            server.shutdown()


@pytest.mark.parametrize(
    ("name", "more", "status", "said"),
    [
        ("full", [], 200, ""),
        ("lora", ["--base", "ann/base"], 200, ""),
        ("lora", [], 200, "which nobody finds from the hub. Give its base model there, as in --base OWNER/NAME, or"),
        ("full", [], 401, "--push ann/model: the hub refuses it: "),
        ("full", [], 0, "--push ann/model: the hub cannot be reached: "),
    ],
)  # fmt: skip
def test_a_folder_is_put_on_the_hub(
    name: str, more: list[str], status: int, said: str, runs: dict[str, Path], tmp_path: Path,
    capsys: Captured, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Privately, with the user's token, which is said nowhere; a hub that does not take it is one line."""
    hub = Uploads(status)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for address in hub.running():
        place = address if status else "http://ann:hf_secret@127.0.0.1:9"
        for module in (constants, hf_api, repocard):
            if hasattr(module, "ENDPOINT"):
                monkeypatch.setattr(module, "ENDPOINT", place)
        code, told = export(capsys, runs[name], "--output", tmp_path / "model", "--push", "ann/model", *more)
    assert "hf_secret" not in told and "Traceback" not in told
    if said:
        assert (code, said in told.splitlines()[-1]) == (2, True), told
        return
    assert code == 0, told
    assert hub.tokens == {"Bearer hf_secret"}
    made = {key: hub.created[key] for key in ("name", "organization", "visibility")}
    assert made == {"name": "model", "organization": "ann", "visibility": "private"}
    assert hub.files == {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()}
    assert (b"base_model: ann/base\n" in hub.files["README.md"]) == (name == "lora")
    assert "ann/model is on the hub (private)" in told
