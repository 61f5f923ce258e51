"""PyTorch Geometric's side of the benchmark: its layers as its documentation and its examples use them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch, Data
from torch_geometric.loader import DataLoader
from torch_geometric.nn import (
    ASAPooling,
    DenseGCNConv,
    DMoNPooling,
    EdgePooling,
    GCNConv,
    SAGPooling,
    TopKPooling,
    dense_diff_pool,
    dense_mincut_pool,
    global_add_pool,
)
from torch_geometric.utils import to_dense_adj, to_dense_batch

from poolbench.linalg import GCN, RAW, Connectivity, Ragged, Sparse
from speed.contestant import Output, TorchContestant
from speed.forms import build_operator
from speed.phases import Timer
from speed.setting import pooled_width
from speed.work import Work


class Pooled(NamedTuple):
    """Pooled features and graph, sparse ([n, f], edges, batch) or dense ([b, k, f], [b, k, k], None).

    mask: [b, k], which of k rows are pooled nodes; None where all are.
    """

    x: Tensor
    adjacency: Tensor
    weight: Tensor | None
    batch: Tensor | None
    losses: list[Tensor]
    mask: Tensor | None = None


class Pool(nn.Module):
    """An operator behind one interface: (x, batch) -> `Pooled`; `dense` says which form that has."""

    dense = False

    def forward(self, x: Tensor, data: Batch) -> Pooled:
        raise NotImplementedError

    def named(self) -> dict[str, nn.Parameter]:
        """Its weights under the names of `setting.weight_shapes`."""
        return {}

    def instrument(self, timer: Timer) -> None:
        timer.wrap(self, "forward", "pool")


class NoPool(Pool):
    def forward(self, x: Tensor, data: Batch) -> Pooled:
        return Pooled(x, data.edge_index, None, data.batch, [])


class SparsePool(Pool):
    """TopKPooling, SAGPooling, ASAPooling, EdgePooling."""

    def __init__(self, layer: nn.Module, weights: dict[str, nn.Parameter]) -> None:
        super().__init__()
        self.layer = layer
        self._weights = weights

    def named(self) -> dict[str, nn.Parameter]:
        return self._weights

    def forward(self, x: Tensor, data: Batch) -> Pooled:
        if isinstance(self.layer, EdgePooling):
            x, edge_index, batch, _ = self.layer(x, data.edge_index, data.batch)
            return Pooled(x, edge_index, None, batch, [])
        x, edge_index, weight, batch, *_ = self.layer(x, data.edge_index, None, data.batch)
        return Pooled(x, edge_index, weight, batch, [])

    def instrument(self, timer: Timer) -> None:
        super().instrument(timer)
        for part, phase in (("gnn", "select"), ("select", "select"), ("connect", "connect")):
            if isinstance(getattr(self.layer, part, None), nn.Module):
                timer.wrap(getattr(self.layer, part), "forward", phase)


class DensePool(Pool):
    """dense_mincut_pool, dense_diff_pool and DMoNPooling on a padded batch."""

    dense = True

    def __init__(self, pool: str, width: int, k: int) -> None:
        super().__init__()
        self.pool = pool
        if pool == "dmon":
            self.layer = DMoNPooling(width, k)
        elif pool == "diffpool":
            self.assignment, self.embedding = GCNConv(width, k, bias=False), GCNConv(width, width, bias=False)
        else:
            self.linear = nn.Linear(width, k)

    def named(self) -> dict[str, nn.Parameter]:
        if self.pool == "diffpool":
            return {"pool.assignment": self.assignment.lin.weight, "pool.embedding": self.embedding.lin.weight}
        linear = self.layer.mlp.lins[0] if self.pool == "dmon" else self.linear
        return {f"pool.{name}": weight for name, weight in linear.named_parameters()}

    def pad(self, x: Tensor, data: Batch) -> tuple[Tensor, Tensor]:
        return to_dense_batch(x, data.batch, batch_size=data.num_graphs)

    def pad_adjacency(self, data: Batch) -> Tensor:
        index, weight = pool_edges(data)
        return to_dense_adj(index, data.batch, weight, batch_size=data.num_graphs)

    def forward(self, x: Tensor, data: Batch) -> Pooled:
        a = self.pad_adjacency(data)
        losses: tuple[Tensor, ...]
        if self.pool == "diffpool":
            s, _ = self.pad(self.filter(self.assignment, x, data), data)
            z, mask = self.pad(self.filter(self.embedding, x, data), data)
            x, a, *losses = dense_diff_pool(z, a, s, mask, normalize=False)
        else:
            x, mask = self.pad(x, data)
            if self.pool == "dmon":
                _, x, a, *losses = self.layer(x, a, mask)
            else:
                x, a, *losses = dense_mincut_pool(x, a, self.linear(x), mask)
        return Pooled(x, a, None, None, list(losses))

    def filter(self, layer: GCNConv, x: Tensor, data: Batch) -> Tensor:
        return convolve(layer, x, data)

    def instrument(self, timer: Timer) -> None:
        super().instrument(timer)
        for method, phase in (("pad", "padding"), ("pad_adjacency", "padding"), ("filter", "select")):
            timer.wrap(self, method, phase)
        for layer in (getattr(self, "linear", None), getattr(getattr(self, "layer", None), "mlp", None)):
            if layer is not None:
                timer.wrap(layer, "forward", "select")


def pool_edges(data: Batch) -> tuple[Tensor, Tensor | None]:
    """The matrix that the operator was designed for: computed once a dataset, as PoolBench does."""
    return (data.pool_index, data.pool_weight) if "pool_index" in data else (data.edge_index, None)


def convolve(layer: GCNConv, x: Tensor, data: Batch) -> Tensor:
    """A graph convolution on the input graph, normalised in the layer, or once a dataset (`pyg-prepared`)."""
    if layer.normalize:
        return layer(x, data.edge_index)
    return layer(x, data.gcn_index, data.gcn_weight)


def build_pool(pool: str, width: int, k: int, ratio: float) -> Pool:
    """PyG's operator of this name."""
    if pool == "none":
        return NoPool()
    if pool == "topk":
        topk = TopKPooling(width, ratio)
        return SparsePool(topk, {"pool.weight": topk.select.weight})
    if pool == "sag":
        sag = SAGPooling(width, ratio, GNN=GCNConv, bias=False)
        nn.init.ones_(sag.select.weight)  # a factor of the score, whose sign alone counts
        return SparsePool(sag, {"pool.weight": sag.gnn.lin.weight})
    if pool == "edgepool":
        edge = EdgePooling(width)
        return SparsePool(edge, {"pool.weight": edge.lin.weight, "pool.bias": edge.lin.bias})
    if pool == "asap":
        asap = ASAPooling(width, ratio)
        nn.init.ones_(asap.select.weight)
        return SparsePool(asap, asap_weights(asap.lin, asap.att, asap.gnn_score))
    return DensePool(pool, width, k)


