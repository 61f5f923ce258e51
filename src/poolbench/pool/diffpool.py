"""DiffPool: Ying et al., "Hierarchical Graph Representation Learning with Differentiable Pooling", NeurIPS 2018,
arXiv 1806.08804."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from poolbench.errors import whole
from poolbench.linalg import GCN, Dense, Matrix, Sparse, merged_entries
from poolbench.linalg.matrix import EPS
from poolbench.linalg.products import Written, call, through
from poolbench.pool.base.gnn import GNN, called, made
from poolbench.pool.base.layers import Activation, Constraint, Initializer, Linear, Regularizer, SquareLinear, root
from poolbench.pool.base.layers import activation as as_function
from poolbench.pool.base.src import DenseSelection, SoftPool


class DiffPool(SoftPool):
    r"""Soft clusters from one graph convolution, features from another.

        F  = D^-1/2 (A + I) D^-1/2                    D the row sums of A + I
        S  = softmax(F X W_pool)                      [n, k]        (eq. 6)
        X' = activation(S' F X W_emb)                 [k, channels] (eq. 5 and eq. 3)
        A' = S'AS                                     [k, k], A as given, diagonal kept, not normalised (eq. 4)
        L_link    = ||A - SS'||_F                     (times 1/n with `normalize_link_loss`)
        L_entropy = mean_u [-sum_c S_uc log(S_uc + 1e-7)]

    each a mean over graphs, over real nodes alone. Where sources differ: the filter has self-loops, as paper and
    Spektral's code have (its document leaves them out); `activation` comes after the reduction, as documented
    (Spektral's code applies it to F X W_emb); 1e-7 in the logarithm is Keras's epsilon, as in Spektral (PyTorch
    Geometric has 1e-15); the link loss is the norm of each graph, not of the batch, and not
    divided by its number of entries (PyTorch Geometric divides by the entries of the padded batch). The paper's GNNs
    are deeper; here, as in Spektral, they are one linear filter, and a model puts its own layers before.

    SS' is never formed: ||A - SS'||_F^2 = sum_uv a_uv^2 - 2 Tr(S'AS) + ||S'S||_F^2. The three terms cancel where the
    clusters explain A, so they are added in float64; where rounding leaves nothing, loss and gradient are 0.
    Cost O(E (f + k) + n k (k + f)) time, O(n (f + k)) memory.

    The filter is made here from A as given (`a.view(GCN)`), hence the raw connectivity.

    With `gnn`, as the authors have it: S = softmax(gnn(X0, A)) and X' = activation(S'X), where the layers before the
    pool made X of X0: they are the paper's embedding network, and `gnn` its pooling network.

    Args:
        k, k_per_graph, remove_self_loops, degree_norm, loss_coeffs: see `SoftPool`.
        channels: features of a pooled node, None for as many as the input has.
        return_selection: also return S.
        activation: of the pooled features, None for linear.
        kernel_initializer, kernel_regularizer, kernel_constraint: of both kernels, under Keras's names
            (`poolbench.pool.base.layers`); their initial values are independent draws.
        normalize_link_loss: divide the link loss of a graph by its number of nodes, the root of its number of entries,
            so that it does not grow with the graph.
        in_channels: f, inferred at the first call where it is None.
        gnn: what gives the logits of S: a module, called as gnn(x, a) where its second parameter has that name, as
            gnn(x, edge_index) with edge_weight where it takes one, or as gnn(x), for [.., k]; or a class, from which
            gnn(x0_channels, k) makes one. None: the linear filters above. In models "level": a network like the layers
            of the pool's level, with weights of its own. A call may give it `x0` [.., f0] in place of x, as models do.
        x0_channels: f0, None for f.

    Raises: ValueError for channels beside gnn, and for what is not [.., k]; TypeError for a gnn that is no module.
    """

    def __init__(
        self,
        k: int,
        channels: int | None = None,
        return_selection: bool = False,
        activation: Activation = None,
        kernel_initializer: Initializer = "glorot_uniform",
        kernel_regularizer: Regularizer = None,
        kernel_constraint: Constraint = None,
        normalize_link_loss: bool = False,
        in_channels: int | None = None,
        gnn: GNN | None = None,
        x0_channels: int | None = None,
        **unknown: Any,
    ) -> None:
        super().__init__(k, return_selection, **unknown)
        self.channels = None if channels is None else whole("channels", channels)
        self.activation = as_function(activation)
        self.normalize_link_loss = normalize_link_loss
        self.gnn = made(gnn, x0_channels or in_channels, self.k)
        self.takes_x0 = self.gnn is not None
        if self.gnn is not None:
            if channels is not None:
                raise ValueError(f"channels={channels}: with gnn, pooled features are S'X, as wide as x")
            return
        options: dict[str, Any] = {
            "kernel_initializer": kernel_initializer,
            "kernel_regularizer": kernel_regularizer,
            "kernel_constraint": kernel_constraint,
        }
        width = self.channels or in_channels
        self.embedding = (
            SquareLinear(None, bias=False, **options)
            if width is None
            else Linear(in_channels, width, bias=False, **options)
        )
        self.assignment = Linear(in_channels, self.k, bias=False, **options)

    def out_channels(self, in_channels: int) -> int:
        return self.channels or in_channels

    def select(
        self, x: Tensor, a: Matrix, i: Tensor | None, x0: Tensor | None = None, node_order: Tensor | None = None
    ) -> DenseSelection:
        if self.gnn is not None:
            s = self.assign(self._logits(self.gnn, x, a, x0, node_order), a.nodes)
            s.expect(x, a, gram=True)
            return s
        if x0 is not None:
            raise ValueError("x0 is what gnn makes an assignment of, and there is none: leave it out, or give gnn")
        filtered = a.view(GCN).matmul(x)
        s = _Filtered(self.assign(self.assignment(filtered), a.nodes), x, filtered)
        s.expect(filtered, a, gram=True)
        return s

    def _logits(self, gnn: nn.Module, x: Tensor, a: Matrix, x0: Tensor | None, node_order: Tensor | None) -> Tensor:
        if x0 is None:
            x0 = x
        elif x0.numel() == 0 or x0.ndim < 2 or x0.shape[:-1].numel() != x.shape[:-1].numel():
            raise ValueError(f"x0 is {list(x0.shape)}: a row for each of the nodes of x {list(x.shape)} is expected")
        else:
            x0 = (x0 if node_order is None else x0.index_select(0, node_order)).reshape(*x.shape[:-1], x0.shape[-1])
        logits = called(gnn, a.nodes.zero_padding(x0), a)
        if logits.shape != (*x.shape[:-1], self.k):
            raise ValueError(f"gnn gives {list(logits.shape)}: {self.k} numbers for each node are expected")
        return logits

    def reduce(self, x: Tensor, s: DenseSelection, a: Matrix | None = None) -> Tensor:  # type: ignore[override]
        if self.gnn is not None:
            return s.pooled.zero_padding(self.activation(s.reduce(x)))
        if isinstance(s, _Filtered) and s.x is x:
            x = s.filtered
        elif a is not None:
            x = a.view(GCN).matmul(x)
        pooled = self.activation(self.embedding(s.reduce(x)))  # S'(FX) first: k rows go through the kernel, not n
        return s.pooled.zero_padding(pooled)

    def connect(self, a: Matrix, s: DenseSelection) -> Matrix:  # type: ignore[override]
        with torch.autocast(s.s.device.type, enabled=False):
            m = s.connect(a)
            square = _squared_norm(a)  # of a matrix that is learnt, it takes part in the derivative
            link = (_link if square.requires_grad else partial(call, _Link))(m.value, s.gram, square)
        if self.normalize_link_loss:
            link = link / a.nodes.sizes.clamp(min=1)
        self.add_loss("link", self.per_graph(link, a.nodes))
        self.add_loss("entropy", self.per_graph(a.nodes.mean(call(_Entropy, s.s)), a.nodes))
        return self.finish(m)


class _Filtered(DenseSelection):
    """An assignment that carries the features that it was made from and their filtered form, so that they are computed
    once."""

    def __init__(self, s: DenseSelection, x: Tensor, filtered: Tensor) -> None:
        super().__init__(s.s, s.nodes, s.pooled.mask)
        self.x, self.filtered = x, filtered

    def afresh(self) -> DenseSelection:
        return DenseSelection(self.s, self.nodes, self.pooled.mask)


def _entropy(s: Tensor) -> Tensor:
    return -(s * (s + EPS).log()).sum(-1)


def _link(m: Tensor, gram: Tensor, square: Tensor) -> Tensor:
    """||A - SS'||_F of each graph, given M = S'AS, G = S'S and |A|^2: [b]."""
    cross = m.diagonal(dim1=1, dim2=2).to(torch.float64).sum(-1)
    model = gram.to(torch.float64).square().sum((1, 2))
    return root(square - 2.0 * cross + model).to(gram.dtype)


class _Link(Written):
    """sqrt(q - 2 Tr(M) + |G|^2) of each graph in float64, 0 where rounding leaves nothing, its derivative written out:
    -I / link in M, G / link in G."""

    formula = staticmethod(_link)

    @staticmethod
    def forward(ctx: Any, m: Tensor, gram: Tensor, square: Tensor) -> Tensor:
        cross = m.diagonal(dim1=1, dim2=2).sum(-1, dtype=torch.float64)
        model = torch.linalg.vector_norm(gram, dim=(1, 2), dtype=torch.float64).square()
        link = (square - 2.0 * cross + model).clamp_(min=0.0).sqrt_()
        ctx.save_for_backward(m, gram, square, link)
        return link.to(gram.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        m, gram, square, link = ctx.saved_tensors
        if torch.is_grad_enabled():
            return *through(lambda m, gram: _link(m, gram, square), [m, gram], grads), None
        step = (grads[0] / link).masked_fill_(link == 0, 0.0).to(gram.dtype)
        grad_m = torch.zeros_like(m)
        grad_m.diagonal(dim1=1, dim2=2).copy_(-step.unsqueeze(-1))
        return grad_m, gram * step.reshape(-1, 1, 1), None


class _Entropy(Written):
    """-sum_c s_c log(s_c + eps) of each node, its derivative written out: -log(s_c + eps) - s_c / (s_c + eps)."""

    formula = staticmethod(_entropy)

    @staticmethod
    def forward(ctx: Any, s: Tensor) -> Tensor:
        log = (s + EPS).log_()
        ctx.save_for_backward(s, log)
        return torch.mul(s, log).sum(-1).neg_()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor | None:
        s, log = ctx.saved_tensors
        if torch.is_grad_enabled():
            return through(_entropy, [s], grads)[0]
        return (s / (s + EPS)).add_(log).mul_(-grads[0].unsqueeze(-1))


def _squared_norm(a: Matrix) -> Tensor:
    """Sum of the squared entries of each graph in float64: [b]."""
    if isinstance(a, Dense):
        return a.value.to(torch.float64).square().sum((1, 2))
    if isinstance(a, Sparse) and a.distinct and a.value is None:
        return a.nnz().to(torch.float64)
    merged = a.view(merged_entries).sparse()
    squares = merged if merged.value is None else merged.with_value(merged.value.to(torch.float64).square())
    return merged.nodes.sum(squares.degree().to(torch.float64))
