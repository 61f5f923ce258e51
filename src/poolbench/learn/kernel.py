"""Graph kernels with a support vector machine: the baselines without a network (`model=wl-svm`, `model=sp-svm`).

No epochs, no gradients: the kernel matrix of all graphs, one SVM for each value of the grid, chosen on the validation
graphs. Kernels are grakel's (Siglidis et al., JMLR 21, 2020), the SVM scikit-learn's; both are deterministic.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from poolbench.data.prepared import Prepared
from poolbench.data.raw import RawGraphs
from poolbench.errors import PoolBenchError
from poolbench.learn.outcome import Outcome
from poolbench.nn.model import DataFacts, Part
from poolbench.pool.base.hostgraph import Array
from poolbench.pool.base.src import Operator
from poolbench.pool.nopool import NoPool
from poolbench.records.outcomes import pack
from poolbench.records.record import MEASURED, TESTED

Labelled = list[list[dict[int, Any]]]
"""Graphs as grakel reads them: of each node its neighbours, and its label."""

GRID = (0.001, 0.01, 0.1, 1.0, 10.0, 100.0, 1000.0)


class KernelSVM:
    """Base: an SVM on a normalised kernel, k(g, h) / sqrt(k(g, g) k(h, h)).

    The training graphs alone train it. C, and what the kernel leaves open, are those with the best validation accuracy,
    the first of equals in the order of the grid.

    Args:
        data: plays no part. pool: `NoPool`.
        C: the grid of the SVM's penalty.

    Raises: ValueError for an empty grid or a C that is not positive; `PoolBenchError` where grakel is missing.
    """

    task: ClassVar[str] = "kernel"
    name: ClassVar[str]

    def __init__(self, data: DataFacts, pool: Part, C: Sequence[float] = GRID) -> None:
        if not C or not all(isinstance(c, int | float) and not isinstance(c, bool) and c > 0 for c in C):
            raise ValueError(f"model.C={C!r}: a list of positive numbers is expected")
        if find_spec("grakel") is None:
            where = (
                "which has no wheel for Python 3.13 or newer: use Python 3.12"
                if sys.version_info >= (3, 13)
                else "which is missing: pip install grakel"
            )
            raise PoolBenchError(f"model={self.name} needs the package grakel, {where}")
        self.C = [float(c) for c in C]

    @classmethod
    def refuses(cls, pool: type[Operator]) -> str | None:
        """Why an operator cannot be taken."""
        if not issubclass(pool, NoPool):
            return f"model={cls.name} compares graphs as they are, a pool plays no part: add pool=none"
        return None

    def kernels(self, graphs: Labelled) -> Iterator[tuple[dict[str, Any], Array]]:
        """For each setting of the kernel: what it is, and the matrix k(g, h) [G, G]."""
        raise NotImplementedError

    def fit(self, prepared: Prepared, outcome: Outcome, evaluate_test: bool) -> None:
        """Choose and train the SVM, test it once, and fill in `outcome`. Raises `PoolBenchError` as `check` does."""
        self.check(prepared)
        outcome.task, outcome.parameters = "graph-classification", 0
        labels, source = node_labels(prepared.raw)
        chosen, predicted = self._choose(labelled(prepared.raw, labels), prepared)
        y = prepared.target.y
        for part in MEASURED:
            graphs = getattr(prepared.split, part)
            if graphs.numel() and (part not in TESTED or evaluate_test):
                right = predicted[graphs] == y[graphs]
                outcome.metrics[part] = {"accuracy": float(right.double().mean())}
                if part == "test":
                    outcome.outcomes = pack(graphs.numpy(), predicted[graphs].numpy(), right.numpy(), y.numel())
        outcome.diagnostics = {
            "metric": {"name": "accuracy", "mode": "max"},
            "selection": {"monitor": "val/accuracy", "mode": "max", **chosen, "node_labels": source},
        }

    def check(self, prepared: Prepared) -> None:
        """Raise `PoolBenchError` for graphs that no kernel on node labels can tell apart by classes."""
        kind, split, y = prepared.target.kind, prepared.split, prepared.target.y
        if kind != "classes" or prepared.level != "graphs":
            carry = {"numbers": "numbers to regress", "binary": "answers to yes/no questions", "none": "no labels",
                     "words": "words", "classes": "classes of their nodes",
                     "pairs": "pairs to compare"}[kind]  # fmt: skip
            raise PoolBenchError(f"model={self.name} tells classes of graphs apart, and these graphs carry {carry}")
        if not split.val.numel():
            raise PoolBenchError(
                f"model={self.name} chooses C on validation graphs, and protocol={split.protocol} has none: "
                "take protocol=holdout or protocol=cv10"
            )
        if y[split.train].unique().numel() < 2:
            raise PoolBenchError(f"model={self.name}: the training graphs are all of one class")

    def _choose(self, graphs: Labelled, prepared: Prepared) -> tuple[dict[str, Any], Tensor]:
        """The setting that is best on the validation graphs, and its predictions for all graphs [G]."""
        from sklearn.svm import SVC

        y, train, val = prepared.target.y.numpy(), prepared.split.train.numpy(), prepared.split.val.numpy()
        best, chosen, predicted = -1.0, {}, y
        for setting, matrix in self.kernels(graphs):
            k = normalized(matrix)[:, train]
            for c in self.C:
                answers = SVC(C=c, kernel="precomputed").fit(k[train], y[train]).predict(k)
                accuracy = float((answers[val] == y[val]).mean())
                if accuracy > best:
                    best, chosen, predicted = accuracy, {"C": c, **setting}, answers
        return chosen, torch.from_numpy(predicted)


class WeisfeilerLehman(KernelSVM):
    """The subtree kernel of Shervashidze et al., JMLR 12, 2011: equal labels, counted over rounds of relabelling.

    Args:
        data, pool, C: see `KernelSVM`.
        iterations: the grid of the number of rounds.
    """

    name = "wl-svm"

    def __init__(
        self, data: DataFacts, pool: Part, C: Sequence[float] = GRID, iterations: Sequence[int] = (1, 2, 3, 4, 5)
    ) -> None:
        super().__init__(data, pool, C)
        if not iterations or not all(isinstance(h, int) and not isinstance(h, bool) and h > 0 for h in iterations):
            raise ValueError(f"model.iterations={iterations!r}: a list of whole numbers of at least 1 is expected")
        self.iterations = list(iterations)

    def kernels(self, graphs: Labelled) -> Iterator[tuple[dict[str, Any], Array]]:
        from grakel import WeisfeilerLehman as Kernel

        for rounds in self.iterations:
            yield {"iterations": rounds}, np.asarray(Kernel(n_iter=rounds).fit_transform(graphs), dtype=np.float64)


class ShortestPath(KernelSVM):
    """The kernel of Borgwardt & Kriegel, ICDM 2005: pairs of nodes with equal labels and equal distance.

    A graph without paths is 0 away from nothing: its row of the kernel matrix is 0.
    """

    name = "sp-svm"

    def kernels(self, graphs: Labelled) -> Iterator[tuple[dict[str, Any], Array]]:
        from grakel import ShortestPath as Kernel

        yield {}, np.asarray(Kernel(with_labels=True).fit_transform(graphs), dtype=np.float64)


def node_labels(raw: RawGraphs) -> tuple[Tensor, str]:
    """[N] int64, one label a node, and where it is from: the dataset's (several columns as one), else the degree.

    Raises `PoolBenchError` where nodes have attributes alone: they are no labels.
    """
    if raw.node_labels is not None:
        return torch.unique(raw.node_labels, dim=0, return_inverse=True)[1], "labels"
    if raw.node_attributes is not None:
        raise PoolBenchError(
            f"dataset {raw.name} has continuous attributes of nodes and no labels, which wl-svm and sp-svm compare"
        )
    return raw.degree(), "degree"


def labelled(raw: RawGraphs, labels: Tensor) -> Labelled:
    """The graphs for grakel. One without nodes, which it does not take, is a node with a label that no other has."""
    row, col, label = *raw.edge_index.tolist(), labels.tolist()
    edges = torch.bincount(torch.repeat_interleave(raw.num_nodes)[raw.edge_index[0]], minlength=raw.num_graphs)
    graphs: Labelled = []
    node = edge = 0
    for n, e in zip(raw.num_nodes.tolist(), edges.tolist(), strict=True):
        neighbours: dict[int, Any] = {u: {} for u in range(max(n, 1))}
        for k in range(edge, edge + e):
            neighbours[row[k] - node][col[k] - node] = 1.0
        graphs.append([neighbours, {u: label[node + u] for u in range(n)} or {0: -1}])
        node, edge = node + n, edge + e
    return graphs


def normalized(k: Array) -> Array:
    """k(g, h) / sqrt(k(g, g) k(h, h)), 0 where k(g, g) is 0."""
    root = np.sqrt(np.diagonal(k))
    inverse = np.divide(1.0, root, out=np.zeros_like(root), where=root > 0)
    return inverse[:, None] * k * inverse
