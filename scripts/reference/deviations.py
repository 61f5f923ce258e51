"""Where PoolBench decides otherwise than Spektral 1.3.1, and which recorded cases that changes.

A rule reads a case's layer, arguments, mode and data, never its name, so that it holds for cases not seen before. The
numbers are those of the table of decisions. A deviation with `restore` has arguments that bring Spektral's behaviour
back: such a case is run with them, against the file. The others are held against the formulas in `formulas.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from reference.cases import Case, Graph
from reference.formulas import kept_count

MLP = ("AsymCheegerCutPool", "MinCutPool", "JustBalancePool", "DMoNPool")
SOFT = (*MLP, "DiffPool")
SCORED = ("TopKPool", "SAGPool")


@dataclass(frozen=True)
class Deviation:
    number: int
    what: str
    applies: Callable[[Case], bool]
    restore: dict[str, Any] = field(default_factory=dict)


def _padded(case: Case) -> bool:
    return any(not g.valid.all() for g in case.graphs)


def _edgeless(g: Graph) -> bool:
    return g.a is None or not g.a.any()


def _losses_a_graph(case: Case) -> bool:
    """JustBalancePool's loss, one a graph. In mixed mode that is decision 22."""
    return case.mode != "mixed" and any(case.arrays[f"loss_{name}"].ndim for name in case.entry["losses"])


def _padding_outranks_nodes(case: Case) -> bool:
    """SortPool: a padding row (last feature 0) comes before a real node that is among the first k of its graph."""
    if case.layer != "SortPool" or case.mode != "disjoint":
        return False
    largest, k = max(len(g.rows) for g in case.graphs), int(case.args["k"])
    last = case.x[:, -1]
    return any(len(g.rows) < largest and (last[g.rows] >= 0).sum() < min(k, len(g.rows)) for g in case.graphs)


def _ceil(case: Case) -> bool:
    if case.layer not in SCORED:
        return False
    ratio, exact, rounded = case.args["ratio"], frozenset({4}), frozenset[int]()
    return any(kept_count(ratio, n, exact) != kept_count(ratio, n, rounded) for n in (len(g.rows) for g in case.graphs))


def _not_all_lead(case: Case) -> bool:
    """LaPool: some node is not strictly above its neighbours, so that softmax or sparsemax, > or >= matter."""
    if case.layer != "LaPool":
        return False
    for g in case.graphs:
        assert g.a is not None
        x, a = case.x[g.rows].astype(np.float64), g.a.astype(np.float64)
        v = np.sqrt((((np.diag(a.sum(1)) - a) @ x) ** 2).sum(1))
        u, w = np.nonzero(a - np.diag(np.diag(a)))
        if (v[u] <= v[w] * (1 + 1e-6) + 1e-12).any():
            return True
    return False


def _lengths(case: Case) -> bool:
    """LaPool: the shortest paths differ when edges have lengths other than 1."""
    if case.layer != "LaPool" or not case.args.get("shortest_path_reg", True):
        return False
    assert case.a is not None
    a = case.a - np.diag(np.diag(case.a))
    return bool((a[a != 0] != 1).any())


def _weighted(case: Case) -> bool:
    """DMoNPool: the sum of the degrees is not the number of entries of A."""
    if case.layer != "DMoNPool":
        return False
    return any(g.a is not None and not np.isclose(g.a.sum(), (g.a != 0).sum(), rtol=1e-6) for g in case.graphs)


def _mask_counts(case: Case) -> bool:
    """A soft layer whose losses hold N, a quantile or a mean over nodes, with padding nodes."""
    if case.layer not in SOFT or not _padded(case):
        return False
    if case.layer == "JustBalancePool":
        return bool(case.args.get("normalized_loss"))
    if case.layer == "DMoNPool":
        return case.args.get("collapse_regularization", 0.1) != 0
    return case.layer != "MinCutPool"


DEVIATIONS = [
    Deviation(1, "losses are means over the graphs of a batch", _losses_a_graph),
    Deviation(2, "SortPool sorts real nodes, then pads", _padding_outranks_nodes),
    Deviation(3, "SortPool returns (1, k, F) in single mode", lambda c: c.layer == "SortPool" and c.mode == "single"),
    Deviation(4, "k = ceil(ratio n - 1e-6) in float64", _ceil),
    Deviation(5, "score is (N,)", lambda c: c.layer in SCORED and bool(c.args.get("return_score"))),
    Deviation(7, "sparsemax, strict leaders", _not_all_lead, {"assignment": "softmax", "leaders": "ge"}),
    Deviation(8, "paths count hops", _lengths, {"weighted_paths": True}),
    Deviation(9, "degree sum, not the count of non-zeros", _weighted),
    Deviation(
        10,
        "a graph without edges adds 0",
        lambda c: c.layer in ("AsymCheegerCutPool", "MinCutPool", "DMoNPool") and any(map(_edgeless, c.graphs)),
    ),
    Deviation(
        12, "use_bias honoured", lambda c: c.layer in MLP and c.args.get("use_bias") is False, {"use_bias": True}
    ),
    Deviation(13, "padding nodes do not count in losses", _mask_counts),
    Deviation(
        14,
        "readouts honour the mask",
        lambda c: (c.layer.startswith("Global") or c.layer == "SortPool") and _padded(c),
    ),
    Deviation(
        15,
        "DiffPool's activation comes after the reduction",
        lambda c: c.layer == "DiffPool" and c.args.get("activation") not in (None, "linear"),
    ),
    Deviation(22, "mixed mode of soft layers, losses averaged", lambda c: c.layer in SOFT and c.mode == "mixed"),
]
