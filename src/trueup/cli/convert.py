"""`trueup convert`: feedback of any layout, written in another form, with an account of what is not kept."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from trueup.errors import InputError

if TYPE_CHECKING:
    from trueup.feedback.convert.conversion import Target
    from trueup.feedback.records import Example


class Form(StrEnum):
    """What to write."""

    canonical = "canonical"
    pairs = "pairs"
    rankings = "rankings"
    points = "points"
    trl = "trl"


class Kind(StrEnum):
    """Which of TRL's rows to write."""

    pairs = "pairs"
    points = "points"
    demonstrations = "demonstrations"


def convert(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE...", help="Files of any layout, or world:pairs and the like.")
    ],
    to: Annotated[
        Form,
        typer.Option(help="Everything as it is; what one view uses, in trueup's own form; or TRL's rows."),
    ],
    output: Annotated[
        str, typer.Option(metavar="FILE", help="A .jsonl or .jsonl.gz file, or - for the standard output.")
    ],
    kind: Annotated[
        Kind | None,
        typer.Option(
            help="With --to trl, which rows. Default: pairs if there are comparisons, else points if there are "
            "labels, else demonstrations."
        ),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(help="With --kind points, labels from here on are true and all others false."),
    ] = None,
    skip_bad: Annotated[
        int, typer.Option(min=0, metavar="N", help="How many malformed rows to leave out, over all files.")
    ] = 0,
    force: Annotated[bool, typer.Option("--force", help="Replace the output file if it is there.")] = False,
) -> None:
    """Write feedback in another form; whatever that form does not keep is named with its rows."""
    from trueup.display import shown
    from trueup.feedback.canonical import STANDARD_OUTPUT, check_output, write_rows
    from trueup.feedback.convert.conversion import convert as converted
    from trueup.sources.by_name import examples_named
    from trueup.words import counted

    _check(to, kind, threshold)
    check_output(output, force=force)
    with shown():
        gathered = examples_named(files, skip_bad=skip_bad)
    target = _target(to, kind, threshold, gathered.examples)
    conversion = converted(gathered.examples, target)
    write_rows(output, conversion.rows)
    for line in conversion.lines():
        typer.echo(line, err=True)
    place = "the standard output" if output == STANDARD_OUTPUT else output
    rows = counted(len(conversion.rows), "row")
    typer.echo(f"{counted(len(gathered.examples), 'example')} read, {rows} written to {place}", err=True)


def _check(to: Form, kind: Kind | None, threshold: float | None) -> None:
    """Refuse options that would have no effect."""
    if kind is not None and to is not Form.trl:
        raise InputError(f"--kind says which of TRL's rows to write; leave it out with --to {to.value}")
    if threshold is None:
        return
    if to is not Form.trl or kind not in (None, Kind.points):
        raise InputError(
            "--threshold makes labels true or false for TRL; give it with --to trl --kind points"
        )
    if not 0 < threshold <= 1:
        raise InputError(f"--threshold must be greater than 0 and at most 1; got {threshold}")


def _target(to: Form, kind: Kind | None, threshold: float | None, examples: Sequence[Example]) -> Target:
    """What to convert to; a kind that was chosen here is said aloud."""
    from trueup.feedback.convert import targets
    from trueup.feedback.viewed import count

    own = {
        Form.canonical: targets.CANONICAL,
        Form.pairs: targets.PAIRS,
        Form.rankings: targets.RANKINGS,
        Form.points: targets.POINTS,
    }
    if to in own:
        return own[to]
    chosen = kind or Kind(targets.usual_kind(examples))
    if kind is None:
        held = count(examples).words()
        typer.echo(
            f"TRL's rows of {chosen.value} are written, for there are {held}; --kind changes it", err=True
        )
    if chosen is Kind.points:
        return targets.trl_points_target(threshold)
    if threshold is not None:
        raise InputError(
            f"--threshold is for TRL's rows of points, and these are {chosen.value}; add --kind points"
        )
    return targets.TRL_PAIRS if chosen is Kind.pairs else targets.trl_demonstrations_target(examples)
