"""Torch Geometric Pool's side of the benchmark, in its padded and its unpadded form; the rest of the model is PyG's."""

from __future__ import annotations

from typing import Any

import tgp.poolers
from torch import Tensor, nn
from torch_geometric.data import Batch
from torch_geometric.nn import GCNConv, SimpleConv
from torch_geometric.nn.conv.gcn_conv import gcn_norm

from poolbench.bench.speed.phases import Timer
from poolbench.bench.speed.pyg import Pool, Pooled, PyG, asap_weights, pool_edges

#: tgp's class of each operator, and the arguments that make it do what PoolBench's does.
OPERATORS: dict[str, tuple[str, dict[str, Any]]] = {
    "none": ("NoPool", {}),
    "topk": ("TopkPooling", {}),
    "sag": ("SAGPooling", {"GNN": GCNConv, "bias": False}),
    "asap": ("ASAPooling", {}),
    "edgepool": ("EdgeContractionPooling", {}),
    "mincut": ("MinCutPooling", {}),
    "diffpool": ("DiffPool", {"remove_self_loops": False, "degree_norm": False}),
    "dmon": ("DMoNPooling", {"remove_self_loops": False, "degree_norm": False, "ortho_loss_coeff": 1.0}),
    "justbalance": ("JustBalancePooling", {}),
    "asymcheegercut": ("AsymCheegerCutPooling", {"remove_self_loops": False, "degree_norm": False}),
}
SPARSE = ("none", "topk", "sag", "asap", "edgepool")


class TGPPool(Pool):
    """A tgp operator; for DiffPool with the linear graph convolution around it that PoolBench's has inside."""

    def __init__(self, pool: str, width: int, k: int, ratio: float, padded: bool) -> None:
        super().__init__()
        self.pool = pool
        name, args = OPERATORS[pool]
        if pool in ("topk", "sag", "asap"):
            args = {**args, "in_channels": width, "ratio": ratio}
        elif pool == "edgepool":
            args = {**args, "in_channels": width}
        elif pool not in SPARSE:
            args = {**args, "in_channels": width, "k": k, "batched": padded}
        self.layer = getattr(tgp.poolers, name)(**args)
        if pool == "diffpool":
            nn.init.zeros_(self.layer.selector.mlp.lins[0].bias)
            self.filter, self.embedding = SimpleConv(aggr="sum"), nn.Linear(width, width, bias=False)

    def named(self) -> dict[str, nn.Parameter]:
        layer = self.layer
        if self.pool == "none":
            return {}
        if self.pool == "topk":
            return {"pool.weight": layer.selector.weight}
        if self.pool == "sag":
            return {"pool.weight": layer.gnn.lin.weight}
        if self.pool == "asap":
            return asap_weights(layer.lin, layer.att, layer.select_scorer)
        linear = layer.selector.lin if self.pool == "edgepool" else layer.selector.mlp.lins[0]
        if self.pool == "diffpool":
            return {"pool.assignment": linear.weight, "pool.embedding": self.embedding.weight}
        return {"pool.weight": linear.weight, "pool.bias": linear.bias}

    def forward(self, x: Tensor, data: Batch) -> Pooled:
        index, weight = pool_edges(data)
        if self.pool == "diffpool":
            x = self.filter(x, *gcn_norm(data.edge_index, num_nodes=x.shape[0], add_self_loops=True))
        out = self.layer(x=x, adj=index, edge_weight=weight, batch=data.batch)
        losses = list((out.loss or {}).values())
        if self.pool in SPARSE:
            return Pooled(out.x, out.edge_index, out.edge_weight, out.batch, losses)
        x = self.embedding(out.x) if self.pool == "diffpool" else out.x
        return Pooled(x, out.edge_index, None, None, losses)

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


class TGP(PyG):
    """tgp; its dense operators pad the batch (`batched=True`, its default)."""

    padded = True

    def make_pool(self) -> Pool:
        s = self.setting
        return TGPPool(s.pool, s.hidden, self.k, s.ratio, self.padded)


class TGPUnpadded(TGP):
    """tgp's dense operators without padding (`batched=False`)."""

    padded = False
