"""GivenClustersPool against PyG's avg_pool and max_pool, `reduce` of the partitions against PyG's aggregations."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch_geometric.data import Batch, Data
from torch_geometric.nn import aggr, avg_pool, max_pool

from poolbench.linalg import Ragged, Sparse
from poolbench.pool import EdgePool, GivenClustersPool, GraclusPool, KMISPool

F64 = torch.float64
SIZES = (6, 4)
OF = torch.arange(2).repeat_interleave(torch.tensor(SIZES))
LABELS = torch.tensor([40, 7, 7, -3, 40, 7, 7, 9, 9, 9])  # 7 stands in both graphs


def graph() -> tuple[Tensor, Tensor, Tensor]:
    """x, edge_index and edge_weight of two undirected graphs."""
    g = torch.Generator().manual_seed(4)
    hit = (torch.rand(10, 10, generator=g) < 0.6) & (OF[:, None] == OF) & ~torch.eye(10).bool()
    index = (hit | hit.T).nonzero().T
    weight = torch.rand(10, 10, generator=g, dtype=F64) + 0.5
    return torch.randn(10, 3, generator=g, dtype=F64), index, (weight + weight.T)[tuple(index)]


def close(ours: Any, theirs: Any) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("reduce", "theirs"), [("mean", avg_pool), ("max", max_pool)])
def test_it_is_pygs_pooling_by_clusters(reduce: str, theirs: Any) -> None:
    x, index, weight = graph()
    edges = [OF[index[0]].eq(g) for g in range(2)]
    parts = [
        Data(x=x[OF.eq(g)], edge_index=index[:, own] - 6 * g, edge_attr=weight[own]) for g, own in enumerate(edges)
    ]
    for part in parts:
        part.num_nodes = len(part.x)
    whole = Batch.from_data_list(parts)
    distinct = torch.unique(100 * OF + LABELS, return_inverse=True)[1]  # PyG's labels are of the whole batch
    wanted = theirs(distinct, whole)
    out = GivenClustersPool(reduce=reduce)(x, index, OF, edge_weight=weight, cluster=LABELS)
    close(out.x, wanted.x)
    assert torch.equal(out.i, wanted.batch)
    close(_dense(out.a, out.edge_weight), _dense(wanted.edge_index, wanted.edge_attr))


def _dense(index: Tensor, weight: Tensor) -> Tensor:
    return torch.zeros(5, 5, dtype=F64).index_put(tuple(index), weight, accumulate=True)


def test_clusters_stand_by_label_graph_by_graph_and_lift_brings_them_back() -> None:
    x, index, _ = graph()
    pool = GivenClustersPool(return_selection=True)
    out = pool(x, index, OF, cluster=LABELS)
    assert out.s.of_node.tolist() == [2, 1, 1, 0, 2, 1, 3, 4, 4, 4]
    assert out.sizes.tolist() == [3, 2]
    close(out.x[2], x[0] + x[4])
    close(pool.lift(out.x, out.s), out.x[out.s.of_node])
    close(pool.lift(out.x, out.s, inverse=True)[0], out.x[2] / 2)
    batch = pool(x[:6].reshape(2, 3, 3), torch.ones(2, 3, 3, dtype=F64), cluster=torch.tensor([[0, 1, 1], [5, 5, 5]]))
    assert batch.sizes.tolist() == [2, 1]


def test_nodes_in_any_order_keep_their_labels() -> None:
    x, index, weight = graph()
    turned = torch.randperm(10, generator=torch.Generator().manual_seed(0))
    place = turned.argsort()
    pool = GivenClustersPool(reduce="max", return_selection=True)
    out = pool(x, index, OF, edge_weight=weight, cluster=LABELS)
    other = pool(x[turned], place[index], OF[turned], edge_weight=weight, cluster=LABELS[turned])
    close(other.x, out.x)
    close(_dense(other.a, other.edge_weight), _dense(out.a, out.edge_weight))
    close(pool.lift(other.x, other.s), pool.lift(out.x, out.s)[turned])


def test_a_graph_without_nodes_has_no_clusters() -> None:
    x, index, _ = graph()
    a = Sparse.from_edges(index[0], index[1], None, Ragged(torch.tensor([0, 6, 6, 10])))
    assert GivenClustersPool()(x, a, cluster=LABELS).sizes.tolist() == [3, 0, 2]
    none = Sparse.from_edges(index[0, :0], index[1, :0], None, Ragged(torch.tensor([0, 0])))
    assert GivenClustersPool()(x[:0], none, cluster=LABELS[:0]).sizes.tolist() == [0]


@pytest.mark.parametrize("cluster", [None, LABELS[:4], LABELS.double()])
def test_labels_are_asked_for(cluster: Tensor | None) -> None:
    x, index, _ = graph()
    with pytest.raises(ValueError, match=r"cluster is .*: the label of each node, whole numbers \[10\], is expected"):
        GivenClustersPool()(x, index, OF, cluster=cluster)


def test_labels_are_a_tensor() -> None:
    x, index, _ = graph()
    with pytest.raises(TypeError, match="cluster must be a torch tensor, not list"):
        GivenClustersPool()(x, index, OF, cluster=LABELS.tolist())


# -- reduce --------

AGGREGATIONS = [
    "sum", "mean", "max", "min", aggr.MedianAggregation, aggr.StdAggregation(), aggr.QuantileAggregation([0.2, 0.8]),
    aggr.MultiAggregation(["mean", "max"]), aggr.LSTMAggregation(3, 5).double(), aggr.PowerMeanAggregation(learn=True),
]  # fmt: skip


@pytest.mark.parametrize("reduce", AGGREGATIONS, ids=str)
def test_rows_of_a_cluster_are_reduced_by_any_aggregation(reduce: Any) -> None:
    x, index, weight = graph()
    x = x.abs().requires_grad_()
    torch.manual_seed(0)
    pool = EdgePool(in_channels=3, reduce=reduce, return_selection=True).double()
    out = pool(x, index, OF, edge_weight=weight)
    module = getattr(aggr, f"{reduce.title()}Aggregation")() if isinstance(reduce, str) else pool.aggregation
    rows = x[out.s.node] * out.s.weight.unsqueeze(-1)
    close(out.x, module(rows, out.s.cluster, dim_size=int(out.sizes.sum())))
    assert out.x.shape[1] == pool.out_channels(3)
    assert torch.autograd.grad(out.x.square().sum(), x)[0].any()


def test_an_aggregation_is_trained_and_saved_with_the_operator() -> None:
    pool = GraclusPool(reduce=aggr.LSTMAggregation(3, 5))
    assert any(name.startswith("aggregation.lstm") for name in pool.state_dict())
    x, index, _ = graph()
    pool(x.float(), index, OF).x.sum().backward()
    assert all(p.grad is not None for p in pool.parameters())


def test_what_is_computed_ahead_is_reduced_alike() -> None:
    x, index, _ = graph()
    a = Sparse.from_edges(index[0], index[1], None, Ragged.from_index(OF), symmetric=True)
    pool = GraclusPool(reduce="max")
    close(pool(x, a, coarsening=pool.coarsen(a)).x, pool(x, a).x)


def test_what_is_no_reduction_is_refused() -> None:
    with pytest.raises(ValueError, match="reduce='median': one of sum, mean, max, min"):
        GraclusPool(reduce="median")
    with pytest.raises(TypeError, match="reduce=3"):
        GraclusPool(reduce=3)
    with pytest.raises(ValueError, match="reduce_red_op=None takes the members alone"):
        KMISPool(reduce_red_op=None, reduce="max")
