"""The layouts of other training frameworks.

LLaMA-Factory: https://github.com/hiyouga/LLaMA-Factory/blob/main/data/README.md; torchtune and NeMo-Aligner read its
sharegpt format too. ms-swift: https://swift.readthedocs.io/en/latest/Customization/Custom-dataset.html. OpenRLHF:
https://github.com/OpenRLHF/OpenRLHF. NeMo-Aligner: https://docs.nvidia.com/nemo-framework/user-guide/latest/modelalignment/.
NeMo-RL: https://github.com/NVIDIA-NeMo/RL/blob/main/docs/guides/dpo.md. turbo-alignment:
https://github.com/turbo-llm/turbo-alignment (dataset/).
"""

from functools import partial

from trueup.feedback.fields import Field
from trueup.feedback.layouts import layout, shapes, trl
from trueup.feedback.records import Content, Discarded, Example, Response
from trueup.feedback.turns import as_response, message, messages

sharegpt_turns, turbo_turns = (layout.turns_in(layout.SHAREGPT), layout.turns_in(layout.TURBO_ALIGNMENT))
swift_turns = layout.turns_in(layout.MS_SWIFT)


# LLaMA-Factory's alpaca format: `instruction` and `input` are one turn of the user, with a line break between them.
#
#     {"instruction": "Add.", "input": "2 + 2", "output": "4", "system": "Be short.", "history": [["Hello", "Hi"]]}


def instruction(row: Field, key: str, *, further: tuple[str, ...] = ("input",)) -> shapes.Turns | Discarded:
    """Earlier rounds, and the request, with what stands under further keys."""
    parts = [row[key].text(), *(row.optional(name, Field.text) for name in further)]
    said = "\n".join(part for part in parts if part)
    if not said.strip():
        return Discarded("the instruction is empty")
    return (*layout.history(row), *shapes.request(said))


def alpaca(*responses: str) -> shapes.Form:
    return shapes.texts(
        "instruction",
        *responses,
        ask=instruction,
        text=("instruction", "input", *responses),
        optional=("input", "history", *shapes.COMMON),
        request=("context", "prompt", "query", "question"),
    )


ALPACA = (
    shapes.pairs("LLaMA-Factory alpaca pairs", alpaca(*layout.SIDES), foreign=("prompt",)),
    *shapes.singles("LLaMA-Factory alpaca", alpaca("output"), ("kto_tag", "label")),
)


# Dolly, https://huggingface.co/datasets/databricks/databricks-dolly-15k: `context` is what a closed question is about.
#
#     {"instruction": "When was it built?", "context": "The mill was built in 1802.", "response": "In 1802.", ...}

DOLLY = shapes.singles(
    "Dolly",
    shapes.texts(
        "instruction",
        "response",
        ask=partial(instruction, further=("input", "context")),
        text=("instruction", "context", "input", "response"),
        optional=("context", "input", "history", *shapes.COMMON),
        request=trl.other_requests("instruction", "context", "input", "history"),
    ),
    layout.LABELS,
    layout.SCORES,
)


# LLaMA-Factory's sharegpt format; roles are human, gpt, system, observation and function_call, and others.
#
#     {"conversations": [{"from": "human", "value": "2 + 2 ="}, {"from": "gpt", "value": "4"}], "system": "Be short."}

TWO_TURNS = partial(shapes.written, ask=sharegpt_turns, answer=layout.turn_in(layout.SHAREGPT))
SHAREGPT_LAYOUTS = (
    shapes.pairs(
        "sharegpt pairs", TWO_TURNS("conversations", *layout.SIDES, text=layout.SIDES), foreign=("prompt",)
    ),
    *shapes.singles("sharegpt", shapes.conversation("conversations", sharegpt_turns), ("kto_tag", "label")),
)


# LLaMA-Factory's openai format with feedback: messages and two sides of one turn each, or a `kto_tag`.
#
#     {"messages": [{"role": "user", "content": "2 + 2 ="}], "chosen": {"role": "assistant", "content": "4"}, ...}


def one_side(given: Field, prompt: Content) -> Content:
    side = messages(given) if isinstance(given.value, list) else (message(given),)
    return as_response(side, prompt, given)


def has_sides(row: layout.RowValue) -> bool:
    """Whether a side is one message, or a list that begins with one of the assistant."""
    for side in (row[key] for key in layout.SIDES):
        first = side[0] if isinstance(side, list) and side else side
        if isinstance(first, dict) and (first is side or first.get("role") == "assistant"):
            return True
    return False


one_turn_sides = partial(shapes.written, ask=shapes.MESSAGES, answer=one_side, text=layout.SIDES)
OPENAI = (
    shapes.pairs(
        "LLaMA-Factory openai pairs",
        one_turn_sides("messages", *layout.SIDES, fits=has_sides),
        foreign=("prompt",),
    ),
    *shapes.graded(
        "LLaMA-Factory openai with a label", shapes.conversation("messages"), shapes.LABEL, "kto_tag"
    ),
)


