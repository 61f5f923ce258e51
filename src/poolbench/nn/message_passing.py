"""Message passing on both matrix layouts. A layer asks the graph for its normalised matrix: `a.view(...)`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from poolbench.linalg import GCN as GCN_MATRIX
from poolbench.linalg import RAW, SYMMETRIC, Connectivity, Matrix, Sparse
from poolbench.linalg.met import met_matrix
from poolbench.linalg.products import segment_sum
from poolbench.nn.encoder import Channels, Encoder
from poolbench.nn.mlp import MLP, affine
from poolbench.pool.base.module import Module


class MessagePassing(Module):
    """x [.., f], a -> [.., f']. `connectivity` is the matrix that the layer multiplies with.

    A layer with `takes_edges` is constructed with the `Channels` of the edge features too (None where there are none),
    and called with them: [e, p] in the order of a's entries.
    """

    connectivity: Connectivity = RAW
    takes_edges = False

    def forward(self, x: Tensor, a: Matrix) -> Tensor:
        raise NotImplementedError


class GCN(MessagePassing):
    """norm(A + I) X W + b. Kipf & Welling, ICLR 2017, arXiv 1609.02907, eq. 2, without the activation."""

    connectivity = GCN_MATRIX

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.weight = nn.Linear(in_channels, out_channels, bias=False)
        nn.init.xavier_uniform_(self.weight.weight)
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def forward(self, x: Tensor, a: Matrix) -> Tensor:
        a = a.view(self.connectivity)
        # The product with A costs what the width of its factor costs: take the narrower side.
        if x.shape[-1] < self.weight.out_features:
            return affine(a.matmul(x), self.weight, self.bias)
        return a.matmul(affine(x, self.weight)).add_(self.bias)


class GIN(MessagePassing):
    """MLP((1 + eps) X + A X), eps trainable. Xu et al., ICLR 2019, arXiv 1810.00826, eq. 4.1."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.eps = nn.Parameter(torch.zeros(()))
        self.mlp = MLP([in_channels, out_channels, out_channels])

    def forward(self, x: Tensor, a: Matrix) -> Tensor:
        return self.mlp(torch.addcmul(x + a.matmul(x), self.eps, x))


class GINE(MessagePassing):
    """MLP((1 + eps) x_i + sum_j a_ij relu(x_j + encode(e_ij))), eps trainable. Hu et al., "Strategies for Pre-training
    Graph Neural Networks", ICLR 2020, arXiv 1905.12265. Without edge features, as after a pool with
    edges of its own, e_ij = 0.
    """

    takes_edges = True

    def __init__(self, in_channels: int, out_channels: int, edges: Channels | None = None) -> None:
        super().__init__()
        self.eps = nn.Parameter(torch.zeros(()))
        self.encoder = None if edges is None else Encoder(edges, in_channels)
        self.mlp = MLP([in_channels, out_channels, out_channels])

    def forward(self, x: Tensor, a: Matrix, edges: Tensor | None = None) -> Tensor:
        return self.mlp(torch.addcmul(x + self._messages(x, a, edges), self.eps, x))

    def _messages(self, x: Tensor, a: Matrix, edges: Tensor | None) -> Tensor:
        if edges is None or self.encoder is None:
            return a.matmul(torch.relu(x))
        assert isinstance(a, Sparse), "edge features belong to a sparse graph"
        messages = torch.relu(x.index_select(0, a.col) + self.encoder(edges))
        if a.value is not None:
            messages = messages * a.value.unsqueeze(-1).to(messages.dtype)
        return segment_sum(messages, a.crow, a.row)


class GraphConv(MessagePassing):
    """X W1 + A X W2 + b. Morris et al., AAAI 2019, arXiv 1810.02244, eq. 5, without the activation."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.root = nn.Linear(in_channels, out_channels)
        self.neighbours = nn.Linear(in_channels, out_channels, bias=False)
        for layer in (self.root, self.neighbours):
            nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(self.root.bias)

    def forward(self, x: Tensor, a: Matrix) -> Tensor:
        a = a.view(self.connectivity)
        narrow = self.neighbours.in_features < self.neighbours.out_features
        y = self.neighbours(a.matmul(x)) if narrow else a.matmul(self.neighbours(x))
        return self.root(x) + y


class GCS(GraphConv):
    """X W1 + norm(A) X W2 + b: the graph convolution with a skip connection of MinCutPool's authors."""

    connectivity = SYMMETRIC


class PAN(MessagePassing):
    """M X W + b, M the maximal entropy transition matrix of paths of at most `filter_size` edges, with a trainable
    weight for each length. Ma et al., NeurIPS 2020, arXiv 2006.16811, eq. 3; `poolbench.linalg.met` says what M costs.
    """

    def __init__(self, in_channels: int, out_channels: int, filter_size: int = 2) -> None:
        super().__init__()
        self.paths = nn.Parameter(torch.ones(filter_size + 1))
        self.weight = nn.Linear(in_channels, out_channels, bias=False)
        nn.init.xavier_uniform_(self.weight.weight)
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def forward(self, x: Tensor, a: Matrix) -> Tensor:
        m = met_matrix(a, self.paths)
        y = self.weight(m.matmul(x)) if x.shape[-1] < self.weight.out_features else m.matmul(self.weight(x))
        return y + self.bias


LAYERS: dict[str, type[Any]] = {"gcn": GCN, "gin": GIN, "gine": GINE, "graphconv": GraphConv, "gcs": GCS, "pan": PAN}
