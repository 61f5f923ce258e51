"""MaxCutPool: the score network and the loss as dense formulas, the assignment by hand, normalisation, arguments."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from poolbench.linalg import Ragged, Sparse
from poolbench.pool import MaxCutPool
from poolbench.pool.maxcut import cut, follow
from poolbench.pool.topk import top_k

F64 = torch.float64


def random_graph(n: int, seed: int, p: float = 0.3, isolated: int = 0) -> tuple[Tensor, Tensor]:
    """x and a symmetric weighted a, whose last nodes are isolated."""
    g = torch.Generator().manual_seed(seed)
    a = (torch.rand(n, n, generator=g) < p) * (torch.rand(n, n, generator=g, dtype=F64) + 0.5)
    a[:, n - isolated :] = 0
    a[n - isolated :] = 0
    return torch.randn(n, 3, generator=g, dtype=F64), a.triu(1) + a.triu(1).T


def sparse(a: Tensor, sizes: list[int] | None = None) -> Sparse:
    row, col = a.nonzero(as_tuple=True)
    sizes = sizes or [len(a)]
    return Sparse.from_edges(row, col, a[row, col], Ragged(torch.tensor([0, *sizes]).cumsum(0), sizes))


def pool(seed: int = 0, **args: Any) -> MaxCutPool:
    torch.manual_seed(seed)
    defaults = {"in_channels": 3, "mp_units": [8, 6], "mlp_units": [5], "bias_initializer": "random_normal"}
    return MaxCutPool(**{**defaults, "return_selection": True, "return_score": True, **args}).double()


@pytest.mark.parametrize("delta", [2.0, 0.7])
def test_the_score_network_is_its_dense_formula(delta: float) -> None:
    x, a = random_graph(12, seed=1, isolated=2)
    ours = pool(delta=delta)
    d = a.sum(1)
    inverse = torch.where(d > 0, d.clamp(min=1e-9).rsqrt(), 0.0)
    p = torch.eye(12, dtype=F64) - delta * (torch.eye(12, dtype=F64) - inverse[:, None] * a * inverse)
    net = ours.network
    h = x @ net.first.weight.T + net.first.bias
    for layer in net.mp:
        h = torch.tanh(p @ (h @ layer.weight.T) + layer.bias)
    for layer in net.mlp:
        h = torch.relu(h @ layer.weight.T + layer.bias)
    z = torch.tanh(h @ net.last.weight.T + net.last.bias).squeeze(-1)
    out = ours(x, a)
    torch.testing.assert_close(out.score, z, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(out.losses["maxcut"], z @ a @ z / a.sum(), rtol=1e-5, atol=1e-6)
    assert out.s.centres.tolist() == z.topk(6).indices.sort().values.tolist()
    torch.testing.assert_close(out.x, out.s.dense().T @ x)


def test_the_loss_of_a_cut() -> None:
    """For signs it is 1 - 2 (weight of cut edges) / (weight of all edges): -1 where all edges are cut."""
    square = torch.zeros(4, 4, dtype=F64)
    for u, v, w in ((0, 1, 1.0), (1, 2, 2.0), (2, 3, 3.0), (3, 0, 4.0)):
        square[u, v] = square[v, u] = w
    both = torch.block_diag(square, square, torch.zeros(3, 3, dtype=F64))
    z = torch.tensor([1, -1, 1, -1, 1, 1, 1, -1, 1, 1, 1], dtype=F64)
    assert cut(z, sparse(both, [4, 4, 3])).tolist() == pytest.approx([-1, 1 - 2 * 7 / 10, 0])


def test_the_loss_is_a_mean_over_graphs_times_its_coefficient() -> None:
    (x1, a1), (x2, a2) = random_graph(9, seed=2), random_graph(5, seed=3, p=0.8)
    ours = pool(loss_coeff=0.7)
    i = torch.repeat_interleave(torch.tensor([9, 5]))
    both = ours(torch.cat([x1, x2]), torch.block_diag(a1, a2), i).losses["maxcut"]
    parts = [cut(ours(x, a).score, sparse(a))[0] for x, a in ((x1, a1), (x2, a2))]
    torch.testing.assert_close(both, 0.7 * (parts[0] + parts[1]) / 2)
    assert ours(x1, 0 * a1).losses["maxcut"] == 0


def edges(n: int, *pairs: tuple[int, int]) -> Sparse:
    a = torch.zeros(n, n, dtype=F64)
    for u, v in pairs:
        a[u, v] = a[v, u] = 1
    return sparse(a)


def test_followers_take_the_most_frequent_cluster() -> None:
    # 0 and 1 are kept. 2 hears 1 alone and 3 hears both; 4 hears 2 and 3 in round 2, and 5 hears 4 in round 3.
    a = edges(6, (1, 2), (0, 3), (1, 3), (2, 4), (3, 4), (4, 5))
    kept, each = torch.tensor([0, 1]), torch.arange(6)
    assert follow(kept, a, each, 1)[:4].tolist() == [0, 1, 1, 0]
    assert follow(kept, a, each, 3).tolist() == [0, 1, 1, 0, 0, 0]
    other_way = torch.tensor([1, 0, 2, 3, 4, 5])  # ties go to node 1
    assert follow(kept, a, other_way, 3).tolist() == [0, 1, 1, 1, 1, 1]


def test_a_majority_outvotes_the_order() -> None:
    # In round 1 nodes 2 and 3 take 1. Node 4 hears 0 through 5 in round 2, and 1 through both 2 and 3.
    a = edges(6, (1, 2), (1, 3), (2, 4), (3, 4), (0, 5), (5, 4))
    assert follow(torch.tensor([0, 1]), a, torch.arange(6), 2).tolist() == [0, 1, 1, 1, 1, 0]


def test_nodes_out_of_reach_go_to_a_kept_node_of_their_graph() -> None:
    sizes = [30, 1, 50]
    a = Sparse.from_edges(torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64), None,
                          Ragged(torch.tensor([0, 30, 31, 81]), sizes))  # fmt: skip
    z = torch.randn(81, generator=torch.Generator().manual_seed(0))
    kept = top_k(z, a.nodes, 0.2)
    rank = torch.argsort(torch.argsort(z, descending=True))
    centre = follow(kept, a, rank, 5)
    assert torch.isin(centre, kept).all()
    assert torch.equal(a.nodes.index[centre], a.nodes.index)
    assert torch.equal(centre[kept], kept)
    assert centre[31:].unique().numel() > 5  # of 10: the draw spreads them
    alone = Ragged.single(50)
    last = Sparse.from_edges(a.col, a.col, None, alone)
    again = follow(top_k(z[31:], alone, 0.2), last, torch.argsort(torch.argsort(z[31:], descending=True)), 5)
    assert torch.equal(again, centre[31:] - 31)


def test_ties_by_score_do_not_depend_on_the_numbers_of_the_nodes() -> None:
    order = torch.randperm(14, generator=torch.Generator().manual_seed(0))
    answers = {}
    for ties in ("score", "node"):
        same = []
        for seed in range(6):
            x, a = random_graph(14, seed, p=0.2, isolated=2)
            ours = pool(ratio=0.4, ties=ties)
            one, other = ours(x, (a != 0).to(F64)), ours(x[order], (a != 0).to(F64)[order][:, order])
            lifted = ours.lift(one.x, one.s)[order], ours.lift(other.x, other.s)
            same.append(torch.allclose(*lifted, rtol=1e-8, atol=1e-8))
        answers[ties] = same
    assert all(answers["score"])
    assert not all(answers["node"])


def test_pooled_weights_are_divided_by_the_largest_of_their_graph() -> None:
    (x1, a1), (x2, a2) = random_graph(16, seed=4), random_graph(10, seed=5)
    a, x = torch.block_diag(a1, 100 * a2), torch.cat([x1, x2])
    i = torch.repeat_interleave(torch.tensor([16, 10]))
    out = pool()(x, a, i)
    merged = pool(edge_weight_norm=False)(x, a, i)
    c = (out.s.dense() != 0).to(F64)
    torch.testing.assert_close(merged.a, (c.T @ a @ c).fill_diagonal_(0.0))
    for g in (0, 1):
        own = out.i == g
        torch.testing.assert_close(out.a[own][:, own], merged.a[own][:, own] / merged.a[own][:, own].max())


def test_kept_nodes_alone_are_reduced_but_all_edges_are_merged() -> None:
    x, a = random_graph(13, seed=6)
    every, some = pool()(x, a), pool(assign_all_nodes=False)(x, a)
    kept = every.s.centres
    assert torch.equal(some.s.kept, kept)
    assert torch.equal(some.a, every.a)
    torch.testing.assert_close(some.x, every.score[kept].unsqueeze(-1) * x[kept])
    assert some.s.dense().count_nonzero() == len(kept)


def test_no_layers_at_all() -> None:
    x, a = random_graph(6, seed=7)
    ours = pool(mp_units=[], mlp_units=[])
    z = torch.tanh((x @ ours.network.first.weight.T + ours.network.first.bias) @ ours.network.last.weight.T)
    torch.testing.assert_close(ours(x, a).score, torch.tanh(torch.atanh(z.squeeze(-1)) + ours.network.last.bias))


@pytest.mark.parametrize(
    "args", [{"ratio": 0.0}, {"max_iter": -1}, {"max_iter": 0.5}, {"ties": "coin"}, {"mp_units": [0]}]
)
def test_arguments_are_checked(args: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(args))):
        MaxCutPool(**args)
