"""Node features: how labels, attributes and degrees of `RawGraphs` become the matrix x [N, F]."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from poolbench.data.raw import RawGraphs
from poolbench.errors import PoolBenchError, nearest

FEATURES = ("labels", "attributes", "attributes-one-hot", "degree", "degree-binned", "degree-scalar", "constant",
            "clustering", "laplacian", "random-walk")  # fmt: skip
_OF_FILES = 3
"""So many of them a dataset may lack."""
_CHOICES = ", ".join(FEATURES)
_SIZED = re.compile(r"(laplacian|random-walk)(?:-([1-9]\d{0,3}))?")
_SIZE = 8

MAX_BYTES = 1 << 32
"""x is dense; above this size the choice of features is at fault, not the machine."""
_MAX_RANGE = 1000


class Features(NamedTuple):
    """Features of nodes or edges.

    values: [N, F] float32, or int64 where each column holds a category. names: of the columns. vocabulary: how many
    categories each column has (a model embeds them); None for float32.
    """

    values: Tensor
    names: list[str]
    vocabulary: tuple[int, ...] | None = None


class NodeFeatures:
    """`node_features(raw) -> Features`: x [N, F] float32, and what each of its columns is.

    Args:
        features: 'auto', or one or several of
            `labels` (node labels one-hot, all label columns; a column for each value between the smallest and the
            largest label, as PyG has it, or for each value that occurs where that would be more than 1000),
            `attributes` (as they are in the files), `attributes-one-hot` (of whole numbers: a column for each value
            that occurs in a column), `degree` (one-hot), `degree-binned` (one-hot: 0, 1, 2-3, 4-7,
            8-15, ...), `degree-scalar` (log(1 + degree)), `constant` (1), `clustering` (local clustering
            coefficient), `laplacian-K` (eigenvectors 2 to K + 1 of the normalised Laplacian) and `random-walk-K`
            (probability of return after 1 to K steps); without -K it is 8; see `encodings`. Columns come in the order
            of the names. 'auto' is labels and attributes as far as there are any, else degree.
        use_node_attr: whether 'auto' takes attributes.
        max_degree: larger degrees share the last column of `degree`. 135, the largest degree in IMDB-BINARY, makes
            the IMDB sets what they are elsewhere; REDDIT's 3062 would make x a matrix of 10 GB.

    Raises `PoolBenchError` for a name that is none of these; when called, for features that the dataset has not.
    """

    def __init__(
        self, features: str | Sequence[str] = "auto", use_node_attr: bool = True, max_degree: int = 135
    ) -> None:
        self.auto = features == "auto"
        chosen = ["auto"] if self.auto else [features] if isinstance(features, str) else list(features)
        for name in [] if self.auto else chosen:
            if name not in FEATURES and not _SIZED.fullmatch(str(name)):
                hint = nearest(str(name), FEATURES)
                raise PoolBenchError(f"features={name!r} is unknown{hint}; expected auto, or some of {_CHOICES}")
        if not chosen or len(set(chosen)) < len(chosen):
            raise PoolBenchError(f"features={chosen} must name each feature once, and at least one of {_CHOICES}")
        if not isinstance(use_node_attr, bool):
            raise PoolBenchError(f"use_node_attr={use_node_attr!r} must be true or false")
        if isinstance(max_degree, bool) or not isinstance(max_degree, int) or max_degree < 1:
            raise PoolBenchError(f"max_degree={max_degree!r} must be a whole number, 1 or more")
        self.features: tuple[str, ...] = () if self.auto else tuple(chosen)
        self.use_node_attr = use_node_attr
        self.max_degree = max_degree

    def __call__(self, raw: RawGraphs) -> Features:
        blocks = [block for name in self.chosen(raw) for block in self._blocks(name, raw)]
        width = sum(len(columns) for columns, _ in blocks)
        size = 4 * raw.total_nodes * width
        if size > MAX_BYTES:
            raise PoolBenchError(
                f"dataset {raw.name}: features {', '.join(self.chosen(raw))} make {width} columns for "
                f"{raw.total_nodes} nodes ({size / 2**30:.1f} GiB); choose others, such as features=[degree-scalar]"
            )
        return _filled(blocks, raw.total_nodes)

    def chosen(self, raw: RawGraphs) -> tuple[str, ...]:
        """The names of the features that this dataset gets."""
        if not self.auto:
            return self.features
        labels = ("labels",) if raw.node_labels is not None else ()
        attributes = ("attributes",) if self.use_node_attr and raw.node_attributes is not None else ()
        return labels + attributes or ("degree",)

    def _blocks(self, name: str, raw: RawGraphs) -> list[_Block]:
        if name == "labels":
            labels = _need(raw.node_labels, "node labels", name, raw)
            return _labels(labels)
        if name == "attributes":
            return [_attributes(_need(raw.node_attributes, "node attributes", name, raw))]
        if name == "attributes-one-hot":
            return _whole_attributes(_need(raw.node_attributes, "node attributes", name, raw), raw)
        if name == "degree":
            return [_one_hot_degree(raw.degree(), self.max_degree)]
        if name == "degree-scalar":
            return [(["log(1+degree)"], lambda out: out.copy_(raw.degree().float().log1p_()[:, None]))]
        if name == "degree-binned":
            return [_binned_degree(raw.degree())]
        if name == "constant":
            return [(["constant"], lambda out: out.fill_(1.0))]
        from poolbench.data import encodings  # and with it scipy, which a few features need alone

        if name == "clustering":
            return [_computed(["clustering"], lambda: encodings.clustering(raw)[:, None])]
        kind, size = re.fullmatch(_SIZED, name).groups()  # type: ignore[union-attr]
        k = int(size or _SIZE)
        compute = encodings.laplacian if kind == "laplacian" else encodings.random_walk
        return [_computed([f"{kind}{column}" for column in range(1, k + 1)], lambda: compute(raw, k))]


def edge_features(raw: RawGraphs) -> Features | None:
    """Edge labels one-hot, then edge attributes: [E, P] float32 in the order of `raw.edge_index`; None without any."""
    blocks = [] if raw.edge_labels is None else _labels(raw.edge_labels)
    blocks += [] if raw.edge_attributes is None else [_attributes(raw.edge_attributes)]
    return _filled(blocks, raw.num_edges) if blocks else None


_Block = tuple[list[str], Callable[[Tensor], object]]
"""Names of columns, and what fills them."""


def _filled(blocks: list[_Block], rows: int) -> Features:
    """The blocks side by side, filled in place: stacking them would hold the matrix twice."""
    names = [column for columns, _ in blocks for column in columns]
    x = torch.zeros(rows, len(names))
    start = 0
    for columns, fill in blocks:
        fill(x[:, start : start + len(columns)])
        start += len(columns)
    return Features(x, names)


def _labels(labels: Tensor) -> list[_Block]:
    return [_one_hot(column, f"label{k}") for k, column in enumerate(labels.T)]


def _attributes(attributes: Tensor) -> _Block:
    return [f"attribute{k}" for k in range(attributes.size(1))], lambda out: out.copy_(attributes)


def _need(value: Tensor | None, what: str, name: str, raw: RawGraphs) -> Tensor:
    if value is None:
        held = dict.fromkeys(FEATURES[:_OF_FILES], raw.node_attributes) | {"labels": raw.node_labels}
        has = [key for key, rows in held.items() if rows is not None]
        raise PoolBenchError(
            f"features={name}: dataset {raw.name} has no {what}; choose from {', '.join([*has, *FEATURES[_OF_FILES:]])}"
        )
    return value


def _one_hot(column: Tensor, prefix: str) -> _Block:
    if column.numel() == 0:
        return [], lambda out: out
    low, high = int(column.min()), int(column.max())
    if high - low >= _MAX_RANGE:
        return _one_hot_values(column, prefix)
    index = column - low
    return [f"{prefix}={value}" for value in range(low, high + 1)], lambda out: out.scatter_(1, index[:, None], 1.0)


def _one_hot_values(column: Tensor, prefix: str) -> _Block:
    """A column for each value that occurs, all of them whole numbers."""
    values, index = column.unique(return_inverse=True)
    return [f"{prefix}={int(value)}" for value in values.tolist()], lambda out: out.scatter_(1, index[:, None], 1.0)


def _whole_attributes(attributes: Tensor, raw: RawGraphs) -> list[_Block]:
    for k, column in enumerate(attributes.T):
        if (other := column != column.round()).any():
            raise PoolBenchError(
                f"features=attributes-one-hot: dataset {raw.name} has {column[other][0]:g} in its node attribute {k}, "
                "and whole numbers are expected; take attributes"
            )
    return [_one_hot_values(column, f"attribute{k}") for k, column in enumerate(attributes.T)]


def _one_hot_degree(degree: Tensor, max_degree: int) -> _Block:
    largest = int(degree.max()) if degree.numel() else 0
    names = [f"degree={d}" for d in range(min(largest, max_degree) + 1)]
    if largest > max_degree:
        names[-1] = f"degree>={max_degree}"
    return names, lambda out: out.scatter_(1, degree.clamp(max=max_degree)[:, None], 1.0)


def _binned_degree(degree: Tensor) -> _Block:
    """A column for 0, 1, 2-3, 4-7, ... up to the largest degree."""
    bins = torch.frexp(degree.double()).exponent.long()  # the bits of the number
    last = int(bins.max()) if bins.numel() else 0
    ranges = [(2**b // 2, 2**b - 1) for b in range(last + 1)]
    names = [f"degree={low}" if low == high else f"degree={low}-{high}" for low, high in ranges]
    return names, lambda out: out.scatter_(1, bins[:, None], 1.0)


def _computed(names: list[str], compute: Callable[[], np.ndarray[Any, Any]]) -> _Block:
    return names, lambda out: out.copy_(torch.from_numpy(compute()))
