"""EdgePool: by hand, against a sequential contraction, its arguments and its edge cases."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from poolbench.pool import EdgePool

F64 = torch.float64


def edgepool(**changes: Any) -> EdgePool:
    torch.manual_seed(0)
    args = {"in_channels": 3, "return_selection": True, "bias_initializer": "random_normal"}
    return EdgePool(**(args | changes)).double()


def random_graph(n: int, seed: int, directed: bool = False) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    a = (torch.rand(n, n, generator=g) < 0.3) * (torch.rand(n, n, generator=g, dtype=F64) + 0.5)
    a = a.triu() + (a.tril(-1) if directed else a.triu(1).T)
    return torch.randn(n, 3, generator=g, dtype=F64), a


def contracted(pool: EdgePool, x: Tensor, a: Tensor) -> tuple[list[list[int]], list[Tensor]]:
    """Clusters in the order of their first nodes and their scores, one edge after the other."""
    w, b = pool.projection.weight.squeeze(0), pool.projection.bias
    edges = a.nonzero().tolist()  # (target, source)
    r = torch.stack([torch.cat([x[j], x[i]]) @ w for i, j in edges]) + b
    if pool.edge_score_method == "softmax":
        target = torch.tensor([i for i, _ in edges])
        e = torch.stack([r[k].exp() / r[target == edges[k][0]].exp().sum() for k in range(len(edges))])
    else:
        e = torch.tanh(r) if pool.edge_score_method == "tanh" else torch.sigmoid(r)
    e = e + pool.add_to_edge_score
    score: dict[int, Tensor] = {}
    clusters: list[list[int]] = []
    for k in torch.argsort(e.squeeze(-1), descending=True, stable=True).tolist():
        pair = sorted(set(edges[k]))
        if not any(u in c for c in clusters for u in pair):
            clusters.append(pair)
            score[pair[0]] = e[k].reshape(())
    alone = [[u] for u in range(len(x)) if not any(u in c for c in clusters)]
    clusters = sorted(clusters + alone)
    return clusters, [score.get(c[0], torch.ones((), dtype=F64)) for c in clusters]


@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize("method", ["softmax", "tanh", "sigmoid"])
def test_it_is_the_sequential_contraction(method: str, directed: bool) -> None:
    for seed in range(4):
        x, a = random_graph(12, seed, directed)
        pool = edgepool(edge_score_method=method, add_to_edge_score=0.2)
        clusters, score = contracted(pool, x, a)
        s = torch.zeros(12, len(clusters), dtype=F64)
        for k, c in enumerate(clusters):
            s[c, k] = score[k]
        out = pool(x, a)
        torch.testing.assert_close(out.s.dense(), s)
        torch.testing.assert_close(out.x, s.T @ x)
        member = (s != 0).to(F64)
        pooled = member.T @ a @ member
        torch.testing.assert_close(out.a, pooled - torch.diag(pooled.diagonal()))
        whole = edgepool(edge_score_method=method, add_to_edge_score=0.2, remove_self_loops=False)(x, a)
        torch.testing.assert_close(whole.a, pooled)


def test_a_path_by_hand() -> None:
    # r = x_source: into 0 there is one edge, 1 -> 0, of softmax 1; into 1 come r = 0 and 2, into 2 r = 1 and 3, into 3
    # one edge again. Both edges of score 1.5 are taken: {0, 1} and {2, 3}.
    pool = EdgePool(in_channels=1, kernel_initializer="zeros", return_selection=True).double()
    with torch.no_grad():
        pool.projection.weight[0, 0] = 1.0
    x = torch.tensor([[0.0], [1.0], [2.0], [3.0]], dtype=F64)
    index = torch.tensor([[0, 1, 1, 2, 2, 3], [1, 0, 2, 1, 3, 2]])
    out = pool(x, index, edge_weight=torch.tensor([5.0, 5.0, 0.3, 0.3, 7.0, 7.0], dtype=F64))
    assert out.s.cluster.tolist() == [0, 0, 1, 1]
    torch.testing.assert_close(out.x, torch.tensor([[1.5], [7.5]], dtype=F64))
    assert out.a.tolist() == [[1, 0], [0, 1]]
    torch.testing.assert_close(out.edge_weight, torch.tensor([0.3, 0.3], dtype=F64))
    # tanh ranks by the source alone: 3 -> 2 has tanh 3, then 1 -> 0.
    tanh = EdgePool("tanh", add_to_edge_score=0.0, in_channels=1, kernel_initializer="ones").double()
    with torch.no_grad():
        tanh.projection.weight[0, 1] = 0.0
    want = torch.tensor([1.0, 5.0], dtype=F64) * torch.tensor([1.0, 3.0], dtype=F64).tanh()
    torch.testing.assert_close(tanh(x, index).x.squeeze(-1), want)


def test_ties_go_to_the_first_edge_in_every_batch() -> None:
    """Equal features on a cycle: all scores tie, and 0 - 1, 2 - 3 are contracted, 4 stays."""
    ring = torch.arange(5)
    index = torch.stack([torch.cat([ring, (ring + 1) % 5]), torch.cat([(ring + 1) % 5, ring])])
    x, pool = torch.ones(5, 3, dtype=F64), edgepool()
    assert pool(x, index).s.cluster.tolist() == [0, 0, 1, 1, 2]
    turned = index[:, torch.randperm(10, generator=torch.Generator().manual_seed(0))]
    assert pool(x, turned).s.cluster.tolist() == [0, 0, 1, 1, 2]
    two = pool(torch.cat([x, x]), torch.cat([index, index + 5], 1), torch.tensor([0] * 5 + [1] * 5))
    assert two.s.cluster.tolist() == [0, 0, 1, 1, 2, 3, 3, 4, 4, 5]
    assert two.i.tolist() == [0, 0, 0, 1, 1, 1]


def test_weights_have_no_say_in_the_scores() -> None:
    x, a = random_graph(12, 0)
    one, other = edgepool()(x, a), edgepool()(x, 3.0 * a)
    assert torch.equal(one.x, other.x)
    torch.testing.assert_close(other.a, 3.0 * one.a)


def test_a_graph_without_edges_is_returned_as_it_is() -> None:
    x = torch.randn(4, 3, dtype=F64)
    zeros = torch.zeros(2, dtype=F64)
    for a, weight in ((torch.zeros(4, 4, dtype=F64), None), (torch.tensor([[0, 1], [1, 0]]), zeros)):
        out = edgepool()(x, a, edge_weight=weight)
        assert torch.equal(out.x, x)
        assert out.s.weight.tolist() == [1.0] * 4
        assert not (out.a if weight is None else out.edge_weight).any()


def test_a_self_loop_may_be_taken() -> None:
    x = torch.tensor([[1.0], [2.0]], dtype=F64)
    pool = EdgePool("sigmoid", in_channels=1, kernel_initializer="ones", return_selection=True).double()
    out = pool(x, torch.tensor([[0, 1, 1], [1, 0, 1]]))  # r = 3, 3 and 4
    assert out.s.cluster.tolist() == [0, 1]
    torch.testing.assert_close(out.s.weight, torch.tensor([1.0, torch.tensor(4.0).sigmoid() + 0.5], dtype=F64))


@pytest.mark.parametrize(("how", "want"), [("sum", 3.0), ("mean", 1.0), ("max", 6.0), ("min", -4.0)])
def test_parallel_edges(how: str, want: float) -> None:
    """Clusters {0, 1} and {2, 3} with three edges of weight 1, -4 and 6 from the first into the second."""
    pool = edgepool(edge_score_method="tanh", in_channels=1, connect_red_op=how)
    with torch.no_grad():
        pool.projection.weight.copy_(torch.tensor([[1.0, 0.0]]))
    x = torch.tensor([[0.0], [9.0], [0.0], [9.0]], dtype=F64)
    index = torch.tensor([[1, 3, 0, 1, 0], [0, 2, 2, 2, 3]])
    out = pool(x, index, edge_weight=torch.tensor([1.0, 1.0, 1.0, -4.0, 6.0], dtype=F64))
    assert out.s.cluster.tolist() == [0, 0, 1, 1]
    assert out.a.tolist() == [[0], [1]]
    assert out.edge_weight.tolist() == [want]
    if how == "sum":  # edges that cancel are none
        cancelled = pool(x, index, edge_weight=torch.tensor([1.0, 1.0, 1.0, -4.0, 3.0], dtype=F64))
        assert cancelled.a.shape == (2, 0)


def test_dropout_in_training_alone() -> None:
    x, a = random_graph(20, 0)
    pool = edgepool(dropout=0.5, edge_score_method="sigmoid")
    torch.testing.assert_close(pool.eval()(x, a).x, edgepool(edge_score_method="sigmoid")(x, a).x)
    pool.train()
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        out = pool(x, a)
        drawn.append(pool.lift(out.x, out.s))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_lift_divides_by_the_scores_or_multiplies() -> None:
    x, a = random_graph(10, 1)
    pool = edgepool()
    out = pool(x, a)
    s = out.s.dense()
    size, score = (s != 0).sum(0), s.amax(0)
    cluster = s.argmax(1)
    torch.testing.assert_close(pool.lift(out.x, out.s), (out.x * score.unsqueeze(-1))[cluster])
    torch.testing.assert_close(pool.lift(out.x, out.s, inverse=True), (out.x / (size * score).unsqueeze(-1))[cluster])


@pytest.mark.parametrize(
    "changes", [{"edge_score_method": "relu"}, {"connect_red_op": "prod"}, {"dropout": 1.0}, {"dropout": -0.5}]
)
def test_arguments_out_of_range(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(changes))):
        edgepool(**changes)
