"""The packed store: all graphs of a dataset in a few flat tensors, and mini-batches cut from it by index arithmetic.

What does not change between epochs (sorted CSR, the transpose of a directed graph, normalisations) is computed here,
once. The store may live on the GPU; sizes are known on the host too, so that cutting a batch never waits for it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from poolbench.linalg import RAW, Connectivity, Ragged, Sparse
from poolbench.linalg.coarsening import Coarsening
from poolbench.linalg.products import pointers


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


class GraphStore:
    """All graphs of a dataset, ready to be cut into batches.

    Args:
        x: [N, f] node features. num_nodes: [G] int64. y: [G, ...] labels, or of the nodes: [N, ...].
        edge_index: [2, E] int64, global node ids, sorted by row.
        edge_weight: [E] or None.
        connectivities: the matrices that the model asks for (`GraphModel.requirements`).
        device: where the tensors live.
        edges: [E, p] features of the edges, or None.
        node_labels: whether y are labels of nodes.
        symmetric: whether the edges with their weights are, where the caller knows; None: it is found out.
        coarsenings: of the same graphs, for pools that were computed ahead.

    On the CPU the tensors are held as they come, memory-mapped ones too: a batch reads its own rows. Above `LARGE`
    edges nothing of the size of the edges is formed.
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
        ptr = torch.zeros(num_nodes.numel() + 1, dtype=torch.int64)
        torch.cumsum(self.host_sizes, 0, out=ptr[1:])
        nodes = Ragged(ptr, self.host_sizes.tolist())
        large = edge_index.shape[1] > LARGE
        if large:  # canonical order is taken on trust: to check it, or to merge, would need as much memory again
            a = Sparse(pointers(edge_index[0], nodes.num_rows), edge_index[1], edge_weight, nodes)
        else:
            a = Sparse.from_edges(edge_index[0], edge_index[1], edge_weight, nodes)
        a.symmetric = _is_symmetric(a) if symmetric is None else symmetric
        self.symmetric = a.symmetric
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

    def batch(self, graphs: Tensor) -> Batch:
        """The graphs `graphs` [b] (int64, on the host), in that order."""
        sizes = self.host_sizes[graphs]
        count = int(sizes.sum())
        here = graphs.to(self.device, non_blocking=True)
        ptr = _pointers(sizes).to(self.device, non_blocking=True)
        each, index = _ranges(self.ptr[here], ptr, count)
        nodes = Ragged(ptr, sizes.tolist(), index=index)
        cut = {key: packed.cut(graphs, here, each, nodes) for key, packed in self._matrices.items() if not packed.base}
        for key, packed in self._matrices.items():
            if packed.base:  # same pattern as A: only the values differ
                raw, at = cut[RAW]
                assert packed.value is not None
                cut[key] = raw.with_value(packed.value.index_select(0, at), packed.symmetric), at
        a, entries = cut[RAW]
        for key, (matrix, _) in cut.items():
            a.keep_view(key, matrix)
        edges = None if self.edges is None else self.edges.index_select(0, entries)
        y = self.y.index_select(0, each if self.node_labels else here)
        coarsenings = () if self.coarsenings is None else self.coarsenings.cut(graphs)
        return Batch(self.x.index_select(0, each), a, y, graphs, edges, coarsenings)


class _Packed:
    """One block-diagonal matrix over the whole dataset."""

    def __init__(self, a: Sparse, ptr: Tensor, device: torch.device | str, base: _Packed | None) -> None:
        self.symmetric, self.base = a.symmetric, base
        self.value = None if a.value is None else a.value.to(device)
        self.transposed: _Packed | None = None
        if base is not None:
            return
        edge_ptr = a.crow[ptr]
        self.ptr = ptr.to(device)
        self.host_entries = edge_ptr.diff()
        self.edge_ptr = edge_ptr.to(device)
        self.row_entries = a.crow.diff().to(device)
        self.col = a.col.to(device)
        if not a.symmetric:
            # The transpose has the same blocks, so its entries are cut in the same way; `value` holds which entry
            # of the block each one is.
            tcrow, trow, perm = a.transposed()
            self.transposed = _Packed(Sparse(tcrow, trow, None, a.nodes, symmetric=True), ptr, device, None)
            self.transposed.value = (perm - torch.repeat_interleave(edge_ptr[:-1], edge_ptr.diff())).to(device)

    def cut(self, graphs: Tensor, here: Tensor, each: Tensor, nodes: Ragged) -> tuple[Sparse, Tensor]:
        """The blocks of some graphs, and which entries of the dataset they are."""
        crow, col, at, _ = self._pattern(graphs, here, each, nodes)
        value = None if self.value is None else self.value.index_select(0, at)
        transposed = None
        if self.transposed is not None:
            tcrow, trow, tat, shift = self.transposed._pattern(graphs, here, each, nodes)
            assert self.transposed.value is not None
            transposed = tcrow, trow, self.transposed.value.index_select(0, tat) + shift
        return Sparse(crow, col, value, nodes, self.symmetric, transposed), at

    def _pattern(
        self, graphs: Tensor, here: Tensor, each: Tensor, nodes: Ragged
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        entries = self.host_entries[graphs]
        count = int(entries.sum())
        edge_ptr = _pointers(entries).to(self.col.device, non_blocking=True)
        at, graph = _ranges(self.edge_ptr[here], edge_ptr, count)
        crow = self.col.new_zeros(each.numel() + 1)
        torch.cumsum(self.row_entries.index_select(0, each), 0, out=crow[1:])
        col = self.col.index_select(0, at) + (nodes.ptr[:-1] - self.ptr[here]).index_select(0, graph)
        return crow, col, at, edge_ptr.index_select(0, graph)


def _pointers(sizes: Tensor) -> Tensor:
    ptr = torch.zeros(sizes.numel() + 1, dtype=torch.int64)
    torch.cumsum(sizes, 0, out=ptr[1:])
    return ptr


def _ranges(start: Tensor, ptr: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """start[g], start[g] + 1, ... for each segment g of `ptr`, one after the other, and the segment of each."""
    segment = torch.repeat_interleave(torch.arange(start.numel(), device=ptr.device), ptr.diff(), output_size=count)
    return torch.arange(count, device=ptr.device) + (start - ptr[:-1]).index_select(0, segment), segment


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

    def __iter__(self) -> Iterator[Batch]:
        if self._kept is not None:
            yield from self._kept
            return
        kept = []
        for graphs in self.order().split(self.batch_size):
            batch = self.store.batch(graphs)
            if self.mask is not None:
                batch = self._masked(batch)
            kept.append(batch)
            yield batch
            if not self._keep:
                kept.clear()
        if self._keep:
            self._kept = kept

    def _masked(self, batch: Batch) -> Batch:
        assert self.mask is not None
        start, sizes = self.store.ptr[batch.graphs.to(self.store.device)], batch.a.nodes.sizes
        each = torch.repeat_interleave(start - batch.a.nodes.ptr[:-1], sizes)
        seen = self.mask[torch.arange(each.numel(), device=each.device) + each]
        return replace(batch, y=torch.where(seen, batch.y, -1))


def mix(*numbers: int) -> int:
    """One seed from several, so that (0, 1) and (1, 0) draw differently: splitmix64 of each in turn."""
    state = 0
    for number in numbers:
        state = (state + (number & 0xFFFFFFFFFFFFFFFF) + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            state = ((state ^ (state >> shift)) * factor) & 0xFFFFFFFFFFFFFFFF
        state ^= state >> 31
    return state >> 1