# Pairs under other keys than TRL's, text as it is; a prompt that both sides repeat is taken off them.
#
#     {"prompt": "2 + 2 =", "chosen_response": "4", "rejected_response": "5", "chosen_reward": 1.5, ...}
#     {"question": "2 + 2 =", "response_chosen": " 4", "response_rejected": " 5"}


OPENRLHF_PAIRS = tuple(
    shapes.shape(
        "OpenRLHF pairs",
        trl.prompted(prompt, chosen, rejected),
        f"A pair: `{chosen}` was preferred to `{rejected}` as an answer to `{prompt}`.",
        lambda row: None if row.value.get("status") == "tie" else 0,  # as distilabel writes it
        optional=("status",),
        foreign=("prompt", "instruction"),
    )
    for prompt, chosen, rejected in (
        ("question", "response_chosen", "response_rejected"),
        ("input", "chosen", "rejected"),
    )
)
NEMO_PAIRS = shapes.pairs(
    "NeMo-Aligner pairs",
    trl.prompted("prompt", "chosen_response", "rejected_response"),
    "A pair: `chosen_response` was preferred to `rejected_response`; their rewards are scores.",
    scores=("chosen_reward", "rejected_reward"),
)


# NeMo-RL's preferences. The lowest rank is the best; equal ranks tie.
#
#     {"context": [{"role": "user", "content": "2 + 2 ="}],
#      "completions": [{"rank": 0, "completion": [{"role": "assistant", "content": "4"}]}, ...]}


def ranked_completions(row: Field) -> Example | Discarded:
    prompt = messages(row["context"])
    responses = []
    for one in row["completions"].objects('objects {"rank": ..., "completion": ...}'):
        rank = one["rank"].integer(0)
        responses.append(Response(shapes.like_prompt(one["completion"], prompt), score=0.0 - rank))
    return shapes.candidates(prompt, responses, "completions")


NEMO_RANKINGS = layout.Layout(
    name="NeMo-RL preferences",
    keys=("context", "completions"),
    optional=shapes.COMMON,
    text=("source", "system"),
    meaning="A ranking: the score of a completion is minus its `rank`, so that rank 0 is the best.",
    convert=ranked_completions,
)


# Prompts and outputs, as NeMo-Aligner and OpenRLHF write them (`--input_key`, `--output_key`, `--label_key`, and the
# files of its batch inference): text as it is, with no template and nothing between.
#
#     {"input": "2 + 2 =", "output": " 4", "reward": 0.7}


OUTPUTS = [
    one
    for form in (shapes.written(prompt, "output", request=layout.REQUEST) for prompt in ("input", "prompt"))
    for one in shapes.singles(
        "prompts with {}outputs", form, ("label",), ("reward",), ("instruction", "completion"), either=True
    )
]


# turbo-alignment's feedback (pair_preferences, kto), whose context may end with a turn of the bot, which the answers
# then follow; what it samples from a model (sampling/models.py), where a turn of the bot that ends the messages is what
# the answers were sampled in place of; and its conversations (chat/models.py). `disable_loss` in a turn leaves it out
# of the loss: such a response is not used.
#
#     {"context": [{"role": "user", "content": "2 + 2 ="}], "answer_w": {"role": "bot", "content": "4"}, ...}
#     {"context": [...], "answer": {"role": "bot", "content": "4"}, "is_desirable": true}
#     {"messages": [...], "answers": [{"id": "0", "content": "4"}], "rewards": {"0": 0.7}}
#     {"id": "0", "messages": [{"role": "user", "content": "2 + 2 ="}, {"role": "bot", "content": "4"}]}

TURBO_CLASS = (
    "a label of a turbo-alignment conversation is its class, which says nothing of a response; "
    "for feedback write 'context', 'answer' and 'is_desirable'"
)


context = partial(
    shapes.written, "context", ask=turbo_turns, answer=layout.turn_in(layout.TURBO_ALIGNMENT), further=True
)


def turbo_answers(row: Field) -> Example | Discarded:
    prompt = turbo_turns(row, "messages")
    if prompt and prompt[-1].role == "assistant":
        prompt = prompt[:-1]
    rewards = row.optional("rewards", Field.object)
    scores = {name: rewards[name].number() for name in rewards.value} if rewards else {}
    responses = []
    for one in row["answers"].objects('objects {"id": ..., "content": ...}'):
        said = shapes.answer(one["content"].text())
        name = one["id"].text() if scores else ""
        responses.append(Response(said, score=scores.pop(name, None)))
    for name in scores:
        raise row["rewards"].at(name).fault("no answer with this id is left; give each its own, once")
    return shapes.candidates(prompt, responses, "answers")


