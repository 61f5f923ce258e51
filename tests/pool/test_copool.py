"""CoPool: cut, score and update against the formulas with matrices of all pairs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from poolbench.pool import CoPool

F64 = torch.float64
SIZES = (7, 1, 6)
BATCH = torch.repeat_interleave(torch.arange(3), torch.tensor(SIZES))


def graph(directed: bool = False) -> tuple[Tensor, Tensor]:
    """x and a matrix with weights and a self-loop, rows as receivers; node 6 has no edges."""
    g = torch.Generator().manual_seed(3)
    hit = (torch.rand(14, 14, generator=g) < 0.4) & (BATCH[:, None] == BATCH)
    hit = hit if directed else hit | hit.T
    hit[6] = hit[:, 6] = False
    return torch.randn(14, 4, generator=g, dtype=F64), hit * (torch.rand(14, 14, generator=g, dtype=F64) + 0.5)


def pool(**arguments: Any) -> CoPool:
    torch.manual_seed(0)
    return CoPool(0.5, in_channels=4, return_selection=True, **arguments).double()


def attention(module: CoPool, x: Tensor, a: Tensor) -> Tensor:
    """M of all nodes, not yet cut; NaN where there is no entry."""
    edges, eye = ((a != 0) & ~torch.eye(len(x), dtype=torch.bool)).to(F64), torch.eye(len(x), dtype=F64)
    root = (edges + eye).sum(1).rsqrt()
    filtered = root[:, None] * (edges + eye) * root
    z = sum(gamma * torch.linalg.matrix_power(filtered, t) @ x for t, gamma in enumerate(module.gamma))
    p = z @ module.projection.weight.T
    source, target = (p @ layer.weight[0] for layer in (module.source, module.target))
    m = torch.sigmoid(source + target[:, None]) * edges
    m = (m + m.T) / 2 + eye
    return torch.where(edges + edges.T + eye > 0, m, torch.nan)


def cut(m: Tensor, q: int) -> Tensor:
    entries = m[~m.isnan()].detach().numpy()
    return torch.where(m >= np.percentile(entries, q) - 1e-12, m, 0.0)


@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize("hops", [0, 1, 3])
@pytest.mark.parametrize(("edge_ratio", "q"), [(0.6, 40), (0.9, 9), (1.0, 0), (0.05, 95)])
@pytest.mark.parametrize("scope", ["graph", "batch"])
def test_everything_is_the_formula(scope: str, edge_ratio: float, q: int, hops: int, directed: bool) -> None:
    module, (x, a) = pool(scope=scope, edge_ratio=edge_ratio, hops=hops, alpha=0.3), graph(directed)
    out = module(x, a, BATCH)
    whole = attention(module, x, a)
    if scope == "batch":
        m = cut(whole, q)
    else:
        parts = [cut(whole[g == BATCH][:, g == BATCH], q) for g in range(3)]
        m = torch.block_diag(*parts)
    root = m.sum(1).rsqrt()
    score = (x - (root[:, None] * m * root) @ x).abs().sum(1)
    torch.testing.assert_close(out.score, score)
    best = [(g == BATCH).nonzero()[:, 0] for g in range(3)]
    best = [rows[(-out.score[rows]).argsort(stable=True)[: -(-len(rows) // 2)]] for rows in best]
    kept = torch.cat(best).sort().values
    assert out.perm.tolist() == kept.tolist()
    h = torch.relu(torch.cat([x, m @ x], 1) @ module.update.weight.T + module.update.bias)
    torch.testing.assert_close(out.x, h[kept])
    torch.testing.assert_close(out.a, m[kept][:, kept])


def test_a_node_without_edges_scores_nothing_and_comes_last() -> None:
    module, (x, a) = pool(edge_ratio=0.01), graph()
    out = module(x, a, BATCH)
    assert out.score.tolist() == [0.0] * 14  # exactly, of all of them
    assert out.perm.tolist() == [0, 1, 2, 3, 7, 8, 9, 10]
    assert torch.equal(out.a, torch.eye(8, dtype=F64))


def test_the_company_of_a_graph_matters_in_a_batch_alone() -> None:
    x, a = graph()
    alone = [pool(scope=s)(x[:7], a[:7, :7]).x for s in ("graph", "batch")]
    assert torch.equal(*alone)
    together = [pool(scope=s)(x, a, BATCH) for s in ("graph", "batch")]
    torch.testing.assert_close(together[0].x[:4], alone[0], rtol=1e-12, atol=1e-12)
    assert not torch.allclose(together[1].x[:4], alone[0])


def test_an_edge_is_never_cut_one_way_in_float32() -> None:
    torch.manual_seed(1)
    for n in range(20, 40):
        hit = torch.rand(n, n) < 0.3
        index = (hit | hit.T).nonzero().T
        out = CoPool(1.0, in_channels=8, edge_ratio=0.5)(torch.randn(n, 8), index)
        ends = set(map(tuple, out.edge_index.T.tolist()))
        assert ends == {(j, i) for i, j in ends}


def test_weights_of_edges_are_not_used() -> None:
    module, (x, a) = pool(), graph()
    out, plain = module(x, a, BATCH), module(x, (a != 0).to(F64), BATCH)
    assert torch.equal(out.x, plain.x) and torch.equal(out.a, plain.a)


def test_gamma_starts_as_personalised_pagerank() -> None:
    torch.testing.assert_close(CoPool(hops=2, alpha=0.1).gamma.detach(), torch.tensor([0.1, 0.09, 0.81]))


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"edge_ratio": 0.0}, r"edge_ratio=0.0: a share of the edges in \(0, 1\]"),
        ({"edge_ratio": 1.1}, r"edge_ratio=1.1: a share of the edges in \(0, 1\]"),
        ({"edge_ratio": "all"}, "edge_ratio='all': a number is expected"),
        ({"alpha": -0.1}, r"alpha=-0.1: a number in \[0, 1\]"),
        ({"hops": 0.05}, "hops=0.05: a whole number is expected"),
        ({"scope": "all"}, "scope='all' is not one of graph, batch"),
    ],
)
def test_arguments_that_make_no_sense(wrong: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        CoPool(**wrong)
