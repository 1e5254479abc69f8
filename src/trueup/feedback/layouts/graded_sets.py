"""The layouts of public data sets that grade responses: scores, ranks, right or wrong answers; comparisons beside."""

import math
from dataclasses import replace
from itertools import combinations

from trueup.feedback.fields import Field
from trueup.feedback.layouts import shapes
from trueup.feedback.layouts.layout import Layout, RowValue
from trueup.feedback.records import Comparison, Discarded, Example, Prompt, Response

# UltraFeedback as published. Cui et al., 2023, https://arxiv.org/abs/2310.01377.
#
#     {"instruction": "Name a fruit.", "completions": [{"model": "gpt-4", "response": "Apple", "overall_score": 8.5,
#      "fine-grained_score": 4.5, "annotations": {"honesty": {"Rating": "4", ...}, ...}, ...}, ...]}
#
# `overall_score` runs from 1 to 10, `fine-grained_score` and the ratings from 1 to 5, so that one example never mixes
# them. Every completion had a system prompt of its own (`custom_system_prompt`), which is not kept.


def ultrafeedback(row: Field) -> Example | Discarded:
    prompt = shapes.user_turn(row["instruction"])
    given = row["completions"].objects()
    said = [(shapes.answer(one["response"].text()), one.optional("model", Field.text)) for one in given]
    scores = scores_of(given)
    if given and not scores:
        return Discarded("no kind of score is given to all completions")
    scored = [Response(what, score, source=who) for (what, who), score in zip(said, scores, strict=True)]
    return shapes.candidates(prompt, scored, "completions")


def scores_of(given: list[Field]) -> list[float]:
    """The first kind of score that all completions have; nothing where there is none."""
    for key in ("overall_score", "fine-grained_score"):
        found = [one.optional(key, Field.number) for one in given]
        known = [score for score in found if score is not None]
        if len(known) == len(given):
            return known
    rated = [ratings(one) for one in given]
    shared = [aspect for aspect in rated[0] if all(aspect in one for one in rated)]
    return [math.fsum(one[aspect] for aspect in shared) / len(shared) for one in rated] if shared else []


def ratings(completion: Field) -> dict[str, float]:
    """Aspect -> rating, without those that do not apply (`N/A`)."""
    annotations = completion.optional("annotations", Field.object)
    if annotations is None:
        return {}
    found = {aspect: annotations[aspect].object().get("Rating") for aspect in annotations.value}
    return {aspect: rating(given) for aspect, given in found.items() if given and given.value != "N/A"}


def rating(given: Field) -> float:
    if not isinstance(given.value, str):
        return given.number()
    try:
        made = float(given.value)
    except ValueError:
        made = math.nan
    if not math.isfinite(made):
        raise given.unexpected("a number, or 'N/A'")
    return made


ULTRAFEEDBACK = Layout(
    name="UltraFeedback",
    keys=("instruction", "completions"),
    text=("instruction",),
    meaning=(
        "A ranking: the score of a completion is its `overall_score`; where not all have one, its "
        "`fine-grained_score`; else the mean of its ratings."
    ),
    convert=ultrafeedback,
    fits=lambda row: isinstance(row["completions"], list),
    not_kept="the system prompt and the principle of each completion, its other scores, and what was written of it",
)


# Nectar. Zhu et al., 2023, https://huggingface.co/datasets/berkeley-nest/Nectar. Rank 1 is the best.
#
#     {"prompt": "\n\nHuman: Hello\n\nAssistant: ", "answers": [{"answer": "Hi", "model": "gpt-4", "rank": 1}, ...]}
#
# The space that ends the prompt is moved to the answers, as HH transcripts have it: together they read the same.


def nectar(row: Field) -> Example | Discarded:
    given = row["prompt"].text()
    prompt = given.rstrip(" ")
    responses = []
    for one in row["answers"].objects():
        said = given[len(prompt) :] + one["answer"].text()
        rank = one["rank"].integer(1)
        responses.append(Response(said, score=-float(rank), source=one.optional("model", Field.text)))
    return shapes.candidates(prompt, responses, "answers")


NECTAR = Layout(
    name="Nectar",
    keys=("prompt", "answers"),
    text=("prompt",),
    meaning="A ranking: the score of an answer is minus its `rank`, so that rank 1 is the best.",
    convert=nectar,
    fits=shapes.holds("answers", "rank"),
)

# TruthfulQA's table. Lin et al., 2021, https://arxiv.org/abs/2109.07958.
#
#     {"Question": "What is 2 + 2?", "Best Answer": "4", "Correct Answers": "4; Four", "Incorrect Answers": "5; Five"}

ANSWERS = {"Correct Answers": 1.0, "Incorrect Answers": 0.0}


def truthful_qa(row: Field) -> Example | Discarded:
    """Right and wrong answers; an answer that the table calls both stands twice."""
    prompt, found = shapes.user_turn(row["Question"]), []
    for key, label in ANSWERS.items():
        parts = dict.fromkeys(part.strip() for part in row[key].text().split(";") if part.strip())
        found.append(tuple(Response(shapes.answer(one), label=label) for one in parts))
    right, wrong = found
    if best := row["Best Answer"].text().strip():
        right = shapes.demonstrated(right, shapes.answer(best), label=1.0)
    responses = right + wrong
    return Example(Prompt(prompt), responses) if responses else Discarded("there is no answer")


