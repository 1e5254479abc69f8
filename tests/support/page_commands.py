"""The commands that a page of the documentation shows, and a server for those that ask one."""

import re
import shlex
from collections.abc import Iterator
from typing import Any

from support.faulty_server import ReceivedRequest
from support.judge_answers import first_with, shown

SERVED = "http://localhost:8000/v1"  # the server that pages speak of


def commands(text: str) -> list[list[str]]:
    """The words after `trueup` of every command in a page: over several lines, and with remarks, as they come."""
    found = re.findall(r"^    trueup (.+)$", _joined(text), re.MULTILINE)
    return [shlex.split(_without_remarks(line)) for line in found]


def options(text: str) -> list[list[str]]:
    """Options that stand by themselves in a page, as a block of their own or within a sentence."""
    joined = _joined(text)
    alone = re.findall(r"^    (--.+)$|`(--[^`]+)`", joined, re.MULTILINE)
    return [shlex.split(_without_remarks("".join(one))) for one in alone]


def _joined(text: str) -> str:
    return re.sub(r" *\\\n +", " ", text)


def _without_remarks(line: str) -> str:
    return re.sub(r"  +#.*", "", line)


def at(url: str, commands: list[list[str]]) -> Iterator[list[str]]:
    """The commands, asking the server at another address than the pages do."""
    for words in commands:
        yield [url if word == SERVED else word for word in words]


def answer(asked: ReceivedRequest) -> dict[str, Any]:
    """Of that server: models, completions, verdicts and demonstrations."""
    if asked.method == "GET":
        return {"object": "list", "data": [{"id": "served", "object": "model"}]}
    body = asked.body
    if body.get("logprobs") and "Preferred response" in str(body.get("messages")):
        first, second = shown(asked)
        return first_with(0.9 if first < second else 0.2)
    if body.get("logprobs") and "by one criterion" in str(body.get("messages")):
        return first_with(0.7)
    choices = [
        {"index": at, "text": f" seven {at}", "message": {"role": "assistant", "content": f" seven {at}"},
         "finish_reason": "stop"}
        for at in range(body.get("n", 1))
    ]  # fmt: skip
    return {"choices": choices, "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}}
