"""Products over CSR patterns and ragged batches, held against dense algebra, with derivatives of both orders."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from poolbench.linalg import Dense, Padded, Ragged, products

SIZES = [[3], [1], [0], [], [2, 0, 3], [1, 1, 1], [4, 1, 9, 2], [5, 5]]


def csr(n: int, m: int, density: float = 0.4, seed: int = 0, symmetric: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """(crow, col, value) of a random matrix in float64."""
    g = torch.Generator().manual_seed(seed)
    dense = torch.randn(n, m, generator=g, dtype=torch.float64) * (torch.rand(n, m, generator=g) < density)
    if symmetric:
        dense = dense + dense.T
    row, col = dense.nonzero(as_tuple=True)
    return products.pointers(row, n), col, dense[row, col]


def dense_of(crow: Tensor, col: Tensor, value: Tensor, m: int) -> Tensor:
    row = products.rows(crow, col.numel())
    out = value.new_zeros(crow.numel() - 1, m)
    return out.index_put((row, col), value, accumulate=True)


def ragged(sizes: list[int]) -> Ragged:
    ptr = torch.tensor([0, *torch.tensor(sizes, dtype=torch.int64).cumsum(0).tolist()])
    return Ragged(ptr, sizes)


def randn(*shape: int, seed: int = 0, grad: bool = True) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=g, dtype=torch.float64).requires_grad_(grad)


@pytest.mark.parametrize(("n", "m", "f"), [(4, 4, 3), (5, 3, 2), (1, 1, 1), (0, 0, 2), (4, 4, 0), (3, 0, 2), (0, 3, 2)])
@pytest.mark.parametrize("weighted", [True, False])
def test_spmm_is_the_dense_product(n: int, m: int, f: int, weighted: bool) -> None:
    crow, col, value = csr(n, m, seed=n)
    value = value if weighted else torch.ones_like(value)
    x = randn(m, f, grad=False)
    back = products.transpose(crow, col, m)
    y = products.spmm(value if weighted else None, x, crow, col, back)
    torch.testing.assert_close(y, dense_of(crow, col, value, m) @ x)


@pytest.mark.parametrize("density", [0.0, 0.5])
def test_spmm_has_both_derivatives_directed(density: float) -> None:
    crow, col, value = csr(4, 3, density)
    back = products.transpose(crow, col, 3)
    value.requires_grad_()

    def product(value: Tensor, x: Tensor) -> Tensor:
        return products.spmm(value, x, crow, col, back)

    assert gradcheck(product, (value, randn(3, 2)))
    assert gradgradcheck(product, (value, randn(3, 2)))
    assert gradcheck(lambda x: products.spmm(None, x, crow, col, back), (randn(3, 2),))
    assert gradgradcheck(lambda x: products.spmm(None, x, crow, col, back).square(), (randn(3, 2),))


def test_spmm_of_a_symmetric_matrix_needs_no_transpose() -> None:
    crow, col, value = csr(5, 5, symmetric=True)

    def product(x: Tensor) -> Tensor:
        return products.spmm(value, x, crow, col)

    assert gradcheck(product, (randn(5, 2),))
    assert gradgradcheck(lambda x: product(x).square(), (randn(5, 2),))


def test_the_derivative_in_symmetric_values_is_the_sampled_product() -> None:
    crow, col, value = csr(5, 5, symmetric=True)
    value.requires_grad_()
    x = randn(5, 2)
    back = products.transpose(crow, col, 5)
    assert gradgradcheck(lambda v, x: products.spmm(v, x, crow, col, back), (value, x))
    g = randn(5, 2, seed=1, grad=False)
    (grad,) = torch.autograd.grad((products.spmm(value, x, crow, col, back) * g).sum(), value)
    torch.testing.assert_close(grad, (g @ x.T)[products.rows(crow, col.numel()), col])


def test_spmm_takes_vectors_and_higher_ranks() -> None:
    crow, col, value = csr(4, 4)
    a, back = dense_of(crow, col, value, 4), products.transpose(crow, col, 4)
    v, t = randn(4, grad=False), randn(4, 2, 3, grad=False)
    torch.testing.assert_close(products.spmm(value, v, crow, col, back), a @ v)
    torch.testing.assert_close(products.spmm(value, t, crow, col, back), torch.einsum("uv,vij->uij", a, t))


def test_duplicate_entries_add_up() -> None:
    crow, col = torch.tensor([0, 3, 4]), torch.tensor([1, 1, 0, 0])
    value, x = randn(4), randn(2, 3)
    torch.testing.assert_close(products.spmm(None, x, crow, col, products.transpose(crow, col, 2))[0], 2 * x[1] + x[0])
    assert gradcheck(lambda v, x: products.spmm(v, x, crow, col, products.transpose(crow, col, 2)), (value, x))


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_segments_against_a_loop(sizes: list[int]) -> None:
    nodes, x = ragged(sizes), randn(sum(sizes), 2)
    parts = x.split(sizes) if sizes else ()
    zero = x.new_zeros(2)
    total = torch.stack([p.sum(0) for p in parts]) if sizes else x.new_zeros(0, 2)
    top = torch.stack([p.amax(0) if len(p) else zero for p in parts]) if sizes else x.new_zeros(0, 2)
    torch.testing.assert_close(nodes.sum(x), total)
    torch.testing.assert_close(nodes.max(x), top)
    torch.testing.assert_close(nodes.expand(total), torch.cat([t.expand(n, 2) for t, n in zip(total, sizes, strict=True)]) if sizes else x)  # fmt: skip  # noqa: E501


@pytest.mark.parametrize("sizes", [[3, 0, 2], [1]], ids=str)
def test_segments_have_both_derivatives(sizes: list[int]) -> None:
    nodes, x, y = ragged(sizes), randn(sum(sizes), 2), randn(len(sizes), 2, seed=1)
    for function, argument in ((nodes.sum, x), (nodes.max, x), (nodes.softmax, x), (nodes.mean, x), (nodes.expand, y)):
        assert gradcheck(function, (argument,))
        assert gradgradcheck(lambda v, function=function: function(v).square(), (argument,))


def test_equal_maxima_share_the_gradient() -> None:
    x = torch.tensor([[1.0], [1.0], [0.0], [5.0]], dtype=torch.float64, requires_grad=True)
    ragged([3, 1]).max(x).sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, torch.tensor([[0.5], [0.5], [0.0], [1.0]], dtype=torch.float64))


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize(("k", "f"), [(2, 3), (1, 1), (3, 0), (5, 2)])
def test_gram_and_spread_against_a_loop(sizes: list[int], k: int, f: int) -> None:
    nodes, n = ragged(sizes), sum(sizes)
    s, x, y = randn(n, k, grad=False), randn(n, f, seed=1, grad=False), randn(len(sizes), k, f, seed=2, grad=False)
    gram = [a.T @ b for a, b in zip(s.split(sizes), x.split(sizes), strict=True)] if sizes else []
    spread = [a @ b for a, b in zip(s.split(sizes), y, strict=True)] if sizes else []
    torch.testing.assert_close(nodes.gram(s, x), torch.stack(gram) if gram else x.new_zeros(0, k, f))
    torch.testing.assert_close(nodes.spread(s, y), torch.cat(spread) if spread else x.new_zeros(0, f))
    # the grouped product of float32 and the half types, which pads nothing
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.bfloat16, 0.1)):
        low = nodes.gram(s.to(dtype), x.to(dtype))
        assert low.dtype == dtype
        torch.testing.assert_close(low.double(), nodes.gram(s, x), rtol=tolerance, atol=tolerance)
        low = nodes.spread(s.to(dtype), y.to(dtype))
        assert low.dtype == dtype
        torch.testing.assert_close(low.double(), nodes.spread(s, y), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("sizes", [[3, 0, 2], [1], [5, 1, 1]], ids=str)
def test_gram_and_spread_have_both_derivatives(sizes: list[int]) -> None:
    nodes, n = ragged(sizes), sum(sizes)
    s, x, y = randn(n, 2), randn(n, 3, seed=1), randn(len(sizes), 2, 3, seed=2)
    assert gradcheck(nodes.gram, (s, x))
    assert gradgradcheck(nodes.gram, (s, x))
    assert gradcheck(nodes.grams, (s, x, s)) and gradgradcheck(nodes.grams, (s, x, s))
    assert gradcheck(nodes.spread, (s, y))
    assert gradgradcheck(nodes.spread, (s, y))
    assert gradcheck(lambda s: nodes.gram(s, s), (s,))


@pytest.mark.parametrize("sizes", [[3, 0, 4], [1], [2, 5]])
def test_coarse_is_its_products_one_by_one(sizes: list[int]) -> None:
    nodes, n, k = ragged(sizes), sum(sizes), 3
    dense = torch.block_diag(*[torch.triu(torch.rand(m, m, dtype=torch.float64), 1) for m in sizes])
    a = (dense + dense.T).to_sparse_csr()
    crow, col, value = a.crow_indices(), a.col_indices(), a.values()
    degree = torch.rand(n, dtype=torch.float64)

    def product(s: Tensor, x: Tensor) -> tuple[Tensor, ...]:
        return products.coarse(s, x, crow, col, value, nodes.plan, degree)

    def formula(s: Tensor, x: Tensor) -> tuple[Tensor, ...]:
        trace = nodes.sum(degree * s.square().sum(-1))
        return nodes.gram(s, x), nodes.gram(s, (dense + dense.T) @ s), nodes.gram(s, s), trace

    s, x = randn(n, k), randn(n, 2)
    torch.testing.assert_close(product(s, x), formula(s, x))
    assert gradcheck(product, (s, x)) and gradgradcheck(product, (s, x))
    assert products.coarse(s, x, crow, col, value, nodes.plan)[3] is None


@pytest.mark.parametrize("loops", [True, False])
@pytest.mark.parametrize("identity", [0.0, 1.5])
def test_normalisation_of_dense_matrices_has_both_derivatives(loops: bool, identity: float) -> None:
    a = torch.rand(2, 4, 4, dtype=torch.float64) + 0.1
    a[0, 2] = a[0, :, 2] = 0  # a node without edges
    a.requires_grad_()
    out = products.normalized(a, 1e-7, loops, identity)
    eye = torch.eye(4, dtype=a.dtype)
    kept = (a if loops else a * (1 - eye)) + identity * eye
    root = kept.sum(-1).sqrt() + 1e-7
    torch.testing.assert_close(out, kept / root.unsqueeze(-1) / root.unsqueeze(-2))
    positive = torch.rand(2, 4, 4, dtype=torch.float64, requires_grad=True)  # at 0 the root has no derivative
    assert gradcheck(lambda a: products.normalized(a, 1e-7, loops, identity), (positive,))
    assert gradgradcheck(lambda a: products.normalized(a, 1e-7, loops, identity), (positive,))
    (grad,) = torch.autograd.grad(out.sum(), a)
    assert torch.isfinite(grad).all()


def test_the_diagonal_goes_and_takes_no_derivative() -> None:
    a = torch.rand(2, 3, 3, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(products.off_diagonal(a), a * (1 - torch.eye(3, dtype=a.dtype)))
    assert gradcheck(products.off_diagonal, (a,)) and gradgradcheck(products.off_diagonal, (a,))


def test_float32_derivatives_are_those_of_float64() -> None:
    nodes = ragged([7, 1, 0, 12])
    s, x = randn(20, 3), randn(20, 5, seed=1)
    low = [v.detach().float().requires_grad_() for v in (s, x)]
    high_grads = torch.autograd.grad(nodes.gram(s, x).square().sum(), (s, x))
    low_grads = torch.autograd.grad(nodes.gram(*low).square().sum(), low)
    for a, b in zip(low_grads, high_grads, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-4, atol=1e-4)


def test_one_large_graph_stands_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No graph is padded above twice its rows, and those above ONE_BY_ONE rows are multiplied on their own."""
    sizes = [3, 700, 5, 600, 0, 4, 9, 1]
    for members, width in products._size_classes(sizes):
        assert all(2 * sizes[g] >= width for g in members)
        assert width <= products.ONE_BY_ONE or len(members) == 1
    members = sorted(g for class_, _ in products._size_classes(sizes) for g in class_)
    assert members == [g for g, size in enumerate(sizes) if size]
    nodes = ragged(sizes)
    s, x = randn(sum(sizes), 2, grad=False), randn(sum(sizes), 3, seed=1, grad=False)
    loop = torch.stack([a.T @ b for a, b in zip(s.split(sizes), x.split(sizes), strict=True)])
    torch.testing.assert_close(nodes.gram(s, x), loop)
    monkeypatch.setattr(products, "ONE_BY_ONE", 4)
    torch.testing.assert_close(ragged(sizes).gram(s, x), loop)


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 12), max_size=6), k=st.integers(1, 4), f=st.integers(1, 4), seed=st.integers(0, 99)
)
def test_ragged_is_padded_is_dense(sizes: list[int], k: int, f: int, seed: int) -> None:
    """Every function of Nodes answers alike for ragged rows and for the same rows padded and masked."""
    nodes, n, width = ragged(sizes), sum(sizes), max(sizes, default=0)
    mask = torch.arange(width) < torch.tensor(sizes, dtype=torch.int64).unsqueeze(-1)
    padded = Padded(len(sizes), width, mask)

    def pad(v: Tensor, value: float = 0.0) -> Tensor:
        return v.new_full((len(sizes), width, *v.shape[1:]), value).masked_scatter(mask.unsqueeze(-1), v)

    s, x = randn(n, k, seed=seed, grad=False), randn(n, f, seed=seed + 1, grad=False)
    y = randn(len(sizes), k, f, seed=seed + 2, grad=False)
    assert nodes.sizes.tolist() == padded.sizes.tolist() == sizes
    for ours, theirs in ((nodes.sum, padded.sum), (nodes.max, padded.max), (nodes.mean, padded.mean)):
        torch.testing.assert_close(ours(x), theirs(pad(x, 7.0)))
    torch.testing.assert_close(nodes.gram(s, x), padded.gram(pad(s), pad(x)))
    torch.testing.assert_close(nodes.spread(s, y), padded.spread(pad(s), y)[mask])
    torch.testing.assert_close(nodes.softmax(x), padded.softmax(pad(x, 7.0))[mask])
    torch.testing.assert_close(nodes.expand(y), padded.expand(y)[mask])
    assert not padded.softmax(pad(x, 7.0))[~mask].any()


