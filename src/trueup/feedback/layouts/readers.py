"""What reads rows of the general layouts, of training frameworks and of platforms, as `known.toml` names it."""

from dataclasses import replace
from functools import partial

from trueup.feedback import canonical, turns
from trueup.feedback.fields import Field
from trueup.feedback.layouts import layout, shapes
from trueup.feedback.records import Content, Discarded, Example, Message, Response

HUMAN = "\n\nHuman:"
ASSISTANT = "\n\nAssistant:"
NO_PROMPT = (
    "found plain text, and the row has no prompt. The common beginning of two texts is not a prompt: "
    "'The sky is blue.' and 'The sky is black.' would give the prompt 'The sky is bl'; "
    "add the key 'prompt', or write both sides as lists of messages"
)


def canonical_example(row: Field) -> Example:
    example = canonical.example_from_row(row.value, row.origin)
    prompt, at = example.prompt.content, row.at("responses")
    responses = tuple(
        replace(one, content=turns.as_response(one.content, prompt, at.at(index).at("content")))
        for index, one in enumerate(example.responses)
    )
    return replace(example, responses=responses)


def scored_responses(prompt_key: str) -> layout.Convert:
    def convert(row: Field) -> Example | Discarded:
        prompt = turns.content(row[prompt_key])
        contents = [shapes.like_prompt(one, prompt) for one in row["responses"].items("responses")]
        if not contents:
            return shapes.candidates(prompt, (), "responses")
        scores = [one.number() for one in one_each(row["scores"], len(contents), "numbers")]
        named = row.get("sources")
        sources = one_each(named, len(contents), "texts") if named else [row.at("sources")] * len(contents)
        names = [None if one.value is None else one.text() for one in sources]
        said = zip(contents, scores, names, strict=True)
        responses = [Response(what, score=score, source=name) for what, score, name in said]
        return shapes.candidates(prompt, responses, "responses")

    return convert


def one_each(given: Field, count: int, of: str) -> list[Field]:
    listed = given.items(of)
    if len(listed) != count:
        raise given.unexpected(f"one for each of the {count} responses")
    return listed


def prompted(*keys: str) -> shapes.Form:

    def read(row: Field) -> shapes.Exchange:
        prompt, chosen, rejected = (turns.content(row[key]) for key in keys)
        start = repeated_prompt(prompt, chosen, rejected)
        request = start or request_of(prompt, chosen, rejected)
        better = turns.as_response(chosen[len(start) :], request, row[keys[1]], len(start))
        worse = turns.as_response(rejected[len(start) :], request, row[keys[2]], len(start))
        return request, (better, worse)

    return shapes.Form(keys, read, text=keys, request=layout.REQUEST)


def repeated_prompt(prompt: Content, chosen: Content, rejected: Content) -> Content:
    """That with which both sides repeat the prompt: its text, or its turns; empty where they do not."""
    if isinstance(prompt, str) and isinstance(chosen, str) and isinstance(rejected, str):
        return prompt if chosen.startswith(prompt) and rejected.startswith(prompt) else ""
    if isinstance(chosen, str) or isinstance(rejected, str):
        return ""
    if not isinstance(prompt, str):
        count = len(prompt)
        both = count < min(len(chosen), len(rejected)) and chosen[:count] == prompt == rejected[:count]
        return prompt if both else ()
    start = turns.split_at_last_request(chosen[: turns.shared_turns(chosen, rejected)])[0]
    return start if start[-1:] == (Message("user", prompt),) else ()


def request_of(prompt: Content, chosen: Content, rejected: Content) -> Content:
    for side in (chosen, rejected):
        if isinstance(side, str) or not side or any(one.role not in turns.RESPONSE_ROLES for one in side):
            return prompt
    return (Message("user", prompt),) if isinstance(prompt, str) and prompt.strip() else prompt


