"""Two responses to a prompt as a question to a judge."""

import json
from dataclasses import fields

from trueup.annotators.judge import Question
from trueup.annotators.template import INSTRUCTION, Template, load_template
from trueup.errors import InputError
from trueup.feedback.records import Content, Message, Prompt
from trueup.settings.annotator_settings import TEMPLATES

TOLD = tuple(one.name for one in fields(Prompt) if one.name not in ("content", "tools", "origin"))
"""Texts that may belong to a prompt beside what is asked; a template shows them under these names."""
VARIABLES = ("prompt", "first", "second", *TOLD, "instruction", "boundary", "labels")
LABELS = ("1", "2")
SPEAKERS = {
    "user": "Human",
    "assistant": "Assistant",
    "system": "System",
    "developer": "System",
    "tool": "Tool",
}
SAMPLE = {"prompt": "p" * 99, "first": "a" * 999, "second": "b" * 999, **dict.fromkeys(TOLD, "r" * 99)}
"""Long enough to show where a template cuts what it is given."""
REMEDY = "`prompt`, `first` and `second` are to be written as they are: {{ first }}"


def load_question(name: str) -> Template:
    """A template of questions, by name or by file, tried out on made-up texts.

    Raises:
        InputError: there is none, it cannot be read, uses what there is not, leaves out a response, shows them in the
            wrong order, or does not come to an end; the message names the line where there is one.
    """
    template = load_template(name, setting="template", known=TEMPLATES, variables=VARIABLES, texts=SAMPLE)
    for needed in ("first", "second"):
        if needed not in template.used:
            raise InputError(
                f"{name}: the template never shows {{{{ {needed} }}}}, so the responses cannot be compared"
            )
    for instruction in (None, INSTRUCTION):
        told = {} if instruction is None else {name: SAMPLE[name] for name in TOLD}
        prompt = Prompt(SAMPLE["prompt"], **told)  # type: ignore[arg-type]
        text = pose(template, prompt, SAMPLE["first"], SAMPLE["second"], instruction=instruction).text
        if text.index(SAMPLE["first"]) > text.index(SAMPLE["second"]):
            raise InputError(
                f"{template.name}: the template shows second before first, and the labels go by the order; exchange "
                "them"
            )
    return template


def pose(
    template: Template,
    prompt: Prompt,
    first: Content,
    second: Content,
    *,
    instruction: str | None = None,
) -> Question:
    """The question which of two responses is to be preferred, in this order.

    What others wrote stands between marks that it cannot hold, with nothing hidden in it; it is the same for the same
    texts, so that an answer can be kept.

    Args:
        instruction: what to prefer; None leaves that to the template.

    Raises:
        InputError: the template fails, or does not show both responses between their marks.
    """
    texts = {
        "prompt": transcript(prompt), "first": answered(first), "second": answered(second),
        **{name: getattr(prompt, name) for name in TOLD},
    }  # fmt: skip
    text, marked = template.render(texts, instruction=instruction, labels=LABELS)
    for name in ("first", "second"):
        if marked[name] not in text:
            raise InputError(
                f"{template.name}: the template does not show {name} whole and between its marks; {REMEDY}"
            )
    if text.endswith(f"</{marked['boundary']}>"):
        raise InputError(
            f"{template.name}: the template ends with a response, which a judge would go on writing; end it with "
            "words that its answer follows, such as: Preferred response="
        )
    return Question(text, LABELS)


def transcript(prompt: Prompt) -> str:
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
