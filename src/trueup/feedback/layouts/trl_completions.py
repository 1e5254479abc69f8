"""TRL's rows of prompt and completion: a demonstration; with a score or a label, a response of which that is said."""

from functools import partial

from trueup.feedback.fields import Place, label, number, optional_text
from trueup.feedback.layouts.layout import JUDGEMENTS, LABELS, REQUEST, SCORES, Layout, RowValue
from trueup.feedback.layouts.system import with_system
from trueup.feedback.records import Example, Origin, Response
from trueup.feedback.tools import declared
from trueup.feedback.turns import as_response, content

KEYS = ("prompt", "completion")
FURTHER = ("source", "system", "tools")


def convert(
    row: RowValue, origin: Origin, *, label_key: str | None = None, score_key: str | None = None
) -> Example:
    """Prompt and completion, of one kind: text, or messages; without a label or a score it is to be imitated."""
    place = Place(origin)
    prompt = content(row["prompt"], place.key("prompt"))
    at = place.key("completion")
    completion = as_response(content(row["completion"], at), prompt, at)
    response = Response(
        completion,
        score=number(row[score_key], place.key(score_key)) if score_key else None,
        label=label(row[label_key], place.key(label_key)) if label_key else None,
        demonstration=not (label_key or score_key),
        source=optional_text(row, "source", place),
    )
    prompt = with_system(prompt, row, place)
    return Example(prompt, (response,), origin=origin, tools=declared(row, prompt, place))


DEMONSTRATIONS = Layout(
    name="TRL prompts with completions",
    keys=KEYS,
    optional=FURTHER,
    foreign=JUDGEMENTS,
    request=REQUEST,
    meaning="A demonstration: `completion` is a response to imitate.",
    convert=convert,
)


def labelled(key: str) -> Layout:
    """The layout with a label under the given key: true or false; a number from 0 to 1 is a label too."""
    return Layout(
        name="TRL prompts with labelled completions",
        keys=(*KEYS, key),
        optional=FURTHER,
        foreign=("chosen", "rejected"),
        request=REQUEST,
        meaning=f"A point: `{key}` says how desirable `completion` is, from false or 0 to true or 1.",
        convert=partial(convert, label_key=key),
    )


def scored(key: str) -> Layout:
    """The layout with a score under the given key."""
    return Layout(
        name="TRL prompts with scored completions",
        keys=(*KEYS, key),
        optional=FURTHER,
        foreign=(*LABELS, "chosen", "rejected"),
        request=REQUEST,
        meaning=f"A response with a score: `{key}` scores `completion`; higher is better.",
        convert=partial(convert, score_key=key),
    )


LAYOUTS = (*(labelled(key) for key in LABELS), *(scored(key) for key in SCORES), DEMONSTRATIONS)
