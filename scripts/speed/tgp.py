"""Torch Geometric Pool's side of the benchmark: padded, unpadded, precoarsened; the rest of the model is PyG's."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import tgp.poolers
import torch
from tgp.data import PoolDataLoader, PreCoarsening
from torch import Tensor, nn
from torch_geometric.data import Batch, Data
from torch_geometric.nn import GCNConv, SimpleConv
from torch_geometric.nn.conv.gcn_conv import gcn_norm

from speed.chance import replaced
from speed.forms import build_operator
from speed.peers import PEERS
from speed.phases import Timer
from speed.pyg import Pool, Pooled, PyG, asap_weights, pool_edges
from speed.setting import MODES, SCORE_NETWORK
from speed.tgp_given import GivenSelection, without_draws
from speed.work import Work

#: S'AS as it is.
_PLAIN: dict[str, Any] = {"remove_self_loops": False, "degree_norm": False}

#: tgp's class of each operator, and the arguments that make it do what PoolBench's does.
OPERATORS: dict[str, tuple[str, dict[str, Any]]] = {
    "none": ("NoPool", {}),
    "topk": ("TopkPooling", {}),
    "sag": ("SAGPooling", {"GNN": GCNConv, "bias": False}),
    "asap": ("ASAPooling", {}),
    "edgepool": ("EdgeContractionPooling", {}),
    "kmis": ("KMISPooling", {}),
    "graclus": ("GraclusPooling", {}),
    "ndp": ("NDPPooling", {}),
    "sep": ("SEPPooling", {}),
    "maxcut": ("MaxCutPooling", {"mp_units": list(SCORE_NETWORK[0]), "mlp_units": list(SCORE_NETWORK[1])}),
    "lapool": ("LaPooling", {"shortest_path_reg": True, **_PLAIN}),
    "mincut": ("MinCutPooling", {}),
    "diffpool": ("DiffPool", _PLAIN),
    "dmon": ("DMoNPooling", {**_PLAIN, "ortho_loss_coeff": 1.0}),
    "justbalance": ("JustBalancePooling", {}),
    "asymcheegercut": ("AsymCheegerCutPooling", _PLAIN),
    "hosc": ("HOSCPooling", {}),
    "bnpool": ("BNPool", {}),
    "nmf": ("NMFPooling", {}),
    "eigenpool": ("EigenPooling", {"num_modes": MODES}),
}

#: Dense operators that take no padded batch.
UNPADDED = ("nmf", "eigenpool")

#: Operators that merge edges: they count parallel ones where the graph has weights, so it gets ones.
MERGING = ("edgepool", "kmis", "graclus", "sep", "maxcut")


def build_layer(pool: str, width: int, k: int, ratio: float, padded: bool) -> Any:
    """tgp's operator of this name."""
    name, args = OPERATORS[pool]
    cls = getattr(tgp.poolers, name)
    offered = {"in_channels": width, "ratio": ratio, "k": k, "batched": padded and pool not in UNPADDED}
    takes = inspect.signature(cls).parameters
    return cls(**{key: value for key, value in offered.items() if key in takes}, **args)


def with_weights(pool: str, graphs: list[Data]) -> list[Data]:
    """The graphs, those for an operator in `MERGING` with weights of one."""
    for data in graphs if pool in MERGING else []:
        data.edge_weight = torch.ones(data.edge_index.shape[1])
    return graphs


