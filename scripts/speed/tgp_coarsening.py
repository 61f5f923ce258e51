"""Torch Geometric Pool's side of `coarsening`: its transform PreCoarsening, graph by graph."""

from __future__ import annotations

import copy
import time
from typing import Any

import torch
from tgp.data import PreCoarsening
from tgp.poolers import EdgeContractionPooling, KMISPooling
from tgp.select import Select, SelectOutput
from tgp.select.edge_contraction_select import maximal_matching_cluster
from tgp.src import BasePrecoarseningMixin
from torch import Tensor

from poolbench.nn.model import clusters
from speed import work
from speed.coarsening import edge_scores
from speed.pyg import as_data
from speed.setting import Setting
from speed.tgp import build_layer, with_weights


class Matching(Select):
    """tgp's EdgeContractionSelect with scores from the graph alone."""

    def forward(self, edge_index: Tensor, num_nodes: int, **other: Any) -> SelectOutput:
        order = torch.argsort(edge_scores(edge_index[0], edge_index[1]), descending=True)
        _, cluster = maximal_matching_cluster(edge_index, num_nodes, order)
        each = torch.arange(num_nodes)
        return SelectOutput(node_index=each, num_nodes=num_nodes, cluster_index=cluster,
                            num_supernodes=int(cluster.max()) + 1)  # fmt: skip


class Contraction(BasePrecoarseningMixin, EdgeContractionPooling):
    """tgp's EdgeContractionPooling with `Matching`."""

    def __init__(self) -> None:
        super().__init__(in_channels=1)
        self.selector = Matching()


class TGP:
    """One operator and one dataset, in a process of its own."""

    def __init__(self, setting: Setting) -> None:
        self.work = work.load(setting.dataset, setting.graphs)
        k = setting.k or clusters(self.work.mean_nodes, [setting.ratio])
        self.transform = PreCoarsening(pooler(setting, k))
        self.data = with_weights(setting.pool, as_data(self.work, {}))
        self.transform(copy.copy(self.data[0]))  # libraries load at their first use

    def coarsen(self) -> dict[str, float]:
        """Seconds, and the number of pooled nodes."""
        start = time.perf_counter()
        found = [self.transform(copy.copy(data)).pooled_data[0] for data in self.data]
        return {"seconds": time.perf_counter() - start, "pooled": sum(pooled.num_nodes for pooled in found)}

    def facts(self) -> dict[str, float]:
        return {**self.work.facts(), "nodes": int(self.work.num_nodes.sum())}


def pooler(setting: Setting, k: int) -> Any:
    """tgp's operator, with scores from the graph where they are trained otherwise."""
    if setting.pool == "edgepool":
        return Contraction()
    if setting.pool == "kmis":
        return KMISPooling(scorer="degree")
    return build_layer(setting.pool, setting.hidden, k, setting.ratio, padded=False)
