"""Conversations cut where the assistant speaks, by what their template writes."""

import datetime

import pytest
from support.refusals import refused
from support.tiny_models import CHATML, char_tokenizer

from trueup.batch.chat import OpeningError, Rendered, conversation_prompt, render, render_prompt
from trueup.batch.chat_template import Template, writes_date
from trueup.batch.pieces import PieceEncoder, special_texts
from trueup.errors import InputError
from trueup.feedback.records import Message

SYSTEM, ASK = Message("system", "Be brief."), Message("user", "Why?")
ANSWER = Message("assistant", "So.")


def templated(template: str) -> Template:
    made = char_tokenizer(chat_template=template)
    return Template(made, special_texts(made))


def rendered(template: str, prompt: tuple[Message, ...], response: tuple[Message, ...]) -> Rendered:
    given = templated(template)
    return render(given, prompt, response, render_prompt(given, prompt))


def parts(found: Rendered) -> list[str]:
    """The prompt, then each turn of the assistant and what stands between it and the next one."""
    made = [found.prompt.text]
    for turn in found.turns:
        made += [turn.text.text[: turn.stop], turn.text.text[turn.stop :]]
    return made


def test_the_response_begins_where_the_model_starts_to_speak() -> None:
    found = rendered(CHATML, (SYSTEM, ASK), (ANSWER,))
    prompt = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n"
    assert parts(found) == [prompt, "So.<|im_end|>\n", ""]
    (turn,) = found.turns
    assert (turn.learned, turn.said, found.note) == (True, len("So."), None)
    conversation = [{"role": message.role, "content": message.content} for message in (SYSTEM, ASK)]
    tokenizer = char_tokenizer(chat_template=CHATML)
    assert prompt == tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True)


def test_several_turns_know_who_speaks() -> None:
    turns = (ANSWER, Message("user", "And?"), Message("assistant", "No.", {"weight": 0}))
    found = rendered(CHATML, (ASK,), turns)
    assert parts(found)[1:] == [
        "So.<|im_end|>\n", "<|im_start|>user\nAnd?<|im_end|>\n<|im_start|>assistant\n", "No.<|im_end|>\n", "",
    ]  # fmt: skip
    assert [turn.learned for turn in found.turns] == [True, False]


def test_contents_that_look_like_each_other_or_like_the_template_are_told_apart() -> None:
    ask = Message("user", "<|im_end|>\n<|im_start|>assistant\nSo.")
    found = rendered(CHATML, (ask, ANSWER, ask), (ANSWER, ask, ANSWER))
    assert [turn.text.text[: turn.stop] for turn in found.turns] == ["So.<|im_end|>\n"] * 2
    own = [len(turn.text.literal) for turn in found.turns]
    assert [len(found.prompt.literal), *own] == [4, 2, 0]


@pytest.mark.parametrize("written", ["| trim", ".strip()", ".rstrip()", ".lstrip()", " | tojson"])
def test_a_template_that_strips_or_quotes_is_followed(written: str) -> None:
    template = CHATML.replace("{{ m.content }}", "{{ m.content" + written + " }}")
    found = rendered(template, (Message("user", "  Why? \n"),), (Message("assistant", "\n So.  "),))
    conversation = [{"role": "user", "content": "  Why? \n"}, {"role": "assistant", "content": "\n So.  "}]
    text = char_tokenizer(chat_template=template).apply_chat_template(conversation, tokenize=False)
    assert "".join(parts(found)) == text
    assert text.count("  Why? \n") + text.count("\n So.  ") < 2  # it did


def test_empty_contents_have_their_place() -> None:
    found = rendered(CHATML, (Message("system", ""), Message("user", "")), (Message("assistant", ""),))
    assert parts(found)[1:] == ["<|im_end|>\n", ""]


@pytest.mark.parametrize("rewritten", ["{{ m.content | upper }}", "{{ m.content | replace('S', 'V') }}"])
def test_what_is_learned_is_what_the_template_writes_of_it(rewritten: str) -> None:
    found = rendered(CHATML.replace("{{ m.content }}", rewritten), (ASK,), (ANSWER,))
    assert parts(found)[1] in ("SO.<|im_end|>\n", "Vo.<|im_end|>\n")


@pytest.mark.parametrize("thought", ["<think>Hm.</think>", "<|im_start|>Hm.<|im_end|>"])
def test_a_thought_that_the_template_takes_out_of_what_is_learned_is_refused(thought: str) -> None:
    ends = thought[-7:]
    template = CHATML.replace("{{ m.content }}", "{{ m.content.split('" + ends + "') | last }}")
    assert parts(rendered(template, (ASK,), (ANSWER,)))[1] == "So.<|im_end|>\n"
    with pytest.raises(InputError, match="leaves out the content of message 2"):
        rendered(template, (ASK,), (Message("assistant", thought + "So."),))


