"""docs/settings.md, made from the settings themselves: `python docs/settings_page.py > docs/settings.md`."""

from collections.abc import Iterator
from itertools import groupby
from typing import Any

from trueup.config.resolve import run_settings
from trueup.config.trl_names import TABLE
from trueup.methods import METHODS, MethodInfo
from trueup.settings.run_settings import RESUME_MAY_CHANGE
from trueup.settings.schema import Setting, settings_in

START = """\
# Settings

Every setting of every command, with its type, its default and what it does.
Made by `python docs/settings_page.py > docs/settings.md`; a test checks that it is current. What is for GPUs has
not been run on one yet.

A setting has one name everywhere: in YAML (nested or dotted), on the command line and in Python.

    reference: {{alpha: 0.6}}          # run.yaml, read by --config run.yaml
    --reference.alpha 0.6            # command line; a hyphen may stand for an underscore
    tr_dpo(reference=TrustRegion(alpha=0.6)), learning_rate=1e-6

- What is given on the command line goes over the file, and the file over the method's own defaults.
- A setting that takes several values is a list in YAML and is given several times on the command line;
  `--data a.jsonl b.jsonl` works too.
- A switch may stand alone on the command line: `--lora` is `--lora true`, and `--no-lora` is `--lora false`.
- `trueup train METHOD --help` shows what is usually set and `--help-all` everything; `--source online` before it adds
  what samples and judges.
- An unknown name is refused, with the nearest known one. Of two names for one thing in the same place
  (`epochs` and `steps`, TRL's name and ours) one is given.
- The `run.yaml` of a finished run is also a file for `--config`: give another `--output`.
- A run that is resumed may change {resume};
  nothing else, as the result could change.
"""
ABOUT = {
    "Gathering feedback": """\
An annotator has a name, which stands for its kind and the kind's main setting; what else the kind has is given beside
it. `reward` is short for an annotator that scores, and a plain folder is then a reward model's.

    --annotator openai --annotator.base_url http://localhost:8000/v1 --annotator.model NAME
    --annotator local:models/judge --annotator.instruction "Prefer the short response."
    --annotator world:gold --annotator.noise 0.1
    --reward runs/rm/model           # as --annotator reward:runs/rm/model
    --reward rewards.py:brevity      # function(prompt, response) -> number
    annotator: {kind: reward, model: runs/rm/model}    # the same in a file, spelt out
    sampler.stop: ["\\n\\nHuman:"]     # YAML reads escapes between double quotes
    --sampler.stop '\\n\\nHuman:'      # on the command line this setting alone reads \\n, \\t and \\\\

A key is never a setting: `key_variable` names the environment variable that holds it. A URL with a user's name,
a password or a query is refused, as `run.yaml` would hold it.

Where the examples come from is `source`: `offline` reads `data`, and samples and judges `prompts` before
training; `online` samples and judges while training; `replay` trains again on the `examples.jsonl` of an online run
and asks no annotator: `--config runs/x/run.yaml --source replay --data runs/x/examples.jsonl --output runs/y`.

""",
}
TRL = """
## TRL's and transformers' names

They are read in a file and on the command line. What has no effect is said when the run starts; what a file
leaves out takes the defaults above, not TRL's, but for what `loss_type` says. Names that stand above and are not
listed here mean the same: {same}, ...

| name | becomes |
|---|---|
"""


def render() -> str:
    """Return the page."""
    changeable = ", ".join(f"`{name}`" for name in sorted(RESUME_MAY_CHANGE))
    parts = [START.format(resume=changeable)]
    for heading, settings in groupby(run_settings(), key=lambda setting: setting.role.heading):
        parts.append(f"\n## {heading}\n\n{ABOUT.get(heading, '')}")
        parts += _table(list(settings))
    for info in METHODS.values():
        parts += _method(info)
    same = ("learning_rate", "seed", "weight_decay", "max_grad_norm", "max_length")
    parts.append(TRL.format(same=", ".join(f"`{name}`" for name in same)))
    says = {name: row.says for row in TABLE for name in row.names}
    parts += [f"| `{name}` | {said} |\n" for name, said in sorted(says.items())]
    return "".join(parts)


def _method(info: MethodInfo) -> Iterator[str]:
    yield f"\n## Method {info.name}\n\n{info.title}. Needs {info.feedback}.\n"
    if info.defaults:
        own = ", ".join(f"`{name}` {value}" for name, value in info.defaults.items())
        yield f"Its own defaults for a run: {own}.\n"
    if info.sources != MethodInfo.sources:
        yield f"Its examples come from `source` {' or '.join(info.sources)}.\n"
    yield "\n"
    yield from _table(settings_in(info.settings))


def _table(settings: list[Setting]) -> Iterator[str]:
    yield "| setting | allowed | default | |\n|---|---|---|---|\n"
    for setting in settings:
        allowed = setting.allowed.replace("|", "\\|") + (", several" if setting.several else "")
        about = setting.description.replace("|", "\\|")
        yield f"| `{setting.path}` | {allowed} | {_default(setting.default)} | {about} |\n"


def _default(value: Any) -> str:
    return "" if value in (None, ()) else str(value) if isinstance(value, str) else str(value).lower()


if __name__ == "__main__":
    print(render(), end="")
