"""PoolBench's operators, in the forms that do the same work as the peers'."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from poolbench.linalg import Matrix
from poolbench.pool.base.selection import DenseSelection
from poolbench.pool.base.src import SRCPool, constructor_arguments
from poolbench.pool.dmon import DMoNPool
from poolbench.pool.mincut import orthogonality_loss
from speed.setting import score_network_shapes


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
        return super().connect(a, s).normalize(loops=False)


@dataclass(frozen=True)
class Form:
    """A class, its arguments beside k, ratio and in_channels, and its weights under the names of `weight_shapes`.

    ahead: select and connect are computed once a dataset, where the operator is `precomputable`.
    """

    target: str
    args: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, str] = field(default_factory=dict)
    ahead: bool = True

    def build(self, k: int, ratio: float, width: int) -> SRCPool:
        """The operator for `width` features."""
        module, _, name = self.target.rpartition(".")
        cls = getattr(importlib.import_module(module), name)
        offered = {"k": k, "ratio": ratio, "in_channels": width}
        takes = constructor_arguments(cls)
        return cls(**{key: value for key, value in offered.items() if key in takes}, **self.args)


_MLP = {"pool.weight": "mlp.layers.0.weight", "pool.bias": "mlp.layers.0.bias"}
_SCORE = {"pool.weight": "projection.weight"}
_SCORE_AND_BIAS = {**_SCORE, "pool.bias": "projection.bias"}
_DIFFPOOL = {"pool.assignment": "assignment.weight", "pool.embedding": "embedding.weight"}
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
_BNPOOL = {**_MLP, "pool.links": "links"}
_MAXCUT = {name: f"network.{name.removeprefix('pool.')}" for name in score_network_shapes(1)}
_DMON = {"collapse_regularization": 1.0, "null_model": "exact"}
_HERE = "speed.forms"


def _precomputable(target: str) -> dict[str, Form]:
    return {"": Form(target), "on the fly": Form(target, ahead=False)}


#: Operators, and the forms of each that do the same work as a peer's (`peers.Match.form`).
FORMS: dict[str, dict[str, Form]] = {
    "none": {"": Form("poolbench.pool.nopool.NoPool")},
    "topk": {"": Form("poolbench.pool.topk.TopKPool", weights=_SCORE)},
    "sag": {"": Form("poolbench.pool.sag.SAGPool", weights=_SCORE)},
    "asap": {
        "": Form("poolbench.pool.asap.ASAPPool", {"weighted_fitness": False}, _ASAP),
        "induced": Form("poolbench.pool.asap.ASAPPool", {"weighted_fitness": False, "overlap": False}, _ASAP),
    },
    "edgepool": {
        "": Form("poolbench.pool.edgepool.EdgePool", weights=_SCORE_AND_BIAS),
        "loops": Form("poolbench.pool.edgepool.EdgePool", {"remove_self_loops": False}, _SCORE_AND_BIAS),
    },
    "kmis": {"": Form("poolbench.pool.kmis.KMISPool", weights=_SCORE_AND_BIAS)},
    "graclus": _precomputable("poolbench.pool.graclus.GraclusPool"),
    "ndp": _precomputable("poolbench.pool.ndp.NDPPool"),
    "sep": _precomputable("poolbench.pool.sep.SEPPool"),
    "maxcut": {
        "": Form("poolbench.pool.maxcut.MaxCutPool", weights=_MAXCUT),
        "ties by node": Form("poolbench.pool.maxcut.MaxCutPool", {"ties": "node"}, _MAXCUT),
    },
    "lapool": {
        "": Form("poolbench.pool.lapool.LaPool"),
        "softmax": Form("poolbench.pool.lapool.LaPool", {"assignment": "softmax", "leaders": "ge"}),
    },
    "mincut": {"": Form("poolbench.pool.mincut.MinCutPool", weights=_MLP)},
    "diffpool": {"": Form("poolbench.pool.diffpool.DiffPool", weights=_DIFFPOOL)},
    "dmon": {
        "": Form("poolbench.pool.dmon.DMoNPool", weights=_MLP),
        "pyg": Form(f"{_HERE}.DMoNLikePyG", _DMON, _MLP),
        "tgp": Form(f"{_HERE}.DMoNWithOrthogonality", _DMON, _MLP),
    },
    "justbalance": {
        "": Form("poolbench.pool.justbalance.JustBalancePool", weights=_MLP),
        "normalised": Form("poolbench.pool.justbalance.JustBalancePool", {"normalized_loss": True}, _MLP),
    },
    "asymcheegercut": {"": Form("poolbench.pool.asymcheegercut.AsymCheegerCutPool", weights=_MLP)},
    "hosc": {"": Form("poolbench.pool.hosc.HOSCPool", weights=_MLP)},
    "bnpool": {
        "": Form("poolbench.pool.bnpool.BNPool", weights=_BNPOOL),
        "sampled": Form("poolbench.pool.bnpool.BNPool", {"sampled": True}, _BNPOOL),
    },
    "nmf": _precomputable("poolbench.pool.nmf.NMFPool"),
    "eigenpool": _precomputable("poolbench.pool.eigenpool.EigenPool"),
}


def build_operator(pool: str, form: str, k: int, ratio: float, width: int) -> tuple[SRCPool, dict[str, nn.Parameter]]:
    """An operator for `width` features, and its weights by the benchmark's names."""
    chosen = FORMS[pool][form]
    operator = chosen.build(k, ratio, width)
    named = dict(operator.named_parameters())
    return operator, {ours: named[theirs] for ours, theirs in chosen.weights.items()}
