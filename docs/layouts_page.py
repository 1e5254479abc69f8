"""docs/layouts/, a page for each family of layouts, made by reading the rows that tests read:
`python docs/layouts_page.py [FOLDER]`."""

import json
import logging
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from logging.handlers import BufferingHandler
from pathlib import Path
from typing import Any

from trueup import words
from trueup.errors import InputError
from trueup.feedback import canonical, transforms
from trueup.feedback.layouts import known, layout
from trueup.feedback.records import Content, Discarded, Example, Group, Origin
from trueup.methods import METHODS, Method

ROWS = Path(__file__).parents[1] / "tests/feedback/rows"
FAMILIES = {
    "usual": (
        "Usual layouts",
        "For rows as most programs write them: TRL's, messages, HH transcripts, prompts with scored responses, and\n"
        "trueup's own form, which holds all that can be said.",
        ("general", "plain"),
    ),
    "exchanges": (
        "Questions, answers and chats",
        "For rows of a question and its answer, and for chats as they were logged.",
        ("dolly", "exchanges"),
    ),
    "frameworks": (
        "Layouts of training frameworks",
        "For files that were made for another program: LLaMA-Factory, torchtune, ms-swift, NeMo, OpenRLHF,\n"
        "turbo-alignment.",
        ("frameworks",),
    ),
    "platforms": (
        "Layouts of platforms",
        "For files that were made for tuning at OpenAI, Together, Fireworks, Cohere or Vertex AI, and of\n"
        "LLaMA-Factory's typed turns, which look like them.",
        ("platforms",),
    ),
    "data_sets": (
        "Layouts of published data sets",
        "For data sets as their authors publish them, and what annotation tools export, with nothing to convert.",
        ("data_sets", "intel"),
    ),
}
"""Name of a page -> its title, what it is for, and its tables of known.toml."""
HEAD = """# {title}

{about}
Made by `python docs/layouts_page.py` from rows that tests read; a test checks that it is current.

`trueup train METHOD --data FILE` takes such a file as it is, as do `inspect`, `sample`, `annotate` and `convert`, and
knows it by its first row. Below each row is the record that it becomes (`trueup convert FILE --to canonical`): nothing
else of it is kept. What holds for every layout, such as names of roles, [calls of tools](../feedback.md#tools), ties
and [what is refused](../feedback.md#what-is-refused), stands on [the page of feedback](../feedback.md#layouts). The
words in the column *for* mean these methods, each of which was given the row:

| for | methods |
|---|---|
{methods}
*merged*: once the responses of several rows to one prompt are put together, by `--merge-prompts true`.
"""
KINDS = {
    "pairs": "dpo",
    "rankings": "rrhf",
    "scores": "rwr",
    "many scores": "rso",
    "labels": "kto",
    "imitation": "sft",
}
"""What methods learn from, in words, and one that does."""
WARNED = BufferingHandler(1000)
WARNED.setLevel(logging.WARNING)
words.logger.addHandler(WARNED)
BUILT: dict[str, Method] = {name: info.build() for name, info in METHODS.items() if "offline" in info.sources}


def cases(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (ROWS / f"{name}.jsonl").read_text().splitlines()]


def read(row: dict[str, Any]) -> tuple[str, Example | Discarded | InputError]:
    """The name of the layout of a row, and what comes of it."""
    origin, name = Origin("FILE", 1), ""
    try:
        found = known.recognise(row, origin)
        name = found.name
        return name, found.example(row, origin)
    except InputError as error:
        return name, error


def changed(content: Content) -> Content:
    if isinstance(content, str):
        return content + "!"
    return (*content[:-1], replace(content[-1], content=content[-1].content + "!"))


def another(example: Example) -> Example:
    """Other responses to the same prompt, of which the opposite is said."""
    responses = tuple(
        replace(
            one,
            content=changed(one.content),
            score=None if one.score is None else one.score - 1,
            label=None if one.label is None else 1 - one.label if one.label > 0.5 else 1.0,
        )
        for one in example.responses
    )
    return replace(example, responses=responses)


def takes(method: Method, examples: Sequence[Example]) -> bool:
    """Whether a method trains on them, and says nothing against it."""
    WARNED.buffer.clear()
    try:
        rewritten = transforms.fit_all(method.transforms, examples).rewrite(examples)
        for check in method.checks:
            check(rewritten)
    except InputError:
        return False
    return not WARNED.buffer and any(isinstance(method.view(one), Group) for one in rewritten)


