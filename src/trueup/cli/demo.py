"""`trueup demo`: align a small model several ways."""

from typing import Annotated

import typer


def show(
    output: Annotated[str, typer.Option("--output", help="Folder for the runs.")] = "runs/demo",
) -> None:
    """Make a small language model in the built-in world, align it by every method, and print a table."""
    from trueup import demo

    demo.run(output)
