"""Random streams and the split into training and test data.

Every bank is drawn from a stream of its own, named by seed, split and purpose: changing the number of topologies does
not change the DAGs, and training and test streams are independent by construction (`numpy.random.SeedSequence`).
"""

from __future__ import annotations

import hashlib

import numpy as np

SPLITS = ("train", "test")
PURPOSES = ("topology", "dags", "arrivals", "background")


def check_choice(field: str, value: str, allowed: tuple[str, ...]) -> None:
    """Raise ValueError unless `value` is one of `allowed`."""
    if value not in allowed:
        raise ValueError(f"{field}: got {value!r}; must be one of {', '.join(allowed)}")


def split_rng(seed: int, split: str, purpose: str) -> np.random.Generator:
    """Return the random generator of one split and purpose.

    Args:
        seed: non-negative integer, the seed of the whole scenario.
        split: one of `SPLITS`.
        purpose: one of `PURPOSES`.

    Raises:
        ValueError: for a negative seed, an unknown split or an unknown purpose.
    """
    if seed < 0:
        raise ValueError(f"seed: got {seed}; must be at least 0")
    check_choice("split", split, SPLITS)
    check_choice("purpose", purpose, PURPOSES)
    key = (SPLITS.index(split), PURPOSES.index(purpose))
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def hash_split(content: bytes, test_share: float = 0.2) -> str:
    """Return the split that `content` belongs to, whatever the seed, the platform and the rest of the data.

    Equal contents always share a split, so a duplicate never crosses from training to test.
    """
    digest = hashlib.blake2b(content, digest_size=8).digest()
    return "test" if int.from_bytes(digest, "little") < test_share * 2**64 else "train"
