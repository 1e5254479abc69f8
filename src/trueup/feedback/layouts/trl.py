"""The general layouts: trueup's own form, those of TRL, HH transcripts, and requests and answers by other names."""

from dataclasses import replace

from trueup.feedback import turns
from trueup.feedback.canonical import OPTIONAL, example_from_row
from trueup.feedback.fields import Field
from trueup.feedback.layouts import shapes
from trueup.feedback.layouts.layout import LABELS, REQUEST, SCORES, SIDES, Layout, RowValue, rounds
from trueup.feedback.records import Content, Discarded, Example, Message, Response

SIDE_SCORES = ("score_chosen", "score_rejected")
HUMAN = "\n\nHuman:"
ASSISTANT = "\n\nAssistant:"
NO_PROMPT = (
    "found plain text, and the row has no prompt. The common beginning of two texts is not a prompt: "
    "'The sky is blue.' and 'The sky is black.' would give the prompt 'The sky is bl'; "
    "add the key 'prompt', or write both sides as lists of messages"
)


# trueup's own form, see `trueup.feedback.canonical`.


def canonical(row: Field) -> Example:
    example = example_from_row(row.value, row.origin)
    prompt, at = example.prompt.content, row.at("responses")
    responses = tuple(
        replace(one, content=turns.as_response(one.content, prompt, at.at(index).at("content")))
        for index, one in enumerate(example.responses)
    )
    return replace(example, responses=responses)


CANONICAL = Layout(
    name="canonical",
    keys=("prompt", "responses"),
    optional=("system", *OPTIONAL),
    text=("prompt", "system"),
    foreign=("scores",),
    request=REQUEST,
    further=True,
    meaning="A prompt, its responses with what was said of each, and comparisons between them.",
    convert=canonical,
)


# A prompt with K responses and a score for each. RRHF, Yuan et al., 2023, https://arxiv.org/abs/2304.05302.


def scored_responses(prompt_key: str) -> Layout:
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

    return Layout(
        name="prompts with scored responses",
        keys=(prompt_key, "responses", "scores"),
        optional=("sources", *shapes.COMMON[1:]),
        text=(prompt_key, "system"),
        request=REQUEST,
        meaning="A ranking: a score for each of `responses`; higher is better.",
        convert=convert,
    )


def one_each(given: Field, count: int, of: str) -> list[Field]:
    listed = given.items(of)
    if len(listed) != count:
        raise given.unexpected(f"one for each of the {count} responses")
    return listed


# Pairs with a prompt: text, or lists of messages. Where both sides begin with the prompt (UltraFeedback as it is
# published), the prompt is taken off them.


def prompted(*keys: str) -> shapes.Form:
    """The form with these keys for the prompt, the better and the worse response."""

    def read(row: Field) -> shapes.Exchange:
        prompt, chosen, rejected = (turns.content(row[key]) for key in keys)
        start = repeated_prompt(prompt, chosen, rejected)
        request = start or request_of(prompt, chosen, rejected)
        better = turns.as_response(chosen[len(start) :], request, row[keys[1]], len(start))
        worse = turns.as_response(rejected[len(start) :], request, row[keys[2]], len(start))
        return request, (better, worse)

    return shapes.Form(keys, read, text=keys, request=REQUEST)


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
    """The prompt; text as a turn of the user where both sides are turns of the assistant."""
    for side in (chosen, rejected):
        if isinstance(side, str) or not side or any(one.role not in turns.RESPONSE_ROLES for one in side):
            return prompt
    return (Message("user", prompt),) if isinstance(prompt, str) and prompt.strip() else prompt


PAIRS = shapes.pairs("TRL pairs", prompted("prompt", *SIDES), scores=SIDE_SCORES)


# Pairs without a prompt: two transcripts, or two conversations of which the turns they share are the prompt. Only
# whole turns are shared. TRL does the same with the letters of plain text, so that 'The sky is blue.' and 'The sky is
# black.' become the prompt 'The sky is bl' with the responses 'ue.' and 'ack.'; that is refused.


def transcripts(row: Field) -> shapes.Exchange | Discarded:
    splits = []
    for key in SIDES:
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


def are_transcripts(row: RowValue) -> bool:
    sides = [row[key] for key in SIDES]
    return any(isinstance(side, str) and (HUMAN in side or ASSISTANT in side) for side in sides)


HH = shapes.pairs(
    "HH transcripts",
    shapes.Form(SIDES, transcripts, ("source",), SIDES, (*REQUEST, "system"), fits=are_transcripts),
    "A pair of transcripts: the prompt ends with the last '\\n\\nAssistant:', the response follows.",
    scores=SIDE_SCORES,
    foreign=("prompt",),
)
"""Anthropic's HH. Bai et al., 2022, https://arxiv.org/abs/2204.05862.

    {"chosen": "\\n\\nHuman: Hello\\n\\nAssistant: Hi", "rejected": ...}

The prompt is raw text, and the response has its leading space.
"""


