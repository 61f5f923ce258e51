"""The parsed form of a dataset that may be larger than memory: a folder with one .npy file for each array.

It is written in blocks of whole graphs, so that no more than a block is ever held, and opened as memory maps where it
is large.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from poolbench.data.raw import ARRAYS, RawGraphs, fingerprint
from poolbench.errors import PoolBenchError, one_line

Array = np.ndarray[Any, np.dtype[Any]]

FORMAT = 1
"""Version of the folder; one of another version is not read."""
IN_MEMORY = 20_000_000
"""Directed edges up to which the arrays are read into memory, and their fingerprint checked each time. Beyond, the
files are mapped, and the fingerprint is the one computed when they were written."""

_META = "meta.json"
_HEADER = 128
_WIDTHS = {"edge_index": np.int64, "node_attributes": np.float32, "edge_attributes": np.float32,
           "targets": np.float64, "lexicon": np.uint8}  # fmt: skip


class GraphWriter:
    """Writes a dataset to the new folder `folder`, block by block; `close` makes it readable by `read_folder`.

    Every array that is given must be given for all blocks. What is handed in is cast to the dtypes of `RawGraphs`.
    `OSError` of the disk passes through.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.graphs = self.nodes = self.edges = 0
        self._symmetric = True
        self._columns: dict[str, _Column] = {}
        self._row, self._col = _Column(folder / "edge_index.npy", np.int64), _Column(folder / "col.part", np.int64)

    def add(self, num_nodes: Array, edges: Array, **arrays: Array | None) -> None:
        """A block of g whole graphs with n nodes in all.

        Args:
            num_nodes: [g]. edges: [2, e], nodes numbered from 0 within the block, in any order. Self-loops are
                dropped; of an edge that is given twice the one with the smallest labels and attributes stays.
            arrays: `node_labels`, `node_attributes` [n, .], `edge_labels`, `edge_attributes` [e, .] in the order of
                `edges`; None for none.
        """
        given = {key: rows for key, rows in arrays.items() if rows is not None}
        of_edges = [key for key in given if key.startswith("edge")]
        n = int(num_nodes.sum())
        keys, order = _canonical(n, edges, [given[key] for key in of_edges])
        row, col = np.divmod(keys, max(n, 1))
        back = col * n + row
        back.sort()
        self._symmetric = self._symmetric and bool(np.array_equal(back, keys))
        self._row.append(row + self.nodes)
        self._col.append(col + self.nodes)
        self.put("num_nodes", num_nodes)
        for key, rows in given.items():
            self.put(key, rows[order] if key in of_edges else rows)
        self.graphs, self.nodes, self.edges = self.graphs + len(num_nodes), self.nodes + n, self.edges + len(keys)

    def put(self, key: str, rows: Array) -> None:
        """More rows of an array of `RawGraphs` that is neither of nodes nor of edges."""
        if key not in self._columns:
            self._columns[key] = _Column(self.folder / f"{key}.npy", _WIDTHS.get(key, np.int64))
        self._columns[key].append(rows)

    def close(self, name: str, provenance: dict[str, Any], **facts: Any) -> None:
        """Finish the files. `facts` (what JSON can hold) are handed back by `read_folder`."""
        self._row.take_over(self._col)
        columns = {"edge_index": self._row, **self._columns}
        shapes = {"edge_index": self._row.close((2, self.edges))}
        shapes |= {key: column.close() for key, column in self._columns.items()}
        assert set(columns) <= set(ARRAYS)
        meta = {
            "format": FORMAT,
            "name": name,
            "edges": self.edges,
            "shapes": shapes,
            "symmetric": self._symmetric,
            "provenance": provenance,
            "facts": facts,
        }
        dtypes = {key: column.dtype.name for key, column in columns.items()}
        meta["fingerprint"] = fingerprint(
            (key, dtypes[key], shapes[key], _bytes(self.folder / f"{key}.npy")) for key in ARRAYS if key in shapes
        )
        with open(self.folder / _META, "w", encoding="utf-8") as file:
            json.dump(meta, file)
            file.flush()
            os.fsync(file.fileno())


