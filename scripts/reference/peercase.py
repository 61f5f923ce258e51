"""A case of a folder in the format of tgp and PyG, and an operator that was called on its graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor, nn

from poolbench.linalg import Ragged, Sparse
from poolbench.pool.base.door import PoolOutput
from poolbench.pool.base.hostgraph import host_graphs
from poolbench.pool.base.postprocess import post_process
from poolbench.pool.base.src import SRCPool
from reference.cases import BadCase
from reference.compare import Arrays, Tolerance


class Outside(Exception):
    """The case is of an operator, or has arguments, that poolbench does not have."""


#: Values that leave a sparse operator as it is.
NEUTRAL = {"remove_self_loops": False, "degree_norm": False, "edge_weight_norm": False, "min_score": None}


@dataclass(frozen=True)
class PeerCase:
    library: str  # tgp, pyg or authors
    entry: dict[str, Any]
    arrays: Arrays
    tolerance: Tolerance

    @property
    def operator(self) -> str:
        return self.entry["operator"]

    def tensor(self, name: str) -> Tensor:
        """An array of the case, floats in float64."""
        value = torch.from_numpy(self.arrays[name])
        return value.double() if value.is_floating_point() else value

    def optional(self, name: str) -> Tensor | None:
        return self.tensor(name) if name in self.arrays else None

    @property
    def expected(self) -> Arrays:
        return {k: v for k, v in self.arrays.items() if not k.startswith(("in/", "param/"))}

    @property
    def sizes(self) -> list[int]:
        """Nodes of each graph."""
        i = self.arrays.get("in/batch")
        return [len(self.arrays["in/x"])] if i is None else np.bincount(i).tolist()

    def arguments(self, known: Mapping[str, Any]) -> dict[str, Any]:
        """The case's arguments, `known` being all that can be expressed and their defaults."""
        for name, value in self.entry["kwargs"].items():
            if name not in known and name != "in_channels" and value != NEUTRAL.get(name, Outside):
                raise Outside(f"argument {name}")
        return {**known, **self.entry["kwargs"]}


@dataclass
class Run:
    """An operator called on a case's graph, in float64."""

    case: PeerCase
    pool: SRCPool
    x: Tensor
    out: PoolOutput

    @classmethod
    def of(cls, case: PeerCase, pool: SRCPool, parameters: Mapping[str, str], **call: Any) -> Run:
        """`parameters`: name in the case -> name of ours; `call`: keywords of the call."""
        pool.double()
        own = dict(pool.named_parameters())
        missing = set(own) ^ set(parameters.values())
        theirs = {k.removeprefix("param/") for k in case.arrays if k.startswith("param/")}
        if missing or theirs != set(parameters):
            raise BadCase(f"weights do not fit: {', '.join(sorted(missing | theirs ^ set(parameters)))}")
        with torch.no_grad():
            for name, path in parameters.items():
                own[path].copy_(case.tensor(f"param/{name}"))
        x, edges = case.tensor("in/x"), case.tensor("in/edge_index")
        x.requires_grad_()
        weight = case.optional("in/edge_weight")
        weight = torch.ones(edges.shape[1], dtype=torch.float64) if weight is None else weight
        return cls(case, pool, x, pool(x, edges, case.optional("in/batch"), edge_weight=weight, **call))

    @property
    def s(self) -> Any:
        """The selection."""
        return self.out.s

    def blocks(self, k: int, place: Tensor | None = None) -> Tensor:
        """The pooled adjacency, a block a graph: [b, k, k]. `place`: row of each pooled node among b k rows."""
        assert isinstance(self.out.a, Tensor) and self.out.edge_weight is not None
        b, edges = len(self.case.sizes), self.out.a if place is None else place[self.out.a]
        graph, row, col = edges[0] // k, edges[0] % k, edges[1] % k
        dense = torch.zeros(b, k, k, dtype=torch.float64)
        return dense.index_put((graph, row, col), self.out.edge_weight, accumulate=True)

    def common(self, parameters: Mapping[str, str], *also: Tensor) -> dict[str, Tensor]:
        """Losses are the mapping's; here the objective, to which `also` adds half its squares, and its gradients."""
        squares = [value.square().sum() / 2 for value in (self.out.x, *also)]
        objective = sum(squares) + sum(self.out.losses.values())
        own = dict(self.pool.named_parameters())
        leaves = {"x": self.x, **{name: own[path] for name, path in parameters.items()}}
        gradients = torch.autograd.grad(objective, list(leaves.values()), allow_unused=True)
        found = {"objective": objective}
        for (name, leaf), g in zip(leaves.items(), gradients, strict=True):
            found[f"grad/{name}"] = torch.zeros_like(leaf) if g is None else g
        return found

    def edges(self, weighted: bool = False, drop: float = 0.0) -> dict[str, Tensor]:
        """The pooled edges, those of weight above `drop`; with weights where `weighted` or weights were given."""
        assert isinstance(self.out.a, Tensor) and self.out.edge_weight is not None
        keep = self.out.edge_weight.abs() > drop
        found = {"out/edge_index": self.out.a[:, keep]}
        if weighted or "in/edge_weight" in self.case.arrays:
            found["out/edge_weight"] = self.out.edge_weight[keep]
        return found


def as_arrays(found: dict[str, Tensor]) -> Arrays:
    return {name: value.detach().numpy() for name, value in found.items()}


def processed(pool: SRCPool, **post: bool) -> SRCPool:
    """The pool with a last step that its constructor does not offer."""
    if any(post.values()):
        connect = pool.connect
        pool.connect = lambda a, s: post_process(connect(a, s), **post)  # type: ignore[method-assign]
    return pool


def in_batch(case: PeerCase, rows: Tensor) -> Tensor:
    """[n, ...] -> [b, nmax, ...] with zeros."""
    return nn.utils.rnn.pad_sequence(list(rows.split(case.sizes)), batch_first=True)


POST_PROCESSING = ("remove_self_loops", "degree_norm", "edge_weight_norm")


class Given(nn.Module):
    """A network whose answer, as logits of an assignment, does not depend on what it is given."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, *given: Any) -> Tensor:
        return self.logits


def blocks(case: PeerCase) -> list[csr_array]:
    """The adjacency matrix of each graph."""
    row, col = case.tensor("in/edge_index")
    sizes = torch.tensor(case.sizes)
    nodes = Ragged.from_index(torch.repeat_interleave(sizes), len(sizes))
    return host_graphs(Sparse.from_edges(row, col, case.optional("in/edge_weight"), nodes))
