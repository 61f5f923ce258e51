"""What the benchmark trains on: real datasets by name, and generated graphs of given sizes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from poolbench.data.generators.synthetic import PlantedGraphs
from poolbench.data.sources.tu import TUDataset
from poolbench.errors import PoolBenchError
from poolbench.splitmix import mix

GENERATED = "random:"
SIZES = {"graphs": 256, "nodes": 100, "degree": 6, "largest": 0, "features": 32}
"""Sizes of `random:` datasets that a name need not give; `largest` > 0 makes every 32nd graph that large."""


@dataclass(frozen=True)
class Work:
    """G graphs: x [N, F] float32, num_nodes [G], edge_index [2, E] sorted by row, y [G] classes."""

    name: str
    x: Tensor
    num_nodes: Tensor
    edge_index: Tensor
    y: Tensor

    @property
    def classes(self) -> int:
        return int(self.y.max()) + 1

    @property
    def mean_nodes(self) -> float:
        return float(self.num_nodes.double().mean())

    @property
    def ptr(self) -> Tensor:
        """[G + 1], the first node of each graph."""
        return torch.cat([self.num_nodes.new_zeros(1), self.num_nodes.cumsum(0)])

    @property
    def undirected(self) -> bool:
        """Whether every edge is there in both directions."""
        row, col = self.edge_index
        n = self.x.shape[0]
        return bool(torch.equal((row * n + col).sort().values, (col * n + row).sort().values))

    def facts(self) -> dict[str, float]:
        """Sizes, for the tables."""
        g = self.num_nodes.numel()
        return {
            "graphs": g,
            "mean nodes": self.mean_nodes,
            "max nodes": int(self.num_nodes.max()),
            "mean edges": self.edge_index.shape[1] / g,
            "features": self.x.shape[1],
            "classes": self.classes,
        }

    def take(self, graphs: Tensor) -> Work:
        """Some of the graphs, in increasing order."""
        chosen = torch.zeros(self.num_nodes.numel(), dtype=torch.bool).index_fill(0, graphs, True)
        node = chosen.repeat_interleave(self.num_nodes)
        number = node.cumsum(0) - 1
        edges = number[self.edge_index[:, node[self.edge_index[0]]]]
        return Work(self.name, self.x[node], self.num_nodes[chosen], edges, self.y[chosen])

    def jittered(self, seed: int) -> Work:
        """The same graphs with noise on the features, so that no two nodes score alike and ties decide nothing."""
        noise = torch.randn(self.x.shape, generator=torch.Generator().manual_seed(seed))
        return Work(self.name, self.x + 0.1 * noise, self.num_nodes, self.edge_index, self.y)


def load(name: str, graphs: int | None = None) -> Work:
    """A TU dataset by name, `planted`, or `random:graphs=256,nodes=100,degree=6,largest=0,features=32`.

    graphs: take so many of them, evenly spread (datasets are sorted by class); None for all.
    """
    if name.startswith(GENERATED):
        made = generate(name, **sizes(name))
    else:
        dataset = PlantedGraphs() if name == "planted" else TUDataset(name)
        raw = dataset.load()
        x = dataset.node_features(raw).values.float()
        made = Work(name, x, raw.num_nodes, raw.edge_index, raw.class_labels())
    whole = made.num_nodes.numel()
    return made if graphs is None or graphs >= whole else made.take(torch.arange(graphs) * whole // graphs)


def sizes(name: str) -> dict[str, int]:
    """The sizes that a `random:` name gives, the others from `SIZES`. Raises `PoolBenchError` for what is no size."""
    found = dict(SIZES)
    for part in filter(None, name.removeprefix(GENERATED).split(",")):
        key, _, value = part.partition("=")
        if key not in found or not value.isdigit():
            raise PoolBenchError(
                f"dataset {name}: {part!r} is no size; expected some of {', '.join(SIZES)}, as nodes=100"
            )
        found[key] = int(value)
    return found


def generate(name: str, graphs: int, nodes: int, degree: int, largest: int, features: int, seed: int = 0) -> Work:
    """Random graphs of about `degree` neighbours a node, sizes within a quarter of `nodes`; two classes, drawn."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(max(2, nodes * 3 // 4), nodes * 5 // 4 + 1, graphs)
    if largest:
        counts[::32] = largest
    start = np.concatenate([[0], np.cumsum(counts)])
    owner = np.repeat(np.arange(graphs), counts * degree // 2)
    u, v = (start[owner] + rng.integers(0, 1 << 40, owner.size) % counts[owner] for _ in range(2))
    u, v = u[u != v], v[u != v]
    total = int(start[-1])
    key = np.unique(np.concatenate([u * total + v, v * total + u]))
    return Work(
        name,
        torch.from_numpy(rng.standard_normal((total, features), dtype=np.float32)),
        torch.from_numpy(counts),
        torch.from_numpy(np.stack([key // total, key % total])),
        torch.from_numpy(rng.integers(0, 2, graphs)).index_fill(0, torch.tensor([0]), 1),
    )


def batches(count: int, batch_size: int, seed: int, epoch: int, steps: int | None = None) -> list[Tensor]:
    """The graphs of each batch of an epoch: a pure function of its arguments, the same for every contestant."""
    generator = torch.Generator().manual_seed(mix(seed, epoch))
    return list(torch.randperm(count, generator=generator).split(batch_size))[:steps]