TRUTHFUL_QA = Layout(
    name="TruthfulQA",
    keys=("Question", "Best Answer", *ANSWERS),
    text=("Question", "Best Answer", *ANSWERS),
    meaning="Right answers are labelled 1, wrong ones 0; the best answer is a response to imitate.",
    convert=truthful_qa,
)


# Solutions of several systems to GSM8K's questions. Cobbe et al., 2021, https://arxiv.org/abs/2110.14168.
#
#     {"question": "2 + 2?", "ground_truth": "A: 4", "6b_finetuning": {"is_correct": false, "solution": "A: 5"}, ...}


def gsm8k(row: Field) -> Example:
    prompt = shapes.user_turn(row["question"])
    truth, solutions = shapes.answer(row["ground_truth"].text()), []
    for system in systems(row.value):
        said = shapes.answer((one := row[system].object())["solution"].text())
        solutions.append(Response(said, label=one["is_correct"].label(), source=system))
    return Example(Prompt(prompt), shapes.demonstrated(solutions, truth, label=1.0))


def systems(row: RowValue) -> list[str]:
    """The keys under which a system's solution, or part of one, stands."""
    marks = {"is_correct", "solution"}
    return [key for key, one in row.items() if isinstance(one, dict) and marks & one.keys()]


GSM8K = Layout(
    name="GSM8K solutions",
    keys=("question", "ground_truth"),
    text=("question", "ground_truth"),
    named=systems,
    meaning=(
        "Solutions of systems, labelled by `is_correct`; the ground truth is labelled 1 and is a response to "
        "imitate."
    ),
    convert=gsm8k,
    fits=lambda row: bool(systems(row)),
)


# Ratings of turns of a dialogue, as UniEval gives Topical-Chat. Zhong et al., 2022, https://arxiv.org/abs/2210.07197.
#
#     {"source": "Hi .\nHello .\n\n", "context": "A fact.\n", "system_id": "New Human Generated",
#      "system_output": "How are you ?", "scores": {"overall": 4.5, "coherence": 3, ...}}
#
# The prompt is raw text: the fact that the speaker could use, where there is one, and the dialogue up to the turn.
# Each system's turn is a row of its own.


def unieval(row: Field) -> Example:
    prompt = row["source"].text()
    fact = (row.optional("context", Field.text) or "").strip()
    said = row["system_output"].text()
    score = row["scores"].object()["overall"].number()
    response = Response(said, score=score, source=row["system_id"].text())
    return Example(Prompt(prompt if fact in ("", "_nofact") else f"{fact}\n\n{prompt}"), (response,))


UNIEVAL = Layout(
    name="UniEval ratings",
    keys=("source", "system_id", "system_output", "scores"),
    optional=("context",),
    text=("source", "system_id", "system_output", "context"),
    meaning="A turn of a dialogue with a score: `overall`; the other aspects are not kept.",
    convert=unieval,
    fits=lambda row: isinstance(row["scores"], dict),
    not_kept="the scores of other aspects",
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
    question, passages = row["question"].text(), row.get("passages")
    found = list(map(passage, passages.items("passages"))) if passages else []
    prompt = shapes.request(f"question: {question} context: {' '.join(found)}" if found else question)
    responses = tuple(Response(shapes.answer(row[key].text())) for key in PREDICTIONS)
    given = row["preference"].items("numbers")
    if len(given) != len(PREDICTION_PAIRS):
        pairs = f"the {len(PREDICTION_PAIRS)} pairs (12, 13, 14, 23, 24, 34)"
        raise row["preference"].unexpected(f"one number for each of {pairs}")
    comparisons = []
    for (first, second), one in zip(PREDICTION_PAIRS, given, strict=True):
        if winner := one.integer(0, 2):
            comparisons.append(Comparison(first, second) if winner == 1 else Comparison(second, first))
    feedback = row.optional("feedback", Field.object)  # whose correction is empty where nothing was left
    corrected = feedback and (feedback.optional("corrected-prediction", Field.text) or "").strip()
    if corrected:
        responses = shapes.demonstrated(responses, shapes.answer(corrected))
    if not comparisons and not corrected:
        return Discarded("all responses tie")
    return Example(Prompt(prompt), responses, tuple(comparisons))


def passage(given: Field) -> str:
    if not (texts := given.items("texts")):
        raise given.unexpected("a title and sentences")
    title, *sentences = (one.text() for one in texts)
    return f"wikipage: {title} text: {' '.join(sentences)}"


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

LAYOUTS: tuple[Layout, ...] = (ULTRAFEEDBACK, NECTAR, TRUTHFUL_QA, GSM8K, UNIEVAL)
COMPARED = (*SUMMARIES, FINE_GRAINED_RLHF)
"""With comparisons beside; tried after some of preferences alone."""
