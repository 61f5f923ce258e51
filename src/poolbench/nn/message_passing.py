"""Message passing on both matrix layouts. A layer asks the graph for its normalised matrix: `a.view(...)`.

A layer has no activation: what stands around it is the model's (`poolbench.nn.block`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from poolbench.errors import nearest, whole
from poolbench.linalg import GCN as GCN_MATRIX
from poolbench.linalg import RAW, SYMMETRIC, Connectivity, Dense, Matrix, Propagation, Sparse
from poolbench.linalg.met import met_matrix
from poolbench.linalg.products import segment_sum
from poolbench.nn.aggregation import AGGREGATIONS, aggregate
from poolbench.nn.encoder import Channels, Encoder
from poolbench.nn.mlp import ACTIVATIONS, MLP, NORM_AT, NORMS, Norm, activated, affine, among
from poolbench.pool.base.module import Module, parameters_of


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
    """norm(A + I) X W + b. Kipf & Welling, ICLR 2017, arXiv 1609.02907, eq. 2, without the activation.

    Args:
        delta: multiply with I - delta L, L = I - norm(A), in place of norm(A + I): the filter of JustBalance (Bianchi,
            arXiv 2207.08779) and, with 2, of MaxCutPool.
        skip: add omega * X W, omega a trainable number a column: the convolution of DMoN's authors (Tsitsulin et al.,
            JMLR 2023, arXiv 2006.16904). omega is drawn from U(-r, r), r = sqrt(3 / f'), as there.
    """

    connectivity: Connectivity = GCN_MATRIX

    def __init__(self, in_channels: int, out_channels: int, delta: float | None = None, skip: bool = False) -> None:
        super().__init__()
        if delta is not None:
            self.connectivity = Propagation(_number("delta", delta))
        self.weight = nn.Linear(in_channels, out_channels, bias=False)
        nn.init.xavier_uniform_(self.weight.weight)
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.omega: nn.Parameter | None = None
        if skip:
            bound = (3.0 / out_channels) ** 0.5
            self.omega = nn.Parameter(torch.empty(out_channels).uniform_(-bound, bound))

    def forward(self, x: Tensor, a: Matrix) -> Tensor:
        a = a.view(self.connectivity)
        if self.omega is not None:
            y = affine(x, self.weight)
            return a.matmul(y).add_(self.bias).addcmul(self.omega, y)
        # The product with A costs what the width of its factor costs: take the narrower side.
        if x.shape[-1] < self.weight.out_features:
            return affine(a.matmul(x), self.weight, self.bias)
        return a.matmul(affine(x, self.weight)).add_(self.bias)


class GIN(MessagePassing):
    """MLP((1 + eps) X + A X). Xu et al., ICLR 2019, arXiv 1810.00826, eq. 4.1.

    Args:
        train_eps: train eps from 0; False: eps is 0.
        activation, norm, norm_at: after the hidden layer of the MLP, as in a block; the last layer is linear.
        delta: multiply with I - delta L, L = I - norm(A), in place of A, as JustBalance's author has it.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        train_eps: bool = True,
        activation: str = "relu",
        norm: str = "none",
        norm_at: str = "before",
        delta: float | None = None,
    ) -> None:
        super().__init__()
        if delta is not None:
            self.connectivity = Propagation(_number("delta", delta))
        self.eps = nn.Parameter(torch.zeros(())) if train_eps else None
        self.mlp = MLP([in_channels, out_channels, out_channels], activation, norm=norm, norm_at=norm_at)

    def forward(self, x: Tensor, a: Matrix) -> Tensor:
        a = a.view(self.connectivity)
        return self.mlp(_with_own(x, a.matmul(x), self.eps), a.nodes)


class Alone(MessagePassing):
    """MLP(X), of two layers: what a node is told by nobody, as before the first layer of Errica et al.'s GIN.

    Args:
        activation, norm, norm_at: as for `GIN`.
    """

    def __init__(
        self, in_channels: int, out_channels: int, activation: str = "relu", norm: str = "none", norm_at: str = "before"
    ) -> None:
        super().__init__()
        self.mlp = MLP([in_channels, out_channels, out_channels], activation, norm=norm, norm_at=norm_at)

    def forward(self, x: Tensor, a: Matrix) -> Tensor:
        return self.mlp(x, a.nodes)


