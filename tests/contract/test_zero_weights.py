"""A stored zero is no edge: a graph with entries of weight 0 gives the bits of the graph without them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from registry import Graphs, Registered, graphs
from torch import Tensor

from poolbench.pool.base.aggregation import REDUCTIONS

SIZES = (6, 1, 9, 3, 12)


def with_zeros(graph: Graphs, seed: int) -> tuple[Tensor, Tensor]:
    """The edges and half of the pairs of one graph that are none, self-loops too, with a weight of 0, in any order."""
    index, weight = graph.edges
    none = ((graph.a == 0) & (graph.i == graph.i.unsqueeze(1))).nonzero().T
    draw = torch.Generator().manual_seed(seed)
    none = none[:, torch.randperm(none.shape[1], generator=draw)[: none.shape[1] // 2]]
    index, weight = torch.cat([index, none], 1), torch.cat([weight, weight.new_zeros(none.shape[1])])
    order = torch.randperm(weight.numel(), generator=draw)
    return index[:, order], weight[order]


def answer(module: Any, graph: Graphs, index: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    torch.manual_seed(0)
    out = module(graph.x, index, graph.i, edge_weight=weight)
    k = out.x.shape[0]
    a = out.x.new_zeros(k, k).index_put(tuple(out.a), out.edge_weight, accumulate=True)
    return out.x, a, out.losses


@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_an_entry_of_weight_zero_is_no_edge(pool: Registered, directed: bool, weighted: bool) -> None:
    kinds = [{"connect_red_op": how} for how in REDUCTIONS] if "connect_red_op" in pool.takes else [{}]
    for seed, kind in enumerate(kinds):
        module, graph = pool.make(**kind), graphs(*SIZES, seed=seed, directed=directed, density=0.25)
        (index, weight), (wider, zeros) = graph.edges, with_zeros(graph, seed)
        if not weighted:
            weight, zeros = weight.sign(), zeros.sign()
        ours, wanted = answer(module, graph, wider, zeros), answer(module, graph, index, weight)
        torch.testing.assert_close(ours, wanted, rtol=0.0, atol=0.0)


def test_parts_of_an_edge_that_add_up_to_zero(pool: Registered) -> None:
    module, graph = pool.make(), graphs(*SIZES, density=0.25)
    index, weight = graph.edges
    none = ((graph.a == 0) & (graph.i == graph.i.unsqueeze(1))).nonzero().T[:, ::3]
    one = weight.new_ones(none.shape[1])
    ours = answer(module, graph, torch.cat([index, none, none], 1), torch.cat([weight, one, -one]))
    torch.testing.assert_close(ours, answer(module, graph, index, weight), rtol=0.0, atol=0.0)
