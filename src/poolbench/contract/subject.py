"""An operator as it is held to the contract, small graphs to call it on, and what the checks have in common."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from poolbench.errors import PoolBenchError
from poolbench.linalg import Dense, Ragged, Sparse
from poolbench.pool.base.src import GlobalPool, Operator, SRCPool, constructor_arguments

FEATURES, CLUSTERS, WIDTH = 4, 3, 5
SIZES = (6, 1, 9, 3)


@dataclass(frozen=True)
class Subject:
    """An operator and its arguments as conf/pool has them, with what a model fills in made small."""

    name: str
    cls: type[Operator]
    args: dict[str, Any]

    @classmethod
    def of(cls, name: str, operator: type[Operator], config: Mapping[str, Any]) -> Subject:
        """An operator with the arguments of its file.

        Args:
            config: the arguments, `ratio` among them where a model makes k of it.

        Raises `PoolBenchError` for arguments that it does not take.
        """
        takes = constructor_arguments(operator)
        args = {key: value for key, value in config.items() if key in takes}
        strange = set(config) - set(args) - {"ratio"}
        if strange:
            raise PoolBenchError(f"{name}: {operator.__name__} takes no {', '.join(sorted(strange))}")
        if "k" in takes:
            args["k"] = CLUSTERS
        parameters = inspect.signature(operator).parameters.items()
        required = {
            n for n, p in parameters if p.default is p.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
        }
        args |= {each: WIDTH for each in sorted(required - {"k"}) if args.get(each) is None}
        return cls(name, operator, args)

    @property
    def takes(self) -> list[str]:
        return constructor_arguments(self.cls)

    @property
    def is_readout(self) -> bool:
        return issubclass(self.cls, GlobalPool)

    def make(self, seed: Any = 0, dtype: Any = torch.float64, **changes: Any) -> Any:
        """The operator with weights drawn from `seed`; biases are drawn too, so that a forgotten one shows."""
        torch.manual_seed(seed)
        extra: dict[str, Any] = {"in_channels": FEATURES} if "in_channels" in self.takes else {}
        if "bias_initializer" in self.takes:
            extra["bias_initializer"] = "random_normal"
        return self.cls(**{**self.args, **extra, **changes}).to(dtype)


class Inapplicable(Exception):
    """A check is not for this operator, which is no fault of it."""


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


def close(ours: Any, theirs: Any, tolerance: float = 1e-8) -> None:
    """Raises AssertionError where numbers are further apart than `tolerance`."""
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


def dense(out: Any) -> Tensor:
    """The pooled adjacency as a dense tensor, whatever form it came in."""
    a = out.a
    if isinstance(a, Dense | Sparse):
        return a.to_dense()
    if a.layout != torch.strided:
        return a.to_dense()
    if out.edge_weight is not None:
        k = out.x.shape[0]
        return out.x.new_zeros(k, k).index_put(tuple(a.flip(0)), out.edge_weight.to(out.x.dtype), accumulate=True)
    return a


def nodes_of(graph: Graphs) -> Ragged:
    """The graphs of its nodes, as matrices know them."""
    return Ragged.from_index(graph.i)


def call(pool: SRCPool, graph: Graphs, seed: int = 0) -> Any:
    """On the disjoint union, as an edge_index, from the same draws each time."""
    index, weight = graph.edges
    torch.manual_seed(seed)
    return pool(graph.x, index, graph.i, edge_weight=weight)


def single(pool: SRCPool, graph: Graphs, g: int, x: Tensor | None = None, seed: int = 0) -> Any:
    """On one graph alone, as a dense matrix."""
    torch.manual_seed(seed)
    return pool(graph.xs[g] if x is None else x, graph.adjacencies[g])


def objective(out: Any) -> Tensor:
    """One number that depends on all that a pool returns."""
    return out.x.square().sum() + dense(out).square().sum() + sum(out.losses.values())


def readout_of(readout: nn.Module, graph: Graphs) -> Tensor:
    """On the disjoint union."""
    return readout(graph.x, graph.i)


def answer(operator: Subject, module: Any, graph: Graphs) -> Tensor:
    """One number that depends on everything the operator returns."""
    return readout_of(module, graph).square().sum() if operator.is_readout else objective(call(module, graph))


def without_draws(pool: Subject) -> None:
    """Raises `Inapplicable` for an operator that draws."""
    if pool.cls.stochastic:
        raise Inapplicable("draws anew for each node, so nodes of another order or batch get other draws")


def finite(module: SRCPool, graph: Graphs, **how: Any) -> Any:
    """A call on the disjoint union, whose numbers and derivatives must be finite, and whose parts fit together."""
    x = graph.x.requires_grad_()
    index, weight = graph.edges
    torch.manual_seed(0)
    out = module(x, index, graph.i, edge_weight=weight.requires_grad_(), **how)
    assert out.x.isfinite().all()
    assert dense(out).isfinite().all()
    assert all(v.isfinite() for v in out.losses.values()), out.losses
    leaves = [x, weight, *module.parameters()]
    value = objective(out)
    if value.requires_grad:
        for g in torch.autograd.grad(value, leaves, allow_unused=True):
            assert g is None or g.isfinite().all()
    assert out.x.shape[0] == int(out.sizes.sum()) == len(out.i)
    assert torch.bincount(out.i, minlength=len(out.sizes)).tolist() == out.sizes.tolist()
    assert bool((out.i.diff() >= 0).all())
    return out
