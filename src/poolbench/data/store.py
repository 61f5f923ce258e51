"""The packed store: all graphs of a dataset in a few flat tensors, and mini-batches cut from it by index arithmetic.

What does not change between epochs (sorted CSR, the transpose of a directed graph, normalisations) is computed here,
once. The store may live on the GPU; sizes are known on the host too, so that cutting a batch never waits for it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from poolbench.linalg import RAW, Connectivity, Ragged, Sparse
from poolbench.linalg.coarsening import Coarsening
from poolbench.linalg.products import invert, offsets, pointers, ranges
from poolbench.splitmix import mix


@dataclass(frozen=True)
class Batch:
    """x [n, f] node features, a their graphs (with the views that the model asked for), y [b, ...] labels, graphs [b]
    which graphs of the store they are (on the host), edges [e, p] features of a's entries, None where there are none,
    coarsenings what was computed ahead for the model's pools, one a level.
    """

    x: Tensor
    a: Sparse
    y: Tensor
    graphs: Tensor
    edges: Tensor | None = None
    coarsenings: Sequence[Coarsening] = ()

    @property
    def num_graphs(self) -> int:
        return self.a.nodes.num_graphs


if TYPE_CHECKING:
    from poolbench.data.coarsen import PackedCoarsenings

LARGE = 100_000_000
"""Edges above which a store forms nothing of their size."""
TOGETHER = 250_000
"""Numbers (features, columns, values) that batches which are cut together hold, about, if they are several."""


class GraphStore:
    """All graphs of a dataset, ready to be cut into batches.

    Args:
        x: [N, f] node features. num_nodes: [G] int64. y: [G, ...] labels, or of the nodes: [N, ...].
        edge_index: [2, E] int64, global node ids, sources and targets, sorted by source.
        edge_weight: [E] or None.
        connectivities: the matrices that the model asks for (`GraphModel.requirements`).
        device: where the tensors live.
        edges: [E, p] features of the edges, or None. They may differ in the two directions of an undirected edge.
        node_labels: whether y are labels of nodes.
        symmetric: whether the edges with their weights are, where the caller knows; None: it is found out.
        coarsenings: of the same graphs, for pools that were computed ahead.

    A node hears along the edges into it: the matrix is the transpose of what `edge_index` lists, and the features of
    its entry (u, v) are those of the edge v -> u.

    On the CPU the tensors are held as they come, memory-mapped ones too: a batch reads its own rows. Above `LARGE`
    edges of undirected graphs nothing of the size of the edges is formed, and each batch turns the features of its own.
    """

    def __init__(
        self,
        x: Tensor,
        num_nodes: Tensor,
        edge_index: Tensor,
        y: Tensor,
        edge_weight: Tensor | None = None,
        connectivities: Iterable[Connectivity] = (),
        device: torch.device | str = "cpu",
        edges: Tensor | None = None,
        node_labels: bool = False,
        symmetric: bool | None = None,
        coarsenings: PackedCoarsenings | None = None,
    ) -> None:
        self.coarsenings = None if coarsenings is None else coarsenings.to(device)
        self.node_labels = node_labels
        self.host_sizes = num_nodes.cpu()
        ptr = offsets(self.host_sizes)
        nodes = Ragged(ptr, self.host_sizes.tolist())
        large = edge_index.shape[1] > LARGE
        if large:  # canonical order is taken on trust: to check it, or to merge, would need as much memory again
            a = Sparse(pointers(edge_index[0], nodes.num_rows), edge_index[1], edge_weight, nodes)
        else:
            a = Sparse.from_edges(edge_index[0], edge_index[1], edge_weight, nodes)
        self.symmetric = a.symmetric = _is_symmetric(a) if symmetric is None else symmetric
        self._turns_edges = large and self.symmetric
        if edges is not None and not self._turns_edges:
            edges = _reordered(edges, a.transposed()[2])
        if not self.symmetric:
            a = _turned(a)
        self.device = torch.device(device)
        self.x, self.y, self.ptr = x.to(device), y.to(device), ptr.to(device)
        self.edges = None if edges is None else edges.to(device)
        self.mean_nodes = float(self.host_sizes.double().mean()) if num_nodes.numel() else 0.0
        raw = _Packed(a, ptr, device, None)
        self._matrices: dict[Connectivity, _Packed] = {RAW: raw}
        for connectivity in () if large else connectivities:  # of large sets a batch makes its own
            view = connectivity(a)
            if view is not a:
                assert isinstance(view, Sparse)
                self._matrices[connectivity] = _Packed(view, ptr, device, raw if view.col is a.col else None)

    def __len__(self) -> int:
        return self.host_sizes.numel()

    @property
    def host_entries(self) -> Tensor:
        """[G] int64, the directed edges of each graph, on the host."""
        return self._matrices[RAW].host_entries

    def batch(self, graphs: Tensor) -> Batch:
        """The graphs `graphs` [b] (int64, on the host), in that order."""
        (batch,) = self._cut([graphs])
        return batch

    def batches(self, order: Sequence[Tensor]) -> Iterator[Batch]:
        """`batch` of each part of `order`. Several are cut together, and each is then a few views."""
        if not order:
            return
        held = sum(int(packed.host_entries.sum()) for packed in self._matrices.values() if packed.base is None)
        each = (held * 2 + self.x.numel()) / max(1, len(self)) * order[0].numel()  # numbers in a batch, on average
        step = max(1, int(TOGETHER / max(1.0, each)))
        for at in range(0, len(order), step):
            yield from self._cut(order[at : at + step])

    def _cut(self, parts: Sequence[Tensor]) -> list[Batch]:
        cut = _Cut(self, parts)
        held: dict[Connectivity, list[Sparse]] = {}
        for key, packed in self._matrices.items():
            if packed.base is None:
                held[key], at = packed.cut(cut)
                if key == RAW:
                    entries, entries_each = at, [a.col.numel() for a in held[RAW]]
        for key, packed in self._matrices.items():
            if packed.base is not None:  # same pattern as A: only the values differ
                assert packed.value is not None
                values = packed.value.index_select(0, entries).split(entries_each)
                held[key] = [a.with_value(v, packed.symmetric) for a, v in zip(held[RAW], values, strict=True)]
        for key, matrices in held.items():
            for a, matrix in zip(held[RAW], matrices, strict=True):
                a.keep_view(key, matrix)
        x = self.x.index_select(0, cut.rows).split(cut.nodes_each)
        y = self.y.index_select(0, cut.rows if self.node_labels else cut.here)
        labels = y.split(cut.nodes_each if self.node_labels else cut.graphs_each)
        edges = _split(None if self.edges is None else self.edges.index_select(0, entries), entries_each)
        if self._turns_edges:
            pairs = zip(edges, held[RAW], strict=True)
            edges = [None if e is None else e.index_select(0, a.transposed()[2]) for e, a in pairs]
        return [
            Batch(x[j], held[RAW][j], labels[j], graphs, edges[j],
                  () if self.coarsenings is None else self.coarsenings.cut(graphs))
            for j, graphs in enumerate(parts)
        ]  # fmt: skip


class _Cut:
    """The rows of some batches, one batch after the other.

    graphs: [G] of all batches, on the host; here: on the device. graphs_each, nodes_each: how many a batch has.
    rows: [N] where their rows stand in the store. shift: [G] what makes a row of the store one of its batch. nodes: of
    each batch.
    """

    def __init__(self, store: GraphStore, parts: Sequence[Tensor]) -> None:
        device = store.device
        self.graphs = parts[0] if len(parts) == 1 else torch.cat(list(parts))
        self.graphs_each = [part.numel() for part in parts]
        self.here = self.graphs.to(device, non_blocking=True)
        sizes = store.host_sizes.index_select(0, self.graphs)
        host, self.nodes_each = self.bounds(sizes)
        ptr = host.to(device, non_blocking=True)
        start = store.ptr.index_select(0, self.here)
        self.rows, graph = ranges(start, ptr, int(host[-1]))
        self.shift = self.firsts(host).to(device, non_blocking=True) - start
        number = torch.cat([torch.arange(count) for count in self.graphs_each])
        index = number.to(device, non_blocking=True).index_select(0, graph).split(self.nodes_each)
        pointers = self.pieces(ptr, self.graphs_each)
        host_sizes = [part.tolist() for part in sizes.split(self.graphs_each)]
        self.nodes = [Ragged(*node) for node in zip(pointers, host_sizes, index, strict=True)]

    def bounds(self, counts: Tensor) -> tuple[Tensor, list[int]]:
        """Of `counts` [G] a graph: their pointers [G + 1], and how many each batch has."""
        ptr = offsets(counts)
        ends = ptr[list(itertools.accumulate(self.graphs_each))].tolist()
        return ptr, [b - a for a, b in itertools.pairwise([0, *ends])]

    def firsts(self, ptr: Tensor) -> Tensor:
        """Of the pointers of all graphs [G + 1] on the host, those of the graphs in their batches: [G]."""
        return torch.cat([part - part[:1] for part in ptr[:-1].split(self.graphs_each)])

    @staticmethod
    def pieces(ptr: Tensor, each: list[int]) -> list[Tensor]:
        """The pieces of the pointers `ptr`, `each` segments long, that of each batch from 0."""
        if len(each) == 1:
            return [ptr]
        ends = itertools.accumulate(each, initial=0)
        return [ptr[a : b + 1] - ptr[a] for a, b in itertools.pairwise(ends)]


class _Packed:
    """One block-diagonal matrix over the whole dataset."""

    def __init__(self, a: Sparse, ptr: Tensor, device: torch.device | str, base: _Packed | None) -> None:
        self.symmetric, self.distinct, self.base = a.symmetric, a.distinct, base
        self.value = None if a.value is None else a.value.to(device)
        if base is not None:
            return
        edge_ptr = a.crow[ptr]
        self.host_entries = edge_ptr.diff()
        self.edge_ptr = edge_ptr.to(device)
        self.pattern = _Pattern(a.crow, a.col, device)
        self.back: tuple[_Pattern, Tensor] | None = None
        if not a.symmetric:
            # The transpose has the same blocks, so its entries stand where theirs do; with it, which entry of its
            # block in `a` each of them is.
            tcrow, trow, perm = a.transposed()
            first = torch.repeat_interleave(edge_ptr[:-1], self.host_entries)
            self.back = _Pattern(tcrow, trow, device), (perm - first).to(device)

    def cut(self, cut: _Cut) -> tuple[list[Sparse], Tensor]:
        """The blocks of the graphs of each batch, and which entries of the dataset they are."""
        host, each = cut.bounds(self.host_entries.index_select(0, cut.graphs))
        ptr = host.to(self.edge_ptr.device, non_blocking=True)
        at, graph = ranges(self.edge_ptr.index_select(0, cut.here), ptr, int(host[-1]))
        crow, col = self.pattern.cut(cut, at, graph, each)
        value = _split(None if self.value is None else self.value.index_select(0, at), each)
        back: Sequence[tuple[Tensor, Tensor, Tensor] | None] = [None] * len(each)
        if self.back is not None:
            pattern, entry = self.back
            first = cut.firsts(host).to(ptr.device, non_blocking=True)
            perm = (entry.index_select(0, at) + first.index_select(0, graph)).split(each)
            back = list(zip(*pattern.cut(cut, at, graph, each), perm, strict=True))
        parts = zip(crow, col, value, cut.nodes, back, strict=True)
        return [Sparse(p, c, v, nodes, self.symmetric, t, self.distinct) for p, c, v, nodes, t in parts], at


class _Pattern:
    """Where the entries of a block-diagonal matrix over the whole dataset stand."""

    def __init__(self, crow: Tensor, col: Tensor, device: torch.device | str) -> None:
        self.row_entries, self.col = crow.diff().to(device), col.to(device)

    def cut(self, cut: _Cut, at: Tensor, graph: Tensor, each: list[int]) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        """Pointers and columns of each batch: of the entries `at`, which are of the graphs `graph` of `cut`."""
        col = (self.col.index_select(0, at) + cut.shift.index_select(0, graph)).split(each)
        crow = offsets(self.row_entries.index_select(0, cut.rows))
        return cut.pieces(crow, cut.nodes_each), col


def _split(values: Tensor | None, each: list[int]) -> Sequence[Tensor | None]:
    return [None] * len(each) if values is None else values.split(each)


def _turned(a: Sparse) -> Sparse:
    """The transpose of a matrix, which knows that `a` is its own."""
    crow, col, entry = a.transposed()
    value = None if a.value is None else a.value.index_select(0, entry)
    back = (a.crow, a.col, invert(entry))
    return Sparse(crow, col, value, a.nodes, transposed=back, distinct=a.distinct)


def _reordered(rows: Tensor, order: Tensor, step: int = 1 << 22) -> Tensor:
    """rows[order], which is `rows` itself where that is the same: not a copy of what may be memory-mapped."""
    parts = zip(rows.split(step), order.split(step), strict=True)
    if all(torch.equal(part, rows.index_select(0, at)) for part, at in parts):
        return rows
    return rows.index_select(0, order)


def _is_symmetric(a: Sparse) -> bool:
    tcrow, trow, perm = a.transposed()
    same = bool(torch.equal(a.crow, tcrow)) and bool(torch.equal(a.col, trow))
    return same and (a.value is None or bool(torch.equal(a.value, a.value[perm])))


class BatchLoader:
    """Mini-batches of some graphs of a store; the order is a pure function of (seed, epoch).

    Args:
        store: the packed store. graphs: [m] which graphs, int64 on the host.
        batch_size: at least 1. The last batch may be smaller; it is never dropped.
        seed: shuffles where it is given; None keeps the order, and the batches are then cut once and kept as long
            as they take less than `KEEP` nodes in all.
        rank, world: this process's share of each batch order.
        mask: [N] bool, which nodes' labels are to be seen (the others are -1); None for all, and for labels of graphs.
    """

    KEEP = 4_000_000

    def __init__(
        self,
        store: GraphStore,
        graphs: Tensor,
        batch_size: int,
        seed: int | None = None,
        rank: int = 0,
        world: int = 1,
        mask: Tensor | None = None,
    ) -> None:
        self.mask = mask
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size}: at least 1 is expected")
        self.store, self.graphs, self.batch_size, self.seed = store, graphs, batch_size, seed
        self.rank, self.world = rank, world
        self.epoch = 0
        self._kept: list[Batch] | None = None
        share = graphs[rank::world] if seed is None else graphs
        self._keep = seed is None and int(store.host_sizes[share].sum()) <= self.KEEP

    def __len__(self) -> int:
        return math.ceil(self._share_size() / self.batch_size)

    def _share_size(self) -> int:
        full = self.graphs.numel()
        if self.seed is None:
            return len(range(self.rank, full, self.world))
        return math.ceil(full / self.world)  # training: every process takes as many steps, some graphs seen twice

    def order(self) -> Tensor:
        """The graphs of this process in this epoch's order."""
        if self.seed is None:
            return self.graphs[self.rank :: self.world]
        generator = torch.Generator().manual_seed(mix(self.seed, self.epoch))
        shuffled = self.graphs[torch.randperm(self.graphs.numel(), generator=generator)]
        wanted = self._share_size() * self.world
        return torch.cat([shuffled, shuffled[: wanted - shuffled.numel()]])[self.rank :: self.world]

    def batch(self, graphs: Tensor) -> Batch:
        """A batch of the graphs `graphs` [b], as `__iter__` yields it."""
        return self._masked(self.store.batch(graphs))

    def __iter__(self) -> Iterator[Batch]:
        if self._kept is not None:
            yield from self._kept
            return
        kept = []
        for batch in self.store.batches(self.order().split(self.batch_size)):
            batch = self._masked(batch)
            kept.append(batch)
            yield batch
            if not self._keep:
                kept.clear()
        if self._keep:
            self._kept = kept

    def _masked(self, batch: Batch) -> Batch:
        if self.mask is None:
            return batch
        start, sizes = self.store.ptr[batch.graphs.to(self.store.device)], batch.a.nodes.sizes
        each = torch.repeat_interleave(start - batch.a.nodes.ptr[:-1], sizes)
        seen = self.mask[torch.arange(each.numel(), device=each.device) + each]
        return replace(batch, y=torch.where(seen, batch.y, -1))
