"""Bianchi's benchmark for graph classification: the class depends on colours and structure together, on neither alone.

F. M. Bianchi, C. Gallicchio, A. Micheli, "Pyramidal Reservoir Graph Neural Network", Neurocomputing 470 (2022), arXiv
2104.04710; files and their fixed parts: https://github.com/FilippoMB/Benchmark_dataset_for_graph_classification (MIT).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from poolbench.data.features import NodeFeatures
from poolbench.data.raw import RawGraphs
from poolbench.data.sources import unpickle
from poolbench.data.sources.files import FileDataset
from poolbench.data.sources.unsound import said
from poolbench.errors import PoolBenchError, nearest

Array = np.ndarray[Any, np.dtype[Any]]

HOST = "https://github.com/FilippoMB/Benchmark_dataset_for_graph_classification/raw/master/datasets"
COLLECTION = "graph_classification_bench"
#: name: file, and the graphs for training, validation and test
BENCH = {
    "Bench-easy-small": ("easy_small.npz", (239, 30, 31)),
    "Bench-hard-small": ("hard_small.npz", (245, 29, 26)),
    "Bench-easy": ("easy.npz", (1475, 162, 163)),
    "Bench-hard": ("hard.npz", (1451, 159, 190)),
}
COLOURS, CLASSES = 5, 3
_PARTS = {"train": "tr", "val": "val", "test": "te"}


class BenchDataset(FileDataset):
    """One of the four sets: three classes, nodes of five colours (`raw.node_labels`), the parts fixed by the authors.

    Graphs are in the order of the file: those for training, validation, test.

    Args:
        name: one of `BENCH`.
        features, use_node_attr, max_degree: see `NodeFeatures`; `auto` is the colour, one-hot.
        data: the cache folder; None for POOLBENCH_DATA or the user's cache folder.
        mirror: folder or base URL laid out as the official hosts are; None for POOLBENCH_MIRROR.

    Raises `PoolBenchError` for a name that there is not, and when loaded, for a file that is missing or damaged.
    """

    def __init__(
        self,
        name: str,
        features: str | Sequence[str] = "auto",
        use_node_attr: bool = True,
        max_degree: int = 135,
        data: str | Path | None = None,
        mirror: str | None = None,
    ) -> None:
        if name not in BENCH:
            raise PoolBenchError(f"there is no benchmark set {name!r}{nearest(str(name), BENCH)}")
        self.file, self.sizes = BENCH[name]
        super().__init__(name, COLLECTION, {self.file: f"{HOST}/{self.file}"}, f"{COLLECTION}/{name}", data, mirror)
        self.features = NodeFeatures(features, use_node_attr=use_node_attr, max_degree=max_degree)

    def official_split(self, raw: RawGraphs) -> dict[str, Tensor]:
        return {part: getattr(raw, part) for part in _PARTS}

    def parse(self, folder: Path) -> RawGraphs:
        path = folder / self.file
        keys = tuple(f"{part}_{what}" for part in _PARTS.values() for what in ("adj", "feat", "class"))
        held = unpickle.load_npz(path, keys)
        for what in ("adj", "feat", "class"):
            sizes = tuple(held[f"{part}_{what}"].shape[:1] for part in _PARTS.values())
            if sizes != tuple((size,) for size in self.sizes):
                found = tuple(size[0] if size else None for size in sizes)
                raise PoolBenchError(f"{path} holds parts of {found} graphs, expected {self.sizes}; fetch it again")
        adjacency, colours, classes = (
            [row for part in _PARTS.values() for row in held[f"{part}_{what}"]] for what in ("adj", "feat", "class")
        )
        try:
            return self._graphs(adjacency, colours, classes, most=4 * path.stat().st_size)
        except (TypeError, ValueError) as error:
            raise PoolBenchError(f"{path} holds something that is no graph ({said(error)}); fetch it again") from error

    def _graphs(self, adjacency: list[Any], colours: list[Array], classes: list[Array], most: int) -> RawGraphs:
        """At most `most` nodes and edges: a file may hold one graph, and mean it a thousand times."""
        labels = np.concatenate([_of_one_hot(rows, COLOURS) for rows in colours])
        starts = np.cumsum([0, *(len(rows) for rows in colours)])
        if len(labels) + sum(getattr(matrix, "nnz", 0) for matrix in adjacency) > most:
            raise ValueError("more than its bytes say: one graph again and again")
        edges = []
        for start, matrix, rows in zip(starts, adjacency, colours, strict=False):
            if not isinstance(matrix, sp.csr_matrix) or matrix.shape != (len(rows), len(rows)):
                raise ValueError(f"something that is no matrix of {len(rows)} nodes")
            matrix.sum_duplicates()
            coo = matrix.tocoo()
            edges.append(start + np.stack([coo.row, coo.col])[:, coo.row != coo.col])
        return RawGraphs(
            name=self.name,
            num_nodes=torch.from_numpy(np.diff(starts)),
            edge_index=torch.from_numpy(np.concatenate(edges, axis=1).astype(np.int64)),
            node_labels=torch.from_numpy(labels)[:, None],
            y=torch.from_numpy(_of_one_hot(np.stack(classes), CLASSES)),
            **dict(zip(_PARTS, torch.arange(len(classes)).split(list(self.sizes)), strict=True)),
        )


def _of_one_hot(rows: Any, columns: int) -> Array:
    """[n] int64, the column of the only one in each row [n, columns]."""
    if not isinstance(rows, np.ndarray) or rows.ndim != 2 or rows.shape[1] != columns or rows.dtype.kind not in "biuf":
        raise ValueError(f"something that is no table of {columns} columns")
    if not np.array_equal(rows, np.eye(columns)[rows.argmax(axis=1)]):
        raise ValueError("a row that is not one-hot")
    return rows.argmax(axis=1).astype(np.int64)
