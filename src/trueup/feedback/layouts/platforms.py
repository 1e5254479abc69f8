"""The layouts in which platforms take data for tuning: OpenAI, Together, Fireworks, Cohere, Vertex AI, and
LLaMA-Factory's v1.

https://platform.openai.com/docs/guides/direct-preference-optimization;
https://docs.together.ai/docs/fine-tuning/preference-tuning; https://docs.fireworks.ai/fine-tuning/dpo-fine-tuning;
https://docs.cohere.com/docs/chat-preparing-the-data;
https://cloud.google.com/vertex-ai/generative-ai/docs/models/gemini-preference-tuning-prepare.
"""

from dataclasses import replace

from trueup.feedback.fields import Place, fields, integer, items, needed, objects, text_under
from trueup.feedback.layouts import shapes
from trueup.feedback.layouts.dialects import COHERE, Dialect, called, turn, turns, turns_in
from trueup.feedback.layouts.frameworks import one_side
from trueup.feedback.layouts.layout import Layout, RowValue
from trueup.feedback.records import Discarded, Example, Message, Response
from trueup.feedback.turns import as_response, message, messages

# Preferences of OpenAI, Together and Fireworks.
#
#     {"input": {"messages": [{"role": "user", "content": "2 + 2 ="}], "tools": []},
#      "preferred_output": [{"role": "assistant", "content": "4"}], "non_preferred_output": [...]}

OUTPUTS = ("preferred_output", "non_preferred_output")


def input_messages(value: object, place: Place) -> shapes.Turns:
    """The messages of the request."""
    given = fields(value, place, ("messages", "tools", "parallel_tool_calls"))
    return messages(needed(given, "messages", place), place.key("messages"))


PREFERRED_OUTPUTS = replace(
    shapes.pairs(
        "OpenAI preferences",
        shapes.written(
            "input",
            *OUTPUTS,
            ask=shapes.by_value(input_messages),
            answer=one_side,
            text=(),
        ),
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
    shapes.conversation(
        "messages",
        turns_in(COHERE),
        shapes.holds("messages", "message", COHERE_ROLES),
    ),
    ("label",),
)


# Vertex AI's preferences and demonstrations for Gemini.
#
#     {"system_instruction": {"parts": [{"text": "Be short."}]},
#      "contents": [{"role": "user", "parts": [{"text": "2 + 2 ="}]}],
#      "completions": [{"score": 1, "completion": {"role": "model", "parts": [{"text": "4"}]}}, {"score": 0, ...}]}
#     {"systemInstruction": {...}, "contents": [..., {"role": "model", "parts": [{"text": "4"}]}]}

INSTRUCTIONS = ("system_instruction", "systemInstruction")


def joined_parts(value: object, place: Place) -> str:
    """The text of `[{"text": ...}]`; other parts are refused."""
    found = []
    for index, one in enumerate(items(value, place, "parts")):
        if not isinstance(one, dict) or set(one) != {"text"}:
            raise place.item(index).unexpected(one, '{"text": ...}: only text can be used')
        found.append(text_under(one, "text", place.item(index)))
    if not found:
        raise place.fault("there are no parts; leave the row out")
    return "".join(found)


GEMINI = Dialect((("role", "parts"),), {"user": ("user",), "assistant": ("model",)}, joined_parts)


def vertex_turns(row: RowValue, place: Place, key: str) -> shapes.Turns:
    """The instruction for the system, and the turns under the key."""
    given = [one for one in INSTRUCTIONS if row.get(one) is not None]
    if len(given) > 1:
        raise place.key(given[1]).fault(f"the row has {given[0]!r} too; keep one of them")
    system = []
    for one in given:
        at = place.key(one)
        parts = needed(fields(row[one], at), "parts", at)
        system.append(Message("system", joined_parts(parts, at.key("parts"))))
    return (*system, *turns(row[key], place.key(key), GEMINI))


def scored_completions(row: RowValue, place: Place) -> Example | Discarded:
    """Two completions, of which one has the score 1 and the other 0."""
    prompt = vertex_turns(row, place, "contents")
    responses, scores = [], []
    for one, here in objects(row, "completions", place):
        scores.append(integer(needed(one, "score", here), here.key("score"), 0, 1))
        at = here.key("completion")
        said = turn(needed(one, "completion", here), at, GEMINI)[1]
        responses.append(Response(as_response((said,), prompt, at)))
    if sorted(scores) != [0, 1]:
        raise place.key("completions").fault(
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


def v1_turn(value: object, place: Place) -> Message:
    """One turn: its texts, its reasoning and its calls of tools."""
    given = dict(fields(value, place))
    if not isinstance(given.get("content"), list):
        return message(given, place)
    at = place.key("content")
    words: dict[str, list[str]] = {"text": [], "reasoning": []}
    calls: list[object] = []
    for one, here in objects(given, "content", place):
        if one.get("type") == "text" and "text" in one:  # as OpenAI writes a part
            return message(given, place)
        kind, said = text_under(one, "type", here), text_under(one, "value", here)
        if kind == "tool_call":
            calls += called(said, here.key("value"))[1]
        elif kind in words:
            words[kind].append(said)
        else:
            raise here.key("type").unexpected(
                kind, "one of text, reasoning, tool_call: only text can be used"
            )
    if not given["content"]:
        raise at.fault("the list is empty")
    given["content"] = "".join(words["text"])
    given |= {"reasoning_content": "".join(words["reasoning"])} if words["reasoning"] else {}
    return message(given | ({"tool_calls": calls} if calls else {}), place)


def v1_turns(row: RowValue, place: Place, key: str) -> shapes.Turns:
    """The turns of a conversation."""
    at = place.key(key)
    return tuple(v1_turn(one, at.item(index)) for index, one in enumerate(items(row[key], at, "messages")))


def has_values(row: RowValue) -> bool:
    """Whether a turn of the messages has a typed value."""
    given = row["messages"]
    contents = (
        [one.get("content") for one in given if isinstance(one, dict)] if isinstance(given, list) else []
    )
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
"""Before the more general ones that a few of them look like."""
