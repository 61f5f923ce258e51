"""The MET matrix against dense powers, in both layouts, with its derivatives."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from poolbench.linalg import Dense, Padded, Ragged, Sparse, to_padded
from poolbench.linalg.met import met_matrix

F64 = torch.float64
SIZES = (5, 1, 0, 4)


def graphs(directed: bool = False) -> tuple[Tensor, Sparse]:
    """A block-diagonal matrix, the second graph a single node, the third empty; a self-loop in the last."""
    g = torch.Generator().manual_seed(0)
    blocks = []
    for n in SIZES:
        a = (torch.rand(n, n, generator=g) < 0.5) * (torch.rand(n, n, generator=g, dtype=F64) + 0.5)
        blocks.append(a.triu(1) + (a.tril(-1) if directed else a.triu(1).T))
    blocks[3][0, 0] = 2.0
    a = torch.block_diag(*blocks)[: sum(SIZES)]
    a = a[:, : sum(SIZES)]
    row, col = a.nonzero(as_tuple=True)
    nodes = Ragged(torch.tensor([0, *SIZES]).cumsum(0), list(SIZES))
    return a, Sparse.from_edges(row, col, a[row, col], nodes, symmetric=not directed)


def by_powers(a: Tensor, weight: Tensor) -> Tensor:
    """The definition."""
    p = sum(w * torch.linalg.matrix_power(a, level) for level, w in enumerate(weight))
    assert isinstance(p, Tensor)
    z = p.sum(1)
    root = torch.where(z > 0, z.abs().rsqrt(), 0.0)
    return root.unsqueeze(1) * p * root


@pytest.fixture(params=["entries", "blocks"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to form M of a disjoint batch, whichever would be faster."""
    monkeypatch.setattr("poolbench.linalg.met.TERM", {"entries": 0, "blocks": float("inf")}[request.param])


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize("weight", [[1.0, 1.0], [0.5, 1.0, 2.0], [0.3, 0.0, 1.0, 0.2], [1.0, 0.4, -0.3]])
def test_it_is_the_sum_of_powers(weight: list[float], directed: bool) -> None:
    a, sparse = graphs(directed)
    w = torch.tensor(weight, dtype=F64)
    want = by_powers(a, w)
    m = met_matrix(sparse, w)
    assert isinstance(m, Sparse)
    torch.testing.assert_close(m.to_dense(), want)
    assert m.symmetric != directed
    key = m.row * len(a) + m.col
    assert bool((key.diff() > 0).all()), "an entry stands twice"

    _, dense = to_padded(torch.zeros(len(a), 1, dtype=F64), sparse)
    padded = met_matrix(dense, w)
    assert isinstance(padded, Dense) and isinstance(padded.nodes, Padded)
    torch.testing.assert_close(padded.sparse().to_dense(), want)
    assert padded.nodes.mask is not None
    assert not padded.value[~padded.nodes.mask].any()


@pytest.mark.usefixtures("way")
def test_two_nodes_by_hand() -> None:
    # P = I + 2 A + 3 A^2 = [[4, 2], [2, 4]], Z = 6.
    a = Sparse.from_edges(torch.tensor([0, 1]), torch.tensor([1, 0]), None, Ragged.single(2))
    m = met_matrix(a, torch.tensor([1.0, 2.0, 3.0]))
    torch.testing.assert_close(m.to_dense(), torch.tensor([[4.0, 2.0], [2.0, 4.0]]) / 6)


@pytest.mark.usefixtures("way")
def test_without_edges_it_is_the_identity() -> None:
    none = torch.zeros(0, dtype=torch.int64)
    m = met_matrix(Sparse.from_edges(none, none, None, Ragged.single(3)), torch.tensor([0.7, 5.0, 1.0]))
    torch.testing.assert_close(m.to_dense(), torch.eye(3))
    assert met_matrix(Sparse.from_edges(none, none, None, Ragged.single(0)), torch.ones(3)).to_dense().shape == (0, 0)


def test_the_scale_of_the_weights_has_no_say() -> None:
    _, a = graphs()
    w = torch.tensor([0.5, 1.0, 2.0], dtype=F64)
    torch.testing.assert_close(met_matrix(a, w).to_dense(), met_matrix(a, 7 * w).to_dense())


def test_paths_have_an_edge() -> None:
    with pytest.raises(ValueError, match="path weights"):
        met_matrix(graphs()[1], torch.ones(1))


def test_a_dense_batch_takes_blocks_and_a_sparse_one_does_not() -> None:
    for n, p, entries in ((40, 0.9, 1600), (300, 0.003, None)):
        row, col = (torch.rand(n, n, generator=torch.Generator().manual_seed(0)) < p).nonzero(as_tuple=True)
        m = met_matrix(Sparse.from_edges(row, col, None, Ragged.single(n)), torch.ones(3))
        assert isinstance(m, Sparse)
        assert m.col.numel() == entries if entries else m.col.numel() < n * n // 10


@pytest.mark.usefixtures("way")
def test_derivatives_in_the_weights_and_in_a() -> None:
    _, a = graphs(directed=True)

    def function(weight: Tensor, value: Tensor) -> Tensor:
        return met_matrix(a.with_value(value), weight).to_dense()

    weight = torch.tensor([0.5, 1.0, 2.0], dtype=F64, requires_grad=True)
    assert gradcheck(function, (weight, a.weights.clone().requires_grad_()))

    def in_blocks(weight: Tensor, value: Tensor) -> Tensor:
        return met_matrix(Dense(value), weight).to_dense()

    assert gradcheck(in_blocks, (weight, torch.rand(2, 4, 4, dtype=F64, requires_grad=True)))