LATE = "{% for m in messages %}{% if loop.last %}[{{ messages[0].content }}]{% endif %}"


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        (CHATML.replace("for m in messages", "for m in messages[1:]"), "leaves out what message 1 .system. says"),
        (CHATML.replace("for m in messages", "for m in messages | reverse"), "asks for an answer with"),
        (CHATML.replace("{% for m in messages %}", LATE), "asks for an answer with"),
        (
            CHATML.replace("{{ m.content }}", "{% if m.role != 'assistant' %}{{ m.content }}{% endif %}"),
            "leaves out what message 3 .assistant. says",
        ),
        (
            CHATML.replace(
                "{{ m.content }}",
                "{{ m.content }}{% if m.role == 'assistant' %}{{ messages[0].content }}{% endif %}",
            ),
            "writes what others say within message 3",
        ),
        (
            "{{ raise_exception('roles must alternate') }}",
            "refuses a conversation of system, user: roles must",
        ),
    ],
    ids=["leaves out", "reorders", "moves", "leaves out an answer", "repeats others", "fails"],
)  # fmt: skip
def test_a_template_by_which_an_answer_cannot_be_learned_is_refused(template: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason + r".*--chat-template FILE"):
        rendered(template, (SYSTEM, ASK), (ANSWER,))


def test_what_the_template_writes_only_in_answers_is_the_models_to_learn() -> None:
    think = CHATML.replace("{{ m.role }}\n", "{{ m.role }}\n{% if m.role == 'assistant' %}<think></think>{% endif %}")
    assert parts(rendered(think, (ASK,), (ANSWER,)))[1] == "<think></think>So.<|im_end|>\n"


THINKS = CHATML.replace("<|im_start|>assistant\n{% endif", "<|im_start|>assistant\n<think>\n{% endif")
CLOSES = THINKS.replace(
    "{{ m.content }}", "{{ '<think></think>' if m.role == 'assistant' and '</think>' not in m.content }}{{ m.content }}"
)


def test_an_answer_that_is_asked_for_otherwise_is_refused_or_learned_as_the_conversation_has_it() -> None:
    with pytest.raises(OpeningError, match=r"asks for an answer with .*--answer-opening conversation"):
        rendered(CLOSES, (ASK,), (ANSWER,))
    given = templated(CLOSES)
    turns = (ANSWER, Message("tool", "4"), ANSWER)
    opening = conversation_prompt(given, (ASK,))
    assert opening.text.endswith("<|im_start|>assistant\n<think></think>")
    found = render(given, (ASK,), turns, opening, as_written=True)
    assert parts(found)[1:] == [
        "So.<|im_end|>\n", "<|im_start|>tool\n4<|im_end|>\n<|im_start|>assistant\n<think></think>",
        "So.<|im_end|>\n", "",
    ]  # fmt: skip
    with pytest.raises(OpeningError, match="asks for an answer with"):
        render(given, (ASK,), turns, opening)


@pytest.mark.parametrize(
    "thought", ["<think>\nHm.\n</think>\n", "I think: hm.\n</think>\n"], ids=["opened", "not opened"]
)
def test_a_thought_goes_on_where_the_template_has_opened_it(thought: str) -> None:
    found = rendered(CLOSES, (ASK,), (Message("assistant", thought + "So."),))
    assert found.prompt.text.endswith("<think>\n")
    assert parts(found)[1] == thought.removeprefix("<think>\n") + "So.<|im_end|>\n"


def test_a_turn_that_is_written_otherwise_once_others_follow_ends_where_it_did() -> None:
    """As Qwen's thinking models do: an empty thought stands in the last turn alone."""
    last = "{% if m.role == 'assistant' and loop.last %}<think></think>{% endif %}{{ m.content }}"
    found = rendered(CHATML.replace("{{ m.content }}", last), (ASK,), (ANSWER, ASK, ANSWER))
    assert [turn.text.text[: turn.stop] for turn in found.turns] == [
        "So.<|im_end|>\n",
        "<think></think>So.<|im_end|>\n",
    ]


BARE = (
    "{% for m in messages %}{{ '<|im_start|>' if m.role == 'user' else '<|im_end|>' }}{{ m.content }}{% endfor %}"
    "{{ '<|im_end|>' if add_generation_prompt else eos_token }}"
)
"""As Metharme's: turns have no end, and a conversation ends with the end of sequence, whoever spoke last."""


LATER = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
    "{% if not loop.last or add_generation_prompt %}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt and messages[-1].role != 'assistant' %}<|im_start|>assistant\n{% endif %}"
)
"""As Qwen's first: a turn that nothing follows has no end."""
ALWAYS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<eos>\n{% endfor %}<|im_start|>assistant{{ '\n' }}"
)
"""As Command A's: every conversation ends with the heading of an answer."""


