"""`trueup inspect` and `trueup convert`: what feedback is, and the same feedback in another form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from trueup.errors import InputError

if TYPE_CHECKING:
    from trueup.feedback.convert.conversion import Target
    from trueup.feedback.records import Example
    from trueup.inspection.encoded import Coding


Form = Literal["canonical", "pairs", "rankings", "points", "trl"]
Kind = Literal["pairs", "points", "demonstrations"]
LENGTHS = "Length and tokens"
MODEL = "Model"
SHOWN = "Examples as tokens"


def inspect(
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE...", help="Whatever `--data` of `trueup train` takes."),
    ],
    model: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="Look at tokens too: folder of a model, weights not needed; or world.",
            rich_help_panel=MODEL,
        ),
    ] = None,
    eval_data: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE", help="Held-out feedback, compared with the rest. May be given several times."
        ),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 2 if there is an error or a warning.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")] = False,
    min_characters: Annotated[
        int,
        typer.Option(
            "--min-visible",
            min=0,
            metavar="N",
            help="A response with fewer visible characters is near-empty.",
        ),
    ] = 3,
    max_length: Annotated[
        int | None,
        typer.Option(
            min=2,
            metavar="N",
            help="As of `trueup train`. Default: 1024, or what the model was made for.",
            rich_help_panel=LENGTHS,
        ),
    ] = None,
    max_prompt_length: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="As of `trueup train`.", rich_help_panel=LENGTHS)
    ] = None,
    turns: Annotated[
        Literal["last", "all"] | None,
        typer.Option(help="As of `trueup train`. Default: last.", rich_help_panel=LENGTHS),
    ] = None,
    eos_token: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="As of `trueup train`.", rich_help_panel=MODEL),
    ] = None,
    chat_template: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="As of `trueup train`.", rich_help_panel=MODEL),
    ] = None,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="As of `trueup train`.", rich_help_panel=MODEL)
    ] = False,
    show: Annotated[
        int | None,
        typer.Option(
            min=0, metavar="N", help="How many examples to show. Default: 2.", rich_help_panel=SHOWN
        ),
    ] = None,
    row: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[FILE:]N", help="Which row to show. May be given several times.", rich_help_panel=SHOWN
        ),
    ] = None,
    ids: Annotated[
        bool, typer.Option("--ids", help="Show the number of each token.", rich_help_panel=SHOWN)
    ] = False,
) -> None:
    """Say what feedback was taken for, what is wrong with it, and what training will see of it."""
    needs_model = {
        "--max-length": max_length,
        "--max-prompt-length": max_prompt_length,
        "--turns": turns,
        "--eos-token": eos_token,
        "--chat-template": chat_template,
        "--trust-remote-code": trust_remote_code or None,
        "--show": show,
        "--row": row,
        "--ids": ids or None,
    }
    if model is None and (given := [option for option, value in needs_model.items() if value is not None]):
        raise InputError(f"{given[0]} is about tokens; give the folder of a model with --model")
    from trueup.display import shown
    from trueup.inspection.inspection import inspect as inspected
    from trueup.inspection.problems import Severity
    from trueup.words import counted

    coding: Coding | None = None
    if model is not None:
        from trueup.inspection.encoded import load_coding

        coding = load_coding(
            model,
            max_length=max_length,
            max_prompt_length=max_prompt_length,
            turns=turns or "last",
            eos_token=eos_token,
            chat_template=chat_template,
            trust_remote_code=trust_remote_code,
        )
    with shown():
        inspection = inspected(
            files,
            eval_data or [],
            min_characters=min_characters,
            coding=coding,
            show=2 if show is None else show,
            rows=row or [],
        )
    if not inspection.training.files and not as_json:
        raise InputError("; ".join(inspection.training.unreadable))
    if as_json:
        typer.echo(inspection.as_json())
    else:
        from trueup.inspection.screen import print_inspection

        print_inspection(inspection, ids=ids)
    errors, warnings = inspection.count(Severity.error), inspection.count(Severity.warning)
    if inspection.unreadable or (strict and (errors or warnings)):
        raise InputError(
            f"{counted(errors, 'error')} and {counted(warnings, 'warning')}; all are listed above"
        )


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
    if kind is not None and to != "trl":
        raise InputError(f"--kind says which of TRL's rows to write; leave it out with --to {to}")
    if threshold is None:
        return
    if to != "trl" or kind not in (None, "points"):
        raise InputError(
            "--threshold makes labels true or false for TRL; give it with --to trl --kind points"
        )
    if not 0 < threshold <= 1:
        raise InputError(f"--threshold must be greater than 0 and at most 1; got {threshold}")


def _target(to: Form, kind: Kind | None, threshold: float | None, examples: Sequence[Example]) -> Target:
    """What to convert to; a kind that was chosen here is said aloud."""
    from trueup.feedback.convert import targets
    from trueup.feedback.viewed import count

    if to != "trl":
        return targets.OWN[to]
    chosen = kind or targets.usual_kind(examples)
    if kind is None:
        held = count(examples).words()
        typer.echo(f"TRL's rows of {chosen} are written, for there are {held}; --kind changes it", err=True)
    if chosen == "points":
        return targets.trl_points_target(threshold)
    if threshold is not None:
        raise InputError(
            f"--threshold is for TRL's rows of points, and these are {chosen}; add --kind points"
        )
    return targets.TRL_PAIRS if chosen == "pairs" else targets.trl_demonstrations_target(examples)
