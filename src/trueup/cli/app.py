"""The command `trueup`: what it offers, and how every error ends in one line and an exit code."""

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pkgutil import resolve_name
from typing import NoReturn

from rich.console import Console
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from trueup import __version__, errors, files, words
from trueup.parallel import processes

ABOUT = "Align a causal language model with feedback: demonstrations, scores, thumbs, pairs or rankings."
OPTIONS = {"version": "Print the version and exit.", "help": "Show this message and exit."}
TOLD = files.table_beside(__file__, "commands.toml")
COMMANDS: dict[str, str] = {name: told["about"] for name, told in TOLD.items()}
"""Command -> what it does. The function of its name is in `trueup.cli.train_command` or `trueup.cli.commands`."""
TRAINING = ("train", "methods", "selfcheck", "plan")

EXITS = (
    "Exit codes: 0 done; 2 what was given; 4 checkpoints and full disks; 5 numerics; 6 annotators and budgets;",
    "143 (SIGTERM) and 130 (Ctrl-C): not done, and goes on with --resume.",
)

Row = tuple[str, str, str]


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    raise SystemExit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    name, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    try:
        _call(name, rest)
        if sys.stdout is not None:  # closed, as by `>&-`
            sys.stdout.flush()
    except errors.Stopped as stopped:
        return stopped.exit_code
    except errors.TrueupError as error:
        if not error.shown_elsewhere:
            print(f"trueup: {words.one_line(error)}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except (MemoryError, RuntimeError) as error:
        if not errors.is_out_of_memory(error):
            raise
        less = "Give a smaller --micro_batch_tokens or --max_length"
        print(f"trueup: memory ran out: {words.one_line(error)}. {less}", file=sys.stderr)
        return 1
    except OSError as error:
        if error.filename is None and sys.stdout is not None:
            # The reader has gone, or the disk is full; the interpreter must not flush again on its way out.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            return 1
        where = "" if error.filename is None else f"{words.printable(str(error.filename))}: "
        print(f"trueup: {where}{words.reason(error)}", file=sys.stderr)
        return 2
    return 0


def _call(name: str, arguments: Sequence[str]) -> None:
    if name in ("-h", "--help"):
        options = [(f"--{option}", "", about) for option, about in OPTIONS.items()]
        commands = [(command, "", about) for command, about in COMMANDS.items()]
        boxes = {"Options": options, "Commands": commands}
        print_boxes("trueup [OPTIONS] COMMAND ...", [ABOUT], boxes, EXITS)
    elif name == "--version":
        print(f"trueup {__version__}")
    elif name.startswith("-"):
        raise errors.InputError(f"{name} is not an option of trueup{words.did_you_mean(name.lstrip('-'), OPTIONS)}")
    elif name not in COMMANDS:
        raise errors.InputError(f"{words.named(name)} is not a command of trueup{words.did_you_mean(name, COMMANDS)}")
    elif processes.size() > 1 and name != "train":
        raise errors.InputError(f"{name} works in one process; start it without torchrun. Only train takes several")
    else:
        module = "train_command" if name in TRAINING else "commands"
        resolve_name(f"trueup.cli.{module}:{name}")(arguments)


Boxes = Mapping[str, Sequence[Row]]


def print_boxes(usage: str, about: Iterable[str], boxes: Boxes, notes: Iterable[str] = ()) -> None:
    console = Console(highlight=False, markup=False, emoji=False)
    console.print(f"\n Usage: {usage}\n", style="bold")
    for paragraph in about:
        console.print(Padding(Text(paragraph), (0, 1, 1, 1)))
    for heading, rows in boxes.items():
        if not rows:
            continue
        table = Table(box=None, show_header=False, pad_edge=False, expand=True)
        table.add_column(no_wrap=True)
        table.add_column(ratio=1)
        for name, metavar, told in rows:
            option = Text.assemble((name, "bold cyan"), (f" {metavar}".rstrip(), "bold yellow"))
            table.add_row(option, Text(told))
        console.print(Panel(table, title=heading, title_align="left", border_style="dim"))
    for line in notes:
        console.print(f" {line}", soft_wrap=True)
    console.print()
