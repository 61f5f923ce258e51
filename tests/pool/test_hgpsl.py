"""HGPSLPool: the score by hand, the learned edges against the formula on dense matrices, arguments and edge cases."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from poolbench.pool import HGPSLPool
from poolbench.pool.base.src import SparseSelection

F64 = torch.float64
SAMPLES = pytest.mark.parametrize("sample", [True, False])
KINDS = pytest.mark.parametrize("sparse", [True, False])


def pool(**changes: Any) -> HGPSLPool:
    torch.manual_seed(0)
    return HGPSLPool(**({"in_channels": 3, "return_selection": True} | changes)).double()


def random_graph(n: int, seed: int = 0, density: float = 0.15) -> tuple[Tensor, Tensor]:
    """x and a directed, weighted A with self-loops; A[i, j] is the weight of the edge i -> j."""
    g = torch.Generator().manual_seed(seed)
    a = (torch.rand(n, n, generator=g) < density) * (torch.rand(n, n, generator=g, dtype=F64) + 0.5)
    return torch.randn(n, 3, generator=g, dtype=F64), a


def call(made: HGPSLPool, x: Tensor, a: Tensor, **how: Any) -> Any:
    """A dense matrix of ours is read by rows as receivers."""
    return made(x, a.T.contiguous(), **how)


def sparsemax(z: Tensor) -> Tensor:
    """Of one row, by sorting."""
    u = z.sort(descending=True).values
    r = 1 + torch.arange(len(z))
    size = int(r[1 + r * u > u.cumsum(0)].max())
    return (z - (u[:size].sum() - 1) / size).clamp(min=0)


def learned(made: HGPSLPool, x: Tensor, a: Tensor, kept: Tensor) -> Tensor:
    """A'_ij of the formula, row by row."""
    assert made.attention is not None
    w = made.attention.weight.detach().squeeze(0)
    reach = torch.linalg.matrix_power((a != 0).double() + torch.eye(len(a)), made.hops) > 0
    out = torch.zeros(len(kept), len(kept), dtype=F64)
    for p, i in enumerate(kept.tolist()):
        others = [q for q, j in enumerate(kept.tolist()) if not made.sample or reach[i, j]]
        e = torch.stack([torch.cat([x[i], x[kept[q]]]) @ w for q in others])
        e = torch.nn.functional.leaky_relu(e, made.negative_slope) + made.lamb * a[i, kept[others]]
        out[p, others] = sparsemax(e) if made.sparse else e.softmax(0)
    return out


@SAMPLES
@KINDS
@pytest.mark.parametrize("hops", [1, 2, 4])
def test_edges_are_those_of_the_formula(sample: bool, sparse: bool, hops: int) -> None:
    for seed in range(3):
        x, a = random_graph(14, seed)
        made = pool(sample=sample, sparse=sparse, hops=hops, lamb=0.7, ratio=0.6)
        out = call(made, x, a)
        want = learned(made, x, a, out.s.kept)
        torch.testing.assert_close(out.a.T, want)
        torch.testing.assert_close(out.a.sum(0), torch.ones(len(want), dtype=F64))
        assert torch.equal(out.x, x[out.s.kept])


def test_the_score_by_hand() -> None:
    # a path 0 - 1 - 2 of weights 1 and 4, and 3 alone: d = 1, 5, 4
    a = torch.zeros(4, 4, dtype=F64)
    a[0, 1] = a[1, 0] = 1.0
    a[1, 2] = a[2, 1] = 4.0
    x = torch.tensor([[1.0, 0.0], [2.0, 1.0], [-1.0, 3.0], [0.5, -0.5]], dtype=F64)
    score = call(pool(in_channels=2, ratio=1.0), x, a).score
    root5 = 5**0.5
    first = abs(1 - 2 / root5) + 1 / root5
    second = abs(2 - (1 / root5 - 4 / (2 * root5))) + abs(1 - 4 * 3 / (2 * root5))
    torch.testing.assert_close(score[[0, 1, 3]], torch.tensor([first, second, 1.0], dtype=F64))
    walk = call(pool(in_channels=2, ratio=1.0, normalisation="rw"), x, a).score
    want = [abs(1 - 2) + abs(0 - 1), abs(2 - (1 - 4) / 5) + abs(1 - 12 / 5), abs(-1 - 2) + abs(3 - 1), 1.0]
    torch.testing.assert_close(walk, torch.tensor(want, dtype=F64))


