"""Edge attributes and the map of edges: right for every operator that keeps or merges edges, refused by the others."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from registry import REGISTRY, Registered, graphs
from torch import Tensor

from poolbench.linalg import Dense, Padded, Ragged, Sparse
from poolbench.pool.asap import EgoSelection
from poolbench.pool.base.selection import Reordered
from poolbench.pool.base.src import SRCPool

SIZES = (7, 1, 9, 4)
REDUCE: dict[str, Any] = {"sum": sum, "mean": lambda rows: sum(rows) / len(rows), "max": max, "min": min}
#: Arguments under which an operator's edges become other ones than with those of its YAML file.
OTHERWISE: dict[str, list[dict[str, Any]]] = {
    "asap": [{"overlap": False}, {"overlap": False, "add_self_loops": True}],
    "kmis": [{"reduce_red_op": None, "scorer": "degree"}],
    "maxcut": [{"assign_all_nodes": False}],
    "graclus": [{"remove_self_loops": False, "connect_red_op": "max"}],
}


def _cases(carries: bool) -> Any:
    pools = [entry for entry in REGISTRY if not entry.is_readout]
    changed = [(entry, changes) for entry in pools for changes in [{}, *OTHERWISE.get(entry.name, [])]]
    cases = [
        pytest.param(entry, changes, id="-".join([entry.name, *map(str, changes.values())]))
        for entry, changes in changed
        if bool(entry.make(**changes).pooled_edges) == carries
    ]
    return pytest.mark.parametrize(("entry", "changes"), cases)


carrying, others = _cases(carries=True), _cases(carries=False)


class Given:
    """A disjoint batch as somebody may hand it in: directed, weighted, with self-loops and parallel edges, edges and
    nodes in no order."""

    def __init__(self, seed: int = 0) -> None:
        graph, g = graphs(*SIZES, directed=True, seed=seed), torch.Generator().manual_seed(seed)
        index, weight = graph.edges
        more = torch.cat([index[:, ::3], index[:, ::6], torch.tensor([[0, 8], [0, 8]])], 1)
        index = torch.cat([index, more], 1)
        weight = torch.cat([weight, torch.rand(more.shape[1], generator=g, dtype=torch.float64) + 0.5])
        edges, nodes = (torch.randperm(n, generator=g) for n in (index.shape[1], sum(SIZES)))
        self.x, self.batch = graph.x[nodes], graph.i[nodes]
        self.edge_index, self.edge_weight = nodes.argsort()[index[:, edges]], weight[edges]
        self.edge_attr = torch.randn(edges.numel(), 2, generator=g, dtype=torch.float64)

    def call(self, module: SRCPool, **changes: Any) -> Any:
        torch.manual_seed(0)
        given = {name: getattr(self, name) for name in ("edge_index", "edge_weight", "edge_attr", "batch")}
        return module(self.x, **given | changes)


def clusters(s: Reordered) -> dict[int, int]:
    """The cluster of each node that has one, as far as edges go: ASAP's overlap, and their centres are joined; MaxCut
    may reduce the features of some nodes alone, and merges the edges of all."""
    one = getattr(s.sorted, "whole", s.sorted)
    if isinstance(one, EgoSelection):
        number = dict(zip(one.centres.tolist(), range(one.centres.numel()), strict=True))
    else:
        number = dict(zip(one.node.tolist(), one.cluster.tolist(), strict=True))
    return {int(s.order[node]): cluster for node, cluster in number.items()}


def expected(edge_index: Tensor, cluster: dict[int, int], pooled: Tensor) -> list[list[int]]:
    """The input edges behind each pooled edge, one by one."""
    ends = [(cluster.get(u, -1), cluster.get(v, -1)) for u, v in edge_index.T.tolist()]
    return [[e for e, given in enumerate(ends) if given == tuple(pair)] for pair in pooled.T.tolist()]


@carrying
def test_the_edges_behind_a_pooled_edge_are_those_between_its_clusters(
    entry: Registered, changes: dict[str, Any]
) -> None:
    module = entry.make(return_selection=True, **changes)
    batches = ((given, given.call(module)) for given in map(Given, range(20)))
    given, out = next(pair for pair in batches if pair[1].edge_index.numel())  # some operators may join whole graphs
    cluster = clusters(out.s)
    if entry.name == "none":  # nothing is pooled: edge by edge
        want = [[e] for e in range(given.edge_index.shape[1])]
    else:
        want = expected(given.edge_index, cluster, out.edge_index)
    assert want and all(want), "an edge of the pooled graph that comes from none"
    assert out.edge.T.tolist() == [[pooled, e] for pooled, edges in enumerate(want) for e in edges]
    if module.pooled_edges == "kept":
        assert all(torch.equal(*given.edge_index[:, e].unique(dim=1).expand(2, -1, -1)) for e in want)
        assert out.perm is None or set(cluster) == set(out.perm.tolist())
    for how, reduce in REDUCE.items():
        rows = [[reduce([float(given.edge_attr[e, c]) for e in edges]) for c in (0, 1)] for edges in want]
        merged = given.call(module, edge_reduce=how).edge_attr
        torch.testing.assert_close(merged, torch.tensor(rows, dtype=torch.float64))
        column = given.call(module, edge_reduce=how, edge_attr=given.edge_attr[:, 0]).edge_attr
        torch.testing.assert_close(column, merged[:, 0], msg="one number an edge")


@others
def test_the_others_refuse_edges(entry: Registered, changes: dict[str, Any]) -> None:
    module, given = entry.make(**changes), Given()
    for asked in ({}, {"edge_attr": None, "return_edge": True}):
        with pytest.raises(ValueError, match=rf"^{entry.cls.__name__} takes no edge_attr[^\n]*$"):
            given.call(module, **asked)


@carrying
def test_the_rest_of_the_answer_is_the_same_with_and_without_edges(entry: Registered, changes: dict[str, Any]) -> None:
    module, given = entry.make(**changes), Given()
    plain, out, mapped = (
        given.call(module, **k) for k in ({"edge_attr": None}, {}, {"edge_attr": None, "return_edge": True})
    )
    assert plain.edge is None and plain.edge_attr is None and mapped.edge_attr is None
    assert torch.equal(out.edge, mapped.edge)
    for name in ("x", "a", "i", "edge_weight", "sizes"):
        assert torch.equal(getattr(plain, name), getattr(out, name)), name


@carrying
def test_a_sparse_goes_in_with_its_entries_and_comes_out_with_them(entry: Registered, changes: dict[str, Any]) -> None:
    """As in a model; where an operator is precomputable, with a coarsening too."""
    module, graph = entry.make(**changes), graphs(*SIZES, directed=True)
    (col, row), weight = graph.edges
    a = Sparse.from_edges(row, col, weight, Ragged.from_index(graph.i))
    edges = torch.randn(a.col.numel(), 3, dtype=torch.float64)
    torch.manual_seed(0)
    own = module(graph.x, a, edge_attr=edges)
    torch.manual_seed(0)
    index = module(graph.x, torch.stack([a.col, a.row]), graph.i, edge_weight=a.weights, edge_attr=edges)
    assert own.edge_attr.shape == (own.a.col.numel(), 3)
    torch.testing.assert_close(own.edge_attr, index.edge_attr)
    assert torch.equal(own.edge, index.edge)
    if module.precomputable:
        read = module(graph.x, a, edge_attr=edges, coarsening=module.coarsen(a))
        assert torch.equal(read.edge_attr, own.edge_attr)


@carrying
@pytest.mark.parametrize("how", list(REDUCE))
def test_derivatives_in_the_attributes_are_right(entry: Registered, changes: dict[str, Any], how: str) -> None:
    module, given = entry.make(**changes), Given()

    def merged(edge_attr: Tensor) -> Tensor:
        return given.call(module, edge_attr=edge_attr, edge_reduce=how).edge_attr

    torch.autograd.gradcheck(merged, given.edge_attr.requires_grad_(), fast_mode=True)


@carrying
def test_two_pools_in_a_row(entry: Registered, changes: dict[str, Any]) -> None:
    """What comes out goes in again: a sum of ones counts the input edges behind each edge."""
    module, given = entry.make(**changes), Given()
    ones = torch.ones(given.edge_index.shape[1], dtype=torch.float64)
    first = given.call(module, edge_attr=ones)
    torch.manual_seed(0)
    second = module(
        first.x, first.edge_index, first.i, edge_weight=first.edge_weight, edge_attr=first.edge_attr,
        batch_size=len(SIZES),
    )  # fmt: skip
    behind_first = first.edge[0].bincount(minlength=first.edge_index.shape[1])
    rows, given_rows = second.edge
    count = torch.zeros(second.edge_index.shape[1], dtype=torch.int64).index_add_(0, rows, behind_first[given_rows])
    assert second.edge_attr.tolist() == count.tolist()


@carrying
def test_graphs_without_edges_and_without_nodes(entry: Registered, changes: dict[str, Any]) -> None:
    module = entry.make(**changes)
    for n in (3, 0):
        x, none = torch.randn(n, 4, dtype=torch.float64), torch.zeros(2, 0, dtype=torch.int64)
        out = module(x, none, edge_attr=torch.zeros(0, 2, dtype=torch.float64))
        assert out.edge.shape == (2, 0)
        assert out.edge_attr.shape == (0, 2)


@carrying
def test_attributes_that_do_not_fit_are_refused_in_words(entry: Registered, changes: dict[str, Any]) -> None:
    module, given = entry.make(**changes), Given()
    e = given.edge_index.shape[1]
    for wrong in (given.edge_attr[:-1], given.edge_attr.unsqueeze(-1), given.edge_attr[0, 0]):
        with pytest.raises(ValueError, match=rf"^edge_attr must be \[{e}\] or \[{e}, d\] for {e} edges, not "):
            given.call(module, edge_attr=wrong)
    with pytest.raises(ValueError, match="edge_reduce='median': one of sum, mean, max, min"):
        given.call(module, edge_reduce="median")
    x = graphs(5).x
    for a, more in ((graphs(5).a, {}), (given.edge_index[:, :0], {"mask": torch.ones(5).bool()})):
        with pytest.raises(ValueError, match="another form have no order"):
            module(x, a, edge_attr=given.edge_attr[:0], **more)
    with pytest.raises(ValueError, match="another form have no order"):
        module(x.expand(2, 5, 4), graphs(5).edges[0], edge_attr=given.edge_attr[:8])


@carrying
def test_whole_numbers_are_kept_and_not_merged(entry: Registered, changes: dict[str, Any]) -> None:
    module, graph = entry.make(**changes), graphs(*[6] * 10, density=0.7)
    index, weight = graph.edges
    kinds = torch.arange(index.shape[1]) % 3
    if module.pooled_edges == "kept":
        out = module(graph.x, index, graph.i, edge_weight=weight, edge_attr=kinds)
        assert out.edge_attr.dtype == torch.int64
        assert torch.equal(out.edge_attr, kinds[out.edge[1]])
    else:
        with pytest.raises(ValueError, match="int64, which is not merged: give floats"):
            module(graph.x, index, graph.i, edge_weight=weight, edge_attr=kinds)


def test_parts_of_an_entry_stay_parts() -> None:
    """A matrix of poolbench whose entries stand in several parts, each with its own attribute."""
    topk = next(entry for entry in REGISTRY if entry.name == "topk").make(ratio=0.6)
    x = torch.randn(5, 4, dtype=torch.float64)
    row, col = torch.tensor([0, 0, 0, 1, 1, 2, 2, 3, 4, 4]), torch.tensor([1, 1, 1, 0, 0, 3, 3, 2, 4, 4])
    crow = torch.tensor([0, 3, 5, 7, 8, 10])
    a = Sparse(crow, col, None, Ragged.single(5))
    out = topk(x, a, edge_attr=torch.arange(10))
    kept = out.perm.tolist()
    inside = [e for e in range(10) if int(row[e]) in kept and int(col[e]) in kept]
    assert inside
    assert out.edge_attr.tolist() == inside


def test_a_class_that_says_the_wrong_thing_about_its_edges_is_told_so() -> None:
    class Wrong(SRCPool):
        pooled_edges = "merged"

        def select(self, x: Tensor, a: Any, i: Tensor | None) -> Tensor:
            return x.softmax(-1)

    index = torch.tensor([[0, 1], [1, 0]])
    with pytest.raises(TypeError, match="not by a DenseSelection and a Dense: leave out edge_attr"):
        Wrong()(torch.randn(3, 2), index, edge_attr=torch.randn(2))


def test_dense_matrices_of_poolbench_have_no_order_of_edges() -> None:
    topk = next(entry for entry in REGISTRY if entry.name == "topk").make()
    x, a, mask = graphs(4, 6).padded
    with pytest.raises(ValueError, match="no order"):
        topk(x, Dense(a, Padded(2, 6, mask)), edge_attr=torch.zeros(3))
