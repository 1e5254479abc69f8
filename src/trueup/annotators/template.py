"""Templates of what a model is asked, in Jinja: those that come with trueup, and a user's own.

What others wrote is quoted for the model to read: between marks that no writer can close, with nothing hidden in it. A
response that wants to be obeyed rather than judged has to pose as something outside the marks. It would have to hold
the closing mark, but the mark is a hash of the response itself and of what it is compared with, and one that occurs in
any of them is never used.

What cannot be seen in a text is made visible: characters without a width hide words inside words, marks of direction
show a text in another order than it is read in, and tags and variation selectors carry whole messages that no screen
shows.
"""

import hashlib
import re
import traceback
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

import jinja2
from jinja2 import meta, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from trueup.errors import InputError
from trueup.settings.annotator_settings import TEMPLATES
from trueup.trial import try_in_child
from trueup.words import did_you_mean, one_line, printable, reason

IMPROVE = "improve"
NAMES = (*TEMPLATES, IMPROVE)
"""Those that come with trueup: for judges, and for who writes demonstrations."""
SECONDS = 10.0
"""How long a user's template may take when it is tried out."""
INSTRUCTION = "Prefer the shorter one."
"""With which it is tried out."""
DIGITS = 8
"""Hexadecimal digits of a boundary. It need not be long: what counts is that it occurs in no text."""
HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode's categories of control, format and surrogate characters, and of separators of lines and paragraphs."""
KEPT = "\n\t\ufe0e\ufe0f"
"""Line breaks, tabs, and how an emoji is shown."""
BLANK = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u3164\ufe00-\ufe0d\uffa0\U000e0000-\U000e0fff]"
)
"""Letters and marks that are never shown, whatever their category."""
UNNAMED = ("<template>", "<unknown>")
"""What Jinja calls the file of a template that was given as text."""


@dataclass(frozen=True, slots=True)
class Template:
    """A template that has been read; see `load_template`."""

    name: str
    """Its name among those that come with trueup, or its file."""
    source: str = field(repr=False)
    used: frozenset[str] = field(repr=False)
    """The variables it uses."""
    compiled: jinja2.Template = field(repr=False, compare=False)

    @property
    def takes_instruction(self) -> bool:
        """Whether it has a place for an instruction."""
        return "instruction" in self.used

    def render(
        self, texts: Mapping[str, str | None], *, instruction: str | None, **values: object
    ) -> tuple[str, dict[str, str]]:
        """Fill it in.

        Args:
            texts: what others wrote, by name, to be put between marks with nothing hidden in it; None where there is
                none.
            instruction: in the user's words; None leaves that to the template.
            values: what else it may show, by name.

        Returns:
            The text, without white space around it; and each of the given texts with its marks. What the marks hold is
            there as `boundary`.

        Raises:
            InputError: the template fails.
        """
        plain = {name: visible(text) for name, text in texts.items() if text is not None}
        boundary = boundary_of(tuple(plain.values()))
        marked = {name: quoted(text, boundary) for name, text in plain.items()}
        known = {**dict.fromkeys(texts), **marked, "instruction": instruction, "boundary": boundary, **values}
        try:
            text = self.compiled.render(known).strip()
        except Exception as error:  # the template is the user's, and its expressions may raise anything
            raise InputError(f"{_place(self.name, error)}: {_said(error)}. Mend the template") from error
        return text, {**marked, "boundary": boundary}


