"""Greedy maximal matching of all graphs of a batch at once.

Rounds: Blelloch, Fineman, Shun, "Greedy Sequential Maximal Independent Set and Matching are Parallel on Average",
SPAA 2012, arXiv 1202.3205; in pooling: Landolfi, "Revisiting Edge Pooling in Graph Neural Networks", ESANN 2022.
"""

from __future__ import annotations

import torch
from torch import Tensor

SLOW = 0.1  # on one core of an x86 CPU the pass over all edges takes about as long as six rounds


@torch.no_grad()
def greedy_matching(row: Tensor, col: Tensor, rank: Tensor, num_nodes: int) -> Tensor:
    """The partner of each node, itself where it has none: [n]. See `matched_edges`."""
    mate = torch.arange(num_nodes, device=row.device)
    taken = matched_edges(row, col, rank, num_nodes)
    u, v = row[taken], col[taken]
    mate[u], mate[v] = v, u
    return mate


@torch.no_grad()
def matched_edges(row: Tensor, col: Tensor, rank: Tensor, num_nodes: int) -> Tensor:
    """The edges that a greedy pass in the order of `rank` takes, in increasing number: [m] int64.

    The pass takes an edge if neither of its ends is matched yet. Here, with the same result: while edges are left, take
    each that ranks first at both its ends, then drop all edges at matched nodes. With ranks in random order that is
    O(log^2 n) rounds (expected) of cost O(edges left), for all graphs at once. Where ranks follow the structure, as on
    a path along which they rise or in a clique of equal scores, a round may take a single edge of a graph: after the
    first round that drops less than `SLOW` of the edges, the pass itself goes over the rest, on the host, O(E log E).

    Args:
        row, col: [e] int64, the ends of each edge. One entry an edge or both directions; a self-loop matches its node.
        rank: [e], distinct numbers, the smallest goes first: `invert(argsort(score, descending=True, stable=True))`.
        num_nodes: n.
    """
    worst = torch.iinfo(torch.int64).max
    left, ends = torch.arange(row.numel(), device=row.device), torch.stack([row, col])
    taken, free = [left[:0]], torch.ones(num_nodes, dtype=torch.bool, device=row.device)
    while left.numel():
        flat = ends.view(-1)
        first = row.new_full((num_nodes,), worst).scatter_reduce_(0, flat, rank.repeat(2), "amin")
        (best,) = (first.index_select(0, flat).view_as(ends) == rank).all(0).nonzero(as_tuple=True)
        taken.append(left.index_select(0, best))
        free.index_fill_(0, ends.index_select(1, best).view(-1), False)
        (stays,) = free.index_select(0, flat).view_as(ends).all(0).nonzero(as_tuple=True)
        slow = stays.numel() > (1 - SLOW) * left.numel()
        left, ends, rank = left.index_select(0, stays), ends.index_select(1, stays), rank.index_select(0, stays)
        if slow:
            taken.append(left.index_select(0, _one_by_one(ends[0], ends[1], rank)))
            break
    return torch.cat(taken).sort().values


def _one_by_one(row: Tensor, col: Tensor, rank: Tensor) -> Tensor:
    """The greedy pass: which edges it takes, [m]."""
    order = torch.argsort(rank)
    matched: set[int] = set()
    taken = []
    for e, u, v in zip(order.tolist(), row[order].tolist(), col[order].tolist(), strict=True):
        if u not in matched and v not in matched:
            matched.update((u, v))
            taken.append(e)
    return torch.tensor(taken, dtype=torch.int64, device=row.device)
