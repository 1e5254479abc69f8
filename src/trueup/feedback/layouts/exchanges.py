"""The layouts of a request and its answer under the names that many data sets give them, and of their conversations."""

from dataclasses import replace
from functools import partial

from trueup.feedback.fields import Place, fields, items
from trueup.feedback.layouts import shapes
from trueup.feedback.layouts.frameworks import instruction
from trueup.feedback.layouts.layout import LABELS, REQUEST, SCORES, SIDES, Layout
from trueup.feedback.layouts.preference_sets import answered
from trueup.feedback.records import Message
from trueup.feedback.turns import messages

OTHER_REQUESTS = (
    *REQUEST,
    "prompt",
    "instruction",
    "input",
    "query",
    "question",
    "choices",
    "options",
    "passage",
)


def every_shape(name: str, form: shapes.Form, request: str, response: str) -> tuple[Layout, ...]:
    """Points, scores and demonstrations of a form whose keys are these."""
    form = replace(
        form, request=tuple(key for key in form.request if key not in (*form.keys, *form.optional))
    )
    return (
        *shapes.points(
            f"{name} with a label",
            form,
            f"A point: `{{key}}` says how desirable `{response}` is as an answer to `{request}`, from false or 0 to "
            "true or 1.",
            *LABELS,
        ),
        *shapes.scored(
            f"{name} with a score",
            form,
            f"A response with a score: `{{key}}` scores `{response}` as an answer to `{request}`; higher is better.",
            *SCORES,
            foreign=(*LABELS, *SIDES),
        ),
        shapes.demonstrations(
            name, form, f"A demonstration: `{response}` is an answer to `{request}` to imitate."
        ),
    )


# BeaverTails, and the questions and answers of PKU-SafeRLHF. Ji et al., 2023, https://arxiv.org/abs/2307.04657.
#
#     {"prompt": "Name a tree.", "response": "An oak.", "category": {"animal_abuse": false, ...}, "is_safe": true}

BEAVERTAILS = shapes.points(
    "BeaverTails",
    answered("prompt", "response"),
    "A point: `{key}` says whether `response` is harmless; the kinds of harm are not kept.",
    "is_safe",
)

# Texts or messages under `prompt` and `response`, as they are; a question and its answer, as turns.
#
#     {"prompt": "2 + 2 =", "response": "4"}
#     {"question": "2 + 2?", "answer": "4"}

RESPONSES = every_shape(
    "prompts with responses",
    shapes.written("prompt", "response", request=OTHER_REQUESTS),
    "prompt",
    "response",
)
ANSWERS = every_shape(
    "questions with answers",
    shapes.written("question", "answer", ask=shapes.USER_TURN, answer=shapes.as_turn, request=OTHER_REQUESTS),
    "question",
    "answer",
)

# Dolly, https://huggingface.co/datasets/databricks/databricks-dolly-15k: `context` is what a closed question is about.
#
#     {"instruction": "When was it built?", "context": "The mill was built in 1802.", "response": "In 1802.", ...}

DOLLY = every_shape(
    "Dolly",
    shapes.written(
        "instruction",
        "response",
        ask=partial(instruction, further=("input", "context")),
        answer=shapes.as_turn,
        text=("instruction", "context", "input", "response"),
        optional=("context", "input", "history", *shapes.COMMON),
        request=OTHER_REQUESTS,
    ),
    "instruction",
    "response",
)

# Pairs of Intel, https://huggingface.co/datasets/Intel/orca_dpo_pairs.
#
#     {"system": "You help.", "question": "Name a tree.", "chosen": "An oak.", "rejected": "A stone."}

ORCA = shapes.pairs(
    "Intel orca pairs",
    shapes.written(
        "question",
        *SIDES,
        ask=shapes.USER_TURN,
        answer=shapes.as_turn,
        request=REQUEST,
        fits=lambda row: isinstance(row["chosen"], str),
    ),
    "A pair: `chosen` was preferred to `rejected` as an answer to `question`.",
    foreign=("prompt", "instruction", "input"),
)

# Conversations under `conversation`: rounds as Capybara has them, https://huggingface.co/datasets/LDJnr/Capybara;
# messages as WildChat, https://arxiv.org/abs/2405.01470, and LMSYS-Chat-1M have them, with what is known of each turn.
#
#     {"conversation": [{"input": "Name a tree.", "output": "An oak."}, {"input": "Another?", "output": "A fir."}]}
#     {"conversation": [{"role": "user", "content": "Hi", "toxic": false}, {"role": "assistant", ...}], "model": ...}


def rounds(value: object, at: Place) -> shapes.Turns:
    """Rounds of an input and an output as turns."""
    made: list[Message] = []
    for index, one in enumerate(items(value, at, 'rounds {"input": ..., "output": ...}')):
        here = at.item(index)
        round_ = fields(one, here)
        made += shapes.request(shapes.text_under(round_, "input", here))
        made += shapes.answer(shapes.text_under(round_, "output", here))
    return tuple(made)


def of_conversations(name: str, form: shapes.Form) -> tuple[Layout, ...]:
    """A response that ends a conversation, labelled or to imitate."""
    after = "the turns after the last one of the user are"
    return (
        *shapes.points(
            f"{name} with a label", form, f"A point: `{{key}}` says how desirable {after}.", "label"
        ),
        shapes.demonstrations(name, form, f"A demonstration: {after} a response to imitate."),
    )


CAPYBARA = of_conversations(
    "Capybara", shapes.conversation("conversation", rounds, shapes.holds("conversation", "output"))
)
WILDCHAT = of_conversations(
    "WildChat",
    shapes.conversation("conversation", messages, shapes.holds("conversation", "role"), counted=True),
)

LAYOUTS: tuple[Layout, ...] = (*DOLLY, *CAPYBARA, *WILDCHAT, *RESPONSES, *ANSWERS)
"""After those that ask for more of a row; `ORCA` comes before the pairs that have no prompt."""
