"""Human feedback on summaries of Reddit posts (TL;DR) and news. Stiennon et al., 2020, https://arxiv.org/abs/2009.01325.

    {"info": {"subreddit": "AskDocs", "title": "Knee", "post": "It hurts."},
     "summaries": [{"text": " My knee hurts.", "policy": "sup1"}, {"text": " Knee.", "policy": "ref"}], "choice": 0}
    {"info": {...}, "summary": {"text": " My knee hurts.", "policy": "sup1", "axes": {"overall": 6, ...}}}

The prompt is raw text, as the authors' models were given it.
"""

from trueup.feedback.fields import (
    Place,
    fields,
    items,
    needed,
    optional_number,
    optional_text,
    position,
    text,
)
from trueup.feedback.layouts.data_sets.exchange import judged
from trueup.feedback.layouts.layout import Layout, RowValue, Unusable
from trueup.feedback.records import Example, Origin, Response

POST = "SUBREDDIT: r/{subreddit}\n\nTITLE: {title}\n\nPOST: {post}\n\nTL;DR:"
ARTICLE = "Article:\n{article}\n\nTL;DR:\n"


def prompt_of(row: RowValue, place: Place) -> str:
    """The post, or where there is none the news article, and the call for a summary."""
    at = place.key("info")
    info = fields(row["info"], at)
    template, names = (
        (ARTICLE, ["article"]) if info.get("post") is None else (POST, ["subreddit", "title", "post"])
    )
    why = "the text to summarise is a 'post' with its 'title' and 'subreddit', or an 'article'"
    return template.format_map({name: text(needed(info, name, at, why), at.key(name)) for name in names})


def summary(value: object, place: Place) -> Response:
    """A summary and the policy that wrote it."""
    one = fields(value, place)
    content = text(needed(one, "text", place), place.key("text"))
    return Response(content, source=optional_text(one, "policy", place))


def compared(row: RowValue, origin: Origin) -> Example | Unusable:
    """Two summaries, one of them chosen."""
    place = Place(origin)
    at = place.key("summaries")
    given = items(row["summaries"], at, "objects")
    if len(given) != 2:
        raise at.unexpected(given, "a list of 2")
    one, other = (summary(value, at.item(index)) for index, value in enumerate(given))
    choice = position(row["choice"], place.key("choice"), 2)
    return judged(prompt_of(row, place), (one, other), choice, origin)


def rated(row: RowValue, origin: Origin) -> Example | Unusable:
    """A summary with its overall score."""
    place = Place(origin)
    at = place.key("summary")
    one = summary(row["summary"], at)
    prompt = prompt_of(row, place)
    axes = fields(needed(fields(row["summary"], at), "axes", at), at.key("axes"))
    score = optional_number(axes, "overall", at.key("axes"))
    if score is None:
        return Unusable("the summary has no overall score")
    return Example(prompt, (Response(one.content, score=score, source=one.source),), origin=origin)


COMPARISONS = Layout(
    name="comparisons of summaries",
    keys=("info", "summaries", "choice"),
    meaning="A pair of summaries of `info`: `choice` 0 prefers the first, 1 the second; confidence is not kept.",
    convert=compared,
    not_kept="notes on the summaries, and other fields of `info`",
)

RATINGS = Layout(
    name="ratings of summaries",
    keys=("info", "summary"),
    meaning="A summary of `info` with a score: its axis `overall`; the other axes are not kept.",
    convert=rated,
    fits=lambda row: isinstance(row["summary"], dict),
    not_kept="the other axes, notes on the summary, and other fields of `info`",
)
