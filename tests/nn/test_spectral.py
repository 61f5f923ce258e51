"""Structure preservation: the quadratic form of the Laplacian before and after pooling."""

from __future__ import annotations

import pytest
import torch

from poolbench import config
from poolbench.errors import PoolBenchError
from poolbench.learn.build import build_model
from poolbench.linalg import Dense, Padded, Ragged, Sparse, to_padded
from poolbench.nn.model import DataFacts, Part
from poolbench.nn.spectral import Spectral, quadratic_form
from poolbench.pool import MinCutPool, NoPool, TopKPool

FACTS = DataFacts(in_channels=2, out_channels=0, mean_nodes=6.0)
SIZES = (5, 1, 6)


def graphs() -> tuple[torch.Tensor, Sparse, list[torch.Tensor]]:
    torch.manual_seed(0)
    blocks = []
    for n in SIZES:
        a = torch.rand(n, n, dtype=torch.float64).triu(1) * (torch.rand(n, n) < 0.6)
        blocks.append(a + a.T)
    row, col = torch.block_diag(*blocks).nonzero(as_tuple=True)
    a = Sparse.from_edges(row, col, torch.block_diag(*blocks)[row, col], Ragged(torch.tensor([0, 5, 6, 12]), SIZES))
    return torch.randn(12, 5, dtype=torch.float64), a, blocks


def plain(x: torch.Tensor, a: torch.Tensor) -> torch.Tensor:
    """x' (D - A) x as the sum over edges of a_uv (x_u - x_v)^2 / 2."""
    n = len(a)
    out = torch.zeros(x.shape[1], dtype=x.dtype)
    for u in range(n):
        for v in range(n):
            out += a[u, v] * (x[u] - x[v]) ** 2 / 2
    return out


def test_the_form_is_the_sum_of_squared_differences_along_edges() -> None:
    x, a, blocks = graphs()
    wanted = torch.stack([plain(part, block) for part, block in zip(x.split(SIZES), blocks, strict=True)])
    torch.testing.assert_close(quadratic_form(x, a), wanted)
    padded, dense = to_padded(x, a)
    assert isinstance(dense, Dense) and isinstance(dense.nodes, Padded)
    torch.testing.assert_close(quadratic_form(padded, dense), wanted)


@pytest.mark.parametrize("part", [Part(MinCutPool, {"ratio": 0.5}), Part(TopKPool, {"ratio": 0.5})])
def test_what_pooling_changes_is_compared_graph_by_graph(part: Part) -> None:
    x, a, blocks = graphs()
    model = Spectral(FACTS, part, eigenvectors=3).double()
    out = model(x, a)
    assert out.y.shape == (3, 5)
    for g, (rows, block) in enumerate(zip(x.split(SIZES), blocks, strict=True)):
        pooled = model.pool(rows, block)
        torch.testing.assert_close(out.y[g], plain(rows, block) - plain(pooled.x, pooled.a))


def test_nothing_changes_where_nothing_is_pooled() -> None:
    x, a, _ = graphs()
    assert not Spectral(FACTS, Part(NoPool), eigenvectors=3)(x, a).y.any()


@pytest.mark.parametrize(
    ("pool", "model", "reason"),
    [
        ({"_target_": "poolbench.pool.readouts.globalpool.GlobalSumPool"}, {}, "leaves no graph"),
        ({"_target_": "poolbench.pool.eigenpool.EigenPool", "k": 3, "num_modes": 2}, {}, "pool.num_modes=1"),
        ({"_target_": "poolbench.pool.nopool.NoPool"}, {"eigenvectors": 0}, "model.eigenvectors=0"),
    ],
)
def test_what_cannot_be_compared_is_refused(pool: dict, model: dict, reason: str) -> None:
    with pytest.raises(PoolBenchError, match=reason):
        build_model(config.Part("poolbench.nn.spectral.Spectral", model), config.Part.of("pool", pool), FACTS)
