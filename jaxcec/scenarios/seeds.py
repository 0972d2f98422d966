"""Random streams, and the split of data into training and test.

Each bank has a random stream that is named by seed, split and purpose. Changing the number of topologies therefore does
not change the DAGs, and the streams of training and test are independent by construction (`numpy.random.SeedSequence`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

SPLITS = ("train", "test")
PURPOSES = ("topology", "dags", "arrivals", "background")
_TEST_SHARE = 0.2
_FEWEST = 5  # different contents that are divided into two splits


def check_choice(field: str, value: str, allowed: tuple[str, ...]) -> None:
    """Raise ValueError unless `value` is one of `allowed`."""
    if value not in allowed:
        raise ValueError(f"{field}: got {value!r}; must be one of {', '.join(allowed)}")


def split_rng(seed: int, split: str, purpose: str) -> np.random.Generator:
    """Return the random generator of one split and purpose.

    Args:
        seed: seed of the whole scenario, not negative.
        split: one of `SPLITS`.
        purpose: one of `PURPOSES`.

    Raises:
        ValueError: a negative seed, an unknown split or an unknown purpose.
    """
    if seed < 0:
        raise ValueError(f"seed: got {seed}; must be at least 0")
    check_choice("split", split, SPLITS)
    check_choice("purpose", purpose, PURPOSES)
    key = (SPLITS.index(split), PURPOSES.index(purpose))
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def hash_split(content: bytes) -> str:
    """Return the split of some content: `test` for a fifth of all hashes, `train` for the others.

    The split depends neither on the seed, nor on the platform, nor on the rest of the data. Equal contents share a
    split, so no duplicate crosses from training to test.
    """
    digest = hashlib.blake2b(content, digest_size=8).digest()
    return "test" if int.from_bytes(digest, "little") < _TEST_SHARE * 2**64 else "train"


def few_split(digests: Sequence[bytes], split: str) -> list[int]:
    """Return which of a few contents belong to a split, in order: for `test` the fifth of lowest hash, at least one.

    Unlike under `hash_split`, no split is empty. Equal contents share a split. Below five different contents both
    splits have all of them: see `is_shared`.

    Args:
        digests: hash of each content.
        split: one of `SPLITS`.

    Raises:
        ValueError: an unknown split.
    """
    check_choice("split", split, SPLITS)
    distinct = sorted(set(digests))
    test = set(distinct[: round(_TEST_SHARE * len(distinct))])
    return [i for i, x in enumerate(digests) if is_shared(digests) or (x in test) == (split == "test")]


def is_shared(digests: Sequence[bytes]) -> bool:
    """Whether there are too few different contents for two splits, so that `few_split` gives both all of them."""
    return len(set(digests)) < _FEWEST
