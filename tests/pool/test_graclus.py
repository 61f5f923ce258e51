"""GraclusPool and its control on the complement: valid maximal matchings, the sequential method, small values."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from poolbench.linalg import Ragged, Sparse
from poolbench.pool import GraclusPool
from poolbench.pool.base.draws import node_draws
from poolbench.pool.base.partition import neighbourhoods
from poolbench.pool.graclus import complement_matching, heavy_matching

F64 = torch.float64


def random_adjacency(n: int, seed: int, p: float, weighted: bool = True) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    hit = (torch.rand(n, n, generator=g) < p).to(F64)
    a = hit * (torch.rand(n, n, generator=g, dtype=F64) + 0.5) if weighted else hit
    return a.triu(1) + a.triu(1).T


def sparse(*blocks: Tensor) -> Sparse:
    a = torch.block_diag(*blocks)
    row, col = a.nonzero(as_tuple=True)
    sizes = [len(b) for b in blocks]
    return Sparse.from_edges(row, col, a[row, col], Ragged(torch.tensor([0, *sizes]).cumsum(0), sizes))


def mates(out: Any, n: int) -> Tensor:
    """The partner of each node, itself where it has none."""
    same = out.s.dense() @ out.s.dense().T > 0
    assert (same.sum(1) <= 2).all()
    return torch.where(same.sum(1) == 2, (same & ~torch.eye(n, dtype=torch.bool)).to(F64).argmax(1), torch.arange(n))


def is_maximal(mate: Tensor, allowed: Tensor) -> bool:
    """Whether the pairs are allowed, mutual, and no two nodes that are may be added."""
    n = len(mate)
    alone = mate == torch.arange(n)
    mutual = torch.equal(mate[mate], torch.arange(n))
    return mutual and bool(allowed[torch.arange(n), mate][~alone].all()) and not allowed[alone][:, alone].any()


BLOCKS = [random_adjacency(n, seed=n, p=p) for n, p in ((25, 0.2), (1, 0.0), (12, 0.5), (40, 0.05), (7, 0.0), (9, 1.1))]
SIZES = [len(b) for b in BLOCKS]
INDEX = torch.repeat_interleave(torch.tensor(SIZES))


@pytest.mark.parametrize("complement", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_pairs_are_a_maximal_matching(complement: bool, weighted: bool, seed: int) -> None:
    a = torch.block_diag(*BLOCKS)
    a = a if weighted else (a != 0).to(F64)
    out = GraclusPool(complement, seed=seed, return_selection=True)(torch.randn(len(a), 2, dtype=F64), a, INDEX)
    linked, one_graph = a != 0, INDEX[:, None] == INDEX[None]
    allowed = one_graph & ~linked & ~torch.eye(len(a), dtype=torch.bool) if complement else linked
    assert is_maximal(mates(out, len(a)), allowed)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_the_matching_is_one_that_the_sequential_method_finds(weighted: bool, seed: int) -> None:
    """Ends of matched edges are visited by falling weight; each takes its free neighbour of largest weight."""
    a = random_adjacency(30, seed, p=0.2, weighted=weighted)
    if weighted:
        a = (4 * a).round()  # with ties
    mate = heavy_matching(sparse(a), node_draws(sparse(a), seed))
    weight = a[torch.arange(30), mate]
    free = torch.ones(30, dtype=torch.bool)
    for node in torch.argsort(weight, descending=True, stable=True).tolist():
        if free[node] and mate[node] != node:
            assert a[node, mate[node]] == (a[node] * free).max() > 0
            free[node] = free[mate[node]] = False
    for node in free.nonzero().squeeze(-1).tolist():
        assert not (a[node] * free).any()


def test_a_path_by_hand() -> None:
    # Weights 1, 3, 2 along 0 - 1 - 2 - 3: the heaviest edge leaves both ends alone.
    index = torch.tensor([[0, 1, 1, 2, 2, 3], [1, 0, 2, 1, 3, 2]])
    weight = torch.tensor([1.0, 1, 3, 3, 2, 2])
    x = torch.tensor([[1.0], [10.0], [100.0], [1000.0]])
    out = GraclusPool(return_selection=True)(x, index, edge_weight=weight)
    assert out.x.squeeze(-1).tolist() == [1, 110, 1000]
    assert out.a.tolist() == [[1, 0, 2, 1], [0, 1, 1, 2]]
    assert out.edge_weight.tolist() == [1, 1, 2, 2]
    assert GraclusPool(return_selection=True).lift(out.x, out.s).squeeze(-1).tolist() == [1, 110, 110, 1000]
    # Not adjacent: {0, 2}, {0, 3}, {1, 3}. Maximal: {0, 2} with {1, 3}, or {0, 3} alone.
    out = GraclusPool(complement=True)(x, index, edge_weight=weight)
    assert out.x.squeeze(-1).tolist() in ([101, 1010], [1001, 10, 100])


def test_both_maximal_answers_are_drawn() -> None:
    path = torch.diag(torch.ones(2, dtype=F64), 1) + torch.diag(torch.ones(2, dtype=F64), -1)
    x = torch.tensor([[1.0], [10.0], [100.0]], dtype=F64)
    found = [tuple(GraclusPool(seed=s)(x, path).x.squeeze(-1).tolist()) for s in range(40)]
    assert set(found) == {(11, 100), (1, 110)}
    assert 8 < found.count((11, 100)) < 32
    apart = {
        tuple(GraclusPool(True, seed=s)(x, torch.zeros(3, 3, dtype=F64)).x.squeeze(-1).tolist()) for s in range(40)
    }
    assert apart == {(11, 100), (101, 10), (1, 110)}


@pytest.mark.parametrize("complement", [False, True])
def test_a_graph_is_pooled_alike_alone_and_in_any_batch(complement: bool) -> None:
    pool = GraclusPool(complement, return_selection=True)
    blocks = [(b != 0).to(F64) for b in BLOCKS]
    together = mates(pool(torch.ones(len(INDEX), 1, dtype=F64), torch.block_diag(*blocks), INDEX), len(INDEX))
    start = 0
    for b in blocks:
        alone = mates(pool(torch.ones(len(b), 1, dtype=F64), b), len(b))
        assert torch.equal(together[start : start + len(b)] - start, alone)
        start += len(b)


def test_the_complement_takes_no_more_than_the_edges() -> None:
    """5000 nodes of degree 2: the complement has 12 million pairs, of which none may be listed."""
    n = 5000
    each = torch.arange(n)
    row, col = torch.cat([each, (each + 1) % n]), torch.cat([(each + 1) % n, each])
    a = Sparse.from_edges(row, col, None, Ragged.single(n))
    pattern, draws = neighbourhoods(a), node_draws(a, 0)
    with _LargestTensor() as largest:
        mate = complement_matching(pattern, draws)
    assert largest.numel <= 4 * n
    assert (mate != each).all()
    assert ((mate - each).abs() % (n - 1) > 1).all()


class _LargestTensor(torch.utils._python_dispatch.TorchDispatchMode):
    """Notes the size of the largest tensor that is made."""

    numel = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for v in out if isinstance(out, tuple | list) else (out,):
            if isinstance(v, Tensor):
                self.numel = max(self.numel, v.numel())
        return out


def test_the_order_of_the_nodes_does_not_show_where_degrees_differ() -> None:
    a = random_adjacency(15, seed=4, p=0.4)
    order = torch.randperm(15, generator=torch.Generator().manual_seed(0))
    for complement in (False, True):
        pool = GraclusPool(complement, return_selection=True)
        one = mates(pool(torch.ones(15, 1, dtype=F64), a), 15)
        other = mates(pool(torch.ones(15, 1, dtype=F64), a[order][:, order]), 15)
        assert torch.equal(order[other], one[order])


def test_two_levels_precomputed() -> None:
    pool, a = GraclusPool(), sparse(*BLOCKS)
    assert GraclusPool.precomputable
    x = torch.randn(len(INDEX), 3, dtype=F64)
    first = pool.coarsen(a)
    second = pool.coarsen(first.a)
    on_the_fly = pool(pool(x, a).x, pool(x, a).a)
    ready = pool(pool(x, a, coarsening=first).x, first.a, coarsening=second)
    assert torch.equal(ready.x, on_the_fly.x)
    assert torch.equal(ready.a.to_dense(), on_the_fly.a.to_dense())


def test_stored_zeros_loops_and_one_direction() -> None:
    index = torch.tensor([[0, 0, 1, 2], [0, 1, 2, 3]])
    weight = torch.tensor([9.0, 1.0, 0.0, 2.0])
    out = GraclusPool()(torch.tensor([[1.0], [10.0], [100.0], [1000.0]]), index, edge_weight=weight)
    assert out.x.squeeze(-1).tolist() == [11, 1100]
    assert out.a.numel() == 0
