"""The layouts of public data sets whose rows say which response was preferred; ratings of the same sets beside them."""

import re
from dataclasses import replace
from itertools import combinations

from trueup.feedback.fields import Field
from trueup.feedback.layouts import shapes
from trueup.feedback.layouts.layout import SIDES, Layout
from trueup.feedback.records import Comparison, Discarded, Example, Message, Prompt, Response
from trueup.feedback.turns import RESPONSE_ROLES, messages

SHP = shapes.shape(
    "SHP",
    shapes.answered("history", "human_ref_A", "human_ref_B", optional=()),
    "A pair: `labels` 1 prefers A and 0 prefers B; the scores are the votes; `score_ratio` is not kept.",
    lambda row: 1 - row["labels"].integer(0, 1),
    scores=("score_A", "score_B"),
    keys=("labels",),
)
"""Stanford Human Preferences. Ethayarajh et al., 2022, https://huggingface.co/datasets/stanfordnlp/SHP."""


# HelpSteer and HelpSteer2: ratings, and preferences. Wang et al., 2024, https://arxiv.org/abs/2410.01257.
# HelpSteer3's preferences. Wang et al., 2025, https://arxiv.org/abs/2505.11475.
#
#     {"prompt": "c#", "response": "A language.", "helpfulness": 3, "correctness": 4, ...}
#     {"prompt": "c#", "response_1": "A language.", "response_2": "A note.", "preference_strength": -2, ...}
#
# A prompt of several turns is one text, `Hi\n<extra_id_1>Assistant\nHello\n<extra_id_1>User\nName a fruit.`.

EXTRA_ID = re.compile(r"\n?<extra_id_1>(User|Assistant)\n")


def extra_id_turns(given: Field) -> shapes.Turns:
    first, *later = EXTRA_ID.split(given.text())
    turns = [Message("user", first)]
    turns += [Message(role.lower(), said) for role, said in zip(later[::2], later[1::2], strict=True)]
    if turns[-1].role != "user":
        raise given.fault("the last turn is the assistant's, expected one of the user")
    return tuple(turns)


def unanswered(given: Field) -> shapes.Turns:
    turns = messages(given)
    if turns and turns[-1].role in RESPONSE_ROLES:
        last = given.at(len(turns) - 1).at("role", turns[-1].role)
        raise last.unexpected("a turn of the user: the responses follow it")
    return turns


def by_strength(key: str) -> shapes.Choose:
    """What is preferred: below 0 the first, above 0 the second; nothing at 0."""

    def choose(row: Field) -> int | None:
        strength = row[key].integer(-3, 3)
        return None if strength == 0 else int(strength > 0)

    return choose


HELPSTEER = shapes.graded(
    "HelpSteer",
    shapes.answered("prompt", "response", ask=shapes.by_value(extra_id_turns), optional=()),
    replace(
        shapes.SCORE,
        meaning="A response with a score: its `{key}`; the ratings of other aspects are not kept.",
    ),
    "helpfulness",
)
HELPSTEER_PAIRS = tuple(
    shapes.shape(
        f"{name} preferences",
        shapes.answered(prompt, first, second, ask=shapes.by_value(read), optional=()),
        f"A pair: -3 to -1 prefer `{first}`, 1 to 3 `{second}`, 0 is a tie; how strongly is not kept.",
        by_strength(strength),
        keys=(strength,),
        foreign=SIDES,
    )
    for name, read, prompt, first, second, strength in (
        ("HelpSteer2", extra_id_turns, "prompt", "response_1", "response_2", "preference_strength"),
        ("HelpSteer3", unanswered, "context", "response1", "response2", "overall_preference"),
    )
)


# Human feedback on summaries of Reddit posts (TL;DR) and news. Stiennon et al., 2020, https://arxiv.org/abs/2009.01325.
#
#     {"info": {"subreddit": "AskDocs", "title": "Knee", "post": "It hurts."},
#      "summaries": [{"text": " My knee hurts.", "policy": "sup1"}, {"text": " Knee.", "policy": "ref"}], "choice": 0}
#     {"info": {...}, "summary": {"text": " My knee hurts.", "policy": "sup1", "axes": {"overall": 6, ...}}}
#
# The prompt is raw text, as the authors' models were given it.

POST = "SUBREDDIT: r/{subreddit}\n\nTITLE: {title}\n\nPOST: {post}\n\nTL;DR:"
ARTICLE = "Article:\n{article}\n\nTL;DR:\n"


def to_summarise(info: Field) -> str:
    post = info.object().get("post")
    template, names = (POST, ["subreddit", "title", "post"]) if post else (ARTICLE, ["article"])
    why = "the text to summarise is a 'post' with its 'title' and 'subreddit', or an 'article'"
    return template.format_map({name: info.needed(name, why).text() for name in names})


def summary(one: Field) -> Response:
    return Response(one["text"].text(), source=one.optional("policy", Field.text))


def compared_summaries(row: Field) -> Example | Discarded:
    given = tuple(map(summary, row["summaries"].objects()))
    if len(given) != 2:
        raise row["summaries"].unexpected("a list of 2")
    choice = row["choice"].position(2)
    return shapes.judged(to_summarise(row["info"]), given, choice)


def rated_summary(row: Field) -> Example | Discarded:
    one = row["summary"].object()
    response, prompt = summary(one), to_summarise(row["info"])
    score = one["axes"].object().optional("overall", Field.number)
    if score is None:
        return Discarded("the summary has no overall score")
    return Example(Prompt(prompt), (replace(response, score=score),))


