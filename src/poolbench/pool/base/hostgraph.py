"""Graphs one by one on the host, for what is computed there and not on tensors: eigenvectors, factorisations, trees.

What these algorithms answer hangs on details: the start of an iteration, the order of nodes, the last bit of a weight.
Here the details are fixed by the graph: its nodes are put in an order that does not depend on their numbers, its
weights are read to 12 bits, and the libraries run on one thread. So a graph gets the same answer alone and in a batch,
however its nodes are numbered, and on the next level, where sums of weights differ by rounding.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

import numpy as np
import torch
from scipy.sparse import csr_array
from threadpoolctl import threadpool_limits
from torch import Tensor

from poolbench.linalg import Matrix
from poolbench.linalg.plain import by_formula
from poolbench.splitmix import scrambled

Array = np.ndarray[Any, np.dtype[Any]]
P = ParamSpec("P")
R = TypeVar("R")

BITS = 12


def host_graphs(a: Matrix) -> list[csr_array]:
    """The graphs of a batch as matrices [n, n] in float64, each entry once, rows and columns in order.

    A weight of 0 is no entry: it would have a say in the order of nodes and in random starts.
    Raises ValueError for weights that are not finite, and for an edge between two graphs.
    """
    a = a.sparse()
    if not torch.equal(a.nodes.index[a.row], a.nodes.index[a.col]):
        raise ValueError("an edge joins nodes of two graphs: i and the edges do not fit together")
    crow, col, weight = to_numpy(a.crow), to_numpy(a.col), to_numpy(a.weights.double())
    if not np.isfinite(weight).all():
        raise ValueError("edge weights must be finite numbers: drop or replace inf and NaN before pooling")
    graphs, start = [], 0
    for size in a.nodes.host_sizes:
        own = slice(int(crow[start]), int(crow[start + size]))
        block = (weight[own], col[own] - start, crow[start : start + size + 1] - own.start)
        graph = csr_array(block, shape=(size, size), copy=True)
        graph.sum_duplicates()
        graph.eliminate_zeros()
        graphs.append(graph)
        start += size
    return graphs


def to_numpy(v: Tensor) -> Array:
    """The numbers in a tensor of int64, float64 or bool."""
    v = v.detach().cpu()
    if by_formula():  # torch.func shows no memory, but tells the numbers
        return np.array(v.tolist(), dtype=str(v.dtype).removeprefix("torch.")).reshape(v.shape)
    return v.numpy()


def simple(a: csr_array) -> csr_array:
    """The larger of both directions of each edge, without self-loops, stored zeros and negative weights."""
    a = a.maximum(a.T).tocoo()
    keep = (a.row != a.col) & (a.data > 0)
    return csr_array((a.data[keep], (a.row[keep], a.col[keep])), shape=a.shape)


def rounded(a: csr_array) -> csr_array:
    """Weights to `BITS` significant bits: 0.02 percent, and whole numbers to 4096 as they are."""
    return csr_array((_rounded(a.data), a.indices, a.indptr), shape=a.shape)


def _rounded(weight: Array) -> Array:
    mantissa, exponent = np.frexp(weight)
    return np.ldexp(np.rint(np.ldexp(mantissa, BITS)), exponent - BITS)


def rows_of(a: csr_array) -> Array:
    """The row of each entry: [nnz]. On a small graph 4 us, where `tocoo` takes 50 us."""
    return np.repeat(np.arange(a.shape[0]), np.diff(a.indptr))


def canonical_order(a: csr_array) -> Array:
    """The nodes in an order that does not depend on their numbers: [n], order[new] = old.

    Colour refinement (Weisfeiler and Leman, 1968) on the weighted, directed graph; a colour is a 64-bit hash, and a
    neighbourhood the sum of its members' hashes modulo 2**64, which no order of summation changes. Nodes of one
    colour, such as those of a ring, stay in the order of their numbers.
    """
    n, row, col = a.shape[0], rows_of(a), a.indices
    weight = scrambled(_rounded(a.data).view(np.uint64))
    colour, known = np.zeros(n, dtype=np.uint64), 0
    while (count := len(np.unique(colour))) > known:
        known, out, into = count, np.zeros(n, dtype=np.uint64), np.zeros(n, dtype=np.uint64)
        np.add.at(out, row, scrambled(colour[col] + weight))
        np.add.at(into, col, scrambled(colour[row] + weight))
        colour = scrambled(scrambled(scrambled(colour) + out) + into)
    return np.argsort(colour, kind="stable")


def reordered(a: csr_array, order: Array) -> csr_array:
    """A with its nodes in another order, columns sorted."""
    place = np.empty_like(order)
    place[order] = np.arange(order.size)
    out = csr_array((a.data, (place[rows_of(a)], place[a.indices])), shape=a.shape)
    out.sort_indices()
    return out


@contextmanager
def one_thread() -> Iterator[None]:
    """Numpy, SciPy and scikit-learn on one thread, so that the order of their sums is fixed."""
    with threadpool_limits(limits=1):
        yield


def on_host(function: Callable[P, R]) -> Callable[P, R]:
    """A function that torch.compile must not look into, and that has no gradient."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        # Decorated at import time, it would cost the two seconds that torch.compile takes to import.
        if torch.compiler.is_compiling():
            return torch.compiler.disable(torch.no_grad()(function))(*args, **kwargs)
        with torch.no_grad():
            return function(*args, **kwargs)

    return call
