"""Every stretch of a stratified order holds its share of every stratum."""

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from trueup.sources.source import order, stratified

strata_of_some = st.lists(st.sampled_from("abc"), min_size=1, max_size=60)


@given(strata_of_some, st.integers(0, 5))
def test_it_is_a_permutation_that_keeps_the_order_within_a_stratum(strata: list[str], seed: int) -> None:
    places = order(seed, 0, len(strata))
    dealt = stratified(places, strata)
    assert sorted(dealt) == list(range(len(strata)))
    for stratum in "abc":
        assert [at for at in dealt if strata[at] == stratum] == [at for at in places if strata[at] == stratum]


@given(strata_of_some, st.integers(1, 20), st.integers(0, 5))
def test_every_stretch_holds_its_share_to_within_two(strata: list[str], length: int, seed: int) -> None:
    dealt = [strata[at] for at in stratified(order(seed, 0, len(strata)), strata)]
    share = {stratum: count / len(strata) for stratum, count in Counter(strata).items()}
    for start in range(max(1, len(dealt) - length + 1)):
        stretch = dealt[start : start + length]
        for stratum, part in share.items():
            # One for the stretch's beginning inside a step of the stratum, one for its end.
            assert abs(stretch.count(stratum) - part * len(stretch)) <= 2


def test_sorted_labels_are_mixed_in_every_batch() -> None:
    """300 of one kind and then 100 of another: every batch of 8 holds 6 and 2."""
    strata = ["good"] * 300 + ["bad"] * 100
    dealt = [strata[at] for at in stratified(order(0, 0, 400), strata)]
    assert all(dealt[start : start + 8].count("bad") == 2 for start in range(0, 400, 8))


def test_the_order_of_the_input_only_renames_places() -> None:
    """What is drawn depends on how many there are of each kind, not on where they stand."""
    strata = ["good"] * 30 + ["bad"] * 10
    mixed = random.Random(0).sample(strata, len(strata))
    for given_strata in (strata, mixed):
        dealt = [given_strata[at] for at in stratified(order(0, 0, 40), given_strata)]
        assert all(dealt[start : start + 4].count("bad") == 1 for start in range(0, 40, 4))


def test_by_hand() -> None:
    """The one of another kind stands in the middle, at half of the pass, after the second of three."""
    assert stratified((0, 1, 2, 3), "aaab") == (0, 1, 3, 2)