def uses(example: Example) -> tuple[list[str], list[str]]:
    """The methods that take an example beside another, and those that do once the two are merged."""
    both = [example, another(example)]
    now = [name for name, method in BUILT.items() if takes(method, both)]
    merged = transforms.merged(both)
    return now, [name for name, method in BUILT.items() if name not in now and takes(method, merged)]


def kinds() -> dict[str, list[str]]:
    """Methods that take the same rows, under the words for what they learn from."""
    used = [uses(one) for _, one in map(read, FIRST.values()) if isinstance(one, Example)]
    alike: dict[tuple[tuple[bool, bool], ...], list[str]] = {}
    for name in BUILT:
        alike.setdefault(tuple((name in now, name in later) for now, later in used), []).append(name)
    return {kind: next(names for names in alike.values() if one in names) for kind, one in KINDS.items()}


def refusals() -> Iterator[tuple[str, str]]:
    """Names of layouts, and what is said of a faulty row, without where it stands."""
    for case in cases("faults"):
        if len(rows := case.get("rows", ())) != 1:
            name, told = case.get("layout", ""), case["says"]
        else:
            name, told = read(rows[0])[0], str(read(rows[0])[1])
        yield name, told.partition("1: ")[2]


EXAMPLES = cases("examples")
FIRST: dict[str, dict[str, Any]] = {one["layout"]: one["row"] for one in reversed(EXAMPLES)}
REFUSED = list(refusals())
OF_KIND = kinds()
assert sum(map(len, OF_KIND.values())) == len(BUILT), "methods take other rows than those of their kind"


def code(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def listed(values: Any) -> str:
    return json.dumps(values, ensure_ascii=False)


def table(layouts: Sequence[layout.Layout]) -> Iterator[str]:
    yield "\n| layout | keys | what a row is taken for | for |\n|---|---|---|---|\n"
    for one in layouts:
        row = next(case["row"] for case in EXAMPLES if case["layout"] == one.name and {*one.keys} <= {*case["row"]})
        _, example = read(row)
        assert isinstance(example, Example)
        now, later = uses(example)
        first, then = (", ".join(kind for kind, names in OF_KIND.items() if names[0] in some) for some in (now, later))
        yield f"| {one.name} | {code(one.keys)} | {one.meaning} | {first}{then and f'; merged: {then}'} |\n"


def shown(name: str) -> Iterator[str]:
    """A row under a name and its record, and one with a call of a tool where tests have it."""
    of_name = [case for case in EXAMPLES if case["layout"] == name and "why" not in case]
    calling = [case for case in of_name if "tool_calls" in listed(case["example"])]
    for case in {id(one): one for one in (of_name[0], *calling[:1])}.values():
        _, example = read(case["row"])
        assert isinstance(example, Example)
        yield f"\n```json\n{listed(case['row'])}\n{listed(canonical.example_to_row(example))}\n```\n"


def section(heading: str, layouts: Sequence[layout.Layout]) -> Iterator[str]:
    names = list(dict.fromkeys(one.name for one in layouts))
    yield f"\n## {heading}\n"
    yield from table(layouts)
    for name in names:
        yield from shown(name)
    optional = list(dict.fromkeys(key for one in layouts for key in one.optional if key not in one.keys))
    if optional:
        yield f"\nFurther keys that are read: {code(optional)}.\n"
    if lost := [one.not_kept for one in layouts if one.not_kept]:
        yield f"\nNot kept: {lost[0]}.\n"
    if unread := [key for key in layouts[0].request if key not in optional]:
        yield f"\nRefused, as they may hold a part of what was asked: {code(unread)}.\n"
    if refused := [told for name, told in REFUSED if name in names][:4]:
        yield "\nRefused, for example:\n\n"
        yield from (f"- {told}\n" for told in refused)


def pages() -> dict[str, str]:
    """Name -> page."""
    methods = "".join(
        f"| {kind} | {', '.join(f'[`{name}`](../methods/{name}.md)' for name in names)} |\n"
        for kind, names in OF_KIND.items()
    )
    made = {}
    for name, (title, about, families) in FAMILIES.items():
        sections: dict[str, list[layout.Layout]] = {}
        for row in (row for family in families for row in layout.TABLE[family]):
            several = list(known.layouts_of(row))
            sections.setdefault(several[-1].name, []).extend(several)
        text = HEAD.format(title=title, about=about, methods=methods)
        made[name] = text + "".join(part for one in sections.items() for part in section(*one))
    return made


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if sys.argv[1:] else Path(__file__).parent / "layouts"
    for name, text in pages().items():
        (folder / f"{name}.md").write_text(text)