def asap_weights(query: Any, attention: Any, fitness: Any) -> dict[str, nn.Parameter]:
    """The weights of ASAPooling, in PyG and tgp, under the names of `setting.weight_shapes`."""
    named = {"query.weight": query.weight, "query.bias": query.bias}
    named |= {"attention.weight": attention.weight, "attention.bias": attention.bias}
    named |= {"fitness.1.weight": fitness.lin1.weight, "fitness.1.bias": fitness.lin1.bias}
    named |= {"fitness.2.weight": fitness.lin2.weight}
    named |= {"fitness.3.weight": fitness.lin3.weight, "fitness.3.bias": fitness.lin3.bias}
    return {f"pool.{name}": weight for name, weight in named.items()}


class Classifier(nn.Module):
    """GCN - operator - GCN - sum - linear. widths: of the hidden layers, and of a pooled node."""

    def __init__(self, features: int, widths: tuple[int, int], classes: int, pool: Pool, prepared: bool) -> None:
        super().__init__()
        hidden, pooled = widths
        self.conv1, self.pool = GCNConv(features, hidden, normalize=not prepared), pool
        self.conv2 = (DenseGCNConv if pool.dense else GCNConv)(pooled, hidden)
        self.head = nn.Linear(hidden, classes)

    def forward(self, data: Batch) -> Output:
        x = convolve(self.conv1, data.x, data).relu()
        out = self.pool(x, data)
        if out.batch is None:
            # + I here: the layer's own loops replace the diagonal of the pooled graph
            eye = torch.eye(out.adjacency.shape[-1], device=x.device)
            x = self.conv2(out.x, out.adjacency + eye, out.mask, add_loop=False).relu()
            return Output(self.head(x.sum(1)), out.losses, out.x)
        x = self.conv2(out.x, out.adjacency, out.weight).relu()
        y = self.head(global_add_pool(x, out.batch, size=data.num_graphs))
        return Output(y, out.losses, out.x, out.batch)

    def instrument(self, timer: Timer) -> None:
        for layer in (self.conv1, self.conv2):
            timer.wrap(layer, "forward", "message passing")
        timer.wrap(self.head, "forward", "readout")
        self.pool.instrument(timer)


