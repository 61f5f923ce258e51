"""Have a dataset ready before the runs that need it: on a login node, in an image, ahead of a sweep."""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from poolbench.data import twins
from poolbench.data.dataset import GraphDataset
from poolbench.data.raw import RawGraphs
from poolbench.data.target import Target
from poolbench.errors import PoolBenchError
from poolbench.statistics import detectable_difference

FOLDS = 10
"""Of the cross-validation whose smallest difference is stated."""
DIFFER = 0.1
"""The share of graphs that two operators answer differently, for that difference."""
LARGE = 1_000_000
"""Nodes and edges above which features are not made and twins not searched."""
PATIENCE = 30
"""Seconds in which twins are searched for: what colours tell little of, such as circulant graphs, takes for ever."""


def prepare(dataset: GraphDataset) -> dict[str, Any]:
    """Fetch and parse `dataset`, and return the facts to print about it.

    Raises `PoolBenchError` as `dataset.load` does.
    """
    raw = dataset.load()
    folder = dataset.folder
    return {
        "name": raw.name,
        **raw.stats(),
        **dict(_asked(dataset, raw)),
        "source": raw.provenance.get("kind"),
        "where": raw.provenance.get("where"),
        "sha256": raw.provenance.get("sha256"),
        "fingerprint": raw.fingerprint(),
        "path": None if folder is None else str(folder),
    }


def _asked(dataset: GraphDataset, raw: RawGraphs) -> Iterator[tuple[str, str]]:
    """What is to be predicted of graphs, from what, and what can come of it."""
    if raw.y is None and raw.targets is None and raw.node_y is not None:
        yield "to_predict", f"{int(raw.node_y.max()) + 1} classes of nodes"
        return
    try:
        target = dataset.target(raw)
    except PoolBenchError as error:  # such as a single class: the data is there, and a run of it will say no
        yield "to_predict", f"nothing: {error}"
        return
    yield "to_predict", _to_predict(target)
    if raw.total_nodes + raw.num_edges > LARGE:
        yield "features", f"not counted above {LARGE} nodes and edges, and neither are twins"
    else:
        columns = [("of nodes", dataset.node_features(raw)), ("of edges", dataset.edge_features(raw))]
        yield "features", ", ".join(f"{made.values.shape[1]} {of}" for of, made in columns if made is not None)
        yield from _twins(raw, target)
    if raw.num_graphs >= 2 * FOLDS and target.kind in ("classes", "numbers"):
        yield "detectable", _detectable(target, raw.num_graphs)


def _to_predict(target: Target) -> str:
    if target.kind == "classes":
        counts = torch.bincount(target.y, minlength=target.outputs).tolist()
        return f"{target.outputs} classes, of {min(counts)} to {max(counts)} graphs"
    if target.kind in ("numbers", "binary"):
        unknown = int(torch.isnan(target.y).sum())
        what = "number" if target.kind == "numbers" else "yes/no question"
        said = f"{target.outputs} {what}{'s'[: target.outputs > 1]} a graph"
        return f"{said}, {unknown} of {target.y.numel()} not known" if unknown else said
    return "nothing: a pool learns from its own losses" if target.kind == "none" else target.kind


def _twins(raw: RawGraphs, target: Target) -> Iterator[tuple[str, str]]:
    """Isomorphic graphs, and the best that can come of it: by structure and node labels, and by all that there is."""
    try:
        with _within(PATIENCE):
            found = {"": twins.find(raw)}
            if raw.node_attributes is not None or raw.edge_labels is not None or raw.edge_attributes is not None:
                found[" by all features"] = twins.find(raw, edge_labels=True, attributes=True)
    except TimeoutError:
        yield "twins", f"not counted: graphs that colours do not tell apart took more than {PATIENCE} s"
        return
    yield "twins", _each({how: str(raw.num_graphs - one.distinct) for how, one in found.items()})
    if target.kind == "classes":
        yield "ceiling", "accuracy " + _each({how: f"{one.ceiling:.4f}" for how, one in found.items()})
    elif target.kind == "numbers":
        least = {how: f"{_least_error(target.y, one.first):.4g}" for how, one in found.items()}
        yield "ceiling", "rmse at least " + _each(least)


@contextmanager
def _within(seconds: float) -> Iterator[None]:
    """Raises `TimeoutError` in a block that takes longer, where a process can be interrupted: in its main thread, and
    not on Windows."""
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def late(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _each(values: dict[str, str]) -> str:
    """`3 (0 by all features)`."""
    return " ".join(f"({value}{how})" if how else value for how, value in values.items())


def _least_error(y: Tensor, first: Tensor) -> float:
    """The least root mean squared error of who answers the same for twins: with the mean of each class of twins.

    Args:
        y: [G, T], NaN where not known. first: see `Twins`.
    """
    y = y.to(torch.float64)
    known = ~torch.isnan(y)
    zeros = torch.zeros_like(y)
    sums = zeros.index_add(0, first, y.nan_to_num(0.0))
    mean = sums / zeros.index_add(0, first, known.to(y.dtype)).clamp(min=1)
    return float(((y - mean[first])[known] ** 2).mean().sqrt()) if bool(known.any()) else math.nan


def _detectable(target: Target, graphs: int) -> str:
    """The true difference between two operators that ten folds find with probability 0.8, at the level 0.05."""
    spread = math.sqrt(FOLDS / graphs)  # of the mean over the graphs of a fold, in that of a single graph's difference
    least = detectable_difference(spread, FOLDS, 1 / (FOLDS - 1))
    if target.kind == "classes":
        points = 100 * least * math.sqrt(DIFFER)
        return f"{points:.1f} points of accuracy in {FOLDS} folds, where two operators differ on {DIFFER:.0%} of graphs"
    return (
        f"{least:.2g} standard deviations of the difference between two operators' errors of a graph, in {FOLDS} folds"
    )
