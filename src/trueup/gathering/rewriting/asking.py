"""What a stronger model is asked: the conversation itself, or to improve the response that was chosen."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
from jinja2 import meta
from jinja2.sandbox import ImmutableSandboxedEnvironment

from trueup.annotators.quoting import boundary_of, fenced, visible
from trueup.annotators.transcript import answered, asked
from trueup.errors import InputError
from trueup.feedback.layouts.trl import ASSISTANT, HUMAN
from trueup.feedback.turns import message_json
from trueup.gathering.rewriting.pair import Pair
from trueup.words import did_you_mean

Messages = list[dict[str, Any]]
Ask = Callable[[Pair], Messages]
"""A pair -> the messages of a request."""

ANSWER, IMPROVE = "answer", "improve"
VARIABLES = ("prompt", "chosen", "instruction", "boundary")


def make_asking(template: str, instruction: str | None) -> Ask:
    """How a pair is put to the model.

    Args:
        template: `answer`, `improve`, or a file with a Jinja template.
        instruction: what the demonstrations should be like, in words.

    Raises:
        InputError: there is no such template, or it cannot be used.
    """
    if template == ANSWER:
        return lambda pair: conversation(pair, instruction)
    source = source_of(template) if template == IMPROVE else _read(template)
    compiled = _compiled(template, source, instruction)

    def ask(pair: Pair) -> Messages:
        return [{"role": "user", "content": _rendered(template, compiled, pair, instruction)}]

    return ask


def source_of(name: str) -> str:
    """The text of a template that comes with trueup, to be copied.

    Raises:
        InputError: there is none of this name.
    """
    if name != IMPROVE:
        raise InputError(
            f"there is no template {name!r}{did_you_mean(name, (IMPROVE,), quoted=True)}; there is {IMPROVE}"
        )
    return files(__package__).joinpath(f"{name}.jinja").read_text(encoding="utf-8")


def conversation(pair: Pair, instruction: str | None) -> Messages:
    """The prompt as the messages of a conversation; raw text in HH's form is taken apart, any other is one request.

    An instruction goes before it all, behind what a system prompt says already.
    """
    prompt = pair.example.prompt.content
    messages = _turns(prompt) if isinstance(prompt, str) else [message_json(one) for one in prompt]
    if instruction is None:
        return messages
    if messages and messages[0]["role"] == "system":
        said = f"{messages[0]['content']}\n\n{instruction}"
        return [{**messages[0], "content": said}, *messages[1:]]
    return [{"role": "system", "content": instruction}, *messages]


def _turns(text: str) -> Messages:
    parts = re.split(f"({re.escape(HUMAN)}|{re.escape(ASSISTANT)})", text)
    roles = {HUMAN: "user", ASSISTANT: "assistant"}
    turns: Messages = [
        {"role": roles[mark], "content": said.strip()}
        for mark, said in zip(parts[1::2], parts[2::2], strict=True)
    ]
    if parts[0].strip():
        turns.insert(0, {"role": "system" if turns else "user", "content": parts[0].strip()})
    if not turns:
        return [{"role": "user", "content": text}]
    return turns[:-1] if turns[-1:] == [{"role": "assistant", "content": ""}] else turns


def _read(template: str) -> str:
    try:
        return Path(template).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        hint = did_you_mean(template, (ANSWER, IMPROVE), quoted=True)
        raise InputError(
            f"rewrite_template {template}: no such file{hint}; give {ANSWER}, {IMPROVE}, or a file with a "
            "Jinja template"
        ) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not text in UTF-8"
        raise InputError(f"rewrite_template {template!r}: the file cannot be read: {reason}") from None


def _compiled(name: str, source: str, instruction: str | None) -> jinja2.Template:
    """Nothing of the process is within reach of the template."""
    environment = ImmutableSandboxedEnvironment(
        autoescape=False, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals.clear()
    try:
        used = meta.find_undeclared_variables(environment.parse(source))
        compiled = environment.from_string(source)
    except jinja2.TemplateSyntaxError as error:
        raise InputError(f"{name}:{error.lineno}: {error.message}. Mend the template") from None
    if unknown := sorted(used - set(VARIABLES)):
        raise InputError(
            f"{name}: a template knows no {unknown[0]}{did_you_mean(unknown[0], VARIABLES, quoted=True)}; it may use "
            f"{', '.join(VARIABLES)}"
        )
    if "prompt" not in used:
        raise InputError(
            f"{name}: the template never shows {{{{ prompt }}}}, so that nothing can be written to it"
        )
    if instruction is not None and "instruction" not in used:
        raise InputError(
            f"{name}: the template has no place for annotator.instruction; write {{{{ instruction }}}} there, or leave "
            "the instruction out"
        )
    return compiled


def _rendered(name: str, compiled: jinja2.Template, pair: Pair, instruction: str | None) -> str:
    example = pair.example
    texts = [visible(asked(example.prompt)), visible(answered(pair.chosen.content))]
    boundary = boundary_of(texts)
    prompt, chosen = (fenced(text, boundary) for text in texts)
    try:
        return compiled.render(
            prompt=prompt, chosen=chosen, boundary=boundary, instruction=instruction
        ).strip()
    except Exception as error:  # the template is the user's, and its expressions may raise anything
        raise InputError(f"{name}: {' '.join(str(error).split())}. Mend the template") from error
