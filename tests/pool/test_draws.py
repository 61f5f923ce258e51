"""Draws by hashing: known values, spread, and what they depend on."""

from __future__ import annotations

import torch

from poolbench.linalg import Ragged, Sparse
from poolbench.pool.base.draws import mix, node_draws, standing, uniform


def ring(sizes: list[int]) -> Sparse:
    ptr = torch.tensor([0, *sizes]).cumsum(0)
    nodes = Ragged(ptr, sizes)
    each = torch.arange(sum(sizes))
    start, size = ptr[:-1][nodes.index], nodes.sizes[nodes.index]
    after = start + (each - start + 1) % size
    return Sparse.from_edges(torch.cat([each, after]), torch.cat([after, each]), None, nodes)


def test_mix_is_splitmix64() -> None:
    """The first outputs of SplitMix64 from the states 0 and 1234567 (the published generator's test values)."""
    golden = 0x9E3779B97F4A7C15
    known = {0: 0xE220A8397B1DCDAF, 1234567: 6457827717110365317}
    for state, want in known.items():
        v = (state + golden) % (1 << 64)
        signed = torch.tensor([v - (1 << 64) if v >> 63 else v])
        assert int(mix(signed)) % (1 << 64) == want


def test_draws_are_spread_evenly() -> None:
    u = uniform(mix(torch.arange(20000)))
    assert ((u >= 0) & (u < 1)).all()
    assert torch.histc(u, 10, 0, 1).sub(2000).abs().max() < 200
    assert abs(float(torch.corrcoef(torch.stack([u[:-1], u[1:]]))[0, 1])) < 0.03


def test_a_draw_depends_on_the_graph_and_the_seed_alone() -> None:
    both, alone = node_draws(ring([5, 8]), 3), node_draws(ring([8]), 3)
    assert torch.equal(both[5:], alone)
    assert torch.equal(both[:5], alone[:5])  # equal degrees: counted by number
    assert not (node_draws(ring([8]), 4) == alone).any()
    assert node_draws(ring([8]), -1).unique().numel() == 8


def test_standing_is_by_degree_then_number() -> None:
    index = torch.tensor([[0, 1, 1, 2, 3, 4], [1, 0, 2, 1, 4, 3]])
    a = Sparse.from_edges(index[0], index[1], None, Ragged(torch.tensor([0, 3, 5, 5, 6]), [3, 2, 0, 1]))
    assert standing(a).tolist() == [1, 0, 2, 0, 1, 0]
