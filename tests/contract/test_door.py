"""What PyG people hand in, for every registered operator: one answer for all ways to say the same graph."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from registry import FEATURES, Graphs, Registered, graphs
from torch import Tensor

from poolbench.linalg import Ragged, Sparse
from poolbench.nn.message_passing import LAYERS
from poolbench.pool import NoPool, TopKPool

SIZES = (6, 1, 9, 3)


def close(ours: Any, theirs: Any, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


def dense(out: Any) -> Tensor:
    """The pooled graph, read by rows as receivers."""
    a = out.a
    if out.edge_weight is None:
        return a if a.layout == torch.strided else a.to_dense()
    k = out.x.shape[0]
    return out.x.new_zeros(k, k).index_put((a[1], a[0]), out.edge_weight.to(out.x.dtype), accumulate=True)


def run(module: Any, *args: Any, **keywords: Any) -> Any:
    torch.manual_seed(0)
    return module(*args, **keywords)


def same(ours: Any, theirs: Any, tolerance: float = 1e-10) -> None:
    close(ours.x, theirs.x, tolerance)
    close(dense(ours), dense(theirs), tolerance)
    close(ours.losses, theirs.losses, tolerance)
    assert ours.sizes.tolist() == theirs.sizes.tolist()
    for name in ("i", "score", "perm"):
        one, other = getattr(ours, name), getattr(theirs, name)
        assert (one is None) == (other is None), name
        if one is not None:
            close(one, other, tolerance)


# Names and call shapes


@pytest.mark.parametrize("disjoint", [False, True])
def test_the_names_of_pyg(pool: Registered, disjoint: bool) -> None:
    module, graph = pool.make(), graphs(*SIZES)
    (index, weight), i = graph.edges, graph.i if disjoint else None
    want = run(module, graph.x, index, i, edge_weight=weight)
    out = run(
        module, x=graph.x, edge_index=index, edge_weight=weight, batch=i, batch_size=len(SIZES) if i is not None else 1
    )
    same(out, want)
    assert out.edge_index is out.a and out.batch is out.i
    assert run(module, graph.x, graph.a, i).edge_index is None


def test_the_names_of_pyg_for_readouts(readout: Registered) -> None:
    module, graph = readout.make(), graphs(*SIZES)
    want = module(graph.x, graph.i)
    close(module(graph.x, batch=graph.i, batch_size=4), want)
    close(module(x=graph.x, batch=graph.i), want)
    wide = module(graph.x, graph.i, batch_size=6)
    close(wide[:4], want)
    assert not wide[4:].any()
    with pytest.raises(TypeError, match="batch is another name of i"):
        module(graph.x, graph.i, batch=graph.i)


def test_one_of_two_names_is_given(pool: Registered) -> None:
    module, graph = pool.make(), graphs(4)
    index, i = graph.edges[0], graph.i
    with pytest.raises(TypeError, match="edge_index is another name of a"):
        module(graph.x, index, edge_index=index)
    with pytest.raises(TypeError, match="batch is another name of i"):
        module(graph.x, index, i, batch=i)
    with pytest.raises(TypeError, match="needs a graph"):
        module(graph.x, batch=i)
    with pytest.raises(TypeError, match="did you mean 'batch_size'"):
        module(graph.x, index, i, batchsize=1)


def test_empty_graphs_at_the_end_stay(pool: Registered) -> None:
    module, graph = pool.make(), graphs(5, 4)
    index, weight = graph.edges
    want = run(module, graph.x, index, graph.i, edge_weight=weight)
    out = run(module, graph.x, index, graph.i, edge_weight=weight, batch_size=4)
    assert len(out.sizes) == 4
    assert out.sizes[:2].tolist() == want.sizes.tolist()
    real = out.i < 2
    assert not out.x[~real].any()
    if not pool.cls.stochastic:
        close(out.x[real], want.x)
        close(out.losses, want.losses)
    with pytest.raises(ValueError, match=r"batch_size=1, but i .batch. names graph 1: at least 2"):
        module(graph.x, index, graph.i, batch_size=1)
    with pytest.raises(ValueError, match="batch_size=3"):
        module(graph.x, index, batch_size=3)
    with pytest.raises(ValueError, match="batch_size=3"):
        module(*graph.padded[:2], batch_size=3)


def test_without_validation_the_answer_is_the_same(pool: Registered) -> None:
    module, graph = pool.make(), graphs(*SIZES)
    index, weight = graph.edges
    want = run(module, graph.x, index, graph.i, edge_weight=weight)
    same(run(module, graph.x, index, graph.i, edge_weight=weight, batch_size=4, validate=False), want)


def shuffled(graph: Graphs, seed: int = 5) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The same graphs with all nodes in another order: (x, index, weight, i), and which node each was."""
    order = torch.randperm(len(graph.x), generator=torch.Generator().manual_seed(seed))
    index, weight = graph.edges
    return graph.x[order], torch.argsort(order)[index], weight, graph.i[order], order