SUMMARIES = (
    Layout(
        name="comparisons of summaries",
        keys=("info", "summaries", "choice"),
        meaning=(
            "A pair of summaries of `info`: `choice` 0 prefers the first, 1 the second; confidence is not kept."
        ),
        convert=compared_summaries,
        not_kept="notes on the summaries, and other fields of `info`",
    ),
    Layout(
        name="ratings of summaries",
        keys=("info", "summary"),
        meaning="A summary of `info` with a score: its axis `overall`; the other axes are not kept.",
        convert=rated_summary,
        fits=lambda row: isinstance(row["summary"], dict),
        not_kept="the other axes, notes on the summary, and other fields of `info`",
    ),
)


# Preferences of FineGrainedRLHF's qa_feedback. Wu et al., 2023, https://arxiv.org/abs/2306.01693.
#
#     {"question": "Who wrote it?", "passages": [["Title", "A sentence.", ...], ...], "prediction 1": "Ann.", ...,
#      "prediction 4": "Bo.", "preference": [1, 0, 2, 1, 1, 2], "feedback": {"corrected-prediction": "Ann Lee.", ...}}
#
# The prompt is one turn, worded as the authors' models were given it.

PREDICTIONS = ("prediction 1", "prediction 2", "prediction 3", "prediction 4")
PREDICTION_PAIRS = tuple(combinations(range(len(PREDICTIONS)), 2))


def fine_grained(row: Field) -> Example | Discarded:
    prompt = shapes.request(with_passages(row))
    responses = tuple(Response(shapes.answer(row[key].text())) for key in PREDICTIONS)
    given = row["preference"].items("numbers")
    if len(given) != len(PREDICTION_PAIRS):
        pairs = f"the {len(PREDICTION_PAIRS)} pairs (12, 13, 14, 23, 24, 34)"
        raise row["preference"].unexpected(f"one number for each of {pairs}")
    comparisons = []
    for (first, second), one in zip(PREDICTION_PAIRS, given, strict=True):
        if winner := one.integer(0, 2):
            comparisons.append(Comparison(first, second) if winner == 1 else Comparison(second, first))
    corrected = correction(row)
    if corrected:
        responses = shapes.demonstrated(responses, shapes.answer(corrected))
    if not comparisons and not corrected:
        return Discarded("all responses tie")
    return Example(Prompt(prompt), responses, tuple(comparisons))


def with_passages(row: Field) -> str:
    question, passages = row["question"].text(), row.get("passages")
    found = list(map(passage, passages.items("passages"))) if passages else []
    return f"question: {question} context: {' '.join(found)}" if found else question


def passage(given: Field) -> str:
    if not (texts := given.items("texts")):
        raise given.unexpected("a title and sentences")
    title, *sentences = (one.text() for one in texts)
    return f"wikipage: {title} text: {' '.join(sentences)}"


def correction(row: Field) -> str:
    """The prediction as the annotator corrected it; empty where nothing was left of it."""
    feedback = row.optional("feedback", Field.object)
    return (feedback.optional("corrected-prediction", Field.text) or "").strip() if feedback else ""


FINE_GRAINED_RLHF = Layout(
    name="FineGrainedRLHF",
    keys=("question", *PREDICTIONS, "preference"),
    optional=("passages", "feedback"),
    text=("question", *PREDICTIONS),
    meaning=(
        "Six pairs of four predictions: in `preference` 1 prefers the first, 2 the second, 0 is a tie; the "
        "corrected prediction is a response to imitate."
    ),
    convert=fine_grained,
    not_kept="the errors and the missing information that `feedback` names",
)


# The human evaluation of open-instruct. Wang et al., 2023, https://arxiv.org/abs/2306.04751.

PREFERENCES: dict[str, shapes.Verdict] = {
    "a-is-better": 0,
    "a-is-clearly-better": 0,
    "a-is-slightly-better": 0,
    "tie": None,
    "b-is-slightly-better": 1,
    "b-is-clearly-better": 1,
    "b-is-better": 1,
}
ACCEPTABLE = {"yes": 1.0, "no": 0.0}
JUDGED = ("completion_a_is_acceptable", "completion_b_is_acceptable")


def acceptable(row: Field) -> tuple[Response, ...]:
    sides = []
    for key in JUDGED:
        said = row.optional(key, Field.text)
        if said is not None and said not in ACCEPTABLE:
            raise row[key].unexpected("'yes' or 'no'")
        sides.append(Response("", label=None if said is None else ACCEPTABLE[said]))
    return tuple(sides)


OPEN_INSTRUCT = shapes.shape(
    "open-instruct human evaluation",
    shapes.answered("prompt", "completion_a", "completion_b", optional=()),
    "A pair, or a tie, of which each side is labelled 1 where it is acceptable and 0 where it is not; "
    "'slightly' is not kept.",
    shapes.named("preference", PREFERENCES),
    said=acceptable,
    sources=("model_a", "model_b"),
    keys=("preference",),
    optional=JUDGED,
)


LAYOUTS: tuple[Layout, ...] = (
    SHP,
    *HELPSTEER,
    *HELPSTEER_PAIRS,
    *SUMMARIES,
    FINE_GRAINED_RLHF,
    OPEN_INSTRUCT,
)