@settings(max_examples=30, deadline=None)
@given(n=st.integers(0, 8), m=st.integers(0, 8), seed=st.integers(0, 99))
def test_the_transpose_is_the_transpose(n: int, m: int, seed: int) -> None:
    crow, col, value = csr(n, m, seed=seed)
    tcrow, trow, perm = products.transpose(crow, col, m)
    torch.testing.assert_close(dense_of(tcrow, trow, value[perm], n), dense_of(crow, col, value, m).T)
    assert products.invert(perm)[perm].tolist() == list(range(col.numel()))


def test_the_same_bits_every_time() -> None:
    nodes = ragged([50, 3, 400])
    s, x = randn(453, 4).float().detach(), randn(453, 8, seed=1).float().detach()
    crow, col, value = csr(453, 453, 0.05)
    first = None
    for _ in range(3):
        leaves = [s.clone().requires_grad_(), x.clone().requires_grad_(), value.float().requires_grad_()]
        a = products.spmm(leaves[2], leaves[1], crow, col, products.transpose(crow, col, 453))
        loss = nodes.gram(leaves[0], a).square().sum() + nodes.max(a).sum()
        grads = torch.autograd.grad(loss, leaves)
        assert first is None or all(torch.equal(a, b) for a, b in zip(first, grads, strict=True))
        first = grads


