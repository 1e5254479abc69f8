"""Rows of other training frameworks: the layout each is taken for, and the example it holds."""

import json

from trueup.feedback.records import Comparison, Example, Message, Prompt, Response

SYSTEM, ASK, RIGHT, WRONG = (
    Message("system", "Be short."),
    Message("user", "2 + 2 ="),
    Message("assistant", "4"),
    Message("assistant", "5"),
)
HELLO, HI = Message("user", "Hello"), Message("assistant", "Hi")
CALLS = [{"type": "function", "function": {"name": "add", "arguments": {"a": 2}}}]
CALL = Message("assistant", "", {"tool_calls": CALLS})
RESULT = Message("tool", "4")
FIRST = (Comparison(0, 1),)
TOOLS = [{"type": "function", "function": {"name": "add"}}]
WRITTEN = '{"name": "add", "arguments": {"a": 2}}'

Turn = dict[str, object]


def said(speaker: str, text: object, keys: tuple[str, str] = ("role", "content")) -> Turn:
    """A turn as a format writes it."""
    return {keys[0]: speaker, keys[1]: text}


def spoke(speaker: str, text: object) -> Turn:
    """A turn of sharegpt."""
    return said(speaker, text, ("from", "value"))


U, A, W = said("user", "2 + 2 ="), said("assistant", "4"), said("assistant", "5")
HUMAN, GPT, BAD = spoke("human", "2 + 2 ="), spoke("gpt", "4"), spoke("gpt", "5")
BOT, BOT_BAD = said("bot", "4"), said("bot", "5")

DEMONSTRATED = (Response((RIGHT,), demonstration=True),)
LABELLED = (Response((RIGHT,), label=0.0),)
SIDES = (Response((RIGHT,)), Response((WRONG,)))
RAW_SIDES = (Response(" 4"), Response(" 5"))