def test_nodes_of_a_batch_may_stand_in_any_order(pool: Registered) -> None:
    """What comes out is what sorting by hand gives, numbered as the input is."""
    module, graph = pool.make(return_selection=True), graphs(*SIZES, directed=True)
    x, index, weight, i, _ = shuffled(graph)
    assert bool((i.diff() < 0).any())
    sort = torch.argsort(i, stable=True)
    back = torch.argsort(sort)
    want = run(module, x[sort], back[index], i[sort], edge_weight=weight)
    leaf = x.clone().requires_grad_()
    out = run(module, leaf, index, i, edge_weight=weight)
    assert torch.equal(out.x, want.x)
    assert torch.equal(dense(out), dense(want))
    assert torch.equal(out.i, want.i) and bool((out.i.diff() >= 0).all())
    assert out.sizes.tolist() == want.sizes.tolist()
    close(out.losses, want.losses)
    assert torch.equal(out.s.dense(), want.s.dense()[back])
    assert (out.score is None) == (want.score is None) and (out.perm is None) == (want.perm is None)
    if out.score is not None:
        assert torch.equal(out.score, want.score[back])
    if out.perm is not None:
        assert torch.equal(out.perm, sort[want.perm])
        assert torch.equal(out.s.perm, out.perm)
    if hasattr(want.s, "mask"):
        assert torch.equal(out.s.mask, want.s.mask[back])
        assert torch.equal(out.s.kept, sort[want.s.kept])
    for inverse in (False, True):
        lifted = module.lift(want.x, want.s, inverse=inverse)[back]
        close(module.lift(out.x, out.s, inverse=inverse), lifted)
        close(module.lift(out.x, pickle.loads(pickle.dumps(out)).s, inverse=inverse), lifted)
    close(out.s.lift(out.x[:, :1]), want.s.lift(want.x[:, :1])[back])
    if out.x.requires_grad:
        (grad,) = torch.autograd.grad(out.x.square().sum(), leaf)
        assert grad.any()


def test_a_matrix_goes_with_nodes_in_any_order(pool: Registered) -> None:
    module, graph = pool.make(), graphs(*SIZES, directed=True)
    x, index, weight, i, order = shuffled(graph)
    want = run(module, x, index, i, edge_weight=weight)
    a = graph.a[order][:, order]
    for form in (a, a.to_sparse_coo(), a.to_sparse_csr(), a.to_sparse_csc()):
        out = run(module, x, form, i)
        close(out.x, want.x)
        close(dense(out), dense(want))


def test_nodes_in_any_order_for_readouts(readout: Registered) -> None:
    module, graph = readout.make(), graphs(*SIZES)
    x, _, _, i, _ = shuffled(graph)
    close(module(x, i), module(graph.x, graph.i))


def test_kept_nodes_have_their_scores(pool: Registered) -> None:
    module, graph = pool.make(return_selection=True), graphs(*SIZES)
    out = run(module, graph.x, graph.a, graph.i)
    assert ("return_score" in pool.takes) == (out.score is not None)
    assert out.score is None or out.score.shape == (sum(SIZES),)
    if "return_score" in pool.takes:
        assert run(pool.make(return_score=False), graph.x, graph.a, graph.i).score is None
    if out.perm is not None:
        assert torch.equal(graph.i[out.perm], out.i)
        assert out.s.mask[out.perm].all()


# One graph, said in other ways


