"""`trueup train METHOD`: one command per registered method, its options made from the typed settings.

An option is named as its setting is in YAML and Python, and its value is validated where theirs are.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand, TyperGroup

from trueup.errors import InputError

if TYPE_CHECKING:
    from trueup.methods import MethodInfo


class MethodGroup(TyperGroup):
    """Makes the command of a method only when it is asked for, as each has many options."""

    arguments: Sequence[str] = ()
    """What follows the method's name."""

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        from trueup.methods import METHODS

        return list(METHODS)

    def get_command(self, ctx: typer.Context, cmd_name: str) -> MethodCommand:  # type: ignore[override]
        from trueup.config.resolve import find_method

        return command_of(find_method(cmd_name), self.arguments)

    def resolve_command(self, ctx: typer.Context, args: list[str]) -> Any:  # type: ignore[override]
        self.arguments = tuple(args)
        return super().resolve_command(ctx, args)


class MethodCommand(TyperCommand):
    """A bare switch stands for true, as in `--lora`; an unknown option is refused as in a file."""

    info: MethodInfo

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        from trueup.cli.options import SWITCH

        switches = {
            name[2:]
            for one in self.params
            if one.metavar == SWITCH or getattr(one, "hidden", False)
            for name in one.opts
        }
        try:
            return super().parse_args(ctx, list(_with_values(args, switches)))
        except typer.TyperException as error:
            if not hasattr(error, "possibilities"):
                raise
            from trueup.config.resolve import unknown

            name = getattr(error, "option_name", "").removeprefix("--")
            raise InputError(unknown(name, self.info)) from None


app = typer.Typer(cls=MethodGroup, subcommand_metavar="METHOD [OPTIONS]")


@app.callback(invoke_without_command=True)
def choose(context: typer.Context) -> None:
    """Align a model with feedback; `trueup train METHOD --help` lists a method's settings."""
    if context.invoked_subcommand is None:
        from trueup.methods import METHODS

        raise InputError(
            f"a method is missing: trueup train METHOD, where METHOD is one of {', '.join(sorted(METHODS))}"
        )


def command_of(info: MethodInfo, arguments: Sequence[str] = ()) -> MethodCommand:
    """Return the command that trains by one method.

    Args:
        arguments: what the command is made to read; of TRL's many names it gets the ones that stand here.
    """

    def train(config: str | None, resume: str | None, more: list[str] | None, **options: Any) -> None:
        given = {_path(name): value for name, value in options.items() if value not in (None, [])}
        if more:
            given["data"] = [*given.get("data", []), *more]
        single = {
            name: value[0] for name, value in given.items() if len(value) == 1 and isinstance(value, list)
        }
        start(info.name, _read_escapes(given | single), config, resume)

    train.__signature__ = inspect.Signature(list(_parameters(info, arguments)))  # type: ignore[attr-defined]
    paper = f" {info.paper}." if info.paper else ""
    made = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    made.command(info.name, cls=MethodCommand, help=f"{info.title}.{paper} Needs {info.feedback}.")(train)
    command = typer.main.get_command(made)
    assert isinstance(command, MethodCommand)
    command.info = info
    return command


def start(method: str, given: dict[str, Any], config: str | None, resume: str | None) -> None:
    """Begin or resume a run; whatever cannot be is refused before torch is imported."""
    from trueup.config.resolve import resolve
    from trueup.config.run_file import changeable, load_run

    if resume is None:
        resolved = resolve(method, config_file=config, overrides=given)
        from trueup.training import api

        api.run(resolved)
        return
    resumed = load_run(resume, given, method_name=method, config_file=config)
    for note in resumed.notes:
        typer.echo(note, err=True)
    from trueup.training import api

    api.resume(resume, changeable(resumed))


def _parameters(info: MethodInfo, arguments: Sequence[str]) -> Iterator[inspect.Parameter]:
    """The command's parameters: what is given once, the settings in their groups, TRL's names unseen."""
    from trueup.cli.options import option, parameter
    from trueup.config.annotator_names import run_settings
    from trueup.config.trl import names_of_trl
    from trueup.settings.schema import settings_in

    more = typer.Argument(None, metavar="[FILE]...", help="More files with feedback, after --data FILE.")
    config = typer.Option(
        None, "--config", metavar="FILE", help="YAML file with settings; options go over it."
    )
    resume = typer.Option(None, "--resume", metavar="RUN", help="Go on with the run in this folder.")
    yield parameter("more", list[str] | None, more)
    yield parameter("config", str | None, config)
    yield parameter("resume", str | None, resume)
    own = settings_in(info.settings)
    for setting in own:
        yield option(setting, f"Method {info.name}", setting.default)
    for setting in run_settings():
        yield option(setting, setting.heading, info.defaults.get(setting.path, setting.default))
    present = {_name(argument) for argument in arguments} - {setting.path for setting in own}
    for name in names_of_trl():
        if name in present:
            yield parameter(name, list[str] | None, typer.Option(None, f"--{name}", hidden=True))


def _read_escapes(given: dict[str, Any]) -> dict[str, Any]:
    """The values, with escapes read in the settings where the command line has them."""
    from trueup.config.annotator_names import run_settings
    from trueup.settings.schema import unescaped

    escaped = {setting.path for setting in run_settings() if setting.escaped} & given.keys()
    read = {
        name: unescaped(given[name])
        if isinstance(given[name], str)
        else [unescaped(one) for one in given[name]]
        for name in escaped
    }
    return given | read


def _path(name: str) -> str:
    """The setting that a parameter stands for."""
    return name.replace("__", ".")


def _with_values(arguments: Sequence[str], switches: set[str]) -> Iterator[str]:
    """The arguments, with `true` after every switch that stands alone."""
    for argument, following in pairwise([*arguments, "--"]):
        yield argument
        alone = following.startswith("--") and "=" not in argument
        if alone and argument.startswith("--") and _name(argument) in switches:
            yield "true"


def _name(argument: str) -> str:
    """The setting that an argument names: `--learning-rate=1e-6` names `learning_rate`."""
    return argument.removeprefix("--").partition("=")[0].replace("-", "_")
