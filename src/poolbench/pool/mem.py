"""MemPool: Khasahmadi, Hassani, Moradi, Lee, Morris, "Memory-Based Graph Networks", ICLR 2020, arXiv 2002.09518."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from poolbench.errors import whole
from poolbench.linalg import Dense, Matrix, Nodes
from poolbench.linalg.products import Written, call, through
from poolbench.pool.base.layers import Linear, SquareLinear, as_wide, not_half
from poolbench.pool.base.src import DenseSelection, SoftPool

GRAPHS = ("identity", "dense")
EPS = 1e-15  # the least share that a logarithm is taken of, as in the authors' code


def torch_uniform(weight: Tensor) -> Tensor:
    """Fill a kernel as torch's linear layers start: uniform between -1 / sqrt(in) and 1 / sqrt(in)."""
    bound = weight.shape[-1] ** -0.5
    return nn.init.uniform_(weight, -bound, bound)


class MemPool(SoftPool):
    r"""Soft clusters from the distances of the nodes to learned keys, several sets of them side by side.

        C_hij = (1 + ||x_i - key_hj||^2 / tau)^(-(1 + tau) / 2),   divided by its sum over the k clusters j  (eq. 1)
        S     = softmax_j(sum_h w_h C_hij)                         [n, k]                                    (eq. 2)
        X'    = S'X W                                              [k, channels], no bias, linear            (eq. 3)
        A'    = I, or S'AS
        P_ij  = s_ij^2 / sum_i s_ij,   divided by its sum over j                                             (eq. 5)
        L_kl  = sum_ij P_ij ln(P_ij / s_ij)                                                                  (eq. 4)

    The loss is summed over the nodes of a graph, averaged over graphs; its gradient flows through P too. The graph has
    no part in S. As w_h C_hij is small, S starts almost uniform. The keys start uniform in (-1, 1), w uniform between
    -1 / sqrt(heads) and 1 / sqrt(heads), and W as torch's linear layers do.

    Where sources differ: this is PyTorch Geometric's layer, which returns no graph; A' = I is the authors' default. In
    their code a network of its own comes before the distances, S is C where there is one head, and the loss is a sum
    over graphs, times 100, that moves the keys alone, in every fifth epoch.

    Cost O(n h k f) time for h heads, O(n (h k + f)) memory; with `connect="dense"` + O(E k + n k^2) time.

    Args:
        k, k_per_graph, remove_self_loops, degree_norm, loss_coeffs: see `SoftPool`.
        channels: features of a pooled node, None for as many as the input has.
        heads: sets of k keys, at least 1.
        tau: degrees of freedom of Student's t distribution, above 0.
        connect: "identity", each cluster hears itself alone, or "dense", S'AS.
        return_selection: also return S.
        in_channels: f, inferred at the first call where it is None.

    Raises: ValueError for an argument out of these.
    """

    def __init__(
        self,
        k: int,
        channels: int | None = None,
        heads: int = 5,
        tau: float = 1.0,
        connect: str = "identity",
        return_selection: bool = False,
        in_channels: int | None = None,
        **unknown: Any,
    ) -> None:
        super().__init__(k, return_selection, **unknown)
        if isinstance(tau, bool) or not isinstance(tau, int | float) or not tau > 0:
            raise ValueError(f"tau={tau!r}: a number above 0 is expected")
        if connect not in GRAPHS:
            raise ValueError(f"connect={connect!r}: one of {', '.join(GRAPHS)}")
        self.channels = None if channels is None else whole("channels", channels)
        self.heads, self.tau, self.connected = whole("heads", heads), tau, connect
        keys = self.heads * self.k
        self.keys = Linear(in_channels, keys, bias=False, kernel_initializer=partial(nn.init.uniform_, a=-1.0, b=1.0))
        self.mix = nn.Parameter(torch_uniform(torch.empty(self.heads)))
        width = self.channels or in_channels
        options: dict[str, Any] = {"bias": False, "kernel_initializer": torch_uniform}
        self.embedding = SquareLinear(None, **options) if width is None else Linear(in_channels, width, **options)

    def out_channels(self, in_channels: int) -> int:
        return self.channels or in_channels

    def select(self, x: Tensor, a: Matrix, i: Tensor | None) -> DenseSelection:
        own = self.clusters(a.nodes)
        others = None if own is None else ~a.nodes.expand(own)
        with torch.autocast(x.device.type, enabled=False):
            x = not_half(x)
            self.keys(x[..., :0, :])  # learns its width, where that was not given
            keys, mix = as_wide(self.keys.weight, x), as_wide(self.mix, x)
            s = self.assign(call(_Mixed, x, keys, mix, self.tau, others), a.nodes)
        return DenseSelection(s.s.to(self.mix.dtype), s.nodes, own) if s.s.dtype != self.mix.dtype else s

    def assess(self, s: DenseSelection, x: Tensor, a: Matrix) -> None:  # type: ignore[override]
        with torch.autocast(s.s.device.type, enabled=False):
            self.add_loss("kl", self.per_graph(call(_Divergence, not_half(s.s), s.nodes), a.nodes))

    def reduce(self, x: Tensor, s: DenseSelection) -> Tensor:  # type: ignore[override]
        return self.embedding(s.reduce(x))

    def connect(self, a: Matrix, s: DenseSelection) -> Matrix:  # type: ignore[override]
        if self.connected == "dense":
            with torch.autocast(s.s.device.type, enabled=False):
                return self.finish(s.connect(a))
        return self.finish(Dense(torch.diag_embed(s.pooled.real.to(s.s.dtype)), s.pooled, symmetric=True))


