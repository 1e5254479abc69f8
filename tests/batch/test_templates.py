"""Every chat template that TRL ships with many conversations: exact to the token, or refused with a true reason."""

import pytest
from support.chat_oracle import outcome, templates, variants
from support.conversations import conversations


@pytest.mark.parametrize("name", templates())
def test_what_is_learned_is_what_the_template_writes(name: str) -> None:
    """The templates for training stand for base models, the others for their own."""
    tokenizer, ends = list(variants(name))[name.endswith("_training")]
    found = {kind: outcome(tokenizer, name, kind, ends) for kind in conversations("", "")}
    assert not {kind: why for kind, (what, why) in found.items() if what == "wrong"}
