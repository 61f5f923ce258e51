"""What a pool does to the graphs alone, computed once a dataset and kept in the cache.

Some pools need neither features nor weights to select and connect, and need long for it: eigenvectors, factorisations,
coding trees. `coarsen_dataset` has all graphs coarsened, several levels deep, and packs the answers in flat tensors.
Those of a batch are cut from them by index arithmetic, as the batch itself is. Which pool it is, is not known here: it
comes as one function a level.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import math
import multiprocessing
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from poolbench.data.cache import CacheNotWritable, cache_dir, kept, workspace
from poolbench.disk import put
from poolbench.errors import PoolBenchError
from poolbench.linalg import Dense, Padded, Ragged, Sparse
from poolbench.linalg.coarsening import Coarsening
from poolbench.linalg.products import offsets, ranges

log = logging.getLogger(__name__)

Coarsen = Callable[[Sparse | Dense], Coarsening]
"""From the graphs of one level (at first Sparse, then the `a` of the level before) to their coarsening. To be used in
several processes it must be picklable, as a bound method of a module is."""

FORMAT = 1
FOLDER = "coarsened"
CHUNK = 256
"""Graphs that are coarsened together, at most."""
FEW = 64
"""Graphs that are coarsened in this process first, to see how long the others will take."""
PATIENCE = 20.0
"""Seconds that this process works alone: another one takes seconds to start."""
LIBRARIES = ("torch", "numpy", "scipy", "scikit-learn")


@dataclass(frozen=True)
class Recipe:
    """All that a dataset's coarsenings depend on: a change of any of it makes another file.

    Args:
        operator: the class's name.
        arguments: of its constructor, for all levels; what JSON can hold.
        code: a digest of the code that computes it.
        dataset: the fingerprint of the dataset, edge weights included.
    """

    operator: str
    arguments: Mapping[str, Any]
    code: str
    dataset: str

    def digest(self, levels: int) -> str:
        """SHA-256 (hex). Versions of the libraries count too: another one may answer in other digits."""
        facts = {
            "format": FORMAT,
            "levels": levels,
            "operator": self.operator,
            "arguments": self.arguments,
            "code": self.code,
            "dataset": self.dataset,
            "dtype": str(torch.get_default_dtype()),
            "versions": {name: version(name) for name in LIBRARIES},
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, eq=False)
class _Level:
    """The coarsenings of G graphs on one level, numbered within each graph. Names are those of `Coarsening`.

    pooled_sizes, entries, edges: [G] pooled nodes, entries of S and entries of the pooled matrix, on the host.
    width: k where every graph has k rows of pooled nodes; masked: where only `pooled_sizes` of them are real.
    degree: [rows] entries in each row of the pooled matrix; col, value: of those entries.
    blocks: [G, k, k], the pooled matrix of dense pools.
    """

    kind: str
    symmetric: bool
    width: int | None
    masked: bool
    pooled_sizes: Tensor
    entries: Tensor | None = None
    node: Tensor | None = None
    cluster: Tensor | None = None
    weight: Tensor | None = None
    centre: Tensor | None = None
    s: Tensor | None = None
    edges: Tensor | None = None
    degree: Tensor | None = None
    col: Tensor | None = None
    value: Tensor | None = None
    blocks: Tensor | None = None

    @classmethod
    def of(cls, c: Coarsening) -> _Level:
        below, above = _starts(c.nodes), _starts(c.pooled)
        masked = isinstance(c.pooled, Padded) and c.pooled.mask is not None
        width = c.pooled.width if isinstance(c.pooled, Padded) else None
        level = cls(c.kind, c.a.symmetric, width, masked, c.pooled.sizes, s=c.s)
        if c.node is not None and c.cluster is not None:
            graph = torch.searchsorted(above, c.cluster, right=True) - 1
            level = replace(
                level,
                entries=torch.bincount(graph, minlength=c.nodes.num_graphs),
                node=c.node - below[graph],
                cluster=c.cluster - above[graph],
                weight=c.weight,
            )
        if c.centre is not None:
            level = replace(level, centre=c.centre - below[c.pooled.index])
        if isinstance(c.a, Dense):
            return replace(level, blocks=c.a.value)
        shift = above[c.a.nodes.index.index_select(0, c.a.row)]
        per_graph = c.a.crow[c.a.nodes.ptr].diff()
        return replace(level, edges=per_graph, degree=c.a.crow.diff(), col=c.a.col - shift, value=c.a.value)

    @classmethod
    def joined(cls, parts: Sequence[_Level]) -> _Level:
        """The levels of several chunks as that of all their graphs."""
        first = parts[0]
        together: dict[str, Any] = {}
        for field in fields(cls):
            values = [getattr(part, field.name) for part in parts]
            if isinstance(getattr(first, field.name), Tensor):
                together[field.name] = torch.cat(values)
            elif any(value != values[0] for value in values):
                raise PoolBenchError(f"coarsenings of one dataset differ in {field.name}: {values[0]} and others")
        return replace(first, **together)

    def mapped(self, change: Callable[[Tensor], Tensor]) -> _Level:
        """The same with every tensor that does not stay on the host changed."""
        new: dict[str, Any] = {
            name: change(v) for name, v in self.tensors().items() if name not in ("pooled_sizes", "entries", "edges")
        }
        return replace(self, **new)

    def tensors(self) -> dict[str, Tensor]:
        held = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in held.items() if isinstance(value, Tensor)}

    def facts(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("kind", "symmetric", "width", "masked")}


class PackedCoarsenings:
    """The coarsenings of a dataset's G graphs, level by level, ready to be cut.

    Args:
        num_nodes: [G] int64, on the host.
        levels: from `coarsen_dataset` or `load`.
        device: where everything but sizes lives.
    """

    def __init__(self, num_nodes: Tensor, levels: Sequence[_Level], device: torch.device | str = "cpu") -> None:
        self.host_sizes = num_nodes
        self.device = torch.device(device)
        self._levels = [level.mapped(lambda v: v.to(device)) for level in levels]
        self._starts: list[dict[str, Tensor]] = []
        rows = num_nodes
        for level in self._levels:
            pooled = level.pooled_sizes if level.width is None else torch.full_like(rows, level.width)
            counts = {"rows": rows, "pooled": pooled, "entries": level.entries, "edges": level.edges}
            starts = {name: offsets(count).to(device) for name, count in counts.items() if count is not None}
            self._starts.append(starts)
            rows = pooled

    def __len__(self) -> int:
        return self.host_sizes.numel()

    def to(self, device: torch.device | str) -> PackedCoarsenings:
        """The same on another device."""
        return PackedCoarsenings(self.host_sizes, self._levels, device)

    def cut(self, graphs: Tensor) -> list[Coarsening]:
        """The coarsenings of the batch of the graphs `graphs` [b] (int64, on the host), in that order: one a level."""
        here = graphs.to(self.device, non_blocking=True)
        nodes: Ragged | Padded = _ragged(self.host_sizes[graphs], self.device)
        out = []
        for level, starts in zip(self._levels, self._starts, strict=True):
            cut = self._cut(level, starts, graphs, here, nodes)
            out.append(cut)
            nodes = cut.pooled
        return out

    def _cut(
        self, level: _Level, starts: dict[str, Tensor], graphs: Tensor, here: Tensor, nodes: Ragged | Padded
    ) -> Coarsening:
        pooled = self._pooled(level, graphs)
        below, above = _starts(nodes), _starts(pooled)
        node = cluster = weight = centre = s = None
        if level.entries is not None and level.node is not None and level.cluster is not None:
            at, graph = _which(starts["entries"], level.entries[graphs], here)
            node, cluster = level.node[at] + below[graph], level.cluster[at] + above[graph]
            weight = None if level.weight is None else level.weight.index_select(0, at)
        if level.centre is not None:
            at, graph = _rows_of(starts["pooled"], pooled, here)
            centre = level.centre[at] + below[graph]
        if level.s is not None:
            at, _ = _rows_of(starts["rows"], nodes, here)
            s = level.s.index_select(0, at)
        a = self._matrix(level, starts, graphs, here, pooled)
        return Coarsening(level.kind, nodes, pooled, a, node, cluster, weight, centre, s)

    def _pooled(self, level: _Level, graphs: Tensor) -> Ragged | Padded:
        sizes = level.pooled_sizes[graphs]
        if level.width is None:
            return _ragged(sizes, self.device)
        mask = torch.arange(level.width) < sizes.unsqueeze(-1) if level.masked else None
        mask = None if mask is None else mask.to(self.device, non_blocking=True)
        return Padded(graphs.numel(), level.width, mask, self.device)

    def _matrix(
        self, level: _Level, starts: dict[str, Tensor], graphs: Tensor, here: Tensor, pooled: Ragged | Padded
    ) -> Sparse | Dense:
        if level.blocks is not None:
            assert isinstance(pooled, Padded)
            return Dense(level.blocks.index_select(0, here), pooled, level.symmetric)
        assert isinstance(pooled, Ragged) and level.edges is not None
        assert level.degree is not None and level.col is not None
        rows, _ = _rows_of(starts["pooled"], pooled, here)
        at, graph = _which(starts["edges"], level.edges[graphs], here)
        crow = offsets(level.degree.index_select(0, rows))
        value = None if level.value is None else level.value.index_select(0, at)
        return Sparse(crow, level.col[at] + pooled.ptr[graph], value, pooled, level.symmetric)

    # ------------------------------------------------------------ the file

    def save(self, path: Path) -> None:
        """Write to one file, whole or not at all. Raises `OSError` where the folder cannot be written to."""
        tensors = {
            f"{j}.{name}": v.cpu() for j, level in enumerate(self._levels) for name, v in level.tensors().items()
        }
        tensors["num_nodes"] = self.host_sizes
        meta = {"format": FORMAT, "levels": [level.facts() for level in self._levels], "digest": _digest(tensors)}
        put(path, lambda file: torch.save({"meta": json.dumps(meta), **tensors}, file))

    @classmethod
    def load(cls, path: Path) -> PackedCoarsenings:
        """Read what `save` wrote. Raises `PoolBenchError` where the file is of another version, or damaged."""
        with open(path, "rb") as file:
            try:
                return cls._read(torch.load(file, map_location="cpu", weights_only=True))
            except Exception as error:  # for a file that is not its own torch.load raises half a dozen, OSError too
                raise PoolBenchError(f"{path} holds no coarsenings of this version ({error}); remove it") from error

    @classmethod
    def _read(cls, held: dict[str, Any]) -> PackedCoarsenings:
        meta = json.loads(held.pop("meta"))
        if meta["format"] != FORMAT or meta["digest"] != _digest(held):
            raise ValueError("its content does not match its digest")
        levels = []
        for number, facts in enumerate(meta["levels"]):
            prefix = f"{number}."
            own = {name.removeprefix(prefix): v for name, v in held.items() if name.startswith(prefix)}
            levels.append(_Level(**facts, **own))
        return cls(held["num_nodes"], levels)


def coarsen_dataset(
    num_nodes: Tensor,
    edge_index: Tensor,
    coarsen: Sequence[Coarsen],
    recipe: Recipe | None,
    edge_weight: Tensor | None = None,
    symmetric: bool = False,
    workers: int = 1,
    data: str | Path | None = None,
) -> PackedCoarsenings:
    """The coarsenings of all graphs of a dataset: from the cache, else computed and kept there.

    The answers are cut graph by graph and joined, so they must not depend on what else is in the batch. Processes that
    ask for the same file at the same time wait for the first one. A file that is damaged is made anew; where the cache
    cannot be written to, every process computes its own.

    Args:
        num_nodes: [G] int64. edge_index: [2, E] int64, global node ids, sources and targets, sorted by both.
        coarsen: one function a level; the first gets the graphs, each of the others the pooled graphs before it.
        recipe: what the file is found by; None: nothing is looked up, and nothing kept.
        edge_weight: [E] or None.
        symmetric: whether the graphs are known to be undirected, weights included (`GraphStore.symmetric`).
        workers: processes, at least 1. They are started anew (spawn), with one thread each.
        data: the cache folder; None for POOLBENCH_DATA or the user's cache folder.

    Raises `PoolBenchError` where a worker died, and whatever `coarsen` raises.
    """
    job = _Job(tuple(coarsen), symmetric)
    if recipe is None:
        return _compute(num_nodes, edge_index, edge_weight, job, workers)
    digest = recipe.digest(len(coarsen))
    cache = cache_dir(data)
    path = cache / FOLDER / f"{recipe.operator}-{digest[:32]}.pt"
    packed = _load(path)
    if packed is not None:
        return PackedCoarsenings(num_nodes.cpu(), packed._levels)  # one tensor of sizes, as where they are computed
    try:
        with workspace(cache, f"{FOLDER}-{digest[:32]}"):
            packed = _load(path)
            if packed is None:
                packed = _compute(num_nodes, edge_index, edge_weight, job, workers)
                packed.save(path)
    except CacheNotWritable as error:
        log.warning("%s; coarsenings are not kept", error)
    return packed or _compute(num_nodes, edge_index, edge_weight, job, workers)


def _load(path: Path) -> PackedCoarsenings | None:
    return kept(path, PackedCoarsenings.load, "computing it anew")


# ---------------------------------------------------------------- computing


@dataclass(frozen=True)
class _Job:
    """What is done to a chunk of graphs."""

    coarsen: tuple[Coarsen, ...]
    symmetric: bool

    def __call__(self, chunk: _Chunk) -> list[_Level]:
        nodes = _ragged(chunk.num_nodes, "cpu")
        source, target = chunk.edge_index
        row, col = (source, target) if self.symmetric else (target, source)  # of equal ones, what is sorted already
        a: Sparse | Dense = Sparse.from_edges(row, col, chunk.edge_weight, nodes, self.symmetric)
        levels = []
        for function in self.coarsen:
            c = function(a)
            levels.append(_Level.of(c))
            a = c.a
        return levels


@dataclass(frozen=True)
class _Chunk:
    """Some graphs of a dataset that stand one after the other, nodes numbered from 0."""

    num_nodes: Tensor
    edge_index: Tensor
    edge_weight: Tensor | None


def _compute(
    num_nodes: Tensor, edge_index: Tensor, edge_weight: Tensor | None, job: _Job, workers: int
) -> PackedCoarsenings:
    if workers < 1:
        raise PoolBenchError(f"workers={workers}: at least 1 process is expected")
    count = num_nodes.numel()
    started = time.perf_counter()
    parts = [job(_chunk(num_nodes, edge_index, edge_weight, 0, FEW))]  # without graphs too, so that there are levels
    left = (time.perf_counter() - started) * max(0.0, num_nodes.sum().item() / max(1, int(num_nodes[:FEW].sum())) - 1)
    serial = workers == 1 or left <= PATIENCE
    # Several chunks a process, as graphs differ in size.
    size = CHUNK if serial else max(1, min(CHUNK, math.ceil(count / (8 * workers))))
    chunks = [_chunk(num_nodes, edge_index, edge_weight, at, size) for at in range(FEW, count, size)]
    parts += [job(chunk) for chunk in chunks] if serial else _in_processes(job, chunks, workers)
    levels = [_Level.joined(level) for level in zip(*parts, strict=True)]
    return PackedCoarsenings(num_nodes.cpu(), levels)


def _chunk(num_nodes: Tensor, edge_index: Tensor, edge_weight: Tensor | None, at: int, size: int) -> _Chunk:
    first, last = int(num_nodes[:at].sum()), int(num_nodes[: at + size].sum())
    bounds = torch.searchsorted(edge_index[0].contiguous(), torch.tensor([first, last], device=edge_index.device))
    own = slice(int(bounds[0]), int(bounds[1]))
    weight = None if edge_weight is None else edge_weight[own].cpu()
    return _Chunk(num_nodes[at : at + size].cpu(), edge_index[:, own].cpu() - first, weight)


def _in_processes(job: _Job, chunks: list[_Chunk], workers: int) -> list[list[_Level]]:
    # Started anew, not forked: a fork of a process that has threads, or a GPU, may hang.
    context = multiprocessing.get_context("spawn")
    start = (torch.get_default_dtype(),)
    try:
        with ProcessPoolExecutor(min(workers, len(chunks)), context, _start_worker, start) as pool:
            found = list(pool.map(_work, itertools.repeat(job), [_packed(chunk) for chunk in chunks]))
    except BrokenProcessPool as error:
        raise PoolBenchError(
            "a process that coarsens graphs died, most likely for want of memory; use fewer workers"
        ) from error
    return [[_Level(**_unpacked(level)) for level in levels] for levels in found]


def _start_worker(dtype: torch.dtype) -> None:
    torch.set_num_threads(1)
    torch.set_default_dtype(dtype)


def _work(job: _Job, chunk: dict[str, Any]) -> list[dict[str, Any]]:
    return [_packed(level) for level in job(_Chunk(**_unpacked(chunk)))]


def _packed(value: _Chunk | _Level) -> dict[str, Any]:
    """The fields with tensors as numpy arrays, which travel as bytes; torch would open a file for each tensor."""
    held = {field.name: getattr(value, field.name) for field in fields(value)}
    return {name: v.numpy() if isinstance(v, Tensor) else v for name, v in held.items()}


def _unpacked(held: dict[str, Any]) -> dict[str, Any]:
    return {name: torch.from_numpy(v) if hasattr(v, "dtype") else v for name, v in held.items()}


# ---------------------------------------------------------------- index arithmetic


def _ragged(sizes: Tensor, device: torch.device | str) -> Ragged:
    return Ragged(offsets(sizes).to(device, non_blocking=True), sizes.tolist())


def _starts(nodes: Ragged | Padded) -> Tensor:
    """First row of each graph: [b + 1], the end last."""
    if isinstance(nodes, Ragged):
        return nodes.ptr
    return torch.arange(nodes.num_graphs + 1, device=nodes.device) * nodes.width


def _which(start: Tensor, counts: Tensor, here: Tensor) -> tuple[Tensor, Tensor]:
    """Places in the dataset of the items of some graphs, `counts` [b] on the host, and the graph of each."""
    ptr = offsets(counts).to(start.device, non_blocking=True)
    return ranges(start[here], ptr, int(counts.sum()))


def _rows_of(start: Tensor, nodes: Ragged | Padded, here: Tensor) -> tuple[Tensor, Tensor]:
    """Places in the dataset of the rows of some graphs, and the graph of each."""
    count = nodes.num_rows if isinstance(nodes, Ragged) else nodes.num_graphs * nodes.width
    return ranges(start[here], _starts(nodes), count)


def _digest(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        v = tensors[name].contiguous()
        digest.update(f"|{name}:{v.dtype}:{list(v.shape)}:".encode())
        digest.update(v.numpy().data)
    return digest.hexdigest()
