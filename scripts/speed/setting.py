"""One configuration of the benchmark, and the weights that everybody starts it with."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

#: The operators that are compared. PANPool is not: PyG and tgp take its matrix from PyG's PANConv, which weighs and
#: normalises paths in another way, and forming it is nearly all of the work.
POOLS = ("none", "topk", "sag", "asap", "edgepool", "kmis", "graclus", "ndp", "sep", "maxcut", "lapool", "mincut",
         "diffpool", "dmon", "justbalance", "asymcheegercut", "hosc", "bnpool", "nmf", "eigenpool")  # fmt: skip

#: Those with a number of clusters.
HAS_CLUSTERS = ("mincut", "diffpool", "dmon", "justbalance", "asymcheegercut", "hosc", "bnpool", "nmf", "eigenpool")

#: Eigenvectors of a cluster in EigenPool: a pooled node has as many times the features of a node.
MODES = 5

#: Widths of the graph convolutions and of the linear layers in MaxCutPool's score network.
SCORE_NETWORK = (32, 32, 32, 32), (16, 16)

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Setting:
    """Who trains what on what.

    Args:
        who: a contestant of `peers.CONTESTANTS`. pool: one of `POOLS`. dataset: see `work.load`.
        batch_size: graphs in a batch.
        form: which form of PoolBench's operator does what the peer's does.
        hidden: width of the layers. ratio: share of nodes to keep; k: clusters of a graph, None for
            ratio times the mean graph. steps: batches of an epoch, None for all.
        graphs: how many graphs of the dataset, evenly spread over it; None for all.
        threads, device, seed: of torch.
    """

    who: str
    pool: str
    dataset: str
    batch_size: int = 32
    form: str = ""
    hidden: int = 64
    ratio: float = 0.5
    k: int | None = None
    steps: int | None = None
    graphs: int | None = None
    threads: int = 1
    device: str = "cpu"
    seed: int = 0

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def weight_shapes(pool: str, features: int, hidden: int, classes: int, k: int) -> Shapes:
    """Names and shapes of all weights of the classifier with this operator; a linear layer is [out, in]."""
    shapes = {**layer("conv1", features, hidden), **pool_shapes(pool, hidden, k)}
    return {**shapes, **layer("conv2", pooled_width(pool, hidden), hidden), **layer("head", hidden, classes)}


def pooled_width(pool: str, hidden: int) -> int:
    """Features of a pooled node."""
    return MODES * hidden if pool == "eigenpool" else hidden


def pool_shapes(pool: str, hidden: int, k: int) -> Shapes:
    """Names and shapes of the operator's own weights."""
    if pool in ("topk", "sag"):
        return {"pool.weight": (1, hidden)}
    if pool == "diffpool":
        return {"pool.assignment": (k, hidden), "pool.embedding": (hidden, hidden)}
    if pool in ("mincut", "dmon", "justbalance", "asymcheegercut", "hosc"):
        return layer("pool", hidden, k)
    if pool == "bnpool":
        return {**layer("pool", hidden, 2 * (k - 1)), "pool.links": (k, k)}
    if pool == "edgepool":
        return layer("pool", 2 * hidden, 1)
    if pool == "kmis":
        return layer("pool", hidden, 1)
    if pool == "maxcut":
        return score_network_shapes(hidden)
    if pool == "asap":
        fitness = {**layer("pool.fitness.1", hidden, 1), "pool.fitness.2.weight": (1, hidden)}
        fitness |= layer("pool.fitness.3", hidden, 1)
        return {**layer("pool.query", hidden, hidden), **layer("pool.attention", 2 * hidden, 1), **fitness}
    return {}


def score_network_shapes(hidden: int) -> Shapes:
    """The weights of MaxCutPool: a linear layer, graph convolutions, linear layers, a score."""
    found, width = layer("pool.first", hidden, hidden), hidden
    for part, widths in zip(("mp", "mlp"), SCORE_NETWORK, strict=True):
        for number, out in enumerate(widths):
            found |= layer(f"pool.{part}.{number}", width, out)
            width = out
    return found | layer("pool.last", width, 1)


def layer(name: str, inputs: int, outputs: int) -> Shapes:
    """A linear layer with its bias."""
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def weights(shapes: Shapes, seed: int) -> dict[str, Tensor]:
    """Glorot's uniform draws for matrices and small ones for biases, in the order of `shapes`."""
    generator = torch.Generator().manual_seed(seed)
    drawn = {}
    for name, shape in shapes.items():
        bound = math.sqrt(6.0 / sum(shape)) if len(shape) == 2 else 0.1
        drawn[name] = (2.0 * torch.rand(shape, generator=generator) - 1.0) * bound
    return drawn