@pytest.mark.parametrize(
    ("template", "first", "last"),
    [
        (BARE, "So.", "So.<eos>"),
        (BARE.replace("{{ m.content }}", "{{ m.content }}<bos>"), "So.<bos>", "So.<bos><eos>"),
        (LATER, "So.<|im_end|>\n", "So."),
        (ALWAYS, "So.<eos>", "So.<eos>\n<|im_start|>assistant\n"),
    ],
)
@pytest.mark.parametrize("said", ["So.", "An assistant\n"])
def test_ends_of_turns_that_others_follow(template: str, first: str, last: str, said: str) -> None:
    """A turn's own end is learned, no heading, and no end of a conversation in the middle of a longer one."""
    answer = Message("assistant", said)
    found = rendered(template, (ASK,), (answer, ASK, answer))
    ends = [turn.text.text[: turn.stop].replace(said, "So.") for turn in found.turns]
    assert ends == [first, last]


def test_characters_that_mark_where_words_stand_are_refused_by_name() -> None:
    rendered(CHATML, (ASK,), (Message("assistant", "\U000f0001"),))  # fonts have signs for these
    with pytest.raises(InputError, match=r"the private-use character U\+100002"):
        rendered(CHATML, (ASK,), (Message("assistant", "\U00100002"),))


def test_reasoning_is_learned_or_refused_or_told() -> None:
    thought = Message("assistant", "So.", {"reasoning_content": "Hm."})
    writes = CHATML.replace("{{ m.content }}", "{{ m.reasoning_content }}{{ m.content }}")
    assert parts(rendered(writes, (ASK,), (thought,)))[1] == "Hm.So.<|im_end|>\n"
    drops = CHATML.replace("{{ m.content }}", "{{ (m.reasoning_content or '')[:0] }}{{ m.content }}")
    with pytest.raises(InputError, match=r"leaves out the reasoning of message 2"):
        rendered(drops, (ASK,), (thought,))
    assert "knows no reasoning" in str(rendered(CHATML, (ASK,), (thought,)).note)
    assert rendered(CHATML, (ASK, thought, ASK), (ANSWER,)).note is None


def test_a_template_that_parses_what_an_answer_spells_has_that_for_its_own() -> None:
    """A mark that the template looks for in an answer is a token; one that it does not look for stays text."""
    splits = CHATML.replace("{{ m.content }}", "{{ m.content.split('<bos>') | join('<bos>!') }}")
    said = Message("assistant", "a<bos>b<eos>c")
    (turn,) = rendered(splits, (ASK,), (said,)).turns
    assert turn.text.text == "a<bos>!b<eos>c<|im_end|>\n"
    assert [turn.text.text[start:stop] for start, stop in turn.text.literal] == ["<eos>"]
    with refused("spells the special token <bos>, and the chat template looks for it"):
        rendered(splits, (Message("user", "a<bos>b"),), (ANSWER,))


def test_a_heading_that_nothing_asked_for_is_never_learned() -> None:
    """Command A's template writes one at the end of every conversation."""
    asks = CHATML.replace("{% if add_generation_prompt %}", "").replace("{% endif %}", "")
    (turn,) = rendered(asks, (ASK,), (ANSWER,)).turns
    tokenizer = char_tokenizer(chat_template=asks)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    ids, scored = PieceEncoder(tokenizer, [end]).response([turn])
    assert tokenizer.decode(ids) == "\nSo.<|im_end|>" and all(scored)
    with pytest.raises(InputError, match=r"with the heading of another answer.*--eos-token"):
        PieceEncoder(tokenizer, [tokenizer.eos_token_id]).response([turn])


def test_the_date_is_that_of_the_run() -> None:
    """However the template makes the form; all else is as it was, white space at its beginning too."""
    forms = ["%d %b %Y", "%A, %-d. %B; 100%%", "%Y-%m-%dT%H:%M", ""]
    at = datetime.datetime(2026, 2, 1)
    macro = "  {% macro today() %}{{ strftime_now(" + repr(forms[1]) + ") }}{% endmacro %}"
    for begin in (" ", "\n\n", "  {% set x = 1 %}", macro):
        template = begin + "{{ strftime_now('%d %b %Y') }};{% for m in messages %}"
        template += "{% if strftime_now is defined %}{{ strftime_now(m.content) }}{% endif %}|{% endfor %}"
        template += "{{ today() }}" if "macro" in begin else ""
        dated = Template(char_tokenizer(chat_template=template), date="2026-02-01")
        assert writes_date(dated.tokenizer)
        asked = tuple(Message("user", form) for form in forms)
        begun = char_tokenizer(chat_template=begin + ".").apply_chat_template([{}], tokenize=False)[:-1]
        told = "".join(f"{at.strftime(form)}|" for form in forms)
        last = at.strftime(forms[1]) if "macro" in begin else ""
        assert dated.write(asked, (), ask=False) == f"{begun}01 Feb 2026;{told}{last}"


def test_contents_are_parts_where_a_template_writes_them_alone() -> None:
    template = CHATML.replace("{{ m.content }}", "{% for p in m.content if p.text %}{{ p.text }}{% endfor %}")
    assert parts(rendered(template, (ASK,), (ANSWER,)))[1] == "So.<|im_end|>\n"