def test_autocast_leaves_dtypes_that_fit() -> None:
    nodes, (crow, col, value) = ragged([3, 2]), csr(5, 5)
    s, x = randn(5, 2).float(), randn(5, 3).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = products.spmm(value.float(), x.bfloat16(), crow, col, products.transpose(crow, col, 5))
        assert low.dtype == torch.bfloat16
        assert nodes.gram(s, low).dtype == torch.float32


LARGE = """
import resource, sys, torch
from poolbench.linalg import Ragged, Sparse
torch.set_num_threads(1)
n, degree, k = 200_000, 5, 16
g = torch.Generator().manual_seed(0)
row = torch.arange(n).repeat_interleave(degree)
col = torch.randint(n, (n * degree,), generator=g)
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
a = Sparse.from_edges(row, col, torch.rand(n * degree, generator=g), Ragged.single(n))
x = torch.randn(n, k, generator=g, requires_grad=True)
small = Sparse.from_edges(torch.tensor([0, 1]), torch.tensor([1, 0]), torch.ones(2), Ragged.single(2))
small.nodes.gram(small.normalize() @ torch.ones(2, k), torch.ones(2, k))
before = peak()
s = (a.normalize() @ x).softmax(-1)
pooled = a.nodes.gram(s, a @ s)
(pooled.square().sum() + a.nodes.spread(s, pooled).square().mean()).backward()
print(peak() - before)
"""


