"""ParsPool: clusters from the best edge of each node, and what becomes of their features and edges."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from poolbench.pool import ParsPool

F64 = torch.float64


def scored_by_product(**arguments: Any) -> ParsPool:
    """e_ij = sigmoid(x_i x_j), without networks of the sets."""
    pool = ParsPool(
        score_layers=1, set_layers=0, kernel_initializer="ones", in_channels=1, return_selection=True, **arguments
    )
    return pool.double()


def undirected(*pairs: tuple[int, int]) -> Tensor:
    return torch.tensor([*pairs, *[(v, u) for u, v in pairs]]).T


def by_hand(e: Tensor, edges: list[tuple[int, int]], n: int) -> list[int]:
    """The cluster of each node, numbered by lowest members: every node looks at its edges one by one."""
    label = list(range(n))
    for node in range(n):
        own = [k for k, edge in enumerate(edges) if node in edge]
        if own:
            best = max(own, key=lambda k: (float(e[k]), -k))
            u, v = (label[end] for end in edges[best])
            label = [min(u, v) if c in (u, v) else c for c in label]
    return label


def test_a_path_worked_out_by_hand() -> None:
    """Products 1, 2, -4, 2: 0, 1 and 2 meet at the edge 1-2, 3 and 4 at theirs; 5 is alone."""
    x = torch.tensor([[1.0], [1.0], [2.0], [-2.0], [-1.0], [7.0]], dtype=F64)
    out = scored_by_product()(x, undirected((0, 1), (1, 2), (2, 3), (3, 4)))
    assert out.s.of_node.tolist() == [0, 0, 0, 1, 1, 2]
    e = torch.tensor([1.0, 2.0, 2.0], dtype=F64).sigmoid()
    factor = torch.stack([2 * (e[0] + e[1]), 2 * e[2], torch.ones((), dtype=F64)])
    torch.testing.assert_close(out.x.squeeze(-1), factor * torch.tensor([4.0, -3.0, 7.0], dtype=F64))
    assert out.a.tolist() == [[1, 0], [0, 1]]
    assert out.edge_weight.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_the_clusters_are_those_of_a_loop_over_the_nodes(seed: int, constant: bool) -> None:
    """With constant features all scores tie, and the first edge of each node is its best one."""
    g = torch.Generator().manual_seed(seed)
    hit = torch.rand(40, 40, generator=g).triu(1) > 0.95
    x = torch.ones(40, 1, dtype=F64) if constant else torch.randn(40, 1, generator=g, dtype=F64)
    edges = [(int(u), int(v)) for u, v in hit.nonzero()]
    out = scored_by_product()(x, undirected(*edges))
    labels = by_hand(torch.stack([x[u] * x[v] for u, v in edges]), edges, 40)
    assert out.s.centres[out.s.of_node].tolist() == labels


def test_a_graph_halves_at_least() -> None:
    torch.manual_seed(0)
    n = 300
    ring = undirected(*[(u, (u + 1) % n) for u in range(n)])
    assert len(ParsPool(in_channels=4)(torch.randn(n, 4), ring).x) <= n // 2


def test_a_self_loop_that_wins_keeps_its_node_at_home() -> None:
    """Own products 9, 1 and 4, the edge's is -3: without self-loops its ends meet."""
    x, edges = torch.tensor([[3.0], [-1.0], [2.0]], dtype=F64), undirected((0, 1))
    assert scored_by_product()(x, edges).s.of_node.tolist() == [0, 0, 1]
    out = scored_by_product(self_loops=True)(x, edges)
    assert out.s.of_node.tolist() == [0, 1, 2]
    torch.testing.assert_close(out.x, torch.tensor([[9.0], [1.0], [4.0]], dtype=F64).sigmoid() * x)


def test_the_networks_of_the_sets() -> None:
    torch.manual_seed(0)
    pool = ParsPool(in_channels=4, return_selection=True).double()
    x, edges = torch.randn(6, 4, dtype=F64), undirected((0, 1), (1, 2), (3, 4))
    out = pool(x, edges)
    sums = out.s.dense().double().T @ pool.before(x)
    torch.testing.assert_close(out.x, out.s.factor.unsqueeze(-1) * pool.after(sums))
    torch.testing.assert_close(pool.lift(out.x, out.s), out.x[out.s.of_node])
    layer = torch.nn.functional.layer_norm
    first, second, third = pool.before.layers
    torch.testing.assert_close(pool.before(x), layer(x + third(second(first(x).relu()).relu()), (4,)))


def test_the_graph_is_read_as_undirected_and_pooled_as_it_is() -> None:
    torch.manual_seed(0)
    pool = ParsPool(in_channels=4, return_selection=True).double()
    pairs = [(u, (u + 1) % 30) for u in range(30)]
    x, weight = torch.randn(30, 4, dtype=F64), torch.rand(30, dtype=F64) + 0.5
    one, both = pool(x, torch.tensor(pairs).T, edge_weight=weight), pool(x, undirected(*pairs))
    torch.testing.assert_close(one.x, both.x)
    assert {*map(tuple, one.a.T.tolist())} < {*map(tuple, both.a.T.tolist())}
    heavy = ParsPool(in_channels=4, weighted=True, return_selection=True).double()
    heavy.load_state_dict(pool.state_dict())
    out = heavy(x, torch.tensor(pairs).T, edge_weight=weight)
    c = out.s.of_node[torch.tensor(pairs).T]
    torch.testing.assert_close(out.edge_weight.sum(), weight[c[0] != c[1]].sum())


def test_the_clusters_are_no_constant_for_the_scores() -> None:
    """The scores learn through the factor alone, those of edges between clusters do not."""
    pool = scored_by_product()
    x = torch.tensor([[1.0], [2.0], [-1.0], [-3.0]], dtype=F64, requires_grad=True)
    out = pool(x, undirected((0, 1), (1, 2), (2, 3)))
    (grad,) = torch.autograd.grad(out.x.sum(), pool.edge_network.last.weight)
    e = torch.tensor([2.0, 3.0], dtype=F64).sigmoid()
    wanted = (2 * e * (1 - e) * torch.tensor([2.0, 3.0], dtype=F64) * torch.tensor([3.0, -4.0], dtype=F64)).sum()
    torch.testing.assert_close(grad.squeeze(), wanted)


@pytest.mark.parametrize("wrong", [{"score_layers": 0}, {"set_layers": -1}, {"dropout": 1.0}, {"ratio": 0.5}])
def test_arguments_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError), match=next(iter(wrong))):
        ParsPool(**wrong)
