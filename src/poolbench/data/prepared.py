"""A dataset in memory and its split by a protocol: all that a run needs to know of its data."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from poolbench.data.dataset import GraphDataset
from poolbench.data.features import Features
from poolbench.data.pairs import Comparison
from poolbench.data.perturb import Perturbation
from poolbench.data.protocols import Protocol
from poolbench.data.raw import RawGraphs
from poolbench.data.splits import Split
from poolbench.data.target import Target, node_classes
from poolbench.errors import PoolBenchError


@dataclass(frozen=True)
class Prepared:
    """A dataset and a protocol, worked out: all that a run needs to know of them.

    raw: the content. x: node features. edges, weight: features and weights of the edges, or None. target: what is to
    be predicted. split: which graph is trained, validated and tested on.
    select, validates, level, fold_seeds, comparison: see `Protocol`. known: see `GraphDataset`.
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
    known: str | None = None
    comparison: Comparison | None = None

    @property
    def train_graphs(self) -> torch.Tensor:
        """The graphs that are trained on: all of them where nodes are split."""
        return self.split.train if self.level == "graphs" else torch.arange(self.raw.num_graphs)

    @classmethod
    def of(
        cls, dataset: GraphDataset, protocol: Protocol, fold: int | None, perturbation: Perturbation | None = None
    ) -> Prepared:
        """Load the dataset, split it and perturb it. Raises `PoolBenchError` where one of them cannot be done."""
        return Loaded.of(dataset, protocol.level).split(protocol, fold, perturbation)

    @property
    def fingerprint(self) -> str:
        """The dataset's, before anything was perturbed."""
        return self.split.fingerprint


@dataclass(frozen=True)
class Loaded:
    """A dataset in memory: what the folds of a protocol have in common.

    dataset: what it was loaded from. official: the parts that its authors fixed, where they did. The others: see
    `Prepared`.
    """

    dataset: GraphDataset
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
        return cls(dataset, raw, dataset.node_features(raw), dataset.edge_features(raw), dataset.edge_weight(raw),
                   target, official)  # fmt: skip

    def split(self, protocol: Protocol, fold: int | None, perturbation: Perturbation | None = None) -> Prepared:
        """One fold of a protocol, perturbed where that is asked for. Raises `PoolBenchError` where there is none."""
        order = protocol.order(self.dataset, self.raw)
        split = protocol.split(self.target.strata, self.raw.fingerprint(), fold, self.official, order)
        made = Prepared(self.raw, self.x, self.edges, self.weight, self.target, split, protocol.select,
                        protocol.validates, protocol.level, protocol.fold_seeds, self.dataset.known,
                        protocol.comparison(self.dataset, self.raw))  # fmt: skip
        return made if perturbation is None else self._perturbed(made, perturbation)

    def _perturbed(self, made: Prepared, perturbation: Perturbation) -> Prepared:
        """What is computed from the graphs (degrees, weights) is computed from the perturbed ones."""
        if perturbation.at != "both" and made.level == "nodes":
            raise PoolBenchError(
                f"perturb.at={perturbation.at}: nodes are split here, and graphs perturbed; take perturb.at=both"
            )
        chosen = torch.full((self.raw.num_graphs,), perturbation.at == "both")
        for part in {"train": ("train", "val"), "test": ("test", "id_test"), "both": ()}[perturbation.at]:
            chosen[getattr(made.split, part)] = True
        raw, x, edges, weight = perturbation.graphs(self.raw, chosen), self.x, self.edges, self.weight
        if raw is not self.raw:
            dataset = self.dataset
            x, edges, weight = dataset.node_features(raw), dataset.edge_features(raw), dataset.edge_weight(raw)
        return replace(made, raw=raw, x=perturbation.features(x, raw, chosen), edges=edges, weight=weight)
