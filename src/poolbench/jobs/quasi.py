"""Points of a search that are spread evenly and learn nothing from one another: a scrambled Halton sequence.

Why Halton: a search has few trials, say six, and Sobol's points are balanced for powers of two alone. Halton's
coordinates count in bases 2, 3, 5, ...: six points have one in each of the 2 x 3 boxes of the first two keys, and in
the third key one in each fifth but one, which has two. A longer search begins with the points of a shorter one.

J. H. Halton, "On the efficiency of certain quasi-random sequences of points in evaluating multi-dimensional integrals",
Numerische Mathematik 2, 1960; scrambled by a permutation of the digits at each place, as in A. B. Owen, "A randomized
Halton algorithm in R", 2017, arXiv 1706.02808. SciPy has both, and draws the permutations by NumPy's generators, which
may draw otherwise in another version: a search that is continued would then be two. Here they are drawn by hashing.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from poolbench.splitmix import mix

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

BITS = 40
"""What the digits of a coordinate come to; values are rounded to fewer."""


def point(space: Mapping[str, BaseDistribution], number: int, seed: int) -> dict[str, Any]:
    """The values of a space's keys in point `number` (0, 1, ...) of the sequence that `seed` scrambles."""
    units = (unit(number, base, seed) for base in _primes())
    return {key: _value(said, u) for (key, said), u in zip(space.items(), units, strict=False)}


def unit(number: int, base: int, seed: int) -> float:
    """One coordinate, in [0, 1): the digits of `number` in `base`, the last in front, each permuted by its place."""
    found = 0.0
    for place in range(math.ceil(BITS / math.log2(base))):
        number, digit = divmod(number, base)
        draws = [mix(seed, base, place, each) for each in range(base)]
        found += sorted(range(base), key=draws.__getitem__)[digit] / base ** (place + 1)
    return found


def _primes() -> Iterator[int]:
    return (n for n in itertools.count(2) if all(n % d for d in range(2, math.isqrt(n) + 1)))


def _value(said: BaseDistribution, u: float) -> Any:
    """What stands at `u` of the way through a dimension, each of its values, or of their logarithms, alike."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(said, CategoricalDistribution):
        return said.choices[int(u * len(said.choices))]
    assert isinstance(said, FloatDistribution | IntDistribution)
    low, high, step = said.low, said.high, said.step
    if isinstance(said, IntDistribution) and said.log:
        return min(int(low * ((high + 1) / low) ** u), high)
    if step is not None:
        return min(low + step * int(u * (round((high - low) / step) + 1)), high)
    # A power's last bits hang on the machine, and so would the identity of a run: four digits do not.
    return min(max(float(f"{low * (high / low) ** u if said.log else low + u * (high - low):.4g}"), low), high)
