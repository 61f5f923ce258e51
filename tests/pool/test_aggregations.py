"""The set readouts: PyG's values and gradients, modes and padding, arguments, the cost of mixed sizes."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch_geometric.nn import aggr

from poolbench.linalg import Ragged
from poolbench.pool import (
    DeepSetsPool,
    GraphMultisetTransformerPool,
    PowerMeanPool,
    Set2SetPool,
    SetTransformerPool,
    SoftmaxPool,
)

F64 = torch.float64
SIZES, F, C = [5, 1, 0, 9, 3], 3, 4


def readouts() -> dict[str, Any]:
    torch.manual_seed(0)
    made = {
        "softmax": SoftmaxPool(0.7, learn=True),
        "softmax-fixed": SoftmaxPool(2.0),
        "powermean": PowerMeanPool(1.5, learn=True),
        "deepsets": DeepSetsPool(C, in_channels=F),
        "set2set": Set2SetPool(C, steps=4, in_channels=F),
        "settransformer": SetTransformerPool(C, in_channels=F),
        "settransformer-more": SetTransformerPool(C, 2, 2, 2, heads=2, layer_norm=True, in_channels=F),
        "gmt": GraphMultisetTransformerPool(C, in_channels=F),
        "gmt-more": GraphMultisetTransformerPool(C, 3, 2, heads=2, layer_norm=True, in_channels=F),
    }
    return {name: module.double() for name, module in made.items()}


each = pytest.mark.parametrize("name", readouts())


def batch() -> tuple[Tensor, Tensor]:
    x = torch.randn(sum(SIZES), F, dtype=F64, generator=torch.Generator().manual_seed(1))
    return x, torch.repeat_interleave(torch.tensor(SIZES))


def pyg(pool: Any) -> tuple[nn.Module, nn.Module]:
    """(what brings the features to their width, PyG's aggregation with the weights of `pool`)."""
    projection = getattr(pool, "projection", nn.Identity())
    if isinstance(pool, SoftmaxPool):
        made = aggr.SoftmaxAggregation(t=float(torch.as_tensor(pool.t).detach()), learn=True)
    elif isinstance(pool, PowerMeanPool):
        made = aggr.PowerMeanAggregation(p=float(torch.as_tensor(pool.p).detach()), learn=True)
    elif isinstance(pool, DeepSetsPool):
        made = aggr.DeepSetsAggregation(nn.Sequential(nn.ReLU(), pool.inner), pool.outer)
    elif isinstance(pool, Set2SetPool):
        made = aggr.Set2Set(C, pool.steps)
        made.lstm.load_state_dict({f"{n}_l0": w for n, w in pool.lstm.state_dict().items()})
    else:
        made = pool.blocks
    return projection, made.double()


@each
def test_the_values_and_gradients_are_those_of_pyg(name: str) -> None:
    pool = readouts()[name]
    projection, theirs = pyg(pool)
    x, i = batch()
    wanted_x, found_x = x.clone().requires_grad_(), x.clone().requires_grad_()
    real = torch.tensor(SIZES) > 0
    found = pool(found_x, i)
    wanted = theirs(projection(wanted_x), i, dim_size=len(SIZES))
    torch.testing.assert_close(found[real], wanted[real])
    assert not found[~real].any()
    torch.autograd.backward([found.square().sum(), wanted[real].square().sum()])
    torch.testing.assert_close(found_x.grad, wanted_x.grad)


@each
def test_padding_and_layouts_change_nothing(name: str) -> None:
    pool = readouts()[name]
    x, i = batch()
    want = pool(x, i)
    mask = torch.arange(11) < torch.tensor(SIZES)[:, None]
    for filling in (0.0, 50.0, torch.nan):
        wide = torch.full((len(SIZES), 11, F), filling, dtype=F64).masked_scatter(mask[..., None], x).requires_grad_()
        out = pool(wide, mask=mask)
        torch.testing.assert_close(out, want)
        (grad,) = torch.autograd.grad(out.square().sum(), wide)
        assert grad.isfinite().all()
        assert not grad[~mask].any()
    torch.testing.assert_close(torch.cat([pool(part) for part in x.split(SIZES)]), want)
    assert want.shape[1] == pool.out_channels(F)


def test_softmax_and_power_mean_run_from_the_mean_to_the_maximum() -> None:
    x = torch.tensor([[1.0, 3.0], [3.0, 2.0]], dtype=F64)
    torch.testing.assert_close(SoftmaxPool(0.0)(x), x.mean(0, keepdim=True))
    torch.testing.assert_close(PowerMeanPool(1.0)(x), x.mean(0, keepdim=True))
    torch.testing.assert_close(SoftmaxPool(200.0)(x), x.amax(0, keepdim=True))
    torch.testing.assert_close(PowerMeanPool(-1.0)(x), torch.tensor([[1.5, 2.4]], dtype=F64))  # harmonic
    torch.testing.assert_close(PowerMeanPool(1.0)(-x), -x.mean(0, keepdim=True))
    low = torch.tensor([[-5.0], [2.0]], dtype=F64)
    torch.testing.assert_close(PowerMeanPool(2.0)(low), ((1e-8 + torch.tensor([[4.0]], dtype=F64)) / 2).sqrt())


class _Largest(TorchDispatchMode):
    """Entries of the largest tensor that was made."""

    entries = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.entries = max([self.entries, *(t.numel() for t in tree_leaves(out) if isinstance(t, Tensor))])
        return out


def test_one_large_graph_does_not_pad_the_small_ones() -> None:
    """64 graphs of 8 nodes beside one of 600: padded to the largest, attention alone would hold 65 x 600^2 numbers."""
    sizes = [600] + [8] * 64
    nodes = Ragged(torch.tensor([0, *sizes]).cumsum(0), sizes)
    pool = SetTransformerPool(C, in_channels=F)
    with _Largest() as largest, torch.no_grad():
        pool(torch.randn(sum(sizes), F), nodes)
    assert largest.entries <= 2 * 600**2


def test_importing_the_module_does_not_import_pyg() -> None:
    code = "import sys, poolbench.pool.readouts.aggregations; sys.exit('torch_geometric' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: DeepSetsPool(0), "channels=0"),
        (lambda: Set2SetPool(4, steps=0), "steps=0"),
        (lambda: SetTransformerPool(4, seeds=0), "seeds=0"),
        (lambda: GraphMultisetTransformerPool(4, heads=3), "heads=3"),
        (lambda: GraphMultisetTransformerPool(4, dropout=1.0), "dropout=1.0"),
        (lambda: PowerMeanPool(0.0), "p=0"),
    ],
)
def test_impossible_arguments_are_refused(make: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        make()
