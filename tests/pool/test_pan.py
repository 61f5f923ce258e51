"""PANPool: by hand, against the formulas on dense matrices, its arguments and its edge cases."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from poolbench.linalg import Dense, Matrix, Padded, Ragged, Sparse
from poolbench.linalg.met import met_matrix
from poolbench.nn.message_passing import PAN
from poolbench.pool import PANPool
from poolbench.pool.topk import above

F64 = torch.float64


def pan(**changes: Any) -> PANPool:
    torch.manual_seed(0)
    args = {"in_channels": 3, "return_selection": True, "return_score": True}
    pool = PANPool(**(args | changes)).double()
    with torch.no_grad():
        for parameter in pool.parameters():
            parameter += 0.3 * torch.rand_like(parameter)
    return pool


def random_graph(n: int, seed: int = 0, directed: bool = False) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    a = (torch.rand(n, n, generator=g) < 0.3) * (torch.rand(n, n, generator=g, dtype=F64) + 0.5)
    return 0.3 * torch.randn(n, 3, generator=g, dtype=F64), a.triu(1) + (a.tril(-1) if directed else a.triu(1).T)


def sparse(a: Tensor) -> Sparse:
    row, col = a.nonzero(as_tuple=True)
    return Sparse.from_edges(row, col, a[row, col], Ragged.single(len(a)))


def score(pool: PANPool, x: Tensor, m: Tensor) -> Tensor:
    return pool.beta[0] * x @ pool.projection.p + pool.beta[1] * m.sum(0)


@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize("length", [1, 2, 3])
def test_it_is_the_formulas(length: int, directed: bool) -> None:
    for seed in range(3):
        x, a = random_graph(9, seed, directed)
        pool = pan(filter_size=length, multiplier=1.5)
        m = met_matrix(sparse(a), pool.paths).to_dense()
        y = score(pool, x, m)
        kept = y.topk(5).indices.sort().values
        out = pool(x, a)
        torch.testing.assert_close(out.score, y)
        assert out.s.kept.tolist() == kept.tolist()
        torch.testing.assert_close(out.x, 1.5 * (y.tanh().unsqueeze(-1) * x)[kept])
        torch.testing.assert_close(out.a, m[kept][:, kept])
        assert bool((out.a.diagonal() > 0).all())


def test_it_starts_with_ones_and_halves() -> None:
    pool = PANPool(in_channels=3)
    assert pool.projection.p.tolist() == [1.0] * 3
    assert pool.beta.tolist() == [0.5, 0.5]
    assert pool.paths.unique().numel() == 1


def test_two_nodes_by_hand() -> None:
    # P = I + A + A^2 = [[2, 1], [1, 2]], Z = 3, M = P / 3 with column sums 1: y = (x + 1) / 2.
    pool = PANPool(1.0, in_channels=1, return_score=True)
    out = pool(torch.tensor([[1.0], [3.0]]), torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
    torch.testing.assert_close(out.score, torch.tensor([1.0, 2.0]))
    torch.testing.assert_close(out.x.squeeze(-1), torch.tensor([1.0, 3.0]) * torch.tensor([1.0, 2.0]).tanh())
    torch.testing.assert_close(out.a, torch.tensor([[2.0, 1.0], [1.0, 2.0]]) / 3)


@pytest.mark.parametrize("directed", [False, True])
def test_a_matrix_that_is_handed_in(directed: bool) -> None:
    x, a = random_graph(8, directed=directed)
    m = torch.rand(8, 8, dtype=F64) * (torch.rand(8, 8) < 0.5)
    pool = pan()
    y = score(pool, x, m)
    kept = y.topk(4).indices.sort().values
    out = pool(x, a, m=sparse(m))
    torch.testing.assert_close(out.score, y)
    torch.testing.assert_close(out.a, m[kept][:, kept])
    assert torch.autograd.grad(out.x.sum(), pool.paths, allow_unused=True) == (None,)
    with pytest.raises(ValueError, match="m has 8 nodes, x has 7"):
        pool(x[:7], a[:7, :7], m=sparse(m))
    with pytest.raises(TypeError, match="m must be"):
        pool(x, a, m=m)


def test_the_matrix_of_a_convolution_before_it() -> None:
    """In batch mode too, where m is padded as a is."""
    conv, pool = PAN(3, 3).double(), pan()
    parts = [random_graph(6), random_graph(4)]
    x, a = torch.zeros(2, 6, 3, dtype=F64), torch.zeros(2, 6, 6, dtype=F64)
    mask = torch.zeros(2, 6, dtype=torch.bool)
    for g, (xg, ag) in enumerate(parts):
        n = len(xg)
        x[g, :n], a[g, :n, :n], mask[g, :n] = xg, ag, True
    m = met_matrix(Dense(a, Padded(2, 6, mask)), conv.paths)
    out = pool(x, a, mask=mask, m=m)
    for g, (xg, ag) in enumerate(parts):
        alone = pool(xg, ag, m=met_matrix(sparse(ag), conv.paths))
        k = len(alone.x)
        torch.testing.assert_close(out.x[g, :k], alone.x)
        torch.testing.assert_close(out.a[g, :k, :k], alone.a)
    (grad,) = torch.autograd.grad(out.x.square().sum(), conv.paths)
    assert bool(grad.any())


def test_min_score_keeps_what_is_above_it_and_the_best_of_each_graph() -> None:
    x, a = random_graph(9)
    i = torch.tensor([0] * 5 + [1] * 4)
    a[:5, 5:] = a[5:, :5] = 0.0
    raw = pan(ratio=1.0)(x, a, i).score
    soft = torch.cat([raw[:5].softmax(0), raw[5:].softmax(0)])
    bar = soft[:5].sort(descending=True).values[1:3].mean().item()
    out = pan(min_score=bar)(x, a, i)
    torch.testing.assert_close(out.score, soft)
    kept = (soft > bar).nonzero().squeeze(-1)
    assert out.s.kept.tolist() == kept.tolist()
    torch.testing.assert_close(out.x, soft[kept].unsqueeze(-1) * x[kept])
    assert pan(min_score=1.0)(x, a, i).sizes.tolist() == [1, 1]


def test_nodes_above_a_score() -> None:
    y, nodes = torch.tensor([0.5, 0.1, 0.4, 1.0, 0.3, 0.3]), Ragged(torch.tensor([0, 3, 3, 4, 6]))
    assert above(y, nodes, 0.4).tolist() == [0, 3, 4, 5]
    assert above(y, nodes, 0.05).tolist() == [0, 1, 2, 3, 4, 5]
    assert above(y, nodes, 9.0).tolist() == [0, 3, 4, 5]


def test_scores_that_saturate_the_gate_do_not_tie() -> None:
    x = torch.tensor([[30.0], [50.0], [40.0], [60.0]])
    out = PANPool(in_channels=1, return_selection=True)(x, torch.zeros(4, 4))
    assert out.s.kept.tolist() == [1, 3]


@pytest.mark.parametrize("gate", ["sigmoid", torch.arctan])
def test_another_gate(gate: Any) -> None:
    x, a = random_graph(8)
    out = pan(nonlinearity=gate)(x, a)
    function = torch.sigmoid if gate == "sigmoid" else gate
    torch.testing.assert_close(out.x, (function(out.score).unsqueeze(-1) * x)[out.s.kept])


def test_post_processing() -> None:
    x, a = random_graph(8)
    plain = pan()(x, a).a
    bare = plain - torch.diag(plain.diagonal())
    torch.testing.assert_close(pan(remove_self_loops=True)(x, a).a, bare)
    d = bare.sum(1).clamp(min=1e-8).sqrt()
    torch.testing.assert_close(pan(remove_self_loops=True, degree_norm=True)(x, a).a, bare / d.unsqueeze(1) / d)
    torch.testing.assert_close(pan(edge_weight_norm=True)(x, a).a, plain / plain.max())


def test_the_convolution_is_its_formula() -> None:
    x, a = random_graph(7, directed=True)
    layer = PAN(3, 2, filter_size=3).double()
    with torch.no_grad():
        layer.paths.copy_(torch.tensor([0.2, 0.5, 1.0, 0.1]))
        layer.bias.normal_()
    matrix: Matrix = sparse(a)
    want = met_matrix(matrix, layer.paths).to_dense() @ x @ layer.weight.weight.T + layer.bias
    torch.testing.assert_close(layer(x, matrix), want)


@pytest.mark.parametrize("changes", [{"ratio": 0.0}, {"filter_size": 0}, {"filter_size": 1.5}, {"filter_size": True}])
def test_arguments_out_of_range(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(changes))):
        pan(**changes)
