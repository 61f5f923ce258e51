"""The convolutions inside operators are PyG's, on a directed graph with a self-loop and an isolated node."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
import torch_geometric.nn as pyg
from torch import Tensor, nn

from poolbench.linalg import Ragged, Sparse
from poolbench.pool.base.convs import CONVS, TorchLinear, conv, looped, pattern, propagate

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

from reference.convscores import LAYERS

F64 = torch.float64
INDEX = torch.tensor([[0, 1, 2, 2, 3, 1, 4], [1, 2, 1, 3, 0, 1, 3]])  # 1 -> 1 is a self-loop, 5 is alone
X = torch.randn(6, 4, generator=torch.Generator().manual_seed(0), dtype=F64)


def matrix(weight: Tensor | None = None) -> Sparse:
    return Sparse.from_edges(INDEX[1], INDEX[0], weight, Ragged.single(6))


def test_every_layer_is_compared() -> None:
    assert {name for name, _ in LAYERS.values()} == set(CONVS)


@pytest.mark.parametrize("out", [1, None, 3])
@pytest.mark.parametrize("kind", LAYERS)
def test_a_layer_is_pygs_and_sees_no_weights(kind: str, out: int | None) -> None:
    name, names = LAYERS[kind]
    torch.manual_seed(1)
    theirs = getattr(pyg, kind)(4, out or 4, **{"K": 1} if name == "cheb" else {}).double()
    for p in theirs.parameters():
        nn.init.normal_(p)
    ours = conv("gnn", name, None, out).double()
    weighted = matrix(torch.rand(7, dtype=F64) + 0.5)
    given = (X,) if name == "cheb" else (X, weighted)
    ours(*given)
    with torch.no_grad():
        for key, own in names.items():
            target = ours.get_parameter(own)
            target.copy_(theirs.get_parameter(key).reshape(target.shape))
    torch.testing.assert_close(ours(*given), theirs(X, INDEX), rtol=1e-12, atol=1e-12)
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())


def test_patterns() -> None:
    weight = torch.tensor([1.0, 2.0, 0.0, 4.0, 5.0, 6.0, -7.0])  # of 2 -> 1 nothing is left
    assert pattern(matrix(weight)).col.tolist() == [3, 0, 1, 1, 2, 4]
    loops = looped(matrix(weight))
    assert sorted(zip(loops.row.tolist(), loops.col.tolist(), strict=True)) == sorted(
        [(0, 3), (1, 0), (2, 1), (3, 2), (3, 4), *((i, i) for i in range(6))]
    )
    assert loops.value is None
    assert torch.equal(propagate(X, matrix())[5], X[5])  # alone


def test_initial_values_are_torchs() -> None:
    torch.manual_seed(0)
    layer = TorchLinear(400, 300)
    for tensor in layer.parameters():
        assert tensor.abs().max() <= 0.05
        assert abs(tensor.std() - 0.05 / 3**0.5) < 2e-3
    assert TorchLinear(None, None)(X.float()).shape == (6, 4)
    for width in (0, None):  # nothing to be scaled by: torch has no bias then
        assert TorchLinear(width, 3)(torch.empty(2, 0)).tolist() == [[0.0] * 3] * 2


def test_names_and_modules() -> None:
    own = nn.Linear(4, 1)
    assert conv("gnn", own, 4) is own
    assert isinstance(conv("gnn", pyg.TAGConv, 4), pyg.TAGConv)
    with pytest.raises(ValueError, match="gnn='gatt': one of gcn, sage, gat, graphconv, cheb, or a module"):
        conv("gnn", "gatt", 4)