def read_folder(folder: Path) -> tuple[RawGraphs, dict[str, Any]]:
    """What a `GraphWriter` wrote, and its facts. The tensors of a large dataset are read-only maps of the files.

    Raises `PoolBenchError` where the folder is of another version or damaged; `OSError` where it cannot be read.
    """
    try:
        meta = json.loads((folder / _META).read_text(encoding="utf-8"))
        if meta["format"] != FORMAT:
            raise ValueError(f"format {meta['format']}, expected {FORMAT}")
        mapped = meta["edges"] > IN_MEMORY
        raw = _content(folder, meta, mapped)
        written, facts, symmetric = meta["fingerprint"], meta["facts"], meta["symmetric"]
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        raise
    except Exception as error:  # of whatever stands there in the place of JSON and arrays
        raise PoolBenchError(
            f"{folder} is not a parsed dataset of this version ({one_line(error)}); remove it"
        ) from error
    if mapped:
        raw.__dict__["_fingerprint"] = written  # fills the cached property: hashing would read every page
    elif raw.fingerprint() != written:
        raise PoolBenchError(f"{folder} is damaged: its content does not match its fingerprint; remove it")
    raw.__dict__["symmetric"] = symmetric
    return raw, facts


def _bytes(path: Path) -> Iterator[bytes]:
    """The content of an array's file. Read, not mapped: pages of a map count as this process's memory."""
    with open(path, "rb") as file:
        file.seek(_HEADER)
        while block := file.read(1 << 24):
            yield block


def _content(folder: Path, meta: dict[str, Any], mapped: bool) -> RawGraphs:
    arrays = {key: _tensor(folder / f"{key}.npy", shape, mapped) for key, shape in meta["shapes"].items()}
    return RawGraphs(name=meta["name"], provenance=meta["provenance"], **arrays)


def _tensor(path: Path, shape: list[int], mapped: bool) -> Tensor:
    # np.memmap refuses what is empty
    held = np.load(path, mmap_mode="r" if mapped and 0 not in shape else None)
    if list(held.shape) != shape:
        raise ValueError(f"{path.name} has shape {list(held.shape)}, expected {shape}")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(held)


def _canonical(n: int, edges: Array, columns: list[Array]) -> tuple[Array, Array]:
    """row * n + col of the edges that stay, in canonical order, and which of the given edges they are."""
    row, col = edges
    key = row * n + col
    order = np.argsort(key, kind="stable")
    held = key[order]
    first = np.ones(len(held), dtype=bool)
    np.not_equal(held[1:], held[:-1], out=first[1:])
    if columns and not first.all():
        by = [column for rows in reversed(columns) for column in rows.T[::-1]]
        order = np.lexsort([*by, key])
    first &= (row != col)[order]
    return (held, order) if first.all() else (held[first], order[first])


class _Column:
    """An array that grows on the disk; the header of the .npy file is filled in at the end."""

    def __init__(self, path: Path, dtype: Any) -> None:
        self.path, self.dtype = path, np.dtype(dtype).newbyteorder("<")
        self.shape: list[int] = []
        self.file: BinaryIO = open(path, "w+b")  # noqa: SIM115 - `close` does
        self.file.write(bytes(_HEADER))

    def append(self, rows: Array) -> None:
        if not np.can_cast(rows.dtype, self.dtype, "same_kind"):
            raise TypeError(f"{self.path.name} holds {self.dtype}, got {rows.dtype}")
        held = np.ascontiguousarray(rows, dtype=self.dtype)
        self.file.write(held.data)
        self.shape = [len(held) + (self.shape[0] if self.shape else 0), *held.shape[1:]]

    def take_over(self, other: _Column) -> None:
        """Append the rows of `other`, whose file goes."""
        other.file.seek(_HEADER)
        shutil.copyfileobj(other.file, self.file, 1 << 24)
        other.file.close()
        other.path.unlink()

    def close(self, shape: tuple[int, ...] | None = None) -> list[int]:
        """Write the header (format 1.0 of numpy.lib.format); returns the shape."""
        final = tuple(shape or self.shape)
        text = repr({"descr": self.dtype.str, "fortran_order": False, "shape": final}).encode()
        start = np.lib.format.magic(1, 0) + struct.pack("<H", _HEADER - 10)
        self.file.seek(0)
        self.file.write(start + text.ljust(_HEADER - 11) + b"\n")
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()
        return list(final)
