"""What a model is asked, by templates in Jinja: those that come with trueup, and a user's own.
What others wrote is quoted for the model to read: between marks that no writer can close, with nothing hidden in it. A
response that wants to be obeyed rather than judged has to pose as something outside the marks. It would have to hold
the closing mark, but the mark is a hash of the response itself and of what it is compared with, and one that occurs in
any of them is never used.
What cannot be seen in a text is spelled out: characters without a width hide words inside words, marks of direction
show a text in another order than it is read in, and tags and variation selectors carry whole messages that no screen
shows."""

import hashlib
import json
import re
import traceback
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from importlib.resources import files

import jinja2
from jinja2 import meta, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from trueup import errors, trial, words
from trueup.annotators.judge import Question
from trueup.feedback.records import Content, Message, Prompt
from trueup.files import no_device
from trueup.settings.annotator_kinds import IMPROVE, RATING, TEMPLATES

NAMES = (*TEMPLATES, IMPROVE, RATING)
"""Those that come with trueup: for judges of pairs, for who writes demonstrations, and for ratings."""
SECONDS = 10.0
INSTRUCTION = "Prefer the shorter one."
DIGITS = 8  # hexadecimal digits of a boundary. It need not be long: what counts is that it occurs in no text
HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode's categories of control, format and surrogate characters, and of separators of lines and paragraphs."""
KEPT = "\n\t\ufe0e\ufe0f"  # line breaks, tabs, and how an emoji is shown
BLANK = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u3164\ufe00-\ufe0d\uffa0\U000e0000-\U000e0fff]")
"""Letters and marks that are never shown, whatever their category."""
UNNAMED = ("<template>", "<unknown>")  # what Jinja calls the file of a template that was given as text
TOLD = tuple(one.name for one in fields(Prompt) if one.name not in ("content", "tools", "origin", "rubric"))
"""Texts that may belong to a prompt beside what is asked; a template shows them under these names."""
VARIABLES = ("prompt", "first", "second", *TOLD, "rubric", "instruction", "boundary", "labels")
LABELS = ("1", "2")
SPEAKERS = {
    "user": "Human", "assistant": "Assistant", "system": "System", "developer": "System", "tool": "Tool"
}  # fmt: skip
SAMPLE = {"prompt": "p" * 99, "first": "a" * 999, "second": "b" * 999, **dict.fromkeys(TOLD, "r" * 99)}
"""Long enough to show where a template cuts what it is given."""
REMEDY = "`prompt`, `first` and `second` are to be written as they are: {{ first }}"


@dataclass(frozen=True, slots=True)
class Template:
    name: str
    source: str = field(repr=False)
    used: frozenset[str] = field(repr=False)
    compiled: jinja2.Template = field(repr=False, compare=False)

    def check(self, instruction: str | None) -> None:
        if instruction is not None and "instruction" not in self.used:
            raise errors.InputError(
                f"{self.name}: the template has no place for the instruction; write {{{{ instruction }}}} where it "
                "belongs, or leave the instruction out"
            )

    def render(
        self, texts: Mapping[str, str | None], *, instruction: str | None, **values: object
    ) -> tuple[str, dict[str, str]]:
        """Fill it in with `texts` that others wrote, to be put between marks with nothing hidden in them, and `values`.
        The text, without white space around it; and each of the given texts with its marks, which hold `boundary`."""
        plain = {name: revealed(text) for name, text in texts.items() if text is not None}
        boundary = boundary_of(tuple(plain.values()))
        marked = {name: quoted(text, boundary) for name, text in plain.items()}
        known = {**dict.fromkeys(texts), **marked, "instruction": instruction, "boundary": boundary, **values}
        try:
            text = self.compiled.render(known).strip()
        except Exception as error:  # the template is the user's, and its expressions may raise anything
            frames = traceback.extract_tb(error.__traceback__)
            lines = [f":{frame.lineno}" for frame in frames if frame.filename in UNNAMED]
            raise _failed(f"{self.name}{(lines or [''])[-1]}", error) from error
        return text, {**marked, "boundary": boundary}


