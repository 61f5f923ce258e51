"""Datasets in the format of the TU collection (Morris et al., TUDataset: A collection of benchmark datasets, 2020).

A dataset NAME is a handful of text files: NAME_A.txt (a directed edge a line), NAME_graph_indicator.txt (the graph of
each node), NAME_graph_labels.txt or NAME_graph_attributes.txt, and labels or attributes of nodes and edges where there
are any. All ids in the files start at 1.
"""

from __future__ import annotations

import errno
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from poolbench.data.cache import CacheNotWritable, cache_dir, kept, workspace
from poolbench.data.dataset import GraphDataset
from poolbench.data.features import Features, NodeFeatures, edge_features
from poolbench.data.raw import RawGraphs
from poolbench.data.sources import fetch
from poolbench.data.sources.tu_names import TEMPORAL, TU_NAMES
from poolbench.data.sources.tu_text import WHOLE, TextFiles
from poolbench.data.sources.unpack import unpack
from poolbench.data.twins import check_how, deduplicate
from poolbench.errors import PoolBenchError, nearest

__all__ = ["TU_NAMES", "TUDataset", "parse"]

HOST = "https://www.chrsmrrs.com/graphkerneldatasets"
COLLECTION = "TUDataset"
PARSED = "parsed-v1.pt"

Array = np.ndarray[Any, np.dtype[Any]]


class TUDataset(GraphDataset):
    """A dataset of the TU collection by its official name, such as `PROTEINS`; nothing is touched until `load`.

    Args:
        name: the official name (`TU_NAMES`), or any other that the cache or a mirror holds in this format.
        features, use_node_attr, max_degree: see `NodeFeatures`, which makes `node_features`.
        deduplicate: True, False or "cleaned": whether `load` leaves out isomorphic graphs (`twins.deduplicate`).
        data: the cache folder; None for POOLBENCH_DATA or the user's cache folder.
        mirror: folder or base URL laid out as the official hosts are; None for POOLBENCH_MIRROR.

    Raises `PoolBenchError` for a name that is no file name, or features that there are not.
    """

    folder: Path

    def __init__(
        self,
        name: str,
        features: str | Sequence[str] = "auto",
        use_node_attr: bool = True,
        max_degree: int = 135,
        deduplicate: bool | str = False,
        data: str | Path | None = None,
        mirror: str | None = None,
    ) -> None:
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][\w.+-]*", name):
            raise PoolBenchError(f"dataset name {name!r} is no name of a TU dataset, such as PROTEINS or MUTAG")
        self.name = name
        self.features = NodeFeatures(features, use_node_attr=use_node_attr, max_degree=max_degree)
        check_how(deduplicate)
        self.deduplicate = deduplicate
        self.cache = cache_dir(data)
        self.mirror = mirror
        self.folder = self.cache / COLLECTION / self.name

    def edge_features(self, raw: RawGraphs) -> Features | None:
        return edge_features(raw)

    def load(self) -> RawGraphs:
        """The dataset's content: from the cache, else a package that ships it, a mirror, or the official host.

        The files are parsed once; the parsed form stays in the cache with its provenance. Processes that load the
        same dataset at the same time wait for the first one. Isomorphic graphs are left out afterwards, if at all.

        Raises `PoolBenchError`: nobody has it, its archive or its files are damaged, the cache cannot be written to.
        """
        return deduplicate(self._load(), self.deduplicate)

    def _load(self) -> RawGraphs:
        if parsed := self._load_parsed():
            return parsed
        try:
            with workspace(self.cache, f"{COLLECTION}-{self.name}") as work:
                return self._load_parsed() or self._save(self._read(work))
        except CacheNotWritable:
            # A shared cache may be read-only and hold the files: they are then parsed by each process.
            if folder := self._raw_folder():
                return self._parse(folder)
            raise

    # ------------------------------------------------------------ the parsed form in the cache

    def _load_parsed(self) -> RawGraphs | None:
        """The parsed form, or None where there is none, it is damaged, or the files it was made from have changed."""
        found = kept(self.folder / PARSED, RawGraphs.load_facts, "reading the dataset anew")
        if found is None:
            return None
        raw, facts = found
        folder = self._raw_folder()
        stale = folder is not None and facts.get("files") is not None and facts["files"] != self._signature(folder)
        return None if stale else raw

    def _save(self, raw: RawGraphs) -> RawGraphs:
        folder = self._raw_folder()
        raw.save(self.folder / PARSED, files=None if folder is None else self._signature(folder))
        return raw

    def _signature(self, folder: Path) -> dict[str, list[int]]:
        """Size and time of each file: tells that somebody has put other files there."""
        stats = {path.name: path.stat() for path in self._files(folder)}
        return {name: [stat.st_size, stat.st_mtime_ns] for name, stat in stats.items()}

    # ------------------------------------------------------------ the files

    def _raw_folder(self) -> Path | None:
        """The folder in the cache that holds the files, if any: `raw`, where PyG keeps them too, or the one above."""
        folders = (self.folder / "raw", self.folder)
        return next((folder for folder in folders if (folder / f"{self.name}_A.txt").is_file()), None)

    def _read(self, work: Path) -> RawGraphs:
        """Find the files, fetch them into the cache where need be, and parse them."""
        if folder := self._raw_folder():
            return self._parse(folder)
        zip_name = f"{self.name}.zip"
        if own := fetch.at_hand(self.folder.parent / zip_name, self.folder / zip_name):
            return self._unpack(own, work)
        if shipped := fetch.shipped_folder(self.name):
            return self._parse(shipped.path)
        return self._unpack(self._fetch(work), work)

    def _fetch(self, work: Path) -> fetch.Archive:
        paths = [f"{COLLECTION}/{self.name}.zip", f"graphkerneldatasets/{self.name}.zip", f"{self.name}.zip"]
        try:
            return fetch.fetch_archive(self.name, paths, f"{HOST}/{self.name}.zip", work, self.mirror)
        except fetch.Absent as error:
            raise PoolBenchError(self._absent(str(error))) from error

    def _absent(self, tried: str) -> str:
        what = f"dataset {self.name} is not here"
        if self.name not in TU_NAMES:
            what = f"unknown TU dataset {self.name!r}{nearest(self.name, TU_NAMES)}"
        return (
            f"{what}: {tried}. Three ways to supply it: put {self.name}.zip or its unpacked files into "
            f"{self.folder}; set POOLBENCH_MIRROR to a folder or URL that holds {COLLECTION}/{self.name}.zip; or go "
            f"online (`poolbench prepare dataset={self.name}` on a connected machine, then copy the cache folder)"
        )

    def _unpack(self, archive: fetch.Archive, work: Path) -> RawGraphs:
        """Unpack and parse in the workspace: only what is a sound dataset moves to its place, and at once."""
        names = unpack(archive, work / "raw", lambda n: n.startswith(f"{self.name}_") or n == "README.txt")
        if f"{self.name}_A.txt" not in names:
            raise PoolBenchError(
                f"archive {archive.origin} holds no {self.name}_A.txt, so it is not TU dataset {self.name}; "
                "fetch it again, or rename it to the dataset that it holds"
            )
        raw = parse(self.name, work / "raw", archive.provenance, archive.origin)
        (work / "raw" / "provenance.json").write_text(json.dumps(archive.provenance), encoding="utf-8")
        target = self.folder / "raw"
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            (work / "raw").rename(target)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
            raise PoolBenchError(f"{target} exists and holds no {self.name}_A.txt; remove it") from error
        return raw

    def _parse(self, folder: Path) -> RawGraphs:
        return parse(self.name, folder, self._provenance(folder))

    def _provenance(self, folder: Path) -> dict[str, Any]:
        """What was noted when the files came, or what can be said of files that somebody put there."""
        if facts := fetch.noted(folder):
            return facts
        shipped = fetch.shipped_folder(self.name)
        if shipped and shipped.path == folder:
            facts = shipped.provenance
        else:
            facts = {"kind": "cache", "where": f"{COLLECTION}/{self.name}", "sha256": None, "retrieved": fetch.now()}
        return {**facts, "files_sha256": fetch.files_sha256(folder, (path.name for path in self._files(folder)))}

    def _files(self, folder: Path) -> list[Path]:
        return sorted(folder.glob(f"{self.name}_*.txt"))


