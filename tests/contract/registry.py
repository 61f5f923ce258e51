"""The operators that conf/pool registers, as the contract tests build them, and small graphs to call them on."""

from __future__ import annotations

import importlib
import inspect
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import Tensor

from poolbench.cli.folders import files
from poolbench.cli.names import refuse_taken
from poolbench.pool.base.src import GlobalPool, Operator, constructor_arguments

FEATURES, CLUSTERS = 4, 3


@dataclass(frozen=True)
class Registered:
    """An operator and its arguments as conf/pool has them, with what a model fills in made small."""

    name: str
    cls: type[Operator]
    args: dict[str, Any]

    @property
    def takes(self) -> list[str]:
        return constructor_arguments(self.cls)

    @property
    def is_readout(self) -> bool:
        return issubclass(self.cls, GlobalPool)

    def make(self, seed: int = 0, dtype: torch.dtype = torch.float64, **changes: Any) -> Any:
        """The operator with weights drawn from `seed`; biases are drawn too, so that a forgotten one shows."""
        torch.manual_seed(seed)
        extra = {"in_channels": FEATURES} if "in_channels" in self.takes else {}
        if "bias_initializer" in self.takes:
            extra["bias_initializer"] = "random_normal"
        return self.cls(**{**self.args, **extra, **changes}).to(dtype)


def _register(path: Path) -> Registered:
    config = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    assert isinstance(config, dict)
    module, _, name = config.pop("_target_").rpartition(".")
    cls = getattr(importlib.import_module(module), name)
    takes = constructor_arguments(cls)
    args = {key: value for key, value in config.items() if key in takes}
    strange = set(config) - set(args) - {"ratio"}
    assert not strange, f"{path.name}: {name} takes no {', '.join(strange)}"
    if "k" in takes:
        args["k"] = CLUSTERS
    required = {
        n for n, p in inspect.signature(cls).parameters.items() if p.default is p.empty and p.kind != p.VAR_KEYWORD
    }
    for name in required - {"k"}:
        if args.get(name) is None:
            args[name] = 5  # a width
    return Registered(path.stem, cls, args)


#: conf/pool and the folder pool/ of each that POOLBENCH_CONFIG names (docs/tutorial.md), less peers.
refuse_taken()
REGISTRY = [_register(path) for name, path in files("pool").items() if "/" not in name]


@dataclass(frozen=True)
class Graphs:
    """Some graphs in float64 and their disjoint and padded forms; features are random, so that scores do not tie."""

    xs: list[Tensor]
    adjacencies: list[Tensor]
    ids: list[int] = field(default_factory=list)

    @property
    def sizes(self) -> list[int]:
        return [len(x) for x in self.xs]

    @property
    def x(self) -> Tensor:
        return torch.cat(self.xs)

    @property
    def i(self) -> Tensor:
        ids = self.ids or range(len(self.xs))
        return torch.tensor([g for g, x in zip(ids, self.xs, strict=True) for _ in x], dtype=torch.int64)

    @property
    def a(self) -> Tensor:
        return torch.block_diag(*self.adjacencies)

    @property
    def edges(self) -> tuple[Tensor, Tensor]:
        """edge_index (source, target) and edge_weight: u hears v, a[u, v], is the edge v -> u."""
        index = self.a.T.nonzero().T
        return index, self.a.T[index[0], index[1]]

    @property
    def padded(self) -> tuple[Tensor, Tensor, Tensor]:
        """x [b, n, f], a [b, n, n] and the mask [b, n]."""
        b, n = len(self.xs), max(self.sizes)
        x, a, mask = self.x.new_zeros(b, n, self.x.shape[1]), self.x.new_zeros(b, n, n), torch.zeros(b, n).bool()
        for g, (block, size) in enumerate(zip(self.adjacencies, self.sizes, strict=True)):
            x[g, :size], a[g, :size, :size], mask[g, :size] = self.xs[g], block, True
        return x, a, mask


def graphs(*sizes: int, seed: int = 0, directed: bool = False, density: float = 0.5, f: int = FEATURES) -> Graphs:
    """Random weighted graphs without self-loops, each on a path, so that no node is isolated."""
    g = torch.Generator().manual_seed(seed)
    xs, adjacencies = [], []
    for n in sizes:
        xs.append(torch.randn(n, f, generator=g, dtype=torch.float64))
        pattern = torch.rand(n, n, generator=g) < density
        pattern |= torch.arange(n).unsqueeze(0) == torch.arange(n).unsqueeze(1) + 1
        upper = (torch.rand(n, n, generator=g, dtype=torch.float64) + 0.5) * pattern.triu(1)
        lower = (torch.rand(n, n, generator=g, dtype=torch.float64) + 0.5) * pattern.T.tril(-1) if directed else upper.T
        adjacencies.append(upper + lower)
    return Graphs(xs, adjacencies)
