"""A dataset in memory and its split by a protocol: all that a run needs to know of its data."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from poolbench.data.dataset import GraphDataset
from poolbench.data.features import Features
from poolbench.data.protocols import Protocol
from poolbench.data.raw import RawGraphs
from poolbench.data.splits import Split
from poolbench.data.target import Target, node_classes


@dataclass(frozen=True)
class Prepared:
    """A dataset and a protocol, worked out: all that a run needs to know of them.

    raw: the content. x: node features. edges, weight: features and weights of the edges, or None. target: what is to
    be predicted. split: which graph is trained, validated and tested on. select, validates, level, fold_seeds: see
    `Protocol`.
    """

    raw: RawGraphs
    x: Features
    edges: Features | None
    weight: torch.Tensor | None
    target: Target
    split: Split
    select: str
    validates: str
    level: str
    fold_seeds: str

    @property
    def train_graphs(self) -> torch.Tensor:
        """The graphs that are trained on: all of them where nodes are split."""
        return self.split.train if self.level == "graphs" else torch.arange(self.raw.num_graphs)

    @classmethod
    def of(cls, dataset: GraphDataset, protocol: Protocol, fold: int | None) -> Prepared:
        """Load the dataset and split it. Raises `PoolBenchError` where either cannot be done."""
        return Loaded.of(dataset, protocol.level).split(protocol, fold)


@dataclass(frozen=True)
class Loaded:
    """A dataset in memory: what the folds of a protocol have in common.

    official: the parts that its authors fixed, where they did. The others: see `Prepared`.
    """

    raw: RawGraphs
    x: Features
    edges: Features | None
    weight: torch.Tensor | None
    target: Target
    official: dict[str, torch.Tensor] | None

    @classmethod
    def of(cls, dataset: GraphDataset, level: str) -> Loaded:
        """Load the dataset; `level` says what is predicted and split, `graphs` or `nodes`. Raises `PoolBenchError`."""
        raw = dataset.load()
        if level == "nodes":
            target, official = node_classes(raw), dataset.official_node_split(raw)
        else:
            target, official = dataset.target(raw), dataset.official_split(raw)
        return cls(raw, dataset.node_features(raw), dataset.edge_features(raw), dataset.edge_weight(raw), target,
                   official)  # fmt: skip

    def split(self, protocol: Protocol, fold: int | None) -> Prepared:
        """One fold of a protocol. Raises `PoolBenchError` where there is none."""
        split = protocol.split(self.target.strata, self.raw.fingerprint(), fold, self.official)
        return Prepared(self.raw, self.x, self.edges, self.weight, self.target, split, protocol.select,
                        protocol.validates, protocol.level, protocol.fold_seeds)  # fmt: skip
