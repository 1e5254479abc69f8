"""What happens to runs: kills, damage, changes between sittings, full disks, faulty judges."""

import json
import shutil
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from itertools import chain, zip_longest
from pathlib import Path
from random import Random
from typing import Any

import texts
from support import broken_runs, small_runs
from support.faulty_server import FaultyServer, Reply
from support.judge_answers import Until, first_with, said, variety
from support.judged_runs import judged
from support.malformed_rows import with_accidents
from support.online_runs import online, write_reward
from support.small_runs import command, is_done, metrics_of, model_bytes, options, settings
from support.tiny_models import save_tiny_model
from support.virtual_time import VirtualTime
from training import test_online, test_resume, test_sealed
from training.test_save_faults import full_disk

from trueup.endpoints import client
from trueup.training import api, loop

Base = dict[str, Any]


def _configurations() -> list[tuple[str, str, dict[str, Any], bool]]:
    """Name, method, settings, and whether it is online; every method once before one comes again."""
    of: dict[str, list[tuple[str, str, dict[str, Any], bool]]] = defaultdict(list)
    for name, places in test_resume.APPLIES.items():
        method, chosen = test_resume.variant(name)
        for reference, weights in places:
            more = chosen | test_resume.REFERENCES[reference]
            more |= test_resume.LORA if weights == "lora" else {}
            more |= {"epochs": None, "steps": 6, "batch_size": 5, "save_every": 2, "eval_every": 4}
            more["eval_fraction"] = 0.2
            of[method].append((f"{name}-{reference}-{weights}", method, more, False))
    for name, (method, more) in test_online.CASES.items():
        of[f"{method} online"].append((f"online-{name}", method, dict(more), True))
    return [one for one in chain.from_iterable(zip_longest(*of.values())) if one]


CONFIGURATIONS = _configurations()


def model_alone(base: Path) -> Path:
    """A model, feedback of every kind, and a reward; whole runs come to it as they are needed."""
    save_tiny_model(base / "model")
    small_runs.write_feedback(base)
    write_reward(base)
    return base


def kill(base: Path, folder: Path, chance: Random, number: int) -> tuple[str, str]:
    """SIGKILL at a random moment and once more after a resume, or at random operations on files (in the middle of a
    write too): every method, offline and online, with each reference, for all weights and adapters. The model, metrics
    and rounds of the resumed run are those of an uninterrupted one, bit for bit."""
    name, method, more, is_online = CONFIGURATIONS[number % len(CONFIGURATIONS)]
    data = {kind: base / f"{kind}.jsonl" for kind in small_runs.KIND.values()}

    def values(output: Path) -> dict[str, Any]:
        if is_online:
            return online(base / "model", base, output, **more)
        return settings(method, base / "model", data, output, **more)

    expected, output, moment = base / name, folder / "run", chance.random() < 0.5
    if not expected.exists():
        code, text = texts.sitting(lambda: small_runs.run_here(method, values(expected)) and None)
        assert code == 0, f"{name}: {text}"
    if moment:

        def twice() -> None:
            small_runs.killed_and_resumed(method, values(output), chance, (0, 3), (3, 5))

        code, text = texts.sitting(twice)
        assert code == 0, f"{name}, killed at random moments: {text[-800:]}"
    for at in () if moment else (int(2 ** chance.uniform(0, 8)), chance.randint(1, 60), 0):

        def body(at: int = at) -> None:
            broken_runs.die_at(at)
            if (output / "run.yaml").exists():
                api.resume(output, quiet=True)
            else:
                small_runs.run_here(method, values(output))

        code, text = texts.sitting(body)
        assert code in (0, -9), f"{name}, killed at operation {at}: {text[-800:]}"
        if is_done(output):
            break
    assert model_bytes(output) == model_bytes(expected) != {}, f"{name}: other weights"
    assert metrics_of(output) == metrics_of(expected), f"{name}: other metrics"
    for file in ("examples.jsonl", "rounds.jsonl") if is_online else ():
        assert (output / file).read_bytes() == (expected / file).read_bytes(), f"{name}: another {file}"
    return name, f"killed at random {'moments' if moment else 'operations'} and resumed to the same bits"


