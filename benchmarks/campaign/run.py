"""Everything that may happen to a run, its files and what it reads, at random; docs/reliability.md shows the counts.

    make campaign SECONDS=600 SEED=1                                        # every part, then the page
    python benchmarks/campaign/run.py --parts readers --first 217 --count 1    # one case again
    python benchmarks/campaign/run.py --page > docs/reliability.md             # of the counts in result.json

A part goes on until its seconds or its count are over. A case depends on the seed, the part and its number alone (a
kill at a random moment on the clock too). What failed is printed and kept, and the exit code is then 1.
"""

import argparse
import gc
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

ROOT, RESULT = Path(__file__).parents[2], Path(__file__).with_name("result.json")
PARTS = {
    "kills": ("runs:model_alone", "runs:kill", "configurations"),
    "damage": ("runs:broken_off", "runs:damage", "files"),
    "inputs": ("runs:broken_off", "runs:change", "changes and files"),
    "disks": ("runs:broken_off", "runs:fill", "kinds"),
    "judges": ("runs:judged_run", "runs:misjudge", "kinds"),
    "hostile": ("texts:models", "texts:hostile", "files, names and settings"),
    "readers": ("texts:models", "texts:read", "kinds of files"),
}
"""What makes the folder that all cases of a part use, what tries one case, and what is counted as different."""
PAGE = """\
# What is tried against a run

What was done to runs at random, how often, and what came of it.
Made by `python benchmarks/campaign/run.py --page > docs/reliability.md`
from what `make campaign` counted; a test
checks that it is current. `make test` tries the same kinds of faults in fewer places.

| part | seed | seconds | cases | of different | ended | failed |
|---|---|---|---|---|---|---|
{rows}

A case fails where a run ends with other weights and nothing is said, and where a command does not end, or ends by a
signal, in a traceback, or with anything but one line that says why. {failed}

{about}"""


def campaign(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """The counts of one part."""
    prepare, case = (resolve_name(place) for place in PARTS[name][:2])
    ended, groups, failed, number = Counter[str](), set(), [], options.first
    with tempfile.TemporaryDirectory() as folder:
        os.environ.update(TRUEUP_CACHE=f"{folder}/cache", XDG_CONFIG_HOME=f"{folder}/config")
        base = Path(folder) / "base"
        base.mkdir()
        with open(os.devnull, "w") as nowhere, redirect_stderr(nowhere), redirect_stdout(nowhere):
            made = prepare(base)
        gc.freeze()  # cases are processes forked from this one
        begun = time.monotonic()
        while time.monotonic() - begun < options.seconds and number < options.first + options.count:
            with tempfile.TemporaryDirectory(dir=folder) as place:
                try:
                    chance = random.Random(f"{options.seed} {name} {number}")
                    group, outcome = case(made, Path(place), chance, number)
                    groups.add(group)
                    ended[outcome] += 1
                except AssertionError as error:
                    failed.append({"number": number, "why": str(error)})
                    print(f"{name} {number}: {error}", file=sys.stderr)
            number += 1
    counts = {"cases": number - options.first, "different": len(groups), "ended": dict(ended.most_common())}
    return {"seed": options.seed, "seconds": round(time.monotonic() - begun), **counts, "failed": failed}


def row(name: str, found: dict[str, Any]) -> str:
    """A row of the table."""
    ended = "; ".join(f"{count} {outcome}" for outcome, count in found["ended"].items())
    cells = (name, found["seed"], found["seconds"], found["cases"], f"{found['different']} {PARTS[name][2]}")
    return f"| {' | '.join(map(str, cells))} | {ended} | {len(found['failed'])} |"


def page(result: dict[str, Any]) -> str:
    """docs/reliability.md."""
    failed = [f"{name} {one['number']} ({one['why']})" for name, found in result.items() for one in found["failed"]]
    about = ((name, resolve_name(PARTS[name][1]).__doc__.split()) for name in result)
    return PAGE.format(
        rows="\n".join(row(name, found) for name, found in result.items()),
        failed=f"Failed: {', '.join(failed)}." if failed else "None failed.",
        about="\n".join(f"- **{name}**: {' '.join(words)}" for name, words in about),
    )


def main() -> int:
    """Run the campaign, or print the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=600, help="of each part")
    parser.add_argument("--count", type=int, default=10**9, help="the most cases of each part")
    parser.add_argument("--first", type=int, default=0, help="the number of the first case")
    parser.add_argument("--output", type=Path, help="where the counts go; those of other parts stay")
    parser.add_argument("--page", nargs="?", type=Path, const=RESULT, help="print the page of these counts")
    options = parser.parse_args()
    if options.page:
        print(page(json.loads(options.page.read_text())))
        return 0
    failures = 0
    for name in options.parts:
        found = campaign(name, options)
        print(row(name, found), flush=True)
        failures += len(found["failed"])
        if options.output:
            known = json.loads(options.output.read_text()) if options.output.exists() else {}
            known[name] = found
            ordered = {part: known[part] for part in PARTS if part in known}
            options.output.write_text(json.dumps(ordered, indent=2) + "\n")
    return min(failures, 1)


if __name__ == "__main__":
    os.environ.update(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]
    sys.exit(main())
