"""Pages of the claims, made of their results: one a claim, an index of what holds, and the table in docs/start.md."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from engine import MEASURES, Claim, Found
from verdicts import Spread, spread

HERE = Path(__file__).parent
NAMES = (
    "offline",
    "rrhf",
    "oaif",
    "trust_region",
    "trust_region_fresh",
    "trust_region_larger",
    "real_text",
    "pointwise",
)
HEADINGS = {"kl": "KL from the start", "accuracy": "accuracy on pairs", "seconds": "CPU seconds"}

BY_FEEDBACK = {
    "pairs": [("oaif", "DPO, offline"), ("trust_region", "DPO, soft 0.6 every 16"), ("oaif", "IPO, offline")],
    "thumbs": [("pointwise", name) for name in ("KTO", "ULMA", "point-wise DPO", "unlikelihood")],
    "grades": [("pointwise", name) for name in ("point-wise DPO, grades", "ULMA, grades")],
    "four ranked answers": [("rrhf", "samples"), ("rrhf", "SFT on the best of 4")],
    "scores": [("offline", name) for name in ("FA", "RWR", "CA")],
    "a judge to ask": [("oaif", "DPO, online"), ("oaif", "RLHF")],
    "a reward to compute": [("offline", "PPO")],
}
"""What one has -> claims, and rows of theirs."""
SHOWN = {"samples": "RRHF"}
MARK = "<!-- made by benchmarks/claims -->\n"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def number(value: float, digits: int = 3, *, sign: bool = False) -> str:
    shown = f"{value:{'+' if sign else ''}.{digits}f}"
    return shown.replace("-0.000", "0.000")


def between(low: float, high: float, digits: int = 3, *, sign: bool = False) -> str:
    return f"{number(low, digits, sign=sign)} to {number(high, digits, sign=sign)}"


def settings(place: Mapping[str, float]) -> str:
    return ", ".join(f"{name.replace('learning_rate', 'lr')} {value:g}" for name, value in place.items())


def of_row(row: Found, measure: str) -> list[float]:
    return [run[measure] for run in row["runs"] if measure in run]


def values(row: Found, measure: str) -> list[str]:
    """Every run, mean, median, interval."""
    runs, digits = of_row(row, measure), MEASURES[measure]
    if not runs:
        return ["", "", "", ""]
    found: Spread = spread(runs)
    each = " ".join(number(one, digits) for one in runs)
    return [
        each,
        number(found.mean, digits),
        number(found.median, digits),
        between(found.low, found.high, digits),
    ]


def row_table(claim: Claim, found: Found, names: Iterable[str]) -> str:
    first, *others = claim.columns

    def mean(row: Found, measure: str) -> str:
        runs = of_row(row, measure)
        return number(sum(runs) / len(runs), MEASURES[measure]) if runs else ""

    def chosen(row: Found) -> str:
        own = settings(row["chosen"])
        end = "" if row["search_ended"] else ", search cut off"
        return (
            f"{own} (of {len(row['tried'])}{end})"
            if row["tried"]
            else own or (f"as {row['like']}" if row["like"] else "")
        )

    header = [
        "row",
        "chosen",
        f"{first} of every run",
        "mean",
        "median",
        "interval",
        *(HEADINGS.get(one, one) for one in others),
    ]
    return table(
        header,
        (
            [name, chosen(row), *values(row, first), *(mean(row, one) for one in others)]
            for name, row in ((name, found["rows"][name]) for name in names)
        ),
    )  # fmt: skip


def comparisons(found: Found) -> str:
    def line(one: Found) -> list[str]:
        digits = MEASURES[one["by"].removeprefix("less ")]
        bounds = between(one["low"], one["high"], digits, sign=True)
        wins = one["wins"]
        won = f"{100 * wins[0]:.0f} % ({100 * wins[1]:.0f} to {100 * wins[2]:.0f})" if wins else ""
        sides = f"{one['one']} - {one['other']}"
        by = "" if one["by"] == "gold" else f", {one['by']}"
        return [
            one["sentence"],
            f"{sides}{by}",
            f"{number(one['mean'], digits, sign=True)} ({bounds})",
            won,
            f"**{one['verdict']}**",
        ]

    header = ["claim", "rows", "difference (interval)", "wins of the first", "verdict"]
    return table(header, map(line, found["compared"]))  # fmt: skip


def page(claim: Claim, found: Found) -> str:
    """The text of the claim with its tables."""
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    hardware, commits = found["hardware"], ", ".join(one[:12] for one in found["commits"])
    seeds, tuning = (", ".join(map(str, found[name])) for name in ("seeds", "tuning_seeds"))
    searched = f", settings chosen on {tuning}" if any(row["tried"] for row in found["rows"].values()) else ""
    made = f"""---