class TGPPool(Pool):
    """A tgp operator; for DiffPool with the linear graph convolution around it that PoolBench's has inside.

    Args:
        prepared: the batch holds the pooled graph, from tgp's PreCoarsening; what is left is to reduce.
    """

    def __init__(self, pool: str, width: int, k: int, ratio: float, padded: bool, prepared: bool = False) -> None:
        super().__init__()
        self.pool, self.prepared = pool, prepared
        self.layer = build_layer(pool, width, k, ratio, padded)
        self.dense = self.layer.is_dense and not prepared
        self.given: GivenSelection | None = None
        if pool == "diffpool":
            nn.init.zeros_(self.layer.selector.mlp.lins[0].bias)
            self.filter, self.embedding = SimpleConv(aggr="sum"), nn.Linear(width, width, bias=False)

    def named(self) -> dict[str, nn.Parameter]:
        layer = self.layer
        if self.pool == "topk":
            return {"pool.weight": layer.selector.weight}
        if self.pool == "sag":
            return {"pool.weight": layer.gnn.lin.weight}
        if self.pool == "asap":
            return asap_weights(layer.lin, layer.att, layer.select_scorer)
        if self.pool == "maxcut":
            return maxcut_weights(layer.selector.score_net)
        if self.pool in ("edgepool", "kmis"):
            return linear_weights(layer.selector.lin)
        if not hasattr(layer.selector, "mlp"):
            return {}
        linear = layer.selector.mlp.lins[0]
        if self.pool == "diffpool":
            return {"pool.assignment": linear.weight, "pool.embedding": self.embedding.weight}
        return {**linear_weights(linear), **({"pool.links": layer.K} if self.pool == "bnpool" else {})}

    def forward(self, x: Tensor, data: Batch) -> Pooled:
        if self.prepared:
            (pooled,) = data.pooled_data
            x, _ = self.layer.reduce(x=x, so=pooled.so, batch=data.batch)
            return Pooled(x, pooled.edge_index, pooled.edge_weight, pooled.batch, [])
        if self.given is not None:
            self.given.batch = data.batch
        index, weight = (data.edge_index, data.edge_weight) if self.pool in MERGING else pool_edges(data)
        if self.pool == "diffpool":
            x = self.filter(x, *gcn_norm(data.edge_index, num_nodes=x.shape[0], add_self_loops=True))
        out = self.layer(x=x, adj=index, edge_weight=weight, batch=data.batch)
        losses = list((out.loss or {}).values())
        if not self.dense:
            return Pooled(out.x, out.edge_index, out.edge_weight, out.batch, losses)
        x = self.embedding(out.x) if self.pool == "diffpool" else out.x
        return Pooled(x, out.edge_index, None, None, losses, out.mask if self.pool == "lapool" else None)

    def instrument(self, timer: Timer) -> None:
        super().instrument(timer)
        layer = self.layer
        for part, phase in (("gnn", "select"), ("selector", "select"), ("reducer", "reduce"), ("connector", "connect")):
            if isinstance(getattr(layer, part, None), nn.Module):
                timer.wrap(getattr(layer, part), "forward", phase)
        for owner, method, phase in (
            (layer, "preprocessing", "padding"),
            (layer, "compute_loss", "losses"),
            (layer, "compute_sparse_loss", "losses"),
            (getattr(layer, "connector", None), "dense_connect", "connect"),
        ):
            if hasattr(owner, method):
                timer.wrap(owner, method, phase)


def linear_weights(layer: Any) -> dict[str, nn.Parameter]:
    """A linear layer under the names of `setting.weight_shapes`."""
    return {"pool.weight": layer.weight, "pool.bias": layer.bias}


def maxcut_weights(network: Any) -> dict[str, nn.Parameter]:
    """The score network of MaxCutPooling under the names of `setting.weight_shapes`."""
    found: dict[str, nn.Parameter] = {}
    for part, layer in (("first", network.initial_layer), ("last", network.final_layer)):
        found |= {f"pool.{part}.weight": layer.weight, f"pool.{part}.bias": layer.bias}
    for number, layer in enumerate(network.mp_convs):
        found |= {f"pool.mp.{number}.weight": layer.lin.weight, f"pool.mp.{number}.bias": layer.bias}
    for number, layer in enumerate(network.mlp):
        found |= {f"pool.mlp.{number}.weight": layer.weight, f"pool.mlp.{number}.bias": layer.bias}
    return found


class TGP(PyG):
    """tgp; its dense operators pad the batch (`batched=True`, its default)."""

    padded = True

    def make_pool(self) -> Pool:
        s = self.setting
        return TGPPool(s.pool, s.hidden, self.k, s.ratio, self.padded)

    def hold(self, graphs: Work) -> list[Data]:
        return with_weights(self.setting.pool, super().hold(graphs))

    @contextmanager
    def without_chance(self) -> Iterator[None]:
        s, pool = self.setting, self.model.pool
        assert isinstance(pool, TGPPool)
        with ExitStack() as stack:
            stack.enter_context(without_draws())
            if PEERS[s.who][1][s.pool].given:
                operator, _ = build_operator(s.pool, "", self.k, s.ratio, s.hidden)
                given = GivenSelection(operator)
                stack.enter_context(replaced(pool, "given", given))
                stack.enter_context(replaced(pool.layer, "select", given))
            yield


class TGPUnpadded(TGP):
    """tgp's dense operators without padding (`batched=False`)."""

    padded = False


class TGPPrepared(TGP):
    """tgp with select and connect computed once a dataset (its transform PreCoarsening)."""

    def make_pool(self) -> Pool:
        s = self.setting
        return TGPPool(s.pool, s.hidden, self.k, s.ratio, self.padded, prepared=True)

    def hold(self, graphs: Work) -> list[Data]:
        assert isinstance(self.model.pool, TGPPool)
        transform = PreCoarsening(self.model.pool.layer)
        return [transform(data) for data in super().hold(graphs)]

    def batches(self, data: list[Data], order: list[Tensor]) -> Iterable[Batch]:
        loader = PoolDataLoader(data, batch_sampler=[graphs.tolist() for graphs in order])
        device = self.setting.device
        return loader if device == "cpu" else (batch.to(device) for batch in loader)