class PyG(TorchContestant):
    """PyG: a DataLoader over Data objects; graph convolutions normalise in every step."""

    prepared = False
    model: Classifier

    def make_pool(self) -> Pool:
        s = self.setting
        return build_pool(s.pool, s.hidden, self.k, s.ratio)

    def make(self, features: int, classes: int) -> tuple[nn.Module, dict[str, nn.Parameter]]:
        pool, hidden = self.make_pool(), self.setting.hidden
        widths = hidden, pooled_width(self.setting.pool, hidden)
        model = Classifier(features, widths, classes, pool, self.prepared)
        named = {"conv1.weight": model.conv1.lin.weight, "conv1.bias": model.conv1.bias, **pool.named()}
        named |= {"conv2.weight": model.conv2.lin.weight, "conv2.bias": model.conv2.bias}
        return model, named | {"head.weight": model.head.weight, "head.bias": model.head.bias}

    def hold(self, graphs: Work) -> list[Data]:
        s = self.setting
        operator, _ = build_operator(s.pool, "", self.k, s.ratio, s.hidden) if s.pool in DESIGNED else (None, None)
        views = {"pool": RAW if operator is None else operator.connectivity, "gcn": GCN if self.prepared else RAW}
        return as_data(graphs, {name: view for name, view in views.items() if view is not RAW})

    def batches(self, data: list[Data], order: list[Tensor]) -> Iterable[Batch]:
        loader = DataLoader(data, batch_sampler=[graphs.tolist() for graphs in order])
        device = self.setting.device
        return loader if device == "cpu" else (batch.to(device) for batch in loader)

    def instrument(self, timer: Timer) -> None:
        self.model.instrument(timer)


#: Operators whose matrix is computed once a dataset; the others take the graph as it is.
DESIGNED = ("mincut", "justbalance")


class PyGPrepared(PyG):
    """PyG with the first layer's normalisation computed once a dataset (its transform GCNNorm does this)."""

    prepared = True


def as_data(graphs: Work, views: dict[str, Connectivity]) -> list[Data]:
    """A Data object a graph; a view adds `<name>_index` and `<name>_weight`, the entries of that matrix."""
    ptr = graphs.ptr
    whole = Sparse.from_edges(graphs.edge_index[0], graphs.edge_index[1], None, Ragged(ptr))
    held = [Data(x=x, y=y) for x, y in zip(graphs.x.split(graphs.num_nodes.tolist()), graphs.y.split(1), strict=True)]
    for name, view in {"": RAW, **views}.items():
        row, col, weight = whole.view(view).edges()
        ends = torch.searchsorted(row, ptr).diff().tolist()
        index = torch.stack([row, col]) - ptr[torch.searchsorted(ptr, row, right=True) - 1]
        for data, edges, weights in zip(held, index.split(ends, 1), weight.split(ends), strict=True):
            if name:
                data[f"{name}_index"], data[f"{name}_weight"] = edges, weights
            else:
                data.edge_index = edges
    return held
