"""PoolBench's side of the benchmark."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from poolbench.bench.speed.contestant import Output, TorchContestant
from poolbench.bench.speed.phases import Timer
from poolbench.bench.speed.work import Work
from poolbench.data.store import Batch, GraphStore
from poolbench.linalg import GCN as GCN_MATRIX
from poolbench.linalg import RAW, Dense, Matrix
from poolbench.nn.message_passing import GCN
from poolbench.pool.dmon import DMoNPool
from poolbench.pool.globalpool import GlobalSumPool
from poolbench.pool.mincut import orthogonality_loss
from poolbench.pool.selection import DenseSelection
from poolbench.pool.src import SRCPool, constructor_arguments


class DMoNWithOrthogonality(DMoNPool):
    """With MinCut's orthogonality loss, as PyG and tgp have it."""

    def select(self, x: Tensor, a: Matrix, i: Tensor | None) -> DenseSelection:
        s = super().select(x, a, i)
        self.add_loss("ortho", orthogonality_loss(s, a.nodes))
        return s


class DMoNLikePyG(DMoNWithOrthogonality):
    """With PyG's activation of the pooled features and its normalisation of the pooled graph as well."""

    def reduce(self, x: Tensor, s: DenseSelection) -> Tensor:  # type: ignore[override]
        return F.selu(super().reduce(x, s))

    def connect(self, a: Matrix, s: DenseSelection) -> Matrix:  # type: ignore[override]
        return super().connect(a, s).without_diagonal().normalize()


@dataclass(frozen=True)
class Form:
    """A class, its arguments beside k, ratio and in_channels, and its weights under the names of `weight_shapes`."""

    target: str
    args: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, str] = field(default_factory=dict)


_MLP = {"pool.weight": "mlp.layers.0.weight", "pool.bias": "mlp.layers.0.bias"}
_PROJECTION = {"pool.weight": "projection.weight"}
_EDGE = {**_PROJECTION, "pool.bias": "projection.bias"}
_ASAP = {
    "pool.query.weight": "query.weight",
    "pool.query.bias": "query.bias",
    "pool.attention.weight": "attention.weight",
    "pool.attention.bias": "attention.bias",
    "pool.fitness.1.weight": "neighbours.weight",
    "pool.fitness.1.bias": "neighbours.bias",
    "pool.fitness.2.weight": "centre.weight",
    "pool.fitness.3.weight": "own.weight",
    "pool.fitness.3.bias": "own.bias",
}
_DMON = {"collapse_regularization": 1.0, "null_model": "exact"}
_HERE = "poolbench.bench.speed.ours"

#: Operators, and the forms of each that do the same work as a peer's (`peers.Match.form`).
FORMS: dict[str, dict[str, Form]] = {
    "none": {"": Form("poolbench.pool.nopool.NoPool")},
    "topk": {"": Form("poolbench.pool.topk.TopKPool", weights=_PROJECTION)},
    "sag": {"": Form("poolbench.pool.sag.SAGPool", weights=_PROJECTION)},
    "mincut": {"": Form("poolbench.pool.mincut.MinCutPool", weights=_MLP)},
    "diffpool": {
        "": Form(
            "poolbench.pool.diffpool.DiffPool",
            weights={"pool.assignment": "assignment.weight", "pool.embedding": "embedding.weight"},
        )
    },
    "dmon": {
        "": Form("poolbench.pool.dmon.DMoNPool", weights=_MLP),
        "pyg": Form(f"{_HERE}.DMoNLikePyG", _DMON, _MLP),
        "tgp": Form(f"{_HERE}.DMoNWithOrthogonality", _DMON, _MLP),
    },
    "justbalance": {
        "": Form("poolbench.pool.justbalance.JustBalancePool", weights=_MLP),
        "normalised": Form("poolbench.pool.justbalance.JustBalancePool", {"normalized_loss": True}, _MLP),
    },
    "edgepool": {
        "": Form("poolbench.pool.edgepool.EdgePool", weights=_EDGE),
        "loops": Form("poolbench.pool.edgepool.EdgePool", {"remove_self_loops": False}, _EDGE),
    },
    "asap": {
        "": Form("poolbench.pool.asap.ASAPPool", {"weighted_fitness": False}, _ASAP),
        "induced": Form("poolbench.pool.asap.ASAPPool", {"weighted_fitness": False, "overlap": False}, _ASAP),
    },
    "asymcheegercut": {"": Form("poolbench.pool.asymcheegercut.AsymCheegerCutPool", weights=_MLP)},
}