@pytest.mark.parametrize("disjoint", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_graph_of_two_nodes(pool: Registered, disjoint: bool, weighted: bool) -> None:
    """[2, 2] whole numbers are an edge_index."""
    module, graph = pool.make(), graphs(2)
    x, i = graph.x, graph.i if disjoint else None
    index = torch.tensor([[0, 1], [1, 0]])
    weight = torch.tensor([0.5, 2.0]).double() if weighted else torch.ones(2).double()
    want = run(module, x, torch.tensor([[0, float(weight[1])], [float(weight[0]), 0]]).double(), i)
    out = run(module, x, index, i, edge_weight=weight if weighted else None)
    same(out, want, 1e-10 if weighted else 1e-5)  # an unweighted matrix is normalised in the default dtype


def test_the_result_is_an_input(pool: Registered) -> None:
    for n in range(2, 9):
        graph = graphs(n)
        x, (index, weight) = graph.x, graph.edges
        for level in range(3):
            module = pool.make(**({"in_channels": x.shape[1]} if "in_channels" in pool.takes else {}))
            out = run(module, x, edge_index=index, edge_weight=weight)
            x, index, weight = out.x, out.edge_index, out.edge_weight
            assert x.isfinite().all(), (n, level)


def test_whole_numbers_that_are_no_edge_index_are_a_matrix(pool: Registered) -> None:
    module, graph = pool.make(), graphs(5)
    a = (graph.a != 0).double()
    want = run(module, graph.x, a)
    for given in (
        a.long(),
        a.int(),
        a.bool(),
        a.bool().to_sparse_coo(),
        a.long().to_sparse_csr(),
        a.long().to_sparse_csc(),
    ):
        out = run(module, graph.x, given)
        same(out, want)
        assert out.a.is_floating_point()
    x = graph.x.unsqueeze(0)
    close(run(module, x, a.long().unsqueeze(0)).x, run(module, x, a.unsqueeze(0)).x)


def test_many_nodes_with_int32(tmp_path: Any) -> None:
    """row * n + col passes 2^31 from 46,341 nodes on."""
    n = 50_000
    index = torch.stack([torch.arange(n - 1), torch.arange(1, n)]).flip(1)
    for pool in (TopKPool(0.5, in_channels=1), NoPool()):
        x = torch.arange(n, dtype=torch.float32).unsqueeze(-1) / n
        one, other = pool(x, index), pool(x, index.to(torch.int32))
        assert torch.equal(one.a, other.a) and torch.equal(one.x, other.x)
    assert torch.equal(other.a, index)


@pytest.mark.parametrize("layout", [torch.sparse_csr, torch.sparse_csc])
@pytest.mark.parametrize("mode", ["single", "disjoint", "batch"])
def test_compressed_layouts_with_int32(pool: Registered, layout: torch.layout, mode: str) -> None:
    """In batch mode torch has them where all graphs have as many edges; so has what comes out."""
    module, graph = pool.make(), graphs(5, 5, directed=True, density=2.0)
    x, a, i = graph.x, graph.a, graph.i if mode == "disjoint" else None
    if mode == "batch":
        x, a, _ = graph.padded
    given = a.to_sparse(layout=layout)
    if layout == torch.sparse_csr:
        ends = given.crow_indices().int(), given.col_indices().int()
        small = torch.sparse_csr_tensor(*ends, given.values(), given.shape)
    else:
        ends = given.ccol_indices().int(), given.row_indices().int()
        small = torch.sparse_csc_tensor(*ends, given.values(), given.shape)
    want, out = run(module, x, a, i), run(module, x, small, i)
    assert out.a.layout == layout
    same(out, want)


def test_other_layouts_are_refused_in_words(pool: Registered) -> None:
    module, graph = pool.make(), graphs(4)
    with pytest.raises(TypeError, match="sparse_bsr: give COO, CSR, CSC"):
        module(graph.x, graph.a.to_sparse_bsr((2, 2)))


def test_one_graph_with_a_leading_axis(pool: Registered) -> None:
    module, graph = pool.make(), graphs(5, directed=True)
    want = run(module, graph.x, graph.a)
    for a in (graph.a.unsqueeze(0), graph.a.unsqueeze(0).to_sparse_coo()):
        out = run(module, graph.x, a)
        close(out.x, want.x)
        close(dense(out), dense(want))


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8, torch.bool])
def test_weights_that_are_whole_or_bool(pool: Registered, dtype: torch.dtype) -> None:
    module, graph = pool.make(), graphs(*SIZES)
    index, weight = graph.edges
    weight = (2 * weight).ceil().to(dtype)
    want = run(module, graph.x, index, graph.i, edge_weight=weight.double())
    same(run(module, graph.x, index, graph.i, edge_weight=weight), want)
    same(run(module, graph.x, index, graph.i, edge_weight=weight.unsqueeze(-1)), want)


