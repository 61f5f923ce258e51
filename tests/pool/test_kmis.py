"""KMISPool: sets and clusters against a greedy pass node by node, exact small values, scores, directed graphs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from poolbench.linalg import Ragged, Sparse
from poolbench.pool import KMISPool
from poolbench.pool.base.partition import neighbourhoods
from poolbench.pool.kmis import k_independent_set

F64 = torch.float64


def random_adjacency(n: int, seed: int, p: float = 0.15, directed: bool = False) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    a = (torch.rand(n, n, generator=g) < p) * (torch.rand(n, n, generator=g, dtype=F64) + 0.5)
    return a.fill_diagonal_(0) if directed else a.triu(1) + a.triu(1).T


def sparse(*blocks: Tensor) -> Sparse:
    a = torch.block_diag(*blocks)
    row, col = a.nonzero(as_tuple=True)
    sizes = [len(b) for b in blocks]
    return Sparse.from_edges(row, col, a[row, col], Ragged(torch.tensor([0, *sizes]).cumsum(0), sizes))


def within(a: Tensor, k: int) -> Tensor:
    """Whether two nodes are within k hops, direction ignored, themselves included: [n, n] bool."""
    near = ((a != 0) | (a.T != 0) | torch.eye(len(a), dtype=torch.bool)).to(F64)
    return torch.linalg.matrix_power(near, k) > 0


def path(n: int) -> Tensor:
    return torch.diag(torch.ones(n - 1, dtype=F64), 1) + torch.diag(torch.ones(n - 1, dtype=F64), -1)


def pool(**args: Any) -> KMISPool:
    return KMISPool(return_selection=True, return_score=True, **args).double()


@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("seed", range(5))
def test_rounds_are_the_greedy_pass(k: int, seed: int) -> None:
    blocks = [random_adjacency(n, seed) for n in (30, 1, 17)]
    a = sparse(*blocks)
    rank = torch.randperm(48, generator=torch.Generator().manual_seed(seed))
    near = within(torch.block_diag(*blocks), k)
    taken: list[int] = []
    for node in torch.argsort(rank).tolist():
        if not near[node, taken].any():
            taken.append(node)
    assert k_independent_set(neighbourhoods(a), rank, k).nonzero().squeeze(-1).tolist() == sorted(taken)


@pytest.mark.parametrize("args", [{}, {"score_heuristic": None}, {"scorer": "random", "order_k": 3}, {"order_k": 2}])
@pytest.mark.parametrize("directed", [False, True])
def test_members_are_independent_and_cover_the_graph(args: dict[str, Any], directed: bool) -> None:
    a = random_adjacency(40, seed=1, directed=directed)
    out = pool(**{"scorer": "degree", **args})(torch.randn(40, 3, dtype=F64), a)
    near = within(a, args.get("order_k", 1))
    members = out.s.centres
    assert torch.equal(near[members][:, members], torch.eye(len(members), dtype=torch.bool))
    assert near[members].any(0).all()
    centre = members[out.s.cluster[torch.argsort(out.s.node)]]
    assert near[torch.arange(40), centre].all()


def test_a_path_by_hand() -> None:
    # Degrees 1, 2, 2, 2, 1 over neighbourhoods of 2, 3, 3, 3, 2: nodes 1, 2, 3 tie at 2/3, so 1 and 3 are members, and
    # node 2, which hears both, goes to 1.
    x = torch.tensor([[1.0], [10.0], [100.0], [1000.0], [10000.0]], dtype=F64)
    out = pool(scorer="degree")(x, path(5))
    assert out.s.centres.tolist() == [1, 3]
    assert out.x.squeeze(-1).tolist() == [1 + 20 + 200, 2000 + 10000]
    assert out.a.tolist() == [[0, 1], [1, 0]]
    assert out.score.tolist() == [1, 2, 2, 2, 1]
    assert pool(scorer="degree", reduce_red_op=None)(x, path(5)).x.squeeze(-1).tolist() == [20, 2000]
    assert pool(scorer="degree", remove_self_loops=False)(x, path(5)).a.tolist() == [[4, 1], [1, 2]]
    # Walks of at most 2 hops: 5, 8, 9, 8, 5.
    assert pool(scorer="degree", order_k=2)(x, path(5)).s.centres.tolist() == [1, 4]
    assert pool(scorer="constant", order_k=2)(x, path(5)).s.centres.tolist() == [0, 4]


def test_walks_are_counted_as_the_heuristic_says() -> None:
    a = sparse(path(5))
    pi = torch.tensor([3.0, 1.0, 4.0, 1.0, 5.0], dtype=F64)
    near = path(5) + torch.eye(5, dtype=F64)
    for k in (1, 2, 3):
        walks = torch.linalg.matrix_power(near, k)
        for heuristic, count in (("greedy", walks.sum(1)), ("w-greedy", walks @ pi), (None, torch.ones(5, dtype=F64))):
            h = pool(scorer="constant", order_k=k, score_heuristic=heuristic).priority(pi, neighbourhoods(a))
            torch.testing.assert_close(h, pi / count)


def test_a_node_of_score_zero_without_neighbours_is_a_member_and_finite() -> None:
    a = torch.block_diag(path(3), torch.zeros(1, 1, dtype=F64))
    out = pool(scorer="degree", score_heuristic="w-greedy")(torch.ones(4, 2, dtype=F64), a)
    assert 3 in out.s.centres.tolist()
    assert out.x[-1].tolist() == [0, 0]


def test_random_and_canonical_scores_do_not_depend_on_the_batch() -> None:
    blocks = [random_adjacency(n, seed=n) for n in (9, 14)]
    i = torch.repeat_interleave(torch.tensor([9, 14]))
    for scorer in ("random", "canonical"):
        scored = pool(scorer=scorer)
        both = scored(torch.ones(23, 1, dtype=F64), torch.block_diag(*blocks), i)
        alone = [scored(torch.ones(len(b), 1, dtype=F64), b) for b in blocks]
        assert torch.equal(both.score, torch.cat([o.score for o in alone]))
        assert torch.equal(both.s.centres[both.i == 1] - 9, alone[1].s.centres)
    assert pool(scorer="canonical")(torch.ones(3, 1, dtype=F64), path(3)).score.tolist() == [0, -1, -2]
    one, other = (pool(scorer="random", seed=s)(torch.ones(9, 1, dtype=F64), blocks[0]).score for s in (0, 1))
    assert ((one >= 0) & (one < 1)).all()
    assert not torch.equal(one, other)


def test_degree_is_what_comes_in() -> None:
    a = random_adjacency(12, seed=3, directed=True)
    torch.testing.assert_close(pool(scorer="degree")(torch.ones(12, 1, dtype=F64), sparse(a)).score, a.sum(1))


def test_the_gradient_of_the_linear_score() -> None:
    a, x = random_adjacency(10, seed=5, p=0.3), torch.randn(10, 3, dtype=F64)
    linear = pool(in_channels=3)
    out = linear(x, a)
    out.x.sum().backward()
    assert out.s.centres.numel() < 10
    pi = out.score.detach()
    want = ((pi * (1 - pi) * x.sum(1)).unsqueeze(-1) * x).sum(0)
    torch.testing.assert_close(linear.projection.weight.grad, want.unsqueeze(0))


def test_stored_zeros_and_self_loops_are_no_edges() -> None:
    index = torch.tensor([[0, 1, 1, 2, 0], [1, 0, 2, 1, 0]])
    weight = torch.tensor([1.0, 1.0, 0.0, 0.0, 1.0], dtype=F64)
    out = pool(scorer="constant")(torch.ones(3, 1, dtype=F64), index, edge_weight=weight)
    assert out.s.centres.tolist() == [0, 2]


def test_precomputable_without_parameters() -> None:
    assert not KMISPool().precomputable
    assert all(KMISPool(scorer=s).precomputable for s in ("degree", "random", "constant", "canonical"))
    a, x = sparse(random_adjacency(11, seed=2), path(4)), torch.randn(15, 2, dtype=F64)
    for args in ({}, {"reduce_red_op": None}):
        ready = pool(scorer="degree", **args)
        torch.testing.assert_close(ready(x, a, coarsening=ready.coarsen(a)).x, ready(x, a).x)


@pytest.mark.parametrize(
    "args",
    [
        {"order_k": 0},
        {"order_k": 1.5},
        {"scorer": "betweenness"},
        {"score_heuristic": "lazy"},
        {"reduce_red_op": "mean"},
        {"connect_red_op": "prod"},
    ],
)
def test_arguments_are_checked(args: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(args))):
        KMISPool(**args)
