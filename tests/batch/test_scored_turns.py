"""All turns of a conversation in the loss: which tokens are scored, and that they are the tokens of separate turns."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from support.encoding import IM_END, decode, encode_group, encoder
from support.tiny_models import CHATML, naive_log_probs, toy_network
from transformers import AutoTokenizer

from trueup.batch.encode import Encoder, Limits
from trueup.batch.stream import build_stream
from trueup.feedback.records import Comparison, Example, Group, Message, PairRelation, Prompt, Response
from trueup.feedback.turns import every_turn
from trueup.feedback.views import pairs
from trueup.models.causal import CausalModel

SYSTEM, ASK, AGAIN = Message("system", "Be brief."), Message("user", "Why?"), Message("user", "\n And?")
SO, NO, YES = (Message("assistant", said) for said in ("So.", "No!", "Yes."))
TALK = (SYSTEM, ASK, SO, AGAIN, YES, ASK)
THINK = CHATML.replace("{{ m.content }}", "{% if m.role == 'assistant' %}<t>\n\n</t>{% endif %}{{ m.content }}")


def pair(*prompt: Message) -> Example:
    return Example(Prompt(prompt), (Response((NO,)), Response((YES,))), (Comparison(0, 1),))


def viewed(example: Example) -> Group[PairRelation]:
    group = pairs(example)
    assert isinstance(group, Group)
    return group


def separate_turns(example: Example) -> Iterator[Group[None]]:
    """Each turn of the assistant as the response to all that stands before it: the first response's conversation."""
    turns = (*example.prompt.content, *example.responses[0].content)
    for place, turn in enumerate(turns):
        if isinstance(turn, Message) and turn.role == "assistant":
            yield Group(Prompt(turns[:place]), ((turn,),), None)  # type: ignore[arg-type]


def test_every_turn_of_the_assistant_is_scored_with_its_end_and_nothing_else() -> None:
    e = encoder(CHATML)
    tokens = encode_group(e, viewed(every_turn(pair(*TALK)))).tokens
    assert decode(e, tokens.prompt) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n"
    )
    for row, last in zip(tokens.responses, ("No!", "Yes."), strict=True):
        assert decode(e, row.ids[row.scored]) == f"So.<|im_end|>Yes.<|im_end|>{last}<|im_end|>"
        assert decode(e, row.ids[~row.scored]) == (
            "\n<|im_start|>user\n\n And?<|im_end|>\n<|im_start|>assistant\n"
            "\n<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n"
        )
        assert (row.ids[row.scored] == IM_END).sum() == 3


@pytest.mark.parametrize(
    "key", [{"loss": False}, {"disable_loss": True}, {"train": False}, {"training": False}, {"weight": False}]
)
def test_a_turn_that_is_switched_off_is_read_but_not_learned(key: dict[str, bool]) -> None:
    e = encoder(THINK)
    silent = Message("assistant", "So.", key)
    (row, _) = encode_group(e, viewed(every_turn(pair(ASK, silent, AGAIN, YES, ASK)))).tokens.responses
    assert decode(e, row.ids).startswith("<t>\n\n</t>So.<|im_end|>\n<|im_start|>user")
    assert decode(e, row.ids[row.scored]) == "<t>\n\n</t>Yes.<|im_end|><t>\n\n</t>No!<|im_end|>"
    loud = Message("assistant", "So.", {name: not value for name, value in key.items()})
    (row, _) = encode_group(e, viewed(every_turn(pair(ASK, loud, AGAIN)))).tokens.responses
    assert "So.<|im_end|>" in decode(e, row.ids[row.scored])


def test_what_a_template_opens_an_answer_with_is_learned_in_every_turn() -> None:
    e = encoder(THINK)
    (row, _) = encode_group(e, viewed(every_turn(pair(ASK, SO, AGAIN)))).tokens.responses
    assert decode(e, row.ids[row.scored]) == "<t>\n\n</t>So.<|im_end|><t>\n\n</t>No!<|im_end|>"


@pytest.mark.parametrize("template", [CHATML, THINK])
def test_the_sum_of_all_turns_is_that_of_separate_conversations(template: str) -> None:
    """The same tokens are predicted from the same tokens, in one forward pass or in one for each turn."""
    e, network = encoder(template), toy_network(vocab_size=128)
    example = pair(*TALK)
    whole = encode_group(e, viewed(every_turn(example))).tokens
    alone = [encode_group(e, group).tokens for group in separate_turns(example)]
    assert len(alone) == 3
    model = CausalModel(network)
    with torch.no_grad():
        found = model.log_probs(build_stream([whole])).sum[0]
        expected = naive_log_probs(toy_network(vocab_size=128), alone).sum()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)


def test_both_sides_cut_before_they_differ_are_noted() -> None:
    length = len(encode_group(encoder(CHATML), viewed(pair(*TALK))).tokens.prompt)
    encoded = encode_group(encoder(CHATML, max_length=length), viewed(every_turn(pair(*TALK))))
    one, other = encoded.tokens.responses
    assert one.ids.tolist() == other.ids.tolist()
    assert any("differ only beyond max_length" in note for note in encoded.notes)
    assert not encode_group(encoder(CHATML, max_length=length + 1), viewed(every_turn(pair(*TALK)))).notes
    assert not encode_group(
        encoder(CHATML, max_length=length), viewed(Example(Prompt((ASK,)), pair().responses, pair().comparisons))
    ).notes


@pytest.mark.parametrize("name", ["tinystories-656k-bf16", "stories260K"])
def test_real_tokenizers_see_the_turns_in_between_as_at_inference(name: str, shared: Callable[[str], Path]) -> None:
    """The joined ids are those of the prompt of the last turn, although earlier turns are encoded apart."""
    tokenizer = AutoTokenizer.from_pretrained(shared(f"models/{name}"))
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    # Its heading ends with a space, which the tokenizers take together with the word that follows.
    tokenizer.chat_template = CHATML.replace("{{ m.role }}\n", "{{ m.role }} says ").replace(
        "assistant\n", "assistant says "
    )
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    e = Encoder(tokenizer, end_ids=(end,), limits=Limits(1000))
    story, more = Message("user", "Once upon a time\n\nthere"), Message("user", "and the cat?")
    example = Example(Prompt((story, SO, more, YES, story)), (Response((NO,)),))
    whole = encode_group(e, Group(Prompt((story,)), (every_turn(example).responses[0].content,), None)).tokens
    (row,) = whole.responses
    last = encode_group(e, Group(example.prompt, ((NO,),), None)).tokens
    ids = np.concatenate([whole.prompt, row.ids]).tolist()
    between = [[]]
    for token, learned in zip(row.ids.tolist(), row.scored.tolist(), strict=True):
        if not learned:
            between[-1].append(token)
        elif between[-1]:
            between.append([])
    asked = last.prompt.tolist()
    starts = [place + 1 for place, token in enumerate(asked) if token == end]
    # After the end of an answer: up to the next one's first word.
    expected = [asked[starts[1] : starts[2]], asked[starts[3] : starts[4]]]
    assert e.pieces.raw(" says and", literal=False) != [
        *e.pieces.raw(" says ", literal=False),
        *e.pieces.raw("and", literal=False),
    ]
    assert [one[: len(two)] for one, two in zip(between, expected, strict=False)] == expected
    assert tokenizer.decode(ids) == tokenizer.decode([*asked, *last.responses[0].ids.tolist()])
