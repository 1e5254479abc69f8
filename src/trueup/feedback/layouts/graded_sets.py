"""The layouts of public data sets that grade single responses: scores, ranks, and right or wrong answers."""

import math
from dataclasses import replace

from trueup.feedback.fields import Field
from trueup.feedback.layouts import shapes
from trueup.feedback.layouts.layout import Layout, RowValue
from trueup.feedback.records import Discarded, Example, Prompt, Response

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
    responses = [
        Response(shapes.answer(one["response"].text()), source=one.optional("model", Field.text))
        for one in given
    ]
    scores = scores_of(given)
    if responses and not scores:
        return Discarded("no kind of score is given to all completions")
    scored = [replace(one, score=score) for one, score in zip(responses, scores, strict=True)]
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
    prompt = shapes.user_turn(row["Question"])
    right, wrong = (
        tuple(Response(shapes.answer(one), label=label) for one in between_semicolons(row[key].text()))
        for key, label in ANSWERS.items()
    )
    best = row["Best Answer"].text().strip()
    if best:
        right = shapes.demonstrated(right, shapes.answer(best), label=1.0)
    responses = right + wrong
    return Example(Prompt(prompt), responses) if responses else Discarded("there is no answer")


def between_semicolons(given: str) -> list[str]:
    return list(dict.fromkeys(part.strip() for part in given.split(";") if part.strip()))


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
    truth = shapes.answer(row["ground_truth"].text())
    solutions = [solution(row[system], system) for system in systems(row.value)]
    return Example(Prompt(prompt), shapes.demonstrated(solutions, truth, label=1.0))


def systems(row: RowValue) -> list[str]:
    """The keys under which a system's solution, or part of one, stands."""
    return [
        key for key, one in row.items() if isinstance(one, dict) and {"is_correct", "solution"} & one.keys()
    ]


def solution(one: Field, system: str) -> Response:
    said = shapes.answer(one.object()["solution"].text())
    return Response(said, label=one["is_correct"].label(), source=system)


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

LAYOUTS: tuple[Layout, ...] = (ULTRAFEEDBACK, NECTAR, TRUTHFUL_QA, GSM8K, UNIEVAL)
