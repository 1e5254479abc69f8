"""Commands whose options are typed settings: named as the setting is, and validated where it is, by the settings.

An option stands as `--name value` or `--name=value`; a hyphen may stand for an underscore, a switch may stand alone,
and `--no-name` switches it off. What stands without an option are files.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from typer import Context

from trueup.config.annotator_names import expanded
from trueup.config.layers import nest
from trueup.errors import InputError
from trueup.settings.schema import Setting, settings_in, unescaped
from trueup.settings.validation import Model, SettingProblem, SettingsError, validate
from trueup.words import did_you_mean

SWITCH = "true or false"
METAVARS = {"name": "NAME", "number": "NUMBER", "whole number": "N", "text": "TEXT", SWITCH: "true|false"}
WORDS = ("true", "false", "yes", "no", "on", "off", "1", "0")
"""What may follow a switch."""
WIDEST = 16
"""Characters of a list of choices that may stand beside an option's name in help."""


@dataclass(slots=True)
class Given:
    """What was given on the command line."""

    settings: dict[str, list[str]] = field(default_factory=dict)
    """Option -> its texts, one for each time it was given."""
    more: dict[str, str] = field(default_factory=dict)
    """Options that are no settings."""
    help: str = ""
    """`--help` or `--help-all` where that was asked for."""