def load_template(
    name: str, *, setting: str, known: Sequence[str], variables: Sequence[str], texts: Mapping[str, str]
) -> Template:
    """A template that comes with trueup, or one in a file, which is tried out.

    Args:
        setting: that gives the name, for messages.
        known: the names to choose from.
        variables: what a template may use.
        texts: made-up ones, with which it is tried out.

    Raises:
        InputError: there is none, it cannot be read, uses what there is not, or does not come to an end; the message
            names the line where there is one.
    """
    if name in known:
        return _read(name, template_source(name), variables)
    try:
        source = Path(name).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        hint = did_you_mean(name, known, quoted=True)
        raise InputError(
            f"{setting} {name}: no such file{hint}; give {', '.join(known)}, or a file with a Jinja template"
        ) from None
    except UnicodeDecodeError:
        raise InputError(f"{setting} {name!r}: the file cannot be read: not text in UTF-8") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{setting} {name!r}: the file cannot be read: {reason(error)}") from None
    template = _read(name, source, variables)
    try:
        try_in_child(f"{__name__}:try_template", name, source, variables, dict(texts), seconds=SECONDS)
    except TimeoutError:
        raise InputError(
            f"{name}: the template was stopped after {SECONDS:g} seconds, still at work on one question. Mend it"
        ) from None
    except RuntimeError as error:
        raise InputError(f"{name}: the template cannot be tried out: {error}. Mend it") from None
    return template


def try_template(name: str, source: str, variables: Sequence[str], texts: Mapping[str, str]) -> None:
    """Fill in a template with made-up texts, to see that it comes to an end, be it by an error."""
    template = _read(name, source, variables)
    for instruction in (None, INSTRUCTION):
        try:
            template.render(texts, instruction=instruction, labels=("1", "2"))
        except InputError:  # is found again, and said, where it is filled in
            continue


def template_source(name: str) -> str:
    """The text of a template that comes with trueup, to be copied.

    Raises:
        InputError: there is none of this name.
    """
    if name not in NAMES:
        raise InputError(
            f"there is no template {name!r}{did_you_mean(name, NAMES, quoted=True)}; there are {', '.join(NAMES)}"
        )
    return files(__package__).joinpath("templates", f"{name}.jinja").read_text(encoding="utf-8")


def boundary_of(texts: Sequence[str]) -> str:
    """Hexadecimal digits that occur in none of the texts; the same for the same texts in any order."""
    lowered = [text.casefold() for text in texts]
    digest = hashlib.sha256()
    for text in sorted(texts):
        data = text.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little") + data)
    while any((found := digest.hexdigest()[:DIGITS]) in text for text in lowered):
        digest.update(b"again")
    return found


def quoted(text: str, boundary: str) -> str:
    """The text between two lines of its own: `<3f9c21ab>` and `</3f9c21ab>`."""
    return f"<{boundary}>\n{text}\n</{boundary}>"


def visible(text: str) -> str:
    r"""The text with what hides in it spelled out: `a<U+200B>b` for `a`, a space of no width, and `b`.

    `\r\n` and `\r` become the line break that they are.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if text.isascii() and text.replace("\n", "").replace("\t", "").isprintable():
        return text
    return "".join(f"<U+{ord(one):04X}>" if _hides(one) else one for one in text)


def _hides(character: str) -> bool:
    if character in KEPT:
        return False
    return unicodedata.category(character) in HIDDEN or BLANK.match(character) is not None


def _read(name: str, source: str, variables: Sequence[str]) -> Template:
    """Nothing of the process is within reach, and nothing but the variables decides what is written."""
    environment = ImmutableSandboxedEnvironment(
        autoescape=False, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals.clear()
    del environment.filters["random"]
    try:
        tree = environment.parse(source)
        compiled = environment.from_string(source)
    except jinja2.TemplateSyntaxError as error:
        raise InputError(f"{name}:{error.lineno}: {_said(error)}. Mend the template") from error
    used = meta.find_undeclared_variables(tree)
    for node in tree.find_all(nodes.Name):
        if node.name in used and node.name not in variables:
            raise InputError(
                f"{name}:{node.lineno}: a template knows no {printable(node.name)}"
                f"{did_you_mean(node.name, variables, quoted=True)}; it may use {', '.join(variables)}"
            )
    return Template(name, source, frozenset(used), compiled)


def _place(name: str, error: BaseException) -> str:
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename in UNNAMED]
    return f"{name}:{lines[-1]}" if lines else name


def _said(error: BaseException) -> str:
    return one_line(getattr(error, "message", None) or str(error)) or type(error).__name__