def broken_off(base: Path) -> dict[str, Base]:
    """An offline and an online run that were broken off, with all they need, and what they would have come to."""
    made: dict[str, Base] = {}
    for name, write in (("offline", test_sealed.offline_run), ("online", test_sealed.online_run)):
        place = base / name
        place.mkdir()
        method, values = write(place)
        small_runs.run_here(method, {**values, "output": str(base / f"{name}-whole")})
        small_runs.break_off(method, values, before_step=8 if name == "offline" else 4)
        made[name] = {"method": method, "values": values, "place": place, "whole": base / f"{name}-whole"}
    return made


def _goes_on_or_says_why(run: Base, change: Callable[[Path], object], what: str) -> str:
    """Resume a run after a change to the folder of all it is and uses, which is put back afterwards."""
    place, kept = run["place"], run["place"].with_name("kept")
    shutil.copytree(place, kept)
    try:
        change(place)
        code, text = texts.sitting(lambda: command("train", run["method"], "--resume", place / "run"))
        if texts.ended(code, text, what) == "refused in one line":
            return "refused in one line"
        assert model_bytes(place / "run") == model_bytes(run["whole"]), f"{what}: other weights, unsaid"
        return "gone on to the same bits"
    finally:
        shutil.rmtree(place)
        kept.rename(place)


def _damaged(run: Base, chance: Random, chosen: Callable[[tuple[str, ...]], bool]) -> tuple[str, str]:
    """One of the files below the run's place whose path is chosen is damaged."""
    place, how = run["place"], chance.choice(sorted(texts.DAMAGE))
    files = [path for path in place.rglob("*") if path.is_file() and chosen(path.relative_to(place).parts)]
    file = chance.choice(sorted(files))
    name = str(file.relative_to(place))
    return name, _goes_on_or_says_why(run, lambda _: texts.DAMAGE[how](file, chance), f"{name}, {how}")


def damage(made: dict[str, Base], folder: Path, chance: Random, number: int) -> tuple[str, str]:
    """A file of a run that was broken off has a bit flipped, some bytes overwritten, or is cut, emptied or removed.
    That is refused in one line, or without effect on any bit of the model."""
    run = made[chance.choice(("offline", "offline", "online"))]
    return _damaged(run, chance, lambda parts: parts[0] == "run")


UNUSED = (
    "run",
    "asked.txt",
    "rankings.jsonl",
    "points.jsonl",
    "mixed.jsonl",
    "demonstrations.jsonl",
    "__pycache__",
)
KNOWN = [
    (kind, name, test_sealed.in_checkpoint(act) if table is test_sealed.FOREIGN else act)
    for kind, table in (
        ("offline", test_sealed.CHANGES), ("online", test_sealed.GATHERED), ("offline", test_sealed.FOREIGN),
    )
    for name, (act, _) in table.items()
]  # fmt: skip


def change(made: dict[str, Base], folder: Path, chance: Random, number: int) -> tuple[str, str]:
    """An input is changed between two sittings: what is in the tables of tests/training/test_sealed.py, then random
    damage to models, tokenizers, data, prompts and reward functions. It is refused, or without effect on any bit."""
    if number < len(KNOWN):
        kind, name, act = KNOWN[number]
        return name, _goes_on_or_says_why(made[kind], act, name)
    run = made[chance.choice(("offline", "online"))]
    return _damaged(run, chance, lambda parts: parts[0] not in UNUSED and "checkpoints" not in parts)


