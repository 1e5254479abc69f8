"""The command `trueup`: what it offers, and how every error ends in one line and an exit code."""

import os
import re
import sys
from collections.abc import Sequence
from typing import Annotated, Any, NoReturn

import typer

from trueup import __version__
from trueup.cli import feedback_commands
from trueup.cli.condition_command import condition
from trueup.errors import Stopped, TrueupError
from trueup.words import did_you_mean

UNREAD: dict[str, Any] = {
    "add_help_option": False,
    "context_settings": {
        "ignore_unknown_options": True,
        "allow_extra_args": True,
        "allow_interspersed_args": False,
    },
}
"""Of a command that reads its arguments itself, by `trueup.cli.options`."""

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={
        "help_option_names": ["-h", "--help"],
        # --learning-rate and --learning_rate are the same option.
        "token_normalize_func": lambda name: name.replace("-", "_"),
    },
)


@app.command(**UNREAD)
def train(context: typer.Context) -> None:
    """Align a model with feedback; `trueup train METHOD --help` lists a method's settings."""
    from trueup.cli import commands

    commands.train(context)


@app.command()
def methods(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """List every method: formula, paper, the feedback and reference it takes, where examples come from, defaults."""
    from trueup.cli import commands

    commands.print_methods(as_json=as_json)


@app.command(**UNREAD)
def sample(context: typer.Context) -> None:
    """Sample responses to prompts from one or several models, and put them together as feedback."""
    from trueup.cli import commands

    commands.sample(context)


@app.command(**UNREAD)
def annotate(context: typer.Context) -> None:
    """Have the responses of feedback or samples judged; or replace chosen responses by demonstrations."""
    from trueup.cli import commands

    commands.annotate(context)


app.command()(condition)
app.command()(feedback_commands.convert)
app.command()(feedback_commands.inspect)


@app.command()
def demo(
    output: Annotated[
        str | None,
        typer.Option(metavar="FOLDER", help="For feedback, runs and results.json. Default: runs/demo."),
    ] = None,
) -> None:
    """Make a small language model in the built-in world, align it by nine of the methods, and print a table."""
    from trueup.demo import run

    run(output)


@app.callback(invoke_without_command=True)
def top(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Align a causal language model with feedback: demonstrations, scores, thumbs, pairs or rankings."""
    if version:
        typer.echo(f"trueup {__version__}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help(), nl=False)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit: 0 done or stopped, 2 input, 4 checkpoint, 5 numerics, 6 annotator."""
    raise SystemExit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    try:
        code = typer.main.get_command(app).main(arguments, prog_name="trueup", standalone_mode=False)
        sys.stdout.flush()
    except Stopped:
        return 0
    except TrueupError as error:
        return _say(str(error), error.exit_code)
    except typer.TyperException as error:
        return _say(_with_suggestion(error.format_message().replace(": Value error, ", ": ")), 2)
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except BrokenPipeError:
        # The reader has gone; the interpreter must not try to flush to it again on its way out.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code if isinstance(code, int) else 0


def _with_suggestion(message: str) -> str:
    """The message; where a value is none of those to choose from, with the one that was probably meant."""
    choice = re.search(r"'([^']*)' is not one of (.*)\.$", message)
    if choice is None:
        return message
    return message.removesuffix(".") + did_you_mean(
        choice[1], re.findall("'([^']*)'", choice[2]), quoted=True
    )


def _say(message: str, code: int) -> int:
    """Print the one line on the standard error, and return the exit code."""
    typer.echo(f"trueup: {' '.join(message.split())}", err=True)
    return code
