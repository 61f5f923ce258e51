"""BNPool: Castellana, Bianchi, "BN-Pool: Bayesian Nonparametric Graph Pooling", 2025, arXiv 2501.09821."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from poolbench.linalg import Dense, Matrix, Ragged, Sparse, merged_entries
from poolbench.linalg.plain import by_formula
from poolbench.linalg.products import segment_sum
from poolbench.pool.base.layers import Activation, AssignmentMLP, not_half
from poolbench.pool.base.postprocess import post_process
from poolbench.pool.base.src import DenseSelection, SoftPool

BLOCK = 2**22  # pairs of nodes at work at once: 16 MiB in float32


class BNPool(SoftPool):
    r"""Soft clusters by breaking sticks: a Bayesian model of the graph that finds how many of the k clusters it needs.

        alpha, beta = clamp(softplus(MLP(X)), 1e-3, 1e3)           [n, k - 1] each
        v_ic ~ Beta(alpha_ic, beta_ic),   S_ic = v_ic prod_{l<c} (1 - v_il),   S_ik = prod_{l<k} (1 - v_il)
        X' = S'X,   M = S'AS,   A' = D'^-1/2 (M - diag M) D'^-1/2
        L_quality = 1/n^2 sum_ij w_ij BCE(R_ij, a_ij)              R = S K S',  w = (n^2 - e)/e on the e entries, else 1
        L_kl      = kl_coeff/n^2 sum_ic KL(Beta(alpha_ic, beta_ic) || Beta(1, alpha_dp))
        L_K_prior = 1/b 1/n^2 sum (K - mu)^2 / (2 k_var)           mu = k_mu (2 I - 1)

    each a mean over the b graphs, in evaluation too from draws of torch's global generator. K [k, k] is trained and
    says how clusters link. The prior of K is one for all graphs, so the graphs of a batch share it. The targets a_ij
    are the entries of A themselves: binarise a weighted graph where L_quality shall be a likelihood.

    With `sampled`, L_quality is the unweighted mean over the edges (target 1) and as many pairs without an edge, drawn
    in both directions, and the other losses divide by that number of pairs p in place of n^2.

    BCE(R, a) = softplus(R) - a R, so that only the first term runs over all pairs: it is summed in blocks of a bounded
    number of pairs, computed again on the way back. Cost O(n^2 k + n k (k + f)) time and O(n k + E k) memory, with
    `sampled` O(E k + n k (k + f)) time.

    Args:
        k: largest number of clusters of each graph.
        mlp_hidden, mlp_activation, use_bias: of the MLP, see `MLPPool`.
        alpha_dp: concentration of the stick-breaking prior, > 0: larger ones prefer more clusters.
        k_var, k_mu: variance (> 0) and mean of the prior of K.
        k_init: K starts as k_init on the diagonal and -k_init elsewhere.
        train_k: train K; else it is fixed and L_K_prior left out.
        kl_coeff: factor of L_kl, > 0.
        sampled: estimate the losses from the edges and drawn pairs.
        num_neg_samples: pairs to draw for each graph, None for as many as it has edges (both directions count).
        remove_self_loops, degree_norm, edge_weight_norm: what is done to M, as for HOSCPool.
        in_channels: f, inferred at the first call where it is None.
        return_selection: also return S.
        loss_coeffs: see `SoftPool`. The losses are of the sticks: an S that is handed in has none.
        k_per_graph: see `SoftPool`; a graph's sticks end after its own number of clusters.

    Keywords of a call: `negatives` [2, m], with `sampled` the pairs to use in place of drawn ones.
    """

    stochastic = True

    def __init__(
        self,
        k: int,
        mlp_hidden: Sequence[int] | int | None = None,
        mlp_activation: Activation = "relu",
        alpha_dp: float = 1.0,
        k_var: float = 1.0,
        k_mu: float = 10.0,
        k_init: float = 1.0,
        kl_coeff: float = 1.0,
        train_k: bool = True,
        sampled: bool = False,
        num_neg_samples: int | None = None,
        remove_self_loops: bool = True,
        degree_norm: bool = True,
        edge_weight_norm: bool = False,
        use_bias: bool = True,
        in_channels: int | None = None,
        return_selection: bool = False,
        **unknown: Any,
    ) -> None:
        super().__init__(k, return_selection, remove_self_loops=remove_self_loops, degree_norm=degree_norm, **unknown)
        for name, value in (("alpha_dp", alpha_dp), ("k_var", k_var), ("kl_coeff", kl_coeff)):
            if not value > 0:
                raise ValueError(f"{name}={value!r}: a number above 0 is expected")
        if num_neg_samples is not None and (not sampled or num_neg_samples < 1):
            raise ValueError(f"num_neg_samples={num_neg_samples!r}: at least 1, and with sampled=True")
        self.alpha_dp, self.k_var, self.k_mu, self.kl_coeff = alpha_dp, k_var, k_mu, kl_coeff
        self.sampled, self.num_neg_samples = sampled, num_neg_samples
        self.edge_weight_norm = edge_weight_norm
        self.mlp = AssignmentMLP(2 * (self.k - 1), mlp_hidden, mlp_activation, in_channels, bias=use_bias)
        start = k_init * _signs(self.k)
        self.train_k = train_k
        self.links = nn.Parameter(start) if train_k else nn.Buffer(start)

    def select(self, x: Tensor, a: Matrix, i: Tensor | None, negatives: Tensor | None = None) -> DenseSelection:
        noise = self.noise(x)  # before the first call draws weights, so that it depends on the seed alone
        raw = self.mlp(x)
        with torch.autocast(x.device.type, enabled=False):
            shapes = F.softplus(raw.to(noise[0].normal.dtype)).clamp(1e-3, 1e3)
            alpha, beta = shapes.chunk(2, -1)
            s = self._broken(*self.draw(alpha, beta, noise), a)
            if self.sampled:
                quality, pairs = self._sampled(a, s, negatives)
            else:
                quality, pairs = self._quality(a, s), a.nodes.sizes.to(s.s.dtype).square()
            pairs = pairs.clamp(min=1)
            self.add_loss("quality", self.per_graph(quality / pairs, a.nodes))
            self.add_loss("kl", self.per_graph(self._divergence(alpha, beta, s) / pairs, a.nodes))
            if self.train_k:
                real = a.nodes.sizes > 0
                prior = self.per_graph((self._prior(s) / pairs).masked_fill(~real, 0.0), a.nodes)
                self.add_loss("K_prior", prior / real.sum().clamp(min=1))
            if s.s.dtype != self.links.dtype:  # a module in a half type draws and takes its losses in float32
                s = DenseSelection(s.s.to(self.links.dtype), s.nodes, s.pooled.mask)
        return s

    def connect(self, a: Matrix, s: DenseSelection) -> Dense:  # type: ignore[override]
        with torch.autocast(s.s.device.type, enabled=False):
            return self.finish(s.connect(a))

    def finish(self, m: Dense) -> Dense:  # type: ignore[override]
        return post_process(m, self.remove_self_loops, self.degree_norm, self.edge_weight_norm)

    def noise(self, x: Tensor) -> list[Noise]:
        """What two draws from Gamma distributions for each stick are made from."""
        shape = (*x.shape[:-1], self.k - 1)
        return [Noise.of(shape, not_half(self.links)) for _ in range(2)]

    def draw(self, alpha: Tensor, beta: Tensor, noise: list[Noise]) -> tuple[Tensor, Tensor]:
        """(log v, log(1 - v)) for v ~ Beta(alpha, beta), differentiable in both."""
        p, q = log_gamma(alpha, noise[0]), log_gamma(beta, noise[1])
        total = torch.logaddexp(p, q)
        return p - total, q - total

    def _broken(self, log_v: Tensor, log_rest: Tensor, a: Matrix) -> DenseSelection:
        """The assignment: node level [.., k]."""
        log_v, left = F.pad(log_v, (0, 1)), F.pad(log_rest.cumsum(-1), (1, 0))
        clusters = self.clusters(a.nodes)
        if clusters is None:
            return DenseSelection((log_v + left).exp(), a.nodes)
        last = clusters & ~F.pad(clusters[:, 1:], (0, 1))  # what is left goes to a graph's last cluster
        log_v = log_v.masked_fill(a.nodes.expand(last), 0.0)
        s = (log_v + left).masked_fill(~a.nodes.expand(clusters), -torch.inf).exp()
        return DenseSelection(s, a.nodes, clusters)

    def _divergence(self, alpha: Tensor, beta: Tensor, s: DenseSelection) -> Tensor:
        """kl_coeff sum KL(Beta(alpha, beta) || Beta(1, alpha_dp)) over the sticks of each graph: [b]."""
        kl = a_priori_divergence(alpha, beta, self.alpha_dp)
        if s.pooled.mask is not None:  # k clusters have k - 1 sticks
            kl = kl.masked_fill(~s.nodes.expand(s.pooled.mask[:, 1:]), 0.0)
        return self.kl_coeff * s.nodes.sum(kl).sum(-1)

    def _prior(self, s: DenseSelection) -> Tensor:
        """-log N(K; mu, k_var) up to a constant, over the clusters of each graph: [b] or one number."""
        links = not_half(self.links)
        terms = (links - self.k_mu * _signs(self.k).to(links)).square() / (2.0 * self.k_var)
        if s.pooled.mask is None:
            return terms.sum()
        own = s.pooled.mask.to(terms.dtype)
        return ((own @ terms) * own).sum(-1)

    def _quality(self, a: Matrix, s: DenseSelection) -> Tensor:
        """sum_ij w_ij BCE(R_ij, a_ij) of each graph: [b]."""
        left = s.s @ not_half(self.links)
        a = a if isinstance(a, Dense) else a.view(merged_entries)
        e = a.nnz().to(left.dtype)
        weight = (a.nodes.sizes.to(left.dtype).square() - e).clamp(min=1) / e.clamp(min=1)
        if isinstance(a, Dense):
            value = a.value.to(left.dtype)
            one_or_more = torch.where(value != 0, weight.reshape(-1, 1, 1), 1.0)
            loss = F.binary_cross_entropy_with_logits(left @ s.s.mT, value, one_or_more, reduction="none")
            return a.nodes.sum(a.nodes.sum(loss))  # over real rows, then over real columns
        a = a.sparse()
        r, value = _logits(a, left, s.s), a.weights.to(left.dtype)
        terms = torch.stack([F.softplus(r) * (value != 0), r * value], -1)
        soft, linear = a.nodes.sum(segment_sum(terms, a.crow, a.row)).unbind(-1)
        return _all_pairs(left, s.s, a.nodes) + (weight - 1.0) * soft - weight * linear

    def _sampled(self, a: Matrix, s: DenseSelection, negatives: Tensor | None) -> tuple[Tensor, Tensor]:
        """(sum of BCE(R, 1) over the edges and BCE(R, 0) over pairs without one, number of pairs), of each graph."""
        if isinstance(a, Dense):
            rows = s.s.reshape(-1, self.k) if a.nodes.mask is None else s.s[a.nodes.mask]
        else:
            rows = s.s
        left, a = rows @ not_half(self.links), a.view(merged_entries).sparse()
        a = a.filter(a.weights != 0)
        if negatives is None:
            negatives = draw_pairs(a, self.num_neg_samples)
        other = Sparse.from_edges(negatives[0], negatives[1], None, a.nodes)
        edge, pair = F.softplus(-_logits(a, left, rows)), F.softplus(_logits(other, left, rows))
        times = other.weights.to(pair.dtype)  # a pair that was drawn twice
        loss = segment_sum(edge, a.crow, a.row) + segment_sum(pair * times, other.crow, other.row)
        return a.nodes.sum(loss), a.nnz() + other.total()


def _signs(k: int) -> Tensor:
    """1 on the diagonal, -1 elsewhere: [k, k]."""
    return 2.0 * torch.eye(k) - 1.0


def _logits(a: Sparse, left: Tensor, right: Tensor) -> Tensor:
    """<left_u, right_v> of each entry (u, v): [e]."""
    return (a.at_rows(left) * a.at_columns(right)).sum(-1)


def _all_pairs(left: Tensor, right: Tensor, nodes: Ragged) -> Tensor:
    """sum_uv softplus(<left_u, right_v>) over all ordered pairs of nodes of each graph: [b]."""
    graphs, sums = [nodes.ptr.new_zeros(0)], [left.new_zeros(0)]
    for (members, p, real), (_, q, _) in zip(nodes.blocks(left), nodes.blocks(right), strict=True):
        if by_formula():  # a trace knows no width to make slices of, torch.func no checkpoints
            graphs.append(members)
            sums.append(_softplus_sum(p, q, real, real))
            continue
        width = p.shape[1]
        rows = max(1, min(width, BLOCK // width))
        for part in range(0, len(members), max(1, BLOCK // width**2)):
            g = slice(part, part + max(1, BLOCK // width**2))
            slices = [slice(first, first + rows) for first in range(0, width, rows)]
            terms = [checkpoint(_softplus_sum, p[g, r], q[g], real[g, r], real[g], use_reentrant=False) for r in slices]
            graphs.append(members[g])
            sums.append(torch.stack(terms).sum(0))
    return left.new_zeros(nodes.num_graphs).index_copy(0, torch.cat(graphs), torch.cat(sums))


def _softplus_sum(p: Tensor, q: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """sum softplus(p q') over real rows and columns: [m, r, k], [m, w, k], [m, r], [m, w] -> [m]."""
    value = F.softplus(p @ q.mT).masked_fill(~(rows.unsqueeze(-1) & columns.unsqueeze(1)), 0.0)
    return value.sum((1, 2))


@torch.no_grad()
def draw_pairs(a: Sparse, count: int | None) -> Tensor:
    """Pairs of different nodes of a graph without an edge in either direction, each in both directions: [2, m].

    About `count` for each graph, None for as many as it has edges; a graph that lacks them gets fewer. Pairs are drawn
    with replacement, and more of them the denser the graph is, since those that are edges are dropped.
    """
    n, edges = a.nodes.sizes.to(torch.float64), a.nnz().to(torch.float64)
    pairs = n * (n - 1)
    wanted = edges if count is None else torch.full_like(n, float(count)) * (n > 1)
    free = (pairs - edges).clamp(min=0)
    draws = torch.where(free > 0, (wanted / 2 * pairs / free.clamp(min=1)).ceil(), 0.0).minimum(pairs / 2)
    g = torch.repeat_interleave(torch.arange(a.nodes.num_graphs, device=a.col.device), draws.to(torch.int64))
    size, start = a.nodes.sizes[g], a.nodes.ptr[g]
    first = (torch.rand(g.numel(), dtype=torch.float64, device=g.device) * size).to(torch.int64)
    step = (torch.rand(g.numel(), dtype=torch.float64, device=g.device) * (size - 1)).to(torch.int64)
    u, v = start + first, start + (first + 1 + step) % size
    known = a.row * a.nodes.num_rows + a.col
    new = ~(torch.isin(u * a.nodes.num_rows + v, known) | torch.isin(v * a.nodes.num_rows + u, known))
    u, v = u[new], v[new]
    return torch.stack([torch.cat([u, v]), torch.cat([v, u])])


def a_priori_divergence(alpha: Tensor, beta: Tensor, concentration: float) -> Tensor:
    """KL(Beta(alpha, beta) || Beta(1, concentration)), entry by entry."""
    total = alpha + beta
    log_norm = torch.lgamma(alpha) + torch.lgamma(beta) - torch.lgamma(total)
    means = (alpha - 1.0) * torch.digamma(alpha) + (beta - concentration) * torch.digamma(beta)
    constant = torch.tensor(concentration, dtype=alpha.dtype, device=alpha.device).log()
    return means + (1.0 + concentration - total) * torch.digamma(total) - log_norm - constant


# A draw for the shape + BOOST is accepted with a probability above 0.996, so TRIES proposals fail once in 10^7; then
# the first one stands.
BOOST, TRIES = 8, 3


class Noise(NamedTuple):
    """The random numbers of `log_gamma`: standard normal and uniform proposals [TRIES, ..] and uniforms [BOOST, ..]."""

    normal: Tensor
    uniform: Tensor
    boost: Tensor

    @classmethod
    def of(cls, shape: Sequence[int], like: Tensor) -> Noise:
        options: dict[str, Any] = {"dtype": like.dtype, "device": like.device}
        tries = torch.randn(TRIES, *shape, **options), torch.rand(TRIES, *shape, **options)
        return cls(*tries, torch.rand(BOOST, *shape, **options))


def log_gamma(shape: Tensor, noise: Noise) -> Tensor:
    """log of a draw from Gamma(shape, 1) for each entry, differentiable in `shape` [..].

    Marsaglia, Tsang, "A Simple Method for Generating Gamma Variables", ACM TOMS 26(3), 2000, for the shape + BOOST;
    then Gamma(a) = Gamma(a + 1) U^(1/a), BOOST times, in logarithms: small shapes neither underflow nor lose 1 - v.
    The derivative is that of the accepted draw, as in Naesseth, Ruiz, Linderman, Blei, "Reparameterization Gradients
    through Acceptance-Rejection Sampling Algorithms", AISTATS 2017, without the correction for the acceptance: with
    BOOST = 8 that changes the derivative of E[log g] by less than 3e-4 of it. Torch's own samplers have a derivative
    that is not the one of their draws.
    """
    tiny = torch.finfo(shape.dtype).eps
    d = shape + (BOOST - 1.0 / 3.0)
    c = (9.0 * d).rsqrt()
    with torch.no_grad():
        cube = (1.0 + c * noise.normal).clamp(min=tiny) ** 3
        bound = 0.5 * noise.normal.square() + d * (1.0 - cube + cube.log())
        first = (noise.uniform.log() < bound).to(torch.uint8).argmax(0, keepdim=True)
        z = noise.normal.gather(0, first).squeeze(0)
    steps = torch.arange(BOOST, dtype=shape.dtype, device=shape.device).reshape(-1, *[1] * shape.ndim)
    accepted = d.log() + 3.0 * (1.0 + c * z).clamp(min=tiny).log()
    return accepted + (torch.log1p(-noise.boost) / (shape + steps)).sum(0)
