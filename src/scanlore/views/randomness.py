"""Random generators keyed by what they are for, so that no state needs to be kept."""

from __future__ import annotations

import hashlib

import numpy as np


def keyed_generator(*key: object) -> np.random.Generator:
    """Return a generator that depends on nothing but `key`.

    Args:
        key: e.g. `(run seed, visit number, scan id, view name)`.
    """
    digest = hashlib.blake2b(repr(key).encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=np.frombuffer(digest, dtype=np.uint64)))


def keyed_seed(*key: object) -> int:
    """Return a 63-bit seed that depends on nothing but `key`, for torch generators."""
    return int.from_bytes(hashlib.blake2b(repr(key).encode(), digest_size=8).digest(), "little") >> 1


def factor_around_one(rng: np.random.Generator, bounds: tuple[float, float]) -> float:
    """Draw a factor: below and above 1 equally often where the bounds leave the choice, uniformly on either side.

    This is how nnU-Net draws scales, contrasts and exponents.

    Args:
        rng: Source of randomness.
        bounds: Smallest and largest factor.
    """
    low, high = bounds
    if low < 1 < high:
        low, high = (low, 1.0) if rng.random() < 0.5 else (1.0, high)
    return float(rng.uniform(low, high))
