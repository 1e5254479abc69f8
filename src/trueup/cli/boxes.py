"""How help is printed. The help of `trueup` itself needs no more than this, and is there at once."""

from collections.abc import Iterable, Mapping, Sequence

from rich.console import Console
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

Row = tuple[str, str, str]
"""An option or a command, what stands for its value, and what it is."""


def print_boxes(
    usage: str, about: Iterable[str], boxes: Mapping[str, Sequence[Row]], notes: Iterable[str] = ()
) -> None:
    """Print help: usage, paragraphs, a box of rows for each heading, and lines below."""
    console = Console(highlight=False, markup=False)
    console.print(f"\n Usage: {usage}\n", style="bold")
    for paragraph in about:
        console.print(Padding(Text(paragraph), (0, 1, 1, 1)))
    for heading, rows in boxes.items():
        if not rows:
            continue
        table = Table(box=None, show_header=False, pad_edge=False, expand=True)
        table.add_column(no_wrap=True)
        table.add_column(ratio=1)
        for name, metavar, about in rows:
            table.add_row(
                Text.assemble((name, "bold cyan"), (f" {metavar}".rstrip(), "bold yellow")), Text(about)
            )
        console.print(Panel(table, title=heading, title_align="left", border_style="dim"))
    for line in notes:
        console.print(f" {line}", soft_wrap=True)
    console.print()