def test_the_degree_of_a_score_is_what_a_node_sends() -> None:
    x, a = random_graph(9)
    inverse = torch.where(a.sum(1) > 0, a.sum(1), torch.inf).rsqrt()
    predicted = (inverse.unsqueeze(1) * a * inverse).T @ x
    torch.testing.assert_close(call(pool(), x, a).score, (x - predicted).abs().sum(1))


def test_without_structure_learning_it_is_the_induced_subgraph() -> None:
    x, a = random_graph(9)
    made = pool(structure_learning=False)
    assert not list(made.parameters())
    out = call(made, x, a)
    kept = out.s.kept
    assert torch.equal(out.a.T, a[kept][:, kept])
    index = a.nonzero().T
    edges = made(x, index, edge_attr=torch.arange(index.shape[1])).edge_attr
    assert torch.equal(index[:, edges].unique(), kept[torch.isin(kept, index[:, edges])])


@SAMPLES
@KINDS
def test_derivatives_are_right(sample: bool, sparse: bool) -> None:
    x, a = random_graph(7, density=0.3)
    index = a.nonzero().T
    made = pool(sample=sample, sparse=sparse, hops=2, ratio=0.8)
    (weights,) = made.parameters()

    def function(x: Tensor, weight: Tensor, attention: Tensor) -> tuple[Tensor, ...]:
        out = torch.func.functional_call(made, {"attention.weight": attention}, (x, index), {"edge_weight": weight})
        return out.x, out.edge_weight

    assert gradcheck(function, (x.requires_grad_(), a[tuple(index)].requires_grad_(), weights))


@SAMPLES
def test_kept_nodes_in_any_order(sample: bool) -> None:
    x, a = random_graph(9)
    made = pool(sample=sample)
    out = call(made, x, a)
    order = torch.tensor([3, 0, 4, 1, 2])
    turned = call(made, x, a, s=SparseSelection.keep(out.s.kept[order], None, out.s.nodes))
    torch.testing.assert_close(turned.a, out.a[order][:, order])


@SAMPLES
def test_a_single_node_hears_itself(sample: bool) -> None:
    out = pool(sample=sample)(torch.randn(3, 3, dtype=F64), torch.zeros(2, 0, dtype=torch.int64), torch.arange(3))
    assert out.edge_index.tolist() == [[0, 1, 2], [0, 1, 2]]
    assert out.edge_weight.tolist() == [1.0, 1.0, 1.0]


def test_without_edges_attention_alone_decides() -> None:
    x = torch.randn(6, 3, generator=torch.Generator().manual_seed(0), dtype=F64)
    none = torch.zeros(6, 6, dtype=F64)
    whole = pool(sample=False)
    out = call(whole, x, none)
    torch.testing.assert_close(out.score, x.abs().sum(1))
    torch.testing.assert_close(out.a.T, learned(whole, x, none, out.s.kept))
    assert torch.equal(call(pool(), x, none).a, torch.eye(3, dtype=F64))  # nobody is within reach


def test_a_long_path_forms_no_pairs_of_all_nodes() -> None:
    """10^8 pairs of kept nodes would take gigabytes."""
    n = 20_000
    i = torch.arange(n - 1)
    index = torch.cat([torch.stack([i, i + 1]), torch.stack([i + 1, i])], 1)
    out = pool()(torch.randn(n, 3, generator=torch.Generator().manual_seed(0), dtype=F64), index)
    ends = out.s.kept[out.edge_index]
    assert (ends[0] - ends[1]).abs().max() == 4
    assert out.edge_index.shape[1] <= 9 * len(out.x)


@pytest.mark.parametrize(
    "arguments", [{"normalisation": "row"}, {"hops": 0}, {"ratio": 1.5}, {"sample": 1}, {"lamb": "1"}], ids=str
)
def test_arguments_out_of_range_are_one_line(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=rf"^{next(iter(arguments))}=[^\n]*$"):
        HGPSLPool(**arguments)
