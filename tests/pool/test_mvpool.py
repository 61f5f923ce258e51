"""MVPool: its score against the formula on dense matrices, what it connects, arguments and edge cases."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from poolbench.pool import HGPSLPool, MVPool
from poolbench.pool.base.src import SparseSelection

F64 = torch.float64


def pool(**changes: Any) -> MVPool:
    torch.manual_seed(0)
    made = MVPool(**({"in_channels": 3, "return_selection": True} | changes)).double()
    with torch.no_grad():  # no weight is special
        for p in made.parameters():
            p.add_(0.3 * torch.randn_like(p))
    return made


def random_graph(n: int, seed: int = 0, density: float = 0.2) -> tuple[Tensor, Tensor]:
    """x and a directed, weighted A with self-loops; A[i, j] is the weight of the edge i -> j."""
    g = torch.Generator().manual_seed(seed)
    a = (torch.rand(n, n, generator=g) < density) * (torch.rand(n, n, generator=g, dtype=F64) + 0.5)
    return torch.randn(n, 3, generator=g, dtype=F64), a


def call(made: MVPool | HGPSLPool, x: Tensor, a: Tensor, **how: Any) -> Any:
    """A dense matrix of ours is read by rows as receivers."""
    return made(x, a.T.contiguous(), **how)


def views(made: MVPool, x: Tensor, a: Tensor) -> Tensor:
    """The three views by their formulas: [n, 3]."""
    degree = (a != 0).sum(1).to(F64)
    w = made.direction.weight.squeeze(0)
    root = torch.where(a.sum(1) > 0, a.sum(1), torch.inf).rsqrt()
    t = (root.unsqueeze(1) * a * root).T
    z = t @ (x @ made.teleport.weight.squeeze(0)) + made.restart
    p = z
    for _ in range(10):
        p = 0.9 * t @ p + 0.1 * z
    own = made.alpha * torch.log(degree + 1e-16) + made.beta
    return torch.stack([own, x @ w / w.norm(), p], 1).sigmoid()


def fused(made: MVPool, q: Tensor) -> Tensor:
    weight = torch.softmax((q @ made.views.weight.T + made.views.bias).sigmoid(), 1)
    return (q * weight).sum(1).sigmoid()


def test_the_score_is_that_of_the_formula() -> None:
    for seed in range(3):
        x, a = random_graph(12, seed)
        made = pool()
        q = views(made, x, a)
        y = fused(made, q / q.amax(0))
        out = call(made, x, a)
        torch.testing.assert_close(out.score, y)
        torch.testing.assert_close(out.x, (x * y.unsqueeze(1))[out.s.kept])
        assert out.s.kept.tolist() == y.argsort(descending=True)[:6].sort().values.tolist()


def test_views_are_compared_in_a_graph_or_in_the_batch() -> None:
    graphs = [random_graph(8, 0), random_graph(11, 1)]
    x, a = torch.cat([x for x, _ in graphs]), torch.block_diag(*[a for _, a in graphs])
    i = torch.tensor([0] * 8 + [1] * 11)
    alone = torch.cat([call(pool(), *graph).score for graph in graphs])
    torch.testing.assert_close(call(pool(), x, a, i=i).score, alone)
    made = pool(scope="batch")
    q = torch.cat([views(made, *graph) for graph in graphs])
    torch.testing.assert_close(call(made, x, a, i=i).score, fused(made, q / q.amax(0)))


def test_edges_are_learned_from_the_gated_features() -> None:
    """As HGPSLPool learns them from features that are those already."""
    x, a = random_graph(12)
    made = pool(lamb=0.7)
    out = call(made, x, a)
    other = HGPSLPool(lamb=0.7, in_channels=3).double()
    assert made.attention is not None and other.attention is not None
    other.attention.weight = made.attention.weight
    gated = x * out.score.unsqueeze(1)
    want = call(other, gated, a, s=SparseSelection.keep(out.s.kept, None, out.s.nodes))
    torch.testing.assert_close(out.a, want.a)


def test_without_structure_learning_it_is_the_induced_subgraph() -> None:
    x, a = random_graph(9)
    made = pool(structure_learning=False)
    out = call(made, x, a)
    assert made.attention is None
    assert torch.equal(out.a.T, a[out.s.kept][:, out.s.kept])
    assert made.pooled_edges == "kept"


@pytest.mark.parametrize("hops", [1, 2, 4])
def test_hop_connection_joins_nodes_that_were_near(hops: int) -> None:
    x, a = random_graph(12, density=0.1)
    made = pool(hop_connection=True, hops=hops)
    out = call(made, x, a)
    kept = out.s.kept
    near = (torch.linalg.matrix_power((a != 0).double() + torch.eye(12), hops) > 0)[kept][:, kept]
    induced = a[kept][:, kept]
    want = torch.where(induced != 0, induced, near.to(F64)).fill_diagonal_(0.0)
    assert torch.equal(out.a.T, want)
    assert made.attention is None and made.pooled_edges == ""
    undirected = call(made, x, a + a.T)
    assert torch.equal(undirected.a, undirected.a.T)


def test_derivatives_of_weights_flow_where_hops_join() -> None:
    x, a = random_graph(7, density=0.3)
    index = a.nonzero().T
    made = pool(hop_connection=True, hops=2)
    weight = a[tuple(index)].requires_grad_()
    assert gradcheck(lambda x, w: made(x, index, edge_weight=w)[0], (x.requires_grad_(), weight))
    assert gradcheck(lambda w: made(x.detach(), index, edge_weight=w).edge_weight, (weight,))


def test_a_node_without_edges_is_seen_by_its_features_alone() -> None:
    made = pool()
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=F64)
    out = call(made, x, torch.zeros(4, 4, dtype=F64))
    q = views(made, x, torch.zeros(4, 4, dtype=F64))
    assert q[:, 0].max() < 1e-6
    torch.testing.assert_close(out.score, fused(made, q / q.amax(0)))
    assert out.score.min() >= 0.5 and out.score.max() <= 1 / (1 + math.exp(-1.0))


@pytest.mark.parametrize("arguments", [{"scope": "all"}, {"hops": 1.5}, {"hop_connection": "yes"}], ids=str)
def test_arguments_out_of_range_are_one_line(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=rf"^{next(iter(arguments))}=[^\n]*$"):
        MVPool(**arguments)
