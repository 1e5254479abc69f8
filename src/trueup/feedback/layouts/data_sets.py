"""What reads rows of single public data sets, as `known.toml` names it; which data set it is stands there too."""

import math
import re

from trueup.feedback import canonical, turns
from trueup.feedback.fields import Field
from trueup.feedback.layouts import layout, shapes
from trueup.feedback.records import Comparison, Discarded, Example, Message, Prompt, Response


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
    for key in ("overall_score", "fine-grained_score"):
        found = [one.optional(key, Field.number) for one in given]
        known = [score for score in found if score is not None]
        if len(known) == len(given):
            return known
    rated = [ratings(one) for one in given]
    shared = [aspect for aspect in rated[0] if all(aspect in one for one in rated)]
    return [math.fsum(one[aspect] for aspect in shared) / len(shared) for one in rated] if shared else []


def ratings(completion: Field) -> dict[str, float]:
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


def nectar(row: Field) -> Example | Discarded:
    given = row["prompt"].text()
    prompt = given.rstrip(" ")
    responses = []
    for one in row["answers"].objects():
        said = given[len(prompt) :] + one["answer"].text()
        rank = one["rank"].integer(1)
        responses.append(Response(said, score=-float(rank), source=one.optional("model", Field.text)))
    return shapes.candidates(prompt, responses, "answers")


ANSWERS = {"Correct Answers": 1.0, "Incorrect Answers": 0.0}


def truthful_qa(row: Field) -> Example | Discarded:
    prompt, found = shapes.user_turn(row["Question"]), []
    for key, label in ANSWERS.items():
        parts = dict.fromkeys(part.strip() for part in row[key].text().split(";") if part.strip())
        found.append(tuple(Response(shapes.answer(one), label=label) for one in parts))
    right, wrong = found
    if best := row["Best Answer"].text().strip():
        right = shapes.demonstrated(right, shapes.answer(best), label=1.0)
    responses = right + wrong
    return Example(Prompt(prompt), responses) if responses else Discarded("there is no answer")


def gsm8k(row: Field) -> Example:
    prompt = shapes.user_turn(row["question"])
    truth, solutions = shapes.answer(row["ground_truth"].text()), []
    for system in systems(row.value):
        said = shapes.answer((one := row[system].object())["solution"].text())
        solutions.append(Response(said, label=one["is_correct"].label(), source=system))
    return Example(Prompt(prompt), shapes.demonstrated(solutions, truth, label=1.0))


def systems(row: layout.RowValue) -> list[str]:
    marks = {"is_correct", "solution"}
    return [key for key, one in row.items() if isinstance(one, dict) and marks & one.keys()]


def unieval(row: Field) -> Example:
    prompt = row["source"].text()
    fact = (row.optional("context", Field.text) or "").strip()
    said = row["system_output"].text()
    score = row["scores"].object()["overall"].number()
    response = Response(said, score=score, source=row["system_id"].text())
    return Example(Prompt(prompt if fact in ("", "_nofact") else f"{fact}\n\n{prompt}"), (response,))


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
    return Example(Prompt(prompt), (Response(response.content, score, source=response.source),))


PREDICTIONS = ("prediction 1", "prediction 2", "prediction 3", "prediction 4")
PREDICTION_PAIRS = ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))


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


EXTRA_ID = re.compile(r"\n?<extra_id_1>(User|Assistant)\n")


def extra_id_turns(row: Field, key: str) -> shapes.Turns:
    first, *later = EXTRA_ID.split(row[key].text())
    turns = [Message("user", first)]
    turns += [Message(role.lower(), said) for role, said in zip(later[::2], later[1::2], strict=True)]
    if turns[-1].role != "user":
        raise row[key].fault("the last turn is the assistant's, expected one of the user")
    return tuple(turns)


def unanswered(row: Field, key: str) -> shapes.Turns:
    said = turns.messages(row[key])
    if said and said[-1].role in turns.RESPONSE_ROLES:
        last = row[key].at(len(said) - 1).at("role", said[-1].role)
        raise last.unexpected("a turn of the user: the responses follow it")
    return said


def a_or_b(row: Field) -> shapes.Verdict:
    return 1 - row["labels"].integer(0, 1)


def position(key: str) -> shapes.Choose:
    return lambda row: row[key].integer(0, 1)


def strength(key: str) -> shapes.Choose:
    verdicts = {number: None if number == 0 else int(number > 0) for number in range(-3, 4)}
    return lambda row: verdicts[row[key].integer(-3, 3)]


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


