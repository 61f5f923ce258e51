"""The pooling layers of PyTorch Geometric behind the SRC contract, called as its documentation and examples call them.

Fey & Lenssen, "Fast Graph Representation Learning with PyTorch Geometric", ICLR 2019 workshop, arXiv 1903.02428. Its
layers are judged as they are; where 2.8 is known to differ from the paper, the class says so.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch_geometric.nn as layers
from torch import Tensor, nn

from poolbench.linalg import Matrix, Sparse, to_padded
from poolbench.linalg.met import met_matrix
from poolbench.pool.base.layers import check_dropout
from poolbench.pool.base.selection import DenseSelection, SparseSelection
from poolbench.pool.pan import path_weights
from poolbench.pool.peers.peer import PeerPool, PeerSelection, batch_of, by_graph, edges, width
from poolbench.pool.topk import check_min_score


class PyGTopK(PeerPool):
    """PyG's TopKPooling. Returns the kept nodes by decreasing score; k = ceil(ratio n) in the type of x.

    Args:
        ratio: share of the nodes kept, or a number of nodes (1 means one node).
        in_channels: features of a node.
        min_score, multiplier, nonlinearity: as PyG has them.
    """

    def __init__(
        self,
        ratio: float | int = 0.5,
        in_channels: int | None = None,
        min_score: float | None = None,
        multiplier: float = 1.0,
        nonlinearity: str = "tanh",
        **keywords: Any,
    ) -> None:
        super().__init__(**keywords)
        check_min_score(min_score)
        self.layer = layers.TopKPooling(width(in_channels, self), ratio, min_score, multiplier, nonlinearity)

    def select(self, x: Tensor, a: Matrix, i: Tensor | None) -> PeerSelection:
        a = a.sparse()
        return _kept(a, self.layer.multiplier, *self.layer(x, *edges(a), a.nodes.index))


class PyGSAG(PeerPool):
    """PyG's SAGPooling. The score's layer sees the edges, never their weights.

    Args:
        ratio: share of the nodes kept, or a number of nodes (1 means one node).
        in_channels: features of a node.
        gnn: the layer that scores, the name of a class of `torch_geometric.nn`.
        min_score, multiplier, nonlinearity: as PyG has them.
    """

    def __init__(
        self,
        ratio: float | int = 0.5,
        in_channels: int | None = None,
        gnn: str = "GraphConv",
        min_score: float | None = None,
        multiplier: float = 1.0,
        nonlinearity: str = "tanh",
        **keywords: Any,
    ) -> None:
        super().__init__(**keywords)
        layer = getattr(layers, gnn, None)
        if not (isinstance(layer, type) and issubclass(layer, layers.MessagePassing)):
            raise ValueError(f"gnn={gnn!r}: a MessagePassing class of torch_geometric.nn is expected, such as GCNConv")
        check_min_score(min_score)
        self.layer = layers.SAGPooling(width(in_channels, self), ratio, layer, min_score, multiplier, nonlinearity)

    def select(self, x: Tensor, a: Matrix, i: Tensor | None) -> PeerSelection:
        a = a.sparse()
        return _kept(a, self.layer.multiplier, *self.layer(x, *edges(a), a.nodes.index))


class PyGPAN(PeerPool):
    """PyG's PANPooling on the MET matrix, which PyG's PANConv would hand over and which is formed here by PoolBench.

    Args:
        ratio: share of the nodes kept.
        in_channels: features of a node.
        filter_size: the longest path.
        min_score, multiplier, nonlinearity: as PyG has them.
    """

    def __init__(
        self,
        ratio: float = 0.5,
        in_channels: int | None = None,
        filter_size: int = 2,
        min_score: float | None = None,
        multiplier: float = 1.0,
        nonlinearity: str = "tanh",
        **keywords: Any,
    ) -> None:
        super().__init__(**keywords)
        self.paths = path_weights(filter_size)
        check_min_score(min_score)
        self.layer = layers.PANPooling(width(in_channels, self), ratio, min_score, multiplier, nonlinearity)

    def select(self, x: Tensor, a: Matrix, i: Tensor | None) -> PeerSelection:
        a = a.sparse()
        met = met_matrix(a, self.paths).sparse()
        return _kept(a, self.layer.multiplier, *self.layer(x, _Coordinates(*met.edges()), a.nodes.index))


class _Coordinates(NamedTuple):
    """As much of a torch_sparse matrix as PANPooling asks for."""

    row: Tensor
    col: Tensor
    value: Tensor

    def coo(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.row, self.col, self.value


class PyGASAP(PeerPool):
    """PyG's ASAPooling.

    It drops the weights of the pooled edges where the graph has none, so that they get no gradient, and takes float32
    alone; where the graph has some, its backward pass fails on torch 2.13 (a sparse CSR product without a derivative).
    It returns the kept nodes, not the attention that they were made with, so that `lift` is not known.

    Args:
        ratio: share of the nodes kept, or a number of nodes.
        in_channels: features of a node.
        dropout, negative_slope, add_self_loops: as PyG has them.
    """

    def __init__(
        self,
        ratio: float | int = 0.5,
        in_channels: int | None = None,
        dropout: float = 0.0,
        negative_slope: float = 0.2,
        add_self_loops: bool = False,
        **keywords: Any,
    ) -> None:
        super().__init__(**keywords)
        check_dropout(dropout)
        self.layer = layers.ASAPooling(
            width(in_channels, self), ratio, None, dropout, negative_slope, add_self_loops=add_self_loops
        )

    def select(self, x: Tensor, a: Matrix, i: Tensor | None) -> PeerSelection:
        a = a.sparse()
        x, index, weight, graph, _ = self.layer(x, *edges(a), a.nodes.index)
        x, pooled, _ = by_graph(x, index, weight, graph, a.nodes.num_graphs)
        return PeerSelection(x, pooled, a.nodes, "ASAPooling of PyG does not return the assignment it pooled with")


class PyGEdge(PeerPool):
    """PyG's EdgePooling. It takes no edge weights, gives the merged edges none, and keeps the loops of merged nodes.

    Args:
        in_channels: features of a node.
        dropout, add_to_edge_score: as PyG has them.
    """

    def __init__(
        self, in_channels: int | None = None, dropout: float = 0.0, add_to_edge_score: float = 0.5, **keywords: Any
    ) -> None:
        super().__init__(**keywords)
        check_dropout(dropout)
        self.layer = layers.EdgePooling(width(in_channels, self), None, dropout, add_to_edge_score)

    def select(self, x: Tensor, a: Matrix, i: Tensor | None) -> PeerSelection:
        a = a.sparse()
        x, index, graph, info = self.layer(x, edges(a)[0], a.nodes.index)
        x, pooled, order = by_graph(x, index, None, graph, a.nodes.num_graphs)
        cluster = torch.argsort(order)[info.cluster]
        score = info.new_edge_score[info.cluster]
        return PeerSelection(x, pooled, a.nodes, SparseSelection.partition(cluster, score, a.nodes, pooled.nodes))


class PyGMinCut(PeerPool):
    """PyG's dense_mincut_pool on a padded batch, S from one linear layer, as in its example `proteins_mincut_pool.py`.

    Args:
        k: clusters of a graph.
        in_channels: features of a node.
        temperature: of the softmax.
    """

    size_depends_on_data = False

    def __init__(self, k: int, in_channels: int | None = None, temperature: float = 1.0, **keywords: Any) -> None:
        super().__init__(**keywords)
        if not temperature > 0:
            raise ValueError(f"temperature={temperature!r}: a number above 0 is expected")
        self.linear, self.temperature = nn.Linear(width(in_channels, self), k), temperature

    def select(self, x: Tensor, a: Matrix, i: Tensor | None) -> PeerSelection:
        a = a.sparse()
        logits = self.linear(x)
        padded, dense = to_padded(torch.cat([x, logits], -1), a)
        x, s = padded.split([x.shape[-1], logits.shape[-1]], -1)
        x, pooled, cut, ortho = layers.dense_mincut_pool(x, dense.value, s, dense.nodes.mask, self.temperature)
        self.add_loss("cut", cut)
        self.add_loss("ortho", ortho)
        return PeerSelection(
            x, batch_of(pooled), a.nodes, DenseSelection((logits / self.temperature).softmax(-1), a.nodes)
        )


class PyGDiffPool(PeerPool):
    """PyG's dense_diff_pool on a padded batch, with a GCNConv for the assignment and one for the features.

    Its link loss is the norm over the whole batch, divided by the entries of the padded batch unless `normalize` is
    False; its entropy is averaged over padding too.

    Args:
        k: clusters of a graph.
        in_channels: features of a node.
        normalize: as PyG has it.
    """

    size_depends_on_data = False

    def __init__(self, k: int, in_channels: int | None = None, normalize: bool = True, **keywords: Any) -> None:
        super().__init__(**keywords)
        f = width(in_channels, self)
        self.assignment, self.embedding, self.normalize = layers.GCNConv(f, k), layers.GCNConv(f, f), normalize

    def select(self, x: Tensor, a: Matrix, i: Tensor | None) -> PeerSelection:
        a = a.sparse()
        graph = edges(a)
        logits, z = self.assignment(x, *graph), self.embedding(x, *graph)
        padded, dense = to_padded(torch.cat([z, logits], -1), a)
        z, s = padded.split([z.shape[-1], logits.shape[-1]], -1)
        x, pooled, link, entropy = layers.dense_diff_pool(z, dense.value, s, dense.nodes.mask, self.normalize)
        self.add_loss("link", link)
        self.add_loss("entropy", entropy)
        return PeerSelection(x, batch_of(pooled), a.nodes, DenseSelection(logits.softmax(-1), a.nodes))


class PyGDMoN(PeerPool):
    """PyG's DMoNPooling on a padded batch: S from one linear layer, SELU after the reduction, three losses.

    In a batch of b graphs its cluster loss divides the [b] norms by the [b, 1] sizes, so each graph's loss is divided
    by every graph's size (PyG's issue 10148, open in 2.8). A graph without edges gives NaN.

    Args:
        k: clusters of a graph.
        in_channels: features of a node.
        dropout: of the assignment.
    """

    size_depends_on_data = False

    def __init__(self, k: int, in_channels: int | None = None, dropout: float = 0.0, **keywords: Any) -> None:
        super().__init__(**keywords)
        check_dropout(dropout)
        self.layer = layers.DMoNPooling(width(in_channels, self), k, dropout)

    def select(self, x: Tensor, a: Matrix, i: Tensor | None) -> PeerSelection:
        a = a.sparse()
        padded, dense = to_padded(x, a)
        mask = dense.nodes.mask
        s, x, pooled, spectral, ortho, cluster = self.layer(padded, dense.value, mask)
        self.add_loss("spectral", spectral)
        self.add_loss("ortho", ortho)
        self.add_loss("cluster", cluster)
        return PeerSelection(x, batch_of(pooled), a.nodes, DenseSelection(s[mask], a.nodes))


def _kept(
    a: Sparse, multiplier: float, x: Tensor, index: Tensor, weight: Tensor | None, graph: Tensor, kept: Tensor,
    score: Tensor,
) -> PeerSelection:  # fmt: skip
    """What the layers return that keep nodes."""
    x, pooled, order = by_graph(x, index, weight, graph, a.nodes.num_graphs)
    return PeerSelection(x, pooled, a.nodes, SparseSelection.keep(kept[order], multiplier * score[order], a.nodes))
