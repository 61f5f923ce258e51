"""Sparse and Dense against dense algebra, and against each other."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.utils.checkpoint import checkpoint

from poolbench.linalg import (
    GCN,
    RAW,
    SYMMETRIC,
    Dense,
    Matrix,
    Padded,
    Propagation,
    Ragged,
    Sparse,
    block_diagonal,
    to_flat,
    to_padded,
)

SIZES = [[4], [1], [0], [], [3, 0, 2], [1, 1], [2, 6, 1]]


@st.composite
def graphs(draw: st.DrawFn) -> tuple[Tensor, list[int]]:
    """A block-diagonal matrix with non-negative weights in float64: directed or not, self-loops, isolated nodes."""
    sizes = draw(st.lists(st.integers(0, 5), max_size=4))
    seed, directed = draw(st.integers(0, 999)), draw(st.booleans())
    return adjacency(sizes, directed, seed, draw(st.sampled_from([0.0, 0.3, 0.8]))), sizes


def adjacency(sizes: list[int], directed: bool = True, seed: int = 0, density: float = 0.5) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    blocks = []
    for n in sizes:
        block = torch.rand(n, n, generator=g, dtype=torch.float64) * (torch.rand(n, n, generator=g) < density)
        blocks.append(block if directed else (block + block.T) / 2)
    return torch.block_diag(*blocks) if blocks else torch.zeros(0, 0, dtype=torch.float64)


def ragged(sizes: list[int]) -> Ragged:
    return Ragged(torch.tensor([0, *torch.tensor(sizes, dtype=torch.int64).cumsum(0).tolist()]), sizes)


def sparse(a: Tensor, sizes: list[int]) -> Sparse:
    row, col = a.nonzero(as_tuple=True)
    return Sparse.from_edges(row, col, a[row, col], ragged(sizes), symmetric=bool(torch.equal(a, a.T)))


def padded(a: Tensor, sizes: list[int]) -> Dense:
    width = max(sizes, default=0)
    out, at = a.new_zeros(len(sizes), width, width), 0
    for g, n in enumerate(sizes):
        out[g, :n, :n] = a[at : at + n, at : at + n]
        at += n
    mask = torch.arange(width) < torch.tensor(sizes, dtype=torch.int64).unsqueeze(-1)
    return Dense(out, Padded(len(sizes), width, mask), bool(torch.equal(a, a.T)))


def normalized(a: Tensor) -> Tensor:
    """The formula, entry by entry; a node without row sum has neither row nor column."""
    root = a.sum(-1).sqrt() + 1e-7
    scale = torch.where(a.sum(-1) > 0, 1 / root, 0.0)
    return a * scale.unsqueeze(-1) * scale.unsqueeze(-2)


VIEWS: list[tuple[str, Callable[[Matrix], Matrix], Callable[[Tensor], Tensor]]] = [
    ("raw", RAW, lambda a: a),
    ("symmetric", SYMMETRIC, normalized),
    ("gcn", GCN, lambda a: normalized(a + torch.eye(len(a), dtype=a.dtype))),
    ("propagation", Propagation(0.85), lambda a: 0.15 * torch.eye(len(a), dtype=a.dtype) + 0.85 * normalized(a)),
    ("twice", lambda a: a.times(2.0), lambda a: 2 * a),
    ("no diagonal", lambda a: a.without_diagonal(), lambda a: a - torch.diag(a.diagonal())),
    ("identity", lambda a: a.add_identity(0.5), lambda a: a + 0.5 * torch.eye(len(a), dtype=a.dtype)),
    (
        "identity twice",
        lambda a: a.add_identity().add_identity(2.0),
        lambda a: a + 3 * torch.eye(len(a), dtype=a.dtype),
    ),
]


@settings(max_examples=25, deadline=None)
@given(graph=graphs())
@pytest.mark.parametrize(("view", "dense"), [v[1:] for v in VIEWS], ids=[v[0] for v in VIEWS])
def test_both_layouts_are_dense_algebra(
    view: Callable[[Matrix], Matrix], dense: Callable[[Tensor], Tensor], graph: tuple[Tensor, list[int]]
) -> None:
    a, sizes = graph
    want = dense(a)
    flat, batch = view(sparse(a, sizes)), view(padded(a, sizes))
    torch.testing.assert_close(flat.to_dense(), want)
    torch.testing.assert_close(batch.to_dense(), padded(want, sizes).value)
    mask = batch.nodes.mask
    x = torch.randn(len(a), 3, dtype=torch.float64)
    wide = x.new_zeros(*mask.shape, 3).masked_scatter(mask.unsqueeze(-1), x)
    torch.testing.assert_close(flat @ x, want @ x)
    torch.testing.assert_close((batch @ wide)[mask], want @ x)
    torch.testing.assert_close((batch @ wide[..., 0])[mask], want @ x[:, 0])
    torch.testing.assert_close(flat.degree(), want.sum(-1))
    torch.testing.assert_close(batch.degree()[mask], want.sum(-1))
    torch.testing.assert_close(flat.total(), batch.total())
    torch.testing.assert_close(flat.total().sum(), want.sum())


@settings(max_examples=25, deadline=None)
@given(graph=graphs())
def test_layouts_change_into_each_other(graph: tuple[Tensor, list[int]]) -> None:
    a, sizes = graph
    flat, x = sparse(a, sizes), torch.randn(len(a), 2, dtype=torch.float64)
    wide, batch = to_padded(x, flat)
    torch.testing.assert_close(batch.value, padded(a, sizes).value)
    back, again = to_flat(wide, batch)
    torch.testing.assert_close(back, x)
    torch.testing.assert_close(again.to_dense(), a)
    assert again.nodes.sizes.tolist() == flat.nodes.sizes.tolist() == sizes
    for ours, theirs in zip(batch.edges(), flat.edges(), strict=True):
        torch.testing.assert_close(ours, theirs)
    assert flat.nnz().tolist() == batch.nnz().tolist()


@settings(max_examples=30, deadline=None)
@given(
    edges=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.floats(0.5, 2.0)), max_size=12),
    weighted=st.booleans(),
)
def test_from_edges_merges_what_stands_twice(edges: list[tuple[int, int, float]], weighted: bool) -> None:
    row, col = (torch.tensor([e[j] for e in edges], dtype=torch.int64) for j in (0, 1))
    value = torch.tensor([e[2] for e in edges], dtype=torch.float64)
    a = Sparse.from_edges(row, col, value if weighted else None, ragged([5]))
    want = torch.zeros(5, 5, dtype=torch.float64)
    want = want.index_put((row, col), value if weighted else torch.ones_like(value), accumulate=True)
    torch.testing.assert_close(a.to_dense().double(), want)
    key = a.row * 5 + a.col
    assert bool((key.diff() > 0).all())
    assert a.nnz().tolist() == [float(len(set(zip(row.tolist(), col.tolist(), strict=True))))]


def test_merging_is_differentiable() -> None:
    row, col = torch.tensor([0, 1, 0, 0]), torch.tensor([1, 0, 1, 1])
    value = torch.rand(4, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda v: Sparse.from_edges(row, col, v, ragged([2])).to_dense(), (value,))


@pytest.mark.parametrize("directed", [True, False])
@pytest.mark.parametrize("view", [RAW, SYMMETRIC, GCN, Propagation(0.5)], ids=repr)
def test_derivatives_in_the_values(view: Callable[[Matrix], Matrix], directed: bool) -> None:
    a = adjacency([3, 2], directed, density=0.9)
    row, col = a.nonzero(as_tuple=True)
    value = a[row, col].requires_grad_()
    x = torch.randn(5, 2, dtype=torch.float64, requires_grad=True)

    def flat(value: Tensor, x: Tensor) -> Tensor:
        return view(Sparse.from_edges(row, col, value, ragged([3, 2]), symmetric=not directed)) @ x

    assert gradcheck(flat, (value, x))
    assert gradgradcheck(flat, (value, x))
    nodes = padded(a, [3, 2]).nodes
    real = nodes.mask.unsqueeze(-1) & nodes.mask.unsqueeze(-2)

    def batch(value: Tensor, x: Tensor) -> Tensor:
        return view(Dense(value * real, nodes)) @ x

    blocks = padded(a, [3, 2]).value.requires_grad_()
    assert gradcheck(batch, (blocks, torch.randn(2, 3, 2, dtype=torch.float64, requires_grad=True)))


def test_a_node_without_edges_gives_finite_derivatives() -> None:
    value = torch.ones(2, dtype=torch.float64, requires_grad=True)
    a = Sparse.from_edges(torch.tensor([0, 1]), torch.tensor([1, 0]), value, ragged([3, 1]))
    (grad,) = torch.autograd.grad((a.normalize() @ torch.ones(4, 1, dtype=torch.float64)).sum(), value)
    assert bool(grad.isfinite().all())
    dense = torch.zeros(1, 2, 2, dtype=torch.float64, requires_grad=True)
    (grad,) = torch.autograd.grad(Dense(dense).normalize().value.sum(), dense)
    assert bool(grad.isfinite().all())


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_symmetric_matrices_multiply_backwards_alike(sizes: list[int]) -> None:
    a = adjacency(sizes, directed=False)
    x = torch.randn(len(a), 2, dtype=torch.float64, requires_grad=True)
    flag = sparse(a, sizes)
    assert flag.symmetric
    plain = Sparse(flag.crow, flag.col, flag.value, flag.nodes, symmetric=False)
    grads = [torch.autograd.grad((m @ x).square().sum(), x)[0] for m in (flag, plain)]
    torch.testing.assert_close(*grads)
    assert flag.normalize().symmetric
    assert not flag.scale(torch.rand(len(a)), torch.rand(len(a))).symmetric


def test_an_unweighted_matrix_has_ones() -> None:
    a = adjacency([4, 3], directed=False)
    row, col = a.nonzero(as_tuple=True)
    bare = Sparse.from_edges(row, col, None, ragged([4, 3]), symmetric=True)
    ones = Sparse.from_edges(row, col, torch.ones(row.numel()), ragged([4, 3]), symmetric=True)
    assert bare.value is None
    x = torch.randn(7, 2)
    for one, other in ((bare, ones), (bare.add_identity(), ones.add_identity()), (bare.view(GCN), ones.view(GCN))):
        torch.testing.assert_close(one.to_dense(), other.to_dense())
        torch.testing.assert_close(one @ x, other @ x)
        torch.testing.assert_close(one.degree(), other.degree())
        torch.testing.assert_close(one.nnz(), other.nnz())


def test_an_unweighted_matrix_normalizes_in_the_default_dtype() -> None:
    a = Sparse.from_edges(torch.tensor([0, 1, 1, 2]), torch.tensor([1, 0, 2, 1]), None, ragged([3]))
    assert a.view(SYMMETRIC).weights.dtype == torch.float32
    assert (a @ torch.ones(3, 1, dtype=torch.float64)).dtype == torch.float64


@pytest.mark.parametrize("made", [lambda: Dense(torch.eye(3)[None]), lambda: Dense(torch.eye(3)[None]).sparse()])
def test_a_matrix_that_was_looked_at_as_it_is_goes_when_nobody_holds_it(made: Callable[[], Matrix]) -> None:
    """Without waiting for the collector: its tensors may be large, and there is one a step."""
    a = made()
    assert a.view(RAW) is a
    held = weakref.ref(a)
    gc.disable()
    try:
        del a
        assert held() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("form", [sparse, padded])
def test_views_are_computed_once(form: Callable[[Tensor, list[int]], Matrix]) -> None:
    a, calls = form(adjacency([3]), [3]), []

    def view(matrix: Matrix) -> Matrix:
        calls.append(matrix)
        return matrix.times(2.0)

    assert a.view(view) is a.view(view)
    assert len(calls) == 1
    assert a.view(GCN) is a.view(GCN) is not a.view(SYMMETRIC)
    assert a.view(Propagation(0.3)) is a.view(Propagation(0.3)) is not a.view(Propagation(0.4))
    assert a.view(RAW) is a
    other = a.times(3.0)
    a.keep_view(SYMMETRIC, other)
    assert a.view(SYMMETRIC) is other


def _learnt(values: Tensor) -> Sparse:
    row, col = torch.tensor([0, 1, 1, 2]), torch.tensor([1, 0, 2, 1])
    return Sparse.from_edges(row, col, None, ragged([3])).with_value(values)


@pytest.mark.parametrize("reentrant", [False, True])
def test_layers_that_share_a_view_can_be_computed_again_in_the_backward_pass(reentrant: bool) -> None:
    values, x = torch.rand(4, requires_grad=True), torch.randn(3, 2, requires_grad=True)

    def layer(x: Tensor) -> Tensor:
        return a.view(GCN).matmul(x).tanh()

    a = _learnt(values)
    expected = torch.autograd.grad(layer(layer(x)).sum(), [values, x])
    a = _learnt(values)
    y = checkpoint(layer, checkpoint(layer, x, use_reentrant=reentrant), use_reentrant=reentrant)
    y.sum().backward()
    torch.testing.assert_close((values.grad, x.grad), expected)


def test_a_view_that_is_learnt_is_none_of_another_thread() -> None:
    a = _learnt(torch.rand(4, requires_grad=True))
    mine = a.view(GCN)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(lambda: a.view(GCN).matmul(torch.ones(3, 1)).sum().backward()).result()
    mine.matmul(torch.ones(3, 1)).sum().backward()  # of which nothing is freed


def test_views_are_of_the_values_that_there_are() -> None:
    values = torch.nn.Parameter(torch.rand(4))
    a = _learnt(values)

    def same() -> bool:
        return torch.equal(a.view(GCN).weights, GCN(a).weights)

    for frozen in (True, False, True):
        values.requires_grad_(not frozen)
        assert same()
        with torch.no_grad():
            values.mul_(torch.tensor([1.0, 2.0, 3.0, 4.0]))
        assert same()
    for learnt in (False, True, True):
        a.value = torch.rand(4, requires_grad=learnt)
        assert same()
    with torch.inference_mode():
        a.value = torch.rand(4)
        assert a.view(GCN) is a.view(GCN)


def test_half_types() -> None:
    a = sparse(adjacency([3, 2]), [3, 2]).times(1.0)
    x = torch.randn(5, 4, dtype=torch.float64)
    for dtype, tolerance in ((torch.bfloat16, 0.05), (torch.float16, 0.01), (torch.float32, 1e-5)):
        y = a @ x.to(dtype)
        assert y.dtype == dtype
        torch.testing.assert_close(y.double(), a @ x, rtol=tolerance, atol=tolerance)


def test_block_diagonal_keeps_every_entry_and_its_gradient() -> None:
    value = torch.tensor([[[0.0, 1.0], [2.0, 0.0]], [[3.0, 0.0], [0.0, 0.0]]], dtype=torch.float64, requires_grad=True)
    a = block_diagonal(Dense(value))
    assert a.col.numel() == 8
    torch.testing.assert_close(a.to_dense(), torch.block_diag(*value))
    assert gradcheck(lambda v: block_diagonal(Dense(v)).to_dense(), (value,))


def test_padding_nodes_get_no_self_loop() -> None:
    a = padded(adjacency([3, 1]), [3, 1]).add_identity()
    assert a.value[1, 1:].abs().sum() == 0
    assert a.value[1, 0, 0] >= 1


@pytest.mark.parametrize("sizes", SIZES)
def test_nodes_at_the_rows_and_columns_of_entries(sizes: list[int]) -> None:
    dense = adjacency(sizes)
    a = sparse(dense, sizes)
    row, col = dense.nonzero(as_tuple=True)
    for x in (torch.randn(len(dense), 3, dtype=torch.float64), torch.randn(len(dense), dtype=torch.float64)):
        assert torch.equal(a.at_rows(x), x[row])
        assert torch.equal(a.at_columns(x), x[col])
        if row.numel():
            x.requires_grad_()
            assert gradcheck(lambda v: (a.at_rows(v), a.at_columns(v)), (x,))
            assert gradgradcheck(lambda v: (a.at_rows(v.square()), a.at_columns(v.square())), (x,))


@pytest.mark.parametrize("sizes", SIZES)
def test_column_sums_are_the_degrees_of_the_transpose(sizes: list[int]) -> None:
    for directed in (True, False):
        dense = adjacency(sizes, directed)
        torch.testing.assert_close(sparse(dense, sizes).column_sums(), dense.sum(0))


def test_entries_that_are_zero_are_left_out() -> None:
    kept = sparse(adjacency([3, 2]), [3, 2])
    assert kept.without_zeros() is kept
    value = kept.weights.clone()
    value[1] = 0.0
    fewer = kept.with_value(value).without_zeros()
    assert fewer.col.numel() == kept.col.numel() - 1
    assert torch.equal(fewer.to_dense(), kept.with_value(value).to_dense())


@pytest.mark.parametrize("dtype", [torch.int32, torch.int16])
def test_edges_of_smaller_whole_types(dtype: torch.dtype) -> None:
    row, col = torch.tensor([[399, 0, 399], [1, 398, 0]], dtype=dtype)  # 399 * 400 is no int16
    a = Sparse.from_edges(row, col, None, Ragged.single(400))
    assert a.crow.dtype == a.col.dtype == torch.int64
    assert (a.row.tolist(), a.col.tolist()) == ([0, 399, 399], [398, 0, 1])
