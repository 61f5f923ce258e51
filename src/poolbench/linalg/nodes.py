"""Which rows belong to which graph, in the two layouts, behind one interface.

`Ragged` is the disjoint layout (rows of all graphs one after the other), `Padded` the batch layout (graphs of one
size, with an optional mask of the real nodes). An operator calls `nodes.sum(v)`, `nodes.gram(s, x)` and the rest and
never asks which of the two it holds. Node-level tensors are [n, ...] or [b, k, ...]; graph-level ones [b, ...].
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from poolbench.linalg import plain, products
from poolbench.linalg.showing import counted, listed


class Nodes(ABC):
    """The nodes of a batch of graphs."""

    num_graphs: int

    @property
    @abstractmethod
    def sizes(self) -> Tensor:
        """Real nodes of each graph: [b], int64."""

    @property
    @abstractmethod
    def index(self) -> Tensor:
        """Graph of each row, rows in flat order (padding included): int64."""

    @abstractmethod
    def sum(self, v: Tensor) -> Tensor:
        """Sum over the real nodes of each graph: node level -> [b, ...]."""

    @abstractmethod
    def max(self, v: Tensor) -> Tensor:
        """Maximum over the real nodes of each graph, 0 for a graph without nodes."""

    @abstractmethod
    def expand(self, y: Tensor) -> Tensor:
        """A graph's row for each of its nodes: [b, ...] -> node level."""

    @abstractmethod
    def grams(self, s: Tensor, *xs: Tensor) -> tuple[Tensor, ...]:
        """S'X of each graph for each X: [b, k, f] ... Rows of `s` for padding nodes must be zero (`zero_padding`)."""

    @abstractmethod
    def spread(self, s: Tensor, y: Tensor) -> Tensor:
        """S Y of each graph: y [b, k, f] -> node level [.., f]."""

    @abstractmethod
    def zero_padding(self, v: Tensor) -> Tensor:
        """`v` with the rows of padding nodes set to zero."""

    @abstractmethod
    def blocks(self, v: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Node rows [.., f] as dense blocks of similar graphs: (graphs [m], rows [m, w, f], which are real [m, w]).

        Of a ragged batch, each block is a size class, at most half padding; graphs without nodes are in none. A traced
        call gets one block of all graphs, as wide as the largest, a size that it must read back.
        """

    def gram(self, s: Tensor, x: Tensor) -> Tensor:
        """S'X of each graph: [b, k, f]; see `grams`."""
        return self.grams(s, x)[0]

    def mean(self, v: Tensor) -> Tensor:
        """Mean over the real nodes of each graph, 0 for a graph without nodes."""
        total = self.sum(v)
        return total / _like(self.sizes.clamp(min=1).to(total.dtype), total)

    def softmax(self, v: Tensor) -> Tensor:
        """Softmax over the nodes of each graph (not over features); padding gets 0."""
        top = self.max(v.detach())
        # padding is zeroed before exp too: there v - top knows no bound
        weight = self.zero_padding(self.zero_padding(v - self.expand(top)).exp())
        return weight / self.expand(self.sum(weight).clamp(min=torch.finfo(weight.dtype).tiny))


class Ragged(Nodes):
    """The disjoint layout: graph g owns the rows ptr[g] to ptr[g + 1].

    Args:
        ptr: [b + 1] int64, row pointers, on the device of the data.
        host_sizes: nodes of each graph on the host, where the caller has them: without, a CUDA `ptr` is read back.
    """

    def __init__(self, ptr: Tensor, host_sizes: Sequence[int] | None = None, index: Tensor | None = None) -> None:
        self.ptr = ptr
        self.num_graphs = ptr.numel() - 1
        self._host = None if host_sizes is None else list(host_sizes)
        self._index = index
        self._plan: products.Plan | None = None

    def __repr__(self) -> str:
        return listed(self, counted(self.num_rows, "node"), counted(self.num_graphs, "graph"))

    @classmethod
    def from_index(cls, i: Tensor, num_graphs: int | None = None, validate: bool = True) -> Ragged:
        """From the graph id of each node, [n] or [n, 1], sorted. Raises ValueError where it is not, or out of range.

        validate: False leaves the ids unread; with `num_graphs`, nothing is read back from the device.
        """
        if i.is_floating_point():
            raise TypeError(f"i is of {i.dtype}: the graph of each node, whole numbers, is expected")
        i = i.reshape(-1).to(torch.int64)
        if validate and i.numel():
            if bool((i.diff() < 0).any()):
                raise ValueError("i must be sorted: the nodes of one graph stand together, in increasing graph id")
            if int(i[0]) < 0:
                raise ValueError("i must not be negative")
        count = num_graphs if num_graphs is not None else (int(i[-1]) + 1 if i.numel() else 0)
        return cls(torch.searchsorted(i, torch.arange(count + 1, device=i.device)), index=i)

    @classmethod
    def single(cls, n: int, device: torch.device | str = "cpu") -> Ragged:
        """One graph of n nodes."""
        return cls(torch.tensor([0, n], device=device), [n])

    @property
    def host_sizes(self) -> list[int]:
        if self._host is None:
            self._host = self.ptr.diff().tolist()
        return self._host

    @cached_property
    def num_filled(self) -> int:
        """Graphs that have nodes."""
        return sum(map(bool, self.host_sizes))

    @property
    def num_rows(self) -> int:
        return self._index.numel() if self._index is not None else sum(self.host_sizes)

    @property
    def sizes(self) -> Tensor:
        return self.ptr.diff()

    @property
    def index(self) -> Tensor:
        if self._index is None:
            self._index = plain.lasting(lambda: products.rows(self.ptr, sum(self.host_sizes)))
        return self._index

    @property
    def numbers(self) -> Tensor:
        """Number of each node inside its graph: [n], from 0."""
        return torch.arange(self.num_rows, device=self.ptr.device) - self.expand(self.ptr[:-1])

    def together(self, order: Tensor) -> Tensor:
        """The nodes `order` with those of each graph together, graph by graph, otherwise in the same order."""
        return order[torch.argsort(self.index[order], stable=True)]

    @property
    def plan(self) -> products.Plan:
        if plain.traced():  # which neither needs sizes on the host nor may leave anything behind
            return products.Plan(self.ptr, self.index)
        if self._plan is None:
            self._plan = products.Plan(self.ptr, self.index, self.host_sizes)
        return self._plan

    def sum(self, v: Tensor) -> Tensor:
        return products.segment_sum(v, self.ptr, self.index)

    def max(self, v: Tensor) -> Tensor:
        return products.segment_max(v, self.ptr, self.index)

    def expand(self, y: Tensor) -> Tensor:
        return products.expand(y, self.ptr, self.index)

    def grams(self, s: Tensor, *xs: Tensor) -> tuple[Tensor, ...]:
        return products.gram(self.plan, s, *xs)

    def spread(self, s: Tensor, y: Tensor) -> Tensor:
        return products.spread(s, y, self.plan)

    def zero_padding(self, v: Tensor) -> Tensor:
        return v

    def blocks(self, v: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        rows = torch.cat([v, v.new_zeros(1, v.shape[1])])
        if plain.traced():
            return [plain.padded(rows, self.ptr)]
        return [
            (graphs, rows.index_select(0, place).view(-1, width, v.shape[1]), (place < v.shape[0]).view(-1, width))
            for graphs, place, width in self.plan.classes
        ]


class Padded(Nodes):
    """The batch layout: b graphs of k rows each; `mask` [b, k] (bool) marks the real ones, None: all are."""

    def __init__(self, num_graphs: int, width: int, mask: Tensor | None, device: torch.device | str = "cpu") -> None:
        self.num_graphs, self.width, self.mask = num_graphs, width, mask
        self.device = mask.device if mask is not None else torch.device(device)

    def __repr__(self) -> str:
        return listed(self, f"{counted(self.num_graphs, 'graph')} of {counted(self.width, 'node')}", mask=self.mask)

    @property
    def sizes(self) -> Tensor:
        if self.mask is not None:
            return self.mask.sum(-1)
        return torch.full((self.num_graphs,), self.width, device=self.device)

    @property
    def index(self) -> Tensor:
        return torch.arange(self.num_graphs, device=self.device).repeat_interleave(self.width)

    @property
    def real(self) -> Tensor:
        """`mask`, all True where there is none: [b, k]."""
        if self.mask is not None:
            return self.mask
        return torch.ones(self.num_graphs, self.width, dtype=torch.bool, device=self.device)

    def sum(self, v: Tensor) -> Tensor:
        return self.zero_padding(v).sum(1)

    def max(self, v: Tensor) -> Tensor:
        if self.width == 0:
            return v.new_zeros(v.shape[0], *v.shape[2:])
        if self.mask is None:
            return v.amax(1)
        top = v.masked_fill(~_like(self.mask, v), -torch.inf).amax(1)
        return top.masked_fill(_like(~self.mask.any(-1), top), 0.0)

    def expand(self, y: Tensor) -> Tensor:
        return y.unsqueeze(1).expand(-1, self.width, *y.shape[1:])

    def grams(self, s: Tensor, *xs: Tensor) -> tuple[Tensor, ...]:
        return tuple(s.transpose(1, 2) @ x for x in xs)

    def spread(self, s: Tensor, y: Tensor) -> Tensor:
        return s @ y

    def zero_padding(self, v: Tensor) -> Tensor:
        return v if self.mask is None else v.masked_fill(~_like(self.mask, v), 0.0)

    def blocks(self, v: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        return [(torch.arange(self.num_graphs, device=self.device), v, self.real)]


def _like(v: Tensor, other: Tensor) -> Tensor:
    """`v` with trailing axes of size 1, to broadcast over `other`."""
    return v.reshape(*v.shape, *(1,) * (other.ndim - v.ndim))
