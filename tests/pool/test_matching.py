"""Greedy matching: by hand, against the sequential pass, on many graphs at once."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from poolbench.pool.base.matching import greedy_matching, matched_edges


def sequential(row: list[int], col: list[int], rank: list[int]) -> list[int]:
    """The definition: one edge after the other, taken if neither end is matched yet."""
    matched: set[int] = set()
    taken = []
    for e in sorted(range(len(rank)), key=rank.__getitem__):
        if row[e] not in matched and col[e] not in matched:
            matched |= {row[e], col[e]}
            taken.append(e)
    return sorted(taken)


def random_edges(n: int, e: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    row, col = torch.randint(n, (2, e), generator=g)
    return row, col, torch.randperm(e, generator=g)


def test_a_path_by_hand() -> None:
    # 0 - 1 - 2 - 3, the middle edge first: the outer nodes stay alone.
    row, col = torch.tensor([0, 1, 2]), torch.tensor([1, 2, 3])
    assert greedy_matching(row, col, torch.tensor([1, 0, 2]), 4).tolist() == [0, 2, 1, 3]
    assert greedy_matching(row, col, torch.tensor([0, 1, 2]), 4).tolist() == [1, 0, 3, 2]
    assert matched_edges(row, col, torch.tensor([2, 1, 0]), 4).tolist() == [0, 2]


def test_a_self_loop_matches_its_node() -> None:
    row, col = torch.tensor([0, 1]), torch.tensor([1, 1])
    assert matched_edges(row, col, torch.tensor([1, 0]), 2).tolist() == [1]
    assert greedy_matching(row, col, torch.tensor([1, 0]), 2).tolist() == [0, 1]
    assert greedy_matching(row, col, torch.tensor([0, 1]), 2).tolist() == [1, 0]


def test_of_two_directions_the_better_one_is_taken() -> None:
    row, col = torch.tensor([0, 1]), torch.tensor([1, 0])
    assert matched_edges(row, col, torch.tensor([5, 3]), 2).tolist() == [1]


@pytest.mark.parametrize(("n", "e"), [(2, 1), (6, 9), (30, 40), (50, 400), (200, 150)])
@pytest.mark.parametrize("seed", range(5))
def test_it_is_the_sequential_pass(n: int, e: int, seed: int) -> None:
    row, col, rank = random_edges(n, e, seed)
    taken = matched_edges(row, col, rank, n)
    assert taken.tolist() == sequential(row.tolist(), col.tolist(), rank.tolist())
    mate = greedy_matching(row, col, rank, n)
    assert torch.equal(mate[mate], torch.arange(n))
    alone = mate == torch.arange(n)
    alone[row[taken]] = False  # matched by a self-loop
    assert not (alone[row] & alone[col]).any(), "the matching is not maximal"


def test_a_clique_of_equal_scores() -> None:
    """Ranks in the order of the entries: a round takes one edge, so most of it is the pass on the host."""
    row, col = (torch.ones(31, 31) - torch.eye(31)).nonzero(as_tuple=True)
    mate = greedy_matching(row, col, torch.arange(row.numel()), 31)
    assert mate.tolist() == [u + 1 - 2 * (u % 2) for u in range(30)] + [30]


def test_ranks_that_rise_along_a_path() -> None:
    n = 101
    row, col = torch.arange(n - 1), torch.arange(1, n)
    mate = greedy_matching(row, col, torch.arange(n - 1), n)
    assert mate.tolist() == [u + 1 - 2 * (u % 2) for u in range(n - 1)] + [n - 1]


def test_graphs_of_a_batch_do_not_see_each_other() -> None:
    (row, col, rank), (row2, col2, rank2) = random_edges(9, 20, 0), random_edges(7, 12, 1)
    ends = torch.cat([row, row2 + 9]), torch.cat([col, col2 + 9])
    together = greedy_matching(*ends, torch.cat([2 * rank, 2 * rank2 + 1]), 16)
    assert together[:9].tolist() == greedy_matching(row, col, rank, 9).tolist()
    assert (together[9:] - 9).tolist() == greedy_matching(row2, col2, rank2, 7).tolist()


def test_without_edges_or_nodes() -> None:
    none = torch.zeros(0, dtype=torch.int64)
    assert greedy_matching(none, none, none, 3).tolist() == [0, 1, 2]
    assert greedy_matching(none, none, none, 0).tolist() == []
    assert matched_edges(none, none, none, 3).tolist() == []
