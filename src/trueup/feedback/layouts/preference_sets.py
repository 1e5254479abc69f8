"""The layouts of public data sets and tools in which a verdict says which of two responses won, or that they tie."""

import re
from dataclasses import replace
from functools import partial

from trueup.feedback.canonical import json_list
from trueup.feedback.fields import Field
from trueup.feedback.layouts import frameworks, graded_sets, shapes
from trueup.feedback.layouts.layout import SIDES, Layout
from trueup.feedback.records import Comparison, Discarded, Example, Message, Response
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


STRENGTHS = {number: None if number == 0 else int(number > 0) for number in range(-3, 4)}
"""How strongly one is preferred, and which: below 0 the first, above 0 the second."""
RATING = "A response with a score: its `{key}`; the ratings of other aspects are not kept."
HELPSTEER = shapes.graded(
    "HelpSteer",
    shapes.answered("prompt", "response", ask=shapes.by_value(extra_id_turns), optional=()),
    replace(shapes.SCORE, meaning=RATING),
    "helpfulness",
)
HELPSTEER_PAIRS = tuple(
    shapes.shape(
        f"{name} preferences",
        shapes.answered(prompt, first, second, ask=shapes.by_value(read), optional=()),
        f"A pair: -3 to -1 prefer `{first}`, 1 to 3 `{second}`, 0 is a tie; how strongly is not kept.",
        partial(lambda key, row: STRENGTHS[row[key].integer(-3, 3)], strength),
        keys=(strength,),
        foreign=SIDES,
    )
    for name, read, prompt, first, second, strength in (
        ("HelpSteer2", extra_id_turns, "prompt", "response_1", "response_2", "preference_strength"),
        ("HelpSteer3", unanswered, "context", "response1", "response2", "overall_preference"),
    )
)


# The human evaluation of open-instruct. Wang et al., 2023, https://arxiv.org/abs/2306.04751.