class GINE(MessagePassing):
    """MLP((1 + eps) x_i + sum_j a_ij relu(x_j + encode(e_ij))). Hu et al., "Strategies for Pre-training
    Graph Neural Networks", ICLR 2020, arXiv 1905.12265. Without edge features, as after a pool with
    edges of its own, e_ij = 0.

    Args:
        edges: the features of the edges. train_eps, activation, norm, norm_at: as for `GIN`.
    """

    takes_edges = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        edges: Channels | None = None,
        train_eps: bool = True,
        activation: str = "relu",
        norm: str = "none",
        norm_at: str = "before",
    ) -> None:
        super().__init__()
        self.eps = nn.Parameter(torch.zeros(())) if train_eps else None
        self.encoder = None if edges is None else Encoder(edges, in_channels)
        self.mlp = MLP([in_channels, out_channels, out_channels], activation, norm=norm, norm_at=norm_at)

    def forward(self, x: Tensor, a: Matrix, edges: Tensor | None = None) -> Tensor:
        return self.mlp(_with_own(x, self._messages(x, a, edges), self.eps), a.nodes)

    def _messages(self, x: Tensor, a: Matrix, edges: Tensor | None) -> Tensor:
        if edges is None or self.encoder is None:
            return a.matmul(torch.relu(x))
        assert isinstance(a, Sparse), "edge features belong to a sparse graph"
        messages = torch.relu(x.index_select(0, a.col) + self.encoder(edges))
        if a.value is not None:
            messages = messages * a.value.unsqueeze(-1).to(messages.dtype)
        return segment_sum(messages, a.crow, a.row)


class GraphConv(MessagePassing):
    """X W1 + aggregate(A, X) W2 + b. Morris et al., AAAI 2019, arXiv 1810.02244, eq. 5, without the activation.

    Args:
        aggregation: sum, mean or max of a_ij x_j over the neighbours (`poolbench.nn.aggregation`).
        root: False leaves X W1 out: a node hears its neighbours alone.
        normalize: divide each row of the result by its length.
    """

    def __init__(
        self, in_channels: int, out_channels: int, aggregation: str = "sum", root: bool = True, normalize: bool = False
    ) -> None:
        super().__init__()
        self.aggregation = among("aggregation", aggregation, AGGREGATIONS)
        self.normalize = normalize
        self.root = nn.Linear(in_channels, out_channels) if root else None
        self.neighbours = nn.Linear(in_channels, out_channels, bias=False)
        for layer in (self.root, self.neighbours):
            if layer is not None:
                nn.init.xavier_uniform_(layer.weight)
        if self.root is not None:
            nn.init.zeros_(self.root.bias)
        else:
            self.bias = nn.Parameter(torch.zeros(out_channels))

    def forward(self, x: Tensor, a: Matrix) -> Tensor:
        a = a.view(self.connectivity)
        narrow = self.neighbours.in_features < self.neighbours.out_features
        if narrow or self.aggregation == "max":  # a maximum does not go through W2
            y = self.neighbours(aggregate(x, a, self.aggregation))
        else:
            y = aggregate(self.neighbours(x), a, self.aggregation)
        y = self.bias + y if self.root is None else self.root(x) + y
        return F.normalize(y, dim=-1) if self.normalize else y


class SAGE(GraphConv):
    """X W1 + mean(A, X) W2 + b. Hamilton, Ying, Leskovec, "Inductive Representation Learning on Large Graphs", NeurIPS
    2017, arXiv 1706.02216, without the activation. DiffPool's networks have it with `normalize`, those of
    Errica et al. without `root`.

    Args:
        aggregation, root, normalize: as for `GraphConv`.
    """

    def __init__(
        self, in_channels: int, out_channels: int, aggregation: str = "mean", root: bool = True, normalize: bool = False
    ) -> None:
        super().__init__(in_channels, out_channels, aggregation, root, normalize)


class GCS(GraphConv):
    """X W1 + norm(A) X W2 + b: the graph convolution with a skip connection of MinCutPool's authors."""

    connectivity = SYMMETRIC


class PAN(MessagePassing):
    """M X W + b, M the maximal entropy transition matrix of paths of at most `filter_size` edges, with a trainable
    weight for each length. Ma et al., NeurIPS 2020, arXiv 2006.16811, eq. 3; `poolbench.linalg.met` says what M costs.
    """

    def __init__(self, in_channels: int, out_channels: int, filter_size: int = 2) -> None:
        super().__init__()
        self.paths = nn.Parameter(torch.ones(whole("filter_size", filter_size) + 1))
        self.weight = nn.Linear(in_channels, out_channels, bias=False)
        nn.init.xavier_uniform_(self.weight.weight)
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def forward(self, x: Tensor, a: Matrix) -> Tensor:
        m = met_matrix(a, self.paths)
        y = self.weight(m.matmul(x)) if x.shape[-1] < self.weight.out_features else m.matmul(self.weight(x))
        return y + self.bias


class Cheb(MessagePassing):
    """sum_t T_t(-norm(A)) X W_t + b, t = 0 .. k - 1: Chebyshev polynomials of 2 L / lambda - I with lambda = 2, which
    no eigenvalue of L = I - norm(A) exceeds. Defferrard, Bresson, Vandergheynst, NeurIPS 2016, arXiv 1606.09375.

    Args:
        k: terms; 1 looks at no edges. Cost O(k E f).
    """

    connectivity = SYMMETRIC

    def __init__(self, in_channels: int, out_channels: int, k: int = 2) -> None:
        super().__init__()
        layers = [nn.Linear(in_channels, out_channels, bias=False) for _ in range(whole("k", k))]
        for layer in layers:
            nn.init.xavier_uniform_(layer.weight)
        self.weights = nn.ModuleList(layers)
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def forward(self, x: Tensor, a: Matrix) -> Tensor:
        a = a.view(self.connectivity)
        first, *others = self.weights
        y = first(x) + self.bias
        before, term = None, x
        for weight in others:
            heard = a.matmul(term)
            before, term = term, -heard if before is None else -2.0 * heard - before
            y = y + weight(term)
        return y


