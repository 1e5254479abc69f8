"""A prompt with K responses and a score for each. RRHF, Yuan et al., 2023, https://arxiv.org/abs/2304.05302."""

from functools import partial

from trueup.feedback.fields import Place, items, number, text
from trueup.feedback.layouts.layout import REQUEST, Layout, RowValue, Unusable
from trueup.feedback.layouts.system import with_system
from trueup.feedback.records import Example, Origin, Response
from trueup.feedback.tools import declared
from trueup.feedback.turns import as_response, content


def convert(row: RowValue, origin: Origin, *, prompt_key: str) -> Example | Unusable:
    """Every response with its score and, where `sources` gives one, its source."""
    place = Place(origin)
    prompt = content(row[prompt_key], place.key(prompt_key))
    at = place.key("responses")
    given = items(row["responses"], at, "responses")
    if not given:
        return Unusable("the list of responses is empty")
    contents = [
        as_response(content(value, at.item(index)), prompt, at.item(index))
        for index, value in enumerate(given)
    ]
    scores = [
        number(value, place.key("scores").item(index))
        for index, value in enumerate(one_each(row["scores"], place.key("scores"), len(given), "numbers"))
    ]
    sources: list[str | None] = [None] * len(given)
    if row.get("sources") is not None:
        at = place.key("sources")
        named = one_each(row["sources"], at, len(given), "texts")
        sources = [
            None if value is None else text(value, at.item(index)) for index, value in enumerate(named)
        ]
    responses = (
        Response(one, score=score, source=source)
        for one, score, source in zip(contents, scores, sources, strict=True)
    )
    prompt = with_system(prompt, row, place)
    return Example(prompt, tuple(responses), origin=origin, tools=declared(row, prompt, place))


def one_each(value: object, place: Place, count: int, of: str) -> list[object]:
    """The value as a list with one item for each response."""
    listed = items(value, place, of)
    if len(listed) != count:
        raise place.unexpected(listed, f"one for each of the {count} responses")
    return listed


def layout(prompt_key: str) -> Layout:
    """The layout with the prompt under the given key."""
    return Layout(
        name="prompts with scored responses",
        keys=(prompt_key, "responses", "scores"),
        optional=("sources", "system", "tools"),
        request=REQUEST,
        meaning="A ranking: a score for each of `responses`; higher is better.",
        convert=partial(convert, prompt_key=prompt_key),
    )


LAYOUT = layout("prompt")
LAYOUT_QUERY = layout("query")
