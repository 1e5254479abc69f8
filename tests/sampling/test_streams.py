"""Random numbers belong to a response: they depend on its key alone."""

from itertools import chain

import numpy as np

from trueup.sampling.sampler import another_seed, response_keys, uniforms


def test_numbers_are_uniform_and_a_function_of_the_key() -> None:
    numbers = uniforms(b"a", 4000)
    assert np.array_equal(uniforms(b"a", 4000), numbers)
    assert np.array_equal(uniforms(b"a", 17), numbers[:17])
    assert numbers.min() >= 0 and numbers.max() < 1
    counts, _ = np.histogram(numbers, bins=10, range=(0, 1))
    assert ((counts - 400) ** 2 / 400).sum() < 27.9  # chi squared of 9 degrees, p = 0.001
    other = uniforms(b"b", 4000)
    assert abs(np.corrcoef(numbers, other)[0, 1]) < 4 / np.sqrt(4000)


def test_pinned() -> None:
    """A seed draws the same for ever: these are what the key `5:0:` and tokens 7 and 8 have had since the beginning."""
    (key,) = response_keys(5, [[7, 8]], 1)[0]
    assert uniforms(key, 3).tolist() == PINNED


PINNED = [0.535951783406739, 0.4536678436209126, 0.6178045361846759]


def test_keys_are_all_different_and_do_not_depend_on_the_order() -> None:
    prompts = [[7, 8], [7], [8, 7], [7, 8, 0]]
    found = response_keys(5, prompts, 3)
    assert len(set(chain(*found))) == 12
    assert response_keys(5, prompts[::-1], 3) == found[::-1]
    assert response_keys(5, prompts[1:2], 2) == [found[1][:2]]
    assert not set(chain(*found)) & set(chain(*response_keys(6, prompts, 3)))


def test_a_prompt_that_comes_again_has_further_responses() -> None:
    first, again = response_keys(5, [[7], [7]], 2)
    assert [first + again] == response_keys(5, [[7]], 4)


def test_another_seed() -> None:
    seeds = {another_seed(seed, number) for seed in (-1, 0, 1, 2**70) for number in range(3)}
    assert len(seeds) == 12
    assert all(0 <= seed < 2**63 for seed in seeds)
