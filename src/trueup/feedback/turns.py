"""Messages: reading them, where a conversation ends being the prompt and becomes the response, and what is learned."""

import ast
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

from trueup import display, words
from trueup.feedback.fields import Field, described
from trueup.feedback.records import Content, Example, Message, Prompt

Turns = Literal["last", "all"]
"""Which turns of the assistant are learned: those of the response alone, or the earlier ones of its prompt too."""
ROLES = ("system", "user", "assistant", "tool", "developer")
RESPONSE_ROLES = ("assistant", "tool")
OTHER_NAMES = {"human": "user", **dict.fromkeys(("bot", "gpt", "model", "ai"), "assistant")}
SWIFT_ROLES = ("tool_call", "tool_response")
SWIFT_HINT = "; it is a role of ms-swift: a file whose first row has it is read as ms-swift's, so put this row first"
NOT_LEARNED: dict[str, bool | int] = {
    "disable_loss": True,
    **dict.fromkeys(("loss", "train", "training"), False),
    **dict.fromkeys(("weight", "loss_weight"), 0),
}
MESSAGE_KEYS = ({"role", "content"}, {"role", "tool_calls"}, {"from", "value"})
WRITTEN = "messages written as text; write them as a list"
LONGEST = 200_000


def content(given: Field) -> Content:
    if isinstance(given.value, str):
        if holds_messages(given.value):
            raise given.fault(f"found {WRITTEN}")
        return given.value
    if not isinstance(given.value, list):
        raise given.unexpected("text or a list of messages")
    return messages(given)


def messages(given: Field) -> tuple[Message, ...]:
    return tuple(map(message, given.items("messages")))


def message(given: Field) -> Message:
    role = given.object()["role"].text()
    if role not in ROLES:
        other = OTHER_NAMES.get(role.lower())
        hint = f"; did you mean {other!r}?" if other else words.did_you_mean(role, ROLES, quoted=True)
        hint = SWIFT_HINT if role in SWIFT_ROLES else hint
        raise given["role"].unexpected("one of " + ", ".join(ROLES) + hint)
    more = {key: one for key, one in given.value.items() if key not in ("role", "content")}
    extra = with_calls(more, given)
    check_weights(extra, given)
    if given.get("content") is None and extra.get("tool_calls"):
        return Message(role, "", extra)
    return Message(role, spoken(given["content"]), extra)


def with_calls(extra: Mapping[str, object], message: Field) -> dict[str, object]:
    if isinstance(old := extra.get("function_call"), Mapping) and not extra.get("tool_calls"):
        extra = {key: one for key, one in extra.items() if key != "function_call"} | {"tool_calls": [old]}
    calls = extra.get("tool_calls")
    if not isinstance(calls, list | tuple):
        return dict(extra)
    at = message.at("tool_calls")
    return {**extra, "tool_calls": [call_of(at.at(index, one)) for index, one in enumerate(calls)]}


def call_of(given: Field) -> object:
    """A call of a tool as OpenAI writes it, but for its arguments; what is none as it is."""
    call = given.value
    if not isinstance(call, Mapping):
        return call
    if "function" not in call and isinstance(call.get("name"), str):
        function = {key: one for key, one in call.items() if key in ("name", "arguments")}
        about = {key: one for key, one in call.items() if key not in function}
        call = {**about, "type": "function", "function": function}
    inner = call.get("function")
    if not isinstance(inner, Mapping) or "arguments" not in inner:
        return call
    arguments = structured(given.at("arguments", inner["arguments"]))
    return {**call, "function": {**inner, "arguments": arguments}}


def structured(given: Field) -> object:
    """Arguments written as text, once or twice, as the object they are; other text stands as it is."""
    arguments = "" if given.value is None else given.value
    if not isinstance(arguments, str):
        return arguments
    text = arguments.strip()
    try:
        found = json.loads(text or "{}", parse_constant=int)  # NaN is none, and JSON has no other constant
    except (ValueError, RecursionError):
        found = python_value(text)
    if isinstance(found, str) and found.strip()[:1] == "{":
        return structured(replace(given, value=found))
    if not isinstance(found, dict) and text[:1] == "{":
        raise given.unexpected("the arguments of a call as an object, or as JSON text that holds one")
    return found if isinstance(found, dict) else arguments


def spoken(given: Field) -> str:
    return "".join(map(text_part, given.items(""))) if isinstance(given.value, list) else given.text()


def text_part(part: Field) -> str:
    kind = part.object()["type"]
    if kind.value != "text":
        raise kind.unexpected("'text': only text can be used")
    for key, one in part.value.items():
        if key not in ("type", "text") and one is not None:
            raise part.at(key).fault(f"a text part holds nothing but its text; found {described(one)}")
    return part["text"].text()


def message_json(one: Message) -> dict[str, object]:
    return {"role": one.role, "content": one.content, **one.extra}


def as_response(response: Content, prompt: Content, place: Field, skipped: int = 0) -> Content:
    """A response of the kind of its prompt: text, or turns of the assistant, of which `skipped` stand before it."""
    if isinstance(prompt, str) and not isinstance(response, str):
        listed = replace(place, value=list(response))
        raise listed.unexpected("text, because the prompt is text; make both messages")
    if isinstance(response, str):
        return response if isinstance(prompt, str) else as_messages(response)
    for index, one in enumerate(response):
        at = place.at(skipped + index).at("role", one.role)
        if one.role not in RESPONSE_ROLES:
            raise at.unexpected("an assistant or tool turn: turns of others belong to the prompt")
        if one.role != "assistant" and index in (0, len(response) - 1):
            raise at.unexpected("an assistant turn: a response begins and ends with one")
    return response


