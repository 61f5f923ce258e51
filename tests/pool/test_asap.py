"""ASAPPool: by hand, against the formulas on dense matrices, its arguments and its edge cases."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck

from poolbench.linalg import Matrix, Ragged, Sparse
from poolbench.pool import ASAPPool
from poolbench.pool.asap import with_self_loops

F64 = torch.float64
PATH = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])


def random_graph(n: int, seed: int = 0, directed: bool = False, p: float = 0.4) -> tuple[Tensor, Tensor]:
    """(x [n, 3], a [n, n]) in float64, weighted; the last node isolated, node 1 with a self-loop."""
    g = torch.Generator().manual_seed(seed)
    a = (torch.rand(n, n, generator=g) < p) * (torch.rand(n, n, generator=g, dtype=F64) + 0.5)
    a = a.triu(1) + (a.tril(-1) if directed else a.triu(1).T)
    a[-1], a[:, -1], a[1, 1] = 0.0, 0.0, 0.7
    return torch.randn(n, 3, generator=g, dtype=F64), a


def asap(**changes: Any) -> ASAPPool:
    torch.manual_seed(0)
    args = {"in_channels": 3, "return_selection": True, "return_score": True, "bias_initializer": "random_normal"}
    return ASAPPool(**(args | changes)).double()


def formulas(pool: ASAPPool, x: Tensor, a: Tensor, h: Tensor | None = None) -> dict[str, Tensor]:
    """The steps of the paper one node after the other, on dense matrices: node i hears row i."""
    h = x if h is None else h
    looped = a + torch.diag((a.diagonal() == 0).to(a.dtype))
    hears = looped != 0
    alpha = torch.zeros_like(a)
    for i in range(len(x)):
        j = hears[i].nonzero().squeeze(-1)
        master = pool.query(h[j].amax(0))
        pairs = torch.cat([master.expand(len(j), -1), h[j]], 1)
        score = pairs @ pool.attention.weight.squeeze(0) + pool.attention.bias
        alpha[i, j] = F.leaky_relu(score, pool.negative_slope).softmax(0)
    z = alpha @ x
    weights = looped if pool.weighted_fitness else hears.to(a.dtype)
    around, here, own = pool.neighbours(z).squeeze(-1), pool.centre(z).squeeze(-1), pool.own(z).squeeze(-1)
    phi = torch.sigmoid(own + (weights * (around.unsqueeze(0) - here.unsqueeze(1))).sum(1))
    k = -(-len(x) // 2)
    kept = phi.topk(k).indices.sort().values
    hat = alpha[kept].T
    pooled = hat.T @ looped @ hat if pool.overlap else looped[kept][:, kept]
    pooled = pooled - torch.diag(pooled.diagonal())
    if pool.add_self_loops:
        pooled = pooled + torch.eye(k, dtype=F64)
    return {"phi": phi, "kept": kept, "s": hat * phi[kept], "x": (phi.unsqueeze(-1) * z)[kept], "a": pooled}


def check(pool: ASAPPool, x: Tensor, a: Tensor, want: dict[str, Tensor]) -> None:
    out = pool(x, a)
    torch.testing.assert_close(out.score, want["phi"])
    assert out.s.centres.tolist() == want["kept"].tolist()
    torch.testing.assert_close(out.s.dense(), want["s"])
    torch.testing.assert_close(out.x, want["x"])
    torch.testing.assert_close(out.a, want["a"])


def test_a_path_by_hand() -> None:
    # Without attention alpha is 1 / |N(i)|: z = (1.5, 2, 2.5). With w3 = 1 and the rest 0, phi = sigmoid(z).
    pool = ASAPPool(2, in_channels=1, kernel_initializer="zeros", return_selection=True, return_score=True).double()
    nn.init.ones_(pool.own.weight)
    x = torch.tensor([[1.0], [2.0], [3.0]], dtype=F64)
    out = pool(x, PATH, edge_weight=torch.ones(4, dtype=F64))
    phi = torch.tensor([1.5, 2.0, 2.5], dtype=F64).sigmoid()
    torch.testing.assert_close(out.score, phi)
    assert out.s.centres.tolist() == [1, 2]
    torch.testing.assert_close(out.x.squeeze(-1), phi[1:] * torch.tensor([2.0, 2.5], dtype=F64))
    # S^ = [[1/3, 0], [1/3, 1/2], [1/3, 1/2]], A^ S^ = [[2/3, 1/2], [1, 1], [2/3, 1]]: S^'A^S^ = [[7/9, 5/6], [5/6, 1]]
    assert out.a.tolist() == [[1, 0], [0, 1]]
    torch.testing.assert_close(out.edge_weight, torch.full((2,), 5 / 6, dtype=F64))
    # The fitness counts A^: w1 = 1, w2 = 2 add sum_j z_j - 2 |N(i)| z_i over N(i).
    nn.init.ones_(pool.neighbours.weight)
    nn.init.constant_(pool.centre.weight, 2.0)
    want = torch.tensor([1.5 + 3.5 - 6.0, 2.0 + 6.0 - 12.0, 2.5 + 4.5 - 10.0], dtype=F64).sigmoid()
    torch.testing.assert_close(pool(x, PATH, edge_weight=torch.ones(4, dtype=F64)).score, want)


@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"overlap": False},
        {"add_self_loops": True},
        {"weighted_fitness": False, "negative_slope": 0.1},
        {"overlap": False, "add_self_loops": True},
    ],
)
def test_it_is_the_formulas(changes: dict[str, Any], directed: bool) -> None:
    for seed in range(3):
        x, a = random_graph(9, seed, directed)
        pool = asap(**changes)
        check(pool, x, a, formulas(pool, x, a))


def test_a_gnn_serves_the_attention_alone() -> None:
    class Squares(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(()))

        def forward(self, x: Tensor, a: Matrix) -> Tensor:
            return self.weight * (a @ x).square()

    x, a = random_graph(9)
    pool = asap(gnn=Squares())
    check(pool, x, a, formulas(pool, x, a, (a @ x).square()))
    assert pool.gnn is not None
    (grad,) = torch.autograd.grad(pool(x, a).x.square().sum(), list(pool.gnn.parameters()))
    assert grad != 0


def test_an_isolated_node_is_a_cluster_of_itself() -> None:
    x = torch.randn(3, 3, dtype=F64)
    out = asap(ratio=1.0)(x, torch.zeros(3, 3, dtype=F64))
    torch.testing.assert_close(out.x, out.score.unsqueeze(-1) * x)
    assert not out.a.any()
    torch.testing.assert_close(out.s.dense(), torch.diag(out.score))


def test_the_overlap_joins_clusters_that_no_edge_joins() -> None:
    """Nodes 0 and 3 of a path 0 - 1 - 2 - 3 are three hops apart, and their ego-networks touch."""
    x = torch.randn(4, 3, dtype=F64)
    a = torch.diag(torch.ones(3, dtype=F64), 1)
    a = a + a.T

    class Ends(ASAPPool):
        def choose(self, phi: Tensor, nodes: Ragged) -> Tensor:
            return torch.tensor([0, 3])

    for overlap in (True, False):
        torch.manual_seed(0)
        assert bool(Ends(in_channels=3, overlap=overlap).double()(x, a).a[0, 1] > 0) == overlap


def test_dropout_leaves_alpha_out_in_training_alone() -> None:
    x, a = random_graph(30)
    pool, plain = asap(dropout=0.5, ratio=1.0), asap(ratio=1.0)
    torch.testing.assert_close(pool.eval()(x, a).x, plain(x, a).x)
    torch.manual_seed(1)
    one, s = pool.train()(x, a), plain(x, a).s.dense()
    ratio = (one.s.dense() / one.score)[s != 0] / (s / plain(x, a).score)[s != 0]
    assert set(ratio.round(decimals=6).tolist()) == {0.0, 2.0}
    torch.manual_seed(1)
    assert torch.equal(pool(x, a).x, one.x)


def test_norms_of_the_pooled_graph() -> None:
    x, a = random_graph(8)
    plain = asap()(x, a).a
    d = plain.sum(1).clamp(min=1e-8).sqrt()
    torch.testing.assert_close(asap(degree_norm=True)(x, a).a, plain / d.unsqueeze(1) / d)
    torch.testing.assert_close(asap(edge_weight_norm=True)(x, a).a, plain / plain.max())


def test_self_loops_are_added_where_there_are_none() -> None:
    row, col = torch.tensor([0, 0, 1, 2]), torch.tensor([0, 1, 0, 1])
    weight = torch.tensor([3.0, 2.0, 2.0, 0.0])
    looped = with_self_loops(Sparse.from_edges(row, col, weight, Ragged.single(3)))
    assert looped.to_dense().tolist() == [[3, 2, 0], [2, 1, 0], [0, 0, 1]]
    assert looped.col.tolist() == [0, 1, 0, 1, 2]  # the edge of weight 0 is none
    plain = with_self_loops(Sparse.from_edges(row, col, None, Ragged.single(3)))
    assert plain.value is None
    assert plain.to_dense().tolist() == [[1, 1, 0], [1, 1, 0], [0, 1, 1]]


@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_derivatives(weighted: bool, directed: bool) -> None:
    x, a = random_graph(5, directed=directed)
    row, col = a.nonzero(as_tuple=True)
    edges = Sparse.from_edges(row, col, a[row, col], Ragged.single(5), symmetric=not directed)
    egos = with_self_loops(edges)
    pool = asap(weighted_fitness=weighted)

    def scores(x: Tensor) -> Tensor:
        return pool.fitness(pool.attend(x, egos), x, egos)

    assert gradcheck(scores, (x.requires_grad_(),))
    assert gradgradcheck(scores, (x,))


def test_neighbours_that_tie_for_a_maximum_share_its_derivative() -> None:
    pool, x = asap(), torch.ones(4, 3, dtype=F64, requires_grad=True)
    a = torch.ones(4, 4, dtype=F64)
    out = formulas(pool, x, a)["phi"]
    (want,) = torch.autograd.grad(out.sum(), x)
    (found,) = torch.autograd.grad(pool(x, a).score.sum(), x)
    torch.testing.assert_close(found, want)


@pytest.mark.parametrize("changes", [{"ratio": 0.0}, {"ratio": 2.5}, {"dropout": 1.0}, {"dropout": -0.1}])
def test_arguments_out_of_range(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(changes))):
        asap(**changes)
    with pytest.raises(TypeError, match="gnn"):
        asap(gnn="GCNConv")