@dataclass(frozen=True, slots=True)
class Command:
    """A command whose options are settings."""

    name: str
    """As it is typed: `trueup sample`."""
    settings: Mapping[str, Setting]
    """Option -> the setting it gives."""
    files: str = ""
    """The option that arguments without one add to."""
    more: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Options that are no settings: name -> (what stands for a value in help, help)."""
    unseen: frozenset[str] = frozenset()
    """Names of another tool, which are taken as they are and are not in help."""

    def read(self, arguments: Sequence[str], unknown: Callable[[str], str] | None = None) -> Given:
        """Sort arguments by option.

        Args:
            unknown: what to say of a name that is no option.

        Raises:
            InputError: an option does not exist, or lacks its value.
        """
        given = Given()
        files: list[str] = []
        left = list(arguments)
        while left:
            argument = left.pop(0)
            if argument in ("-h", "--help", "--help-all", "--help_all"):
                given.help = "--help-all" if argument.endswith("all") else "--help"
                continue
            if not argument.startswith("-") or argument in ("-", "--"):
                files += left if argument == "--" else [argument]
                left = [] if argument == "--" else left
                continue
            written, equals, value = argument.partition("=")
            name = written.lstrip("-").replace("-", "_")
            off = name.removeprefix("no_")
            if written.startswith("--no-") and not equals and self._is_switch(off):
                name, value = off, "false"
            elif not written.startswith("--") or not self._is_known(name):
                raise InputError((unknown or self._unknown)(name))
            elif not equals and self._stands_alone(name, left):
                value = "true"
            elif not equals and not left:
                raise InputError(f"Option '--{name}' requires an argument.")
            elif not equals:
                value = left.pop(0)
            if name in self.more:
                given.more[name] = value
            else:
                given.settings.setdefault(name, []).append(value)
        if files:
            given.settings.setdefault(self.files, []).extend(files)
        return given

    def layer(self, given: Given) -> dict[str, Any]:
        """Return what was given as settings by their dotted names, a text where only one was given or can be."""
        layer: dict[str, Any] = {}
        for name, texts in given.settings.items():
            setting = self.settings.get(name, Setting(path=name, several=True))
            read = [unescaped(text) for text in texts] if setting.escaped else texts
            layer[setting.path] = read if setting.several and len(read) > 1 else read[-1]
        return layer

    def _is_known(self, name: str) -> bool:
        return name in self.settings or name in self.more or name in self.unseen

    def _is_switch(self, name: str) -> bool:
        return name in self.settings and self.settings[name].words == SWITCH

    def _stands_alone(self, name: str, following: Sequence[str]) -> bool:
        if name in self.unseen:  # perhaps a switch
            return not following or following[0].startswith("--")
        return self._is_switch(name) and (not following or following[0].lower() not in WORDS)

    def _unknown(self, name: str) -> str:
        return f"{name} is not an option of {self.name}{did_you_mean(name, [*self.settings, *self.more])}"


def read_settings(
    context: Context,
    model: type[Model],
    *,
    short: str = "",
    without: Sequence[str] = (),
    more: Mapping[str, tuple[str, str]] | None = None,
) -> tuple[Model | None, Mapping[str, str]]:
    """The settings of a command that is made of them, and its options that are none.

    Without settings where help was asked for, which is printed, or where an option that is no setting was given.

    Args:
        short: settings below this one are options without its name.
        without: settings that are no options.
        more: as of `Command`.

    Raises:
        InputError: an option or a value does not fit, as the command line knows it.
    """
    settings = {
        one.path.removeprefix(f"{short}."): one for one in settings_in(model) if one.path not in without
    }
    command = Command(context.command_path, settings, files="data", more=more or {})
    given = command.read(context.args)
    if given.help:
        print_help(command, [context.command.help or ""], settings.items())
    if given.help or given.more:
        return None, given.more
    try:
        return validate(model, nest(expanded(command.layer(given))), where=command.name), {}
    except SettingsError as found:
        if not short:
            raise
        shortened = [SettingProblem(one.path, one.text.replace(f"{short}.", "")) for one in found.problems]
        raise SettingsError(shortened) from None


def print_help(
    command: Command, about: Sequence[str], options: Iterable[tuple[str, Setting]], *, brief: bool = False
) -> None:
    """Print a command's usage, what it is about and some of its options, in boxes by their headings.

    Args:
        about: paragraphs.
        options: in order; those that follow each other under one heading share a box.
        brief: without the ranges of numbers.
    """
    from rich.console import Console
    from rich.padding import Padding
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    files = " [FILE]..." if command.files else ""
    console.print(f"\n Usage: {command.name} \\[OPTIONS]{files}\n", style="bold")
    for paragraph in about:
        console.print(Padding(Text(paragraph), (0, 1, 1, 1)))

    def box(heading: str, rows: Iterable[tuple[str, str, str]]) -> None:
        table = Table(box=None, show_header=False, pad_edge=False, expand=True)
        table.add_column(no_wrap=True, style="bold cyan")
        table.add_column(no_wrap=True, style="bold yellow")
        table.add_column(ratio=1)
        for name, metavar, text in rows:
            table.add_row(f"--{name}", metavar, Text(text))
        console.print(Panel(table, title=heading, title_align="left", border_style="dim"))

    for heading, group in groupby(options, key=lambda one: one[1].role.heading):
        box(heading, [_row(name, setting, brief) for name, setting in group])
    box("Options", [(name, *shown) for name, shown in command.more.items()])


def _row(name: str, setting: Setting, brief: bool) -> tuple[str, str, str]:
    """An option in help: its name, what stands for its value, and what it is."""
    choices = "|".join(setting.choices)
    listed = len(choices) > WIDEST
    if listed:
        metavar = setting.path.rpartition(".")[2].upper()
    else:
        metavar = choices or METAVARS.get(setting.words, setting.words.upper())
    parts = [
        setting.description,
        f"One of {', '.join(setting.choices)}." if listed else "",
        f"{setting.bounds[:1].upper()}{setting.bounds[1:]}." if setting.bounds and not brief else "",
        "May be given several times." if setting.several and not brief else "",
        r"Here \n, \t and \\ are read as escapes." if setting.escaped else "",
        "" if setting.default in (None, ()) else f"Default: {in_words(setting.default)}.",
    ]
    return name, metavar, " ".join(filter(None, parts))


def in_words(value: object) -> str:
    """A default as it would be typed."""
    if isinstance(value, str) and value != value.strip():
        return repr(value)
    return str(value).lower() if isinstance(value, bool) else str(value)
