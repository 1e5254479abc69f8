"""Tokens that are kept are those that the encoder makes, and belong to that encoder alone."""

import inspect
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from support.encoding import ASK, TURNS
from support.tiny_models import CHATML, EOS, char_tokenizer

from trueup.batch import tokenizing
from trueup.batch.encode import EncodedGroup, Encoder, Limits
from trueup.batch.tokenizing import TokenCache, encoder_identity
from trueup.errors import InputError
from trueup.feedback.condition import Condition
from trueup.feedback.records import Discarded, Group, Message, Origin, PairRelation, Prompt

GROUP = Group(Prompt("Why?", origin=Origin("a", 1)), (" So.", " No."), PairRelation(((0, 1, 1.0),)))
CHAT = Group(Prompt(ASK), (TURNS, (Message("assistant", "No."),)), PairRelation(((1, 0, 1.0),)))


DATED = CHATML + "{# strftime_now #}"


def encoder(template: str | None = DATED, **more: Any) -> Encoder:
    given = {"end_ids": (EOS,), "limits": Limits(12), "date": "2026-01-02", **more}
    return Encoder(char_tokenizer(chat_template=template), **given)


def same(one: Any, other: Any) -> bool:
    assert isinstance(one, EncodedGroup)
    assert isinstance(other, EncodedGroup)

    def about(made: EncodedGroup) -> list[Any]:
        tokens, dtypes = made.tokens, {row.ids.dtype for row in made.tokens.responses}
        said = [made.prompt_cut, made.responses_cut, made.notes]
        return [tokens.key, tokens.relation, tokens.origin, dtypes, *said]

    return about(one) == about(other)


class Broken(Encoder):
    """One that must not be asked."""

    def encode(self, group: Group[Any]) -> Any:
        raise AssertionError("encoded again")


@pytest.mark.parametrize("group", [GROUP, CHAT], ids=["raw", "chat"])
def test_what_was_encoded_is_not_encoded_again(group: Group[Any], tmp_path: Path) -> None:
    made = encoder(limits=Limits(40))
    cache = TokenCache(made, tmp_path / "tokens")
    first = cache.encode(group)
    assert same(first, made.encode(group))
    made.__class__ = Broken
    assert same(cache.encode(group), first)
    cache.flush()
    assert same(TokenCache(made, tmp_path / "tokens").encode(group), first)


def test_why_a_group_is_left_out_is_kept_without_its_place(tmp_path: Path) -> None:
    made = encoder(limits=Limits(3))
    cache = TokenCache(made, tmp_path / "tokens")
    cache.encode(GROUP)
    made.__class__ = Broken
    other = Group(Prompt("Why?", origin=Origin("b", 7)), GROUP.responses, None)
    assert cache.encode(other) == Discarded("prompt as long as max_length, 3 tokens", Origin("b", 7))


def test_what_is_refused_is_refused_again(tmp_path: Path) -> None:
    cache = TokenCache(encoder(None), tmp_path / "tokens")
    for _ in range(2):
        with pytest.raises(InputError, match="no chat template"):
            cache.encode(CHAT)


CHANGED = {
    "tokenizer": lambda: encoder(DATED + " "), "end_ids": lambda: encoder(end_ids=(EOS, 5)),
    "limits": lambda: encoder(limits=Limits(13)),
    "condition": lambda: encoder(condition=Condition(" {reward} ", 1, "end", reward=2.3)),
    "date": lambda: encoder(date="2026-01-03"), "opening": lambda: encoder(opening="conversation"),
    "rows": lambda: encoder(rows=1000),
}  # fmt: skip
HARMLESS = {"raw_meant"}


@pytest.mark.parametrize("changed", CHANGED)
def test_each_thing_that_decides_tokens_makes_another_key(changed: str) -> None:
    assert encoder_identity(encoder()) == encoder_identity(encoder())
    assert encoder_identity(CHANGED[changed]()) != encoder_identity(encoder())


def test_the_day_counts_only_where_the_template_writes_it() -> None:
    """Tokens of most models are of use tomorrow, too."""
    days = [encoder_identity(encoder(CHATML, date=day)) for day in ("2026-01-02", "2026-01-03")]
    assert days[0] == days[1]


def test_everything_an_encoder_is_given_is_looked_at() -> None:
    assert {*CHANGED, *HARMLESS} == {*inspect.signature(Encoder).parameters}


def test_a_record_that_was_changed_on_the_disk_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    cache = TokenCache(encoder(limits=Limits(40)), path)
    first = cache.encode(GROUP)
    cache.flush()
    with sqlite3.connect(path) as database:
        database.execute("UPDATE tokens_2 SET answer = replace(answer, '1', '2')")
    database.close()
    assert same(TokenCache(encoder(limits=Limits(40)), path).encode(GROUP), first)


def test_the_oldest_are_deleted_beyond_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizing, "MOST_KEPT", 2**18)
    cache = TokenCache(encoder(limits=Limits(40)), tmp_path / "tokens")
    groups = [Group(Prompt(f"{number}?"), GROUP.responses, None) for number in range(3000)]
    for group in groups:
        cache.encode(group)
    cache.flush()
    assert (tmp_path / "tokens").stat().st_size < 1.5 * 2**18
    cache.encoder.__class__ = Broken
    cache.encode(groups[-1])
    with pytest.raises(AssertionError, match="encoded again"):
        cache.encode(groups[0])
