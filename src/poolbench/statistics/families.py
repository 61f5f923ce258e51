"""Several operators against the same one on a dataset: what is said of each, by whichever observations.

`graphs.against` says it by the answers to single graphs, `runs.against` by the scores of whole runs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

ENOUGH = 5
"""Fewer trainings than this say nothing of their spread: no interval is given."""


@dataclass(frozen=True)
class Difference:
    """The mean of a - b with what is known of it; None where that takes more trainings (`ENOUGH`), or all are equal.

    graphs: how many; None where whole runs are compared, and observations are as many as trainings then (units: splits,
    draws, or seeds). error: standard error. low, high: its interval alone. joint_low, joint_high: intervals that hold
    for all operators of the family at once. new_low, new_high: of one more training of both, on another training set;
    by graphs alone. p: of no difference, corrected for the family in the same way. detectable: the true difference that
    is found with `POWER`, of the interval alone; joint_detectable: of the family's.
    by_graph, by_training, rest: standard deviations of a_g (None where each graph was tested once), b_t and e_gt, see
    `graphs`.
    """

    difference: float
    graphs: int | None
    trainings: int
    observations: int
    error: float | None = None
    freedom: float | None = None
    low: float | None = None
    high: float | None = None
    joint_low: float | None = None
    joint_high: float | None = None
    new_low: float | None = None
    new_high: float | None = None
    p: float | None = None
    detectable: float | None = None
    joint_detectable: float | None = None
    by_graph: float | None = None
    by_training: float | None = None
    rest: float | None = None

    @property
    def repeats(self) -> float | None:
        """How often a graph was tested on average; None where whole runs are compared."""
        return None if self.graphs is None else self.observations / self.graphs

    def repeats_for(self, error: float) -> float | None:
        """With about how many repeats the standard error is as small as `error`: infinitely many where the graphs' own
        part is larger; None where that part is not known, since each graph was tested once."""
        if self.by_graph is None or self.graphs is None or self.error is None or self.repeats is None:
            return None
        graphs = self.by_graph**2 / self.graphs
        room = error**2 - graphs
        return self.repeats * max(0.0, self.error**2 - graphs) / room if room > 0 else math.inf


@dataclass(frozen=True)
class Family:
    """Several operators against the same one on a dataset.

    differences: by name. covariance: [n, n] of those names in `known`, in their order, for whatever goes on from here.
    alpha: at which level each is tested, so that none is called different in `LEVEL` of the cases where none is.
    """

    differences: Mapping[str, Difference]
    known: tuple[str, ...]
    covariance: np.ndarray
    alpha: float | None
