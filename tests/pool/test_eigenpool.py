"""EigenPool: clusters of separable graphs, the modes of clusters by hand, and what the method leaves open."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.sparse import block_array, csr_array
from sklearn.cluster import kmeans_plusplus
from torch import Tensor

from poolbench.pool import EigenPool
from poolbench.pool.base.spectral import DENSE, laplacian, smallest_eigenvectors
from poolbench.pool.eigenpool import _Starts, cluster_modes, spectral_clusters


def clique(n: int) -> np.ndarray:
    return np.ones((n, n)) - np.eye(n)


def linked(*sizes: int) -> np.ndarray:
    """Cliques in a row, weakly linked."""
    a, ends = np.zeros((sum(sizes), sum(sizes))), np.cumsum(sizes)
    for n, end in zip(sizes, ends, strict=True):
        a[end - n : end, end - n : end] = clique(n)
    for end in ends[:-1]:
        a[end - 1, end] = a[end, end - 1] = 0.1
    return a


def partition(cluster: np.ndarray) -> set[frozenset[int]]:
    return {frozenset(np.flatnonzero(cluster == c).tolist()) for c in np.unique(cluster)}


def test_cliques_are_clusters() -> None:
    cluster = spectral_clusters(csr_array(linked(4, 6, 5)), 3, seed=0)
    assert partition(cluster) == {frozenset(range(4)), frozenset(range(4, 10)), frozenset(range(10, 15))}


@pytest.mark.parametrize("size", [5, 120])
def test_components_are_clusters_where_there_are_as_many(size: int) -> None:
    """Below and above the size at which Lanczos takes over."""
    ring = csr_array(np.roll(np.eye(size), 1, 0) + np.roll(np.eye(size), -1, 0))
    a = csr_array(block_array([[ring, None, None], [None, 2 * ring, None], [None, None, ring]]))
    assert (a.shape[0] > DENSE) == (size == 120)
    want = {frozenset(range(size * g, size * (g + 1))) for g in range(3)}
    assert partition(spectral_clusters(a, 3, seed=0)) == want
    alone = csr_array((a.data, a.indices, [*a.indptr, a.nnz]), shape=(3 * size + 1, 3 * size + 1))
    assert partition(spectral_clusters(alone, 4, seed=0)) == want | {frozenset([3 * size])}


def test_modes_are_the_fourier_basis_of_a_cluster() -> None:
    """A path of three, normalised: eigenvalues 0, 1 and 2 of known vectors; a pair; a node alone."""
    a = np.zeros((6, 6))
    for i, j in ((0, 1), (1, 2), (3, 4), (2, 3), (4, 5)):
        a[i, j] = a[j, i] = 1.0
    cluster = np.array([0, 0, 0, 1, 1, 2])
    modes = cluster_modes(csr_array(a), cluster, 4, normalized=True)
    half = 0.5**0.5
    path = [[0.5, half, 0.5, 0.5], [half, 0.0, -half, -half], [0.5, -half, 0.5, 0.5]]
    np.testing.assert_allclose(modes[:3], path, atol=1e-12)
    np.testing.assert_allclose(modes[3:5], [[half, half, half, half], [half, -half, -half, -half]], atol=1e-12)
    np.testing.assert_allclose(modes[5], np.ones(4))
    plain = cluster_modes(csr_array(a), cluster, 1, normalized=False)
    np.testing.assert_allclose(plain[:, 0], [3**-0.5] * 3 + [half] * 2 + [1.0], atol=1e-12)


@pytest.mark.parametrize("normalized", [True, False])
def test_clusters_of_one_size_side_by_side_are_the_clusters_one_by_one(normalized: bool) -> None:
    """To the bit, rings with their multiple eigenvalues among them, and a cluster that goes to Lanczos."""
    sizes = [4, 6, 4, 1, 6, 1, 5, DENSE + 10]
    n = sum(sizes)
    ring = np.roll(np.eye(n), 1, 0)
    a = csr_array(ring + ring.T + np.roll(ring, 3, 0) + np.roll(ring, 3, 0).T)
    cluster = np.random.default_rng(0).permutation(np.repeat(np.arange(len(sizes)), sizes))
    modes = cluster_modes(a, cluster, 3, normalized)
    for c, size in enumerate(sizes):
        (members,) = (cluster == c).nonzero()
        want = smallest_eigenvectors(laplacian(a[members][:, members], normalized), min(size, 3))
        assert np.array_equal(modes[members, : want.shape[1]], want)
        assert np.array_equal(modes[members, want.shape[1] :], np.repeat(want[:, -1:], 3 - want.shape[1], 1))


@pytest.mark.parametrize(("n", "k"), [(18, 9), (40, 20), (9, 2)])
def test_starts_are_those_of_scikit_learn(n: int, k: int) -> None:
    rows = np.random.default_rng(n).standard_normal((n, k))
    rows -= rows.mean(0)
    starts, ours, theirs = _Starts(3), np.random.RandomState(1), np.random.RandomState(1)
    for _ in range(3):
        np.testing.assert_array_equal(starts(rows, k, ours), kmeans_plusplus(rows, k, random_state=theirs)[0])


def dense_modes(pool: EigenPool, s: object) -> Tensor:
    """Theta^1, Theta^2, ... side by side: [n, H k]."""
    onehot, weight = s.s, s.weight
    return torch.cat([onehot * weight[:, h : h + 1] for h in range(pool.num_modes)], 1)


def test_reduce_connect_and_lift_are_the_formulas() -> None:
    pool = EigenPool(3, num_modes=2, return_selection=True)
    a, x = torch.from_numpy(linked(4, 6, 5)), torch.randn(15, 4, dtype=torch.float64)
    out = pool(x, a)
    theta, s = dense_modes(pool, out.s), out.s.s
    want = torch.cat([theta[:, :3].T @ x, theta[:, 3:].T @ x], 1)
    torch.testing.assert_close(out.x, want)
    assert pool.out_channels(4) == 8
    outside = a * (s @ s.T == 0)
    m = s.T @ outside @ s
    d = m.sum(1).rsqrt()
    torch.testing.assert_close(out.a, d.unsqueeze(1) * m * d)
    up = pool.lift(out.x, out.s, modes=True)
    torch.testing.assert_close(up, theta[:, :3] @ want[:, :4] + theta[:, 3:] @ want[:, 4:])
    torch.testing.assert_close(pool.lift(out.x, out.s), s @ out.x)
    with pytest.raises(ValueError, match="modes=True"):
        pool.lift(out.x[:, :7], out.s, modes=True)


def test_all_modes_lose_nothing() -> None:
    """With as many modes as the largest cluster has nodes, lift undoes reduce where no mode is repeated."""
    pool = EigenPool(3, num_modes=5, return_selection=True)
    x = torch.randn(15, 2, dtype=torch.float64)
    out = pool(x, torch.from_numpy(linked(5, 5, 5)))
    torch.testing.assert_close(pool.lift(out.x, out.s, modes=True), x)


def test_few_nodes_one_cluster_and_no_edges() -> None:
    one = EigenPool(4, num_modes=2, return_selection=True)
    out = one(torch.ones(3, 1), torch.ones(3, 3))
    assert torch.equal(out.s.s, torch.eye(4)[:3])
    assert torch.equal(out.x, torch.tensor([[1.0, 1.0]] * 3 + [[0.0, 0.0]]))  # the mode of one node is 1
    out = EigenPool(1, num_modes=1, normalized=False)(torch.ones(4, 1), torch.ones(4, 4))
    torch.testing.assert_close(out.x, torch.tensor([[2.0]]))
    out = EigenPool(2, return_selection=True)(torch.ones(5, 1), torch.zeros(5, 5))
    assert torch.equal(out.s.s.sum(1), torch.ones(5))
    assert out.x.isfinite().all()


def test_numbering_does_not_show() -> None:
    g = torch.Generator().manual_seed(0)
    a = torch.rand(14, 14, generator=g) * (torch.rand(14, 14, generator=g) < 0.4)
    a, x = a + a.T, torch.randn(14, 2, generator=g)
    order = torch.randperm(14, generator=g)
    pool = EigenPool(4, num_modes=3, return_selection=True)
    one, other = pool(x, a), pool(x[order], a[order][:, order])
    assert torch.equal(one.s.s[order], other.s.s)
    assert torch.equal(one.s.weight[order], other.s.weight)
    assert torch.equal(one.s.s, EigenPool(4, num_modes=3, return_selection=True)(x, a).s.s)


def test_lanczos_finds_what_lapack_does() -> None:
    n, rng = DENSE + 30, np.random.default_rng(0)
    upper = np.triu(rng.random((n, n)) * (rng.random((n, n)) < 0.05), 1) + np.diag(np.ones(n - 1), 1)
    lap = laplacian(csr_array(upper + upper.T), normalized=True)
    found = smallest_eigenvectors(lap, 4)
    values = np.linalg.eigvalsh(lap.toarray())[:4]
    np.testing.assert_allclose(lap @ found, found * values, atol=1e-8)
    np.testing.assert_allclose(found.T @ found, np.eye(4), atol=1e-8)


def test_arguments() -> None:
    with pytest.raises(ValueError, match="num_modes"):
        EigenPool(2, num_modes=0)
    with pytest.raises(ValueError, match="finite"):
        EigenPool(2)(torch.eye(3), torch.full((3, 3), torch.nan))