def test_no_matrix_of_n_by_n() -> None:
    """200,000 nodes: forward and backward take what a few [n, k] and [e] tensors take (n x n would be 160 GB)."""
    source = Path(products.__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [sys.executable, "-c", LARGE], capture_output=True, text=True, check=False, env=environment, timeout=120
    )
    assert run.returncode == 0, run.stderr
    assert float(run.stdout) < 500  # MiB


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_gives_the_same_numbers_and_the_same_bits() -> None:
    sizes = [50, 3, 700, 0, 9]
    nodes, (crow, col, value) = ragged(sizes), csr(762, 762, 0.02)
    far = Ragged(nodes.ptr.cuda(), sizes)
    s, x = randn(762, 4, grad=False), randn(762, 6, seed=1, grad=False)

    def answer(nodes: Ragged, device: str, dtype: torch.dtype) -> list[Tensor]:
        leaves = [v.to(device, dtype).requires_grad_() for v in (s, x, value)]
        c, o = crow.to(device), col.to(device)
        y = products.spmm(leaves[2], leaves[1], c, o, products.transpose(c, o, 762))
        gram = nodes.gram(leaves[0], y)
        loss = gram.square().mean() + nodes.spread(leaves[0], gram).square().mean() + nodes.max(y).sum()
        return [v.detach().cpu() for v in (gram, *torch.autograd.grad(loss, leaves))]

    for a, b in zip(answer(nodes, "cpu", torch.float64), answer(far, "cuda", torch.float64), strict=True):
        torch.testing.assert_close(a, b)
    first, second = answer(far, "cuda", torch.float32), answer(far, "cuda", torch.float32)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_dense_matrices_without_nodes_take_their_own() -> None:
    a = Dense(torch.ones(2, 3, 3))
    assert a.nodes.sizes.tolist() == [3, 3]
