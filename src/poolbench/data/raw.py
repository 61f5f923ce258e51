"""A graph dataset as it was read: the content, before any choice of features, split or batch.

`RawGraphs` holds all graphs of a dataset in a few flat tensors. Its order is canonical (nodes by graph, edges by row
and column), so that its fingerprint is that of the content and not of the archive which brought it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from poolbench.disk import put
from poolbench.errors import PoolBenchError

FORMAT = 1
"""Version of the saved form; a file of another version is not read."""

ARRAYS = (
    *("num_nodes", "edge_index", "node_labels", "node_attributes"),
    *("edge_labels", "edge_attributes", "y", "targets", "node_y"),
    *("num_words", "words", "lexicon", "train", "val", "test"),
)
_DTYPES = {
    "node_attributes": torch.float32,
    "edge_attributes": torch.float32,
    "targets": torch.float64,
    "lexicon": torch.uint8,
}


@dataclass(frozen=True, eq=False)
class RawGraphs:
    """All graphs of a dataset: G graphs, N nodes, E directed edges.

    Args:
        name: the dataset's name, as the official host writes it.
        num_nodes: [G] int64, the nodes of each graph; the nodes of graph 0 come first, then those of graph 1, ...
        edge_index: [2, E] int64, global node ids, sources and targets, sorted by (source, target); no self-loop and no
            edge twice. An undirected edge is held in both directions.
        node_labels: [N, L] int64 or None, discrete labels as the files write them.
        node_attributes: [N, D] float32 or None.
        edge_labels: [E, M] int64 or None, in the order of `edge_index`.
        edge_attributes: [E, P] float32 or None, in the order of `edge_index`.
        y: [G] int64, classes 0 .. C - 1 in the order of the labels in the file; None where graphs have no class.
        targets: [G, T] float64 or None, graph labels that are not one class: real numbers, or several columns.
        node_y: [N] int64 or None, classes of the nodes.
        num_words, words, lexicon: where a graph's label is a sequence of words: [G] int64, how many each has; int64,
            all of them one graph after the other, as numbers into the lexicon; uint8, the UTF-8 text of the lexicon,
            a word a line. Else None.
        train, val, test: int64, the graphs of each part in the authors' order, where they fixed a split; else None.
        provenance: where the content came from; no part of it, and so not of the fingerprint.
    """

    name: str
    num_nodes: Tensor
    edge_index: Tensor
    node_labels: Tensor | None = None
    node_attributes: Tensor | None = None
    edge_labels: Tensor | None = None
    edge_attributes: Tensor | None = None
    y: Tensor | None = None
    targets: Tensor | None = None
    node_y: Tensor | None = None
    num_words: Tensor | None = None
    words: Tensor | None = None
    lexicon: Tensor | None = None
    train: Tensor | None = None
    val: Tensor | None = None
    test: Tensor | None = None
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def num_graphs(self) -> int:
        return self.num_nodes.numel()

    @cached_property
    def total_nodes(self) -> int:
        return int(self.num_nodes.sum())

    @property
    def num_edges(self) -> int:
        """Directed edges: an undirected edge counts twice."""
        return self.edge_index.size(1)

    @cached_property
    def num_classes(self) -> int:
        """C. Raises `PoolBenchError` where graphs have no class."""
        labels = self.class_labels()
        return int(labels.max()) + 1 if labels.numel() else 0

    def class_labels(self) -> Tensor:
        """`y`, or one clear line that these graphs are not for classification."""
        if self.y is None:
            kind = "no labels" if self.targets is None else f"{self.targets.size(1)} column(s) of numbers as labels"
            kind = kind if self.words is None else "sequences of words as labels"
            raise PoolBenchError(
                f"dataset {self.name} has no classes: its graphs carry {kind}; "
                "choose a dataset with one class a graph, or a regression task on `targets`"
            )
        return self.y

    @cached_property
    def symmetric(self) -> bool:
        """Whether each edge is there in both directions (labels and attributes of edges are not compared)."""
        row, col = (part.numpy() for part in self.edge_index)
        n = max(self.total_nodes, 1)
        back = col * n + row
        back.sort()
        # The keys row * n + col are sorted already. In slices: one more key array would be the peak of memory.
        step = 1 << 22
        return all(
            np.array_equal(row[k : k + step] * n + col[k : k + step], back[k : k + step])
            for k in range(0, len(back), step)
        )

    def degree(self) -> Tensor:
        """[N] int64, the number of edges that leave each node."""
        return torch.bincount(self.edge_index[0], minlength=self.total_nodes)

    def stats(self) -> dict[str, Any]:
        """Facts for tables. `mean_edges` counts an undirected edge once; where `directed`, each direction."""
        graphs = max(self.num_graphs, 1)
        return {
            "graphs": self.num_graphs,
            "classes": None if self.y is None else self.num_classes,
            "mean_nodes": self.total_nodes / graphs,
            "max_nodes": int(self.num_nodes.max()) if self.num_graphs else 0,
            "mean_edges": self.num_edges / graphs / (2 if self.symmetric else 1),
            "directed": not self.symmetric,
            "node_labels": 0 if self.node_labels is None else self.node_labels.size(1),
            "node_attributes": 0 if self.node_attributes is None else self.node_attributes.size(1),
            "edge_labels": 0 if self.edge_labels is None else self.edge_labels.size(1),
            "edge_attributes": 0 if self.edge_attributes is None else self.edge_attributes.size(1),
        }

    def fingerprint(self) -> str:
        """SHA-256 (hex) of the content in canonical order: of each array its name, dtype, shape and bytes.

        The same for one dataset however its archive was packed, in whichever order its lines stood, on any machine;
        the dataset's name and provenance are no part of it.
        """
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        held = {key: value for key in ARRAYS if (value := getattr(self, key)) is not None}
        return fingerprint(
            (key, str(value.dtype).removeprefix("torch."), list(value.shape), _little_endian_blocks(value))
            for key, value in held.items()
        )

    def with_provenance(self, **facts: Any) -> RawGraphs:
        """The same content with `facts` added to where it came from."""
        return replace(self, provenance={**self.provenance, **facts})

    def save(self, path: Path, **facts: Any) -> None:
        """Write to one file, whole or not at all. `facts` (what JSON can hold) are handed back by `load_facts`.

        Raises `OSError` where the folder cannot be written to.
        """
        meta = {
            "format": FORMAT,
            "name": self.name,
            "fingerprint": self.fingerprint(),
            "symmetric": self.symmetric,
            "provenance": self.provenance,
            "facts": facts,
        }
        arrays = {key: getattr(self, key) for key in ARRAYS if getattr(self, key) is not None}
        if self.total_nodes < 2**31:
            arrays["edge_index"] = self.edge_index.to(torch.int32)  # half the file; `load` widens it again
        put(path, lambda file: torch.save({"meta": json.dumps(meta), **arrays}, file))

    @classmethod
    def load(cls, path: Path) -> RawGraphs:
        """Read what `save` wrote. Raises `PoolBenchError` where the file is of another version, or damaged."""
        return cls.load_facts(path)[0]

    @classmethod
    def load_facts(cls, path: Path) -> tuple[RawGraphs, dict[str, Any]]:
        """`load`, and the facts that `save` was given."""
        try:
            held = torch.load(path, map_location="cpu", weights_only=True)
            meta = json.loads(held["meta"])
            if meta["format"] != FORMAT:
                raise ValueError(f"format {meta['format']}, expected {FORMAT}")
            arrays = {key: held[key].to(_DTYPES.get(key, torch.int64)) for key in ARRAYS if key in held}
            raw = cls(name=meta["name"], provenance=meta["provenance"], **arrays)
        except OSError:
            raise
        except Exception as error:  # torch.load raises half a dozen types for a file that is not its own
            raise PoolBenchError(f"{path} is not a parsed dataset of this version ({error}); remove it") from error
        if raw.fingerprint() != meta["fingerprint"]:
            raise PoolBenchError(f"{path} is damaged: its content does not match its fingerprint; remove it")
        raw.__dict__["symmetric"] = meta["symmetric"]  # fills the cached property, as the content is the same
        return raw, meta["facts"]


def fingerprint(arrays: Iterable[tuple[str, str, list[int], Iterable[bytes]]]) -> str:
    """`RawGraphs.fingerprint` from the name, dtype, shape and bytes of each array that is there, in order `ARRAYS`."""
    digest = hashlib.sha256(b"poolbench-raw-graphs-1")
    for key, dtype, shape, content in arrays:
        digest.update(f"|{key}:{dtype}:{shape}:".encode())
        for block in content:
            digest.update(block)
    return digest.hexdigest()


def _little_endian_blocks(value: Tensor, step: int = 1 << 22) -> Iterator[bytes]:
    """The bytes of a tensor in row-major order, in slices, so that hashing holds no second copy."""
    flat = value.contiguous().reshape(-1).numpy()
    for start in range(0, flat.size, step):
        block = flat[start : start + step]
        yield block.astype(block.dtype.newbyteorder("<"), copy=False).tobytes()
