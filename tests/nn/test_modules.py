"""Layers and models as torch modules: copied, shown, reset and cast like torch's own."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from poolbench.linalg import Ragged, Sparse
from poolbench.nn.encoder import Channels, Encoder
from poolbench.nn.flat import Global
from poolbench.nn.hierarchical import Hierarchical
from poolbench.nn.message_passing import LAYERS
from poolbench.nn.mlp import ACTIVATIONS, MLP
from poolbench.nn.model import DataFacts, GraphModel, Part
from poolbench.pool import GlobalSumPool, MinCutPool, Set2SetPool, TopKPool

HALF = [torch.bfloat16, torch.float16]


def graph() -> tuple[Tensor, Sparse]:
    torch.manual_seed(1)
    a = torch.block_diag(*[(torch.rand(n, n) < 0.5).float().triu(1) for n in (5, 1, 4)])
    row, col = (a + a.T).nonzero(as_tuple=True)
    return torch.randn(10, 6), Sparse.from_edges(row, col, None, Ragged(torch.tensor([0, 5, 6, 10]), [5, 1, 4]), True)


def layer(name: str) -> nn.Module:
    return LAYERS[name](6, 4)


def model(pool: type = MinCutPool, **changes: Any) -> GraphModel:
    facts = DataFacts(in_channels=6, out_channels=2, mean_nodes=5.0)
    return Hierarchical(facts, Part(pool, {"ratio": 0.5}), Part(GlobalSumPool), hidden=8, norm="batch", **changes)


MAKERS = {
    **{name: lambda name=name: layer(name) for name in LAYERS},
    "mlp": lambda: MLP([6, 8, 2], dropout=0.5),
    "encoder": lambda: Encoder(Channels(2, (3, 4)), 8),
    "mincut": model,
    "topk": lambda: model(TopKPool),
    "set2set": lambda: Global(
        DataFacts(6, 2, 5.0), Part(Set2SetPool, {"channels": None}), hidden=8, jumping="lstm", activation="elu"
    ),
}


def state(module: nn.Module) -> dict[str, Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


@pytest.mark.parametrize("name", MAKERS)
def test_reset_parameters_gives_the_bits_of_a_new_module(name: str) -> None:
    module: Any = MAKERS[name]()
    parameters = list(module.parameters())
    with torch.no_grad():
        for tensor in state(module).values():
            tensor.add_(1)
    torch.manual_seed(2)
    module.reset_parameters()
    torch.manual_seed(2)
    fresh = state(MAKERS[name]())
    assert fresh.keys() == state(module).keys()
    assert all(torch.equal(t, fresh[n]) for n, t in state(module).items())
    assert all(p is q for p, q in zip(parameters, module.parameters(), strict=True))


@pytest.mark.parametrize("name", MAKERS)
def test_a_copy_is_shown_and_weighs_as_the_module(name: str) -> None:
    module: Any = MAKERS[name]()
    for twin in (pickle.loads(pickle.dumps(module)), copy.deepcopy(module)):
        assert repr(twin) == repr(module)
        assert all(torch.equal(t, state(twin)[n]) for n, t in state(module).items())
        assert twin.get_config() == module.get_config()
        twin.reset_parameters()


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_is_pickled(activation: str) -> None:
    x, a = graph()
    module = model(activation=activation, mp="gin").eval()
    twin = pickle.loads(pickle.dumps(module))
    assert torch.equal(twin(x, a).y, module(x, a).y)


def test_a_repr_is_short() -> None:
    facts = DataFacts(in_channels=6, out_channels=2, mean_nodes=5.0, sizes=[5] * 10_000)
    shown = Hierarchical(facts, Part(MinCutPool, {"k": 3}), Part(GlobalSumPool), hidden=8)
    assert repr(shown).startswith("Hierarchical(\n  data=DataFacts, pool=Part, readout=Part, hidden=8\n")
    assert "MinCutPool(\n      k=3, in_channels=8\n" in repr(shown)
    assert repr(MLP([6, 2])).startswith("MLP(\n  widths=[6, 2]\n")


@pytest.mark.parametrize("dtype", [*HALF, torch.float64])
@pytest.mark.parametrize("name", LAYERS)
def test_layers_in_another_type(name: str, dtype: torch.dtype) -> None:
    x, a = graph()
    module: Any = layer(name).to(dtype)
    wide = copy.deepcopy(module).float()
    values = [None, torch.ones(a.col.numel(), dtype=dtype)]
    for value in values:
        own = a.with_value(value, symmetric=True)
        given = x.to(dtype).requires_grad_()
        y = module(given, own)
        assert y.dtype == dtype
        grads = torch.autograd.grad(y.sum(), [given, *module.parameters()])
        assert all(g.isfinite().all() for g in grads)
        want = wide(x.to(dtype).float(), a)
        torch.testing.assert_close(y.float(), want, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("pool", [MinCutPool, TopKPool])
def test_models_in_half_types(pool: type, dtype: torch.dtype) -> None:
    x, a = graph()
    module = model(pool).to(dtype)
    out = module(x.to(dtype), a)
    assert out.y.dtype == dtype
    assert out.y.isfinite().all()
    (out.y.float().sum() + sum(v.float() for v in out.losses.values())).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in module.parameters())


class Lit(pl.LightningModule):
    """A model of somebody's own around an operator, for processes that are spawned and get it pickled."""

    def __init__(self) -> None:
        super().__init__()
        self.pool, self.last = MinCutPool(3, [8], in_channels=6), nn.Linear(6, 2)

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        x, a = graph()
        out = self.pool(x + batch[0].mean(), a)
        return self.last(out.x).square().mean() + sum(out.losses.values())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), 0.01)


@pytest.mark.slow
def test_processes_that_are_spawned_train_together() -> None:
    module = Lit()
    before = [p.detach().clone() for p in module.parameters()]
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.randn(8, 1)), 2)
    trainer = pl.Trainer(
        strategy="ddp_spawn", accelerator="cpu", devices=2, max_epochs=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, loader)
    assert any(not torch.equal(p, q) for p, q in zip(before, module.parameters(), strict=True))
