"""Random numbers that are the same on every machine, for datasets that are made from a seed."""

from __future__ import annotations

from typing import Any

import numpy as np

from poolbench.errors import PoolBenchError

Array = np.ndarray[Any, np.dtype[Any]]


class Stream:
    """Numbers from the raw output of PCG64, which NumPy guarantees for all versions.

    No function of the mathematics library is used: a logarithm or cosine differs in its last bit from one machine to
    the next.
    """

    def __init__(self, seed: int) -> None:
        self.bits = np.random.PCG64(seed)

    def uniform(self, n: int) -> Array:
        """[n] float64 in [0, 1)."""
        return (self.bits.random_raw(n) >> np.uint64(11)) * 2.0**-53

    def below(self, limit: int | Array, n: int) -> Array:
        """[n] int64, uniform in 0 .. limit - 1; `limit` is a number or one for each. Limits are far below 2^53."""
        return (self.uniform(n) * limit).astype(np.int64)

    def bell(self, n: int) -> Array:
        """[n] float64, mean 0 and variance 1: the sum of twelve uniform numbers (Irwin-Hall), near to normal."""
        whole = (self.bits.random_raw(12 * n) >> np.uint64(11)).reshape(12, n).sum(axis=0)  # exact, in any order
        return whole * 2.0**-53 - 6.0

    def permutation(self, n: int) -> Array:
        return np.argsort(self.bits.random_raw(n), kind="stable")


def whole(dataset: str, key: str, value: Any, least: int) -> int:
    """`value`, where it is a whole number of at least `least`; else one line that names `dataset` and `key`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise PoolBenchError(f"{dataset}: {key}={value!r} must be a whole number, {least} or more")
    return value


def generated(name: str, version: int, seed: int) -> dict[str, Any]:
    """The provenance of a dataset that was made from `seed`."""
    return {"kind": "generated", "where": f"poolbench {name} {version}, seed {seed}", "sha256": None}