PREFERENCES: dict[str, shapes.Verdict] = {
    **dict.fromkeys(("a-is-better", "a-is-clearly-better", "a-is-slightly-better"), 0),
    "tie": None,
    **dict.fromkeys(("b-is-slightly-better", "b-is-clearly-better", "b-is-better"), 1),
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


def position(key: str) -> shapes.Choose:
    return lambda row: row[key].integer(0, 1)


# PKU-SafeRLHF. Ji et al., 2024, https://arxiv.org/abs/2406.15513. `better_response_id` is the more helpful response,
# `safer_response_id` the less harmful one; the two often differ, and the first is what is read. The RLHF data of
# Vertex AI's text models, https://cloud.google.com/vertex-ai/generative-ai/docs/models/tune-text-models-rlhf.
#
#     {"prompt": "Name a tree.", "response_0": "A stone.", "response_1": "An oak.", "better_response_id": 1, ...}
#     {"input_text": "Name a tree.", "candidate_0": "A stone.", "candidate_1": "An oak.", "choice": 1}

POSITIONS = (
    shapes.shape(
        "PKU-SafeRLHF",
        shapes.answered("prompt", "response_0", "response_1", optional=()),
        "A pair: `better_response_id` is the more helpful one, 0 or 1; which is safer is not kept.",
        position("better_response_id"),
        sources=("response_0_source", "response_1_source"),
        keys=("better_response_id",),
        foreign=SIDES,
    ),
    shapes.shape(
        "Vertex AI candidates",
        shapes.answered("input_text", "candidate_0", "candidate_1", optional=()),
        "A pair: `choice` is the preferred one, 0 or 1.",
        position("choice"),
        keys=("choice",),
        foreign=SIDES,
    ),
)


# Chatbot Arena's conversations, and MT-bench's judgements of people and of GPT-4. Zheng et al., 2023,
# https://arxiv.org/abs/2306.05685. `turn` is how many rounds the verdict is about: MT-bench's conversations go on
# after the round that is judged. Where a second round was judged, its question follows two different answers, so that
# the sides answer different prompts.
#
#     {"model_a": "a", "model_b": "b", "winner": "model_b", "turn": 1, "conversation_a": [{"role": "user", ...}, ...],
#      "conversation_b": [...]}

WINNERS: dict[str, shapes.Verdict] = {
    **{"model_a": 0, "model_b": 1},
    **dict.fromkeys(("tie", "tie (bothbad)", "both_bad", "tie (inconsistent)")),
}
MODELS = ("model_a", "model_b")


def up_to_verdict(row: Field, key: str) -> shapes.Turns:
    turns = shapes.MESSAGES(row, key)
    count = row.optional("turn", lambda given: given.integer(1))
    user_turns = [index for index, one in enumerate(turns) if one.role == "user"]
    return turns if count is None or count >= len(user_turns) else turns[: user_turns[count]]


ARENA = shapes.shape(
    "Chatbot Arena conversations",
    shapes.conversations("conversation_a", "conversation_b", up_to_verdict, ("turn",), ("winner",)),
    "A pair: `winner` is model_a or model_b; a tie, be it of two bad ones, compares nothing.",
    shapes.named("winner", WINNERS),
    sources=MODELS,
    keys=("winner",),
)


# Chatbot Arena's 55k, https://huggingface.co/datasets/lmsys/lmsys-arena-human-preference-55k. What was asked and what
# was answered are lists written as JSON, one text for each round.
#
#     {"prompt": "[\"Name a tree.\"]", "response_a": "[\"A stone.\"]", "response_b": "[\"An oak.\"]",
#      "winner_model_a": 0, "winner_model_b": 1, "winner_tie": 0, "model_a": "a", "model_b": "b"}

TEXTS = ("prompt", "response_a", "response_b")
FLAGS = ("winner_model_a", "winner_model_b", "winner_tie")


def texts(given: Field) -> list[str]:
    """A list of texts, or the JSON of one; a null in it, an answer that failed, is an empty text."""
    return ["" if one.value is None else one.text() for one in json_list(given, "texts")]


def rounds(row: Field, key: str) -> shapes.Turns:
    requests, answers = (texts(row[one]) for one in ("prompt", key))
    if len(answers) != len(requests) or not requests:
        raise row.at(key, answers).unexpected(f"an answer to each of the {len(requests)} texts of `prompt`")
    pairs = zip(requests, answers, strict=True)
    return tuple(turn for one in pairs for turn in (Message("user", one[0]), Message("assistant", one[1])))


def flagged(row: Field) -> shapes.Verdict:
    values = [row[key].integer(0, 1) for key in FLAGS]
    if sum(values) != 1:
        raise row[FLAGS[0]].fault(f"exactly one of {', '.join(FLAGS)} must be 1; found {values}")
    return None if values[2] else values[1]


ARENA_55K = shapes.shape(
    "Chatbot Arena 55k",
    shapes.conversations("response_a", "response_b", rounds, (), TEXTS),
    "A pair: `winner_model_a` or `winner_model_b` is 1; `winner_tie` 1 compares nothing.",
    flagged,
    sources=MODELS,
    keys=("prompt", *FLAGS),
)


# Texts of one round, as https://www.kaggle.com/competitions/wsdm-cup-multilingual-chatbot-arena has them.
#
#     {"prompt": "Name a tree.", "response_a": "A stone.", "response_b": "An oak.", "winner": "model_b", ...}

ARENA_TEXTS = shapes.shape(
    "Chatbot Arena texts",
    shapes.answered(*TEXTS, text=(*TEXTS, "winner"), optional=()),
    "A pair: `winner` is model_a or model_b; a tie compares nothing.",
    shapes.named("winner", WINNERS),
    sources=MODELS,
    keys=("winner",),
    foreign=SIDES,
)


# AlpacaEval's annotations and AlpacaFarm's preferences. Dubois et al., 2023, https://arxiv.org/abs/2305.14387;
# https://github.com/tatsu-lab/alpaca_eval: 1 is `output_1`, 2 is `output_2`, 1.5 and 0 are draws, what lies between 1
# and 2 is 1 plus the probability that `output_2` is better, and null is an annotator that failed.
#
#     {"instruction": "Name a tree.", "output_1": "A stone.", "output_2": "An oak.", "preference": 1.9, ...}


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


ALPACA_EVAL = shapes.shape(
    "AlpacaEval preferences",
    frameworks.alpaca("output_1", "output_2"),
    "A pair: `preference` is 1 plus the probability that `output_2` is better, 1 to 2; 0 and 1.5 are ties, null is not "
    "used.",
    alpaca_preference,
    sources=("generator_1", "generator_2"),
    keys=("preference",),
)


# WebGPT's comparisons. Nakano et al., 2021, https://arxiv.org/abs/2112.09332. An answer is preferred if and only if
# its score is above 0; the scores sum to 0. The quotes, which differ between the answers, are not kept.
#
#     {"question": {"full_text": "What is an oak?", ...}, "answer_0": "A stone.", "score_0": -0.5,
#      "answer_1": "A tree.", "score_1": 0.5, ...}


def by_sign(row: Field) -> shapes.Verdict:
    first, second = row["score_0"].number(), row["score_1"].number()
    if abs(first + second) > 1e-6:
        raise row["score_1"].fault(f"the scores must sum to 0; found {first:g} and {second:g}")
    return None if first == second else int(second > first)


def full_question(row: Field, key: str) -> shapes.Turns:
    return shapes.user_turn(row[key] if isinstance(row[key].value, str) else row[key].object()["full_text"])


WEBGPT = shapes.shape(
    "WebGPT comparisons",
    shapes.answered("question", "answer_0", "answer_1", ask=full_question, optional=()),
    "A pair: the answer whose score is above 0 is preferred, 0 is a tie; how strongly is not kept.",
    by_sign,
    keys=("score_0", "score_1"),
)


# What Label Studio exports (JSON) of its template for human preferences,
# https://labelstud.io/templates/generative-pairwise-human-preference. `selected` is left or right, and `to_name` says
# which text stood where; where it is not given, the left one is `answer1`.
#
#     {"data": {"prompt": "Name a tree.", "answer1": "A stone.", "answer2": "An oak."}, "annotations": [{"result": [
#      {"type": "pairwise", "to_name": "answer1,answer2", "value": {"selected": "right"}}], "was_cancelled": false}]}

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
    """The keys of the response that was selected and of the other one."""
    side = result.at("value", result.value.get("value")).object()["selected"]
    shown = result.optional("to_name", Field.text) or SHOWN
    left, _, right = shown.partition(",")
    if left not in data or right not in data or left == right:
        raise result.at("to_name", shown).unexpected(
            "the keys of two texts of `data`, the left one and the right one, as in 'answer1,answer2'"
        )
    if side.text() not in ("left", "right"):
        raise side.unexpected("left or right")
    return (left, right) if side.value == "left" else (right, left)


LABEL_STUDIO = Layout(
    name="Label Studio pairs",
    keys=("data", "annotations"),
    meaning="A pair of texts of `data`, shown left and right: every annotation has `selected` the same one.",
    convert=label_studio,
    fits=lambda row: isinstance(row["data"], dict) and isinstance(row["annotations"], list),
    not_kept="who annotated, and what was said beside the comparison",
)


LAYOUTS: tuple[Layout, ...] = (
    *(*graded_sets.LAYOUTS, SHP, *HELPSTEER, *HELPSTEER_PAIRS, *graded_sets.COMPARED, OPEN_INSTRUCT),
    *(*POSITIONS, ARENA, ARENA_55K, ARENA_TEXTS, ALPACA_EVAL, WEBGPT, LABEL_STUDIO),
)
