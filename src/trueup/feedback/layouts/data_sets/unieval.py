"""Ratings of turns of a dialogue, as UniEval gives Topical-Chat. Zhong et al., 2022, https://arxiv.org/abs/2210.07197.

    {"source": "Hi .\\nHello .\\n\\n", "context": "A fact.\\n", "system_id": "New Human Generated",
     "system_output": "How are you ?", "scores": {"overall": 4.5, "coherence": 3, ...}}

The prompt is raw text: the fact that the speaker could use, where there is one, and the dialogue up to the turn.
Each system's turn is a row of its own.
"""

from trueup.feedback.fields import Place, fields, needed, number, optional_text, text
from trueup.feedback.layouts.layout import Layout, RowValue
from trueup.feedback.records import Example, Origin, Response

NO_FACT = ("", "_nofact")


def convert(row: RowValue, origin: Origin) -> Example:
    """A turn with its overall score and its system."""
    place = Place(origin)
    prompt = text(row["source"], place.key("source"))
    fact = (optional_text(row, "context", place) or "").strip()
    content = text(row["system_output"], place.key("system_output"))
    at = place.key("scores")
    score = number(needed(fields(row["scores"], at), "overall", at), at.key("overall"))
    response = Response(content, score=score, source=text(row["system_id"], place.key("system_id")))
    return Example(prompt if fact in NO_FACT else f"{fact}\n\n{prompt}", (response,), origin=origin)


LAYOUT = Layout(
    name="UniEval ratings",
    keys=("source", "system_id", "system_output", "scores"),
    optional=("context",),
    meaning="A turn of a dialogue with a score: `overall`; the other aspects are not kept.",
    convert=convert,
    fits=lambda row: isinstance(row["scores"], dict),
    not_kept="the scores of other aspects",
)
