"""What is done to a sparse pooled graph at the end, on two graphs and one without edges."""

from __future__ import annotations

import torch

from poolbench.linalg import Ragged, Sparse, to_padded
from poolbench.pool.base.postprocess import divided_by_largest, post_process

F64 = torch.float64
A = torch.block_diag(
    torch.tensor([[5.0, 2.0, 0.0], [2.0, 0.0, -4.0], [0.0, -4.0, 0.0]], dtype=F64),
    torch.tensor([[0.0, 0.5], [0.5, 0.25]], dtype=F64),
    torch.zeros(2, 2, dtype=F64),
)


def graphs(a: torch.Tensor = A) -> Sparse:
    row, col = a.nonzero(as_tuple=True)
    return Sparse.from_edges(row, col, a[row, col], Ragged(torch.tensor([0, 3, 5, 7])), symmetric=True)


def test_nothing_is_asked_for() -> None:
    a = graphs()
    assert torch.equal(post_process(a).to_dense(), A)
    unweighted = a.with_value(None, symmetric=True)
    assert post_process(unweighted, edge_weight_norm=True).value is None


def test_each_step() -> None:
    bare = A - torch.diag(A.diagonal())
    assert torch.equal(post_process(graphs(), remove_self_loops=True).to_dense(), bare)
    d = A.sum(1).clamp(min=1e-8)
    want = A / (d.unsqueeze(1) * d).sqrt()
    torch.testing.assert_close(post_process(graphs(), degree_norm=True).to_dense(), want)
    largest = torch.tensor([5.0] * 3 + [0.5] * 2 + [1.0] * 2, dtype=F64)
    torch.testing.assert_close(post_process(graphs(), edge_weight_norm=True).to_dense(), A / largest.unsqueeze(1))


def test_the_steps_in_their_order() -> None:
    """Loops go first, so they count neither in the degrees nor as the largest weight."""
    bare = (A - torch.diag(A.diagonal())).abs()
    d = bare.sum(1).clamp(min=1e-8)
    norm = bare / (d.unsqueeze(1) * d).sqrt()
    top = torch.stack([norm[:3].max(), norm[3:5].max(), torch.ones((), dtype=F64)]).repeat_interleave(
        torch.tensor([3, 2, 2])
    )
    a = post_process(graphs(A.abs()), remove_self_loops=True, degree_norm=True, edge_weight_norm=True)
    torch.testing.assert_close(a.to_dense(), norm / top.unsqueeze(1))
    assert a.symmetric


def test_edges_of_next_to_no_weight_are_dropped() -> None:
    a = graphs()
    value = a.weights.clone()
    value[1], value[2] = 1e-9, -1e-9
    assert post_process(a.with_value(value)).col.numel() == a.col.numel() - 2


def test_the_gradient_passes() -> None:
    a = graphs()

    def function(value: torch.Tensor) -> torch.Tensor:
        return post_process(a.with_value(value), degree_norm=True, edge_weight_norm=True).to_dense()

    value = a.weights.abs() + 0.1 * torch.rand(a.col.numel(), dtype=F64)  # no two alike
    assert torch.autograd.gradcheck(function, value.requires_grad_())


def test_a_graph_of_zeros_stays() -> None:
    a = graphs()
    assert not divided_by_largest(a.with_value(torch.zeros_like(a.weights))).weights.any()


def test_a_node_that_hears_nobody_sends_nothing() -> None:
    """Its row sum is 0: clamped, the weight of its edges would be 1e4."""
    one = torch.ones(2, dtype=F64)
    path = Sparse.from_edges(torch.tensor([1, 2]), torch.tensor([0, 1]), one, Ragged.single(3))  # 0 -> 1 -> 2
    want = torch.zeros(3, 3, dtype=F64)
    want[2, 1] = 1.0
    torch.testing.assert_close(post_process(path, degree_norm=True).to_dense(), want)
    _, dense = to_padded(torch.zeros(3, 1, dtype=F64), path)
    torch.testing.assert_close(post_process(dense, degree_norm=True).value[0], want)
