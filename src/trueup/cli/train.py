"""`trueup train METHOD`: begin or resume a run; its options are the settings of the method and of a run."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import typer

from trueup.errors import InputError

if TYPE_CHECKING:
    from trueup.cli.options import Command, Given
    from trueup.methods import MethodInfo

MORE = {
    "config": ("FILE", "YAML file with settings; options go over it."),
    "resume": ("RUN", "Go on with the run in this folder."),
}


def train(context: typer.Context) -> None:
    """Align a model with feedback; `trueup train METHOD --help` lists a method's settings."""
    from trueup.config.resolve import find_method, unknown
    from trueup.methods import METHODS

    name, *arguments = context.args or [""]
    if name in ("-h", "--help"):
        _print_methods()
        return
    if not name or name.startswith("-"):
        raise InputError(
            f"a method is missing: trueup train METHOD, where METHOD is one of {', '.join(sorted(METHODS))}"
        )
    info = find_method(name)
    command = command_of(info)
    given = command.read(arguments, lambda name: unknown(name, info))
    if given.help:
        _print_help(command, info, given)
    else:
        start(info.name, command.layer(given), given.more.get("config"), given.more.get("resume"))


def command_of(info: MethodInfo) -> Command:
    """The options of the command that trains by one method."""
    from trueup.cli.options import Command
    from trueup.config.annotator_names import run_settings
    from trueup.config.trl_options import names_of_trl
    from trueup.settings.schema import settings_in

    own = [replace(one, heading=f"Method {info.name}", common=True) for one in settings_in(info.settings)]
    of_run = [replace(one, default=info.defaults.get(one.path, one.default)) for one in run_settings()]
    settings = {one.path: one for one in (*own, *of_run)}
    unseen = frozenset(names_of_trl()) - settings.keys()
    return Command(f"trueup train {info.name}", settings, files="data", more=MORE, unseen=unseen)


def start(method: str, given: dict[str, Any], config: str | None, resume: str | None) -> None:
    """Begin or resume a run; whatever cannot be is refused before torch is imported."""
    from trueup.config.resolve import changeable, load_run, resolve

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


def _print_help(command: Command, info: MethodInfo, given: Given) -> None:
    """The common settings, or all; those of gathering where the command as it stands gathers."""
    from trueup.cli.options import print_help

    source = given.settings.get("source", [command.settings["source"].default])[-1]
    gathers = source == "online" or any(name in given.settings for name in ("prompts", "annotator", "reward"))
    every = given.help == "--help-all"
    fitting = {
        name: setting
        for name, setting in command.settings.items()
        if (every or setting.common) and (gathers or not setting.gathers)
    }
    if source == "online" and not every:
        del fitting["data"]
    shown = [(name, one) for name, one in fitting.items() if len(one.choices) != 1 or one.words]
    if not every:  # few of each: one box
        own = f"Method {info.name}"
        shown = [(name, one if one.heading == own else replace(one, heading="A run")) for name, one in shown]
    what = "--prompts prompts.jsonl --reward runs/rm/model" if gathers else "--data feedback.jsonl"
    if gathers and not info.needs_scores:
        what = "--prompts prompts.jsonl --annotator local:models/judge"
    paper = f" {info.paper}." if info.paper else ""
    about = [
        f"{info.title}.{paper} Needs {info.feedback}.",
        f"{command.name} --model models/sft {what} --output runs/{info.name}",
    ]
    print_help(command, about, shown, brief=not every)
    if not every:
        typer.echo(f" Every setting: {command.name} --help-all")
    if not gathers:
        how = "--source online" if "online" in info.sources else "--prompts FILE"
        typer.echo(f" Those of sampling and judging: {command.name} {how} {given.help}")
    typer.echo("")


def _print_methods() -> None:
    from trueup.methods import METHODS

    typer.echo("\n Usage: trueup train METHOD [OPTIONS]\n\n Align a model with feedback.\n")
    wide = max(map(len, METHODS))
    for info in METHODS.values():
        typer.echo(f"   {info.name:{wide}}  {info.title}")
    typer.echo("\n What each needs: trueup methods. Its settings: trueup train METHOD --help\n")
