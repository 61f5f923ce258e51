"""PoolBench's selections in Torch Geometric Pool's terms, and its BNPool without chance, to compare answers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import tgp.poolers.bnpool
import torch
import torch.nn.functional as F
from tgp.select import SelectOutput
from torch import Tensor
from torch.distributions import Beta

from poolbench.linalg import Ragged, Sparse
from poolbench.pool.base.selection import DenseSelection
from poolbench.pool.base.src import SRCPool
from poolbench.pool.eigenpool import EigenSelection
from speed.chance import replaced, same_pairs


class GivenSelection:
    """Stands in for a tgp operator's `select`: what a precomputable operator of PoolBench selects on the same graphs.

    batch: graph of each node, where the operator is called with several graphs and does not hand it on.
    """

    def __init__(self, pool: SRCPool) -> None:
        self.pool = pool
        self.batch: Tensor | None = None

    def __call__(
        self, *, edge_index: Tensor, batch: Tensor | None = None, num_nodes: int | None = None, **other: Any
    ) -> SelectOutput:
        index = self.batch if batch is None else batch
        if index is None:
            assert num_nodes is not None
            index = edge_index.new_zeros(num_nodes)
        a = as_matrix(edge_index, index)
        return select_output(self.pool.select(torch.zeros(index.numel(), 0), a, None))


def as_matrix(edge_index: Tensor, batch: Tensor) -> Sparse:
    """Some graphs as one matrix."""
    return Sparse.from_edges(edge_index[0], edge_index[1], None, Ragged.from_index(batch, int(batch.max()) + 1))


def select_output(s: Any) -> SelectOutput:
    """A selection of PoolBench's: entries of S, a dense S, or clusters with eigenvectors."""
    if isinstance(s, EigenSelection):
        theta = eigenvectors(s)
        one = s.nodes.num_graphs == 1
        return SelectOutput(
            s=s.s, batch=s.nodes.index, theta=theta if one else list(theta.split(s.nodes.sizes.tolist()))
        )
    if isinstance(s, DenseSelection):
        return SelectOutput(s=s.s, batch=s.nodes.index)
    return SelectOutput(node_index=s.node, cluster_index=s.cluster, weight=s.weight,
                        num_nodes=s.nodes.num_rows, num_supernodes=s.pooled.num_rows)  # fmt: skip


def eigenvectors(s: EigenSelection) -> Tensor:
    """The entries of each node in the eigenvectors of all clusters of its graph, mode after mode: [n, H k]."""
    k = s.s.shape[-1]
    clusters = F.one_hot(s.cluster % k, k)
    return (clusters.unsqueeze(1) * s.weight.unsqueeze(-1)).flatten(1)


@contextmanager
def without_draws() -> Iterator[None]:
    """BNPool with the means of its sticks, and with the pairs that PoolBench's draws."""
    with (
        replaced(Beta, "rsample", _mean),
        replaced(tgp.poolers.bnpool, "batched_negative_edge_sampling", _pairs),
    ):
        yield


def _mean(self: Beta, sample_shape: Any = ()) -> Tensor:
    return self.mean


def _pairs(edge_index: Tensor, batch: Tensor, num_neg_samples: int | None = None, **other: Any) -> Tensor:
    return same_pairs(as_matrix(edge_index, batch), num_neg_samples)
