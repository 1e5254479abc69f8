"""What `trueup train`, `sample`, `annotate` and `methods` do. This file is imported when one of them is called."""

import json
from dataclasses import replace
from typing import Any

import typer

from trueup.cli.options import Command, Given, in_words, print_help, read_settings
from trueup.config.annotator_names import run_settings
from trueup.config.resolve import changeable, find_method, load_run, resolve, unknown
from trueup.config.trl_options import names_of_trl
from trueup.display import shown
from trueup.errors import InputError
from trueup.methods import METHODS, MethodInfo
from trueup.settings.gathering_settings import AnnotateSettings, SampleSettings
from trueup.settings.schema import Role, settings_in
from trueup.training import api

OF_TRAIN = {
    "config": ("FILE", "YAML file with settings; options go over it."),
    "resume": ("RUN", "Go on with the run in this folder."),
}
OF_ANNOTATE = {
    "show_template": (
        "NAME",
        "Print a template of an annotator, to be copied and changed, and do nothing else.",
    )
}


def train(context: typer.Context) -> None:
    """Train by the method that is named first; `--help` lists its settings."""
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
    role = Role(f"Method {info.name}", common=True)
    own = [replace(one, role=role) for one in settings_in(info.settings)]
    of_run = [replace(one, default=info.defaults.get(one.path, one.default)) for one in run_settings()]
    settings = {one.path: one for one in (*own, *of_run)}
    unseen = frozenset(names_of_trl()) - settings.keys()
    return Command(f"trueup train {info.name}", settings, files="data", more=OF_TRAIN, unseen=unseen)


def start(method: str, given: dict[str, Any], config: str | None, resume: str | None) -> None:
    """Begin or resume a run; whatever cannot be is refused before torch is imported."""
    with shown():
        if resume is None:
            api.run(resolve(method, config_file=config, overrides=given))
        else:
            resumed = load_run(resume, given, method_name=method, config_file=config)
            api.resume(resume, changeable(resumed))


def _print_help(command: Command, info: MethodInfo, given: Given) -> None:
    """The common settings, or all; those of gathering where the command as it stands gathers."""
    source = given.settings.get("source", [command.settings["source"].default])[-1]
    asked = source == "online" or any(name in given.settings for name in ("prompts", "annotator", "reward"))
    gathers = asked and "online" in info.sources
    every = given.help == "--help-all"
    fitting = {
        name: setting
        for name, setting in command.settings.items()
        if (every or setting.role.common) and (gathers or not setting.role.gathers)
    }
    if source == "online" and not every:
        del fitting["data"]
    listed = [(name, one) for name, one in fitting.items() if len(one.choices) != 1 or one.words]
    if not every:  # few of each: one box
        own = f"Method {info.name}"
        listed = [
            (name, one if one.role.heading == own else replace(one, role=Role("A run")))
            for name, one in listed
        ]
    what = "--prompts prompts.jsonl --reward runs/rm/model" if gathers else "--data feedback.jsonl"
    if gathers and not info.needs_scores:
        what = "--prompts prompts.jsonl --annotator local:models/judge"
    paper = f" {info.paper}." if info.paper else ""
    about = [
        f"{info.title}.{paper} Needs {info.feedback}.",
        f"{command.name} --model models/sft {what} --output runs/{info.name}",
    ]
    print_help(command, about, listed, brief=not every)
    if not every:
        typer.echo(f" Every setting: {command.name} --help-all")
    if not gathers and "online" in info.sources:
        typer.echo(f" Those of sampling and judging: {command.name} --source online {given.help}")
    typer.echo("")


def _print_methods() -> None:
    typer.echo("\n Usage: trueup train METHOD [OPTIONS]\n\n Align a model with feedback.\n")
    wide = max(map(len, METHODS))
    for info in METHODS.values():
        typer.echo(f"   {info.name:{wide}}  {info.title}")
    typer.echo("\n What each needs: trueup methods. Its settings: trueup train METHOD --help\n")


def sample(context: typer.Context) -> None:
    """Sample responses to prompts."""
    without = ("sampler.models", "sampler.resync")
    settings, _ = read_settings(context, SampleSettings, short="sampler", without=without)
    if settings is not None:
        from trueup.gathering import candidates

        with shown():
            candidates.sample(settings)


def annotate(context: typer.Context) -> None:
    """Have responses judged, or print a template."""
    settings, more = read_settings(context, AnnotateSettings, more=OF_ANNOTATE)
    if name := more.get("show_template"):
        from trueup.annotators.template import template_source

        typer.echo(template_source(name), nl=False)
    elif settings is not None:
        from trueup.gathering import annotating

        with shown():
            annotating.annotate(settings)


def print_methods(*, as_json: bool) -> None:
    """Print what is to be known of every method."""
    described = [describe(info) for info in METHODS.values()]
    if as_json:
        typer.echo(json.dumps(described, indent=2))
        return
    for entry in described:
        defaults = {**entry["settings"], **entry["defaults"]}
        typer.echo(f"{typer.style(entry['name'], bold=True)}  {entry['title']}")
        if entry["aliases"]:
            typer.echo(f"  also       {', '.join(entry['aliases'])}")
        typer.echo(f"  loss       {entry['formula']}")
        typer.echo(f"  feedback   {entry['feedback']}")
        typer.echo(f"  reference  {', '.join(entry['reference'])}")
        typer.echo(f"  sources    {', '.join(entry['sources'])}")
        if entry["paper"]:
            typer.echo(f"  paper      {entry['paper']}")
        given = [f"{name} {in_words(value)}" for name, value in defaults.items() if value is not None]
        typer.echo(f"  defaults   {', '.join(given)}\n")


def describe(info: MethodInfo) -> dict[str, Any]:
    """Return a method as plain values.

    `settings` are its own, `defaults` those of the run that differ, `reference` the kinds it takes, `none` where it
    needs none, `sources` where its examples may come from (`source` of a run).
    """
    settings = [setting for setting in settings_in(info.settings) if not setting.variants]
    return {
        "name": info.name,
        "title": info.title,
        "aliases": list(info.aliases),
        "formula": info.formula,
        "paper": info.paper,
        "feedback": info.feedback,
        "reference": list(info.choices("reference.kind")) or ["none"],
        "sources": list(info.sources),
        "settings": {setting.path: setting.default for setting in settings},
        "defaults": dict(info.defaults),
    }
