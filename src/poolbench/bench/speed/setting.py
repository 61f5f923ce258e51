"""One configuration of the benchmark, and the weights that everybody starts it with."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

#: The operators that are compared.
POOLS = ("none", "topk", "sag", "asap", "edgepool", "mincut", "diffpool", "dmon", "justbalance", "asymcheegercut")

#: Those with a number of clusters, whose assignment is one linear layer or, in DiffPool, one linear graph convolution.
HAS_CLUSTERS = ("mincut", "diffpool", "dmon", "justbalance", "asymcheegercut")


@dataclass(frozen=True)
class Setting:
    """Who trains what on what.

    Args:
        who: a contestant of `peers.CONTESTANTS`. pool: one of `POOLS`. dataset: see `work.load`.
        batch_size: graphs in a batch.
        form: which form of PoolBench's operator does what the peer's does.
        hidden: width of the layers. ratio: share of nodes to keep; k: clusters of a graph, None for
            ratio times the mean graph. steps: batches of an epoch, None for all.
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
    threads: int = 1
    device: str = "cpu"
    seed: int = 0

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def weight_shapes(pool: str, features: int, hidden: int, classes: int, k: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all weights of the classifier with this operator; a linear layer is [out, in]."""
    own: dict[str, tuple[int, ...]] = {}
    if pool in ("topk", "sag"):
        own = {"pool.weight": (1, hidden)}
    elif pool == "diffpool":
        own = {"pool.assignment": (k, hidden), "pool.embedding": (hidden, hidden)}
    elif pool in HAS_CLUSTERS:
        own = {"pool.weight": (k, hidden), "pool.bias": (k,)}
    elif pool == "edgepool":
        own = {"pool.weight": (1, 2 * hidden), "pool.bias": (1,)}
    elif pool == "asap":
        own = {"pool.query.weight": (hidden, hidden), "pool.query.bias": (hidden,)}
        own |= {"pool.attention.weight": (1, 2 * hidden), "pool.attention.bias": (1,)}
        own |= {"pool.fitness.1.weight": (1, hidden), "pool.fitness.1.bias": (1,)}
        own |= {"pool.fitness.2.weight": (1, hidden), "pool.fitness.3.weight": (1, hidden), "pool.fitness.3.bias": (1,)}
    shapes = {"conv1.weight": (hidden, features), "conv1.bias": (hidden,), **own}
    shapes |= {"conv2.weight": (hidden, hidden), "conv2.bias": (hidden,)}
    return shapes | {"head.weight": (classes, hidden), "head.bias": (classes,)}


def weights(shapes: dict[str, tuple[int, ...]], seed: int) -> dict[str, Tensor]:
    """Glorot's uniform draws for matrices and small ones for biases, in the order of `shapes`."""
    generator = torch.Generator().manual_seed(seed)
    drawn = {}
    for name, shape in shapes.items():
        bound = math.sqrt(6.0 / sum(shape)) if len(shape) == 2 else 0.1
        drawn[name] = (2.0 * torch.rand(shape, generator=generator) - 1.0) * bound
    return drawn
