"""HOSCPool: values worked out by hand and from dense formulas, its two orthogonality losses, cost, edge cases."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from poolbench.linalg import Ragged, Sparse
from poolbench.pool import HOSCPool, MinCutPool

F64, F, K = torch.float64, 4, 3


def make(k: int = K, **more: Any) -> HOSCPool:
    torch.manual_seed(0)
    return HOSCPool(k, in_channels=F, bias_initializer="random_normal", return_selection=True, **more).double()


def graph(n: int, seed: int, directed: bool = False) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, F, generator=g, dtype=F64)
    a = torch.rand(n, n, generator=g, dtype=F64) * (torch.rand(n, n, generator=g) < 0.5)
    a.fill_diagonal_(0.0)
    return x, a if directed else a + a.T


def crisp(clusters: list[int], k: int) -> tuple[Tensor, HOSCPool]:
    """Features that make the softmax a choice, and the operator that makes it."""
    pool = HOSCPool(k, in_channels=k, return_selection=True).double()
    with torch.no_grad():
        pool.mlp.layers[0].weight.copy_(100.0 * torch.eye(k))
        pool.mlp.layers[0].bias.zero_()
    return torch.eye(k, dtype=F64)[clusters], pool


def cut(a: Tensor, s: Tensor) -> Tensor:
    return -torch.trace(s.T @ a @ s) / torch.trace(s.T @ torch.diag(a.sum(1)) @ s)


@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("hosc_ortho", [False, True])
def test_the_losses_are_the_dense_formulas_averaged_over_graphs(alpha: float, hosc_ortho: bool, directed: bool) -> None:
    pool = make(alpha=alpha, mu=0.7, hosc_ortho=hosc_ortho)
    parts = [graph(n, seed, directed) for seed, n in enumerate((7, 12, 5))]
    i = torch.repeat_interleave(torch.tensor([7, 12, 5]))
    out = pool(torch.cat([x for x, _ in parts]), torch.block_diag(*(a for _, a in parts)), i)
    hosc, ortho = [], []
    for (x, a), s in zip(parts, out.s.dense().split([7, 12, 5]), strict=True):
        cube = a @ a @ a
        hosc.append(((1 - alpha) * cut(a, s) + alpha * cut(cube, s)) / K)
        if hosc_ortho:
            ortho.append((K**0.5 - s.norm(dim=0).sum() / len(x) ** 0.5) / (K**0.5 - 1))
        else:
            gram = s.T @ s
            ortho.append((gram / gram.norm() - torch.eye(K, dtype=F64) / K**0.5).norm())
    torch.testing.assert_close(out.losses["hosc"], torch.stack(hosc).mean())
    torch.testing.assert_close(out.losses["ortho"], 0.7 * torch.stack(ortho).mean())


def test_two_triangles_and_an_edge_between_them() -> None:
    """Cut in two at that edge: 12 of 14 entries stay inside, and 56 of 82 walks of three steps end where they began."""
    edges = [(0, 1), (1, 2), (0, 2), (3, 4), (4, 5), (3, 5), (2, 3)]
    a = torch.zeros(6, 6, dtype=F64)
    for u, v in edges:
        a[u, v] = a[v, u] = 1.0
    x, pool = crisp([0, 0, 0, 1, 1, 1], 2)
    out = pool(x, a)
    cube = a @ a @ a
    assert cube[:3, :3].sum() + cube[3:, 3:].sum() == 56
    torch.testing.assert_close(out.losses["hosc"], torch.tensor(-0.5, dtype=F64) * (0.5 * 12 / 14 + 0.5 * 56 / 82))
    torch.testing.assert_close(out.losses["ortho"], torch.zeros((), dtype=F64))
    torch.testing.assert_close(out.a, torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=F64))


def test_the_papers_orthogonality_is_0_for_balance_and_1_for_one_cluster() -> None:
    a = graph(6, 0)[1]
    for clusters, wanted in (([0, 0, 0, 1, 1, 1], 0.0), ([0] * 6, 1.0)):
        x, pool = crisp(clusters, 2)
        pool.hosc_ortho, pool.mu = True, 1.0
        torch.testing.assert_close(pool(x, a).losses["ortho"], torch.tensor(wanted, dtype=F64))
    assert make(1, hosc_ortho=True)(*graph(5, 1)).losses["ortho"] == 0


def test_without_motifs_it_is_min_cut() -> None:
    x, a = graph(9, 3)
    ours, theirs = make(alpha=0.0, mu=1.0), MinCutPool(K, in_channels=F).double()
    theirs.load_state_dict(ours.state_dict())
    one, other = ours(x, a), theirs(x, a)
    torch.testing.assert_close(one.losses["hosc"] * K, other.losses["cut"])
    torch.testing.assert_close(one.losses["ortho"], other.losses["ortho"])
    torch.testing.assert_close(one.a, other.a, rtol=1e-6, atol=1e-6)


def test_no_edges_and_no_walks_of_three_steps_add_nothing() -> None:
    x = graph(4, 0)[0]
    assert make()(x, torch.zeros(4, 4, dtype=F64)).losses["hosc"] == 0
    a = torch.zeros(4, 4, dtype=F64)
    a[0, 1] = 1.0  # one directed edge: no walk of three steps
    out = make(alpha=0.5)(x, a)
    torch.testing.assert_close(out.losses["hosc"], 0.5 * cut(a, out.s.dense()) / K)


def test_what_is_done_to_the_pooled_graph() -> None:
    x, a = graph(8, 5)
    plain = make(remove_self_loops=False, degree_norm=False)(x, a)
    m = plain.s.dense().T @ a @ plain.s.dense()
    torch.testing.assert_close(plain.a, m)
    torch.testing.assert_close(
        make(remove_self_loops=False, degree_norm=False, edge_weight_norm=True)(x, a).a, m / m.max()
    )
    off = m - torch.diag(m.diagonal())
    torch.testing.assert_close(make(degree_norm=False)(x, a).a, off)
    torch.testing.assert_close(make()(x, a).a, off / off.sum(1).sqrt() / off.sum(1).sqrt()[:, None])


class _Largest(TorchDispatchMode):
    """Entries of the largest tensor that was made."""

    entries = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.entries = max([self.entries, *(t.numel() for t in tree_leaves(out) if isinstance(t, Tensor))])
        return out


def test_the_cube_of_a_is_never_formed() -> None:
    n = 3000
    ring = torch.arange(n)
    row, col = torch.cat([ring, (ring + 1) % n]), torch.cat([(ring + 1) % n, ring])
    a = Sparse.from_edges(row, col, None, Ragged.single(n), symmetric=True)
    pool = HOSCPool(K, in_channels=F)
    with _Largest() as largest:
        out = pool(torch.randn(n, F), a)
        sum(out.losses.values()).backward()
    assert largest.entries <= max(2 * n * F, n * (F + 2 * K + 3))  # a few entries an edge, or [X | AS | S], aligned


def test_impossible_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match=r"alpha=1\.5"):
        HOSCPool(3, alpha=1.5)
    with pytest.raises(TypeError, match="did you mean 'hosc_ortho'"):
        HOSCPool(3, hosc_orto=True)
