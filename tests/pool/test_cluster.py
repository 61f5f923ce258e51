"""ClusterPool: by hand, against PyTorch Geometric, its arguments and its edge cases."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch_geometric.nn import ClusterPooling

from poolbench.pool import ClusterPool
from poolbench.pool.cluster import components

F64 = torch.float64


def pool(**changes: Any) -> ClusterPool:
    torch.manual_seed(0)
    return ClusterPool(**({"in_channels": 3, "return_selection": True} | changes)).double()


def by_source(**changes: Any) -> ClusterPool:
    """Of one feature, and e = tanh(x_source)."""
    made = pool(in_channels=1, bias_initializer="zeros", kernel_initializer="ones", **changes)
    with torch.no_grad():
        made.projection.weight[0, 1] = 0.0
    return made


def random_graphs(*sizes: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """x, a directed edge_index with a self-loop, and batch."""
    g = torch.Generator().manual_seed(seed)
    parts = [(torch.rand(n, n, generator=g) < 0.15) | (torch.arange(n) == 0).diag() for n in sizes]
    index = torch.block_diag(*parts).nonzero().T
    x = torch.randn(sum(sizes), 3, generator=g, dtype=F64)
    return x, index, torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))


# 0 - 1 - 2   3 - 4   5: the edges that leave 0, 1 and 3 score above 0, those that leave 2 and 4 do not
PATHS = torch.tensor([[0, 1, 1, 2, 3, 4, 2, 4], [1, 0, 2, 1, 4, 3, 4, 2]])
X = torch.tensor([[1.0], [2.0], [-1.0], [3.0], [-2.0], [5.0]], dtype=F64)


def test_two_paths_by_hand() -> None:
    # contracted: 0 -> 1, 1 -> 0, 1 -> 2, 3 -> 4; left over: 2 -> 1, 4 -> 3, 2 <-> 4 between the two clusters
    out = by_source()(X, PATHS)
    assert out.s.cluster.tolist() == [0, 0, 0, 1, 1, 2]
    e = X.tanh() * X  # what a node says to each neighbour
    heard = [e[1], e[0] + e[2], e[1] + e[4], e[4], e[3] + e[2]]  # by 0 to 4
    want = torch.stack([sum(heard[:3]), sum(heard[3:]), X[5]])
    torch.testing.assert_close(out.x, want)
    assert out.edge_index.tolist() == [[1, 0], [0, 1]]
    assert out.edge_weight.tolist() == [1.0, 1.0]
    lifted = by_source().lift(out.x, out.s)
    assert torch.equal(lifted, out.x[[0, 0, 0, 1, 1, 2]])


def test_direction_is_ignored_by_clusters_and_kept_by_edges() -> None:
    out = by_source()(X[:4], torch.tensor([[1, 3, 2], [0, 2, 0]]))  # 1 -> 0 and 3 -> 2 are contracted
    assert out.s.cluster.tolist() == [0, 0, 1, 1]
    assert out.edge_index.tolist() == [[1], [0]]
    e = X.tanh() * X
    torch.testing.assert_close(out.x, torch.stack([e[1] + e[2], e[3]]))  # 1 and 3 are touched, and hear nothing


def test_weights_and_parallel_edges_have_no_say() -> None:
    plain = by_source()(X, PATHS)
    twice = by_source()(X, torch.cat([PATHS, PATHS], 1), edge_weight=torch.rand(16, dtype=F64) + 0.5)
    assert torch.equal(plain.x, twice.x)
    assert torch.equal(plain.edge_weight.double(), twice.edge_weight)
    zero = torch.ones(8, dtype=F64)
    zero[-2:] = 0.0  # no edge between the clusters
    assert not by_source()(X, PATHS, edge_weight=zero).edge_weight.numel()


@pytest.mark.parametrize(("how", "want"), [("sum", 5.0), ("mean", 2.5), ("max", 4.0), ("min", 1.0)])
def test_weights_between_clusters_where_they_are_asked_for(how: str, want: float) -> None:
    index = torch.tensor([[0, 2, 3, 2], [1, 3, 0, 1]])
    weight = torch.tensor([1.0, 2.0, 4.0, 1.0], dtype=F64)  # 0 -> 1, 2 -> 3 are contracted, 3 -> 0 and 2 -> 1 are not
    x = torch.tensor([[1.0], [0.0], [1.0], [-1.0]], dtype=F64)
    made = by_source(connect_red_op=how, threshold=0.5)
    made.score = lambda x, edges: (edges.weights == 1.0) * (edges.col == 0) * 1.0 + (edges.weights == 2.0) * 1.0  # type: ignore[method-assign]
    out = made(x, index, edge_weight=weight)
    assert out.edge_index.tolist() == [[1], [0]]
    assert out.edge_weight.tolist() == [want]


@pytest.mark.parametrize("method", ["tanh", "sigmoid", "log_softmax"])
@pytest.mark.parametrize("threshold", [None, -2.5])
def test_it_is_pytorch_geometric_s(method: str, threshold: float | None) -> None:
    x, index, batch = random_graphs(9, 1, 12, 4)
    x = x.float()  # theirs knows no other type
    ours = pool(edge_score_method=method, threshold=threshold, scope="batch").float()
    theirs = ClusterPooling(3, method, threshold=threshold)
    with torch.no_grad():
        theirs.lin.weight.copy_(ours.projection.weight)
        theirs.lin.bias.copy_(ours.projection.bias)
    want, edges, graph, _ = theirs(x, index, batch)
    out = ours(x, index, batch)
    torch.testing.assert_close(out.x, want)
    assert sorted(out.edge_index.T.tolist()) == sorted(edges.T.tolist())
    assert torch.equal(out.batch, graph)


def test_a_softmax_runs_over_one_graph() -> None:
    """So that a graph gets the same answer alone; PyTorch Geometric's scope gives it another one."""
    x, index, batch = random_graphs(9, 12)
    own = index[:, index[0] < 9]
    for scope, same in (("graph", True), ("batch", False)):
        made = pool(edge_score_method="log_softmax", threshold=-2.5, scope=scope)
        together, alone = made(x, index, batch), made(x[:9], own)
        first = together.x[together.batch == 0]
        assert (first.shape == alone.x.shape and torch.allclose(first, alone.x)) == same
    e = pool(edge_score_method="log_softmax", threshold=0.0)(x, index, batch).s.heard
    total = torch.zeros(2, dtype=F64).index_add(0, batch[e.row], e.weights.exp())
    torch.testing.assert_close(total, torch.ones(2, dtype=F64))


