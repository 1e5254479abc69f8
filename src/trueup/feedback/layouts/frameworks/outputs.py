"""Prompts and outputs, as NeMo-Aligner and OpenRLHF write them: text as it is, with no template and nothing between.

    {"input": "2 + 2 =", "output": " 4", "reward": 0.7}

NeMo-Aligner: https://docs.nvidia.com/nemo-framework/user-guide/latest/modelalignment/sft.html. OpenRLHF: `--input_key`,
`--output_key`, `--label_key`, and the files its batch inference writes, https://github.com/OpenRLHF/OpenRLHF.
"""

from functools import partial

from trueup.feedback.fields import Place, label, number
from trueup.feedback.layouts.frameworks.dialogues import COMMON, single
from trueup.feedback.layouts.layout import JUDGEMENTS, REQUEST, Layout, RowValue
from trueup.feedback.records import Example, Origin
from trueup.feedback.turns import as_response, content

SIDES = ("instruction", "completion", "chosen", "rejected")


def convert(row: RowValue, origin: Origin, *, prompt_key: str, told: str | None = None) -> Example:
    """The output with what the key `told`, `label` or `reward`, says of it; without one it is to be imitated."""
    place = Place(origin)
    prompt = content(row[prompt_key], place.key(prompt_key))
    at = place.key("output")
    output = as_response(content(row["output"], at), prompt, at)
    desirability = label(row["label"], place.key("label")) if told == "label" else None
    reward = number(row["reward"], place.key("reward")) if told == "reward" else None
    return single(prompt, output, row, origin, label=desirability, score=reward)


def demonstrations(prompt_key: str) -> Layout:
    """The layout with the prompt under the given key."""
    return Layout(
        name="prompts with outputs",
        keys=(prompt_key, "output"),
        optional=COMMON,
        request=REQUEST,
        foreign=(*JUDGEMENTS, "instruction", "completion"),
        meaning="A demonstration: `output` is a response to imitate.",
        convert=partial(convert, prompt_key=prompt_key),
    )


def points(prompt_key: str) -> Layout:
    """The layout with the prompt under the given key, and a label."""
    return Layout(
        name="prompts with labelled outputs",
        keys=(prompt_key, "output", "label"),
        optional=COMMON,
        request=REQUEST,
        foreign=("reward", *SIDES),
        meaning="A point: `label` says how desirable `output` is, from false or 0 to true or 1.",
        convert=partial(convert, prompt_key=prompt_key, told="label"),
    )


def scored(prompt_key: str) -> Layout:
    """The layout with the prompt under the given key, and a reward."""
    return Layout(
        name="prompts with outputs and rewards",
        keys=(prompt_key, "output", "reward"),
        optional=COMMON,
        request=REQUEST,
        foreign=("label", *SIDES),
        meaning="A response with a score: `reward` scores `output`; higher is better.",
        convert=partial(convert, prompt_key=prompt_key, told="reward"),
    )


LAYOUTS = tuple(layout(key) for layout in (scored, points, demonstrations) for key in ("input", "prompt"))
