"""The canonical form: an example as one JSON object, both ways and without loss but for where it came from.

{"prompt": "2 + 2 =", "responses": [{"content": "4"}, {"content": "5"}],
 "comparisons": [{"better": 0, "worse": 1, "probability": 0.8}]}
"""

import gzip
import json
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

from trueup import errors, files, words
from trueup.feedback import json_rows, turns
from trueup.feedback.fields import Field
from trueup.feedback.records import Comparison, Content, Example, Origin, Prompt, Response, Tools, Vote

RESPONSE_KEYS = ("content", "score", "label", "demonstration", "source", "tokens")
COMPARISON_KEYS = ("better", "worse", "probability")
VOTE_KEYS = ("first", "second", "preferred", "annotator")
PROMPT_KEYS = ("prompt", "tools", "rubric")
SCHEMAS = "JSON schemas of tools"
SUFFIXES = (".jsonl", ".jsonl.gz")
STANDARD_OUTPUT = "-"
OPTIONAL = ("comparisons", "votes", *PROMPT_KEYS[1:])


def example_to_row(example: Example) -> dict[str, object]:
    prompt = prompt_json(example.prompt)
    row = {"prompt": prompt.pop("prompt"), "responses": list(map(response_json, example.responses))}
    if example.comparisons:
        row["comparisons"] = list(map(comparison_json, example.comparisons))
    if example.votes:
        row["votes"] = [{key: getattr(one, key) for key in VOTE_KEYS} for one in example.votes]
    return row | prompt


def comparison_json(one: Comparison) -> dict[str, object]:
    row: dict[str, object] = {"better": one.better, "worse": one.worse}
    return row if one.probability == 1 else row | {"probability": one.probability}


def prompt_json(prompt: Prompt) -> dict[str, object]:
    row = {"prompt": content_json(prompt.content)}
    if prompt.tools:
        row["tools"] = [dict(one) for one in prompt.tools]
    if prompt.rubric:
        weighed = ((text, {"criterion": text, "weight": weight}, weight) for text, weight in prompt.rubric)
        row["rubric"] = [text if weight == 1 else full for text, full, weight in weighed]
    return row


def prompt_parts(prompt: Prompt) -> list[object]:
    """All that is asked, JSON-ready, for a hash: the content, the tools, and whatever else a row says of its prompt."""
    row = prompt_json(prompt)
    return [row.pop("prompt"), row.pop("tools", []), *row.items()]


def content_json(value: Content) -> object:
    return value if isinstance(value, str) else [turns.message_json(one) for one in value]


def response_json(response: Response) -> dict[str, object]:
    row: dict[str, object] = {"content": content_json(response.content)}
    for key in ("score", "label", "source"):
        if (value := getattr(response, key)) is not None:
            row[key] = value
    if response.demonstration:
        row["demonstration"] = True
    if response.tokens is not None:
        row["tokens"] = list(response.tokens)
    return row


def example_from_row(value: Mapping[str, object], origin: Origin) -> Example:
    """The example that a JSON object holds; keys beside prompt, responses, comparisons, votes, tools are not read."""
    row = Field(value, origin)
    prompt = turns.content(row["prompt"])
    given = row["responses"]
    responses = tuple(map(response_from, given.items('objects {"content": ...}')))
    if not responses:
        raise given.unexpected("at least one response")
    compared, voted, count = row.get("comparisons"), row.get("votes"), len(responses)
    listed = compared.items('objects {"better": ..., "worse": ...}') if compared else []
    comparisons = tuple(comparison_from(one, count) for one in listed)
    listed = voted.items('objects {"first": ..., "second": ...}') if voted else []
    votes = tuple(_vote_from(one, count) for one in listed)
    return Example(prompt_from(prompt, row), responses, comparisons, votes)


def prompt_from(prompt: Content, row: Field, keys: Collection[str] = PROMPT_KEYS) -> Prompt:
    """A prompt with what a row says of it under those of the keys that mean this in its layout."""
    tools = declared(row, prompt) if "tools" in keys else ()
    given = row.get("rubric") if "rubric" in keys else None
    listed = [] if given is None else given.items('texts, or objects {"criterion": ..., "weight": ...}')
    return Prompt(prompt, tools, row.origin, tuple(map(_criterion, listed)))


def _criterion(one: Field) -> tuple[str, float]:
    if isinstance(one.value, str):
        return one.value, 1.0
    weight = one.object(("criterion", "weight")).optional("weight", Field.number)
    if weight == 0:
        raise one["weight"].fault("a criterion that weighs 0 says nothing; leave it out")
    return one["criterion"].text(), 1.0 if weight is None else weight


def response_from(one: Field) -> Response:
    demonstration = one.object(RESPONSE_KEYS).get("demonstration")
    if demonstration and not isinstance(demonstration.value, bool):
        raise demonstration.unexpected("true or false")
    return Response(
        turns.content(one["content"]),
        score=one.optional("score", Field.number),
        label=one.optional("label", Field.label),
        demonstration=demonstration is not None and demonstration.value,
        source=one.optional("source", Field.text),
        tokens=one.optional("tokens", _tokens),
    )


