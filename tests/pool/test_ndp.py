"""NDPPool: the cut and the Kron reduction against dense algebra, and what the method leaves open."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array
from torch import Tensor

from poolbench.pool import NDPPool
from poolbench.pool.base.spectral import DENSE, laplacian, largest_eigenvector
from poolbench.pool.ndp import kept_side, kron_reduction

PATH = torch.diag(torch.ones(4), 1) + torch.diag(torch.ones(4), -1)
RING = torch.roll(torch.eye(6), 1, 0) + torch.roll(torch.eye(6), -1, 0)


def random_graph(n: int, seed: int = 0, density: float = 0.3) -> np.ndarray:
    rng = np.random.default_rng(seed)
    upper = np.triu(rng.random((n, n)) + 0.5, 1) * (np.triu(rng.random((n, n)), 1) > 1 - density)
    path = np.diag(np.ones(n - 1), 1)
    return upper + upper.T + path + path.T


def call(a: Tensor, **args: float) -> tuple[list[int], Tensor]:
    pool = NDPPool(return_selection=True, **args)
    out = pool(torch.eye(len(a)), a)
    return out.s.kept.tolist(), out.a


def test_every_other_node_of_a_path_stays() -> None:
    """Eliminating a node between two others leaves the series of two conductances of 1: 1/2."""
    kept, a = call(PATH)
    assert kept in ([0, 2, 4], [1, 3])
    assert torch.equal(a, 0.5 * (torch.diag(torch.ones(len(kept) - 1), 1) + torch.diag(torch.ones(len(kept) - 1), -1)))


def test_a_star_keeps_its_centre_alone() -> None:
    star = torch.zeros(5, 5)
    star[0, 1:] = star[1:, 0] = 1.0
    kept, a = call(star)
    assert kept == [0]
    assert not a.any()


@pytest.mark.parametrize("seed", range(5))
def test_the_kept_side_is_that_of_the_largest_eigenvector(seed: int) -> None:
    a = random_graph(12, seed)
    d = a.sum(1) ** -0.5
    v = np.linalg.eigh(np.eye(12) - d[:, None] * a * d)[1][:, -1]
    v = v * np.sign(v[np.abs(v).argmax()])
    cut = a[np.ix_(v >= 0, v < 0)].sum() / np.triu(a).sum()
    kept = kept_side(csr_array(a))
    assert cut >= 0.5
    assert kept.tolist() == (v >= 0).tolist()


@pytest.mark.parametrize("seed", range(5))
def test_kron_reduction_is_the_schur_complement(seed: int) -> None:
    a, rng = random_graph(11, seed), np.random.default_rng(seed)
    kept = rng.random(11) < 0.5
    kept[0], kept[1] = True, False
    lap = np.diag(a.sum(1)) - a
    inverse = np.linalg.inv(lap[~kept][:, ~kept])
    schur = lap[kept][:, kept] - lap[kept][:, ~kept] @ inverse @ lap[~kept][:, kept]
    want = np.diag(np.diag(schur)) - schur
    found = kron_reduction(csr_array(a), kept, 0.0).toarray()
    np.testing.assert_allclose(found, want, atol=1e-12)
    sparse = kron_reduction(csr_array(a), kept, 0.1).toarray()
    np.testing.assert_allclose(sparse, np.where(np.abs(want) > 0.1, want, 0.0), atol=1e-12)


def test_columns_in_several_blocks_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    a = csr_array(random_graph(30))
    kept = kept_side(a)
    whole = kron_reduction(a, kept, 0.01).toarray()
    monkeypatch.setattr("poolbench.pool.ndp.COLUMNS", 4)
    np.testing.assert_allclose(kron_reduction(a, kept, 0.01).toarray(), whole, atol=1e-13)


def test_a_dropped_component_carries_nothing() -> None:
    """L_-- is singular where a component has no kept node: it is left out, and the rest is as without it."""
    a = np.zeros((9, 9))
    a[:6, :6], a[6, 7], a[7, 6] = random_graph(6), 1.0, 1.0
    kept = np.array([1, 0, 1, 0, 1, 0, 0, 0, 0], dtype=bool)
    found = kron_reduction(csr_array(a), kept, 0.0).toarray()
    np.testing.assert_allclose(found, kron_reduction(csr_array(a[:6, :6]), kept[:6], 0.0).toarray(), atol=1e-12)


def test_the_random_half_where_there_is_no_cut() -> None:
    kept, a = call(torch.zeros(6, 6))
    assert 0 in kept
    assert 1 not in kept
    assert not a.any()
    two = torch.block_diag(torch.ones(2, 2) - torch.eye(2), torch.ones(20, 20) - torch.eye(20))
    kept, _ = call(two)  # v lives on the pair alone: 1 of 191 edges is cut
    assert 0 < len(kept) < 22
    assert kept == call(two)[0]


def test_other_components_are_kept_whole() -> None:
    pair, ring = torch.ones(2, 2) - torch.eye(2), 0.01 * (torch.ones(3, 3) - torch.eye(3))
    kept, _ = call(torch.block_diag(pair, ring, torch.zeros(1, 1)))
    assert len({0, 1} & set(kept)) == 1
    assert {2, 3, 4, 5} <= set(kept)


def test_single_nodes_directions_and_negative_weights() -> None:
    assert call(torch.zeros(1, 1))[0] == [0]
    assert call(PATH.triu())[0] == call(PATH)[0]
    assert torch.equal(call(PATH.triu())[1], call(PATH)[1])
    assert call(PATH + torch.eye(5) - 2 * torch.roll(torch.eye(5), 2, 0) * (1 - PATH))[0] == call(PATH)[0]
    with pytest.raises(ValueError, match="finite"):
        call(PATH * torch.inf)
    with pytest.raises(ValueError, match="threshold"):
        NDPPool(threshold=-1.0)


def test_lanczos_finds_what_lapack_does() -> None:
    a = csr_array(random_graph(DENSE + 40, density=0.05))
    lap = laplacian(a, normalized=True)
    v = np.linalg.eigh(lap.toarray())[1][:, -1]
    v = v * np.sign(v[np.abs(v).argmax()])
    found = largest_eigenvector(lap)
    assert found is not None
    np.testing.assert_allclose(found, v, atol=1e-8)


def test_numbering_does_not_show_in_the_split() -> None:
    """Of a graph with a cut, and of one in which the eigenvector lives on a light path, so that coins decide."""
    cut, coins = random_graph(15), random_graph(15, density=0.9)
    coins[:3], coins[:, :3] = 0.0, 0.0
    coins[0, 1] = coins[1, 0] = 0.1
    coins[1, 2] = coins[2, 1] = 0.05
    order = np.random.default_rng(1).permutation(15)
    for a in (cut, coins):
        one, other = kept_side(csr_array(a)), kept_side(csr_array(a[order][:, order]))
        assert one[order].tolist() == other.tolist()
    assert not one[3:].all()


def test_a_ring_keeps_every_other_node() -> None:
    kept, a = call(RING)
    assert kept in ([0, 2, 4], [1, 3, 5])
    torch.testing.assert_close(a, 0.5 * (torch.ones(3, 3) - torch.eye(3)))