# ---------------------------------------------------------------- parsing


def parse(name: str, folder: Path, provenance: dict[str, Any] | None = None, origin: str | None = None) -> RawGraphs:
    """Read the files of dataset `name` in `folder`; `origin` is what messages call the place that they came from.

    Self-loops and repeated edges are dropped (of an edge that is given twice with different labels the smallest
    labels stay), directed edges are kept as they are, and nodes are put in the order of their graphs.

    Of `TEMPORAL` datasets nodes have the last of their labels, and an edge the first time at which it is there.

    Raises `PoolBenchError` for a file that is missing or malformed, with the file's name, the line and what is wrong.
    """
    files = TextFiles(name, folder, origin or str(folder))
    graph_of = files.integers("graph_indicator", columns=1, required=True)[:, 0]
    y, targets, num_graphs = _graph_labels(files)
    _check_graphs(files, graph_of, num_graphs)
    graph_of -= 1
    order = None if (np.diff(graph_of) >= 0).all() else np.argsort(graph_of, kind="stable")
    edge_index, edge_labels, edge_attributes = _edges(files, graph_of, order)
    node_labels = files.last_labels("node_labels") if name in TEMPORAL else files.integers("node_labels")
    node_attributes = files.floats("node_attributes")
    for kind, rows in (("node_labels", node_labels), ("node_attributes", node_attributes)):
        if rows is not None and len(rows) != len(graph_of):
            raise files.error(kind, f" has {len(rows)} lines, but the dataset has {len(graph_of)} nodes")
    reorder = slice(None) if order is None else order
    return RawGraphs(
        name=name,
        num_nodes=torch.from_numpy(np.bincount(graph_of, minlength=num_graphs)),
        edge_index=edge_index,
        node_labels=None if node_labels is None else _tensor(node_labels[reorder]),
        node_attributes=None if node_attributes is None else _tensor(node_attributes[reorder]),
        edge_labels=edge_labels,
        edge_attributes=edge_attributes,
        y=y,
        targets=targets,
        provenance=provenance or {},
    )