def load_template(
    name: str, *, setting: str, known: Sequence[str], variables: Sequence[str], texts: Mapping[str, str]
) -> Template:
    """A template that comes with trueup, one of the `known`, or one in a file, which is tried out on made-up `texts`.
    `setting`, for messages, gives the name; `variables` are what a template may use."""
    if name in known:
        return _read(name, template_source(name), variables)
    try:
        source = no_device(name).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        hint = words.did_you_mean(name, known, quoted=True)
        raise errors.InputError(
            f"{setting} {name}: no such file{hint}; give {', '.join(known)}, or a file with a Jinja template"
        ) from None
    except (OSError, ValueError) as error:
        why = "not text in UTF-8" if isinstance(error, UnicodeDecodeError) else words.reason(error)
        raise errors.InputError(f"{setting} {name!r}: the file cannot be read: {why}") from None
    template = _read(name, source, variables)
    try:
        trial.try_in_child(f"{__name__}:try_template", name, source, variables, dict(texts), seconds=SECONDS)
    except TimeoutError:
        raise errors.InputError(
            f"{name}: the template was stopped after {SECONDS:g} seconds, still at work on one question. Mend it"
        ) from None
    except RuntimeError as error:
        raise errors.InputError(f"{name}: the template cannot be tried out: {error}. Mend it") from None
    return template


def try_template(name: str, source: str, variables: Sequence[str], texts: Mapping[str, str]) -> None:
    """Fill in a template with made-up texts, to see that it comes to an end, be it by an error."""
    template = _read(name, source, variables)
    for instruction in (None, INSTRUCTION):
        try:
            template.render(texts, instruction=instruction, labels=("1", "2"))
        except errors.InputError:  # is found again, and said, where it is filled in
            continue


def template_source(name: str) -> str:
    """The text of a template that comes with trueup, to be copied."""
    if name not in NAMES:
        raise errors.InputError(
            f"there is no template {name!r}{words.did_you_mean(name, NAMES, quoted=True)}; there are {', '.join(NAMES)}"
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


def revealed(text: str) -> str:
    r"""The text with what hides in it spelled out: `a<U+200B>b` for `a`, a space of no width, and `b`.
    `\r\n` and `\r` become the line break that they are."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if text.isascii() and text.replace("\n", "").replace("\t", "").isprintable():
        return text
    hidden = {one for one in {*text} - {*KEPT} if unicodedata.category(one) in HIDDEN or BLANK.match(one)}
    return "".join(f"<U+{ord(one):04X}>" if one in hidden else one for one in text)


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
        raise _failed(f"{name}:{error.lineno}", error) from error
    used = meta.find_undeclared_variables(tree)
    for node in tree.find_all(nodes.Name):
        if node.name in used and node.name not in variables:
            raise errors.InputError(
                f"{name}:{node.lineno}: a template knows no {words.printable(node.name)}"
                f"{words.did_you_mean(node.name, variables, quoted=True)}; it may use {', '.join(variables)}"
            )
    return Template(name, source, frozenset(used), compiled)


def _failed(where: str, error: Exception) -> errors.InputError:
    return errors.InputError(f"{where}: {words.one_line(getattr(error, 'message', None) or error)}. Mend the template")


def load_question(name: str) -> Template:
    template = load_template(name, setting="template", known=TEMPLATES, variables=VARIABLES, texts=SAMPLE)
    for needed in ("first", "second"):
        if needed not in template.used:
            why = f"never shows {{{{ {needed} }}}}, so the responses cannot be compared"
            raise errors.InputError(f"{name}: the template {why}")
    for instruction in (None, INSTRUCTION):
        told = {} if instruction is None else {name: SAMPLE[name] for name in TOLD}
        prompt = Prompt(SAMPLE["prompt"], **told)  # type: ignore[arg-type]
        text = pose(template, prompt, SAMPLE["first"], SAMPLE["second"], instruction=instruction).text
        if text.index(SAMPLE["first"]) > text.index(SAMPLE["second"]):
            raise errors.InputError(
                f"{template.name}: the template shows second before first, and the labels go by the order; exchange "
                "them"
            )
    return template


def pose(
    template: Template, prompt: Prompt, first: Content, second: Content, *, instruction: str | None = None
) -> Question:
    """The question which of two responses is to be preferred, in this order.
    What others wrote stands between marks that it cannot hold, with nothing hidden in it; it is the same for the same
    texts, so that an answer can be kept."""
    texts = {
        "prompt": transcript(prompt), "first": answered(first), "second": answered(second),
        **{name: getattr(prompt, name) for name in TOLD},
    }  # fmt: skip
    rubric = [f"- {text}{'' if weight == 1 else f' (weight {weight:g})'}" for text, weight in prompt.rubric]
    text, marked = template.render(texts, instruction=instruction, labels=LABELS, rubric="\n".join(rubric))
    for name in ("first", "second"):
        if marked[name] not in text:
            why = f"does not show {name} whole and between its marks; {REMEDY}"
            raise errors.InputError(f"{template.name}: the template {why}")
    if text.endswith(f"</{marked['boundary']}>"):
        raise errors.InputError(
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
