"""Records of `protocol=brec`: what they say of pairs against the T^2 of each, and these against the dataset's pairs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from poolbench.records.outcomes import Answers
from poolbench.records.record import Record
from poolbench.statistics import hotelling_threshold, told_apart

if TYPE_CHECKING:
    from poolbench.data.prepared import Prepared


def wrong(record: Record, answers: Answers) -> Iterator[str]:
    """What of a record that is done does not follow from its T^2.

    Args:
        answers: its outcomes.
    """
    t2, found = answers.predicted, record.metrics.test
    if t2.ndim != 2 or t2.shape[1] != 2 or answers.right is None:
        yield "outcomes are no two numbers a pair, and whether it was told apart"
        return
    if 2 * len(t2) != record.splits.test:
        yield f"outcomes are of {len(t2)} pairs, and the test split has {record.splits.test} graphs"
    said, threshold = record.diagnostics.get("pairs"), _threshold(record.config["protocol"])
    stated = said.get("threshold") if isinstance(said, Mapping) else None
    if not isinstance(stated, float) or not math.isclose(stated, threshold, rel_tol=1e-9):
        yield f"diagnostics.pairs.threshold is {stated}, and its protocol makes {threshold}"
    told = told_apart(t2, threshold)
    if not np.array_equal(told, answers.right):
        yield "outcomes say of other pairs that they are told apart than their T^2 does"
    for name, value in (("pairs", told.sum()), ("unreliable", (~(t2[:, 1] <= threshold)).sum())):
        if found.get(name) != value:
            yield f"metrics.test.{name}={found.get(name)}, and its outcomes make {value}"
    of_kinds = sum(value for name, value in found.items() if name.startswith("pairs/"))
    if of_kinds != told.sum():
        yield f"the categories of metrics.test make {of_kinds:g} pairs, and its outcomes {told.sum()}"
    rows = [[row.get("test/t2"), row.get("test/t2_same")] for row in record.curve]
    if rows and not np.array_equal(np.array(rows, dtype=np.float32), t2, equal_nan=True):
        yield "outcomes are not the T^2 of its curve"


def _threshold(protocol: Mapping[str, Any]) -> float:
    try:
        return hotelling_threshold(protocol["copies"], protocol["dim"], protocol["alpha"])
    except (KeyError, TypeError, ArithmeticError):
        return math.nan


def against(record: Record, answers: Answers, prepared: Prepared) -> Iterator[str]:
    """The outcomes and categories against the pairs of the dataset."""
    assert prepared.comparison is not None
    pairs = prepared.comparison.pairs
    if not np.array_equal(answers.graphs, pairs.graphs[:, 0].numpy()):
        yield "outcomes are not of the pairs of the dataset"
    elif answers.right is not None:
        kinds = np.array(pairs.kinds)
        for kind in pairs.sizes:
            said, made = record.metrics.test.get(f"pairs/{kind}"), int(answers.right[kinds == kind].sum())
            if said != made:
                yield f"metrics.test.pairs/{kind}={said}, and its outcomes make {made}"
