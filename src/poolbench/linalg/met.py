"""The maximal entropy transition (MET) matrix: paths of every length up to a bound, each length with its weight.

Ma, Xuan, Wang, Li, Lio, "Path Integral Based Convolution and Pooling for Graph Neural Networks", NeurIPS 2020,
arXiv 2006.16811, eq. 2 and 3.
"""

from __future__ import annotations

import torch
from torch import Tensor

from poolbench.linalg.matrix import Dense, Matrix, Sparse
from poolbench.linalg.products import rows
from poolbench.linalg.spgemm import CSR, Blocks, spgemm

#: Multiply-adds of a dense block that take as long as one term of a product of two lists of entries. Measured on one
#: core of an x86 CPU, float32, forward and backward.
TERM = 500


def met_matrix(a: Matrix, weight: Tensor) -> Matrix:
    """M = Z^-1/2 P Z^-1/2,  P = sum_{l=0..L} w_l A^l,  Z the row sums of P; in the layout of `a`.

    Differentiable in w and in the values of A. A row whose sum is not above 0 (weights may be negative) gives a row and
    a column of zeros. M does not change when all w are multiplied by one positive number.

    Cost: L - 1 products of A with a matrix that fills up with each, O(nnz(A^l) d) for rows of d entries. Where a batch
    is so dense that it takes less, products of one dense block a graph, O(n_g^3) time and O(n_g^2) memory; such an M
    holds its zeros as entries. Nothing is formed over several graphs, nothing is padded.

    Args:
        a: A.
        weight: w, [L + 1].

    Raises: ValueError for L < 1.
    """
    if weight.numel() < 2:
        raise ValueError("the longest path has at least one edge: give two path weights or more")
    if isinstance(a, Dense):
        return _dense(a, weight)
    a = a.sparse()
    if weight.numel() > 2 and not _entries_are_faster(a):
        return _blocks(a, weight)
    crow, col, value = _polynomial(a, weight)
    p = Sparse.from_edges(rows(crow, col.numel()), col, value, a.nodes, a.symmetric)  # the diagonal is merged
    inverse = _inverse_root(p.degree())
    return p.with_value(p.weights * p.at_rows(inverse) * p.at_columns(inverse), a.symmetric)


def _entries_are_faster(a: Sparse) -> bool:
    """Whether the terms of A^2 over entries cost less than n_g^3 for each graph."""
    terms = float(a.crow.diff()[a.col].sum())
    return TERM * terms < sum(n**3 for n in a.nodes.host_sizes)


def _blocks(a: Sparse, weight: Tensor) -> Sparse:
    """M by dense blocks, a graph after the other: every entry of a block is one of M."""
    places, areas = Blocks(a.nodes), [m * m for m in a.nodes.host_sizes]
    value = a.weights.to(weight.dtype)
    flat = value.new_zeros(places.slots).index_add(0, places.shift[a.row] + a.col, value)
    blocks = [v.view(m, m) for m, v in zip(a.nodes.host_sizes, flat.split(areas), strict=True)]
    with torch.autocast(value.device.type, enabled=False):
        blocks = [_normalized(_horner(v, torch.eye(len(v), dtype=v.dtype, device=v.device), weight)) for v in blocks]
    row = rows(places.start, places.slots)
    col = torch.arange(places.slots, device=row.device) - places.shift[row]
    return Sparse(
        places.start, col, torch.cat([m.reshape(-1) for m in blocks]) if blocks else flat, a.nodes, a.symmetric
    )


def _polynomial(a: Sparse, weight: Tensor) -> CSR:
    """P by Horner's rule; the entries of the last term w_0 I stand apart from the others."""
    left = (a.crow, a.col, a.weights.to(weight.dtype))
    *lower, second, last = weight.unbind()
    p = _plus_diagonal((a.crow, a.col, last * left[2]), second)
    for w in reversed(lower):
        p = _plus_diagonal(spgemm(left, p, a.nodes.num_rows), w)
    return p


def _plus_diagonal(m: CSR, weight: Tensor) -> CSR:
    """m + weight I, the new entry at the end of each row."""
    crow, col, value = m
    n, e = crow.numel() - 1, col.numel()
    each = torch.arange(n, device=col.device)
    place, last = torch.arange(e, device=col.device) + rows(crow, e), crow[1:] + each
    columns = col.new_empty(e + n)
    columns[place], columns[last] = col, each
    values = value.new_zeros(e + n).index_put((place,), value).index_put((last,), weight.expand(n))
    return crow + torch.arange(n + 1, device=col.device), columns, values


def _dense(a: Dense, weight: Tensor) -> Dense:
    value = a.value.to(weight.dtype)
    eye = torch.diag_embed(a.nodes.zero_padding(torch.ones_like(value[..., 0])))
    return Dense(_normalized(_horner(value, eye, weight)), a.nodes, a.symmetric)


def _horner(a: Tensor, eye: Tensor, weight: Tensor) -> Tensor:
    """P of one dense matrix or of a batch of them."""
    *lower, second, last = weight.unbind()
    p = last * a + second * eye
    for w in reversed(lower):
        p = a @ p + w * eye
    return p


def _normalized(p: Tensor) -> Tensor:
    inverse = _inverse_root(p.sum(-1))
    return inverse.unsqueeze(-1) * p * inverse.unsqueeze(-2)


def _inverse_root(z: Tensor) -> Tensor:
    """z^-1/2, 0 where z is not above 0."""
    positive = z > 0
    return torch.where(positive, z, 1.0).rsqrt() * positive
