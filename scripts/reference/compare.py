"""Arrays against arrays, under a tolerance that a folder's README states."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Tolerance:
    """|ours - expected| <= atol + rtol |expected|; integers and booleans are equal."""

    rtol: float
    atol: float


@dataclass
class Result:
    """What came of one case."""

    name: str
    failures: list[str] = field(default_factory=list)
    deviations: list[int] = field(default_factory=list)
    outside: str | None = None

    @property
    def passed(self) -> bool:
        return not self.failures and self.outside is None

    def fail(self, array: str, why: str) -> None:
        self.failures.append(f"{array}: {why}")


def difference(ours: np.ndarray | None, expected: np.ndarray, tolerance: Tolerance) -> str | None:
    """None where the two agree, else in what they differ. Where `expected` is NaN ours need only be finite."""
    if ours is None:
        return "missing"
    if ours.shape != expected.shape:
        return f"shape {list(ours.shape)}, expected {list(expected.shape)}"
    if not np.issubdtype(expected.dtype, np.floating):
        wrong = int((ours != expected).sum())
        if not wrong:
            return None
        largest = np.abs(ours.astype(np.int64) - expected.astype(np.int64)).max()
        return f"{wrong} of {expected.size} entries differ, largest difference {largest}"
    if not np.isfinite(ours).all():
        return f"{int((~np.isfinite(ours)).sum())} entries are not finite"
    known = np.isfinite(expected)
    gap = np.abs(ours[known].astype(np.float64) - expected[known].astype(np.float64))
    bound = tolerance.atol + tolerance.rtol * np.abs(expected[known].astype(np.float64))
    if (gap <= bound).all():
        return None
    return f"largest difference {gap.max():.3g}, {int((gap > bound).sum())} of {expected.size} entries beyond tolerance"
