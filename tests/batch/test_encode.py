"""From text to ids: boundaries, beginnings and ends, limits, and which tokens are learned."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.encoding import ASK, IM_END, TURNS, decode, encode, encoder
from support.tiny_models import BOS, CHATML, EOS, char_tokenizer
from tokenizers import AddedToken
from transformers import AutoTokenizer

from trueup.batch.encode import EncodedGroup, Encoder, Limits
from trueup.batch.tokens import TokenRow
from trueup.errors import InputError
from trueup.feedback.records import Content, Discarded, Group, Message, Origin, Prompt

NO_END = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}" + (
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def scored(encoder: Encoder, row: TokenRow) -> str:
    return decode(encoder, row.ids[row.scored])


def test_prompt_and_response_are_encoded_apart_and_joined() -> None:
    e = encoder()
    tokens = encode(e, "ab", "cd", "e").tokens
    a, b, c, d, five = e.tokenizer("abcde", add_special_tokens=False).input_ids
    assert tokens.prompt.tolist() == [BOS, a, b]
    assert [row.ids.tolist() for row in tokens.responses] == [[c, d, EOS], [five, EOS]]
    assert all(row.scored.all() for row in tokens.responses)


@pytest.mark.parametrize("adds_eos", [False, True])
@pytest.mark.parametrize(
    ("prompt", "response", "asked", "answer"),
    [
        ("ab", "", "<bos>ab", "<eos>"), ("", "a", "<bos>", "a<eos>"), ("<bos>ab", "c", "<bos>ab", "c<eos>"),
        ("ab", "c<eos>", "<bos>ab", "c<eos>"),
    ],
)  # fmt: skip
def test_each_has_its_beginning_or_its_end_once(
    prompt: str, response: str, asked: str, answer: str, adds_eos: bool
) -> None:
    tokens = encode(encoder(adds_eos=adds_eos), prompt, response).tokens
    (row,) = tokens.responses
    assert (decode(encoder(), tokens.prompt), decode(encoder(), row.ids)) == (asked, answer)
    assert row.scored.all()


def test_truncation_never_invents_an_end() -> None:
    e = encoder(max_length=6)
    encoded = encode(e, "ab", "cdefgh", "cd", "cde")
    assert [decode(e, row.ids) for row in encoded.tokens.responses] == ["cde", "cd<eos>", "cde"]
    assert encoded.responses_cut == 2
    assert not encoded.prompt_cut


def test_a_cut_prompt_keeps_its_beginning_of_sequence_and_its_end() -> None:
    encoded = encode(encoder(max_prompt_length=4), "abcdef", "g")
    assert decode(encoder(), encoded.tokens.prompt) == "<bos>def"
    assert encoded.prompt_cut
    assert decode(encoder(), encode(encoder(max_prompt_length=1), "abc", "g").tokens.prompt) == "c"
    assert decode(encoder(), encode(encoder(max_prompt_length=2, bos=False), "abc", "g").tokens.prompt) == "bc"
    just = encode(encoder(max_prompt_length=4), "abc", "g")
    assert (decode(encoder(), just.tokens.prompt), just.prompt_cut) == ("<bos>abc", False)


@pytest.mark.parametrize(
    ("settings", "prompt", "reason"),
    [
        ({"max_length": 4}, "abc", "prompt as long as max_length, 4 tokens"),
        ({"bos": False}, "", "empty prompt and a tokenizer without a beginning-of-sequence token"),
    ],
)
def test_what_cannot_be_trained_on_is_discarded_with_a_reason(
    settings: dict[str, Any], prompt: str, reason: str
) -> None:
    origin = Origin("data.jsonl", 7)
    assert encoder(**settings).encode(Group(Prompt(prompt, origin=origin), ("d",), None)) == Discarded(reason, origin)


def test_raw_text_says_what_it_says() -> None:
    e = encoder()
    encoded = encode(e, "ab", "say <eos> now", "<bos>")
    for row, said in zip(encoded.tokens.responses, ["say <eos> now", "<bos>"], strict=True):
        assert decode(e, row.ids[:-1]) == said
        assert len(row.ids) == len(said) + 1  # every character a token of its own, and one end
    assert not encoded.notes


def test_a_prompt_rendered_beforehand_keeps_its_control_tokens_and_says_so() -> None:
    e = encoder()
    encoded = encode(e, "<|im_start|>user\nab<|im_end|>\n<|im_start|>assistant\n", "cd<|im_end|>")
    assert encoded.tokens.prompt.tolist().count(IM_END) == 1
    assert encoded.tokens.responses[0].ids.tolist()[-1] == IM_END
    assert len(encoded.tokens.responses[0].ids) == 3
    assert any("already rendered" in note for note in encoded.notes)


def test_a_turn_without_an_end_token_does_not_teach_the_next_heading() -> None:
    e = encoder(NO_END)
    (row,) = encode(e, ASK, TURNS).tokens.responses
    assert decode(e, row.ids) == "So.\nuser: And?\nassistant: No.\n<eos>"
    assert scored(e, row) == "So.No.\n<eos>"


def test_a_control_token_that_has_no_role_in_the_tokenizer_is_special_too() -> None:
    """As most of Llama 3's: the file marks them special, and no attribute names them."""
    tokenizer = char_tokenizer(chat_template=CHATML)
    tokenizer.add_tokens([AddedToken("<|header|>", special=True, normalized=False)])
    header = tokenizer.convert_tokens_to_ids("<|header|>")
    assert "<|header|>" not in tokenizer.all_special_tokens
    e = Encoder(tokenizer, end_ids=(EOS, IM_END), limits=Limits(1000))
    tokens = encode(e, (Message("user", "a <|header|>"),), "b <|header|>").tokens
    assert header not in tokens.prompt
    assert header not in tokens.responses[0].ids
    rendered = encode(e, "<|header|>a", "<|header|>b")
    assert header in rendered.tokens.prompt
    assert header in rendered.tokens.responses[0].ids
    assert rendered.notes


