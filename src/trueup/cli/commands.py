"""What the commands beside `train` and `methods` do. This file is imported when one of them is called."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trueup import display, errors, model_folder, words
from trueup.annotators import annotator, template
from trueup.cli import app, options
from trueup.feedback import canonical, columns, conversion, records
from trueup.feedback import condition as conditions
from trueup.inspection import inspection, screen
from trueup.settings import command_settings, gathering_settings, validation
from trueup.sources.by_name import WORLD_PREFIX, examples_named, prompts_named
from trueup.training.folder import RunFolder
from trueup.world.people import world_scorer

JSON = {"json": ("", "Print one JSON object instead of text.")}
TEMPLATE = "Print a template of an annotator, to be copied and changed, and do nothing else."
SHOW_TEMPLATE = {"show_template": ("NAME", TEMPLATE)}
MERGE = {"merge": ("", "Put the files that all shards wrote together: --merge PART... --output FILE.")}


def _typed(
    of: str, model: type[validation.Model], arguments: Sequence[str], short: str = "", **further: Any
) -> tuple[validation.Model, options.Arguments] | None:
    command = options.of_settings(f"trueup {of}", model, short=short, **further)
    given = _read(command, arguments)
    if given and (name := given.more.get("show_template")):
        print(template.template_source(name), end="")
    elif given and not _merged(given, command.name):
        return command.typed(model, given, short=short), given
    return None


def _merged(given: options.Arguments, of: str) -> bool:
    if "merge" not in given.more or not given.on("merge"):  # which `export` has as a setting
        return False
    if more := given.settings.keys() - {"data", "output", "overwrite"}:
        raise errors.InputError(f"--{min(more)}: the shards' files say what they were made with; leave it out")
    if not (output := given.settings.get("output")):
        raise errors.InputError("--merge needs --output, the file to write")
    from trueup.gathering import shards

    with display.shown():
        shards.merge(given.settings.get("data", ()), output[-1], of, overwrite=given.on("overwrite"))
    return True


def _read(command: options.Command, arguments: Sequence[str]) -> options.Arguments | None:
    given = command.read(arguments)
    if not given.help:
        return given
    some = any(one.role.common for one in command.settings.values())
    every = given.help == "--help-all" or not some
    told = app.TOLD[command.name.split()[-1]]
    notes = [] if every else [f"Every setting: {command.name} --help-all"]
    options.print_help(command, [told["about"], *told.get("examples", ())], every=every, notes=notes)
    return None


def sample(arguments: Sequence[str]) -> None:
    without = ("sampler.models", "sampler.resync")
    further: dict[str, Any] = {"short": "sampler", "without": without, "more": MERGE}
    if found := _typed("sample", gathering_settings.SampleSettings, arguments, **further):
        from trueup.gathering import candidates

        with display.shown():
            candidates.sample(found[0])


def annotate(arguments: Sequence[str]) -> None:
    if found := _typed("annotate", gathering_settings.AnnotateSettings, arguments, more=MERGE | SHOW_TEMPLATE):
        from trueup.gathering import annotating

        with display.shown():
            annotating.annotate(found[0])


def demo(arguments: Sequence[str]) -> None:
    more = {"output": ("FOLDER", "For feedback, runs and results.json. Default: runs/demo.")}
    if given := _read(options.Command("trueup demo", more=more), arguments):
        from trueup.demo import run

        run(given.more.get("output"))


def inspect(arguments: Sequence[str]) -> None:
    if not (got := _typed("inspect", command_settings.InspectSettings, arguments, more=JSON)):
        return
    settings, given = got
    coding = None
    if settings.model is not None:
        from trueup.inspection.encoded import load_coding

        coding = load_coding(settings)
    with display.shown():
        found = inspection.inspect(
            settings.data,
            settings.eval_data,
            table=columns.table_of(settings),
            min_characters=settings.min_visible,
            coding=coding,
            show=settings.show,
            rows=settings.row,
        )
    if given.on("json"):
        print(found.as_json())
    elif found.training.files:
        screen.print_inspection(found, ids=settings.ids)
    else:
        raise errors.InputError("; ".join(found.training.unreadable))
    faults, warnings = found.count("error"), found.count("warning")
    if found.unreadable or (settings.strict and (faults or warnings)):
        told = f"{words.counted(faults, 'error')} and {words.counted(warnings, 'warning')}"
        raise errors.InputError(f"{told}; all are listed above")


def convert(arguments: Sequence[str]) -> None:
    if not (found := _typed("convert", command_settings.ConvertSettings, arguments)):
        return
    settings, _ = found
    canonical.check_output(settings.output, force=settings.force)
    with display.shown():
        examples = examples_named(settings.data, settings, skip_bad=settings.skip_bad).examples
    converted = conversion.convert(examples, _target(settings, examples))
    canonical.write_rows(settings.output, converted.rows)
    for line in converted.lines():
        print(words.spelled(line), file=sys.stderr)
    place = "the standard output" if settings.output == canonical.STANDARD_OUTPUT else settings.output
    rows = words.counted(len(converted.rows), "row")
    print(f"{words.counted(len(examples), 'example')} read, {rows} written to {words.spelled(place)}", file=sys.stderr)


def _target(settings: command_settings.ConvertSettings, examples: Sequence[records.Example]) -> conversion.Target:
    if settings.to != "trl":
        return conversion.OWN[settings.to]
    chosen = settings.kind or conversion.usual_kind(examples)
    if settings.kind is None:
        held = records.count(examples).words()
        line = f"TRL's rows of {chosen} are written for {held}; --kind changes it"
        print(words.spelled(line), file=sys.stderr)
    if chosen == "points":
        return conversion.trl_points_target(settings.threshold)
    if settings.threshold is not None:
        instead = "add --kind points"
        raise errors.InputError(f"--threshold is for TRL's rows of points, and these are {chosen}; {instead}")
    return conversion.TRL_PAIRS if chosen == "pairs" else conversion.trl_demonstrations_target(examples)


def condition(arguments: Sequence[str]) -> None:
    more = JSON | {"dry_run": ("", "Change nothing.")}
    chosen = command_settings.ConditionSettings
    if not (found := _typed("condition", chosen, arguments, files="model", more=more)):
        return
    settings, given = found
    now = _condition_of(settings.model)
    reward = settings.reward
    scorer = world_scorer(reward) if reward.startswith(WORLD_PREFIX) else annotator.load_scorer(reward)
    with display.shown():
        prompts = prompts_named(settings.prompts, settings).prompts[: settings.count]
    from trueup.evaluate import condition_sweep

    with display.shown():
        draws: dict[str, Any] = {"seed": settings.seed, "max_new_tokens": settings.max_new_tokens}
        swept = condition_sweep.sweep_model(settings.model, now, settings.candidates, prompts, scorer, **draws)
    best = swept.best.condition
    keep = settings.keep and not given.on("dry_run")
    kept = keep and best != now and swept.reliable
    if kept:
        condition_sweep.keep(Path(settings.model), now, best)
    if given.on("json"):
        print(json.dumps({"model": settings.model, **swept.as_json(), "kept": kept}, indent=1))
    else:
        condition_sweep.print_table(swept)
        print(words.spelled(swept.verdict(settings.model, keep=keep)))


def evaluate(arguments: Sequence[str]) -> None:
    more = JSON | {"dry_run": ("", "Say what it would take, and do nothing.")}
    further: dict[str, Any] = {"files": "models", "without": gathering_settings.NOT_HERE, "more": more}
    if found := _typed("evaluate", gathering_settings.EvaluateSettings, arguments, short="sampler", **further):
        settings, given = found
        from trueup.evaluate import evaluation, side_by_side

        with display.shown():
            results = evaluation.evaluate(settings, dry_run=given.on("dry_run"))
        if results is not None and given.on("json"):
            print(json.dumps(results, indent=1))
        elif results is not None:
            side_by_side.print_results(results)


def label(arguments: Sequence[str]) -> None:
    if found := _typed("label", command_settings.LabelSettings, arguments):
        try:
            from trueup.labelling import serving
        except ModuleNotFoundError as error:
            absent = f"the page needs {error.name}, which is not installed"
            raise errors.InputError(f"{absent}: pip install 'trueup[labelling]'") from error
        with display.shown():
            serving.label(found[0])


def report(arguments: Sequence[str]) -> None:
    if found := _typed("report", command_settings.ReportSettings, arguments, files="run"):
        from trueup.report import run_page  # which loads numpy

        settings, _ = found
        output = Path(settings.output) if settings.output else None
        folder = RunFolder(Path(settings.run))
        print(words.spelled(str(run_page.write_report(folder.path, folder.read_status(), output, settings.votes))))


def compare(arguments: Sequence[str]) -> None:
    if found := _typed("compare", command_settings.CompareSettings, arguments, files="runs"):
        from trueup.report import comparison, run_data

        settings, _ = found
        folders = [RunFolder(Path(one)) for one in settings.runs]
        runs = [run_data.RunData(folder.path, folder.read_status()) for folder in folders]
        print(words.spelled(str(comparison.write_comparison(runs, settings.evaluation, Path(settings.output)))))


def chat(arguments: Sequence[str]) -> None:
    further: dict[str, Any] = {"files": "model", "without": (*gathering_settings.NOT_HERE, "sampler.responses")}
    if found := _typed("chat", gathering_settings.ChatSettings, arguments, short="sampler", **further):
        from trueup.labelling import conversation

        with display.shown():
            conversation.chat(found[0])


def export(arguments: Sequence[str]) -> None:
    if found := _typed("export", command_settings.ExportSettings, arguments, files="source"):
        with display.shown():
            from trueup.training import publish

            publish.publish(found[0])


def _condition_of(model: str) -> conditions.Condition:
    found = conditions.read_condition(Path(model))
    if found is None:
        inner = Path(model) / "model"
        if (inner / conditions.FILE).exists():
            raise errors.InputError(f"{model} is the folder of a run; give its model, {inner}")
        if Path(model).is_dir():
            raise errors.InputError(f"{model} has no {conditions.FILE}: give a model that `trueup train ca` trained")
    model_folder.check_model(model, trust_remote_code=False, world=False)
    assert found is not None
    return found