def _tensor(rows: Array) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(rows))


def _check_graphs(files: TextFiles, graph_of: Array, num_graphs: int) -> None:
    """Whether nodes name the graphs 1 to `num_graphs`, of which there are labels, and the last of them has a node."""
    wrong = (graph_of < 1) | (graph_of > num_graphs)
    if wrong.any():
        row = int(wrong.argmax())
        what = "is no graph, they count from 1" if graph_of[row] < 1 else f"is no graph: only {num_graphs} have labels"
        raise files.at("graph_indicator", row, what, column=0)
    last = int(graph_of.max(initial=0))
    if last < num_graphs:
        kind = "graph_labels" if files.path("graph_labels").is_file() else "graph_attributes"
        raise files.at(kind, last, f"the label of graph {last + 1}, but nodes belong to graphs 1 to {last}")


def _graph_labels(files: TextFiles) -> tuple[Tensor | None, Tensor | None, int]:
    """Classes, numbers to regress, and how many graphs have either.

    One column of whole numbers is a class; everything else is held as numbers.
    """
    labels, targets = files.numbers("graph_labels"), files.numbers("graph_attributes")
    if labels is None and targets is None:
        raise files.error("graph_labels", " is missing (and there is no graph_attributes file either)")
    if labels is not None and targets is not None and len(labels) != len(targets):
        raise files.error("graph_attributes", f" has {len(targets)} lines, graph_labels has {len(labels)}")
    count = len(labels) if labels is not None else len(targets) if targets is not None else 0
    y = None
    if labels is not None and labels.shape[1] == 1 and (labels == np.rint(labels)).all():
        if (beyond := np.abs(labels) > WHOLE).any():
            raise files.at("graph_labels", int(beyond.argmax()), "is too large for the number of a class", column=0)
        y = torch.from_numpy(np.unique(labels[:, 0], return_inverse=True)[1].reshape(-1).astype(np.int64))
    elif labels is not None:
        targets = labels if targets is None else np.concatenate([labels, targets], axis=1)
    return y, None if targets is None else _tensor(targets), count


def _edges(files: TextFiles, graph_of: Array, order: Array | None) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """edge_index [2, E] in canonical order, and the labels and attributes of those edges.

    Lean on purpose: COLLAB has 24.6 million lines. An edge is one int64 key row * N + col, sorted in place.
    """
    keys, kept, lines = _edge_keys(files, graph_of, order)
    labels, attributes = files.integers("edge_labels"), files.floats("edge_attributes")
    for kind, rows in (("edge_labels", labels), ("edge_attributes", attributes)):
        if rows is not None and len(rows) != lines:
            raise files.error(kind, f" has {len(rows)} lines, but {files.path('A').name} has {lines}")
    columns = [rows[kept] for rows in (labels, attributes) if rows is not None]
    if columns:
        # By key, and edges of one key by their labels: which of them stays must not hang on the order of lines.
        by = np.lexsort([column for rows in reversed(columns) for column in rows.T[::-1]] + [keys])
        keys, columns = keys[by], [rows[by] for rows in columns]
    else:
        keys.sort()
    first = np.ones(len(keys), dtype=bool)
    np.not_equal(keys[1:], keys[:-1], out=first[1:])
    if not first.all():
        keys, columns = keys[first], [rows[first] for rows in columns]
    edge_index = torch.empty(2, len(keys), dtype=torch.int64)
    np.divmod(keys, max(len(graph_of), 1), out=tuple(edge_index.numpy()))
    held = iter(_tensor(rows) for rows in columns)
    return edge_index, next(held) if labels is not None else None, next(held) if attributes is not None else None


def _edge_keys(files: TextFiles, graph_of: Array, order: Array | None) -> tuple[Array, Array | slice, int]:
    """row * N + col of each line that is no self-loop, which lines those are, and the number of lines."""
    n = len(graph_of)
    place = None
    if order is not None:
        place = np.empty_like(order)
        place[order] = np.arange(n)
    keys, kept, lines = [], [], 0
    for ends in files.chunks("A", np.int64, columns=2):
        ends -= 1
        if ends.size and not (ends.min() >= 0 and ends.max() < n):
            wrong = np.argwhere((ends < 0) | (ends >= n))[0]
            raise files.at("A", lines + int(wrong[0]), f"is no node, they are 1 to {n}", int(wrong[1]))
        row, col = ends[:, 0], ends[:, 1]
        across = graph_of[row] != graph_of[col]
        if across.any():
            at = int(across.argmax())
            raise files.at("A", lines + at, f"an edge between two graphs, nodes {row[at] + 1} and {col[at] + 1}")
        keep = row != col
        lines += len(row)
        kept.append(keep)
        row, col = row[keep], col[keep]
        keys.append(row * n + col if place is None else place[row] * n + place[col])
    all_kept = np.concatenate(kept) if kept else np.zeros(0, dtype=bool)
    return np.concatenate(keys) if keys else np.zeros(0, dtype=np.int64), all_kept, lines
