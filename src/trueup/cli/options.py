"""Commands whose options are typed settings: named as the setting is, and validated where it is, by the settings.

`--name value` or `--name=value`; a hyphen may stand for an underscore; `--no-name` switches off; all else is a file.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trueup import errors, words
from trueup.cli.app import Row, print_boxes
from trueup.config import layers
from trueup.settings import annotator_settings, schema, validation

SWITCH = "true or false"
METAVARS = {"name": "NAME", "number": "NUMBER", "whole number": "N", "text": "TEXT", SWITCH: "true|false"}
WORDS = ("true", "false", "yes", "no", "on", "off", "1", "0")
WIDEST = 16
PAIR = re.compile(r"(?!--)[^=:?/]+=")
"""How a further text of an option of pairs begins, which a file's name seldom does."""
ADDRESS = re.compile(r"https?://")
SENTENCE = re.compile(r"(?<=[^.]\.) ")


@dataclass(slots=True)
class Arguments:
    settings: dict[str, list[str]] = field(default_factory=dict)
    """Option -> its texts, one for each time it was given."""
    more: dict[str, str] = field(default_factory=dict)
    help: str = ""

    def on(self, name: str) -> bool:
        return validation.convert(bool, name, self.more.get(name, self.settings.get(name, ["false"])[-1]))


@dataclass(frozen=True, slots=True)
class Command:
    name: str
    settings: Mapping[str, schema.Setting] = field(default_factory=dict)
    files: str = ""
    more: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Options that are no settings: name -> (what stands for a value in help, help). A switch has no value."""
    unseen: frozenset[str] = frozenset()
    unknown: Callable[[str], str] | None = None

    def read(self, arguments: Sequence[str]) -> Arguments:
        given = Arguments()
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
            elif not any(name in known for known in (self.settings, self.more, self.unseen)):
                raise errors.InputError((self.unknown or self._unknown)(name))
            elif not re.match("--[^-]", written):
                raise errors.InputError(f"{written} is not an option of {self.name}; did you mean --{name}?")
            elif not equals and self._stands_alone(name, left):
                value = "true"
            elif not equals and not left:
                raise errors.InputError(f"{written} stands without its value; give {written} VALUE")
            elif not equals:
                value = left.pop(0)
            if name in self.more:
                given.more[name] = value
                continue
            given.settings.setdefault(name, []).append(value)
            setting = self.settings.get(name)
            while setting and setting.several and left:
                if not (PAIR if setting.role.pairs else ADDRESS).match(left[0]):
                    break
                given.settings[name].append(left.pop(0))
        taken = self.settings.get(self.files)
        if files and (taken is None or (len(files) > 1 and not taken.several)):
            many = f"{files[-1]} is one argument too many for {self.name}"
            raise errors.InputError(f"{many}; its options begin with --")
        if files:
            given.settings.setdefault(self.files, []).extend(files)
        return given

    def layer(self, given: Arguments) -> dict[str, Any]:
        layer: dict[str, Any] = {}
        for name, texts in given.settings.items():
            setting = self.settings.get(name, schema.Setting(path=name, several=True))
            read = [schema.unescaped(text) for text in texts] if setting.role.escaped else texts
            layer[setting.path] = read if setting.several and len(read) > 1 else read[-1]
        return layer

    def typed(self, model: type[validation.Model], given: Arguments, *, short: str = "") -> validation.Model:
        """What was given as typed settings; what does not fit is named as the command line knows it."""
        layer = self.layer(given)
        if "annotator" in model.model_fields:
            layer = annotator_settings.expanded(layer)
        elif "judge" in model.model_fields:
            layer = annotator_settings.expanded_apart(layer)
        try:
            return validation.validate(model, layers.nest(layer), where=self.name)
        except validation.SettingsError as found:
            if not short:
                raise
            told = [validation.SettingProblem(one.path, one.text.replace(f"{short}.", "")) for one in found.problems]
            raise validation.SettingsError(told) from None

    def _is_switch(self, name: str) -> bool:
        if name in self.more:
            return not self.more[name][0]
        return name in self.settings and self.settings[name].words == SWITCH

    def _stands_alone(self, name: str, following: Sequence[str]) -> bool:
        if name in self.unseen:  # perhaps a switch
            return not following or following[0].startswith("--")
        return self._is_switch(name) and (not following or following[0].lower() not in WORDS)

    def _unknown(self, name: str) -> str:
        close = words.did_you_mean(name, [*self.settings, *self.more])
        return f"{words.named(name)} is not an option of {self.name}{close}"


def of_settings(
    name: str,
    model: type[validation.Model],
    *,
    files: str = "data",
    short: str = "",
    without: Sequence[str] = (),
    more: Mapping[str, tuple[str, str]] | None = None,
) -> Command:
    found = [one for one in schema.settings_in(model) if one.path not in without]
    return Command(name, {one.path.removeprefix(f"{short}."): one for one in found}, files, more or {})


def print_help(
    command: Command,
    about: Sequence[str],
    *,
    every: bool = True,
    shown: Callable[[str, schema.Setting], bool] = lambda name, setting: True,
    own: str = "",
    notes: Iterable[str] = (),
) -> None:
    """Print a command's usage, what it is about and its options, in boxes by their headings: all settings or the common
    ones, of those that are `shown`; the heading `own` keeps a box of its own."""
    boxes: dict[str, list[Row]] = {}
    for name, one in command.settings.items():
        if (every or one.role.common) and shown(name, one):
            heading = one.role.heading if every or one.role.heading == own else "Settings"  # few: one box
            boxes.setdefault(heading, []).append(_row(name, one, every))
    boxes["Options"] = [(f"--{name}", *told) for name, told in command.more.items()]
    several = command.files in command.settings and command.settings[command.files].several
    files = f" {'[FILE]...' if several else command.files.upper()}" if command.files else ""
    print_boxes(f"{command.name} [OPTIONS]{files}", about, boxes, notes)


def _row(name: str, setting: schema.Setting, every: bool) -> Row:
    choices = "|".join(setting.choices)
    listed = len(choices) > WIDEST
    metavar = choices or METAVARS.get(setting.words, setting.words.upper())
    if listed:
        metavar = setting.path.rpartition(".")[2].upper()
    parts = [
        setting.description if every else SENTENCE.split(setting.description)[0],
        f"One of {', '.join(setting.choices)}." if listed else "",
        f"{setting.bounds[:1].upper()}{setting.bounds[1:]}." if setting.bounds and every else "",
        "May be given several times." if setting.several and every and not setting.role.pairs else "",
        r"Here \n, \t and \\ are read as escapes." if setting.role.escaped else "",
        "" if setting.default in (None, ()) else f"Default: {in_words(setting.default)}.",
    ]
    return f"--{name}", metavar, " ".join(filter(None, parts))


def in_words(value: object) -> str:
    if isinstance(value, str) and value != value.strip():
        return repr(value)
    return str(value).lower() if isinstance(value, bool) else str(value)
