"""An inspection for people: tables, and the tokens of examples in colour where there is a terminal."""

import os
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from trueup.inspection import findings, statistics
from trueup.inspection.inspection import Inspection, Shown, TokenRun
from trueup.words import counted, spelled

STYLES = {"error": "bold red", "warning": "yellow", "note": "cyan"}
COLOURS = {"prompt": "blue", "scored": "bold green", "masked": "magenta"}
PLAIN_WIDTH = 120
BAR = 16
BLANK = "\u00a0"
ALL_OF_THEM = "(--json lists all)"
MOST_DETAILS = {"error": 20, "warning": 5, "note": 5}


def print_inspection(inspection: Inspection, *, ids: bool = False) -> None:
    screen = _Screen(Console(highlight=False, emoji=False))
    if not (screen.console.is_terminal or "COLUMNS" in os.environ):
        screen.console.width = PLAIN_WIDTH
    screen.files(inspection)
    screen.views(inspection)
    screen.lengths(inspection)
    screen.values(inspection)
    screen.tokens(inspection)
    screen.problems(inspection)
    screen.shown(inspection.shown, ids=ids)


class _Screen:
    def __init__(self, console: Console) -> None:
        self.console = console

    def heading(self, text: str) -> None:
        self.console.print()
        self.console.print(Text(spelled(text), style="bold"))

    def line(self, text: str) -> None:
        self.console.print(Text("  " + spelled(text)), soft_wrap=True)

    def table(self, *columns: str, right: Sequence[str] = ()) -> Table:
        lines = box.SIMPLE_HEAD if self.console.is_terminal else None
        table = Table(box=lines, pad_edge=True, header_style="bold")
        for column in columns:
            number = column in right
            table.add_column(column, justify="right" if number else "left", no_wrap=number, overflow="fold")
        return table

    def files(self, inspection: Inspection) -> None:
        parts = (("training", inspection.training), ("evaluation", inspection.evaluation))
        for name, part in parts:
            if not part.files and not part.unreadable:
                continue
            self.heading(f"Taken for {name} data")
            for report in part.files:
                for line in replace(report, skipped={}).lines():  # malformed rows are listed below
                    self.line(line)
            for error in part.unreadable:
                self.line(error)

    def views(self, inspection: Inspection) -> None:
        self.heading("What methods find in the training data")
        table = self.table("kind", "found", "in rows", "other rows", right=("found", "in rows"))
        for name, seen in inspection.views.items():
            why = ", ".join(f"{number} for {reason}" for reason, number in seen.discarded.items())
            table.add_row(name, str(seen.units), str(seen.examples), Text(why))
        self.console.print(table)

    def lengths(self, inspection: Inspection) -> None:
        if inspection.lengths is None:
            return
        unit = inspection.lengths["unit"]
        found = inspection.lengths.items()
        kinds = {kind.replace("_", " "): brief for kind, brief in found if kind != "unit"}
        self.heading(f"Lengths in {unit}")
        names = ("count", "mean", "least", *(f"{part:.0%}" for part in statistics.QUANTILES), "most")
        table = self.table("", *names, right=names)
        for kind, brief in kinds.items():
            values = (brief["mean"], brief["minimum"], *brief["quantiles"].values(), brief["maximum"])
            table.add_row(kind, str(brief["count"]), *(f"{value:.0f}" for value in values))
        self.console.print(table)
        self.histogram(unit, kinds)
        if longer := inspection.longer_chosen:
            self.line(
                f"chosen longer than rejected in {share(longer.longer, longer.pairs)} of "
                f"{counted(longer.pairs, 'pair')}, as long in {share(longer.equal, longer.pairs)}"
            )

    def histogram(self, unit: str, kinds: Mapping[str, Any]) -> None:
        table = self.table(unit, *kinds, right=(unit,))
        bins = [brief["histogram"] for brief in kinds.values()]
        histograms = [{(one["from"], one["to"]): one["count"] for one in some} for some in bins]
        for first, last in sorted({one for histogram in histograms for one in histogram}):
            cells = []
            for histogram in histograms:
                number = histogram.get((first, last), 0)
                height = "#" * -(-number * BAR // max(histogram.values()))
                cells.append(f"{height} {number}" if number else "")
            table.add_row(str(first) if first == last else f"{first}-{last}", *cells)
        self.console.print(table)

    def values(self, inspection: Inspection) -> None:
        labels, scores = inspection.labels, inspection.scores
        if labels or scores:
            self.heading("Labels and scores")
        if labels:
            total = labels.good + labels.bad + labels.middle
            parts = [f"{labels.good} good ({share(labels.good, total)})", f"{labels.bad} bad"]
            parts += [f"{labels.middle} exactly 0.5"] if labels.middle else []
            parts += [f"{labels.graded} of them neither 0 nor 1"] if labels.graded else []
            self.line(f"{counted(total, 'label')}: {', '.join(parts)}")
        if scores:
            quantiles = ", ".join(f"{float(at):.0%} {value:.4g}" for at, value in scores.quantiles.items())
            ends = f"least {scores.minimum:.4g}, {quantiles}, most {scores.maximum:.4g}, mean {scores.mean:.4g}"
            self.line(f"{counted(scores.count, 'score')}: {ends}")

    def tokens(self, inspection: Inspection) -> None:
        coding, found = inspection.coding, inspection.tokens
        if coding is None or found is None:
            return
        self.heading(f"As tokens of {found.model}, all data")
        self.line(f"max_length {found.max_length}, max_prompt_length {found.max_prompt_length or 'not set'}")
        self.line(
            f"{share(found.responses_cut, found.responses)} of {counted(found.responses, 'response')} lose their end, "
            f"{share(found.prompts_cut, found.examples)} of {counted(found.examples, 'prompt')} their beginning; "
            f"{counted(found.left_out, 'example')} left out"
        )
        ends = ", ".join(str(coding.tokenizer.convert_ids_to_tokens(token)) for token in found.end_ids)
        self.line(f"a response ends with {ends}")
        for line in inspection.turns:
            self.line(line)
        if found.template_date is not None:
            self.line(f"the chat template writes the date, here {found.template_date} (--template-date)")
        if coding.loaded.condition is not None:
            self.line(f"every prompt is asked as the model was trained: {coding.loaded.condition.words()!r}")

    def problems(self, inspection: Inspection) -> None:
        problems = inspection.problems
        if not problems:
            self.heading("No problems found")
            return
        self.heading("Problems")
        read = (*inspection.training.files, *inspection.evaluation.files)
        files = [*(one.path for one in read), *(file for one in problems for file in one.rows)]
        names = short_names(list(dict.fromkeys(files)))
        both = bool(inspection.evaluation.files or inspection.evaluation.unreadable)
        for one in problems:
            self.problem(one, names, both=both)
        for one in problems:
            if one.details:
                self.heading(f"{one.kind}:")
                most = MOST_DETAILS[one.severity]
                for detail in one.details[:most]:
                    self.line(detail)
                if len(one.details) > most:
                    self.line(f"and {len(one.details) - most} more {ALL_OF_THEM}")

    def problem(self, problem: findings.Finding, names: Mapping[str, str], *, both: bool) -> None:
        """What it is, where, and what to do; lines break between words only, never in a file's name or a number."""
        severity = problem.severity
        rows = counted(problem.count, "row") if problem.rows else ""
        of = f"{problem.part} data" if both and problem.part else ""
        where = " of the ".join(one for one in (rows, of) if one)
        head = f"{severity}: {problem.what}" + (f" ({where})" if where else "")
        text = Text(folded(spelled(head), self.console.width, 2))
        text.stylize(STYLES[severity], 2, 3 + len(severity))
        self.console.print(text, soft_wrap=True)
        for said in (*row_lines(problem.rows, names), f"-> {problem.remedy}"):
            self.console.print(Text(folded(spelled(said), self.console.width, 4)), soft_wrap=True)

    def shown(self, examples: Sequence[Shown], *, ids: bool) -> None:
        if not examples:
            return
        self.heading("Examples as training gets them; | stands between two tokens")
        legend = Text("  ")
        meanings = ("given", "learned or compared", "given, in the response")
        for role, meaning in zip(COLOURS, meanings, strict=True):
            legend.append(f"{role}: {meaning}   ", COLOURS[role])
        self.console.print(legend)
        for one in examples:
            self.heading(one.origin)
            if one.left_out is not None or one.prompt is None:
                self.line(f"left out: {one.left_out}")
                continue
            self.run("  ", one.prompt, "lost its beginning" if one.prompt_cut else "", ids=ids)
            for number, response in enumerate(one.responses, 1):
                tokens = sum(len(run.ids) for run in response.runs)
                cut = ", lost its end" if response.cut else ""
                self.line(f"response {number}: {response.said}, {counted(tokens, 'token')}{cut}")
                for run in response.runs:
                    self.run("    ", run, "", ids=ids)

    def run(self, indent: str, run: TokenRun, note: str, *, ids: bool) -> None:
        line = Text(f"{indent}{run.role} ({len(run.ids)}{', ' if note else ''}{note}): ")
        for at, (token, text) in enumerate(zip(run.ids, run.texts, strict=True)):
            line.append("|" if at else "", "dim")
            line.append(spelled(text), COLOURS[run.role])
            line.append(f"<{token}>" if ids else "", "dim")
        self.console.print(line, soft_wrap=True)


def folded(text: str, width: int, indent: int) -> str:
    """Words as lines of at most `width` columns, later ones indented; a space within a word is a `BLANK`."""
    first, later = " " * indent, " " * (indent + 2)
    uncut: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False}
    lines = textwrap.wrap(text, width, initial_indent=first, subsequent_indent=later, **uncut)
    return "\n".join(lines).replace(BLANK, " ")


def share(part: int, total: int) -> str:
    if not part:
        return "0 %"
    per_cent = 100 * part / total
    return f"{per_cent:.1f} %" if per_cent >= 0.1 else "under 0.1 %"


def row_lines(files: Mapping[str, Sequence[int]], names: Mapping[str, str]) -> list[str]:
    """The first five rows of each file, and how many more there are: `a.jsonl: rows 3, 8, 12`, `b.jsonl:1`."""
    made = []
    for file, rows in files.items():
        name = names.get(file, file).replace(" ", BLANK)
        more = f", and {len(rows) - 5} more {ALL_OF_THEM}" if len(rows) > 5 else ""
        listed = ", ".join(map(str, rows[:5])) + more
        made.append(f"{name}:{rows[0]}" if len(rows) == 1 else f"{name}: rows {listed}")
    return made


def short_names(files: Sequence[str]) -> dict[str, str]:
    last = {file: file if ":" in file else file.rstrip("/").rpartition("/")[2] for file in files}
    seen = list(last.values())
    return {file: file if seen.count(name) > 1 else name for file, name in last.items()}