def fill(made: dict[str, Base], folder: Path, chance: Random, number: int) -> tuple[str, str]:
    """From a random step on no file may pass a random size, or a file system of a random size runs full. The run
    says so in one line and, once there is room, goes on to the same bits."""
    run, output, small, at = made["offline"], folder / "run", folder / "small", chance.randint(1, 12)
    room, size, other = int(10 ** chance.uniform(1, 5.3)), chance.randint(500, 4000), chance.randint(0, 4000)
    kind = "small file systems" if number % 2 else "limits of a file's size"
    what = f"step {at}, " + (f"{size}k, other {other}k" if number % 2 else f"room {room}")

    def train(output: Path) -> int:
        return command("train", run["method"], *options({**run["values"], "output": str(output)}))

    def with_limit() -> int:
        with full_disk(loop, "train_step", lambda *_, step, **__: step == at, room):
            return train(output)

    def take(_: Any) -> None:
        with suppress(OSError), open(small / "other", "wb", buffering=0) as file:
            file.write(bytes(1000 * other))

    def with_file_system() -> int:
        small.mkdir()
        if not broken_runs.mount_small(small, f"{size}k"):
            return 77
        with small_runs.at_step(at, take):
            code = train(small / "run")
        if (small / "run").exists():
            shutil.copytree(small / "run", output)
        return code

    code, text = texts.sitting(with_file_system if number % 2 else with_limit)
    if code == 77:
        return kind, "not tried: this user may not mount"
    outcome = texts.ended(code, text, what)
    if not (output / "run.yaml").exists():
        assert code, f"{what}: done, and no run"
        return kind, "refused in one line before it began"
    if not is_done(output):
        assert code, f"{what}: not done, and nothing said: {text}"
        code, text = texts.sitting(lambda: command("train", run["method"], "--resume", output))
        assert code == 0, f"{what}: not resumed: {text}"
        outcome = "stopped with one line and resumed to the same bits"
    assert model_bytes(output) == model_bytes(run["whole"]), f"{what}: other weights"
    return kind, outcome


JUDGED = {"annotator.cache": "false"}


def judged_run(base: Path) -> Path:
    """A model and prompts, and the run that a sound judge gives."""
    save_tiny_model(base / "model")
    client.Clock = lambda: VirtualTime().clock  # no pause takes time
    with FaultyServer(variety) as server:
        command("train", "oaif", *options(judged(base / "model", base, base / "whole", server.url, **JUDGED)))
    return base


SOUND = json.dumps(said("1")).encode()
AFTER = ("0", "1", "x", "1e99", "-1", "")
STATUS = (301, 307, 401, 403, 404, 405, 408, 409, 429, 500, 502, 503, 504, 529)
FAULTS: dict[str, Callable[[Random], Reply]] = {
    "reset": lambda _: Reply(close=True),
    "cut": lambda chance: Reply(body=SOUND, cut=chance.randrange(len(SOUND))),
    "bytes": lambda chance: Reply(body=chance.randbytes(chance.randrange(200))),
    "status": lambda chance: Reply(
        chance.choice(STATUS), with_accidents(said("1"), chance), {"Retry-After": chance.choice(AFTER)}
    ),
    "JSON": lambda chance: Reply(body=with_accidents(chance.choice((said("1"), first_with(0.7))), chance)),
}


def misjudge(base: Path, folder: Path, chance: Random, number: int) -> tuple[str, str]:
    """After some sound answers an endpoint on loopback resets, cuts, refuses, or sends bytes or JSON that are no
    judge's. Once it is mended the run goes on; to the same bits, but where a wrong answer could be read as one."""
    kind, output = sorted(FAULTS)[number % len(FAULTS)], folder / "run"
    with FaultyServer(Until(chance.randrange(60), lambda _: FAULTS[kind](chance))) as server:
        arguments: tuple[object, ...] = (*options(judged(base / "model", base, output, server.url, **JUDGED)),)
        outcome = texts.ended(*texts.sitting(lambda: command("train", "oaif", *arguments)), kind)
        if outcome != "ended well":
            server.answers = variety
            if (output / "run.yaml").exists():
                arguments = ("--resume", output)
            code, text = texts.sitting(lambda: command("train", "oaif", *arguments))
            assert code == 0, f"{kind}, mended: {text}"
            outcome = "stopped with one line and resumed"
    same = model_bytes(output) == model_bytes(base / "whole")
    assert same or kind == "JSON", f"{kind}: other weights"
    return kind, f"{outcome}{', to the same bits' if same else ''}"
