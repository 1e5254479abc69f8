"""A condition that a tokenizer cannot express is refused before anything is trained with it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.refusals import refused
from support.tiny_models import char_tokenizer
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from trueup.batch.encode import check_condition, unknown_words
from trueup.errors import InputError
from trueup.feedback.condition import Condition
from trueup.feedback.records import Prompt
from trueup.world.model import make_tokenizer

WORLD = make_tokenizer()


def condition_of(text: str, decimals: int = 1, reward: float = 1.0, lowest: float = -3.0) -> Condition:
    return Condition(text, decimals, "end", reward, highest=2.0, lowest=lowest)


def test_the_world_knows_the_words_that_were_made_for_it() -> None:
    check_condition(condition_of(" score {reward}"), WORLD)
    check_condition(condition_of(" score {reward}", reward=5.0, lowest=-5.0), WORLD)


@pytest.mark.parametrize(
    ("condition", "words", "shown"),
    [
        (condition_of(" <rm_score>: {reward} "), "'<rm_score>:'", "' <rm_score>: 1.0 '"),
        (condition_of(" score {reward}", decimals=0), "'1'", "' score 1'"),
        (condition_of(" score {reward}", decimals=2), "'1.00'", "' score 1.00'"),
        (condition_of(" score {reward}", reward=5.1), "'5.1'", "' score 5.1'"),
        (condition_of(" score {reward}", lowest=-5.12), "'-5.1'", "' score -5.1'"),
        (condition_of(" good[{reward}] "), "'good[1.0]'", "' good[1.0] '"),
    ],
)
def test_words_it_has_only_its_unknown_token_for_are_refused(condition: Condition, words: str, shown: str) -> None:
    with pytest.raises(InputError) as caught:
        check_condition(condition, WORLD)
    assert str(caught.value).startswith(
        f"the tokenizer has only its unknown token for {words} in the condition {shown}. Write the reward"
    )


def test_every_number_between_the_lowest_and_the_highest_is_tried() -> None:
    """One number in the middle that the tokenizer lacks is found."""
    words = ["<unk>", "score", *(f"{tenths / 10:.1f}" for tenths in range(-30, 21) if tenths != 7)]
    backend = Tokenizer(models.WordLevel({word: at for at, word in enumerate(words)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>")
    with pytest.raises(InputError, match=r"for '0\.7' in the condition ' score 0\.7'"):
        check_condition(condition_of(" score {reward}"), tokenizer)


def test_a_tokenizer_that_drops_numbers_is_refused() -> None:
    backend = Tokenizer(models.BPE({"<unk>": 0, "s": 1}, merges=[], unk_token="<unk>"))
    backend.normalizer = normalizers.Replace(Regex("[^s]"), "")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>")
    with pytest.raises(InputError, match=r"the same tokens of the conditions 's 1\.0' and 's -3\.0'"):
        check_condition(condition_of("s {reward}"), tokenizer)


@pytest.mark.parametrize("model", ["tinystories-656k-bf16", "stories260K"])
def test_published_tokenizers_know_the_usual_condition(model: str, shared: Callable[[str], Path]) -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(shared(f"models/{model}"))
    check_condition(condition_of(" <rm_score>: {reward} ", decimals=2), tokenizer)
    check_condition(condition_of(" [{reward}]"), tokenizer)


def test_a_text_that_spells_the_unknown_token_is_no_unknown_word() -> None:
    assert unknown_words("<unk> 1.0", WORLD) == []
    assert unknown_words("list three 7.3", WORLD) == ["7.3"]
    tokenizer = char_tokenizer(adds_space=True)
    assert unknown_words(" <rm_score>: -1.25\n", tokenizer) == []
    tokenizer.unk_token = None
    assert unknown_words("\u00e9", tokenizer) == []


@pytest.mark.parametrize(
    ("text", "position", "side"),
    [("score {reward}", "end", "before"), (" score {reward}", "start", "after"), ("{reward} score", "end", "before")],
)
def test_words_that_are_glued_to_the_prompt_are_refused(text: str, position: str, side: str) -> None:
    """`.score` and `1.0name` are unknown words."""
    condition = Condition(text, 1, position, 1.0, highest=2.0, lowest=-3.0)
    check_condition(condition, WORLD)
    with refused(f"glued to the word beside it. Put a space {side} it in --condition"):
        check_condition(condition, WORLD, [Prompt("name two colours .")])
    apart = Condition(f" {text.strip()} ", 1, position, 1.0, highest=2.0, lowest=-3.0)
    check_condition(apart, WORLD, [Prompt("name two colours ."), Prompt("sort plum and fig .")])


def test_unknown_words_of_the_prompt_itself_do_no_harm() -> None:
    check_condition(condition_of(" score {reward}"), WORLD, [Prompt("name two gadgets .")])
