"""The readouts that PyG has as aggregations: its values and gradients on batches, what the adapters are known for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor
from torch_geometric.nn import aggr

from poolbench import cli
from poolbench.nn.model import DataFacts, Part, build_readout
from poolbench.pool import (
    AggregationPool,
    DegreeScalerPool,
    GlobalMinPool,
    GlobalMulPool,
    GlobalStdPool,
    GlobalVarPool,
    MedianPool,
    MultiPool,
    QuantilePool,
    VariancePreservingPool,
)
from poolbench.pool.peers.readouts import PyGAggregation

F64 = torch.float64
SIZES = [5, 1, 0, 9, 3]
PEERS = Path(__file__).parents[2] / "conf" / "pool" / "peers"
QUANTILES = [0.40625, 0.15625, 0.5, 1.0]  # that float32 has, as PyG holds them there
SCALERS = ["identity", "amplification", "attenuation", "linear", "inverse_linear"]
ADAPTERS = ["pyg_equilibrium", "pyg_gru", "pyg_lcm", "pyg_lstm", "pyg_mlp", "pyg_patchtransformer"]


def batch(dtype: torch.dtype = F64) -> tuple[Tensor, Tensor]:
    """Features and graph ids of five graphs, one without nodes."""
    g = torch.Generator().manual_seed(1)
    return torch.randn(sum(SIZES), 3, dtype=dtype, generator=g), torch.repeat_interleave(torch.tensor(SIZES))


def pairs() -> list[tuple[Any, Any]]:
    """A readout and the aggregation that it is."""
    many = ["mean", "median", "std"]
    histogram = torch.bincount(torch.tensor([4, 4, 9]))
    scalers = aggr.DegreeScalerAggregation(many, SCALERS, histogram).double()
    return [
        (GlobalMinPool(), aggr.MinAggregation()),
        (GlobalMulPool(), aggr.MulAggregation()),
        (GlobalVarPool(), aggr.VarAggregation()),
        (GlobalStdPool(), aggr.StdAggregation()),
        (VariancePreservingPool(), aggr.VariancePreservingAggregation()),
        (MedianPool(), aggr.MedianAggregation()),
        *(
            (QuantilePool(QUANTILES, how), aggr.QuantileAggregation(QUANTILES, how).double())
            for how in ("linear", "lower", "higher", "nearest", "midpoint")
        ),
        (MultiPool(many), aggr.MultiAggregation(many)),
        (DegreeScalerPool(many, SCALERS, [4, 4, 9]).double(), scalers),
        (AggregationPool("max"), aggr.MaxAggregation()),
        (AggregationPool(aggr.SoftmaxAggregation), aggr.SoftmaxAggregation()),
    ]


@pytest.mark.parametrize(("pool", "theirs"), pairs(), ids=lambda m: type(m).__name__)
def test_values_and_gradients_are_pygs(pool: Any, theirs: Any) -> None:
    x, i = batch()
    x.requires_grad_()
    ours, wanted = pool(x, i), theirs(x, i, dim_size=len(SIZES))
    real = torch.tensor(SIZES) > 0  # of no nodes the product is 1 there
    torch.testing.assert_close(ours[real], wanted[real], rtol=1e-9, atol=1e-9)
    assert not ours[~real].any()
    assert ours.shape[1] == pool.out_channels(3)
    grads = [torch.autograd.grad(y[real].square().sum(), x)[0] for y in (ours, wanted)]
    torch.testing.assert_close(*grads, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("theirs", [aggr.MedianAggregation(), aggr.QuantileAggregation([0.25, 0.75])])
def test_a_graph_without_nodes_is_not_handed_to_an_aggregation_that_fails_on_it(theirs: Any) -> None:
    x, i = batch()
    out = AggregationPool(theirs)(x, 2 * i + 1, batch_size=2 * len(SIZES) + 2)
    for graph, row in enumerate(out[1::2].split(1)[: len(SIZES)]):
        own = x[i == graph]
        torch.testing.assert_close(row, theirs(own) if len(own) else torch.zeros_like(row))
    assert not out[::2].any()
    assert not out[-1].any()


def test_the_median_of_an_even_number_is_the_lower_one_and_quantiles_lie_side_by_side() -> None:
    x = torch.tensor([[4.0], [1.0], [3.0], [2.0]])
    assert MedianPool()(x).tolist() == [[2.0]]
    assert QuantilePool([0.0, 0.5, 1.0])(x).tolist() == [[1.0, 2.5, 4.0]]


def test_scalers_are_relative_to_the_sizes_of_the_training_graphs_which_a_model_fills_in() -> None:
    facts = DataFacts(3, 2, 4.0, sizes=[2, 4, 6])
    pool: Any = build_readout(Part(DegreeScalerPool, {"aggregations": ["mean"], "scalers": ["linear"]}), 3, 8, facts)
    x = torch.randn(8, 3)
    torch.testing.assert_close(pool(x), 2 * x.mean(0, keepdim=True))
    bare: Any = build_readout(Part(DegreeScalerPool, {"scalers": ["linear"]}), 3, 8, DataFacts(3, 2, 3.2))
    assert bare.aggregation.avg_deg_lin == 4
    assert [n for n, _ in DegreeScalerPool(learn=True).named_parameters()] == [
        "aggregation.avg_deg_lin", "aggregation.avg_deg_log",
    ]  # fmt: skip


def test_what_is_no_aggregation_is_refused() -> None:
    with pytest.raises(ValueError, match="aggregation='median': one of sum, mean, max, min"):
        AggregationPool("median")
    with pytest.raises(ValueError, match=r"q=\[2\]: numbers from 0 to 1"):
        QuantilePool([2])
    with pytest.raises(ValueError, match="interpolation='cubic': one of linear"):
        QuantilePool(interpolation="cubic")
    with pytest.raises(ValueError, match=r"scalers='amplify' is none of .* \(did you mean amplification"):
        DegreeScalerPool(scalers=["amplify"])
    with pytest.raises(ValueError, match=r"with two widths is expected \(did you mean LSTMAggregation"):
        PyGAggregation("LSTMAgregation", 4, in_channels=3)
    with pytest.raises(ValueError, match="PyGAggregation needs in_channels"):
        PyGAggregation("LSTMAggregation", 4)


# -- those that stay as they are --------


def adapter(name: str) -> Any:
    config: Any = OmegaConf.to_container(OmegaConf.load(PEERS / f"{name}.yaml"))
    del config["_target_"]
    torch.manual_seed(0)
    return PyGAggregation(**config | {"channels": 6, "in_channels": 3})


def test_every_adapter_is_tested() -> None:
    files = sorted(path.stem for path in PEERS.glob("*.yaml") if path.read_text().startswith("# Readout"))
    assert files == ADAPTERS


@pytest.mark.parametrize("name", ADAPTERS)
def test_an_adapter_gives_what_the_layer_gives(name: str) -> None:
    pool = adapter(name)
    x, i = batch(torch.float32)
    out = pool(x, i)
    real = torch.tensor(SIZES) > 0
    torch.testing.assert_close(out[real], pool.aggregation(x, i, dim_size=len(SIZES))[real])
    assert out.shape == (len(SIZES), pool.out_channels(3)) and not out[2].any()
    width = max(SIZES) + 2
    mask = torch.arange(width) < torch.tensor(SIZES)[:, None]
    wide = torch.full((len(SIZES), width, 3), 50.0).masked_scatter(mask[..., None], x)
    torch.testing.assert_close(pool(wide, mask=mask), out)
    assert pool(x[:0]).tolist() == [[0.0] * 6]
    out.square().sum().backward()
    assert any(p.grad is not None and p.grad.any() for p in pool.parameters())


def test_what_the_table_of_the_adapters_says() -> None:
    x, i = batch(torch.float32)
    alone, turned = x[:5], x[:5].flip(0)
    ordered, batched = set(), set()
    for name in ADAPTERS:
        pool = adapter(name).eval()
        if not torch.allclose(pool(alone), pool(turned), atol=1e-5):
            ordered.add(name)
        if not torch.allclose(pool(x, i)[:1], pool(alone), atol=1e-5):
            batched.add(name)
    assert ordered == {"pyg_gru", "pyg_lcm", "pyg_lstm", "pyg_mlp", "pyg_patchtransformer"}
    assert batched == {"pyg_equilibrium", "pyg_gru", "pyg_lcm", "pyg_lstm", "pyg_patchtransformer"}


@pytest.mark.parametrize("readout", ["pyg_gru", "degreescaler"])
def test_models_train_with_them(readout: str, results: Path) -> None:
    words = ["dataset=planted", "dataset.num_graphs=24", "trainer.max_epochs=1", "model.hidden=8", "logger=none"]
    assert cli.train(["pool=topk", f"model.readout={readout}", "callbacks.progress=none", *words]) == 0
    assert len(list(results.glob("runs/*/*/record.json"))) == 1
