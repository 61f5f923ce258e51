"""GSAPool: two scores, fused features, and edges whose weights no layer sees."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch_geometric.nn as pyg

from poolbench.pool import GSAPool
from poolbench.pool.base.convs import CONVS

# A path 0 - 1 - 2 and a node alone.
INDEX = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
X = torch.tensor([[1.0], [2.0], [3.0], [0.5]])


def by_hand(**arguments: Any) -> GSAPool:
    """Weights of 1 and biases of 0: the score of structure is the GCN of the feature, the other one the feature."""
    pool = GSAPool(0.5, in_channels=1, return_selection=True, **arguments)
    for name, p in pool.named_parameters():
        torch.nn.init.constant_(p, float(name.endswith("weight")))
    return pool


def test_by_hand() -> None:
    out = by_hand(alpha=0.6, fusion_conv=None)(X, INDEX)
    gcn = torch.tensor([1 / 2 + 2 / 6**0.5, 1 / 6**0.5 + 2 / 3 + 3 / 6**0.5, 2 / 6**0.5 + 3 / 2, 0.5])
    score = 0.6 * gcn + 0.4 * X.squeeze()
    torch.testing.assert_close(out.score, score)
    assert out.perm.tolist() == [1, 2]
    torch.testing.assert_close(out.x, (score.tanh().unsqueeze(-1) * X)[1:3])
    assert out.edge_index.tolist() == [[1, 0], [0, 1]]


def test_dropped_nodes_reach_their_neighbours_by_fusion() -> None:
    pool = by_hand(fusion_conv="graphconv", multiplier=2.0)
    out = pool(X, INDEX)
    h = torch.tensor([2.0 + 1.0 + 3.0, 3.0 + 2.0])  # of the nodes 1 and 2: themselves and their neighbours
    torch.testing.assert_close(out.x.squeeze(), 2.0 * out.score[1:3].tanh() * h)
    again = pool(X, INDEX, s=torch.tensor([0, 3]))  # a choice of others is fused, too
    torch.testing.assert_close(again.x.squeeze(), torch.tensor([3.0, 0.5]))


def test_the_share_of_the_structure() -> None:
    for alpha, same in ((0.0, True), (0.5, False)):
        scores = [by_hand(alpha=alpha)(X, a).score for a in (INDEX, INDEX[:, :0])]
        assert torch.equal(*scores) == same


def test_weights_of_edges_are_carried_along_unseen() -> None:
    pool, weight = by_hand(), torch.tensor([7.0, 7.0, 5.0, 5.0])
    out, plain = pool(X, INDEX, edge_weight=weight), pool(X, INDEX)
    assert torch.equal(out.x, plain.x)
    assert torch.equal(out.score, plain.score)
    assert out.edge_weight.tolist() == [5.0, 5.0]


@pytest.mark.parametrize("fusion", [*CONVS, None, pyg.SAGEConv])
@pytest.mark.parametrize("structure", [*CONVS, pyg.TAGConv])
def test_a_graph_alone_and_in_a_batch(structure: Any, fusion: Any) -> None:
    torch.manual_seed(0)
    pool = GSAPool(0.6, pooling_conv=structure, fusion_conv=fusion, in_channels=3).double()
    x = torch.randn(7, 3, dtype=torch.float64)
    index = torch.cat([INDEX, INDEX + 4], 1)
    batch = torch.tensor([0] * 4 + [1] * 3)
    out, parts = pool(x, index, batch), [pool(x[:4], INDEX), pool(x[4:], INDEX)]
    torch.testing.assert_close(out.x, torch.cat([p.x for p in parts]), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(out.score, torch.cat([p.score for p in parts]), rtol=1e-12, atol=1e-12)


def test_arguments_that_make_no_sense() -> None:
    for wrong in (-0.1, 1.5):
        with pytest.raises(ValueError, match=rf"alpha={wrong!r}: a share of the structure in \[0, 1\]"):
            GSAPool(0.5, alpha=wrong)
    with pytest.raises(ValueError, match="alpha='all': a number is expected"):
        GSAPool(0.5, alpha="all")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="pooling_conv='gin': one of gcn"):
        GSAPool(0.5, pooling_conv="gin")
    with pytest.raises(ValueError, match="fusion_conv='false': one of gcn"):
        GSAPool(0.5, fusion_conv="false")
    with pytest.raises(ValueError, match="ratio=0: give a share"):
        GSAPool(0)