def test_no_pooling_keeps_the_edges_as_they_came() -> None:
    index = torch.tensor([[3, 0, 2, 0, 3], [1, 2, 0, 1, 1]])  # in any order, one of them twice
    weight = torch.arange(5.0)
    out = NoPool()(torch.ones(4, 1), index, edge_weight=weight)
    assert torch.equal(out.edge_index, index) and torch.equal(out.edge_weight, weight)
    assert NoPool()(torch.ones(4, 1), index).edge_weight.tolist() == [1.0] * 5
    i = torch.tensor([1, 0, 0, 1])  # 1 and 2 come first, then 0 and 3
    x = torch.arange(4.0).unsqueeze(-1)
    index = torch.tensor([[3, 1, 2, 0], [0, 2, 1, 3]])
    out = NoPool()(x, index, i, edge_weight=weight[:4])
    assert out.x.squeeze(-1).tolist() == out.perm.tolist() == [1, 2, 0, 3]
    assert torch.equal(out.perm[out.edge_index], index) and torch.equal(out.edge_weight, weight[:4])


# Padding


@pytest.mark.parametrize("junk", [torch.nan, torch.inf, 7.0])
@pytest.mark.parametrize("where", ["x", "a", "both"])
def test_whatever_stands_in_the_padding(pool: Registered, junk: float, where: str) -> None:
    module, graph = pool.make(), graphs(*SIZES)
    x, a, mask = graph.padded
    want = run(module, x, a, mask=mask)
    pairs = mask.unsqueeze(-1) & mask.unsqueeze(-2)
    x = x if where == "a" else x.masked_fill(~mask.unsqueeze(-1), junk)
    a = a if where == "x" else a.masked_fill(~pairs, junk)
    x, a = x.requires_grad_(), a.requires_grad_()
    out = run(module, x, a, mask=mask)
    assert torch.equal(out.x, want.x)
    assert torch.equal(dense(out), dense(want))
    assert out.losses == want.losses
    value = out.x.square().sum() + dense(out).sum() + sum(out.losses.values())
    leaves = [x, a, *module.parameters()]
    for leaf, grad in zip(leaves, torch.autograd.grad(value, leaves, allow_unused=True), strict=True):
        assert grad is None or grad.isfinite().all()
        if leaf is x and grad is not None:
            assert not grad[~mask].any()
        if leaf is a and grad is not None:
            assert not grad[~pairs].any()
    one, alone = run(module, x[0], a[0], mask=mask[0]), run(module, graph.xs[0], graph.adjacencies[0])
    if not pool.cls.stochastic:
        close(one.x, alone.x)


@pytest.mark.parametrize("junk", [torch.nan, torch.inf, 7.0])
def test_whatever_stands_in_the_padding_of_readouts(readout: Registered, junk: float) -> None:
    module, graph = readout.make(), graphs(*SIZES)
    x, _, mask = graph.padded
    x = x.masked_fill(~mask.unsqueeze(-1), junk).requires_grad_()
    out = module(x, mask=mask)
    close(out, module(graph.x, graph.i))
    for grad in torch.autograd.grad(out.square().sum(), [x, *module.parameters()]):
        assert grad.isfinite().all()


# What does not fit is refused in words


@pytest.mark.parametrize(
    ("weight", "line"),
    [
        (lambda e: torch.ones(e + 1), r"edge_weight has 21 entries for the 20 edges"),
        (lambda e: torch.ones(e - 1), r"edge_weight has 19 entries for the 20 edges"),
        (lambda e: torch.ones(e, 3), r"edge_weight has the shape \[20, 3\].*edge_attr="),
        (lambda e: torch.ones(()), r"edge_weight has 1 entries for the 20 edges"),
    ],
)
def test_weights_that_do_not_fit(pool: Registered, weight: Any, line: str) -> None:
    module, graph = pool.make(), graphs(5, density=2.0)
    index, _ = graph.edges
    x = graph.x.unsqueeze(0)
    for args in ((graph.x, index), (graph.x, index, graph.i), (x, index)):
        with pytest.raises(ValueError, match=line):
            module(*args, edge_weight=weight(index.shape[1]))