def _tokens(given: Field) -> tuple[int, ...]:
    ids = given.items("token ids")
    for one in ids:
        if isinstance(one.value, bool) or not isinstance(one.value, int) or one.value < 0:
            raise one.unexpected("a token id, a whole number from 0")
    return tuple(one.value for one in ids)


def comparison_from(one: Field, count: int) -> Comparison:
    one.object(COMPARISON_KEYS)
    better, worse = one["better"].position(count), one["worse"].position(count)
    probability = one.optional("probability", Field.number)
    try:
        return Comparison(better, worse, 1.0 if probability is None else probability)
    except ValueError as error:
        raise one.fault(str(error)) from None


def _vote_from(one: Field, count: int) -> Vote:
    one.object(VOTE_KEYS)
    ends = one["first"].position(count), one["second"].position(count)
    try:
        return Vote(*ends, one["preferred"].text(), one["annotator"].text())
    except ValueError as error:
        raise one.fault(str(error)) from None


def check_output(name: str, *, force: bool) -> None:
    if name == STANDARD_OUTPUT:
        if sys.stdout is None:
            raise errors.InputError("output: the standard output is closed; name a file")
        return
    path = Path(name)
    if path.is_dir():
        raise errors.InputError(f"{name}: this is a folder; name a file in it, e.g. {path / 'feedback.jsonl'}")
    if not name.endswith(SUFFIXES):
        raise errors.InputError(
            f"{name}: give a name that ends in {' or '.join(SUFFIXES)}, or - for the standard output"
        )
    if not path.parent.is_dir():
        raise errors.InputError(f"{name}: the folder {path.parent} does not exist; make it first")
    if path.exists() and not force:
        raise errors.InputError(f"{name}: the file is there already; give another name, or --force to replace it")


def write_examples(path: str | Path, examples: Iterable[Example]) -> int:
    """Write examples as canonical JSON lines, gzipped if the name ends in `.gz`, whole or not at all; how many."""
    return write_lines(path, lines_of(path, examples))


def lines_of(path: str | Path, examples: Iterable[Example]) -> Iterator[bytes]:
    for number, example in enumerate(examples, start=1):
        try:
            yield json_line(example_to_row(example))
        except UnicodeEncodeError as error:
            where = f" (from {example.origin})" if example.origin else ""
            raise errors.InputError(f"{path}: example {number}{where} cannot be written: {error}") from None


def write_rows(path: str | Path, rows: Iterable[Mapping[str, object]]) -> int:
    return write_lines(path, map(json_line, rows))


def write_lines(path: str | Path, lines: Iterable[bytes]) -> int:
    if path == STANDARD_OUTPUT:
        sys.stdout.flush()
        number = sum(1 for line in lines if sys.stdout.buffer.write(line))
        sys.stdout.buffer.flush()
        return number
    target = Path(path)
    try:
        with files.replaced_file(target) as raw:
            if target.suffix != ".gz":
                return sum(1 for line in lines if raw.write(line))
            # Without a name and a time in its header, the same examples give the same bytes.
            with gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as packed:
                return sum(1 for line in lines if packed.write(line))
    except OSError as error:
        raise errors.InputError(f"{path}: the file cannot be written: {words.reason(error)}") from None


def json_line(row: Mapping[str, object]) -> bytes:
    return json.dumps(row, ensure_ascii=False, allow_nan=False).encode("utf-8") + b"\n"


def declared(row: Field, prompt: Content) -> Tools:
    given = row.get("tools")
    if given is None or not (listed := [] if given.value == "" else json_list(given, SCHEMAS)):
        return ()
    found = tuple(_schema(one.object().value) for one in listed)
    if isinstance(prompt, str):
        raise given.fault("tools are for a chat template, which raw text has not; give the prompt as messages")
    return found


def _schema(tool: Mapping[str, object]) -> Mapping[str, object]:
    """A tool as chat templates expect it: the schema of a function that stands alone is put into one."""
    if "function" in tool or not isinstance(tool.get("name"), str):
        return tool
    function = {key: one for key, one in tool.items() if not (key == "type" and one == "function")}
    return {"type": "function", "function": function}


def json_list(given: Field, of: str) -> list[Field]:
    """The value as a list, or the list that it holds as JSON text; `of` says of what, for the message."""
    if not isinstance(given.value, str):
        return given.items(of)
    try:
        found = json_rows.parsed(given.value)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":
            rest = words.shortened(given.value[error.pos :].strip())
            raise given.fault(f"{json_rows.what_is_wrong(error, 'list')}: {rest}") from None
        raise given.unexpected(f"a list of {of}, or JSON text that holds one") from error
    if fault := json_rows.first_fault(found, ""):
        raise given.fault(fault)
    return Field(found, given.origin, given.path).items(of)