@pytest.mark.parametrize("content", ["Why?", "Why <eos>?", " spaced "])
@pytest.mark.parametrize("adds_space", [False, True])
def test_inference_is_prompted_with_what_training_saw(content: str, adds_space: bool) -> None:
    e = encoder(CHATML, adds_space=adds_space)
    prompt = (Message("system", "Be brief."), Message("user", content))
    assert e.prompt_ids(Prompt(prompt)) == encode(e, prompt, "So.").tokens.prompt.tolist()
    assert e.prompt_ids(Prompt("raw " + content)) == encode(e, "raw " + content, "So.").tokens.prompt.tolist()


def test_answers_are_learned_as_conversations_have_them_where_that_is_asked_for() -> None:
    template = CHATML.replace("<|im_start|>assistant\n{% endif", "<|im_start|>assistant\n<t>{% endif")
    made = char_tokenizer(chat_template=template)
    e = Encoder(made, end_ids=(EOS, IM_END), limits=Limits(1000), opening="conversation")
    encoded = encode(e, ASK, "So.", "No.")
    assert decode(e, encoded.tokens.prompt).endswith("<|im_start|>assistant\n")
    (note,) = encoded.notes
    assert "otherwise than it writes them" in note
    assert decode(e, encode(e, ASK, "<t>So.").tokens.prompt).endswith("<t>")
    with pytest.raises(InputError, match="asks for an answer with"):
        encode(encoder(template), ASK, "So.")


def test_raw_texts_beside_a_chat_template_are_told() -> None:
    given = encoder(CHATML)
    assert given.bypasses_template(Prompt("ab"))
    assert not given.bypasses_template(Prompt(ASK))
    assert not given.bypasses_template(Prompt("<|im_start|>user\nab"))  # rendered beforehand
    assert not encoder().bypasses_template(Prompt("ab"))
    meant = Encoder(char_tokenizer(chat_template=CHATML), end_ids=(EOS,), limits=Limits(9), raw_meant=True)
    assert not meant.bypasses_template(Prompt("ab"))


def test_a_tokenizer_that_puts_a_space_first_does_not_put_it_before_a_response() -> None:
    e = encoder(adds_space=True)
    tokens = encode(e, "ab", " cd", "cd", "\ncd").tokens
    assert decode(e, tokens.prompt) == "<bos> ab"
    assert [decode(e, row.ids) for row in tokens.responses] == [" cd<eos>", "cd<eos>", "\ncd<eos>"]


def test_both_sides_speak_one_form() -> None:
    with pytest.raises(InputError, match="prompt is raw text but the response is a list of messages"):
        encoder().encode(Group(Prompt("ab"), ((Message("assistant", "c"),),), None))


def test_a_response_that_holds_nothing_to_learn_is_discarded() -> None:
    e = encoder(CHATML, max_length=50)
    turns = (Message("assistant", "x" * 100, {"train": False}), Message("assistant", "So."))
    encoded = e.encode(Group(Prompt(ASK), (turns,), None))
    assert encoded == Discarded("response without a token to learn", None)


