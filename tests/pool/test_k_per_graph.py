"""Clusters in proportion to a graph: a batch gives what each graph gives alone to an operator with its own k."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from poolbench.linalg import Matrix, Nodes, Padded, Ragged, Sparse
from poolbench.nn.hierarchical import Hierarchical
from poolbench.nn.mlp import Norm
from poolbench.nn.model import DataFacts, Part
from poolbench.pool import (
    AsymCheegerCutPool,
    BNPool,
    DiffPool,
    DMoNPool,
    GlobalAttentionPool,
    GlobalAvgPool,
    GlobalMaxPool,
    GraphMultisetTransformerPool,
    HOSCPool,
    JustBalancePool,
    MemPool,
    MinCutPool,
    RandomDensePool,
    TopKPool,
)
from poolbench.pool.base.src import DenseSelection, SoftPool
from poolbench.pool.bnpool import Noise

F64, FEATURES, K, SHARE = torch.float64, 4, 5, 0.4
SIZES = (7, 1, 12, 3, 40)
OWN = [min(K, max(2, math.ceil(SHARE * n))) for n in SIZES]  # 3, 2, 5, 2, 5

OPERATORS: dict[str, tuple[type[SoftPool], dict[str, Any]]] = {
    "mincut": (MinCutPool, {"mlp_hidden": [6]}),
    "diffpool": (DiffPool, {"activation": "sigmoid"}),
    "dmon": (DMoNPool, {}),
    "dmon-exact": (DMoNPool, {"null_model": "exact"}),
    "justbalance": (JustBalancePool, {"normalized_loss": True}),
    "asymcheegercut": (AsymCheegerCutPool, {}),
    "hosc": (HOSCPool, {}),
    "hosc-ortho": (HOSCPool, {"hosc_ortho": True, "edge_weight_norm": True}),
    "mem": (MemPool, {"heads": 2}),
    "mem-dense": (MemPool, {"heads": 2, "connect": "dense", "channels": 3}),
    "bnpool": (BNPool, {}),
    "bnpool-sampled": (BNPool, {"sampled": True, "num_neg_samples": 1}),
}
each = pytest.mark.parametrize("name", OPERATORS)


def make(name: str, k: int = K, share: float | None = SHARE) -> SoftPool:
    cls, args = OPERATORS[name]
    torch.manual_seed(0)
    pool = cls(k, in_channels=FEATURES, return_selection=True, k_per_graph=share, **args).double()
    with torch.no_grad():
        for p in pool.parameters():
            p.add_(0.5 * torch.randn_like(p))
    return pool


def restricted(name: str, k: int) -> SoftPool:
    """The operator with k clusters and the weights of the first k of K."""
    whole, pool = make(name), make(name, k, None)
    state = whole.state_dict()
    if isinstance(pool, DiffPool):
        state["assignment.weight"] = state["assignment.weight"][:k]
    elif isinstance(pool, MemPool):
        state["keys.weight"] = state["keys.weight"].unflatten(0, (pool.heads, K))[:, :k].flatten(0, 1)
    else:
        last = f"mlp.layers.{len(pool.mlp.layers) - 1}"
        for kind in ("weight", "bias"):
            w = state[f"{last}.{kind}"]
            both = torch.cat([part[: k - 1] for part in w.chunk(2)])
            state[f"{last}.{kind}"] = both if isinstance(pool, BNPool) else w[:k]
    if isinstance(pool, BNPool):
        state["links"] = state["links"][:k, :k]
    pool.load_state_dict(state)
    return pool


def graphs() -> list[tuple[Tensor, Tensor]]:
    g = torch.Generator().manual_seed(5)
    out = []
    for n in SIZES:
        a = torch.rand(n, n, generator=g, dtype=F64).triu(1) * (torch.rand(n, n, generator=g) < 0.4)
        out.append((torch.randn(n, FEATURES, generator=g, dtype=F64), a + a.T))
    return out


def given(pool: SoftPool, graph: slice | Tensor) -> None:
    """The noise of BNPool by node, so that it does not depend on the batch."""
    if not isinstance(pool, BNPool):
        return
    torch.manual_seed(7)
    like = torch.zeros(1, dtype=F64)
    whole = [Noise.of((sum(SIZES), K - 1), like) for _ in range(2)]
    pool.noise = (
        lambda x: [  # type: ignore[method-assign]
            Noise(*(v[:, graph][..., : pool.k - 1].reshape(len(v), *x.shape[:-1], pool.k - 1) for v in n))
            for n in whole
        ]
    )


def call(pool: SoftPool, x: Tensor, a: Tensor, **how: Any) -> Any:
    """With the first pair of each graph as the ones without an edge, where pairs are sampled."""
    if getattr(pool, "sampled", False):
        starts = torch.tensor([0, *SIZES]).cumsum(0)[:-1].tolist() if len(x) == sum(SIZES) or x.ndim == 3 else [0]
        how["negatives"] = torch.tensor([starts, starts])
    return pool(x, a, **how)


def together(pool: SoftPool, mode: str, xs: list[Tensor], blocks: list[Tensor]) -> Any:
    i = torch.repeat_interleave(torch.tensor(SIZES))
    if mode == "disjoint":
        given(pool, slice(None))
        return call(pool, torch.cat(xs), torch.block_diag(*blocks), i=i)
    b, n = len(SIZES), max(SIZES)
    x, a = torch.full((b, n, FEATURES), 9.0, dtype=F64), torch.zeros(b, n, n, dtype=F64)
    mask = torch.arange(n) < torch.tensor(SIZES)[:, None]
    x = x.masked_scatter(mask.unsqueeze(-1), torch.cat(xs))
    for g, block in enumerate(blocks):
        a[g, : SIZES[g], : SIZES[g]] = block
    given(pool, (mask.reshape(-1).cumsum(0) - 1).clamp(min=0))
    return call(pool, x, a, mask=mask)


def alone(name: str, g: int, x: Tensor, a: Tensor) -> tuple[SoftPool, Any]:
    pool = restricted(name, OWN[g])
    start = sum(SIZES[:g])
    given(pool, slice(start, start + SIZES[g]))
    return pool, call(pool, x, a)


def close(ours: Any, theirs: Any) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@each
@pytest.mark.parametrize("mode", ["disjoint", "batch"])
def test_a_batch_is_its_graphs_alone(name: str, mode: str) -> None:
    pool, parts = make(name), graphs()
    out = together(pool, mode, [x for x, _ in parts], [a for _, a in parts])
    assert out.sizes.tolist() == OWN
    rows = out.x.split(OWN) if mode == "disjoint" else out.x
    lifted, back = pool.lift(out.x, out.s), pool.lift(out.x, out.s, inverse=True)
    first, losses = 0, []
    for g, (x, a) in enumerate(parts):
        own, k, n = alone(name, g, x, a), OWN[g], SIZES[g]
        one, single = own
        close(rows[g][:k], single.x)
        nodes = slice(sum(SIZES[:g]), sum(SIZES[: g + 1])) if mode == "disjoint" else (g, slice(n))
        close(out.s.dense()[nodes][:, :k], single.s.dense())
        assert not out.s.dense()[nodes][:, k:].any()
        close(lifted[nodes], one.lift(single.x, single.s))
        torch.testing.assert_close(back[nodes], one.lift(single.x, single.s, inverse=True), rtol=1e-6, atol=1e-6)
        block = out.a[first : first + k, first : first + k] if mode == "disjoint" else out.a[g, :k, :k]
        close(block, single.a)
        first += k
        losses.append(single.losses)
    if mode == "batch":
        assert out.mask.sum(1).tolist() == OWN
        assert not out.x[~out.mask].any()
        assert not out.a[~out.mask].any()
        assert not out.a.mT[~out.mask].any()
    else:
        assert out.i.tolist() == [g for g, k in enumerate(OWN) for _ in range(k)]
        assert out.x.shape[0] == out.a.shape[0] == sum(OWN)
    for loss in out.losses:
        share = len(SIZES) if loss == "K_prior" else 1  # a batch shares the prior of the links
        close(out.losses[loss] * share, torch.stack([v[loss] for v in losses]).mean())


@each
def test_the_gradient_is_that_of_the_graphs_alone(name: str) -> None:
    pool, parts = make(name), graphs()
    xs = [x.requires_grad_() for x, _ in parts]
    out = together(pool, "disjoint", xs, [a for _, a in parts])
    value = out.x.square().sum() + out.a.square().sum() + sum(v for n, v in out.losses.items() if n != "K_prior")
    found = torch.autograd.grad(value, xs)
    for g, (x, a) in enumerate(parts):
        single = alone(name, g, x, a)[1]
        losses = sum(v for n, v in single.losses.items() if n != "K_prior")
        value = single.x.square().sum() + single.a.square().sum() + losses / len(SIZES)
        close(found[g], torch.autograd.grad(value, x)[0])


def test_random_assignments_stay_in_their_columns() -> None:
    parts = graphs()
    pool = RandomDensePool(K, return_selection=True, k_per_graph=SHARE)
    out = together(pool, "disjoint", [x for x, _ in parts], [a for _, a in parts])
    assert out.sizes.tolist() == OWN
    for s, k in zip(out.s.dense().split(SIZES), OWN, strict=True):
        assert (s[:, :k] > 0).all()
        assert not s[:, k:].any()
        close(s.sum(1), torch.ones(len(s), dtype=F64))


def test_the_number_of_clusters() -> None:
    """ceil(share n), 0.3 of 10 being 3, at least 2 and at most k; a graph without nodes has the least."""
    nodes = Ragged(torch.tensor([0, 10, 10, 11, 40, 60]), [10, 0, 1, 29, 20])
    valid = MinCutPool(8, k_per_graph=0.3).clusters(nodes)
    assert valid is not None
    assert valid.sum(1).tolist() == [3, 2, 2, 8, 6]
    assert MinCutPool(1, k_per_graph=0.3).clusters(nodes).sum(1).tolist() == [1] * 5  # type: ignore[union-attr]
    assert MinCutPool(8).clusters(nodes) is None


@each
def test_every_graph_with_k_is_the_operator_without(name: str) -> None:
    parts = [(x, a) for x, a in graphs() if len(x) >= 7]
    i = torch.repeat_interleave(torch.tensor([len(x) for x, _ in parts]))
    found = []
    for share in (None, 1.0):
        torch.manual_seed(3)
        out = make(name, 5, share)(torch.cat([x for x, _ in parts]), torch.block_diag(*(a for _, a in parts)), i)
        found.append((out.x, out.a, out.losses))
    close(found[0], found[1])


def test_an_empty_graph_in_between_changes_nothing() -> None:
    for name in OPERATORS:
        if name.startswith("bnpool"):
            continue
        x, a = graphs()[0]
        pool = make(name)
        gap = pool(torch.cat([x, x]), torch.block_diag(a, a), torch.tensor([0] * 7 + [2] * 7))
        plain = pool(torch.cat([x, x]), torch.block_diag(a, a), torch.tensor([0] * 7 + [1] * 7))
        assert gap.sizes.tolist() == [3, 2, 3]
        close(gap.losses, plain.losses)
        assert not gap.x[gap.i == 1].any() or name == "diffpool"  # its sigmoid of nothing is a half
        gap.x.square().sum().add(sum(gap.losses.values())).backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in pool.parameters())


# What comes after the pool


def pooled() -> tuple[Tensor, Matrix]:
    parts = graphs()
    index = torch.block_diag(*(a for _, a in parts)).nonzero().T
    nodes = Ragged(torch.tensor([0, *SIZES]).cumsum(0), SIZES)
    out = make("mincut")(torch.cat([x for x, _ in parts]), Sparse.from_edges(index[0], index[1], None, nodes))
    assert isinstance(out.a, Matrix)
    return out.x, out.a


def test_batch_norm_counts_clusters_alone() -> None:
    x, a = pooled()
    assert isinstance(a.nodes, Padded)
    assert a.nodes.mask is not None
    ours, flat = Norm("batch", FEATURES).double(), nn.BatchNorm1d(FEATURES).double()
    x = x + 7.0 * ~a.nodes.mask.unsqueeze(-1)  # what a layer's bias leaves in the padding
    close(ours(x, a.nodes)[a.nodes.mask], flat(x[a.nodes.mask]))
    close(ours.norm.running_var, flat.running_var)


@pytest.mark.parametrize(
    "readout",
    [
        GlobalAvgPool(),
        GlobalMaxPool(),
        GlobalAttentionPool(3, in_channels=FEATURES, bias_initializer="ones"),
        GraphMultisetTransformerPool(4, in_channels=FEATURES),
    ],
    ids=lambda r: type(r).__name__,
)
def test_readouts_count_clusters_alone(readout: Any) -> None:
    x, a = pooled()
    x = x.detach() + 7.0 * ~a.nodes.mask.unsqueeze(-1)
    readout = readout.double()
    close(readout(x, a.nodes), torch.cat([readout(row[:k]) for row, k in zip(x, OWN, strict=True)]))


@pytest.mark.parametrize("pool", [MinCutPool, DiffPool, BNPool])
def test_a_model_classifies_a_graph_alike_alone_and_in_company(pool: type[SoftPool]) -> None:
    torch.manual_seed(0)
    part = Part(pool, {"k": [5, 3], "k_per_graph": 0.5})
    net = Hierarchical(
        DataFacts(FEATURES, 2, 10.0), part, Part(GlobalMaxPool), mp="gin", hidden=8, norm="batch", jumping="cat"
    ).double()
    xs, blocks = zip(*graphs(), strict=True)

    def answer(*which: int) -> Any:
        index = torch.block_diag(*(blocks[g] for g in which)).nonzero().T
        nodes = Ragged.from_index(torch.repeat_interleave(torch.tensor([SIZES[g] for g in which])))
        return net(torch.cat([xs[g] for g in which]), Sparse.from_edges(index[0], index[1], None, nodes))

    whole = answer(*range(len(SIZES)))
    assert [s.tolist() for s in whole.sizes[1:]] == [[4, 2, 5, 2, 5], [2, 2, 3, 2, 3]]
    whole.y.sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in net.parameters())
    if not pool.stochastic:
        net.eval()
        whole = answer(*range(len(SIZES)))
        for g in range(len(SIZES)):
            close(answer(g).y[0], whole.y[g])


def test_the_next_pool_sees_clusters_alone() -> None:
    x, a = pooled()
    x = x.detach()
    second = MinCutPool(3, in_channels=FEATURES, k_per_graph=0.8, bias_initializer="ones").double()
    out = second(x, a)
    assert out.sizes.tolist() == [3, 2, 3, 2, 3]
    loss = [second(row[:k], block[:k, :k]).losses for row, block, k in zip(x, a.to_dense(), OWN, strict=True)]
    for name in out.losses:
        close(out.losses[name], torch.stack([v[name] for v in loss]).mean())
    assert TopKPool(0.5, in_channels=FEATURES).double()(x, a).sizes.tolist() == [2, 1, 3, 1, 3]


# Arguments


@pytest.mark.parametrize("share", [0.0, 1.5, -0.1, True])
def test_impossible_shares_are_refused(share: Any) -> None:
    with pytest.raises(ValueError, match="k_per_graph"):
        MinCutPool(4, k_per_graph=share)


def test_an_operator_that_makes_its_own_assignment_cannot_have_it() -> None:
    class Halves(SoftPool):
        def select(self, x: Tensor, a: Matrix, i: Tensor | None) -> DenseSelection:
            nodes: Nodes = a.nodes
            return DenseSelection(torch.full((len(x), self.k), 1.0 / self.k, dtype=x.dtype), nodes)

    x, a = graphs()[0]
    assert Halves(2)(x, a).x.shape == (2, FEATURES)
    with pytest.raises(TypeError, match="Halves makes its assignment without `assign`"):
        Halves(2, k_per_graph=0.5)(x, a)