CASES: list[tuple[str, Turn, Example]] = [
    (
        "LLaMA-Factory alpaca",
        {"instruction": "2 +", "input": "2 =", "output": "4"},
        Example(Prompt((Message("user", "2 +\n2 ="),)), DEMONSTRATED),
    ),
    (
        "LLaMA-Factory alpaca",
        {
            "instruction": "2 + 2 =",
            "input": "",
            "output": "4",
            "system": "Be short.",
            "history": [["Hello", "Hi"]],
        },
        Example(Prompt((SYSTEM, HELLO, HI, ASK)), DEMONSTRATED),
    ),
    (
        "LLaMA-Factory alpaca",
        {
            "instruction": "",
            "input": "2 + 2 =",
            "output": "4",
            "system": "",
            "history": None,
            "source": "ann",
        },
        Example(Prompt((ASK,)), (Response((RIGHT,), demonstration=True, source="ann"),)),
    ),
    (
        "LLaMA-Factory alpaca pairs",
        {"instruction": "2 + 2 =", "chosen": "4", "rejected": "5"},
        Example(Prompt((ASK,)), SIDES, FIRST),
    ),
    (
        "LLaMA-Factory alpaca with labels",
        {"instruction": "2 + 2 =", "output": "4", "kto_tag": False},
        Example(Prompt((ASK,)), LABELLED),
    ),
    (
        "LLaMA-Factory alpaca with labels",
        {"instruction": "2 + 2 =", "output": "4", "label": 0.25},
        Example(Prompt((ASK,)), (Response((RIGHT,), label=0.25),)),
    ),
    ("sharegpt", {"conversations": [HUMAN, GPT]}, Example(Prompt((ASK,)), DEMONSTRATED)),
    (
        "sharegpt",
        {"conversations": [spoke("human", "Hello"), spoke("gpt", "Hi"), HUMAN, GPT], "system": "Be short."},
        Example(Prompt((SYSTEM, HELLO, HI, ASK)), DEMONSTRATED),
    ),
    (
        "sharegpt",
        {"conversations": [spoke("system", "Be short."), HUMAN, GPT], "system": "Be short.", "tools": TOOLS},
        Example(Prompt((SYSTEM, ASK), tools=tuple(TOOLS)), DEMONSTRATED),
    ),
    (
        "sharegpt",
        {
            "conversations": [HUMAN, spoke("function_call", WRITTEN), spoke("observation", "4"), GPT],
            "tools": json.dumps(TOOLS),
        },
        Example(Prompt((ASK,), tools=tuple(TOOLS)), (Response((CALL, RESULT, RIGHT), demonstration=True),)),
    ),
    (
        "sharegpt",
        {"conversations": [spoke("User", "2 + 2 ="), spoke("Assistant", "4")]},
        Example(Prompt((ASK,)), DEMONSTRATED),
    ),
    ("sharegpt", {"conversations": [U, A]}, Example(Prompt((ASK,)), DEMONSTRATED)),
    (
        "sharegpt pairs",
        {"conversations": [HUMAN], "chosen": GPT, "rejected": BAD},
        Example(Prompt((ASK,)), SIDES, FIRST),
    ),
    (
        "sharegpt pairs",
        {
            "conversations": [HUMAN, spoke("function_call", WRITTEN), spoke("observation", "4")],
            "chosen": GPT,
            "rejected": spoke("function_call", WRITTEN),
        },
        Example(Prompt((ASK, CALL, RESULT)), (Response((RIGHT,)), Response((CALL,))), FIRST),
    ),
    (
        "sharegpt pairs",
        {"conversations": [HUMAN], "chosen": "4", "rejected": "5", "system": "Be short."},
        Example(Prompt((SYSTEM, ASK)), SIDES, FIRST),
    ),
    (
        "sharegpt with labels",
        {"conversations": [HUMAN, GPT], "kto_tag": False},
        Example(Prompt((ASK,)), LABELLED),
    ),
    ("sharegpt with labels", {"conversations": [HUMAN, GPT], "label": 0}, Example(Prompt((ASK,)), LABELLED)),
    (
        "LLaMA-Factory openai pairs",
        {"messages": [U], "chosen": A, "rejected": W, "system": "Be short."},
        Example(Prompt((SYSTEM, ASK)), SIDES, FIRST),
    ),
    (
        "LLaMA-Factory openai with labels",
        {"messages": [U, A], "kto_tag": False},
        Example(Prompt((ASK,)), LABELLED),
    ),
    (
        "Stack Exchange pairs",
        {"question": "2 + 2 =", "response_j": "4", "response_k": "5"},
        Example(Prompt((ASK,)), SIDES, FIRST),
    ),
    ("ms-swift pairs", {"messages": [U, A], "rejected_response": "5"}, Example(Prompt((ASK,)), SIDES, FIRST)),
    ("ms-swift pairs", {"messages": [U, A], "rejected_response": [W]}, Example(Prompt((ASK,)), SIDES, FIRST)),
    (
        "ms-swift pairs",
        {
            "messages": [U, said("tool_call", WRITTEN), said("tool_response", "4"), A],
            "rejected_response": "5",
        },
        Example(Prompt((ASK,)), (Response((CALL, RESULT, RIGHT)), Response((CALL, RESULT, WRONG))), FIRST),
    ),
    (
        "ms-swift pairs",
        {
            "messages": [U, said("tool_call", WRITTEN), said("tool_response", "4"), A],
            "rejected_response": [W],
        },
        Example(Prompt((ASK,)), (Response((CALL, RESULT, RIGHT)), Response((WRONG,))), FIRST),
    ),
    (
        "ms-swift pairs of conversations",
        {"messages": [U, A, U, A], "rejected_messages": [U, A, U, W], "tools": TOOLS},
        Example(Prompt((ASK, RIGHT, ASK), tools=tuple(TOOLS)), SIDES, FIRST),
    ),
    (
        "ms-swift pairs of conversations",
        {
            "messages": [U, said("tool_call", WRITTEN), said("tool_response", "4"), A],
            "rejected_messages": [U, said("tool_call", WRITTEN), said("tool_response", "3"), W],
        },
        Example(
            Prompt((ASK,)),
            (Response((CALL, RESULT, RIGHT)), Response((CALL, Message("tool", "3"), WRONG))),
            FIRST,
        ),
    ),
    (
        "ms-swift messages",
        {"messages": [U, said("tool_call", WRITTEN), said("tool_response", "4"), A]},
        Example(Prompt((ASK,)), (Response((CALL, RESULT, RIGHT), demonstration=True),)),
    ),
    (
        "ms-swift messages",
        {"messages": [U, {**W, "loss": False}, U, {**A, "loss": True}]},
        Example(Prompt((ASK, Message("assistant", "5", {"loss": False}), ASK)), DEMONSTRATED),
    ),
    (
        "ms-swift messages with a label",
        {"messages": [U, said("tool_call", WRITTEN), said("tool", "4"), A], "label": True},
        Example(Prompt((ASK,)), (Response((CALL, RESULT, RIGHT), label=1.0),)),
    ),
    (
        "ms-swift messages with a solution",
        {"messages": [U], "solution": "4", "system": "Be short."},
        Example(Prompt((SYSTEM, ASK)), DEMONSTRATED),
    ),
    (
        "ms-swift queries",
        {"query": "2 + 2 =", "response": "4", "system": "Be short.", "history": [["Hello", "Hi"]]},
        Example(Prompt((SYSTEM, HELLO, HI, ASK)), DEMONSTRATED),
    ),
    (
        "ms-swift queries with two responses",
        {"query": "2 + 2 =", "response": "4", "rejected_response": "5", "history": []},
        Example(Prompt((ASK,)), SIDES, FIRST),
    ),
    (
        "ms-swift queries with labelled responses",
        {"query": "2 + 2 =", "response": "4", "label": False},
        Example(Prompt((ASK,)), LABELLED),
    ),
    (
        "ms-swift rounds",
        {
            "conversation": [{"human": "Hello", "assistant": "Hi"}, {"human": "2 + 2 =", "assistant": "4"}],
            "system": "Be short.",
        },
        Example(Prompt((SYSTEM, HELLO, HI, ASK)), DEMONSTRATED),
    ),
    (
        "ms-swift rounds",
        {"conversation": [{"user": "2 + 2 =", "assistant": "I add."}, {"tool": "4", "assistant": "4"}]},
        Example(
            Prompt((ASK,)), (Response((Message("assistant", "I add."), RESULT, RIGHT), demonstration=True),)
        ),
    ),
    (
        "NeMo-Aligner pairs",
        {
            "prompt": "2 + 2 =",
            "chosen_response": " 4",
            "rejected_response": " 5",
            "chosen_reward": 4,
            "rejected_reward": 0.5,
        },
        Example(Prompt("2 + 2 ="), (Response(" 4", score=4.0), Response(" 5", score=0.5)), FIRST),
    ),
    (
        "NeMo-Aligner pairs",
        {"prompt": "2 + 2 =", "chosen_response": " 4", "rejected_response": " 5", "chosen_reward": None},
        Example(Prompt("2 + 2 ="), RAW_SIDES, FIRST),
    ),
    (
        "NeMo-RL preferences",
        {
            "context": [U],
            "completions": [
                {"rank": 1, "completion": [W]},
                {"rank": 0, "completion": [A]},
                {"rank": 1, "completion": [said("assistant", "6")]},
            ],
        },
        Example(
            Prompt((ASK,)),
            (
                Response((WRONG,), score=-1.0),
                Response((RIGHT,), score=0.0),
                Response((Message("assistant", "6"),), score=-1.0),
            ),
        ),
    ),
    (
        "OpenRLHF pairs",
        {"question": "2 + 2 =", "response_chosen": " 4", "response_rejected": " 5"},
        Example(Prompt("2 + 2 ="), RAW_SIDES, FIRST),
    ),
    (
        "OpenRLHF pairs",
        {"input": "2 + 2 =", "chosen": " 4", "rejected": " 5", "source": "ann"},
        Example(Prompt("2 + 2 ="), (Response(" 4", source="ann"), Response(" 5", source="ann")), FIRST),
    ),
    (
        "OpenRLHF pairs",
        {"system": "Be short.", "input": "2 + 2 =", "chosen": "4", "rejected": "5"},
        Example(Prompt((SYSTEM, ASK)), SIDES, FIRST),
    ),
    (
        "OpenRLHF pairs",
        {"system": "", "input": "2 + 2 =", "chosen": "4", "rejected": "5"},
        Example(Prompt((ASK,)), SIDES, FIRST),
    ),
    (
        "LLaMA-Factory openai pairs",
        {"messages": [U], "chosen": [A], "rejected": [W]},
        Example(Prompt((ASK,)), SIDES, FIRST),
    ),
    (
        "turbo-alignment pairs",
        {"context": [said("user", "Hello"), said("bot", "Hi"), U], "answer_w": BOT, "answer_l": BOT_BAD},
        Example(Prompt((HELLO, HI, ASK)), SIDES, FIRST),
    ),
    (
        "turbo-alignment points",
        {"context": [said("user", "Hello"), said("bot", "Hi")], "answer": BOT, "is_desirable": False},
        Example(Prompt((HELLO, HI)), LABELLED),
    ),
    (
        "turbo-alignment answers",
        {
            "messages": [U, BOT],
            "answers": [
                {"id": "7", "content": "4"},
                {"id": "8", "content": "5"},
                {"id": "9", "content": "6"},
            ],
            "rewards": {"8": -1, "7": 0.5},
            "label": None,
        },
        Example(
            Prompt((ASK,)),
            (
                Response((RIGHT,), score=0.5),
                Response((WRONG,), score=-1.0),
                Response((Message("assistant", "6"),)),
            ),
        ),
    ),
    (
        "turbo-alignment answers",
        {"messages": [U], "answers": [{"id": "7", "content": "4"}]},
        Example(Prompt((ASK,)), (Response((RIGHT,)),)),
    ),
    (
        "turbo-alignment chat",
        {
            "messages": [{**U, "disable_loss": True}, {**BOT, "disable_loss": False, "tool_calls": None}],
            "label": "greeting",
        },
        Example(Prompt((Message("user", "2 + 2 =", {"disable_loss": True}),)), DEMONSTRATED),
    ),
    (
        "turbo-alignment chat",
        {"messages": [U, said("bot", "Hi"), BOT]},
        Example(Prompt((ASK,)), (Response((HI, RIGHT), demonstration=True),)),
    ),
    *(
        case
        for key in ("input", "prompt")
        for case in (
            (
                "prompts with outputs",
                {key: "2 + 2 =", "output": " 4"},
                Example(Prompt("2 + 2 ="), (Response(" 4", demonstration=True),)),
            ),
            (
                "prompts with labelled outputs",
                {key: [U], "output": "4", "label": 0},
                Example(Prompt((ASK,)), LABELLED),
            ),
            (
                "prompts with outputs and rewards",
                {key: "2 + 2 =", "output": " 4", "reward": -0.5},
                Example(Prompt("2 + 2 ="), (Response(" 4", score=-0.5),)),
            ),
        )
    ),
]
