"""The layouts in which platforms take data for tuning: OpenAI, Together, Fireworks, Cohere, Vertex AI, and
LLaMA-Factory's v1.

https://platform.openai.com/docs/guides/direct-preference-optimization;
https://docs.together.ai/docs/fine-tuning/preference-tuning; https://docs.fireworks.ai/fine-tuning/dpo-fine-tuning;
https://docs.cohere.com/docs/chat-preparing-the-data;
https://cloud.google.com/vertex-ai/generative-ai/docs/models/gemini-preference-tuning-prepare.
"""

from dataclasses import replace

from trueup.feedback.fields import Field
from trueup.feedback.layouts import frameworks, shapes
from trueup.feedback.layouts.layout import COHERE, Dialect, Layout, RowValue, called, turn, turns_in
from trueup.feedback.records import Discarded, Example, Message, Response
from trueup.feedback.turns import as_response, message, messages

# Preferences of OpenAI, Together and Fireworks.
#
#     {"input": {"messages": [{"role": "user", "content": "2 + 2 ="}], "tools": []},
#      "preferred_output": [{"role": "assistant", "content": "4"}], "non_preferred_output": [...]}

OUTPUTS = ("preferred_output", "non_preferred_output")


def input_messages(row: Field, key: str) -> shapes.Turns:
    return messages(row[key].object(("messages", "tools", "parallel_tool_calls"))["messages"])


PREFERRED_OUTPUTS = replace(
    shapes.pairs(
        "OpenAI preferences",
        shapes.written("input", *OUTPUTS, ask=input_messages, answer=frameworks.one_side, text=()),
    ),
    inside="input",
    not_kept="parallel_tool_calls of `input`",
)


# Cohere's conversations; roles are System, User and Chatbot.
#
#     {"messages": [{"role": "User", "content": "2 + 2 ="}, {"role": "Chatbot", "content": "4"}]}

COHERE_ROLES = ("System", "User", "Chatbot", "SYSTEM", "USER", "CHATBOT", "chatbot")
COHERE_LAYOUTS = shapes.singles(
    "Cohere conversations",
    shapes.conversation("messages", turns_in(COHERE), shapes.holds("messages", "message", COHERE_ROLES)),
    ("label",),
)


# Vertex AI's preferences and demonstrations for Gemini.
#
#     {"system_instruction": {"parts": [{"text": "Be short."}]},
#      "contents": [{"role": "user", "parts": [{"text": "2 + 2 ="}]}],
#      "completions": [{"score": 1, "completion": {"role": "model", "parts": [{"text": "4"}]}}, {"score": 0, ...}]}
#     {"systemInstruction": {...}, "contents": [..., {"role": "model", "parts": [{"text": "4"}]}]}

INSTRUCTIONS = ("system_instruction", "systemInstruction")


def joined_parts(given: Field) -> str:
    found = []
    for one in given.items("parts"):
        if not isinstance(one.value, dict) or set(one.value) != {"text"}:
            raise one.unexpected('{"text": ...}: only text can be used')
        found.append(one["text"].text())
    if not found:
        raise given.fault("there are no parts; leave the row out")
    return "".join(found)


GEMINI = Dialect((("role", "parts"),), {"user": ("user",), "assistant": ("model",)}, joined_parts)


def vertex_turns(row: Field, key: str) -> shapes.Turns:
    given = [one for one in INSTRUCTIONS if row.get(one)]
    if len(given) > 1:
        raise row[given[1]].fault(f"the row has {given[0]!r} too; keep one of them")
    system = [Message("system", joined_parts(row[one].object()["parts"])) for one in given]
    return (*system, *turns_in(GEMINI)(row, key))


def scored_completions(row: Field) -> Example | Discarded:
    prompt = vertex_turns(row, "contents")
    responses, scores = [], []
    for one in row["completions"].objects():
        scores.append(one["score"].integer(0, 1))
        said = turn(one["completion"], GEMINI)[1]
        responses.append(Response(as_response((said,), prompt, one["completion"])))
    if sorted(scores) != [0, 1]:
        raise row["completions"].fault(
            f"found the scores {scores}, expected two completions, one with the score 1 and one with 0"
        )
    return shapes.judged(prompt, tuple(responses), scores.index(1))


VERTEX = (
    Layout(
        name="Vertex AI preferences",
        keys=("contents", "completions"),
        optional=INSTRUCTIONS,
        meaning="A pair: the completion with the `score` 1 was preferred to that with 0 as an answer to `contents`.",
        convert=scored_completions,
    ),
    *shapes.singles(
        "Vertex AI conversations",
        shapes.conversation(
            "contents", vertex_turns, shapes.holds("contents", "parts"), optional=INSTRUCTIONS
        ),
    ),
)


# LLaMA-Factory's v1: the content of a turn is a list of typed values, and a turn whose `loss_weight` is 0 is not
# learned. https://github.com/hiyouga/LLaMA-Factory (src/llamafactory/v1).
#
#     {"messages": [{"role": "user", "content": [{"type": "text", "value": "2 + 2 ="}], "loss_weight": 0.0}, ...]}
#     {"chosen_messages": [...], "rejected_messages": [...]}


def v1_turn(given: Field) -> Message:
    content = given.object().get("content")
    if content is None or not isinstance(content.value, list):
        return message(given)
    words: dict[str, list[str]] = {"text": [], "reasoning": []}
    calls: list[object] = []
    for one in content.objects():
        if one.value.get("type") == "text" and "text" in one:  # as OpenAI writes a part
            return message(given)
        kind, said = one["type"].text(), one["value"].text()
        if kind == "tool_call":
            calls += called(one["value"])[1]
        elif kind in words:
            words[kind].append(said)
        else:
            raise one["type"].unexpected("one of text, reasoning, tool_call: only text can be used")
    if not content.value:
        raise content.fault("the list is empty")
    made = given.value | {"content": "".join(words["text"])}
    made |= {"reasoning_content": "".join(words["reasoning"])} if words["reasoning"] else {}
    return message(replace(given, value=made | ({"tool_calls": calls} if calls else {})))


def v1_turns(row: Field, key: str) -> shapes.Turns:
    return tuple(map(v1_turn, row[key].items("messages")))


def has_values(row: RowValue) -> bool:
    """Whether a turn of the messages has a typed value."""
    turns = row["messages"] if isinstance(row["messages"], list) else []
    contents = [one.get("content") for one in turns if isinstance(one, dict)]
    parts = [part for one in contents if isinstance(one, list) for part in one]
    return any(isinstance(part, dict) and "value" in part for part in parts)


V1 = (
    shapes.pairs(
        "LLaMA-Factory v1 pairs",
        shapes.conversations("chosen_messages", "rejected_messages", v1_turns, optional=("tools",)),
        foreign=("prompt_messages", "prompt"),
    ),
    *shapes.singles(
        "LLaMA-Factory v1 messages",
        shapes.conversation("messages", v1_turns, has_values, counted=True),
        ("label",),
    ),
)

LAYOUTS: tuple[Layout, ...] = (PREFERRED_OUTPUTS, *COHERE_LAYOUTS, *VERTEX, *V1)
