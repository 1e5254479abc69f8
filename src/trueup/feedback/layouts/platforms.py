"""The layouts in which platforms take data for tuning: OpenAI, Together, Fireworks, Cohere, Vertex AI, and
LLaMA-Factory's v1.

https://platform.openai.com/docs/guides/direct-preference-optimization;
https://docs.together.ai/docs/fine-tuning/preference-tuning; https://docs.fireworks.ai/fine-tuning/dpo-fine-tuning;
https://docs.cohere.com/docs/chat-preparing-the-data;
https://cloud.google.com/vertex-ai/generative-ai/docs/models/gemini-preference-tuning-prepare.
"""

from dataclasses import replace
from functools import partial

from trueup.feedback.fields import Place, fields, items, needed, text
from trueup.feedback.layouts import shapes
from trueup.feedback.layouts.dialects import COHERE, called, spoken_by, turns
from trueup.feedback.layouts.frameworks import one_side
from trueup.feedback.layouts.layout import Draft, Layout, RowValue
from trueup.feedback.layouts.trl import after_shared_turns
from trueup.feedback.records import Discarded, Message, Response
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
            before="the two sides",
            text=(),
            optional=("tools",),
        ),
        "A pair: `preferred_output` was preferred to `non_preferred_output` as what follows the messages of `input`.",
    ),
    inside="input",
    not_kept="parallel_tool_calls of `input`",
)


# Cohere's conversations; roles are System, User and Chatbot.
#
#     {"messages": [{"role": "User", "content": "2 + 2 ="}, {"role": "Chatbot", "content": "4"}]}

CHATBOT = shapes.conversation(
    "messages",
    partial(turns, dialect=COHERE),
    fits=spoken_by(
        "messages", ("System", "User", "Chatbot", "SYSTEM", "USER", "CHATBOT", "chatbot"), "message"
    ),
)
COHERE_LAYOUTS = (
    *shapes.points(
        "Cohere conversations with a label",
        CHATBOT,
        "A point: `{key}` says how desirable the turns after the last one of the user are.",
        "label",
    ),
    shapes.demonstrations(
        "Cohere conversations",
        CHATBOT,
        "A demonstration: the turns of the chatbot after the last one of the user are a response to imitate.",
    ),
)


# Vertex AI's preferences and demonstrations for Gemini.
#
#     {"system_instruction": {"parts": [{"text": "Be short."}]},
#      "contents": [{"role": "user", "parts": [{"text": "2 + 2 ="}]}],
#      "completions": [{"score": 1, "completion": {"role": "model", "parts": [{"text": "4"}]}}, {"score": 0, ...}]}
#     {"systemInstruction": {...}, "contents": [..., {"role": "model", "parts": [{"text": "4"}]}]}

SPEAKERS = {"user": "user", "model": "assistant"}
INSTRUCTIONS = ("system_instruction", "systemInstruction")


def joined_parts(value: object, place: Place) -> str:
    """The text of `{"parts": [{"text": ...}]}`; other parts are refused."""
    at = place.key("parts")
    parts = (
        shapes.objects(fields(value, place), "parts", place)
        if needed(fields(value, place), "parts", place)
        else []
    )
    found = []
    for one, here in parts:
        if set(one) != {"text"}:
            raise here.unexpected(one, '{"text": ...}: only text can be used')
        found.append(text(one["text"], here.key("text")))
    if not found:
        raise at.fault("there are no parts; leave the row out")
    return "".join(found)


def model_turn(value: object, place: Place) -> Message:
    """One turn."""
    role = text(needed(fields(value, place), "role", place), place.key("role"))
    if role not in SPEAKERS:
        raise place.key("role").unexpected(role, f"one of {', '.join(SPEAKERS)}")
    return Message(SPEAKERS[role], joined_parts(value, place))


def vertex_turns(row: RowValue, place: Place) -> shapes.Turns:
    """The instruction for the system, and the turns."""
    given = [key for key in INSTRUCTIONS if row.get(key) is not None]
    if len(given) > 1:
        raise place.key(given[1]).fault(f"the row has {given[0]!r} too; keep one of them")
    system = [Message("system", joined_parts(row[key], place.key(key))) for key in given]
    at = place.key("contents")
    listed = items(row["contents"], at, "turns")
    return (*system, *(model_turn(one, at.item(index)) for index, one in enumerate(listed)))