def build_operator(pool: str, form: str, k: int, ratio: float, width: int) -> tuple[SRCPool, dict[str, nn.Parameter]]:
    """An operator for `width` features, and its weights by the benchmark's names."""
    chosen = FORMS[pool][form]
    module, _, name = chosen.target.rpartition(".")
    cls = getattr(importlib.import_module(module), name)
    offered = {"k": k, "ratio": ratio, "in_channels": width}
    takes = constructor_arguments(cls)
    operator = cls(**{key: value for key, value in offered.items() if key in takes}, **chosen.args)
    named = dict(operator.named_parameters())
    return operator, {ours: named[theirs] for ours, theirs in chosen.weights.items()}


class Classifier(nn.Module):
    """GCN - operator - GCN - sum - linear."""

    def __init__(self, features: int, hidden: int, classes: int, pool: SRCPool) -> None:
        super().__init__()
        self.conv1, self.pool, self.conv2 = GCN(features, hidden), pool, GCN(hidden, hidden)
        self.readout, self.head = GlobalSumPool(), nn.Linear(hidden, classes)

    def forward(self, batch: Batch) -> Output:
        x = self.conv1(batch.x, batch.a).relu()
        out = self.pool(x, batch.a.view(self.pool.connectivity))
        x = self.conv2(out.x, out.a).relu()
        y = self.head(self.readout(x, out.a.nodes))
        graph = out.a.nodes.index if out.x.ndim == 2 else None
        return Output(y, list(out.losses.values()), out.x, graph)


class PoolBench(TorchContestant):
    """PoolBench as its models use it: a packed store, views computed once a dataset."""

    model: Classifier

    def make(self, features: int, classes: int) -> tuple[nn.Module, dict[str, nn.Parameter]]:
        s = self.setting
        pool, named = build_operator(s.pool, s.form, self.k, s.ratio, s.hidden)
        model = Classifier(features, s.hidden, classes, pool)
        for name, layer in (("conv1", model.conv1), ("conv2", model.conv2)):
            named |= {f"{name}.weight": layer.weight.get_parameter("weight"), f"{name}.bias": layer.bias}
        return model, named | {f"head.{name}": weight for name, weight in model.head.named_parameters()}

    def hold(self, graphs: Work) -> GraphStore:
        views = {GCN_MATRIX, self.model.pool.connectivity} - {RAW}
        return GraphStore(
            graphs.x, graphs.num_nodes, graphs.edge_index, graphs.y, connectivities=views, device=self.setting.device
        )

    def batches(self, data: GraphStore, order: list[Tensor]) -> Iterable[Batch]:
        return map(data.batch, order)

    def instrument(self, timer: Timer) -> None:
        instrument(self.model, timer)


def instrument(model: Classifier, timer: Timer) -> None:
    """Book the parts of a step. Of an operator's own `select` and `connect`, what is not in its base is its losses."""
    from poolbench.pool.diffpool import DiffPool
    from poolbench.pool.mlppool import MLPPool

    for layer, phase in ((model.conv1, "message passing"), (model.conv2, "message passing"),
                         (model.readout, "readout"), (model.head, "readout")):  # fmt: skip
        timer.wrap(layer, "forward", phase)
    pool = model.pool
    has_base = isinstance(pool, MLPPool)
    timer.wrap(pool, "select", "losses" if has_base else "select")
    timer.wrap(pool, "reduce", "reduce")
    timer.wrap(pool, "connect", "losses" if has_base or isinstance(pool, DiffPool) else "connect")
    for owner, method, phase in (
        (MLPPool, "select", "select"),
        (MLPPool, "connect", "connect"),
        (DenseSelection, "connect", "connect"),
        (Dense, "without_diagonal", "connect"),
        (Dense, "normalize", "connect"),
    ):
        if owner is not Dense or has_base:  # elsewhere these are called in phases of their own
            timer.wrap(owner, method, phase)
