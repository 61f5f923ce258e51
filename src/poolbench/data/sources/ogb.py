"""Graph-property datasets of the Open Graph Benchmark (Hu et al., 2020, arXiv 2005.00687), from the official files.

A dataset is a folder of gzipped CSV files without header. raw/num-node-list and raw/num-edge-list: a graph a line;
raw/edge: an edge a line, nodes numbered from 0 within each graph; raw/node-feat, raw/edge-feat and others: a node or
an edge a line; raw/graph-label; split/SCHEME/train, valid, test: the graphs of each part. Undirected edges are listed
once, and are held in both directions with the same features here.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from poolbench.data import target
from poolbench.data.blocks import GraphWriter
from poolbench.data.features import Features
from poolbench.data.raw import RawGraphs
from poolbench.data.sources import code2, molecules
from poolbench.data.sources.archived import ArchivedDataset
from poolbench.data.sources.official import OGBMetric
from poolbench.data.sources.ogb_names import OGB_NAMES
from poolbench.data.sources.unsound import said
from poolbench.data.target import Target
from poolbench.errors import PoolBenchError, nearest

HOST = "http://snap.stanford.edu/ogb/data"
COLLECTION = "ogb"

BLOCK = 1 << 19
"""Lines of the edge file that are held at a time (more for a single graph that has more)."""
_PIECE = 1 << 22
_WORD, _SPARE = 64, 1 << 20
"""Bytes of a number with what stands around it, on average at the most, and bytes that may be read ahead."""
_PPA_CLASSES, _PPA_COLUMNS = 37, 7

MOLECULES = ("node-feat", "edge-feat")
FILES = {"classes": ("edge-feat",), "words": ("node-feat", "node_is_attributed", "node_depth")}
"""Further files by kind of dataset; those of molecules for the others."""

Array = np.ndarray[Any, np.dtype[Any]]


class OGBDataset(ArchivedDataset):
    """A graph-property dataset of OGB by its official name, such as `ogbg-molhiv`; nothing is touched until `load`.

    Molecules have categories on nodes and edges (`molecules`), ogbg-ppa one category for all nodes and seven numbers
    on each edge, ogbg-code2 the features of `code2`. The cache folder is laid out as ogb's own (`ogb/ogbg_molhiv/raw`,
    ...), and either reads what the other has fetched.

    Args:
        name: the official name (`OGB_NAMES`).
        data: the cache folder; None for POOLBENCH_DATA or the user's cache folder.
        mirror: folder or base URL laid out as the official hosts are; None for POOLBENCH_MIRROR.

    Raises `PoolBenchError` for another name.
    """

    kept: ClassVar[str] = "raw/|split/|mapping/|RELEASE"

    def __init__(self, name: str, data: str | Path | None = None, mirror: str | None = None) -> None:
        if name not in OGB_NAMES:
            hint = nearest(str(name), OGB_NAMES) or f"; there are {', '.join(OGB_NAMES)}"
            raise PoolBenchError(f"unknown OGB dataset {name!r}{hint}")
        super().__init__(name, f"{COLLECTION}/{name.replace('-', '_')}", data, mirror)
        self.facts = OGB_NAMES[name]
        self.url = f"{HOST}/{self.facts.archive}"
        self.mirror_paths = [f"ogb/{self.facts.archive}", self.facts.archive, self.facts.archive.rpartition("/")[2]]
        lists = ["num-node-list", "num-edge-list", "edge", "graph-label", *FILES.get(self.facts.kind, MOLECULES)]
        parts = [f"split/{self.facts.split}/{part}.csv.gz" for part in ("train", "valid", "test")]
        self.files = [*(f"raw/{kind}.csv.gz" for kind in lists), *parts]

    def parse(self, folder: Path, origin: str, out: GraphWriter) -> None:
        parse(self.name, folder, out, origin)

    def node_features(self, raw: RawGraphs) -> Features:
        if raw.node_labels is None:
            return Features(torch.zeros(raw.total_nodes, 1, dtype=torch.int64), ["constant"], (1,))
        return code2.node_features(raw) if self.facts.kind == "words" else molecules.atoms(raw.node_labels)

    def edge_features(self, raw: RawGraphs) -> Features | None:
        if raw.edge_labels is not None:
            return molecules.bonds(raw.edge_labels)
        assert raw.edge_attributes is not None
        if self.facts.kind == "words":
            return Features(raw.edge_attributes, ["next token", "inverse"])
        return Features(raw.edge_attributes, [f"association{k}" for k in range(raw.edge_attributes.size(1))])

    def edge_weight(self, raw: RawGraphs) -> Tensor | None:
        return code2.edge_weight(raw) if self.facts.kind == "words" else None

    def target(self, raw: RawGraphs) -> Target:
        evaluate = OGBMetric(self.name, self.facts.metric)
        if self.facts.kind == "words":
            return code2.target(raw)
        if self.facts.kind == "classes":
            return Target("classes", raw.class_labels(), _PPA_CLASSES, self.facts.metric, evaluate=evaluate)
        if self.facts.kind == "numbers":
            found = target.numbers(raw)
            return Target("numbers", found.y, found.outputs, self.facts.metric, "min", "mse", evaluate)
        assert raw.targets is not None
        return Target("binary", raw.targets.float(), self.facts.tasks, self.facts.metric, evaluate=evaluate)


def parse(name: str, folder: Path, out: GraphWriter, origin: str | None = None) -> None:
    """Read the files of dataset `name` below `folder` in blocks of graphs, and write them to `out`.

    Raises `PoolBenchError` for a file that is malformed or does not hold this dataset, with its name.
    """
    files = _Files(name, folder, origin or str(folder))
    nodes, edges = files.column("raw/num-node-list"), files.column("raw/num-edge-list")
    facts = OGB_NAMES[name]
    for kind, counts in (("raw/num-node-list", nodes), ("raw/num-edge-list", edges)):
        if len(counts) != facts.graphs:
            raise files.error(kind, f"has {len(counts)} lines, but {name} has {facts.graphs} graphs")
        if not ((counts >= 0) & (counts < 2**31)).all():
            wrong = counts[(counts < 0) | (counts >= 2**31)][0]
            raise files.error(kind, f"holds {wrong}, which is no number of nodes or edges")
    _labels(files, facts.kind, facts.tasks, out)
    _parts(files, facts.split, len(nodes), out)
    reader = {"classes": _Associations, "words": _SyntaxTrees}.get(facts.kind, _Molecules)(files)
    for first, last in blocks(edges):
        reader.read(nodes[first:last], edges[first:last], out)
    reader.end()


def blocks(edges: Array) -> Iterator[tuple[int, int]]:
    """Ranges of graphs with about `BLOCK` edges each, of one graph where it has more."""
    ends = np.cumsum(edges)
    first = 0
    while first < len(edges):
        done = ends[first - 1] if first else 0
        last = max(int(np.searchsorted(ends, done + BLOCK, side="right")), first + 1)
        yield first, last
        first = last


# ---------------------------------------------------------------- the kinds of graphs


class _Reader:
    """Reads the files of nodes and edges side by side, a block of graphs at a time."""

    def __init__(self, files: _Files) -> None:
        self.files = files
        self.edge = files.open("raw/edge", np.int64, 2)
        self.others = self.open()

    def open(self) -> Sequence[_Lines]:
        raise NotImplementedError

    def read(self, nodes: Array, edges: Array, out: GraphWriter) -> None:
        """Read the graphs that have these numbers of nodes and edges, and write them."""
        raise NotImplementedError

    def end(self) -> None:
        for lines in (self.edge, *self.others):
            lines.end()

    def edges(self, nodes: Array, edges: Array) -> Array:
        """[2, e], nodes numbered within the block."""
        ends = self.edge.take(int(edges.sum()))
        size = np.repeat(nodes, edges)
        outside = ((ends < 0) | (ends >= size[:, None])).any(1)
        if outside.any():
            at = int(outside.argmax())
            raise self.files.error("raw/edge", f"has the edge {ends[at].tolist()} in a graph of {size[at]} nodes")
        return (ends + np.repeat(np.cumsum(nodes) - nodes, edges)[:, None]).T

    def both_ways(self, nodes: Array, edges: Array) -> Array:
        """[2, 2 e], each edge and then each in the other direction."""
        once = self.edges(nodes, edges)
        return np.concatenate([once, once[::-1]], axis=1)


class _Molecules(_Reader):
    def open(self) -> Sequence[_Lines]:
        self.atom = self.files.open("raw/node-feat", np.int64, len(molecules.ATOM), tuple(molecules.ATOM.values()))
        self.bond = self.files.open("raw/edge-feat", np.int64, len(molecules.BOND), tuple(molecules.BOND.values()))
        return self.atom, self.bond

    def read(self, nodes: Array, edges: Array, out: GraphWriter) -> None:
        atoms, bonds = self.atom.take(int(nodes.sum())), self.bond.take(int(edges.sum()))
        out.add(nodes, self.both_ways(nodes, edges), node_labels=atoms, edge_labels=np.tile(bonds, (2, 1)))


class _Associations(_Reader):
    """ogbg-ppa: neighbourhoods of proteins; an edge has seven scores of how two proteins are associated."""

    def open(self) -> Sequence[_Lines]:
        self.score = self.files.open("raw/edge-feat", np.float64, _PPA_COLUMNS)
        return (self.score,)

    def read(self, nodes: Array, edges: Array, out: GraphWriter) -> None:
        scores = self.score.take(int(edges.sum()))
        if not (np.abs(scores) <= np.finfo(np.float32).max).all():
            raise self.files.error("raw/edge-feat", "holds something that is no number of 32 bits")
        scores = scores.astype(np.float32)
        if (nodes > 2 * edges + 1).any():  # there is no file of nodes, in which they could be counted
            at = int((nodes > 2 * edges + 1).argmax())
            raise self.files.error("raw/num-node-list", f"says {nodes[at]} nodes of a graph with {edges[at]} edges")
        out.add(nodes, self.both_ways(nodes, edges), edge_attributes=np.tile(scores, (2, 1)))


class _SyntaxTrees(_Reader):
    """ogbg-code2."""

    def open(self) -> Sequence[_Lines]:
        self.node = self.files.open("raw/node-feat", np.int64, 2, (code2.NODE_TYPES, code2.NODE_ATTRIBUTES))
        self.attributed = self.files.open("raw/node_is_attributed", np.int64, 1, (2,))
        self.depth = self.files.open("raw/node_depth", np.int64, 1, (1 << 31,))
        return self.node, self.attributed, self.depth

    def read(self, nodes: Array, edges: Array, out: GraphWriter) -> None:
        count = int(nodes.sum())
        labels = np.concatenate([self.node.take(count), self.depth.take(count)], axis=1)
        graph = np.repeat(np.arange(len(nodes)), nodes)
        attributed = self.attributed.take(count)[:, 0] == 1
        augmented, kinds = code2.with_next_tokens(self.edges(nodes, edges), attributed, graph)
        out.add(nodes, augmented, node_labels=labels, edge_attributes=kinds)


# ---------------------------------------------------------------- labels and split


def _labels(files: _Files, kind: str, tasks: int, out: GraphWriter) -> None:
    count = _words(files, out) if kind == "words" else 0
    if kind != "words":
        for rows in files.open("raw/graph-label", np.float64, tasks).pieces():
            count += len(rows)
            if kind == "classes" and not np.isin(rows, np.arange(_PPA_CLASSES)).all():
                raise files.error("raw/graph-label", f"holds something that is no class from 0 to {_PPA_CLASSES - 1}")
            if kind == "numbers" and (np.abs(rows) > np.finfo(np.float32).max).any():
                raise files.error("raw/graph-label", "holds a number that is not finite in 32 bits")
            if kind == "binary" and not (np.isnan(rows) | (rows == 0) | (rows == 1)).all():
                raise files.error("raw/graph-label", "holds something that is neither 0 nor 1 nor empty")
            if kind == "classes":
                out.put("y", rows[:, 0].astype(np.int64))
            else:
                out.put("targets", rows)
    graphs = OGB_NAMES[files.name].graphs
    if count != graphs:
        raise files.error("raw/graph-label", f"has {count} lines, but there are {graphs} graphs")


def _words(files: _Files, out: GraphWriter) -> int:
    """Labels that are words with blanks between them; returns how many labels there are."""
    lexicon, count = code2.Lexicon(), 0
    for rows in files.open("raw/graph-label", str, 1).pieces():
        # As the official loader reads them, a function called null or nan is called nan.
        numbers = [lexicon(str(label).split(" ")) for label in rows[:, 0]]
        out.put("num_words", np.array([len(label) for label in numbers], dtype=np.int64))
        out.put("words", np.concatenate(numbers).astype(np.int64))
        count += len(numbers)
    out.put("lexicon", lexicon.text())
    return count


def _parts(files: _Files, scheme: str, graphs: int, out: GraphWriter) -> None:
    seen = np.zeros(graphs, dtype=bool)
    for part, file in (("train", "train"), ("val", "valid"), ("test", "test")):
        kind = f"split/{scheme}/{file}"
        index = files.column(kind)
        if (outside := (index < 0) | (index >= graphs)).any():
            raise files.error(kind, f"names graph {index[outside][0]}, but graphs are 0 to {graphs - 1}")
        if seen[index].any() or len(np.unique(index)) < len(index):
            raise files.error(kind, "names a graph that is in another part, or twice")
        seen[index] = True
        out.put(part, index)


# ---------------------------------------------------------------- files


class _Files:
    """The files of one dataset, with errors that name the file."""

    def __init__(self, name: str, folder: Path, origin: str) -> None:
        self.name, self.folder, self.origin = name, folder, origin

    def error(self, kind: str, what: str) -> PoolBenchError:
        return PoolBenchError(
            f"dataset {self.name}: {kind}.csv.gz {what}; {self.origin} is no sound copy of {self.name}, "
            "replace it by the official one"
        )

    def open(self, kind: str, dtype: Any, columns: int, below: tuple[int, ...] | None = None) -> _Lines:
        return _Lines(self, kind, dtype, columns, below)

    def column(self, kind: str) -> Array:
        """A file of whole numbers, one a line: [lines] int64."""
        pieces = list(self.open(kind, np.int64, 1).pieces())
        return np.concatenate(pieces)[:, 0] if pieces else np.zeros(0, dtype=np.int64)


class _Lines:
    """The lines of a .csv.gz file in order, some at a time. `below`: each column holds 0 up to less than this."""

    def __init__(self, files: _Files, kind: str, dtype: Any, columns: int, below: tuple[int, ...] | None) -> None:
        self.files, self.kind, self.dtype, self.columns, self.below = files, kind, dtype, columns, below
        self._reader: Any = None
        self._rows = 0

    def take(self, count: int) -> Array:
        """The next `count` lines, [count, columns]."""
        rows = self._next(count) if count else np.zeros((0, self.columns), dtype=self.dtype)
        if len(rows) < count:
            raise self.files.error(self.kind, "has fewer lines than raw/num-node-list and raw/num-edge-list say")
        return rows

    def pieces(self) -> Iterator[Array]:
        """All lines that are left."""
        count = max(min(_PIECE // self.columns, OGB_NAMES[self.files.name].graphs), 1)
        while len(rows := self._next(count)):
            yield rows

    def end(self) -> None:
        """Raises `PoolBenchError` where lines are left."""
        if len(self._next(1)):
            raise self.files.error(self.kind, "has more lines than raw/num-node-list and raw/num-edge-list say")

    def _next(self, count: int) -> Array:
        import pandas as pd

        try:
            if self._reader is None:
                self._text = _Text(self.files.folder / f"{self.kind}.csv.gz")
                self._reader = pd.read_csv(self._text, header=None, dtype=self.dtype, iterator=True)
            self._text.left = count * self.columns * _WORD + _SPARE
            with np.errstate(invalid="ignore"):  # 1e19 as an int64 becomes the smallest one, which is refused
                rows = self._reader.get_chunk(count).to_numpy()
        except (StopIteration, pd.errors.EmptyDataError):
            return self._end()
        except Exception as error:  # of gzip, of pandas, of text that is none
            raise self.files.error(self.kind, f"cannot be read ({said(error)})") from error
        if rows.shape[1] != self.columns:
            raise self.files.error(self.kind, f"has {rows.shape[1]} columns, expected {self.columns}")
        if self.below is not None and ((rows < 0) | (rows >= np.array(self.below))).any():
            raise self.files.error(self.kind, f"holds a number that is not from 0 to below {list(self.below)}")
        self._rows += len(rows)
        return rows

    def _end(self) -> Array:
        # Where a line ends too early pandas fills it up, with what also stands for a label that is not known.
        if self._rows and self.dtype is not str and self._text.commas != (self.columns - 1) * self._rows:
            raise self.files.error(self.kind, f"has lines with fewer than {self.columns} columns")
        return np.zeros((0, self.columns), dtype=self.dtype)


class _Text(gzip.GzipFile):
    """A packed text that counts its commas and gives no more than `left` bytes: a line of it may have any length."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "rb")
        self.left, self.commas = _SPARE, 0

    def read(self, size: int | None = -1) -> bytes:
        return self._counted(super().read(size))

    def read1(self, size: int = -1) -> bytes:
        return self._counted(super().read1(size))

    def _counted(self, text: bytes) -> bytes:
        self.left -= len(text)
        if self.left < 0:
            raise ValueError("its lines are too long to be rows of numbers")
        self.commas += text.count(b",")
        return text
