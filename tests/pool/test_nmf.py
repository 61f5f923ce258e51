"""NMFPool: S is the softmax of a factorisation that fits, and what the method leaves open."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

from poolbench.pool import NMFPool

TWO = torch.block_diag(torch.ones(4, 4), torch.ones(3, 3)) - torch.eye(7)


def test_blocks_are_found() -> None:
    """Two cliques: rank one each, so every node prefers its own clique's cluster."""
    s = NMFPool(2, return_selection=True)(torch.eye(7), TWO).s.s
    first, second = s[:4].argmax(1).unique(), s[4:].argmax(1).unique()
    assert first.numel() == second.numel() == 1
    assert first.item() != second.item()
    torch.testing.assert_close(s.sum(1), torch.ones(7))


def test_s_is_the_row_softmax_of_a_factor_that_fits() -> None:
    g = torch.Generator().manual_seed(0)
    w = torch.rand(9, 3, generator=g, dtype=torch.float64)
    a = csr_array((w @ w.T).numpy())
    h = NMFPool(3)._factor(a, 3)
    assert (h >= 0).all()
    best, *_ = np.linalg.lstsq(h.T, a.toarray().T)
    assert np.linalg.norm(a.toarray() - best.T @ h) < 0.02 * np.linalg.norm(a.toarray())


def test_pooled_graph_is_the_normalised_product() -> None:
    pool = NMFPool(3, return_selection=True)
    a = TWO.double()
    out = pool(torch.eye(7).double(), a)
    s = out.s.s
    m = s.T @ a @ s
    m = m - m.diag().diag()
    d = m.sum(1).rsqrt()
    torch.testing.assert_close(out.a, d.unsqueeze(1) * m * d)
    torch.testing.assert_close(out.x, s.T)
    plain = NMFPool(3, degree_norm=False, remove_self_loops=False)(torch.eye(7).double(), a)
    torch.testing.assert_close(plain.a, s.T @ a @ s)


def test_where_nothing_is_to_be_factored() -> None:
    def assignment(k: int, a: torch.Tensor) -> torch.Tensor:
        return NMFPool(k, return_selection=True)(torch.eye(len(a)), a).s.s

    assert torch.equal(assignment(9, TWO), torch.eye(9)[:7])
    assert torch.equal(assignment(1, TWO), torch.ones(7, 1))
    assert torch.equal(assignment(4, torch.zeros(1, 1)), torch.eye(4)[:1])
    assert torch.equal(assignment(4, torch.zeros(6, 6)), torch.full((6, 4), 0.25))
    alone = torch.block_diag(TWO, torch.zeros(1, 1))
    torch.testing.assert_close(assignment(2, alone)[7], torch.full((2,), 0.5))
    assert torch.equal(assignment(2, TWO - 5 * torch.eye(7)), assignment(2, TWO))  # max(A, 0)


def test_seeds_and_numbering() -> None:
    g = torch.Generator().manual_seed(0)
    a = torch.rand(12, 12, generator=g)
    a = a + a.T
    order = torch.randperm(12, generator=g)
    s = [NMFPool(4, seed=seed, return_selection=True)(torch.eye(12), a).s.s for seed in (0, 0, 1)]
    assert torch.equal(s[0], s[1])
    assert not torch.allclose(s[0], s[2], atol=1e-3)
    turned = NMFPool(4, return_selection=True)(torch.eye(12), a[order][:, order]).s.s
    assert torch.equal(turned, s[0][order])


def test_clusters_of_a_graphs_own_number() -> None:
    pool = NMFPool(4, k_per_graph=0.5, return_selection=True)
    a = torch.block_diag(TWO, torch.ones(4, 4) - torch.eye(4))
    out = pool(torch.ones(11, 2), a, torch.tensor([0] * 7 + [1] * 4))
    assert out.sizes.tolist() == [4, 2]
    assert out.x.shape == (6, 2)
    assert not out.s.s[7:, 2:].any()
    torch.testing.assert_close(out.s.s.sum(1), torch.ones(11))


def test_arguments() -> None:
    with pytest.raises(ValueError, match="max_iter"):
        NMFPool(2, max_iter=0)
    with pytest.raises(ValueError, match="finite"):
        NMFPool(2)(torch.eye(3), torch.full((3, 3), torch.nan))