class TestTokensOfThePolicy:
    """Ids that stand with a response are what its policy wrote."""

    NOTE = "token ids that stand with responses say something else in this tokenizer; their text was encoded"

    @pytest.fixture
    def e(self) -> Encoder:
        """For its tokenizer `cd` is one token where it splits by itself; a policy may write two."""
        made = encoder(CHATML, max_length=8)
        made.tokenizer.add_tokens(["cd"])
        return made

    def written(
        self, e: Encoder, prompt: Content, response: Content, *ids: int
    ) -> tuple[list[int], list[bool], frozenset[str]]:
        encoded = e.encode(Group(Prompt(prompt), (response,), None, tokens=(ids,)))
        assert isinstance(encoded, EncodedGroup)
        (row,) = encoded.tokens.responses
        return row.ids.tolist(), row.scored.tolist(), encoded.notes

    @pytest.fixture
    def c(self, e: Encoder) -> int:
        return int(e.tokenizer.convert_tokens_to_ids("c"))

    @pytest.fixture
    def d(self, e: Encoder) -> int:
        return int(e.tokenizer.convert_tokens_to_ids("d"))

    @pytest.mark.parametrize("end", [(EOS,), (IM_END,), ()], ids=["ended", "turn ended", "unfinished"])
    def test_they_are_used_as_they_are_and_all_scored(self, e: Encoder, c: int, d: int, end: tuple[int, ...]) -> None:
        ids = [c, d, *end]
        assert self.written(e, "ab", "cd", *ids) == (ids, [True] * len(ids), frozenset())
        by_itself = encode(e, "ab", "cd").tokens.responses[0].ids.tolist()
        assert by_itself == [e.tokenizer.convert_tokens_to_ids("cd"), EOS]

    def test_an_end_that_is_all_there_is(self, e: Encoder) -> None:
        assert self.written(e, "ab", "", EOS) == ([EOS], [True], frozenset())

    def test_an_assistants_turn(self, e: Encoder, c: int, d: int) -> None:
        e.limits = Limits(1000)
        turn = (Message("assistant", "cd"),)
        for response in (turn, "cd"):
            assert self.written(e, ASK, response, c, d) == ([c, d], [True, True], frozenset())

    def test_turns_that_ids_cannot_stand_for_are_rendered(self, e: Encoder, c: int, d: int) -> None:
        e.limits = Limits(1000)
        call = (Message("assistant", "cd", {"tool_calls": []}),)
        several = (Message("assistant", "cd"), Message("tool", "x"), Message("assistant", "d"))
        for response in (call, several):
            ids, _, notes = self.written(e, ASK, response, c, d)
            assert ids == encode(e, ASK, response).tokens.responses[0].ids.tolist()
            assert self.NOTE in notes

    @pytest.mark.parametrize("more", [0, 5, 10**6, 10**12])
    def test_ids_of_another_tokenizer(self, e: Encoder, c: int, d: int, more: int) -> None:
        ids, scored, notes = self.written(e, "ab", "cd", d, c + more)
        assert (ids, scored) == ([e.tokenizer.convert_tokens_to_ids("cd"), EOS], [True, True])
        assert notes == {self.NOTE}

    def test_none_are_no_ids(self, e: Encoder) -> None:
        ids, _, notes = self.written(e, "ab", "cd")
        assert (ids, notes) == ([e.tokenizer.convert_tokens_to_ids("cd"), EOS], frozenset())

    def test_they_are_cut_as_text_is(self, e: Encoder, c: int) -> None:
        encoded = e.encode(Group(Prompt("ab"), ("c" * 6, "c"), None, tokens=((c,) * 6, None)))
        assert isinstance(encoded, EncodedGroup)
        assert [row.ids.tolist() for row in encoded.tokens.responses] == [[c] * 5, [c, EOS]]
        assert encoded.responses_cut == 1


WITH_BOS = "{{ bos_token }}" + CHATML
WITH_EOS = CHATML.replace("<|im_end|>", "{{ eos_token }}")
ENDLESS = CHATML.replace("<|im_end|>\n", "")


def encoded(
    prompt: Content, response: Content, template: str = CHATML, **options: Any
) -> tuple[list[int], list[int], list[bool]]:
    found = encode(encoder(template, **options), prompt, response).tokens
    (row,) = found.responses
    return found.prompt.tolist(), row.ids.tolist(), row.scored.tolist()