def test_a_log_softmax_contracts_nothing_by_its_own_threshold() -> None:
    x, index, batch = random_graphs(9, 12)
    out = pool(edge_score_method="log_softmax")(x, index, batch)
    assert out.sizes.tolist() == [9, 12]
    single = pool(edge_score_method="log_softmax")(x[:2], torch.tensor([[0], [1]]))  # its one edge scores log 1 = 0
    assert single.sizes.tolist() == [2]


def test_a_graph_without_edges_is_returned_as_it_is() -> None:
    x = torch.randn(4, 3, dtype=F64)
    loops = torch.arange(4).repeat(2, 1)
    for index in (torch.zeros(2, 0, dtype=torch.int64), loops):
        out = pool(edge_score_method="log_softmax")(x, index)
        assert torch.equal(out.x, x)
        assert out.edge_index.shape == (2, 0)


def test_components_are_numbered_by_their_first_nodes() -> None:
    g = torch.Generator().manual_seed(0)
    for _ in range(20):
        a = torch.rand(12, 12, generator=g) < 0.05
        reach = torch.linalg.matrix_power((a | a.T).double() + torch.eye(12), 12) > 0
        first = reach.int().argmax(1)  # the first node of each node's component
        number = torch.searchsorted(first.unique(), first)
        row, col = a.nonzero().T
        found, count = components(torch.searchsorted(row, torch.arange(13)), col)
        assert found.tolist() == number.tolist() and count == len(first.unique())


def test_dropout_is_of_the_raw_scores_and_in_training_alone() -> None:
    x, index, batch = random_graphs(9, 12)
    made = pool(dropout=0.5)
    scores = made(x, index, batch).s.heard.weights
    assert 0.2 < (scores == 0).double().mean() < 0.8
    assert torch.equal(made.eval()(x, index, batch).x, pool()(x, index, batch).x)


def test_weights_start_as_those_of_torch_s_linear_layers() -> None:
    torch.manual_seed(0)
    weights = [w for _ in range(200) for w in ClusterPool(in_channels=8).projection.parameters()]
    every = torch.cat([w.detach().reshape(-1) for w in weights])
    assert 0.24 < every.abs().max() <= 0.25 and every.mean().abs() < 0.01
    assert min(w.abs().item() for w in weights[1::2]) < 0.05  # the biases too


@pytest.mark.parametrize(
    "arguments",
    [
        {"edge_score_method": "softmax"},
        {"threshold": "half"},
        {"dropout": 1.0},
        {"scope": "graphs"},
        {"connect_red_op": "median"},
    ],
    ids=str,
)
def test_arguments_out_of_range_are_one_line(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=rf"^{next(iter(arguments))}=[^\n]*$"):
        ClusterPool(**arguments)