@pytest.mark.parametrize("where", ["tensors", "own"])
def test_what_is_no_flag_and_no_number_of_graphs(operator: Registered, where: str) -> None:
    module, graph = operator.make(), graphs(5, 4)
    (source, target), weight = graph.edges
    matrix = Sparse.from_edges(target, source, weight, Ragged(torch.tensor([0, 5, 9])))
    given: tuple[Any, ...]
    if operator.is_readout:
        given = (graph.x, matrix.nodes if where == "own" else graph.i)
    else:
        given = (graph.x, matrix) if where == "own" else (graph.x, graph.edges[0], graph.i)
    refused: list[tuple[str, Any, str]] = [
        ("validate", "no", "validate='no': True or False is expected"),
        ("validate", 0, "validate=0: True or False is expected"),
        ("batch_size", 2.0, r"batch_size=2\.0: the number of graphs, a whole number, is expected"),
        ("batch_size", True, "batch_size=True: the number of graphs, a whole number, is expected"),
    ]
    if not operator.is_readout:
        refused += [
            ("return_edge", "no", "return_edge='no': True or False is expected"),
            ("edge_reduce", "avg", "edge_reduce='avg': one of sum, mean, max, min"),
            ("s", None, "s is a NoneType: .*, which has one with return_selection=True, is expected"),
        ]
    for name, value, line in refused:
        with pytest.raises((TypeError, ValueError), match=line):
            module(*given, **{name: value})
    module(*given, batch_size=np.int64(2), validate=np.True_)


@pytest.mark.parametrize("name", ["x", "edge_weight", "edge_attr", "mask"])
def test_what_is_no_tensor(name: str) -> None:
    graph = graphs(5)
    given = {"x": graph.x, "edge_index": graph.edges[0], name: [1.0] * 5}
    with pytest.raises(TypeError, match=f"{name} must be a torch tensor, not list"):
        TopKPool(0.5)(**given)


def test_complex_weights() -> None:
    graph = graphs(5)
    index, weight = graph.edges
    with pytest.raises(TypeError, match=r"weights of edges are torch\.complex128: real numbers are expected"):
        TopKPool(0.5)(graph.x, index, edge_weight=weight.to(torch.complex128))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_edges_without_weights_get_some_of_the_type_of_x(pool: Registered, dtype: torch.dtype) -> None:
    """Weights of another type would pass it on to the layer that comes next."""
    graph = graphs(*SIZES)
    out = pool.make().to(dtype)(graph.x.to(dtype), graph.edges[0], graph.i)
    assert out.x.dtype == out.edge_weight.dtype == dtype


def test_ids_that_are_no_ids(operator: Registered) -> None:
    module, graph = operator.make(), graphs(5, 4)
    given = (graph.x,) if operator.is_readout else (graph.x, graph.edges[0])
    for i in (torch.rand(9), torch.rand(9, 1), torch.rand(20, 3)):
        with pytest.raises(TypeError, match="third argument is often edge_attr"):
            module(*given, i)
    for i in (torch.zeros(8).long(), torch.zeros(9, 2).long()):
        with pytest.raises(ValueError, match=r"for 9 nodes: the graph of each node, \[9\]"):
            module(*given, i)
    with pytest.raises(ValueError, match="names graph -1"):
        module(*given, torch.full((9,), -1))


def test_edges_between_graphs(pool: Registered) -> None:
    module, graph = pool.make(), graphs(5, 4)
    index, weight = graph.edges
    a = graph.a.clone()
    a[1, 7] = 1.0
    index = torch.cat([index, torch.tensor([[7], [1]])], 1)
    weight = torch.cat([weight, weight.new_ones(1)])
    forms = [
        (index, weight),
        (a, None),
        (a.to_sparse_coo(), None),
        (a.to_sparse_csr(), None),
        (a.to_sparse_csc(), None),
    ]
    for form, w in forms:
        with pytest.raises(ValueError, match="joins nodes of graphs 1 and 0"):
            module(graph.x, form, graph.i, edge_weight=w)


def test_nodes_that_are_not_there(pool: Registered) -> None:
    module, graph = pool.make(), graphs(5)
    for bad in (5, -1):
        for disjoint in (False, True):
            index = graph.edges[0].clone()
            index[1, 2] = bad
            with pytest.raises(ValueError, match=f"edge_index names node {bad}, but x has 5 nodes"):
                module(graph.x, index, graph.i if disjoint else None)