class GTV(MessagePassing):
    """H - delta (diag(G 1) - G) H + b with H = X W and g_ij = a_ij / max(|h_i - h_j|_1, eps): a step down the total
    variation of H. Hansen & Bianchi, "Total Variation Graph Neural Networks", ICML 2023, arXiv 2211.06218, without the
    activation.

    Cost O(E f') time and memory, b k^2 f' on the batch layout. W is drawn as by the authors, of variance 2 / f'.

    Args:
        delta: length of the step. eps: the least distance.
    """

    def __init__(self, in_channels: int, out_channels: int, delta: float = 1.0, eps: float = 1e-3) -> None:
        super().__init__()
        self.delta, self.eps = _number("delta", delta), _number("eps", eps)
        if self.eps <= 0.0:
            raise ValueError(f"eps={eps!r}: a number above 0 is expected")
        self.weight = nn.Linear(in_channels, out_channels, bias=False)
        nn.init.kaiming_normal_(self.weight.weight, mode="fan_out")
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def forward(self, x: Tensor, a: Matrix) -> Tensor:
        h = affine(x, self.weight)
        # Of the differences, not of G H: for near neighbours a large weight meets a small difference, without rounding.
        if isinstance(a, Dense):
            step = self._steps(h.unsqueeze(2) - h.unsqueeze(1), a.value).sum(2)
        else:
            a = a.sparse()
            step = segment_sum(self._steps(a.at_rows(h) - a.at_columns(h), a.value), a.crow, a.row)
        return h - self.delta * step + self.bias

    def _steps(self, difference: Tensor, value: Tensor | None) -> Tensor:
        """g_ij (h_i - h_j), of h_i - h_j [.., f'] and a_ij [..]."""
        weight = difference.abs().sum(-1).clamp(min=self.eps).reciprocal()
        if value is not None:
            weight = weight * value.to(weight.dtype)
        return weight.unsqueeze(-1) * difference


class General(MessagePassing):
    """A act(norm(X W + b)). You, Ying, Leskovec, "Design Space for Graph Neural Networks", NeurIPS 2020, arXiv
    2011.08843.

    Args:
        activation, norm, norm_at: of what the neighbours say, as in a block.
    """

    def __init__(
        self, in_channels: int, out_channels: int, activation: str = "relu", norm: str = "none", norm_at: str = "before"
    ) -> None:
        super().__init__()
        self.linear = nn.Linear(in_channels, out_channels)
        self.activation = ACTIVATIONS[among("activation", activation, ACTIVATIONS)]
        self.norm = Norm(among("norm", norm, NORMS), out_channels)
        self.norm_at = among("norm_at", norm_at, NORM_AT)

    def forward(self, x: Tensor, a: Matrix) -> Tensor:
        return a.matmul(activated(affine(x, self.linear), self.activation, self.norm, self.norm_at, a.nodes))


def _with_own(x: Tensor, heard: Tensor, eps: Tensor | None) -> Tensor:
    """(1 + eps) x + heard; eps None: 0."""
    return x + heard if eps is None else torch.addcmul(x + heard, eps, x)


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{name}={value!r}: a number is expected")
    if abs(value) > torch.finfo(torch.float32).max:
        raise ValueError(f"{name}={value!r}: a number that float32 holds is expected")
    return float(value)


LAYERS: dict[str, type[Any]] = {
    "gcn": GCN, "gin": GIN, "gine": GINE, "graphconv": GraphConv, "gcs": GCS, "pan": PAN, "sage": SAGE, "cheb": Cheb,
    "gtv": GTV, "general": General, "mlp": Alone,
}  # fmt: skip
"""The layers by the names that `model.mp` takes."""

Named = str | Mapping[str, Any]
"""A layer: its name, or `{name: gtv, delta: 2.0}` where it is given arguments."""


def layer_of(mp: Any) -> tuple[type[Any], dict[str, Any]]:
    """The class of a layer and its arguments, of what `model.mp` says. Raises ValueError for what there is not."""
    options = dict(mp) if isinstance(mp, Mapping) else {"name": mp}
    name = options.pop("name", None)
    if not isinstance(name, str) or name not in LAYERS:
        shown = mp if name is None else name
        raise ValueError(f"model.mp={shown!r} is not one of {', '.join(LAYERS)}, nor one with arguments, such as "
                         "{name: sage, aggregation: max}")  # fmt: skip
    known = [option for option in parameters_of(LAYERS[name]) if option not in ("in_channels", "out_channels", "edges")]
    for option in options:
        if option not in known:
            raise ValueError(f"model.mp.{option}: {name} takes {' and '.join(known) or 'no arguments'}"
                             f"{nearest(str(option), known)}")  # fmt: skip
    return LAYERS[name], options
