"""`trueup demo`: align a small model several ways."""

from typing import Annotated

import typer


def show(
    output: Annotated[
        str | None,
        typer.Option(metavar="FOLDER", help="For feedback, runs and results.json. Default: runs/demo."),
    ] = None,
) -> None:
    """Make a small language model in the built-in world, align it by every method, and print a table."""
    from trueup import demo

    demo.run(output)