def test_an_edge_index_of_floats(pool: Registered) -> None:
    module, graph = pool.make(), graphs(5)
    with pytest.raises(ValueError, match=r"an edge_index .* holds whole numbers"):
        module(graph.x, graph.edges[0].double())
    none = run(module, graph.x, torch.tensor([[], []]))  # of floats, but this is how one without edges is written
    assert none.x.isfinite().all() and none.a.dtype == torch.int64


def test_a_mask_that_does_not_fit(operator: Registered) -> None:
    module, (x, a, mask) = operator.make(), graphs(5, 4).padded
    given = (x,) if operator.is_readout else (x, a)
    with pytest.raises(ValueError, match=r"mask has the shape \[2, 3\]"):
        module(*given, mask=mask[:, :3])


def test_a_matrix_carries_its_own_weights(pool: Registered) -> None:
    graph = graphs(4)
    (source, target), weight = graph.edges
    a = Sparse.from_edges(target, source, weight, Ragged.single(4))
    with pytest.raises(ValueError, match="a Matrix carries its own"):
        pool.make()(graph.x, a, edge_weight=weight)


# Weights that are no numbers, or too large ones


@pytest.mark.parametrize("junk", [torch.nan, torch.inf, 1e30])
def test_weights_out_of_the_ordinary_are_refused_or_give_a_graph(pool: Registered, junk: float) -> None:
    module, graph = pool.make(dtype=torch.float32), graphs(*SIZES)
    index, weight = graph.edges
    weight = (weight * 1e30).float() if junk == 1e30 else weight.float().index_fill(0, torch.tensor([0, 7]), junk)
    try:
        out = run(module, graph.x.float(), index, graph.i, edge_weight=weight)
    except ValueError as error:
        assert junk != 1e30 and str(error).startswith("edge weights must be finite numbers")
    else:
        assert out.x.shape == (int(out.sizes.sum()), module.out_channels(FEATURES))
        assert (out.sizes > 0).all()
        assert not out.a.numel() or (int(out.a.min()) >= 0 and int(out.a.max()) < len(out.x))


# Negative weights


def negative(graph: Graphs) -> Graphs:
    """Rows with a sum below 0, of a graph whose sum is above, below and at 0."""
    first, second, third, *rest = graph.adjacencies
    signs = torch.ones(len(first)).double()
    signs[:2] = -1.0
    return Graphs(graph.xs, [first * signs * signs.unsqueeze(1) - 3 * torch.eye(len(first)).double().roll(1, 0), -second, -0.1 * third, *rest])  # fmt: skip  # noqa: E501


@pytest.mark.parametrize("mode", ["single", "disjoint", "batch"])
@pytest.mark.parametrize("directed", [False, True])
def test_negative_weights_are_finite(pool: Registered, mode: str, directed: bool) -> None:
    module, graph = pool.make(), negative(graphs(6, 5, 4, 3, directed=directed))
    (index, weight), (x, a, mask) = graph.edges, graph.padded
    assert any((b.sum(1) < 0).any() for b in graph.adjacencies)
    calls: dict[str, list[tuple[tuple[Any, ...], dict[str, Any]]]] = {
        "single": [((x, a), {}) for x, a in zip(graph.xs, graph.adjacencies, strict=True)],
        "disjoint": [((graph.x.requires_grad_(), index, graph.i), {"edge_weight": weight.requires_grad_()})],
        "batch": [((x.requires_grad_(), a.requires_grad_()), {"mask": mask})],
    }
    for args, keywords in calls[mode]:
        out = run(module, *args, **keywords)
        assert out.x.isfinite().all() and dense(out).isfinite().all()
        assert all(v.isfinite() for v in out.losses.values()), out.losses
        value = out.x.square().sum() + dense(out).square().sum() + sum(out.losses.values())
        if value.requires_grad:
            value.backward()
            tensors = [t for t in (*args, *keywords.values(), *module.parameters()) if t.grad is not None]
            assert all(t.grad.isfinite().all() for t in tensors)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("mode", ["disjoint", "batch"])
def test_layers_of_models_with_negative_weights_are_finite(name: str, mode: str) -> None:
    from poolbench.pool.base.door import enter

    graph = negative(graphs(6, 5, 4, 3))
    (index, weight), (x, a, mask) = graph.edges, graph.padded
    if mode == "disjoint":
        x, matrix, *_ = enter(graph.x, index, graph.i, weight)
    else:
        x, matrix, *_ = enter(x, a, None, mask=mask)
    out = LAYERS[name](FEATURES, 3).double()(x, matrix)
    assert out.isfinite().all()