def transcripts(row: Field) -> shapes.Exchange | Discarded:
    splits = []
    for key in layout.SIDES:
        transcript = row[key].text()
        before, mark, response = transcript.rpartition(ASSISTANT)
        if not mark and HUMAN not in transcript:
            raise row[key].unexpected(f"a transcript with {HUMAN!r} and {ASSISTANT!r}, as in the first row")
        if not mark:
            return Discarded("the transcript has no turn of the assistant")
        if HUMAN in response:
            return Discarded("the transcript does not end with a turn of the assistant")
        splits.append((before + mark, response))
    (prompt, chosen), (other, rejected) = splits
    return (prompt, (chosen, rejected)) if prompt == other else Discarded(shapes.DIFFERENT_PROMPTS)


def are_transcripts(row: layout.RowValue) -> bool:
    sides = [row[key] for key in layout.SIDES]
    return any(isinstance(side, str) and (HUMAN in side or ASSISTANT in side) for side in sides)


def side(row: Field, key: str) -> shapes.Turns:
    if isinstance(row[key].value, str):
        raise row[key].fault(NO_PROMPT)
    said = shapes.MESSAGES(row, key)
    if said and said[-1].role != "assistant":
        at = row[key].at(len(said) - 1).at("role", said[-1].role)
        raise at.unexpected("an assistant turn: a side ends with its response")
    return said


sharegpt_turns, swift_turns, turbo_turns, cohere_turns = map(
    layout.turns_in, (layout.DIALECTS[name] for name in ("sharegpt", "swift", "turbo", "cohere"))
)
sharegpt_turn, turbo_turn = (layout.turn_in(layout.DIALECTS[name]) for name in ("sharegpt", "turbo"))


def swift_turns_after_system(row: Field, key: str) -> shapes.Turns:
    return layout.after_system(swift_turns(row, key), row)


def after_history(row: Field, key: str) -> shapes.Turns:
    return (*layout.history(row), *shapes.user_turn(row[key]))


def unless_tie(row: Field) -> shapes.Verdict:
    return None if row.value.get("status") == "tie" else 0


def instruction(row: Field, key: str, *, further: tuple[str, ...] = ("input",)) -> shapes.Turns | Discarded:
    parts = [row[key].text(), *(row.optional(name, Field.text) for name in further)]
    said = "\n".join(part for part in parts if part)
    if not said.strip():
        return Discarded("the instruction is empty")
    return (*layout.history(row), *shapes.request(said))


instruction_in_context = partial(instruction, further=("input", "context"))


def one_side(given: Field, prompt: Content) -> Content:
    side = turns.messages(given) if isinstance(given.value, list) else (turns.message(given),)
    return turns.as_response(side, prompt, given)


def has_sides(row: layout.RowValue) -> bool:
    for side in (row[key] for key in layout.SIDES):
        first = side[0] if isinstance(side, list) and side else side
        if isinstance(first, dict) and (first is side or first.get("role") == "assistant"):
            return True
    return False


def ranked_completions(row: Field) -> Example | Discarded:
    prompt = turns.messages(row["context"])
    responses = []
    for one in row["completions"].objects('objects {"rank": ..., "completion": ...}'):
        rank = one["rank"].integer(0)
        responses.append(Response(shapes.like_prompt(one["completion"], prompt), score=0.0 - rank))
    return shapes.candidates(prompt, responses, "completions")


TURBO_CLASS = (
    "a label of a turbo-alignment conversation is its class, which says nothing of a response; "
    "for feedback write 'context', 'answer' and 'is_desirable'"
)


def turbo_answers(row: Field) -> Example | Discarded:
    prompt = turbo_turns(row, "messages")
    if prompt and prompt[-1].role == "assistant":
        prompt = prompt[:-1]
    rewards = row.optional("rewards", Field.object)
    scores = {name: rewards[name].number() for name in rewards.value} if rewards else {}
    responses = []
    for one in row["answers"].objects('objects {"id": ..., "content": ...}'):
        said = shapes.answer(one["content"].text())
        name = one["id"].text() if scores else ""
        responses.append(Response(said, score=scores.pop(name, None)))
    for name in scores:
        raise row["rewards"].at(name).fault("no answer with this id is left; give each its own, once")
    return shapes.candidates(prompt, responses, "answers")


