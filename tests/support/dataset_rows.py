"""A sound row of every public data set that has a layout of its own, and how to read and to spoil one."""

import copy
from typing import Any

from trueup.feedback.records import Example, Message, Response

Row = dict[str, Any]


def ratings(**given: object) -> Row:
    """Annotations of UltraFeedback."""
    return {aspect: {"Rating": rating, "Rationale": "So."} for aspect, rating in given.items()}


def prediction(number: int) -> str:
    """What FineGrainedRLHF's systems said."""
    return f"Answer {number}."


ULTRAFEEDBACK: Row = {
    "source": "sharegpt",
    "instruction": "Name a fruit.",
    "models": ["gpt-4", "alpaca-7b"],
    "completions": [
        {
            "model": "gpt-4",
            "principle": "helpfulness",
            "custom_system_prompt": "Be kind.",
            "response": "Apple.",
            "critique": "Good.",
            "overall_score": 8.5,
            "fine-grained_score": 3,
            "annotations": ratings(
                honesty="3", helpfulness="4", truthfulness="N/A", instruction_following="1"
            ),
        },
        {
            "model": "alpaca-7b",
            "response": "Brick.",
            "overall_score": 2,
            "fine-grained_score": 4.5,
            "annotations": ratings(honesty="5", helpfulness=5, truthfulness="1", instruction_following="N/A"),
        },
    ],
}
NECTAR: Row = {
    "prompt": "\n\nHuman: Name a fruit.\n\nAssistant: ",
    "answers": [
        {"answer": "Brick.", "model": "a", "rank": 3.0},
        {"answer": "Apple.", "model": "b", "rank": 1},
        {"answer": "Pear.", "model": "c", "rank": 1},
    ],
    "turns": 1,
    "num_response": 3,
    "source": ["sharegpt"],
    "good_natured": True,
}
SHP: Row = {
    "post_id": "qt3nxl",
    "history": "How to peel it?",
    "human_ref_A": "With a knife.",
    "human_ref_B": "With care.",
    "labels": 0,
    "score_A": 12,
    "score_B": 30,
    "score_ratio": 2.5,
}
HELPSTEER: Row = {
    "prompt": "c#",
    "response": "A language.",
    "helpfulness": 3,
    "correctness": 4,
    "coherence": 4,
    "complexity": 2,
    "verbosity": 1,
}
HELPSTEER2: Row = {
    "split": "train",
    "prompt": "c#",
    "response_1": "A language.",
    "response_2": "A note.",
    "preference_strength": -2,
    "preference_statement": "Response 1 is better.",
}
HELPSTEER3: Row = {
    "domain": "general",
    "context": [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "c#?"},
    ],
    "response1": "A note.",
    "response2": "A language.",
    "overall_preference": 1,
    "individual_preference": [{"score": 1}],
}
INFO: Row = {"id": "t3", "post": "It {hurts}.", "title": "Knee", "subreddit": "AskDocs", "site": None}
SUMMARIES: Row = {
    "info": INFO,
    "summaries": [
        {"text": " My knee hurts.", "policy": "sup1", "note": "ok"},
        {"text": " Knee.", "policy": "ref", "note": None},
    ],
    "choice": 1,
    "worker": "w",
    "extra": {"confidence": 8},
}
SUMMARY: Row = {
    "info": INFO,
    "summary": {"text": " Knee.", "policy": "ref", "axes": {"overall": 6, "coverage": 2}},
    "split": "test",
}
FINE: Row = {
    "question": "Who wrote it?",
    "passages": [["Book", "Book is a book.", "Ann wrote it."], ["Ann", "Ann writes."]],
    "gold": "Ann did.",
    **{f"prediction {number}": prediction(number) for number in (1, 2, 3, 4)},
    "feedback": {"errors": [], "missing-info": [], "corrected-prediction": "Ann Lee. "},
    "preference": [1, 0, 2, 2, 1, 0],
}
OPEN: Row = {
    "id": 213.0,
    "prompt": "Name a fruit.\n",
    "model_a": "tulu",
    "model_b": "chatgpt",
    "completion_a": "Brick.",
    "completion_b": "Apple.",
    "completion_a_is_acceptable": "no",
    "completion_b_is_acceptable": "yes",
    "preference": "b-is-slightly-better",
    "comment": None,
}
TRUTHFUL: Row = {
    "Type": "Adversarial",
    "Question": "What is 2 + 2?",
    "Best Answer": "Four",
    "Correct Answers": "4; Four ;4; Unknown;",
    "Incorrect Answers": "5; Unknown",
    "Source": "https://example.org",
}
GSM: Row = {
    "question": "2 + 2?",
    "ground_truth": "A: 4",
    "6b_finetuning": {"is_correct": False, "solution": "A: 5"},
    "mine": {"is_correct": True, "solution": "It is 4\nA: 4"},
    "note": "odd",
}
UNIEVAL: Row = {
    "source": "hi .\n hello . \n\n",
    "system_id": "New Human Generated",
    "system_output": "how are you ?",
    "context": "apples are fruit .\n",
    "scores": {"coherence": 3.0, "overall": 4.5},
}

ROWS: dict[str, Row] = {
    "UltraFeedback": ULTRAFEEDBACK,
    "Nectar": NECTAR,
    "SHP": SHP,
    "HelpSteer": HELPSTEER,
    "HelpSteer2 preferences": HELPSTEER2,
    "HelpSteer3 preferences": HELPSTEER3,
    "comparisons of summaries": SUMMARIES,
    "ratings of summaries": SUMMARY,
    "FineGrainedRLHF": FINE,
    "open-instruct human evaluation": OPEN,
    "TruthfulQA": TRUTHFUL,
    "GSM8K solutions": GSM,
    "UniEval ratings": UNIEVAL,
}
UNUSED = {
    "UltraFeedback": ["source", "models"],
    "Nectar": ["turns", "num_response", "source", "good_natured"],
    "SHP": ["post_id", "score_ratio"],
    "HelpSteer": ["correctness", "coherence", "complexity", "verbosity"],
    "HelpSteer2 preferences": ["split", "preference_statement"],
    "HelpSteer3 preferences": ["domain", "individual_preference"],
    "comparisons of summaries": ["worker", "extra"],
    "ratings of summaries": ["split"],
    "FineGrainedRLHF": ["gold"],
    "open-instruct human evaluation": ["id", "comment"],
    "TruthfulQA": ["Type", "Source"],
    "GSM8K solutions": ["note"],
    "UniEval ratings": [],
}


def asked(text: str) -> tuple[Message, ...]:
    """A prompt of one turn."""
    return (Message("user", text),)


def said(text: str, **rest: Any) -> Response:
    """A response of one turn."""
    return Response((Message("assistant", text),), **rest)


def made(example: Example) -> tuple[object, ...]:
    """An example without its origin."""
    return example.prompt.content, example.responses, example.comparisons


def changed(row: Row, path: tuple[str | int, ...], value: object) -> Row:
    """A copy of the row with one value set, or one key removed where the value is `DROP`."""
    new = copy.deepcopy(row)
    at: Any = new
    for step in path[:-1]:
        at = at[step]
    if value is DROP:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    return new


DROP = object()
