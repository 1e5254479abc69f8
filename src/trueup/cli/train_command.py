"""What `trueup train`, `selfcheck` and `methods` do. This file is imported when one of them is called."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any, get_args

from rich.console import Console

from trueup import display, errors, words
from trueup.cli import app, options
from trueup.config import layers, resolve, trl_names, trust
from trueup.methods.method import METHODS, MethodInfo, load_packages, package_of
from trueup.parallel.processes import alike, joined
from trueup.references.choices import AnyReference
from trueup.settings import schema, validation
from trueup.training import api

OF_TRAIN = {
    "config": ("FILE", "YAML file with settings; options go over it."),
    "resume": ("RUN", "Go on with the run in this folder."),
    "trust_run": ("", "Run the code and send the keys that a run or a file of somebody else names."),
}
OF_PLAN = {"measure": ("N", "Steps taken in a temporary folder to tell the time; 0 takes none. Default: 3.")}
FEEDBACK = ("demonstrations", "pairs", "rankings", "labelled responses", "responses with scores", "prompts")
"""What one may have, as the methods' own words for what they need begin."""
OF_METHODS = {"json": ("", "Print JSON instead of text.")}


def train(arguments: Sequence[str]) -> None:
    with joined():
        if request := alike(lambda: _request("train", arguments)):
            given, read = request
            with display.shown():
                resolved = alike(read)
                (api.run if given.more.get("resume") is None else api.go_on)(resolved)


def selfcheck(arguments: Sequence[str]) -> None:
    if not (request := _request("selfcheck", arguments)):
        return
    started, failed = time.monotonic(), []
    with joined(), display.shown(quiet=True):
        resolved = request[1]()
        from trueup.training import invariants

        for found in invariants.run_selfcheck(resolved):
            print(words.spelled(str(found)), flush=True)
            failed += [found.check] * (found.right is False)
    print(f"{display.duration(time.monotonic() - started)}, and nothing is left behind")
    if failed:
        names = f"{words.counted(len(failed), 'check')} failed: {', '.join(failed)}"
        raise errors.NumericsError(f"selfcheck: {names}; each says what to do")


def plan(arguments: Sequence[str]) -> None:
    if not (request := _request("plan", arguments)):
        return
    measure = validation.convert(int, "measure", request[0].more.get("measure", "3"))
    with joined(), display.shown(quiet=True):
        resolved = request[1]()
        from trueup.training.plan import plan as lines

        for line in lines(resolved, max(0, measure)):
            print(words.spelled(line), flush=True)


Request = tuple[options.Arguments, Callable[[], resolve.Resolved]]


def _request(verb: str, arguments: Sequence[str]) -> Request | None:
    """What a command of a method was given, and what settles it, before torch is imported; None where help was asked
    for. The method may stand in the file of settings alone."""
    load_packages()
    name, *rest = arguments or [""]
    if name in ("-h", "--help", "--help-all"):
        rows = [(info.name, "", info.title) for info in METHODS.values()]
        notes = (f"What each needs: trueup methods. Its settings: trueup {verb} METHOD --help",)
        app.print_boxes(f"trueup {verb} METHOD [OPTIONS]", [app.COMMANDS[verb]], {"Methods": rows}, notes)
        return None
    if not name or name.startswith("-"):
        name, rest = _method_in_file(arguments), list(arguments)
    if not name:
        raise errors.InputError(f"a method is missing: trueup {verb} METHOD, one of {', '.join(sorted(METHODS))}")
    info = resolve.find_method(name)
    command = command_of(info, verb)
    given = command.read(rest)
    if given.help:
        _print_help(command, info, given)
        return None
    layer, config, run = command.layer(given), given.more.get("config"), given.more.get("resume")
    trusted = given.on("trust_run")

    def read() -> resolve.Resolved:
        if config is not None:
            trust.refuse_config(config, info, layer, trusted=trusted)
        if run is None:
            return resolve.resolve(info.name, config_file=config, overrides=layer)
        resolved = resolve.load_run(run, layer, method_name=info.name, config_file=config)
        trust.refuse_run(run, info, layer, trusted=trusted)
        return resolved

    return given, read


def _method_in_file(arguments: Sequence[str]) -> str:
    given = [word for one in arguments for word in one.split("=", 1)]
    files = [after for word, after in pairwise(given) if word == "--config"]
    method = layers.read_yaml(files[-1])[0].get("method") if files else ""
    return method if isinstance(method, str) else ""