def turbo_chat(row: Field, key: str) -> shapes.Turns:
    if isinstance(row.value.get("label"), int | float):
        raise row["label"].fault(TURBO_CLASS)
    return turbo_turns(row, key)


def rejected_instead(row: Field) -> shapes.Exchange | Discarded:
    """The last response, and `rejected_response` in place of its last turn, or of all of it where it is a list."""
    given = row["rejected_response"]
    if not isinstance(given.value, str | list):
        raise given.unexpected("text or a list of messages")
    found = shapes.last_exchange(swift_turns(row, "messages"), row["messages"])
    if isinstance(found, Discarded):
        return found
    prompt, chosen = found
    if isinstance(given.value, str):
        return prompt, (chosen, (*chosen[:-1], *shapes.answer(given.value)))
    return prompt, (chosen, turns.as_response(swift_turns(row, "rejected_response"), prompt, given))


def is_request(row: layout.RowValue) -> bool:
    given = row["messages"]
    last = given[-1] if isinstance(given, list) and given else None
    return isinstance(last, dict) and last.get("role") != "assistant"


def input_messages(row: Field, key: str) -> shapes.Turns:
    return turns.messages(row[key].object(("messages", "tools", "parallel_tool_calls"))["messages"])


INSTRUCTIONS = ("system_instruction", "systemInstruction")


def joined_parts(given: Field) -> str:
    found = []
    for one in given.items("parts"):
        if not isinstance(one.value, dict) or set(one.value) != {"text"}:
            raise one.unexpected('{"text": ...}: only text can be used')
        found.append(one["text"].text())
    if not found:
        raise given.fault("there are no parts; leave the row out")
    return "".join(found)


GEMINI = layout.Dialect((("role", "parts"),), {"user": ("user",), "assistant": ("model",)}, joined_parts)


def vertex_turns(row: Field, key: str) -> shapes.Turns:
    given = [one for one in INSTRUCTIONS if row.get(one)]
    if len(given) > 1:
        raise row[given[1]].fault(f"the row has {given[0]!r} too; keep one of them")
    system = [Message("system", joined_parts(row[one].object()["parts"])) for one in given]
    return (*system, *layout.turns_in(GEMINI)(row, key))


def scored_completions(row: Field) -> Example | Discarded:
    prompt = vertex_turns(row, "contents")
    responses, scores = [], []
    for one in row["completions"].objects():
        scores.append(one["score"].integer(0, 1))
        said = layout.turn(one["completion"], GEMINI)[1]
        responses.append(Response(turns.as_response((said,), prompt, one["completion"])))
    if sorted(scores) != [0, 1]:
        raise row["completions"].fault(f"found the scores {scores}, expected two: a 1 and a 0")
    return shapes.judged(prompt, tuple(responses), scores.index(1))


def v1_turn(given: Field) -> Message:
    content = given.object().get("content")
    if content is None or not isinstance(content.value, list):
        return turns.message(given)
    words: dict[str, list[str]] = {"text": [], "reasoning": []}
    calls: list[object] = []
    for one in content.objects():
        if one.value.get("type") == "text" and "text" in one:  # as OpenAI writes a part
            return turns.message(given)
        kind, said = one["type"].text(), one["value"].text()
        if kind == "tool_call":
            calls += layout.called(one["value"])[1]
        elif kind in words:
            words[kind].append(said)
        else:
            raise one["type"].unexpected("one of text, reasoning, tool_call: only text can be used")
    if not content.value:
        raise content.fault("the list is empty")
    made = given.value | {"content": "".join(words["text"])}
    made |= {"reasoning_content": "".join(words["reasoning"])} if words["reasoning"] else {}
    return turns.message(replace(given, value=made | ({"tool_calls": calls} if calls else {})))


def v1_turns(row: Field, key: str) -> shapes.Turns:
    return tuple(map(v1_turn, row[key].items("messages")))


def has_values(row: layout.RowValue) -> bool:
    said = row["messages"] if isinstance(row["messages"], list) else []
    contents = [one.get("content") for one in said if isinstance(one, dict)]
    parts = [part for one in contents if isinstance(one, list) for part in one]
    return any(isinstance(part, dict) and "value" in part for part in parts)
