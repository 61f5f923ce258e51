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
from poolbench.data.scaling import Scale, scaled
from poolbench.data.splits import Split
from poolbench.data.target import Target, node_classes
from poolbench.errors import PoolBenchError
from poolbench.records.record import TESTED


@dataclass(frozen=True)
class Prepared:
    """A dataset and a protocol, worked out: all that a run needs to know of them.

    raw: the content. x: node features. edges, weight: features and weights of the edges, or None. target: what is to
    be predicted. split: which graph is trained, validated and tested on.
    select, validates, level, fold_seeds, comparison: see `Protocol`. known: see `GraphDataset`.
    scaling: [2, F], by what node features were scaled, see `scaled`; None where they are as they were.
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
    scaling: torch.Tensor | None = None

    @property
    def train_graphs(self) -> torch.Tensor:
        """The graphs that are trained on: all of them where nodes are split."""
        return self.split.train if self.level == "graphs" else torch.arange(self.raw.num_graphs)

    @classmethod
    def of(
        cls,
        dataset: GraphDataset,
        protocol: Protocol,
        fold: int | None,
        perturbation: Perturbation | None = None,
        scale: Scale | None = None,
    ) -> Prepared:
        """Load the dataset, split it, scale its features and perturb it.

        Raises `PoolBenchError` where one of them cannot be done.
        """
        return Loaded.of(dataset, protocol.level).split(protocol, fold, perturbation, scale)

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

    def split(
        self,
        protocol: Protocol,
        fold: int | None,
        perturbation: Perturbation | None = None,
        scale: Scale | None = None,
    ) -> Prepared:
        """One fold of a protocol, perturbed and scaled where that is asked for.

        Features, which may be computed from the graphs, are scaled after graphs and before features are perturbed.

        Raises `PoolBenchError` where there is no such fold, or one of them cannot be done.
        """
        order = protocol.order(self.dataset, self.raw)
        split = protocol.split(self.target.strata, self.raw.fingerprint(), fold, self.official, order)
        made = Prepared(self.raw, self.x, self.edges, self.weight, self.target, split, protocol.select,
                        protocol.validates, protocol.level, protocol.fold_seeds, self.dataset.known,
                        protocol.comparison(self.dataset, self.raw))  # fmt: skip
        chosen = None if perturbation is None else self._chosen(made, perturbation)
        if perturbation is not None and chosen is not None:
            made = self._perturbed(made, perturbation.graphs(self.raw, chosen))
        if scale is not None:
            x, statistics = scaled(made.x, _trained(made), scale, self.dataset.name)
            made = replace(made, x=x, scaling=statistics)
        if perturbation is not None and chosen is not None:
            x = perturbation.features(made.x, made.raw, chosen)
            same = x.values.shape == made.x.values.shape
            made = replace(made, x=x, scaling=made.scaling if same else None)  # of these columns, not of others
        return made

    def _chosen(self, made: Prepared, perturbation: Perturbation) -> torch.Tensor:
        """[G] bool, the graphs that are perturbed."""
        if perturbation.at != "both" and made.level == "nodes":
            raise PoolBenchError(
                f"perturb.at={perturbation.at}: nodes are split here, and graphs perturbed; take perturb.at=both"
            )
        if perturbation.at != "both" and made.comparison is not None:
            raise PoolBenchError(
                f"perturb.at={perturbation.at}: protocol={made.split.protocol} measures on the pairs that it trains on"
                "; take perturb.at=both"
            )
        chosen = torch.full((self.raw.num_graphs,), perturbation.at == "both")
        for part in {"train": ("train", "val"), "test": TESTED, "both": ()}[perturbation.at]:
            chosen[getattr(made.split, part)] = True
        if not bool(chosen.any()):
            raise PoolBenchError(
                f"perturb.at={perturbation.at}: this protocol has no graphs in that part, so nothing would be perturbed"
                "; take perturb.at=both"
            )
        return chosen

    def _perturbed(self, made: Prepared, raw: RawGraphs) -> Prepared:
        """What is computed from the graphs (degrees, weights) is computed from the perturbed ones."""
        if raw is self.raw:
            return made
        dataset = self.dataset
        return replace(made, raw=raw, x=dataset.node_features(raw), edges=dataset.edge_features(raw),
                       weight=dataset.edge_weight(raw))  # fmt: skip


def _trained(made: Prepared) -> torch.Tensor:
    """[N] bool, the nodes that are trained on, or those of the graphs that are."""
    nodes = made.level == "nodes"
    trained = torch.zeros(made.raw.total_nodes if nodes else made.raw.num_graphs, dtype=torch.bool)
    trained[made.split.train] = True
    return trained if nodes else trained.repeat_interleave(made.raw.num_nodes)
