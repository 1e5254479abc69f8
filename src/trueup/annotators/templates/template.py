"""A prompt for an LLM judge, written in Jinja and checked before anything is judged with it."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import jinja2
from jinja2 import meta, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from trueup.annotators.quoting import boundary_of, fenced, visible
from trueup.annotators.transcript import answered, asked
from trueup.batch.time_limit import within
from trueup.errors import InputError
from trueup.feedback.records import Content, Prompt
from trueup.words import did_you_mean, one_line, printable

TOLD = tuple(one.name for one in fields(Prompt) if one.name not in ("content", "tools", "origin"))
"""Texts that may belong to a prompt beside what is asked; a template shows them under these names."""
VARIABLES = ("prompt", "first", "second", *TOLD, "instruction", "boundary", "labels")
LABELS = ("1", "2")
SECONDS = 10.0
"""How long a template may take over one question when it is tried out."""
REMEDY = "`prompt`, `first` and `second` are to be written as they are: {{ first }}"


@dataclass(frozen=True, slots=True)
class Template:
    """A template that has been checked; see `checked`."""

    name: str
    """Its name among those that come with trueup, or its file."""
    source: str = field(repr=False)
    takes_instruction: bool
    """Whether it has a place for an instruction."""
    compiled: jinja2.Template = field(repr=False, compare=False)

    def render(
        self, prompt: Prompt, first: Content, second: Content, *, instruction: str | None = None
    ) -> str:
        """The question as one text, without white space around it: its answer follows.

        Args:
            prompt: what was asked, and `first` and `second` two responses to it, all of them to be put between marks.
            instruction: what to prefer; None leaves that to the template.

        Raises:
            InputError: the template fails, or does not show both responses between their marks.
        """
        told = {name: text for name in TOLD if (text := getattr(prompt, name)) is not None}
        written = {"prompt": asked(prompt), "first": answered(first), "second": answered(second), **told}
        texts = {name: visible(text) for name, text in written.items()}
        boundary = boundary_of(tuple(texts.values()))
        shown = {name: fenced(text, boundary) for name, text in texts.items()}
        said = {"instruction": instruction, "boundary": boundary, "labels": LABELS}
        values = {**dict.fromkeys(TOLD), **shown, **said}
        try:
            text = self.compiled.render(values).strip()
        except Exception as error:  # the template is the user's, and its expressions may raise anything
            raise InputError(f"{_place(self.name, error)}: {_said(error)}. Mend the template") from error
        self._check(text, shown, boundary)
        return text

    def _check(self, text: str, shown: Mapping[str, str], boundary: str) -> None:
        for name in ("first", "second"):
            if shown[name] not in text:
                raise InputError(
                    f"{self.name}: the template does not show {name} whole and between its marks; {REMEDY}"
                )
        if text.endswith(f"</{boundary}>"):
            raise InputError(
                f"{self.name}: the template ends with a response, which a judge would go on writing; end it with "
                "words that its answer follows, such as: Preferred response="
            )


def checked(name: str, source: str) -> Template:
    """A template, tried out on made-up texts.

    Args:
        name: for messages.
        source: Jinja.

    Raises:
        InputError: it cannot be read, uses what there is not, leaves out a response, or does not come to an end; the
            message names the line where there is one.
    """
    environment = _environment()
    try:
        tree = environment.parse(source)
        compiled = environment.from_string(source)
    except jinja2.TemplateSyntaxError as error:
        raise InputError(f"{name}:{error.lineno}: {_said(error)}. Mend the template") from error
    unknown = meta.find_undeclared_variables(tree)
    for node in tree.find_all(nodes.Name):
        if node.name in unknown and node.name not in VARIABLES:
            raise InputError(
                f"{name}:{node.lineno}: a template knows no {printable(node.name)}"
                f"{did_you_mean(node.name, VARIABLES, quoted=True)}; it may use {', '.join(VARIABLES)}"
            )
    for needed in ("first", "second"):
        if needed not in unknown:
            raise InputError(
                f"{name}: the template never shows {{{{ {needed} }}}}, so the responses cannot be compared"
            )
    template = Template(name, source, "instruction" in unknown, compiled)
    for instruction in (None, "Prefer the shorter one."):
        _try(template, instruction)
    return template


def _try(template: Template, instruction: str | None) -> None:
    """Render a question that is long enough to show where a template cuts what it is given."""
    told: dict[str, Any] = {} if instruction is None else dict.fromkeys(TOLD, "r" * 99)
    prompt = Prompt("p" * 99, **told)
    try:
        text = within(SECONDS, lambda: template.render(prompt, "a" * 999, "b" * 999, instruction=instruction))
    except TimeoutError as error:
        raise InputError(
            f"{template.name}: the template was stopped after {SECONDS:g} seconds, still at work on one question. Mend "
            "it"
        ) from error
    if text.index("a" * 999) > text.index("b" * 999):
        raise InputError(
            f"{template.name}: the template shows second before first, and the labels go by the order; exchange them"
        )


def _environment() -> jinja2.Environment:
    """Nothing of the process is within reach, and nothing but the variables decides what is written."""
    environment = ImmutableSandboxedEnvironment(
        autoescape=False, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals.clear()
    del environment.filters["random"]
    return environment


def _place(name: str, error: BaseException) -> str:
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename in UNNAMED]
    return f"{name}:{lines[-1]}" if lines else name


UNNAMED = ("<template>", "<unknown>")
"""What Jinja calls the file of a template that was given as text."""


def _said(error: BaseException) -> str:
    text: Any = getattr(error, "message", None) or str(error)
    return one_line(text) or type(error).__name__
