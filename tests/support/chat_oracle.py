"""What every chat template that TRL ships should make of a conversation, told without the code under test. The
library renders; a hand-written expression for each family of templates says where its assistant stops to speak."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from support.conversations import ADD, conversations
from trueup.batch.encode import EncodedGroup, Encoder, Limits
from trueup.errors import InputError
from trueup.feedback.fields import Field
from trueup.feedback.records import Group, Origin, Prompt
from trueup.feedback.turns import messages

CHATML = (r"<\|im_start\|>assistant\n(.*?<\|im_end\|>)", "<|im_end|>")
HEADER = r"<\|start_header_id\|>assistant<\|end_header_id\|>\n\n"
SPEAKS: dict[str, tuple[str, str]] = {
    "cohere": (r"<\|CHATBOT_TOKEN\|>(.*?<\|END_OF_TURN_TOKEN\|>)", "<|END_OF_TURN_TOKEN|>"),
    "deepseek": (
        r"(?:<\uff5cAssistant\uff5c>|<\uff5ctool\u2581outputs\u2581end\uff5c>)(.*?<\uff5cend\u2581of\u2581sentence\uff5c>)",
        "<\uff5cend\u2581of\u2581sentence\uff5c>",
    ),
    "gemma4": (
        r"(?:<\|turn>model\n|<tool_response\|>(?!<\|tool_response>|<\|turn>))(.*?(?:<turn\|>|<\|tool_response>))",
        "<turn|>",
    ),
    "gemma": (r"<start_of_turn>model\n(.*?<end_of_turn>)", "<end_of_turn>"),
    "diffusion_gemma": (r"<\|turn>model\n(.*?(?:<turn\|>|<\|tool_response>))", "<turn|>"),
    "glm4moe": (r"<\|assistant\|>(.*?)(?=<\|user\|>|<\|observation\|>|$)", "<|user|>"),
    "glm4moe_training": (r"<\|assistant\|>(.*?(?:<\|user\|>|<\|observation\|>))", "<|user|>"),
    "gptoss": (r"<\|start\|>assistant(.*?(?:<\|return\|>|<\|call\|>|<\|end\|>(?!<\|start\|>assistant)))", "<|return|>"),
    "llama3": (HEADER + r"(.*?(?:<\|eot_id\|>|<\|eom_id\|>))", "<|eot_id|>"),
    "muse": (r"<\|start\|>assistant(.*?<\|eot\|>(?!<\|start\|>assistant))", "<|eot|>"),
    "phi3": (r"<\|assistant\|>\n(.*?<\|end\|>)", "<|end|>"),
    "idefics": (r"Assistant:(.*?<end_of_utterance>)", "<end_of_utterance>"),
    "smolvlm": (r"Assistant:(.*?<end_of_utterance>)", "<end_of_utterance>"),
    "llava": (r"\[/INST\](.*?</s>)", "</s>"),
}
"""First letters of a template's name -> where the assistant speaks in what it renders, and what ends its turn."""
SPECIAL = re.compile(
    r"<[|\uff5c][^<>|\uff5c\s]{1,40}[|\uff5c]?>|<[a-z_]{1,20}\|>|<(?:start|end)_of_(?:turn|utterance)>|<bos>|\[/?INST\]|</?s>"
)
PLAIN_MARKS = ("<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")
"""Tokens of their own that are no special tokens, as in Qwen's tokenizers."""
BASE_END = "<|base_end|>"  # the end of sequence of a base model, which no template writes by itself
MORE_ENDS = {"glm4moe": ("<|observation|>",), "gptoss": ("<|call|>",)}  # what else the template's own models end with
IN_PARTS = ("idefics", "smolvlm", "llava")  # templates that write contents only where they are lists of parts
START = "<|im_start|>"
FORGED = ("\u00a6start\u00a6", "\u00a6end\u00a6")
"""In place of special tokens that a message spells, for the library, which would take them for its own."""
ENDED = "ends with an end"
OPENED = "reasoning never opened"  # where it is asked with an open thought, the same as with its opening


@cache
def templates() -> dict[str, str]:
    """Name -> text of the chat templates that TRL ships."""
    folder = files("trl") / "chat_templates"
    named = {file.name.removesuffix(".jinja"): file for file in folder.iterdir() if file.name.endswith(".jinja")}
    return {name: named[name].read_text(encoding="utf-8") for name in sorted(named)}


def speaks(name: str) -> tuple[str, str]:
    """The expression of a template's family, and what ends its turns."""
    family = max((one for one in SPEAKS if name.startswith(one)), key=len, default=None)
    return CHATML if family is None else SPEAKS[family]


