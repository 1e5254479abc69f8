"""Prompts and responses as a judge reads them: plain text, without a chat template's control tokens."""

import json

from trueup.feedback.records import Content, Message, Prompt

SPEAKERS = {
    "user": "Human",
    "assistant": "Assistant",
    "system": "System",
    "developer": "System",
    "tool": "Tool",
}


def asked(prompt: Prompt) -> str:
    """A prompt: raw text as it is, a conversation as lines that say who speaks, with the tools it declares."""
    declared = [f"Tools: {_json([dict(tool) for tool in prompt.tools])}"] if prompt.tools else []
    said = [prompt.content] if isinstance(prompt.content, str) else map(_line, prompt.content)
    return "\n\n".join([*declared, *said])


def answered(response: Content) -> str:
    """A response: what the assistant says, and who speaks where it is more than one turn or calls a tool."""
    if isinstance(response, str):
        return response
    if len(response) == 1 and not response[0].extra.get("tool_calls"):
        return response[0].content
    return "\n\n".join(map(_line, response))


def _line(message: Message) -> str:
    calls = message.extra.get("tool_calls")
    said = [message.content] if message.content or not calls else []
    if calls:
        said.append(f"calls {_json(calls)}")
    return f"{SPEAKERS.get(message.role, message.role)}: {' '.join(said)}"


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
