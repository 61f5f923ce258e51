"""Which rows belong to which graph: how Ragged and Padded are made, and what they refuse."""

from __future__ import annotations

import pytest
import torch

from poolbench.linalg import Padded, Ragged


def test_from_index_counts_graphs_without_nodes() -> None:
    nodes = Ragged.from_index(torch.tensor([0, 0, 2, 2, 2]))
    assert nodes.sizes.tolist() == [2, 0, 3]
    assert nodes.num_graphs == 3
    assert nodes.index.tolist() == [0, 0, 2, 2, 2]
    assert Ragged.from_index(torch.tensor([0, 1]), num_graphs=4).sizes.tolist() == [1, 1, 0, 0]
    assert Ragged.from_index(torch.zeros(0, dtype=torch.int64)).num_graphs == 0


def test_from_index_takes_no_floats_and_reads_nothing_without_validation() -> None:
    with pytest.raises(TypeError, match="whole numbers"):
        Ragged.from_index(torch.tensor([0.0, 1.0]))
    nodes = Ragged.from_index(torch.tensor([0, 0, 2], device="meta"), 4, validate=False)  # there is nothing to read
    assert nodes.ptr.shape == (5,) and nodes.num_rows == 3


def test_from_index_takes_a_column_and_other_integers() -> None:
    assert Ragged.from_index(torch.tensor([[0], [1]], dtype=torch.int32)).sizes.tolist() == [1, 1]


@pytest.mark.parametrize("ids", [[1, 0], [-1, 0]])
def test_from_index_refuses_what_is_not_sorted(ids: list[int]) -> None:
    with pytest.raises(ValueError, match="i must"):
        Ragged.from_index(torch.tensor(ids))


@pytest.mark.parametrize("sizes", [[], [0], [3], [0, 2, 0, 1]], ids=str)
def test_ways_to_make_it_agree(sizes: list[int]) -> None:
    ptr = torch.tensor([0, *torch.tensor(sizes, dtype=torch.int64).cumsum(0).tolist()])
    for nodes in (Ragged(ptr), Ragged(ptr, sizes), Ragged.from_index(Ragged(ptr).index, len(sizes))):
        assert nodes.sizes.tolist() == nodes.host_sizes == sizes
        assert nodes.num_rows == sum(sizes)
        assert nodes.index.tolist() == [g for g, n in enumerate(sizes) for _ in range(n)]


def test_padded_without_a_mask_is_all_real() -> None:
    x = torch.randn(2, 3, 4)
    bare, full = Padded(2, 3, None), Padded(2, 3, torch.ones(2, 3, dtype=torch.bool))
    assert bare.sizes.tolist() == full.sizes.tolist() == [3, 3]
    assert bare.index.tolist() == [0, 0, 0, 1, 1, 1]
    for name in ("sum", "max", "mean", "softmax", "zero_padding"):
        torch.testing.assert_close(getattr(bare, name)(x), getattr(full, name)(x))


def test_values_at_padding_nodes_do_not_count() -> None:
    mask = torch.tensor([[True, False], [False, False]])
    nodes = Padded(2, 2, mask)
    x = torch.tensor([[[1.0], [torch.nan]], [[torch.inf], [torch.nan]]], requires_grad=True)
    for name, want in (("sum", [[1.0], [0.0]]), ("max", [[1.0], [0.0]]), ("mean", [[1.0], [0.0]])):
        out = getattr(nodes, name)(x)
        assert out.tolist() == want
        (grad,) = torch.autograd.grad(out.sum(), x)
        assert grad.flatten().tolist() == [1.0, 0.0, 0.0, 0.0]


def test_softmax_adds_up_to_one_in_each_graph_with_nodes() -> None:
    nodes = Ragged.from_index(torch.tensor([0, 0, 2]))
    x = torch.tensor([[1000.0], [-1000.0], [3.0]])
    torch.testing.assert_close(nodes.sum(nodes.softmax(x)), torch.tensor([[1.0], [0.0], [1.0]]))


def test_blocks_hold_each_graph_once_and_at_most_half_padding() -> None:
    sizes = [3, 0, 700, 4, 20, 2]
    nodes = Ragged(torch.tensor([0, *sizes]).cumsum(0), sizes)
    v = torch.randn(sum(sizes), 2, requires_grad=True)
    found = {}
    for graphs, block, real in nodes.blocks(v):
        assert 2 * real.sum() >= real.numel()
        assert not block[~real].any()
        found.update({int(g): rows[mask] for g, rows, mask in zip(graphs, block, real, strict=True)})
    assert sorted(found) == [0, 2, 3, 4, 5]
    for g, rows in found.items():
        assert torch.equal(rows, v.split(sizes)[g])
    (grad,) = torch.autograd.grad(sum(rows.sum() for rows in found.values()), v)
    assert torch.equal(grad, torch.ones_like(v))
    mask = torch.tensor([[True, False], [False, False]])
    ((graphs, block, real),) = Padded(2, 2, mask).blocks(torch.ones(2, 2, 1))
    assert graphs.tolist() == [0, 1]
    assert block.shape == (2, 2, 1)
    assert torch.equal(real, mask)
    assert Padded(2, 2, None).blocks(torch.ones(2, 2, 1))[0][2].all()


def test_nodes_graph_by_graph() -> None:
    nodes = Ragged(torch.tensor([0, 2, 2, 5]))
    assert nodes.numbers.tolist() == [0, 1, 0, 1, 2]
    assert nodes.together(torch.tensor([4, 1, 2, 0, 3])).tolist() == [1, 0, 4, 2, 3]