def command_of(info: MethodInfo, verb: str = "train") -> options.Command:
    """The options of the command that trains by one method, or looks at what that would be."""
    role = schema.Role(f"Method {info.name}", common=True)
    own = [replace(one, role=role) for one in schema.settings_in(info.settings)]
    default = info.defaults.get
    of_run = [replace(one, default=default(one.path, one.default)) for one in resolve.run_settings()]
    settings = {one.path: one for one in (*own, *of_run)}
    more = {name: told for name, told in OF_TRAIN.items() if verb == "train" or name != "resume"}
    more |= OF_PLAN if verb == "plan" else {}
    unseen = frozenset(trl_names.names_of_trl()) - settings.keys()
    unknown = partial(resolve.unknown, info=info)
    return options.Command(f"trueup {verb} {info.name}", settings, "data", more, unseen, unknown)


def _print_help(command: options.Command, info: MethodInfo, given: options.Arguments) -> None:
    """The common settings, or all; those of gathering where the command as it stands gathers."""
    source = given.settings.get("source", [command.settings["source"].default])[-1]
    named = any(name in given.settings for name in ("prompts", "annotator", "reward"))
    gathers = (source == "online" or named) and "online" in info.sources
    every = given.help == "--help-all"

    def of_use(name: str, setting: schema.Setting) -> bool:
        role = setting.role
        needed = gathers if role.gathers else every or not role.sources or source in role.sources
        vain = role.held_out and not (every or info.evaluates)
        return needed and not vain and (len(setting.choices) != 1 or bool(setting.words))

    feedback = "--prompts prompts.jsonl --reward runs/rm/model" if gathers else "--data feedback.jsonl"
    if gathers and not info.needs_scores:
        feedback = "--prompts prompts.jsonl --annotator local:models/judge"
    paper = f" {info.paper}." if info.paper else ""
    example = f"{command.name} --model models/sft {feedback} --output runs/{info.name}"
    about = [f"{info.title}.{paper} Needs {info.feedback}.", example]
    notes = [] if every else [f"Every setting: {command.name} --help-all"]
    if not gathers and "online" in info.sources:
        notes.append(f"Sampling and judging: {command.name} --source online {given.help}")
    options.print_help(command, about, every=every, shown=of_use, own=f"Method {info.name}", notes=notes)


def methods(arguments: Sequence[str]) -> None:
    command = options.Command("trueup methods", more=OF_METHODS)
    given = command.read(arguments)
    if given.help:
        options.print_help(command, [app.COMMANDS["methods"]])
        return
    load_packages()
    described = sorted(map(describe, METHODS.values()), key=lambda entry: _feedback(entry["feedback"]))
    if given.on("json"):
        print(json.dumps(described, indent=2))
        return
    console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
    before = None
    for entry in described:
        if (place := _feedback(entry["feedback"])) != before:
            named = [*FEEDBACK, "other feedback"][place]
            console.rule(f"of {named}", align="left", style="dim")
            console.print()
            before = place
        console.print(entry["name"], style="bold", end="  ")
        console.print(entry["title"])
        defaults = {**entry["settings"], **entry["defaults"]}
        told = [f"{name} {options.in_words(value)}" for name, value in defaults.items() if value is not None]
        further = {"also": entry["aliases"], "loss": entry["formula"], "defaults": told}
        for name in ("also", "package", "loss", "feedback", "reference", "sources", "paper", "defaults"):
            value = further[name] if name in further else entry[name]
            if value or name == "defaults":
                console.print(f"  {name:<10} {value if isinstance(value, str) else ', '.join(value)}")
        console.print()


def _feedback(said: str) -> int:
    return next((at for at, kind in enumerate(FEEDBACK) if said.startswith(kind)), len(FEEDBACK))


def describe(info: MethodInfo) -> dict[str, Any]:
    """A method as plain values: its own `settings`, the run's `defaults` that differ, kinds of `reference`."""
    told = ("name", "title", "aliases", "formula", "paper", "feedback", "sources", "defaults")
    settings = {one.path: one.default for one in schema.settings_in(info.settings) if not one.variants}
    kinds = {info_of.kind: info_of for info_of in get_args(get_args(AnyReference)[0])}
    offline = "offline" in info.sources
    taken = (kind for kind in info.choices("reference.kind") if offline or not kinds[kind].needs_all_data)
    more = {"reference": tuple(taken) or ("none",), "settings": settings, "package": package_of(info)}
    return {name: getattr(info, name) for name in told} | more
