"""`trueup inspect`: what feedback was taken for, what is wrong with it, what training will see."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from trueup.errors import InputError

if TYPE_CHECKING:
    from trueup.inspection.coding import Coding


class Turns(StrEnum):
    """Which turns of the assistant are learned."""

    last = "last"
    all = "all"


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
    min_visible: Annotated[
        int, typer.Option(min=0, metavar="N", help="A response with fewer visible characters is near-empty.")
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
        Turns | None,
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
        "--max-length": max_length, "--max-prompt-length": max_prompt_length, "--turns": turns,
        "--eos-token": eos_token, "--chat-template": chat_template,
        "--trust-remote-code": trust_remote_code or None, "--show": show, "--row": row, "--ids": ids or None,
    }  # fmt: skip
    if model is None and (given := [option for option, value in needs_model.items() if value is not None]):
        raise InputError(f"{given[0]} is about tokens; give the folder of a model with --model")
    from trueup.display import Display, shown
    from trueup.inspection.inspection import inspect as inspected
    from trueup.inspection.kinds import Severity
    from trueup.words import counted

    coding: Coding | None = None
    if model is not None:
        from trueup.inspection.coding import load_coding

        coding = load_coding(
            model, max_length=max_length, max_prompt_length=max_prompt_length,
            turns="all" if turns is Turns.all else "last", eos_token=eos_token, chat_template=chat_template,
            trust_remote_code=trust_remote_code,
        )  # fmt: skip
    display = Display()
    with shown():
        inspection = inspected(
            files, eval_data or [], min_visible=min_visible, coding=coding, show=2 if show is None else show,
            rows=row or [], track=lambda examples: display.track(examples, "tokenizing"),
        )  # fmt: skip
    if not inspection.training.files and not as_json:
        raise InputError("; ".join(inspection.training.unreadable))
    if as_json:
        from trueup.inspection.as_json import as_json as plain

        typer.echo(json.dumps(plain(inspection)))
    else:
        from trueup.inspection.screen import print_inspection

        print_inspection(inspection, ids=ids)
    errors, warnings = inspection.count(Severity.error), inspection.count(Severity.warning)
    if inspection.unreadable or (strict and (errors or warnings)):
        raise InputError(
            f"{counted(errors, 'error')} and {counted(warnings, 'warning')}; all are listed above"
        )
