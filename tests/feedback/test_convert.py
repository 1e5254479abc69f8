"""Conversion loses nothing that it does not name: by laws over any examples, through files."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from support.example_strategies import examples, many

from trueup.errors import InputError
from trueup.feedback import conversion as targets
from trueup.feedback import views
from trueup.feedback.canonical import write_examples, write_rows
from trueup.feedback.conversion import NOUNS, Conversion, Target, convert, look_at
from trueup.feedback.read import read_feedback
from trueup.feedback.records import Content, Discarded, Example, Group

pytestmark = pytest.mark.slow

OWN: dict[str, tuple[Target, tuple[Callable[[Example], Any], ...]]] = {
    "pairs": (targets.PAIRS, (views.pairs,)),
    "rankings": (targets.RANKINGS, (views.rankings,)),
    "points": (targets.POINTS, (views.points, views.points_with_demonstrations)),
}


def conversions(listed: Sequence[Example], chosen: Iterable[Target]) -> Iterator[tuple[Target, Conversion]]:
    """To each of these targets, but for those of which there is nothing to write."""
    for target in chosen:
        try:
            yield target, convert(listed, target)
        except InputError:
            assert all(isinstance(target.take(one), Discarded) for one in listed)


def converted(listed: Sequence[Example], target: Target) -> Conversion:
    """The conversion; the test case is passed over where there is nothing to write."""
    made = [conversion for _, conversion in conversions(listed, [target])]
    assume(made)
    return made[0]


def read_again(folder: Path, conversion: Conversion) -> tuple[Example, ...]:
    path = folder / "out.jsonl"
    write_rows(str(path), conversion.rows)
    feedback = read_feedback([path])
    (report,) = feedback.files
    assert (report.rows, report.examples) == (len(conversion.rows),) * 2
    assert not report.unused_keys
    return feedback.examples


def groups(view: Callable[[Example], Any], listed: Iterable[Example]) -> list[Group[Any]]:
    made = [view(one) for one in listed]
    return without_origin(one for one in made if not isinstance(one, Discarded))


through_files = settings(
    max_examples=20,
    deadline=None,
    # Of many examples no ranking can be made.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much],
)
all_targets = settings(through_files, max_examples=60)  # of which not each can be converted to each


@all_targets
@given(listed=many())
def test_a_view_finds_in_the_output_what_it_found_in_the_input(tmp_path: Path, listed: list[Example]) -> None:
    kept = {target.name: kept for target, kept in OWN.values()}
    for target, conversion in conversions(listed, [target for target, _ in OWN.values()]):
        again = read_again(tmp_path, conversion)
        for view in kept[target.name]:
            assert groups(view, again) == groups(view, listed), target.name
        assert len(again) == len(listed) - conversion.account.lost("example")


@through_files
@given(listed=many())
def test_canonical_keeps_everything(tmp_path: Path, listed: list[Example]) -> None:
    conversion = convert(listed, targets.CANONICAL)
    again = read_again(tmp_path, conversion)
    assert without_origin(again) == without_origin(listed)
    assert not conversion.account.dropped and not conversion.account.made
    write_examples(tmp_path / "by_hand.jsonl", listed)
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "by_hand.jsonl").read_bytes()


def without_origin(listed: Iterable[Example]) -> list[Example]:
    return [replace(one, prompt=replace(one.prompt, origin=None)) for one in listed]


def pairs_of(listed: Iterable[Example]) -> list[tuple[Content, Content, Content]]:
    return [
        (group.prompt.content, group.responses[better], group.responses[worse])
        for group in groups(views.pairs, listed)
        for better, worse, _ in group.relation.pairs
    ]


def labels_of(
    listed: Iterable[Example], label: Callable[[float], float | None]
) -> list[tuple[Content, Content, float]]:
    return [
        (group.prompt.content, response, made)
        for group in groups(views.points, listed)
        for response, given in zip(group.responses, group.relation.labels, strict=True)
        if (made := label(given)) is not None
    ]


@through_files
@given(listed=many())
def test_trl_pairs_are_the_pairs_of_the_view(tmp_path: Path, listed: list[Example]) -> None:
    conversion = converted(listed, targets.TRL_PAIRS)
    assert pairs_of(read_again(tmp_path, conversion)) == pairs_of(listed)
    assert all(set(row) >= {"prompt", "chosen", "rejected"} for row in conversion.rows)


@pytest.mark.parametrize("threshold", [None, 0.25, 0.5, 1.0])
@through_files
@given(listed=many())
def test_trl_points_are_the_labels_made_true_or_false(
    threshold: float | None, tmp_path: Path, listed: list[Example]
) -> None:
    conversion = converted(listed, targets.trl_points_target(threshold))

    def made(label: float) -> float | None:
        if threshold is None:
            return label if label in (0.0, 1.0) else None
        return 1.0 if label >= threshold else 0.0

    assert all(row["label"] is True or row["label"] is False for row in conversion.rows)
    assert labels_of(read_again(tmp_path, conversion), lambda label: label) == labels_of(listed, made)


@through_files
@given(listed=many())
def test_trl_demonstrations_are_those_of_the_view(tmp_path: Path, listed: list[Example]) -> None:
    conversion = converted(listed, targets.trl_demonstrations_target(listed))

    def imitated(some: Iterable[Example]) -> list[tuple[Content, Content]]:
        return [(group.prompt.content, one) for group in groups(views.demonstrations, some) for one in group.responses]

    assert imitated(read_again(tmp_path, conversion)) == imitated(listed)
    keys = {"messages"} if "messages" in conversion.rows[0] else {"prompt", "completion"}
    assert all(set(row) - {"source", "tools"} == keys for row in conversion.rows)
    assert ("messages" in keys) == all(
        isinstance(group.prompt.content, tuple) for group in groups(views.demonstrations, listed)
    )


def targets_for(listed: list[Example]) -> list[Target]:
    own = [targets.CANONICAL, *(target for target, _ in OWN.values())]
    points = [targets.trl_points_target(threshold) for threshold in (None, 0.5)]
    return [*own, targets.TRL_PAIRS, *points, targets.trl_demonstrations_target(listed)]


OF_RESPONSES = {
    "score": lambda one: one.score is not None,
    "label": lambda one: one.label is not None,
    "demonstration mark": lambda one: one.demonstration,
    "source": lambda one: one.source is not None,
    "list of token ids": lambda one: one.tokens is not None,
}


def stated(example: Iterable[Example]) -> Counter[str]:
    """What examples to one prompt say, each response counted once however many of them it stands in."""
    listed = list(example)
    found: Counter[str] = Counter()
    responses = [one for example in listed for one in example.responses]
    found["response"] = len({repr(one.content) for one in responses})
    for kind, has in OF_RESPONSES.items():
        found[kind] = len({repr(one.content) for one in responses if has(one)})
    comparisons = [one for example in listed for one in example.comparisons]
    found["comparison"] = len(comparisons)
    found["probability"] = sum(one.probability < 1 for one in comparisons)
    return found


@all_targets
@given(example=examples(distinct=True))
def test_every_part_is_in_the_output_or_counted_as_dropped(tmp_path: Path, example: Example) -> None:
    """Counted in what the reader finds in the output, not in what the conversion says of it."""
    for target, conversion in conversions([example], targets_for([example])):
        again = read_again(tmp_path, conversion)
        assert all(one.prompt.tools == example.prompt.tools for one in again)
        before, after, account = stated([example]), stated(again), conversion.account
        assert account.lost("example") == 0
        for kind in before:
            assert 0 <= account.lost(kind) <= before[kind]
            assert after[kind] == before[kind] - account.lost(kind) + account.made[kind], (target.name, kind)
        named = "\n".join(account.lines())
        for kind, noun in NOUNS.items():
            number = account.lost(kind)
            assert (f"dropped {number} {kind if number == 1 else noun}: " in named) == (number > 0)


@all_targets
@given(listed=many())
def test_examples_of_which_nothing_is_written_are_dropped_with_all_they_hold(listed: list[Example]) -> None:
    for target, conversion in conversions(listed, targets_for(listed)):
        account = conversion.account
        empty = [one for one in listed if isinstance(target.take(one), Discarded)]
        assert account.lost("example") == len(empty)
        assert account.along["response"] == sum(len(one.responses) for one in empty)
        reasons = Counter(made.reason for one in listed if isinstance(made := target.take(one), Discarded))
        assert {reason: len(at) for reason, at in account.unused.items()} == reasons


@given(example=examples())
def test_looking_finds_the_responses_that_a_view_took(example: Example) -> None:
    """Also where two responses have the same content."""
    for view in (views.pairs, views.rankings, views.points_with_demonstrations, views.demonstrations):
        looked, direct = look_at(view, example), view(example)
        if isinstance(direct, Discarded):
            assert looked == direct
            continue
        assert not isinstance(looked, Discarded)
        relation, positions = looked
        assert relation == direct.relation
        assert list(positions) == sorted(set(positions))
        assert [example.responses[at].content for at in positions] == list(direct.responses)