def _mixed(x: Tensor, keys: Tensor, mix: Tensor, tau: float, others: Tensor | None) -> Tensor:
    square = x.square().sum(-1, keepdim=True) + keys.square().sum(-1) - 2.0 * (x @ keys.T)
    far = (1.0 + square.clamp(min=0.0) / tau).unflatten(-1, (mix.numel(), -1))
    if others is not None:
        far = far.masked_fill(others.unsqueeze(-2), torch.inf)
    # divided by the least, which its sum does not feel, no row is 0 / 0
    near = (far / far.detach().amin(-1, keepdim=True)).pow(-(1.0 + tau) / 2.0)
    return (near / near.sum(-1, keepdim=True) * mix.unsqueeze(-1)).sum(-2)


class _Mixed(Written):
    """sum_h w_h C_hij for x [.., f] and keys [h k, f]: [.., k]. `others` [.., k]: clusters that a node has not.

    Its derivative is written out: d ln C / d||x - key||^2 = -(1 + tau) / (2 (tau + ||x - key||^2)), less its mean in C.
    """

    formula = staticmethod(_mixed)

    @staticmethod
    def forward(ctx: Any, x: Tensor, keys: Tensor, mix: Tensor, tau: float, others: Tensor | None) -> Tensor:
        rows = x.flatten(0, -2)
        far = rows.square().sum(-1, keepdim=True) + keys.square().sum(-1)
        far = far.addmm_(rows, keys.T, alpha=-2.0).clamp_(min=0.0).div_(tau).add_(1.0).unflatten(-1, (mix.numel(), -1))
        if others is not None:
            far.masked_fill_(others.reshape(-1, 1, others.shape[-1]), torch.inf)
        c = (far / far.amin(-1, keepdim=True)).pow_(-(1.0 + tau) / 2.0)
        c.div_(c.sum(-1, keepdim=True))
        ctx.save_for_backward(x, keys, mix, far, c)
        ctx.options = tau, others
        return (c * mix.unsqueeze(-1)).sum(-2).view(*x.shape[:-1], c.shape[-1])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, keys, mix, far, c = ctx.saved_tensors
        if torch.is_grad_enabled():
            return *through(lambda x, keys, mix: _mixed(x, keys, mix, *ctx.options), [x, keys, mix], grads), None, None
        felt = c * grads[0].reshape(-1, 1, c.shape[-1])
        grad_mix = felt.sum((0, 2))
        felt.mul_(mix.unsqueeze(-1))
        felt.sub_(c * felt.sum(-1, keepdim=True)).div_(far).mul_(-(1.0 + ctx.options[0]) / ctx.options[0])
        felt, rows = felt.flatten(1), x.flatten(0, -2)
        grad_x = (rows * felt.sum(-1, keepdim=True)).addmm_(felt, keys, alpha=-1.0).view_as(x)
        return grad_x, (keys * felt.sum(0).unsqueeze(-1)).addmm_(felt.T, rows, alpha=-1.0), grad_mix, None, None


def _divergence(s: Tensor, nodes: Nodes) -> Tensor:
    target = s.square() / nodes.expand(nodes.sum(s).clamp(min=EPS))
    target = (target / target.sum(-1, keepdim=True).clamp(min=EPS)).clamp(min=EPS)
    # in the padding both are EPS, and their logarithms are the same
    return nodes.sum((target * (target.log() - s.clamp(min=EPS).log())).sum(-1))


class _Divergence(Written):
    """L_kl of each graph from S, 0 where it has no nodes: [.., k] -> [b].

    With l = ln(P / s), a row's L = sum_j P l and m_j the sum of s_ij over the nodes of a graph, the derivative in s_ij
    is P (2 (l - L) - 1) / s - sum_i P (l - L) / m_j.
    """

    formula = staticmethod(_divergence)

    @staticmethod
    def forward(ctx: Any, s: Tensor, nodes: Nodes) -> Tensor:
        mass = nodes.sum(s).clamp(min=EPS)
        target = s.square() / nodes.expand(mass)
        target.div_(target.sum(-1, keepdim=True).clamp_(min=EPS))
        ratio = target.clamp(min=EPS).div_(s.clamp(min=EPS)).log_()
        rows = (target * ratio).sum(-1)
        ctx.save_for_backward(s, mass, target, ratio, rows)
        ctx.nodes = nodes
        return nodes.sum(rows)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        s, mass, target, ratio, rows = ctx.saved_tensors
        nodes = ctx.nodes
        if torch.is_grad_enabled():
            return *through(lambda s: _divergence(s, nodes), [s], grads), None
        target = target * nodes.expand(grads[0]).unsqueeze(-1)
        felt = (ratio - rows.unsqueeze(-1)).mul_(target)
        shared = nodes.expand(nodes.sum(felt).div_(mass))
        return felt.mul_(2.0).sub_(target).div_(s.clamp(min=EPS)).sub_(shared), None