A_IS_BETTER = ("a-is-better", "a-is-clearly-better", "a-is-slightly-better")
B_IS_BETTER = ("b-is-slightly-better", "b-is-clearly-better", "b-is-better")
BY_WORDS = {**dict.fromkeys(A_IS_BETTER, 0), "tie": None, **dict.fromkeys(B_IS_BETTER, 1)}
preference = shapes.named("preference", BY_WORDS)
TIES = ("tie", "tie (bothbad)", "both_bad", "tie (inconsistent)")
winner = shapes.named("winner", {"model_a": 0, "model_b": 1, **dict.fromkeys(TIES)})


def up_to_verdict(row: Field, key: str) -> shapes.Turns:
    turns = shapes.MESSAGES(row, key)
    count = row.optional("turn", lambda given: given.integer(1))
    user_turns = [index for index, one in enumerate(turns) if one.role == "user"]
    return turns if count is None or count >= len(user_turns) else turns[: user_turns[count]]


def texts_of(given: Field) -> list[str]:
    """A list of texts, or the JSON of one; a null in it, an answer that failed, is an empty text."""
    return ["" if one.value is None else one.text() for one in canonical.json_list(given, "texts")]


def arena_rounds(row: Field, key: str) -> shapes.Turns:
    requests, answers = (texts_of(row[one]) for one in ("prompt", key))
    if len(answers) != len(requests) or not requests:
        raise row.at(key, answers).unexpected(f"an answer to each of the {len(requests)} texts of `prompt`")
    pairs = zip(requests, answers, strict=True)
    return tuple(turn for one in pairs for turn in (Message("user", one[0]), Message("assistant", one[1])))


FLAGS = ("winner_model_a", "winner_model_b", "winner_tie")


def flagged(row: Field) -> shapes.Verdict:
    values = [row[key].integer(0, 1) for key in FLAGS]
    if sum(values) != 1:
        raise row[FLAGS[0]].fault(f"exactly one of {', '.join(FLAGS)} must be 1; found {values}")
    return None if values[2] else values[1]


def alpaca_preference(row: Field) -> shapes.Verdict:
    value = row.optional("preference", Field.number)
    if value is None:
        return Discarded("no preference is given")
    if value != 0 and not 1 <= value <= 2:
        raise row["preference"].unexpected("a number from 1 (output_1) to 2 (output_2); 0 and 1.5 are draws")
    if value in (0, 1.5):
        return None
    better = int(value > 1.5)
    return Comparison(better, 1 - better, round(value - 1 if better else 2 - value, 12))


def full_question(row: Field, key: str) -> shapes.Turns:
    return shapes.user_turn(row[key] if isinstance(row[key].value, str) else row[key].object()["full_text"])


def by_sign(row: Field) -> shapes.Verdict:
    first, second = row["score_0"].number(), row["score_1"].number()
    if abs(first + second) > 1e-6:
        raise row["score_1"].fault(f"the scores must sum to 0; found {first:g} and {second:g}")
    return None if first == second else int(second > first)


SHOWN = "answer1,answer2"


def label_studio(row: Field) -> Example | Discarded:
    data = row["data"].object()
    prompt = shapes.user_turn(data["prompt"])
    chosen: set[tuple[str, str]] = set()
    for annotation in row["annotations"].objects():
        if "result" in annotation and not annotation.value.get("was_cancelled"):
            results = annotation["result"].objects()
            chosen |= {selected(one, data) for one in results if one.value.get("type") == "pairwise"}
    if not chosen:
        return Discarded("none of its results is a verdict of the type pairwise on two responses")
    if len(chosen) > 1:
        return Discarded("its annotations contradict each other")
    ((better, worse),) = chosen
    pair = tuple(Response(shapes.answer(data[key].text())) for key in (better, worse))
    return shapes.judged(prompt, pair, 0)


def selected(result: Field, data: Field) -> tuple[str, str]:
    side = result.at("value", result.value.get("value")).object()["selected"]
    shown = result.optional("to_name", Field.text) or SHOWN
    left, _, right = shown.partition(",")
    if left not in data or right not in data or left == right:
        raise result.at("to_name", shown).unexpected("the keys of two texts of `data`, as in 'answer1,answer2'")
    if side.text() not in ("left", "right"):
        raise side.unexpected("left or right")
    return (left, right) if side.value == "left" else (right, left)
