"""`trueup methods`: what there is to choose from."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from trueup.methods import MethodInfo


def show(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """List every method: formula, paper, the feedback and reference it takes, where examples come from, defaults."""
    from trueup.cli.options import in_words
    from trueup.methods import METHODS

    described = [describe(info) for info in METHODS.values()]
    if as_json:
        typer.echo(json.dumps(described, indent=2))
        return
    for entry in described:
        defaults = {**entry["settings"], **entry["defaults"]}
        typer.echo(f"{typer.style(entry['name'], bold=True)}  {entry['title']}")
        if entry["aliases"]:
            typer.echo(f"  also       {', '.join(entry['aliases'])}")
        typer.echo(f"  loss       {entry['formula']}")
        typer.echo(f"  feedback   {entry['feedback']}")
        typer.echo(f"  reference  {', '.join(entry['reference'])}")
        typer.echo(f"  sources    {', '.join(entry['sources'])}")
        if entry["paper"]:
            typer.echo(f"  paper      {entry['paper']}")
        given = [f"{name} {in_words(value)}" for name, value in defaults.items() if value is not None]
        typer.echo(f"  defaults   {', '.join(given)}\n")


def describe(info: MethodInfo) -> dict[str, Any]:
    """Return a method as plain values.

    `settings` are its own, `defaults` those of the run that differ, `reference` the kinds it takes, `none` where it
    needs none, `sources` where its examples may come from (`source` of a run).
    """
    from trueup.settings.schema import settings_in

    settings = [setting for setting in settings_in(info.settings) if not setting.variants]
    return {
        "name": info.name,
        "title": info.title,
        "aliases": list(info.aliases),
        "formula": info.formula,
        "paper": info.paper,
        "feedback": info.feedback,
        "reference": list(info.choices("reference.kind")) or ["none"],
        "sources": list(info.sources),
        "settings": {setting.path: setting.default for setting in settings},
        "defaults": dict(info.defaults),
    }