@cache
def _trained() -> str:
    """A byte-level tokenizer as JSON, with merges of words, spaces and line breaks."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    corpus = ["\n\n".join(templates().values()), "What is two and two? It is 4.\n\n\nAdd. Let me see.  \n"] * 2
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=["<pad>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    made.train_from_iterator(corpus, trainer)
    return str(made.to_str())


def tokenizer_for(name: str, end: str) -> Any:
    """A tokenizer with a template's control tokens.

    Args:
        end: its end of sequence.
    """
    text = templates()[name]
    made = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_trained()), pad_token="<pad>", eos_token=end, bos_token="<bos>"
    )
    marks = dict.fromkeys([end, speaks(name)[1], "<|im_start|>", *SPECIAL.findall(text)])
    made.add_tokens([AddedToken(mark, special=True, normalized=False) for mark in marks])
    made.add_tokens([AddedToken(mark, special=False, normalized=False) for mark in PLAIN_MARKS])
    made.chat_template = text
    return made


@dataclass(frozen=True)
class Expected:
    """What should become of a conversation."""

    text: str  # all of it, as the library renders it
    prompt: str  # as the library renders it to ask the model
    spoken: tuple[tuple[int, int], ...]
    """Where the assistant speaks in the text, from where the library asks it, up to and with the end of its turn."""
    consistent: bool  # whether the text begins as the library asks, before each of its turns

    @property
    def said(self) -> str:
        """All that the assistant says."""
        return " ".join(self.text[start:stop] for start, stop in self.spoken)

    def segments(self) -> Iterator[tuple[str, bool]]:
        """What follows the prompt, cut where the assistant begins and stops to speak, and whether it does."""
        place = len(self.prompt)
        for start, stop in self.spoken:
            yield self.text[place:start], False
            yield self.text[start:stop], True
            place = stop


def expected(
    tokenizer: Any, name: str, prompt: list[Any], response: list[Any], tools: list[Any], ends: Sequence[str]
) -> Expected | str:
    """What should become of a conversation, or why the library does not render it.

    Args:
        ends: texts of tokens that end a sequence.
    """
    turns = [*prompt, *response]

    def rendered(rows: list[Any], ask: bool) -> str:
        if name.startswith(IN_PARTS):
            rows = [row | {"content": [{"type": "text", "text": row["content"]}]} for row in rows]
        options = {"tools": tools or None, "tokenize": False, "add_generation_prompt": ask}
        try:
            return str(tokenizer.apply_chat_template(rows, **options))
        except TypeError:  # DeepSeek's want the arguments of a call as text
            return str(tokenizer.apply_chat_template([_with_text(row) for row in rows], **options))

    try:
        text, opening = rendered(turns, False), rendered(prompt, True)
    except Exception as error:  # as the template raises it
        return str(error)
    spans, consistent = [], text.startswith(opening)
    ended = [found.end(1) for found in re.finditer(speaks(name)[0], text, re.DOTALL)]
    for number in range(len(prompt), len(turns)):
        if turns[number]["role"] != "assistant":
            continue
        start = len(opening)
        if number > len(prompt):
            before = rendered(turns[:number], True)
            consistent &= text.startswith(before)
            start = len(before)
        stop = next((one for one in ended if one > start), len(text))
        stop += next((len(end) for end in ends if text.startswith(end, stop)), 0)
        spans.append((start, stop))
    if not text.endswith(tuple(ends), 0, spans[-1][1]):
        spans[-1] = (spans[-1][0], len(text))  # nothing stops the model here, so that it reads on to the end
    return Expected(text, opening, tuple(spans), consistent)


def _with_text(row: Any) -> Any:
    """A message with the arguments of its calls as JSON text."""
    calls = row.get("tool_calls", [])
    written = [
        call
        | {"function": call["function"] | {"arguments": json.dumps(call["function"]["arguments"], ensure_ascii=False)}}
        for call in calls
    ]
    return row | {"tool_calls": written} if written else row


def outcome(tokenizer: Any, name: str, kind: str, ends: Sequence[str]) -> tuple[str, str]:
    """What becomes of a conversation of a kind: exact, refused or wrong, and why.

    Args:
        ends: texts of tokens that end a sequence.
    """
    end = speaks(name)[1]
    prompt, response, tooled = conversations(START, end)[kind]
    forged = conversations(*FORGED)[kind]
    tools = [ADD] if tooled else []
    if kind == ENDED:  # with a token that is written once
        plain = expected(tokenizer, name, *conversations(*FORGED)["plain"][:2], tools, ends)
        if end in ends or (isinstance(plain, Expected) and end in plain.said):
            forged = conversations(*FORGED)["plain"]
    wanted = expected(tokenizer, name, *forged[:2], tools, ends)
    encoder = Encoder(tokenizer, end_ids=tokenizer.convert_tokens_to_ids(list(ends)), limits=Limits(10**6))
    origin = Origin("row", 1)
    group = Group(Prompt(messages(Field(prompt, origin)), tuple(tools)), (messages(Field(response, origin)),), None)
    try:
        encoded = encoder.encode(group)
    except InputError as error:
        untrue = _untrue(str(error), tokenizer, wanted, forged[0] + forged[1], tools, len(prompt))
        return ("wrong", f"refused, but {untrue}: {error}") if untrue else ("refused", str(error))
    if isinstance(wanted, str):
        return "wrong", f"the library refuses it: {wanted}"
    assert isinstance(encoded, EncodedGroup)
    if kind == OPENED and not wanted.consistent:
        closed = conversations(*FORGED)["reasoning in the content"]
        wanted = expected(tokenizer, name, *closed[:2], tools, ends)
        assert isinstance(wanted, Expected)
    if not wanted.consistent:
        return "wrong", "learned what is not asked"
    if lost := _lost(forged[1], wanted.said, name):
        return "wrong", f"{lost} are not learned"
    differs = _compared(encoder, wanted, encoded.tokens, end)
    return ("wrong", differs) if differs else ("exact", "")


def _lost(rows: Sequence[Any], said: str, name: str) -> list[str]:
    """What the assistant says in some messages that is not in a text, word by word, and calls."""
    code = re.sub("{#.*?#}", "", templates()[name], flags=re.DOTALL)
    reads = re.search(r"message\W+(get\W+)?(reasoning|thinking)", code)
    spoken: list[str] = []
    for row in rows:
        if row["role"] == "assistant":
            spoken += [re.sub("</?think>", "", row["content"]), row.get("reasoning_content", "") if reads else ""]
            spoken += _texts([call["function"] for call in row.get("tool_calls", [])])
    words = [word for word in re.findall(r"[^\W\d_]{2,}", " ".join(spoken)) if word not in said]
    calls = sum(len(row.get("tool_calls", [])) for row in rows if row["role"] == "assistant")
    return words + ["a call"] * (len(re.findall(r"\badd\b", said)) < calls)


def _texts(value: Any) -> list[str]:
    """The texts in a JSON value."""
    if isinstance(value, dict):
        value = list(value.values())
    return (
        [value]
        if isinstance(value, str)
        else [one for part in value for one in _texts(part)]
        if isinstance(value, list)
        else []
    )


def _untrue(
    reason: str, tokenizer: Any, wanted: Expected | str, rows: Sequence[Any], tools: list[Any], start: int
) -> str:
    """Why the reason of a refusal is not true; empty where it is."""
    named = re.search(r"message (\d+) ", reason)
    number = int(named[1]) - 1 if named else 0
    if "leaves out what" in reason:
        given = rows[:start] if isinstance(wanted, str) else rows
        changed = [{**row, "content": "Other."} if at == number else row for at, row in enumerate(given)]
        first, other = (
            tokenizer.apply_chat_template(one, tools=tools or None, tokenize=False) for one in (given, changed)
        )
        return "" if first == other else "it writes it"
    if isinstance(wanted, str):
        return "" if wanted in reason else f"the library's reason is {wanted}"
    if reason.startswith("the chat template asks for an answer with"):
        return "" if not wanted.consistent else "it begins as is asked"
    span = wanted.text[slice(*wanted.spoken[[row["role"] for row in rows[start:number]].count("assistant")])]
    if re.search("leaves out (a call|the content|the reasoning)|elsewhere", reason):
        return "" if _lost([rows[number]], span, "qwen3") else "it writes it"
    alone = tokenizer.apply_chat_template(list(rows[: number + 1]), tools=tools or None, tokenize=False)
    return "" if "otherwise where others follow" in reason and not wanted.text.startswith(alone) else "nothing is wrong"


def _compared(encoder: Any, wanted: Expected, tokens: Any, end: str) -> str:
    """How the ids of a group of one response differ from what they should be; empty where they do not."""
    tokenizer = encoder.tokenizer
    own = re.compile("|".join(map(re.escape, encoder.special)))

    def ids(text: str) -> list[int]:
        if not any(one in text for one in FORGED):
            return list(tokenizer(text, add_special_tokens=False).input_ids)
        made, place = [], 0
        for found in (*own.finditer(text), None):
            piece = text[place : found.start() if found else None]
            literal = piece.replace(FORGED[0], START).replace(FORGED[1], end)
            made += tokenizer(literal, add_special_tokens=False, split_special_tokens=literal != piece).input_ids
            if found:
                made.append(tokenizer.convert_tokens_to_ids(found[0]))
                place = found.end()
        return made

    (row,) = tokens.responses
    if tokens.prompt.tolist() != ids(wanted.prompt):
        return "another prompt"
    given = [(token, spoken) for text, spoken in wanted.segments() for token in ids(text)]
    if given[-1][0] not in encoder.end_ids:
        given.append((encoder.end_ids[0], True))
    found = list(zip(row.ids.tolist(), row.scored.tolist(), strict=True))
    if found == given:
        return ""
    at = next((n for n, both in enumerate(zip(found, given, strict=False)) if both[0] != both[1]), len(found))
    shown = [tokenizer.decode([token for token, _ in part[at : at + 12]]) for part in (found, given)]
    return f"at {at}: {found[at : at + 1]} {shown[0]!r} instead of {given[at : at + 1]} {shown[1]!r}"


def variants(name: str) -> Iterator[tuple[Any, list[str]]]:
    """The tokenizers of a template's own models and of a base model, and what ends a sequence there."""
    end = speaks(name)[1]
    yield tokenizer_for(name, end), [end, *MORE_ENDS.get(name.removesuffix("_training"), ())]
    yield tokenizer_for(name, BASE_END), [BASE_END]
