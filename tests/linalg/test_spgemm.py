"""The sparse product against the dense one, with parts that add up, and its derivatives."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from poolbench.linalg.products import pointers, rows
from poolbench.linalg.spgemm import CSR, spgemm

F64 = torch.float64


def random(n: int, m: int, e: int, seed: int) -> CSR:
    """CSR with `e` entries at random places: some places stand several times, columns are in no order."""
    g = torch.Generator().manual_seed(seed)
    if not n * m:
        e = 0
    row = torch.randint(max(n, 1), (e,), generator=g).sort().values
    return pointers(row, n), torch.randint(max(m, 1), (e,), generator=g), torch.randn(e, generator=g, dtype=F64)


def dense(m: CSR, columns: int) -> Tensor:
    crow, col, value = m
    out = value.new_zeros(crow.numel() - 1, columns)
    return out.index_put((rows(crow, col.numel()), col), value, accumulate=True)


SHAPES = [(4, 5, 6, 9), (7, 3, 1, 30), (1, 1, 1, 1), (3, 0, 2, 5), (0, 4, 2, 5), (5, 5, 5, 0)]


@pytest.mark.parametrize(("n", "k", "m", "e"), SHAPES)
def test_it_is_the_dense_product(n: int, k: int, m: int, e: int) -> None:
    left, right = random(n, k, e, 0), random(k, m, e, 1)
    out = spgemm(left, right, m)
    torch.testing.assert_close(dense(out, m), dense(left, k) @ dense(right, m))
    key = rows(out[0], out[1].numel()) * m + out[1]
    assert bool((key.diff() > 0).all()), "rows or columns out of order, or an entry twice"


def test_derivatives_of_any_order() -> None:
    left, right = random(4, 5, 9, 0), random(5, 3, 8, 1)

    def product(p: Tensor, q: Tensor) -> Tensor:
        return spgemm((left[0], left[1], p), (right[0], right[1], q), 3)[2]

    values = left[2].requires_grad_(), right[2].requires_grad_()
    assert gradcheck(product, values)
    assert gradgradcheck(product, values)