def scored_completions(row: RowValue, place: Place) -> Draft | Discarded:
    """Two completions, of which one has the score 1 and the other 0."""
    prompt = vertex_turns(row, place)
    responses, scores = [], []
    for one, here in shapes.objects(row, "completions", place):
        scores.append(shapes.integer(needed(one, "score", here), here.key("score"), 0, 1))
        at = here.key("completion")
        responses.append(
            Response(as_response((model_turn(needed(one, "completion", here), at),), prompt, at))
        )
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
    shapes.demonstrations(
        "Vertex AI conversations",
        shapes.Form(
            ("contents",),
            lambda row, place: _vertex_exchange(row, place),
            optional=INSTRUCTIONS,
            fits=shapes.holds("contents", "parts"),
        ),
        "A demonstration: the turn of the model that ends `contents` is a response to imitate.",
    ),
)


def _vertex_exchange(row: RowValue, place: Place) -> shapes.Exchange | Discarded:
    found = shapes.last_exchange(vertex_turns(row, place), place.key("contents"))
    return found if isinstance(found, Discarded) else (found[0], (found[1],))


# LLaMA-Factory's v1: the content of a turn is a list of typed values, and a turn whose `loss_weight` is 0 is not
# learned. https://github.com/hiyouga/LLaMA-Factory (src/llamafactory/v1).
#
#     {"messages": [{"role": "user", "content": [{"type": "text", "value": "2 + 2 ="}], "loss_weight": 0.0}, ...]}
#     {"chosen_messages": [...], "rejected_messages": [...]}

V1_SIDES = ("chosen_messages", "rejected_messages")


def v1_turn(value: object, place: Place) -> Message:
    """One turn: its texts, its reasoning and its calls of tools."""
    given = dict(fields(value, place))
    if not isinstance(given.get("content"), list):
        return message(given, place)
    at = place.key("content")
    words: dict[str, list[str]] = {"text": [], "reasoning": []}
    calls: list[object] = []
    for one, here in shapes.objects(given, "content", place):
        if one.get("type") == "text" and "text" in one:  # as OpenAI writes a part
            return message(given, place)
        kind, said = shapes.text_under(one, "type", here), shapes.text_under(one, "value", here)
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


def v1_turns(value: object, place: Place) -> shapes.Turns:
    """The turns of a conversation."""
    return tuple(v1_turn(one, place.item(index)) for index, one in enumerate(items(value, place, "messages")))


def v1_sides(row: RowValue, place: Place) -> shapes.Exchange | Discarded:
    """The turns that both conversations share are the prompt."""
    chosen, rejected = (v1_turns(row[key], place.key(key)) for key in V1_SIDES)
    if any(not side or side[-1].role != "assistant" for side in (chosen, rejected)):
        return Discarded(shapes.UNANSWERED)
    return after_shared_turns(chosen, rejected, place, V1_SIDES)


def has_values(row: RowValue) -> bool:
    """Whether a turn of the messages has a typed value."""
    given = row["messages"]
    contents = (
        [one.get("content") for one in given if isinstance(one, dict)] if isinstance(given, list) else []
    )
    parts = [part for one in contents if isinstance(one, list) for part in one]
    return any(isinstance(part, dict) and "value" in part for part in parts)


V1_MESSAGES = shapes.conversation("messages", v1_turns, fits=has_values, counted=True)
V1 = (
    shapes.pairs(
        "LLaMA-Factory v1 pairs",
        shapes.Form(V1_SIDES, v1_sides, optional=("tools",)),
        "A pair of conversations: the turns they share are the prompt; that of `chosen_messages` was preferred.",
        foreign=("prompt_messages", "prompt"),
    ),
    *shapes.points(
        "LLaMA-Factory v1 messages with a label",
        V1_MESSAGES,
        "A point: `{key}` says how desirable the turns after the last one of the user are.",
        "label",
    ),
    shapes.demonstrations(
        "LLaMA-Factory v1 messages",
        V1_MESSAGES,
        "A demonstration: the turns after the last one of the user are a response to imitate.",
    ),
)

LAYOUTS: tuple[Layout, ...] = (PREFERRED_OUTPUTS, *COHERE_LAYOUTS, *VERTEX, *V1)
"""Before the more general ones that a few of them look like."""