@pytest.mark.parametrize("adds_eos", [False, True])
@pytest.mark.parametrize(("template", "beginnings"), [(CHATML, 0), (WITH_BOS, 1)])
def test_a_conversation_has_the_beginning_that_its_template_writes(
    template: str, beginnings: int, adds_eos: bool
) -> None:
    """The tokenizer's own, which it would put before any text, does not come on top of it."""
    prompt, response, _ = encoded(ASK, "So.", template=template, adds_eos=adds_eos)
    assert prompt.count(BOS) == beginnings
    assert prompt[0] == BOS or not beginnings
    assert EOS not in prompt
    assert BOS not in response


@pytest.mark.parametrize("template", [CHATML, WITH_EOS, ENDLESS], ids=["own end", "eos_token", "none"])
@pytest.mark.parametrize("adds_eos", [False, True])
@pytest.mark.parametrize("said", ["So.", (Message("assistant", "So."),)])
def test_an_answer_ends_once_and_its_end_is_learned(template: str, adds_eos: bool, said: Content) -> None:
    _, response, scored = encoded(ASK, said, template=template, adds_eos=adds_eos)
    assert sum(token in (EOS, IM_END) for token in response) == 1
    assert response[-1] == (IM_END if template == CHATML else EOS)
    assert all(scored)


@pytest.mark.parametrize("prompt", ["Why?", ASK])
def test_an_end_that_is_the_padding_too_is_learned(prompt: Content) -> None:
    """No token is left out for its id: what is scored is known by place."""
    made = char_tokenizer(chat_template=WITH_EOS)
    made.pad_token = made.eos_token
    assert made.pad_token_id == EOS
    e = Encoder(made, end_ids=(EOS,), limits=Limits(1000))
    (row,) = encode(e, prompt, "So.").tokens.responses
    assert row.ids[-1] == EOS
    assert row.scored.all()


def test_an_end_of_sequence_that_the_tokenizer_does_not_know_is_the_one_given() -> None:
    prompt, response, scored = encoded("Why?", "So.", end_ids=(IM_END,), eos=False)
    assert response[-1] == IM_END
    assert len(response) == 4
    assert all(scored)
    assert EOS not in (*prompt, *response)


def test_an_end_that_is_no_special_token_ends_a_turn_all_the_same() -> None:
    """As where a line break is given for the end."""
    line = char_tokenizer().convert_tokens_to_ids("\n")
    _, response, scored = encoded(ASK, TURNS, template=NO_END, end_ids=(line,))
    tokenizer = char_tokenizer()
    assert tokenizer.decode(response) == "So.\nuser: And?\nassistant: No.\n"
    assert tokenizer.decode([token for token, one in zip(response, scored, strict=True) if one]) == "So.\nNo.\n"


MODELS = ("tinystories-656k-bf16", "stories260K")
PAIRS = [
    ("Once upon a time", " there was a cat."), ("Once upon a ti", "me there was a cat."),
    ("The cat sat.\n", "It was happy."), ("The cat sat.", "\nIt was happy."), ("The cat", "  sat"),
]  # fmt: skip


@pytest.fixture(params=MODELS)
def published(request: pytest.FixtureRequest, shared: Callable[[str], Path]) -> Encoder:
    tokenizer = AutoTokenizer.from_pretrained(shared(f"models/{request.param}"))
    return Encoder(tokenizer, end_ids=[tokenizer.eos_token_id], limits=Limits(512))


def pieces(published: Encoder, prompt: str, response: str) -> tuple[list[int], list[int]]:
    tokens = encode(published, prompt, response).tokens
    return tokens.prompt.tolist(), tokens.responses[0].ids.tolist()


@pytest.mark.parametrize(("prompt", "response"), PAIRS)
def test_the_joined_ids_say_the_joined_text(published: Encoder, prompt: str, response: str) -> None:
    first, second = pieces(published, prompt, response)
    tokenizer = published.tokenizer
    assert first == tokenizer(prompt).input_ids
    assert second[-1] == tokenizer.eos_token_id
    joined = tokenizer.decode([*first, *second[:-1]], skip_special_tokens=True)
    assert joined.removeprefix(" ") == prompt + response


def test_of_a_conversation_the_words_are_learned_as_they_stand(published: Encoder) -> None:
    published.tokenizer.chat_template = CHATML.replace("<|im_end|>", published.tokenizer.eos_token)
    prompt = (Message("user", "Tell me of a cat."),)
    encoded = encode(published, prompt, "The cat sat.")
    (row,) = encoded.tokens.responses
    assert row.scored.all()
    assert published.tokenizer.decode(list(row.ids)).lstrip() == "The cat sat." + published.tokenizer.eos_token
    assert published.prompt_ids(Prompt(prompt)) == encoded.tokens.prompt.tolist()
