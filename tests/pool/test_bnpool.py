"""BNPool: the sampler's distribution and derivative, the losses against dense formulas, pairs, blocks, arguments."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from torch import Tensor, nn
from torch.distributions import Beta, kl_divergence

from poolbench.linalg import Ragged, Sparse
from poolbench.pool import BNPool
from poolbench.pool.bnpool import Noise, a_priori_divergence, draw_pairs, log_gamma

F64, FEATURES, K = torch.float64, 4, 3
SIZES = [7, 12, 1, 5]


def make(k: int = K, **more: Any) -> BNPool:
    torch.manual_seed(0)
    pool = BNPool(k, in_channels=FEATURES, return_selection=True, **more).double()
    with torch.no_grad():
        for p in pool.parameters():
            p.add_(0.3 * torch.randn_like(p))
    return pool


def graph(n: int, seed: int, weighted: bool = False) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, FEATURES, generator=g, dtype=F64)
    a = (torch.rand(n, n, generator=g) < 0.4).double().triu(1)
    a = a * torch.rand(n, n, generator=g, dtype=F64) if weighted else a
    return x, a + a.T


def batch(weighted: bool = False) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    parts = [graph(n, seed, weighted) for seed, n in enumerate(SIZES)]
    blocks = [a for _, a in parts]
    i = torch.repeat_interleave(torch.tensor(SIZES))
    return torch.cat([x for x, _ in parts]), torch.block_diag(*blocks), i, blocks


def shapes_of(pool: BNPool, x: Tensor) -> tuple[Tensor, Tensor]:
    alpha, beta = F.softplus(pool.mlp(x)).clamp(1e-3, 1e3).chunk(2, -1)
    return alpha, beta


# The sampler


@pytest.mark.parametrize("shape", [0.02, 0.5, 1.0, 3.0, 40.0])
def test_the_draws_are_gamma_distributed(shape: float) -> None:
    torch.manual_seed(0)
    of = torch.full((20000,), shape, dtype=F64)
    draws = log_gamma(of, Noise.of(of.shape, of))
    assert stats.kstest(draws.numpy(), lambda v: stats.gamma(shape).cdf(torch.tensor(v).exp().numpy())).pvalue > 0.01


@pytest.mark.parametrize("shape", [0.01, 0.3, 1.0, 5.0, 100.0])
def test_the_mean_of_the_derivative_is_the_derivative_of_the_mean(shape: float) -> None:
    """E[log g] = digamma(a), whose derivative is trigamma(a)."""
    torch.manual_seed(1)
    of = torch.full((200000,), shape, dtype=F64, requires_grad=True)
    (slopes,) = torch.autograd.grad(log_gamma(of, Noise.of(of.shape, of)).sum(), of)
    wanted, error = torch.polygamma(1, of.detach()[0]), slopes.std() / len(slopes) ** 0.5
    assert abs(slopes.mean() - wanted) < 4 * error + 3e-4 * wanted


def test_the_sticks_are_beta_distributed_and_use_up_the_stick() -> None:
    torch.manual_seed(0)
    pool = make()
    x = torch.randn(1, FEATURES, dtype=F64).expand(20000, -1)
    s = pool(x, torch.zeros(2, 0, dtype=torch.int64), torch.arange(20000)).s.dense().detach()
    torch.testing.assert_close(s.sum(-1), torch.ones(20000, dtype=F64))
    alpha, beta = (v[0].detach().tolist() for v in shapes_of(pool, x))
    assert stats.kstest(s[:, 0].numpy(), stats.beta(alpha[0], beta[0]).cdf).pvalue > 0.01
    second = (s[:, 1] / (1.0 - s[:, 0])).numpy()
    assert stats.kstest(second, stats.beta(alpha[1], beta[1]).cdf).pvalue > 0.01


def test_small_shapes_stay_finite_in_float32() -> None:
    torch.manual_seed(0)
    of = torch.full((10000,), 1e-3, requires_grad=True)
    draws = log_gamma(of, Noise.of(of.shape, of))
    assert draws.isfinite().all()
    assert draws.exp().eq(0).any()  # it is the logarithm that knows them
    (slopes,) = torch.autograd.grad(draws.sum(), of)
    assert slopes.isfinite().all()


def test_draws_follow_the_seed_also_where_the_first_call_makes_the_weights() -> None:
    x, a, i, _ = batch()
    lazy = BNPool(K, return_selection=True)
    found = []
    for _ in range(2):
        torch.manual_seed(3)
        found.append(lazy.eval()(x.float(), a.float(), i).s.dense())
    assert torch.equal(*found)
    assert not torch.equal(lazy(x.float(), a.float(), i).s.dense(), found[0])


# The losses


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("layout", ["disjoint", "batch"])
def test_the_losses_are_the_dense_formulas(weighted: bool, layout: str) -> None:
    pool = make(alpha_dp=2.0, k_var=0.5, k_mu=3.0, kl_coeff=0.6)
    x, a, i, blocks = batch(weighted)
    if layout == "disjoint":
        out = pool(x, a, i)
        parts = out.s.dense().split(SIZES)
    else:
        wide, value = torch.full((4, 12, FEATURES), 5.0, dtype=F64), torch.zeros(4, 12, 12, dtype=F64)
        mask = torch.arange(12) < torch.tensor(SIZES)[:, None]
        wide[mask] = x
        for g, block in enumerate(blocks):
            value[g, : SIZES[g], : SIZES[g]] = block
        out = pool(wide, value, mask=mask)
        parts = [s[:n] for s, n in zip(out.s.dense(), SIZES, strict=True)]
    quality, kl, prior = [], [], []
    for s, block, own in zip(parts, blocks, x.split(SIZES), strict=True):
        n, e = len(block), int((block != 0).sum())
        weight = torch.where(block != 0, max(n * n - e, 1) / max(e, 1), 1.0)
        quality.append(F.binary_cross_entropy_with_logits(s @ pool.links @ s.T, block, weight))
        alpha, beta = shapes_of(pool, own)
        kl.append(0.6 * kl_divergence(Beta(alpha, beta), Beta(1.0, torch.tensor(2.0, dtype=F64))).sum() / n**2)
        mean = 3.0 * (2.0 * torch.eye(K, dtype=F64) - 1.0)
        prior.append((pool.links - mean).square().sum() / (2 * 0.5) / n**2 / len(SIZES))
    for name, wanted in (("quality", quality), ("kl", kl), ("K_prior", prior)):
        torch.testing.assert_close(out.losses[name], torch.stack(wanted).mean())


def test_the_divergence_is_torchs_and_0_at_the_prior() -> None:
    alpha = torch.logspace(-3, 3, 13, dtype=F64)
    for concentration in (0.5, 1.0, 4.0):
        prior = Beta(torch.ones((), dtype=F64), torch.tensor(concentration, dtype=F64))
        for beta in alpha.tolist():
            other = torch.full_like(alpha, beta)
            found = a_priori_divergence(alpha, other, concentration)
            torch.testing.assert_close(found, kl_divergence(Beta(alpha, other), prior))
        assert abs(a_priori_divergence(torch.ones(1, dtype=F64), torch.full((1,), concentration), concentration)) < 1e-6


def test_blocks_of_pairs_change_neither_value_nor_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    x, a, i, _ = batch()
    pool, found = make(), []
    for size in (2**22, 300, 40, 1):
        monkeypatch.setattr("poolbench.pool.bnpool.BLOCK", size)
        torch.manual_seed(1)
        loss = pool(x, a, i).losses["quality"]
        found.append((loss, *torch.autograd.grad(loss, list(pool.parameters()))))
    for other in found[1:]:
        torch.testing.assert_close(other, found[0])


def test_more_pairs_need_no_more_memory() -> None:
    """4096 nodes have 2^24 pairs, 64 MiB in float32; a block has a quarter, and a few of them are at work."""
    n = 4096
    ring = torch.arange(n)
    a = Sparse.from_edges(
        torch.cat([ring, (ring + 1) % n]), torch.cat([(ring + 1) % n, ring]), None, Ragged.single(n), symmetric=True
    )
    pool = BNPool(K, in_channels=FEATURES)
    saved: list[int] = []

    def note(t: Tensor) -> Tensor:
        saved.append(t.numel())
        return t

    with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
        loss = pool(torch.randn(n, FEATURES), a).losses["quality"]
    assert max(saved) <= 16 * n
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in pool.mlp.parameters())


def test_an_entry_in_parts_counts_once() -> None:
    x, a = graph(6, 0)
    index = a.nonzero().T
    twice = Sparse(*_halves(index, 6), Ragged.single(6))
    pool, found = make(), []
    for matrix in (a, twice):
        torch.manual_seed(0)
        found.append(pool(x, matrix).losses["quality"])
    torch.testing.assert_close(*found)


def _halves(index: Tensor, n: int) -> tuple[Tensor, Tensor, Tensor]:
    """CSR in which each entry stands in two parts of a half."""
    row, col = index.repeat_interleave(2, dim=1)
    crow = torch.cat([torch.zeros(1, dtype=torch.int64), torch.bincount(row, minlength=n).cumsum(0)])
    return crow, col, torch.full((len(col),), 0.5, dtype=F64)


# Pairs without an edge


def test_drawn_pairs_have_no_edge_and_stay_in_their_graph() -> None:
    _, a, i, _ = batch()
    index = a.nonzero().T
    nodes = Ragged.from_index(i)
    graphs = Sparse.from_edges(index[0], index[1], None, nodes)
    torch.manual_seed(0)
    u, v = torch.cat([draw_pairs(graphs, None) for _ in range(200)], 1)
    assert not a[u, v].any()
    assert (u != v).all()
    assert torch.equal(i[u], i[v])
    wanted = torch.tensor([(block != 0).sum() for block in batch()[3]])
    drawn = torch.bincount(i[u], minlength=4) / 200
    assert (drawn - wanted).abs().max() < 2.5
    free = (a == 0) & (i[:, None] == i[None, :]) & ~torch.eye(len(i), dtype=torch.bool)
    assert torch.equal(torch.zeros_like(free).index_put((u, v), torch.tensor(True)), free)  # each of them comes up
    few = draw_pairs(graphs, 4)
    assert (torch.bincount(i[few[0]], minlength=4) <= 2 * 20).all()


def test_a_complete_graph_has_no_pair_to_draw() -> None:
    full = torch.ones(4, 4, dtype=F64) - torch.eye(4, dtype=F64)
    out = make(sampled=True)(graph(4, 0)[0], full)
    s, links = out.s.dense(), make(sampled=True).links
    edge = F.softplus(-(s @ links @ s.T))[full > 0].mean()
    torch.testing.assert_close(out.losses["quality"], edge)


@pytest.mark.parametrize("layout", ["disjoint", "batch"])
def test_the_sampled_losses_are_means_over_pairs(layout: str) -> None:
    pool = make(sampled=True)
    x, a = graph(7, 2)
    negatives = torch.tensor([[0, 5, 1, 6], [5, 0, 6, 1]])
    if layout == "disjoint":
        out = pool(x, a, torch.zeros(7, dtype=torch.int64), negatives=negatives)
        s = out.s.dense()
    else:
        out = pool(x[None], a[None], negatives=negatives)
        s = out.s.dense()[0]
    r = s @ pool.links @ s.T
    pairs = torch.cat([F.softplus(-r[a != 0]), F.softplus(r[tuple(negatives)])])
    torch.testing.assert_close(out.losses["quality"], pairs.mean())
    kl = a_priori_divergence(*shapes_of(pool, x), 1.0).sum() / len(pairs)
    torch.testing.assert_close(out.losses["kl"], kl)


def test_graphs_without_pairs_add_no_quality() -> None:
    for sampled in (False, True):
        out = make(sampled=sampled)(torch.randn(3, FEATURES, dtype=F64), torch.zeros(3, 3, dtype=F64), torch.arange(3))
        assert all(v.isfinite() for v in out.losses.values())
    assert out.losses["quality"] == 0


# Arguments


def test_one_cluster_takes_all() -> None:
    x, a, i, _ = batch()
    pool = BNPool(1, in_channels=FEATURES, return_selection=True).double()
    out = pool(x, a, i)
    assert torch.equal(out.s.dense(), torch.ones(len(x), 1, dtype=F64))
    assert out.losses["kl"] == 0


def test_links_may_be_fixed() -> None:
    x, a, i, _ = batch()
    fixed = make(train_k=False, k_init=2.0)
    assert "K_prior" not in fixed(x, a, i).losses
    assert not any(name == "links" for name, _ in fixed.named_parameters())
    assert torch.equal(fixed.state_dict()["links"], 2.0 * (2.0 * torch.eye(K, dtype=F64) - 1.0))
    assert isinstance(make().links, nn.Parameter)


@pytest.mark.parametrize(
    ("args", "match"),
    [
        ({"alpha_dp": 0.0}, "alpha_dp=0"),
        ({"k_var": -1.0}, "k_var=-1"),
        ({"kl_coeff": 0.0}, "kl_coeff=0"),
        ({"num_neg_samples": 5}, "sampled=True"),
        ({"num_neg_samples": 0, "sampled": True}, "num_neg_samples=0"),
        ({"k": 0}, "k=0"),
    ],
)
def test_impossible_arguments_are_refused(args: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        BNPool(**{"k": 3, **args})
