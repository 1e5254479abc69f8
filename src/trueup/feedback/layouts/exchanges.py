"""The layouts of a request and its answer under the names that many data sets give them, and of their conversations."""

from functools import partial

from trueup.feedback.layouts import shapes
from trueup.feedback.layouts.dialects import rounds
from trueup.feedback.layouts.frameworks import instruction
from trueup.feedback.layouts.layout import LABELS, REQUEST, SCORES, SIDES, Layout

# BeaverTails, and the questions and answers of PKU-SafeRLHF. Ji et al., 2023, https://arxiv.org/abs/2307.04657.
#
#     {"prompt": "Name a tree.", "response": "An oak.", "category": {"animal_abuse": false, ...}, "is_safe": true}

BEAVERTAILS = shapes.graded(
    "BeaverTails",
    shapes.answered("prompt", "response", optional=()),
    shapes.Grade(
        shapes.LABEL.read,
        "A point: `{key}` says whether `response` is harmless; the kinds of harm are not kept.",
    ),
    "is_safe",
)

# Texts or messages under `prompt` and `response`, as they are; a question and its answer, as turns.
#
#     {"prompt": "2 + 2 =", "response": "4"}
#     {"question": "2 + 2?", "answer": "4"}


def other_requests(*own: str) -> tuple[str, ...]:
    """Keys that hold a part of what was asked, but for those that a layout reads."""
    known = ("prompt", "instruction", "input", "query", "question", "choices", "options", "passage")
    return tuple(key for key in (*REQUEST, *known) if key not in own)


RESPONSES = shapes.singles(
    "prompts with responses",
    shapes.written("prompt", "response", request=other_requests("prompt")),
    LABELS,
    SCORES,
)
ANSWERS = shapes.singles(
    "questions with answers",
    shapes.answered("question", "answer", request=other_requests("question")),
    LABELS,
    SCORES,
)

# Dolly, https://huggingface.co/datasets/databricks/databricks-dolly-15k: `context` is what a closed question is about.
#
#     {"instruction": "When was it built?", "context": "The mill was built in 1802.", "response": "In 1802.", ...}

DOLLY = shapes.singles(
    "Dolly",
    shapes.written(
        "instruction",
        "response",
        ask=partial(instruction, further=("input", "context")),
        answer=shapes.as_turn,
        text=("instruction", "context", "input", "response"),
        optional=("context", "input", "history", *shapes.COMMON),
        request=other_requests("instruction", "context", "input", "history"),
    ),
    LABELS,
    SCORES,
)

# Pairs of Intel, https://huggingface.co/datasets/Intel/orca_dpo_pairs.
#
#     {"system": "You help.", "question": "Name a tree.", "chosen": "An oak.", "rejected": "A stone."}

ORCA = shapes.pairs(
    "Intel orca pairs",
    shapes.answered("question", *SIDES, request=REQUEST, fits=lambda row: isinstance(row["chosen"], str)),
    foreign=("prompt", "instruction", "input"),
)

# Conversations under `conversation`: rounds as Capybara has them, https://huggingface.co/datasets/LDJnr/Capybara;
# messages as WildChat, https://arxiv.org/abs/2405.01470, and LMSYS-Chat-1M have them, with what is known of each turn.
#
#     {"conversation": [{"input": "Name a tree.", "output": "An oak."}, {"input": "Another?", "output": "A fir."}]}
#     {"conversation": [{"role": "user", "content": "Hi", "toxic": false}, {"role": "assistant", ...}], "model": ...}

CAPYBARA = shapes.singles(
    "Capybara",
    shapes.conversation(
        "conversation", rounds({"input": "user"}, "output"), shapes.holds("conversation", "output")
    ),
    ("label",),
)
WILDCHAT = shapes.singles(
    "WildChat",
    shapes.conversation("conversation", fits=shapes.holds("conversation", "role"), counted=True),
    ("label",),
)

LAYOUTS: tuple[Layout, ...] = (*DOLLY, *CAPYBARA, *WILDCHAT, *RESPONSES, *ANSWERS)
"""After those that ask for more of a row; `ORCA` comes before the pairs that have no prompt."""