def side(row: Field, key: str) -> shapes.Turns:
    """One of two conversations, which ends with its response."""
    if isinstance(row[key].value, str):
        raise row[key].fault(NO_PROMPT)
    said = shapes.MESSAGES(row, key)
    if said and said[-1].role != "assistant":
        at = row[key].at(len(said) - 1).at("role", said[-1].role)
        raise at.unexpected("an assistant turn: a side ends with its response")
    return said


IMPLIED = shapes.pairs(
    "TRL pairs with an implied prompt",
    shapes.conversations(*SIDES, side, text=SIDES, request=REQUEST),
    scores=SIDE_SCORES,
    foreign=("prompt",),
)


# A prompt and one response: two texts or lists of messages, or one list of messages that ends with the response.

COMPLETIONS = shapes.singles(
    "TRL prompts with {}completions", shapes.written("prompt", "completion", request=REQUEST), LABELS, SCORES
)
CONVERSATIONS = shapes.singles(
    "messages",
    shapes.conversation("messages", counted=True),
    tuple(key for key in LABELS if key != "kto_tag"),
    SCORES,
    ("kto_tag", "rejected_response", "rejected_messages"),
)
"""Messages with a `kto_tag` are LLaMA-Factory's."""
FIRST = (scored_responses("prompt"), scored_responses("query"), CANONICAL, PAIRS)
LAYOUTS = (HH, IMPLIED, *COMPLETIONS, *CONVERSATIONS)


# BeaverTails, and the questions and answers of PKU-SafeRLHF. Ji et al., 2023, https://arxiv.org/abs/2307.04657.
#
#     {"prompt": "Name a tree.", "response": "An oak.", "category": {"animal_abuse": false, ...}, "is_safe": true}

BEAVERTAILS = shapes.graded(
    "BeaverTails",
    shapes.answered("prompt", "response", optional=()),
    shapes.Grade(
        shapes.LABEL.read,
        "A point: `{key}` says whether `response` is harmless; the kinds of harm are not kept.",
    ),
    "is_safe",
)

# Texts or messages under `prompt` and `response`, as they are; a question and its answer, as turns.
#
#     {"prompt": "2 + 2 =", "response": "4"}
#     {"question": "2 + 2?", "answer": "4"}


def other_requests(*own: str) -> tuple[str, ...]:
    """Keys that hold a part of what was asked, but for those that a layout reads."""
    known = ("prompt", "instruction", "input", "query", "question", "choices", "options", "passage")
    return tuple(key for key in (*REQUEST, *known) if key not in own)


GIVEN = shapes.written("prompt", "response", request=other_requests("prompt"))
ASKED = shapes.answered("question", "answer", request=other_requests("question"))
RESPONSES = (
    *shapes.singles("prompts with responses", GIVEN, LABELS, SCORES),
    *shapes.singles("questions with answers", ASKED, LABELS, SCORES),
)

# Pairs of Intel, https://huggingface.co/datasets/Intel/orca_dpo_pairs.
#
#     {"system": "You help.", "question": "Name a tree.", "chosen": "An oak.", "rejected": "A stone."}

ORCA = shapes.pairs(
    "Intel orca pairs",
    shapes.answered("question", *SIDES, request=REQUEST, fits=lambda row: isinstance(row["chosen"], str)),
    foreign=("prompt", "instruction", "input"),
)

# Conversations under `conversation`: rounds as Capybara has them, https://huggingface.co/datasets/LDJnr/Capybara;
# messages as WildChat, https://arxiv.org/abs/2405.01470, and LMSYS-Chat-1M have them, with what is known of each turn.
#
#     {"conversation": [{"input": "Name a tree.", "output": "An oak."}, {"input": "Another?", "output": "A fir."}]}
#     {"conversation": [{"role": "user", "content": "Hi", "toxic": false}, {"role": "assistant", ...}], "model": ...}

in_rounds, in_turns = (shapes.holds("conversation", mark) for mark in ("output", "role"))
CAPYBARA = shapes.singles(
    "Capybara",
    shapes.conversation("conversation", rounds({"input": "user"}, "output"), in_rounds),
    ("label",),
)
WILDCHAT = shapes.singles(
    "WildChat", shapes.conversation("conversation", fits=in_turns, counted=True), ("label",)
)
EXCHANGES: tuple[Layout, ...] = (*CAPYBARA, *WILDCHAT, *RESPONSES)
"""After those that ask for more of a row; `ORCA` comes before the pairs that have no prompt."""
