"""Options made from typed settings: named as the setting is, and validated where it is, by the settings themselves."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar

import typer
from typer.core import TyperCommand

from trueup.errors import InputError

if TYPE_CHECKING:
    from pydantic import BaseModel

    from trueup.settings.schema import Setting

    Model = TypeVar("Model", bound=BaseModel)

SWITCH = "true|false"
METAVARS = {"name": "NAME", "number": "NUMBER", "whole number": "N", "text": "TEXT", "true or false": SWITCH}
WORDS = ("true", "false", "yes", "no", "on", "off", "1", "0")
"""What may follow a switch."""


@dataclass(frozen=True, slots=True)
class Form:
    """A command whose options are the settings of a model."""

    command: str
    """As it is typed: `trueup sample`."""
    help: str
    model: type[BaseModel]
    short: str = ""
    """Settings below this one are options without its name: `sampler` makes `sampler.stop` the option `--stop`."""
    left_out: frozenset[str] = frozenset()
    """Settings that are no options here."""
    files: str = ""
    """The setting that arguments without an option add to."""
    more: Mapping[str, str] = field(default_factory=dict)
    """Options of texts that are no settings, by name, with their help; they are given to `run` as they are."""


def run_form(
    form: Form,
    context: typer.Context,
    run: Callable[[dict[str, Any], dict[str, str]], None],
) -> None:
    """Read the arguments that a command was handed, and run it.

    Args:
        run: takes the settings that were given, as dotted names and texts, and what was given of `form.more`.

    Raises:
        InputError: an option does not exist.
    """
    made = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    made.command(form.command, cls=FormCommand, help=form.help)(_callback(form, run))
    command = typer.main.get_command(made)
    assert isinstance(command, FormCommand)
    command.form = form
    name = context.info_name or form.command
    with command.make_context(name, list(context.args), parent=context.parent) as inner:
        command.invoke(inner)


def typed(model: type[Model], given: Mapping[str, Any], form: Form) -> Model:
    """The settings that were given, typed; the annotator may be given by one name.

    Raises:
        InputError: a value does not fit, as the command line knows it.
    """
    from trueup.config.annotator_names import expanded
    from trueup.config.layers import nest
    from trueup.settings.validation import Problem, Problems, validate

    try:
        return validate(model, nest(expanded(dict(given))), where=form.command)
    except Problems as found:
        if not form.short:
            raise
        raise Problems(
            Problem(one.path, one.text.replace(f"{form.short}.", "")) for one in found.problems
        ) from None


class FormCommand(TyperCommand):
    """A bare switch stands for true, as in `--best`, and `--no-merge` for `--merge false`."""

    form: Form

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        switches = {
            option[2:]
            for parameter in self.params
            if parameter.metavar == SWITCH
            for option in parameter.opts
        }
        try:
            return super().parse_args(ctx, list(with_values(args, switches)))
        except typer.TyperException as error:
            if not hasattr(error, "possibilities"):
                raise
            from trueup.words import did_you_mean

            name = getattr(error, "option_name", "").removeprefix("--").replace("-", "_")
            known = [
                option[2:] for parameter in self.params for option in parameter.opts if option[:2] == "--"
            ]
            raise InputError(
                f"{name} is not an option of {self.form.command}{did_you_mean(name, known)}"
            ) from None


def with_values(arguments: Sequence[str], switches: Iterable[str]) -> Iterator[str]:
    """The arguments, with `true` after every switch that stands alone, and `false` for `--no-SWITCH`."""
    known = set(switches)
    for argument, following in pairwise([*arguments, "--"]):
        name = argument.removeprefix("--").partition("=")[0].replace("-", "_")
        off = name.removeprefix("no_")
        if argument.startswith("--no-") and off in known and "=" not in argument:
            yield from (f"--{off}", "false")
            continue
        yield argument
        alone = "=" not in argument and following.lower() not in WORDS
        if alone and argument.startswith("--") and name in known:
            yield "true"


def _callback(form: Form, run: Callable[[dict[str, Any], dict[str, str]], None]) -> Callable[..., None]:
    from trueup.settings.schema import settings_in, unescaped

    settings = [one for one in settings_in(form.model) if one.path not in form.left_out]
    by_option = {_option_of(one.path, form): one for one in settings}

    def callback(files: list[str] | None = None, **options: Any) -> None:
        present = {
            name.replace("__", "."): value for name, value in options.items() if value not in (None, [])
        }
        more = {name: str(present.pop(name)) for name in form.more if name in present}
        given: dict[str, Any] = {}
        for name, value in present.items():
            setting = by_option[name]
            texts = [unescaped(one) for one in value] if setting.escaped else value
            single = isinstance(texts, list) and len(texts) == 1
            given[setting.path] = texts[0] if single else texts
        if files:
            there = given.get(form.files, [])
            given[form.files] = [*([there] if isinstance(there, str) else there), *files]
        run(given, more)

    callback.__signature__ = inspect.Signature(list(_parameters(form, by_option)))  # type: ignore[attr-defined]
    return callback


def _parameters(form: Form, by_option: Mapping[str, Setting]) -> Iterator[inspect.Parameter]:
    if form.files:
        described = next(one.description for one in by_option.values() if one.path == form.files)
        yield parameter("files", list[str] | None, typer.Argument(None, metavar="[FILE]...", help=described))
    for name, setting in by_option.items():
        yield option(setting, setting.heading, setting.default, name)
    for name, described in form.more.items():
        yield parameter(name, str | None, typer.Option(None, f"--{name}", metavar="NAME", help=described))


def option(setting: Setting, group: str, default: Any, name: str = "") -> inspect.Parameter:
    """The option of a setting, whose help says all there is to say of it.

    Args:
        group: its heading.
        name: another than the setting's own.
    """
    from trueup.cli.methods import in_words

    bounds = f" {setting.bounds[:1].upper()}{setting.bounds[1:]}." if setting.bounds else ""
    several = " May be given several times." if setting.several else ""
    escapes = r" Here \n, \t and \\ are read as escapes." if setting.escaped else ""
    shown = "" if default in (None, ()) else f" Default: {in_words(default)}."
    made = typer.Option(
        None,
        f"--{name or setting.path}",
        help=f"{setting.description}{bounds}{several}{escapes}{shown}",
        show_default=False,
        metavar="|".join(setting.choices) or METAVARS.get(setting.words, setting.words.upper()),
        rich_help_panel=group,
        hidden=len(setting.choices) == 1 and not setting.words,
    )
    kind: Any = list[str] | None if setting.several else str | None
    return parameter((name or setting.path).replace(".", "__"), kind, made)


def parameter(name: str, kind: Any, default: Any) -> inspect.Parameter:
    """A parameter that is given by name alone."""
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=kind, default=default)


def _option_of(path: str, form: Form) -> str:
    return path.removeprefix(f"{form.short}.") if form.short else path