def turbo_chat(row: Field, key: str) -> shapes.Turns:
    """The turns, where the row has no class, which is no label of them."""
    if isinstance(row.value.get("label"), int | float):
        raise row["label"].fault(TURBO_CLASS)
    return turbo_turns(row, key)


TURBO = (
    shapes.pairs("turbo-alignment pairs", context("answer_w", "answer_l")),
    *shapes.graded("turbo-alignment points", context("answer"), shapes.LABEL, "is_desirable", foreign=()),
    layout.Layout(
        name="turbo-alignment answers",
        keys=("messages", "answers"),
        optional=("rewards", *shapes.COMMON),
        text=("source", "system"),
        meaning="Responses of a model: `rewards` scores `answers` by their `id`; without it nothing is said of them.",
        convert=turbo_answers,
        further=True,
        fits=shapes.holds("answers", "content"),
    ),
    shapes.demonstrations(
        "turbo-alignment chat",
        shapes.conversation("messages", turbo_chat, shapes.holds("messages", "disable_loss", ("bot",))),
        foreign=("answers", *(key for key in layout.JUDGEMENTS if key != "label")),
    ),
)


STACK_EXCHANGE = shapes.pairs("Stack Exchange pairs", shapes.answered("question", "response_j", "response_k"))
"""As torchtune reads them: https://huggingface.co/datasets/lvwerra/stack-exchange-paired."""


# ms-swift's standard form; roles are system, user, assistant, tool_call and tool_response (or tool). `loss` false in a
# turn leaves it out of the loss: such a response is not used.
#
#     {"messages": [{"role": "user", "content": "2 + 2 ="}, {"role": "assistant", "content": "4"}],
#      "rejected_response": "5"}


def rejected_instead(row: Field) -> shapes.Exchange | Discarded:
    """The last response, and `rejected_response` in place of its last turn, or of all of it where it is a list."""
    given = row["rejected_response"]
    if not isinstance(given.value, str | list):
        raise given.unexpected("text or a list of messages")
    found = shapes.last_exchange(swift_turns(row, "messages"), row["messages"])
    if isinstance(found, Discarded):
        return found
    prompt, chosen = found
    if isinstance(given.value, str):
        return prompt, (chosen, (*chosen[:-1], *shapes.answer(given.value)))
    return prompt, (chosen, as_response(swift_turns(row, "rejected_response"), prompt, given))


def is_request(row: layout.RowValue) -> bool:
    given = row["messages"]
    last = given[-1] if isinstance(given, list) and given else None
    return isinstance(last, dict) and last.get("role") != "assistant"


SWIFT_LOSS = shapes.holds("messages", "loss", ("tool_call", "tool_response"))
SWIFT_MESSAGES = (
    shapes.pairs(
        "ms-swift pairs of conversations",
        shapes.conversations(
            "messages", "rejected_messages", lambda row, key: layout.after_system(swift_turns(row, key), row)
        ),
    ),
    shapes.pairs(
        "ms-swift pairs",
        shapes.Form(("messages", "rejected_response"), rejected_instead, text=("rejected_response",)),
        "A pair: the turns after the last one of the user were preferred to `rejected_response`.",
    ),
    shapes.demonstrations(
        "ms-swift messages with a solution",
        shapes.texts("messages", "solution", ask=swift_turns, text=("solution",), fits=is_request),
    ),
    *shapes.singles(
        "ms-swift messages", shapes.conversation("messages", swift_turns, SWIFT_LOSS), ("label",)
    ),
)


# ms-swift's query and response, and its sharegpt format.
#
#     {"query": "2 + 2 =", "response": "4", "history": [["Hello", "Hi"]], "rejected_response": "5"}
#     {"system": "Be short.", "conversation": [{"human": "2 + 2 =", "assistant": "4"}, ...]}


query = partial(
    shapes.texts,
    "query",
    ask=lambda row, key: (*layout.history(row), *shapes.user_turn(row[key])),
    optional=("history", *shapes.COMMON),
    request=("context", "prompt", "instruction", "input"),
)


SWIFT_QUERIES = (
    shapes.pairs("ms-swift queries with two responses", query("response", "rejected_response")),
    *shapes.singles("ms-swift queries", query("response"), ("label",), foreign=("rejected_response",)),
    shapes.demonstrations(
        "ms-swift rounds",
        shapes.conversation(
            "conversation",
            layout.rounds({"human": "user", "user": "user", "tool": "tool"}, "assistant"),
            shapes.holds("conversation", "assistant"),
        ),
    ),
)

LAYOUTS: tuple[layout.Layout, ...] = (
    *(*ALPACA, *SHAREGPT_LAYOUTS, *OPENAI, STACK_EXCHANGE, *SWIFT_MESSAGES, *SWIFT_QUERIES),
    *(NEMO_PAIRS, NEMO_RANKINGS, *OPENRLHF_PAIRS, *OUTPUTS, *TURBO),
)
