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
from torch_geometric.nn import GCNConv, aggr

from poolbench.linalg import Ragged, Sparse
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
        (lambda: GraphMultisetTransformerPool(4, keys="sage"), "keys='sage': one of linear, gcn"),
        (lambda: PowerMeanPool(0.0), "p=0"),
    ],
)
def test_impossible_arguments_are_refused(make: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        make()


def convolved() -> GraphMultisetTransformerPool:
    torch.manual_seed(0)
    return GraphMultisetTransformerPool(C, 3, heads=2, layer_norm=True, in_channels=F, keys="gcn").double()


def edges() -> tuple[Tensor, Tensor]:
    """edge_index and weights within the graphs of `batch`, in one direction each."""
    i = batch()[1]
    hit = torch.rand(18, 18, generator=torch.Generator().manual_seed(2)) < 0.5
    index = (hit & (i[:, None] == i) & ~torch.eye(18, dtype=torch.bool)).nonzero().T
    return index, torch.rand(index.shape[1], dtype=F64, generator=torch.Generator().manual_seed(3)) + 0.5


def test_keys_and_values_by_graph_convolutions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two GCNConv of PyG make keys and values of the nodes; the rest is the attention of torch, a graph at a time."""
    monkeypatch.setattr("poolbench.linalg.matrix.EPS", 0.0)
    pool, (x, i), (index, weight) = convolved(), batch(), edges()
    index, weight = torch.cat([index, index.flip(0)], 1), weight.repeat(2)  # PyG's norm is of the receivers alone
    found = pool(x, i, edge_index=index, edge_weight=weight)
    first, c = pool.blocks.pma1, C
    attention, made = first.mab.attn, []
    for part, wide in enumerate(("query", "key", "value")):
        layer = GCNConv(c, c).double() if wide != "query" else nn.Linear(c, c).double()
        linear = layer if wide == "query" else layer.lin
        linear.weight.data = attention.in_proj_weight.data[part * c : (part + 1) * c]
        layer.bias.data = attention.in_proj_bias.data[part * c : (part + 1) * c]
        made.append(layer)
    query, key, value = made
    y = pool.projection(x)
    k, v, q = key(y, index, weight), value(y, index, weight), query(first.seed[0])
    for graph, size in enumerate(SIZES):
        own = i == graph
        if not size:
            assert not found[graph].any()
            continue
        heads = [torch.softmax(a @ b.T / (c // 2) ** 0.5, -1) @ d
                 for a, b, d in zip(q.split(2, 1), k[own].split(2, 1), v[own].split(2, 1), strict=True)]  # fmt: skip
        h = first.mab.layer_norm1(attention.out_proj(torch.cat(heads, 1)) + first.seed[0])
        rows = first.mab.layer_norm2(h + first.mab.lin(h).relu())[None]
        for encoder in pool.blocks.encoders:
            rows = encoder(rows)
        torch.testing.assert_close(found[graph], pool.blocks.pma2(rows)[0, 0])


def test_a_readout_of_a_graph_takes_every_form_of_it() -> None:
    pool, (x, i), (index, weight) = convolved(), batch(), edges()
    want = pool(x, i, edge_index=index, edge_weight=weight)
    dense = torch.zeros(18, 18, dtype=F64).index_put((index[1], index[0]), weight)  # by rows as receivers
    torch.testing.assert_close(pool(x, i, a=dense), want)
    order = torch.randperm(18, generator=torch.Generator().manual_seed(4))
    torch.testing.assert_close(pool(x[order], i[order], a=dense[order][:, order]), want)
    mask = torch.arange(11) < torch.tensor(SIZES)[:, None]
    wide = torch.full((len(SIZES), 11, F), torch.nan, dtype=F64).masked_scatter(mask[..., None], x)
    blocks = torch.zeros(len(SIZES), 11, 11, dtype=F64)
    for graph, size in enumerate(SIZES):
        blocks[graph, :size, :size] = dense[i == graph][:, i == graph]
    torch.testing.assert_close(pool(wide, a=blocks, mask=mask), want)
    a = Sparse.from_edges(index[1], index[0], weight, Ragged.from_index(i, len(SIZES)))
    torch.testing.assert_close(pool(x, a.nodes, a=a), want)
    torch.testing.assert_close(pool(x, a=a), want)
    (grad,) = torch.autograd.grad(pool(x, i, edge_index=index, edge_weight=weight.requires_grad_()).sum(), weight)
    assert (grad != 0).any()
    for given in ({}, {"batch": i}):
        with pytest.raises(TypeError, match="needs a graph: give edge_index"):
            pool(x, **given)
    with pytest.raises(ValueError, match="nodes of another matrix"):
        pool(x, Ragged.from_index(i, len(SIZES)), a=a)
    with pytest.raises(TypeError, match="edge_index is another name of a"):
        pool(x, i, a=dense, edge_index=index)
    plain = GraphMultisetTransformerPool(C, in_channels=F).double()
    assert torch.equal(plain(x, i, edge_index=index), plain(x, i)), "which looks at no edges"


def test_weights_by_graph_convolutions_can_be_drawn_anew() -> None:
    pool = convolved()
    before = {name: value.clone() for name, value in pool.named_parameters()}
    torch.manual_seed(5)
    pool.reset_parameters()
    assert all(not torch.equal(pool.get_parameter(name), value) or (value == value.flatten()[0]).all()
               for name, value in before.items())  # fmt: skip
    assert not any("pma1.lin" in name for name in before), "no layer without a use"