def split_at_last_request(turns: tuple[Message, ...]) -> tuple[tuple[Message, ...], tuple[Message, ...]]:
    """Everything up to the last turn that is neither the assistant's nor a tool's, and what follows it."""
    ends = [index + 1 for index, one in enumerate(turns) if one.role not in RESPONSE_ROLES]
    end = ends[-1] if ends else 0
    return turns[:end], turns[end:]


def shared_turns(one: tuple[Message, ...], other: tuple[Message, ...]) -> int:
    """How many first turns two conversations share, leaving each at least one turn of its own.
    What a tool answers is left with its call, and the assistant's last turns with what follows them."""
    longest = max(0, min(len(one), len(other)) - 1)
    shared = next((index for index in range(longest) if one[index] != other[index]), longest)
    while shared:
        if "tool" not in (one[shared].role, other[shared].role) and one[shared - 1].role != "assistant":
            break
        shared -= 1
    return shared


def says_nothing(response: Content) -> bool:
    if isinstance(response, str):
        return not response.strip()
    return not any(one.content.strip() or one.extra.get("tool_calls") for one in response)


def not_learned(message: Message) -> bool:
    return any(key in message.extra and message.extra[key] == off for key, off in NOT_LEARNED.items())


def check_weights(extra: Mapping[str, object], turn: Field) -> None:
    """Refuse a key that says whether a turn is learned with a value that says something else."""
    for key in NOT_LEARNED:
        value = extra.get(key)
        if value is not None and value not in (0, 1):
            known = "true or false" if isinstance(NOT_LEARNED[key], bool) else "0 or 1"
            raise turn.at(key, value).unexpected(f"{known}: a turn is learned or it is not")


def switched_off(response: Content) -> bool:
    own = [] if isinstance(response, str) else [one for one in response if one.role == "assistant"]
    return bool(own) and all(map(not_learned, own))


def unusable_because(example: Example) -> str | None:
    """Why nothing can be learned from an example, as a clause; None where something can."""
    if any(says_nothing(response.content) for response in example.responses):
        return "a response is empty"
    if example.prompt.content == ():
        return "no turn stands before the response"
    if any(switched_off(response.content) for response in example.responses):
        return "the response is switched off in the loss"
    return None


def ends_with_assistant(prompt: Content) -> bool:
    return not isinstance(prompt, str) and prompt[-1:] != () and prompt[-1].role == "assistant"


def python_value(written: str) -> object:
    """The list or object that Python would print so, as JSON has it; None where the text is none."""
    if len(written) > LONGEST or written[:1] not in ("[", "{"):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = json.loads(json.dumps(ast.literal_eval(written)))
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return None
    return found if isinstance(found, list | dict) else None


def holds_messages(written: str) -> bool:
    """Whether text is messages, or one, in JSON, in Python, or as pandas prints an array of them (without commas)."""
    text = written.strip()
    if text[:1] not in ("[", "{") or not ("role" in text or "from" in text):
        return False
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = python_value(text) or python_value(text.replace("}\n {", "}, {"))
    turns = [found] if isinstance(found, dict) else found if isinstance(found, list) else []
    keys = [one.keys() if isinstance(one, dict) else set() for one in turns]
    return bool(keys) and all(any(one >= known for known in MESSAGE_KEYS) for one in keys)


def turns_in_loss(examples: Sequence[Example], turns: Turns, *, tell: bool = False) -> tuple[Example, ...]:
    """The examples as they are, or with every turn of the assistant in the responses.
    Where all are learned, the prompt ends before the assistant's first turn; what others say after it is not scored.
    Both sides of a pair begin with the same turns: the difference of their summed log-probabilities stays."""
    if turns == "last":
        return tuple(examples)
    made = tuple(map(every_turn, examples))
    if tell:
        display.data_logger.info(what_turns_did(examples, made))
    return made


def what_turns_did(before: Sequence[Example], after: Sequence[Example]) -> str:
    changed = sum(new is not old for new, old in zip(after, before, strict=True))
    if not changed:
        return "turns all changes nothing: no prompt holds an earlier turn of the assistant (text counts as one turn)"
    examples = words.counted(len(after), "example")
    return f"turns all: earlier turns of the assistant are learned in {changed} of {examples}"


def every_turn(example: Example) -> Example:
    prompt = example.prompt.content
    if isinstance(prompt, str):
        return example
    after = next((at for at, message in enumerate(prompt) if message.role != "assistant"), len(prompt))
    start = next((at for at in range(after, len(prompt)) if prompt[at].role == "assistant"), None)
    if start is None:
        return example
    said = prompt[start:]
    responses = (replace(one, content=(*said, *as_messages(one.content))) for one in example.responses)
    request = replace(example.prompt, content=prompt[:start])
    return replace(example, prompt=request, responses=tuple(responses))


def is_learned(turn: Message) -> bool:
    return turn.role == "assistant" and not not_learned(turn)


def as_chat(example: Example) -> Example:
    if not isinstance(example.prompt.content, str):
        return example
    responses = (replace(one, content=as_messages(one.content)) for one in example.responses)
    return replace(example, prompt=prompt_as_chat(example.prompt), responses=tuple(responses))


def prompt_as_chat(prompt: Prompt) -> Prompt:
    given = prompt.content
    return replace(prompt, content=(Message("user", given),)) if isinstance(given, str) else prompt


def as_messages(content: Content) -> tuple[Message, ...]:
    return (Message("assistant", content),) if isinstance(content, str) else content