Made by `{found["command"]}` at commit {commits} ({versions})
on one thread of {hardware["cores"]} {hardware["processor"]} cores; seeds {seeds}{searched}.
All figures are in
[{claim.name}.json](../../benchmarks/claims/{claim.name}.json)."""
    parts = {
        "verdicts": comparisons(found),
        "rows": row_table(claim, found, [name for name in claim.rows if name not in claim.apart]),
        "more": claim.more_shown(found),
        "made": made,
    }
    text = text_of(claim.name)
    for name, part in parts.items():
        text = text.replace(f"{{{name}}}", part.rstrip())
    return text


def text_of(name: str) -> str:
    return (HERE / f"{name}.txt").read_text()


def index(results: Mapping[str, Found]) -> str:
    """All verdicts, under the titles of their pages."""
    rows = []
    for name, found in results.items():
        title = text_of(name).split("\n")[0].removeprefix("# ").split(":")[0]
        for one in found["compared"]:
            difference = number(one["mean"], MEASURES[one["by"].removeprefix("less ")], sign=True)
            rows.append([f"[{title}]({name}.md)", one["sentence"], difference, one["verdict"]])
        for one in found.get("frontiers", ()):
            if one["reference"] != "frozen":
                sentence = f"{one['of']}: {one['reference']} is above frozen at the same KL"
                rows.append([f"[{title}]({name}.md)", sentence, number(one["mean"], sign=True), one["verdict"]])
    shown = table(["page", "claim", "difference", "verdict"], rows)
    return text_of("index").replace("{verdicts}", shown.rstrip())


def by_feedback(results: Mapping[str, Found]) -> str:
    """The rows of all claims by the feedback that they learn from."""
    rows = []
    for have, named in BY_FEEDBACK.items():
        for row, claim, name in ((results[claim]["rows"].get(name), claim, name) for claim, name in named):
            if row is None:
                continue
            gold = of_row(row, "gold")
            mean, kl = sum(gold) / len(gold), of_row(row, "kl")
            shown = f"[{SHOWN.get(name, name)}](claims/{claim}.md)"
            rows.append([have, shown, number(mean), between(min(gold), max(gold)), number(sum(kl) / len(kl), 1)])
    return table(["feedback", "row", "gold", "of five seeds", "KL"], rows)


def with_table(text: str, results: Mapping[str, Found]) -> str:
    """A page whose table between the marks is that of the results."""
    before, _, after = text.split(MARK)
    return MARK.join([before, f"\n{by_feedback(results)}\n", after])


def write(claim: Claim, found: Found, results: Path, folder: Path) -> None:
    """The page, and the index of all claims whose results are there."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{claim.name}.md").write_text(page(claim, found))
    paths = {name: results / f"{name}.json" for name in NAMES}
    known = {name: json.loads(path.read_text()) for name, path in paths.items() if path.exists()}
    (folder / "index.md").write_text(index(known))
    start = folder.parent / "start.md"
    if start.exists() and set(known) == set(NAMES):
        start.write_text(with_table(start.read_text(), known))
