"""The readout of GMT's authors, in which the seeds share out the nodes: Baek, Kang, Hwang, "Accurate Learning of Graph
Representations with Graph Multiset Pooling", ICLR 2021, arXiv 2102.11533."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from poolbench.errors import whole
from poolbench.linalg import GCN, Matrix, Nodes
from poolbench.pool.base.layers import Linear, SquareLinear, as_wide, row_softmax
from poolbench.pool.base.src import GlobalPool
from poolbench.pool.readouts.aggregations import KEYS


class MultisetPool(GlobalPool):
    r"""k seeds to which each node is shared out, self-attention of the seeds, and one seed for them all: [b, channels].

        out = MAB(seed, SAB(MAB(seeds, X))) W + b,   SAB(Y) = MAB(Y, Y)
        MAB(Q, Y) = O + relu(O W_O + b_O),   O = Q W_Q + b_Q + softmax(Q W_Q (Y W_K)' / sqrt(c)) (Y W_V + b_V)

    with heads side by side, c the width of all of them together. The softmax runs over the rows of Q, not over those of
    Y: each node is shared out among the seeds. With keys="gcn" Y is D^-1/2 (A + I) D^-1/2 X in the first block. The
    seeds are as wide as X, all that follows `channels`. As in the authors' scripts; the readout `gmt` is PyTorch
    Geometric's, with a softmax over the nodes. To the last seed, which is alone, goes all of each row, whatever its
    key: the keys that the authors have there change nothing and are left out.

    A graph without nodes gives zeros. Cost O((E + n f + n k) f + k^2 channels). No losses.

    Args:
        channels: width of the result, a multiple of `heads`.
        seeds: k; the authors' are a quarter of the mean size of all graphs.
        heads: of each attention; they share the f columns of X, too.
        layer_norm: layer normalisation after both sums of a block; takes in_channels.
        keys: gcn: keys and values of the nodes are graph convolutions, as in the paper, and a call takes the graph;
            linear: linear layers.
        in_channels: f, a multiple of `heads`; inferred at the first call where it is None.

    Raises: ValueError where a width is no multiple of `heads`, and for layer_norm without in_channels.
    """

    def __init__(
        self,
        channels: int,
        seeds: int = 8,
        heads: int = 1,
        layer_norm: bool = False,
        keys: str = "linear",
        in_channels: int | None = None,
        **unknown: Any,
    ) -> None:
        super().__init__(**unknown)
        if keys not in KEYS:
            raise ValueError(f"keys={keys!r}: one of {', '.join(KEYS)} is expected")
        self.needs_graph = keys == "gcn"
        self.channels, self.heads = whole("channels", channels), whole("heads", heads)
        if layer_norm and in_channels is None:
            raise ValueError("layer_norm=True: in_channels is needed to know the width of the first one")
        for name, width in (("channels", self.channels), ("in_channels", in_channels)):
            if width is not None and width % self.heads:
                raise ValueError(f"heads={heads}: {name}={width} is not a multiple of it")
        self.seeds = Linear(in_channels, whole("seeds", seeds), bias=False, kernel_initializer=_glorot)
        self.shared = Attention(in_channels, None, self.heads, layer_norm, glorot=self.needs_graph)
        self.among = Attention(in_channels, self.channels, self.heads, layer_norm)
        self.seed = Linear(self.channels, 1, bias=False, kernel_initializer=_glorot)
        self.joined = Attention(self.channels, self.channels, self.heads, layer_norm, alone=True)
        self.last = _plain(self.channels, self.channels)

    def out_channels(self, in_channels: int) -> int:
        return self.channels

    def readout(self, x: Tensor, nodes: Nodes, a: Matrix | None = None) -> Tensor:
        heard = nodes.zero_padding(x)
        if a is not None:
            heard = a.view(GCN).matmul(heard)
        if heard.shape[-1] % self.heads:
            raise ValueError(f"heads={self.heads}: the {heard.shape[-1]} columns of x are not a multiple of it")
        self.seeds(heard[:0])  # infers the width
        y = self.shared.of_nodes(as_wide(self.seeds.weight, heard), heard, nodes)
        y = self.among(y, y)
        y = self.joined(as_wide(self.seed.weight, y).expand(y.shape[0], 1, -1), y)
        return self.last(y.squeeze(1)) * (nodes.sizes > 0).unsqueeze(-1)


class Attention(nn.Module):
    """The block MAB of `MultisetPool`: from in_channels, None for what it is first given, to out_channels, None for as
    many.

    glorot: keys and values start as those of a graph convolution; else as torch's linear layers. alone: of one row that
    attends, to which all of each other goes, so that there are no keys.
    """

    def __init__(
        self,
        in_channels: int | None,
        out_channels: int | None,
        heads: int,
        layer_norm: bool,
        glorot: bool = False,
        alone: bool = False,
    ) -> None:
        super().__init__()
        self.heads = heads
        self.queries = _plain(in_channels, out_channels)
        key, self.values = (SquareLinear(in_channels) if glorot else _plain(in_channels, out_channels) for _ in "kv")
        self.keys = None if alone else key
        self.mixed = _plain(in_channels if out_channels is None else out_channels, out_channels)
        width = in_channels if out_channels is None else out_channels
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2) if layer_norm and width is not None)

    def forward(self, q: Tensor, y: Tensor) -> Tensor:
        """Rows [b, m, f] that attend to rows [b, k, f]: [b, m, f']."""
        queries, values = self.queries(q), self.values(y)
        if self.keys is None:
            return self._end(queries + values.sum(1, keepdim=True))
        keys, parts = self.keys(y), []
        for query, key, value in zip(*map(self._split, (queries, keys, values)), strict=True):
            share = row_softmax(key @ query.transpose(1, 2) / queries.shape[-1] ** 0.5)
            parts.append(query + share.to(value.dtype).transpose(1, 2) @ value)
        return self._end(torch.cat(parts, -1))

    def of_nodes(self, q: Tensor, y: Tensor, nodes: Nodes) -> Tensor:
        """Rows [m, f] that attend to the nodes of each graph, node level y: [b, m, f']."""
        assert self.keys is not None
        queries, keys, values = self.queries(q), self.keys(y), self.values(y)
        parts = []
        for query, key, value in zip(*map(self._split, (queries, keys, values)), strict=True):
            share = row_softmax(key @ query.t() / queries.shape[-1] ** 0.5)
            parts.append(query + nodes.gram(nodes.zero_padding(share.to(value.dtype)), value))
        return self._end(torch.cat(parts, -1))

    def _split(self, rows: Tensor) -> tuple[Tensor, ...]:
        return rows.chunk(self.heads, -1)

    def _end(self, y: Tensor) -> Tensor:
        first, second = self.norms or (nn.Identity(), nn.Identity())
        y = first(y)
        return second(y + torch.relu(self.mixed(y)))


def _plain(in_channels: int | None, out_channels: int | None) -> Linear:
    """A linear layer that starts as torch's do."""
    options: dict[str, Any] = {"kernel_initializer": _uniform, "bias_initializer": _uniform}
    if out_channels is None:
        return SquareLinear(in_channels, **options)
    return Linear(in_channels, out_channels, **options)


def _uniform(weight: Tensor) -> Tensor:
    bound = weight.shape[-1] ** -0.5
    return nn.init.uniform_(weight, -bound, bound)


def _glorot(seeds: Tensor) -> Tensor:
    """Fill k seeds of width f, as the authors' tensor of shape [1, k, f]: of k f inputs and f outputs."""
    return nn.init.xavier_uniform_(seeds.unsqueeze(0))
