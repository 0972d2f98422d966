"""Random streams and splits."""

import itertools

import pytest

from jaxcec.scenarios.seeds import PURPOSES, SPLITS, hash_split, split_rng


def test_streams_differ_by_seed_split_and_purpose():
    draws = {
        split_rng(seed, split, purpose).random() for seed, split, purpose in itertools.product((0, 1), SPLITS, PURPOSES)
    }
    assert len(draws) == 2 * len(SPLITS) * len(PURPOSES)


def test_equal_arguments_give_equal_streams():
    assert split_rng(3, "test", "dags").random() == split_rng(3, "test", "dags").random()


def test_the_split_by_hash_is_stable_and_gives_one_fifth_to_testing():
    splits = [hash_split(str(i).encode()) for i in range(10_000)]
    assert splits[:6] == [hash_split(str(i).encode()) for i in range(6)]
    assert splits.count("test") / len(splits) == pytest.approx(0.2, abs=0.015)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((-1, "train", "dags"), "seed: got -1; must be at least 0"),
        ((0, "validation", "dags"), "split: got 'validation'; must be one of train, test"),
        ((0, "train", "dag"), "purpose: got 'dag'; must be one of topology, dags, arrivals, background"),
    ],
)
def test_impossible_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        split_rng(*arguments)
