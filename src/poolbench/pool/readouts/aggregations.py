"""Readouts that learn how to aggregate a set: Set2Set, Deep Sets, Set Transformer, Graph Multiset Transformer, softmax
and power mean.

Vinyals, Bengio, Kudlur, "Order Matters: Sequence to sequence for sets", ICLR 2016, arXiv 1511.06391; Zaheer et al.,
"Deep Sets", NeurIPS 2017, arXiv 1703.06114; Lee et al., "Set Transformer", ICML 2019, arXiv 1810.00825; Baek, Kang,
Hwang, "Accurate Learning of Graph Representations with Graph Multiset Pooling", ICLR 2021, arXiv 2102.11533; Li, Xiong,
Thabet, Ghanem, "DeeperGCN: All You Need to Train Deeper GCNs", 2020, arXiv 2006.07739; as readouts of graphs Buterez,
Janet, Kiddle, Oglic, Liò, "Graph Neural Networks with Adaptive Readouts", NeurIPS 2022, arXiv 2211.04952.

The values are those of the classes of torch_geometric.nn.aggr. Its attention blocks are used as they are; what PyG adds
up by scattering is written with the sums over graphs of `poolbench.linalg`, which know padding and are the same bit by
bit on a GPU.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from poolbench.errors import whole
from poolbench.linalg import GCN, Matrix, Nodes
from poolbench.pool.base.layers import Linear
from poolbench.pool.base.src import GlobalPool

KEYS = ("linear", "gcn")


class SoftmaxPool(GlobalPool):
    """The mean of the node features of each graph, weighted feature by feature by their softmax: [b, f].

    Paper: Li, Xiong, Thabet, Ghanem, "DeeperGCN: All You Need to Train Deeper GCNs", 2020, arXiv 2006.07739.

        alpha_uj = softmax_u(t x_uj)  over the nodes u of a graph,     out_j = sum_u alpha_uj x_uj

    t = 0 is the mean, t to infinity the maximum. A graph without nodes gives zeros. Cost O(n f). No losses.

    Args:
        t: inverse temperature, the initial one where it is learned.
        learn: train t.
    """

    def __init__(self, t: float = 1.0, learn: bool = False, **unknown: Any) -> None:
        super().__init__(**unknown)
        self.t = nn.Parameter(torch.tensor(float(t))) if learn else float(t)

    def readout(self, x: Tensor, nodes: Nodes) -> Tensor:
        x = nodes.zero_padding(x)
        return nodes.sum(nodes.softmax(self.t * x) * x)


class PowerMeanPool(GlobalPool):
    """The power mean of the node features of each graph, feature by feature: [b, f].

    Paper: Li, Xiong, Thabet, Ghanem, "DeeperGCN: All You Need to Train Deeper GCNs", 2020, arXiv 2006.07739.

        out_j = (1/n sum_u x_uj^p)^(1/p),   x and the mean clamped to [1e-4, 100]

    so that negative features count as 1e-4; without the clamps where p is 1 and not learned: the mean. p to infinity is
    the maximum. A graph without nodes gives zeros. Cost O(n f). No losses.

    Args:
        p: power, not 0; the initial one where it is learned.
        learn: train p.
    """

    def __init__(self, p: float = 1.0, learn: bool = False, **unknown: Any) -> None:
        super().__init__(**unknown)
        if p == 0:
            raise ValueError("p=0: a power other than 0 is expected")
        self.p = nn.Parameter(torch.tensor(float(p))) if learn else float(p)

    def readout(self, x: Tensor, nodes: Nodes) -> Tensor:
        if isinstance(self.p, float) and self.p == 1.0:
            return nodes.mean(x)
        mean = nodes.mean(nodes.zero_padding(x).clamp(1e-4, 100.0).pow(self.p))
        return _without_empty(mean.clamp(1e-4, 100.0).pow(1.0 / self.p), nodes)


class SetPool(GlobalPool):
    """Base of the readouts of a set of vectors of the width `channels`, to which a linear layer brings the features."""

    def __init__(self, channels: int, in_channels: int | None = None, **unknown: Any) -> None:
        super().__init__(**unknown)
        self.channels = whole("channels", channels)
        self.projection = Linear(in_channels, self.channels)

    def out_channels(self, in_channels: int) -> int:
        return self.channels

    def readout(self, x: Tensor, nodes: Nodes) -> Tensor:
        x = self.projection(nodes.zero_padding(x))
        return _without_empty(self.aggregate(x, nodes), nodes)

    def aggregate(self, x: Tensor, nodes: Nodes) -> Tensor:
        """[.., channels] -> [b, out_channels], with any rows for graphs without nodes."""
        raise NotImplementedError


class DeepSetsPool(SetPool):
    """A network of the sum of a network of the node features: [b, channels].

    Paper: Zaheer et al., "Deep Sets", NeurIPS 2017, arXiv 1703.06114.

        phi(x) = W_2 relu(W_1 x + b_1) + b_2,    out = rho(sum_u phi(x_u)),    rho like phi          (theorem 2)

    A graph without nodes gives zeros. Cost O(n channels (f + channels)). No losses.

    Args:
        channels: width of both networks and of the result.
        in_channels: f, inferred at the first call where it is None.
    """

    def __init__(self, channels: int, in_channels: int | None = None, **unknown: Any) -> None:
        super().__init__(channels, in_channels, **unknown)
        c = self.channels
        self.inner = Linear(c, c)
        self.outer = nn.Sequential(Linear(c, c), nn.ReLU(), Linear(c, c))

    def aggregate(self, x: Tensor, nodes: Nodes) -> Tensor:
        return self.outer(nodes.sum(self.inner(x.relu())))


class Set2SetPool(SetPool):
    """Attention over the nodes, again and again, by an LSTM that reads what it attended to: [b, 2 channels].

    Paper: Vinyals, Bengio, Kudlur, "Order Matters: Sequence to sequence for sets", ICLR 2016, arXiv 1511.06391.

        y_u = W x_u + b
        q_t = LSTM(q*_t-1),   alpha_ut = softmax_u(y_u . q_t),   r_t = sum_u alpha_ut y_u,   q*_t = [q_t, r_t]

    and out = q*_T (eq. 3 to 7). A graph without nodes gives zeros. Cost O(n f channels + T channels (n + channels)).
    No losses.

    Args:
        channels: width of y and q.
        steps: T.
        in_channels: f, inferred at the first call where it is None.
    """

    def __init__(self, channels: int, steps: int = 3, in_channels: int | None = None, **unknown: Any) -> None:
        super().__init__(channels, in_channels, **unknown)
        self.steps = whole("steps", steps)
        self.lstm = nn.LSTMCell(2 * self.channels, self.channels)  # torch.compile traces no nn.LSTM

    def out_channels(self, in_channels: int) -> int:
        return 2 * self.channels

    def aggregate(self, x: Tensor, nodes: Nodes) -> Tensor:
        query = cell = x.new_zeros(nodes.num_graphs, self.channels)
        answer = x.new_zeros(nodes.num_graphs, 2 * self.channels)
        for _ in range(self.steps):
            query, cell = self.lstm(answer, (query, cell))
            weight = nodes.softmax((x * nodes.expand(query)).sum(-1, keepdim=True))
            answer = torch.cat([query, nodes.sum(weight * x)], -1)
        return answer


class AttentionPool(SetPool):
    """Base of the readouts made of PyG's attention blocks.

    They take dense sets, so graphs are gathered in size classes with at most half padding; nothing is padded to the
    largest graph of a disjoint batch.
    """

    def aggregate(self, x: Tensor, nodes: Nodes) -> Tensor:
        graphs, rows = [x.new_zeros(0, dtype=torch.int64)], [x.new_zeros(0, self.out_channels(self.channels))]
        for members, block, real in nodes.blocks(x):
            # Attention to nothing is NaN: a graph without nodes attends to a row of padding.
            rows.append(self.attend(block, real | ~real.any(-1, keepdim=True)).to(x.dtype))
            graphs.append(members)
        return x.new_zeros(nodes.num_graphs, rows[0].shape[1]).index_copy(0, torch.cat(graphs), torch.cat(rows))

    def attend(self, x: Tensor, real: Tensor) -> Tensor:
        """Sets [m, w, channels] with real elements [m, w] -> [m, out_channels]."""
        raise NotImplementedError


class SetTransformerPool(AttentionPool):
    """Self-attention over the nodes, then of learned seeds to them, then over the seeds: [b, k channels].

    Paper: Lee et al., "Set Transformer", ICML 2019, arXiv 1810.00825.

        MAB(X, Y) = H + relu(H W + b),   H = X + MultiHead(X, Y, Y);   SAB(X) = MAB(X, X)            (eq. 6 to 8)
        out = SAB_d(... SAB_1(MAB(seeds, relu(SAB_e(... SAB_1(Y)) W' + b'))))  flattened,   Y = X W + b

    A graph without nodes gives zeros. Cost O(n^2 channels + n f channels). No losses.

    Args:
        channels: width of Y, a multiple of `heads`.
        seeds: k, learned vectors that attend to the nodes.
        encoders, decoders: self-attention blocks before and after them.
        heads: of each attention.
        layer_norm: layer normalisation after both sums of a block.
        dropout: of the attention weights.
        in_channels: f, inferred at the first call where it is None.
    """

    def __init__(
        self,
        channels: int,
        seeds: int = 1,
        encoders: int = 1,
        decoders: int = 1,
        heads: int = 1,
        layer_norm: bool = False,
        dropout: float = 0.0,
        in_channels: int | None = None,
        **unknown: Any,
    ) -> None:
        from torch_geometric.nn.aggr import SetTransformerAggregation  # seconds to import

        super().__init__(channels, in_channels, **unknown)
        self.seeds = whole("seeds", seeds)
        _check_attention(self.channels, heads, dropout)
        self.blocks = SetTransformerAggregation(
            self.channels, self.seeds, encoders, decoders, heads, layer_norm=layer_norm, dropout=dropout
        )

    def out_channels(self, in_channels: int) -> int:
        return self.seeds * self.channels

    def attend(self, x: Tensor, real: Tensor) -> Tensor:
        for encoder in self.blocks.encoders:
            x = encoder(x, real)
        x = self.blocks.pma(x, real)
        for decoder in self.blocks.decoders:
            x = decoder(x)
        return x.flatten(1)


class GraphMultisetTransformerPool(AttentionPool):
    """k learned vectors attend to the nodes, then to one another, and one more attends to them: [b, channels].

    Paper: Baek, Kang, Hwang, "Accurate Learning of Graph Representations with Graph Multiset Pooling", ICLR
    2021, arXiv 2102.11533.

        out = MAB(seed, relu(SAB_e(... SAB_1(MAB(seeds, relu(Y W' + b')))) W'' + b'')),   Y = X W + b

    with the blocks of SetTransformerPool: in each, keys and values are linear layers of what is attended to. A graph
    without nodes gives zeros. Cost O(n channels (k + f + channels)). No losses.

    With `keys="gcn"` those of the first block are graph convolutions, each with weights of its own, as the paper's
    GMPool_G has them: K = F Y W_K + b_K and V = F Y W_V + b_V, F = D^-1/2 (A + I) D^-1/2, without the layer
    relu(Y W' + b'). Then a call takes the graph, and costs O(E channels) more. What stays as in PyTorch Geometric: the
    attention is a softmax over the nodes (the authors' scripts take one over the seeds), divided by the root of a
    head's width (theirs: of all heads'), and goes through a layer that joins the heads (theirs: through none).

    Args:
        channels: width of Y and of the result, a multiple of `heads`.
        seeds: k, the vectors that a graph is pooled to. The authors' are a quarter of the mean size.
        encoders: self-attention blocks over them.
        heads, layer_norm, dropout, in_channels: as for SetTransformerPool.
        keys: linear or gcn, the layers of the first block that make keys and values of the nodes.
    """

    def __init__(
        self,
        channels: int,
        seeds: int = 8,
        encoders: int = 1,
        heads: int = 1,
        layer_norm: bool = False,
        dropout: float = 0.0,
        in_channels: int | None = None,
        keys: str = "linear",
        **unknown: Any,
    ) -> None:
        from torch_geometric.nn.aggr import GraphMultisetTransformer  # seconds to import

        super().__init__(channels, in_channels, **unknown)
        _check_attention(self.channels, heads, dropout)
        if keys not in KEYS:
            raise ValueError(f"keys={keys!r}: one of {', '.join(KEYS)} is expected")
        self.blocks = GraphMultisetTransformer(
            self.channels, whole("seeds", seeds), encoders, heads, layer_norm=layer_norm, dropout=dropout
        )

        self.needs_graph = keys == "gcn"
        if self.needs_graph:
            self.blocks.pma1.lin = nn.Identity()

    def readout(self, x: Tensor, nodes: Nodes, a: Matrix | None = None) -> Tensor:
        if a is None:
            return super().readout(x, nodes)
        y = a.view(GCN).matmul(self.projection(nodes.zero_padding(x)))
        return _without_empty(self.aggregate(y, nodes), nodes)

    def attend(self, x: Tensor, real: Tensor) -> Tensor:
        first = self.blocks.pma1
        if self.needs_graph:  # the layers of an attention on F Y are convolutions of Y
            x = first.mab(first.seed.expand(x.shape[0], -1, -1), x, y_mask=real)
        else:
            x = first(x, real)
        for encoder in self.blocks.encoders:
            x = encoder(x)
        return self.blocks.pma2(x).squeeze(1)


def _check_attention(channels: int, heads: int, dropout: float) -> None:
    if channels % whole("heads", heads):
        raise ValueError(f"heads={heads}: channels={channels} is not a multiple of it")
    if not 0.0 <= dropout < 1.0:
        raise ValueError(f"dropout={dropout!r}: a share in [0, 1) is expected")


def _without_empty(y: Tensor, nodes: Nodes) -> Tensor:
    """Zeros for the graphs without nodes."""
    return y * (nodes.sizes > 0).unsqueeze(-1)
