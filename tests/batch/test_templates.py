"""Every chat template that TRL ships with many conversations: exact to the token, or refused with a true reason."""

import pytest
from support.chat_oracle import IN_PARTS, Expected, expected, outcome, speaks, templates, tokenizer_for, variants
from support.conversations import ADD, conversations
from transformers.utils.chat_template_utils import render_jinja_template

NEXT = (
    *("<|start|>assistant", "<\uff5ctool\u2581outputs\u2581end\uff5c>", "<|user|>", "<|observation|>"),
    *("<|tool_response>", "<|end|>"),
)
"""What TRL's templates mark beside what the assistant says: headings of the next turn, and a second end."""


@pytest.mark.parametrize("name", templates())
def test_what_is_learned_is_what_the_template_writes(name: str) -> None:
    """The templates for training stand for base models, the others for their own."""
    tokenizer, ends = list(variants(name))[name.endswith("_training")]
    found = {kind: outcome(tokenizer, name, kind, ends) for kind in conversations("", "")}
    assert not {kind: why for kind, (what, why) in found.items() if what == "wrong"}


@pytest.mark.parametrize("name", [name for name in templates() if name.endswith("_training")])
def test_the_marks_of_templates_agree_with_what_the_others_are_compared_with(name: str) -> None:
    """`{% generation %}` tells what the assistant says; white space is marked or not as each template likes.
    One turn is looked at: in several, they mark what the model is asked with again."""
    end = speaks(name)[1]
    tokenizer = tokenizer_for(name, end)
    for kind, (prompt, response, tooled) in conversations("", end).items():
        if len(response) > 1 or name.startswith(IN_PARTS):
            continue
        wanted = expected(tokenizer, name, prompt, response, [ADD] if tooled else [], [end])
        if end in str(prompt) + str(response) or not (isinstance(wanted, Expected) and wanted.consistent):
            continue
        (text,), (marked,) = render_jinja_template(
            [[*prompt, *response]], tools=[ADD] if tooled else None, chat_template=tokenizer.chat_template,
            return_assistant_tokens_mask=True, **tokenizer.special_tokens_map,
        )  # fmt: skip
        assert text == wanted.text
        spans = [(max(start, len(wanted.prompt)), stop) for start, stop in marked if stop > len(wanted.prompt)]
        theirs, ours = ("".join(text[start:stop] for start, stop in some) for some in (spans, wanted.spoken))
        for heading in NEXT:
            theirs, ours = theirs.replace(heading, ""), ours.replace(heading, "")
        assert "".join(theirs.split()) == "".join(ours.split()), kind
