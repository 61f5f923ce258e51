"""Reading a reference folder: index.json and one .npz file a case."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np


class BadCase(Exception):
    """A case that does not say what the folder's README promises."""


def read_index(folder: Path) -> dict[str, Any]:
    """index.json of a reference folder. Raises BadCase with one line where there is none, or no cases in it."""
    path = folder / "index.json"
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadCase(f"{path}: {error.strerror}; a reference folder has an index.json") from error
    except ValueError as error:
        raise BadCase(f"{path}: not JSON ({error})") from error
    if not isinstance(index, dict) or not isinstance(index.get("cases"), list):
        raise BadCase(f"{path}: no list 'cases' in it")
    if not all(isinstance(entry, dict) for entry in index["cases"]):
        raise BadCase(f"{path}: a case is not an object")
    return index


def read_arrays(folder: Path, entry: dict[str, Any]) -> dict[str, np.ndarray]:
    """The arrays of a case, checked against the shapes and dtypes that the index declares."""
    try:
        with np.load(folder / entry["file"], allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError) as error:
        raise BadCase(f"{entry['file']}: cannot be read ({error})") from error
    declared = entry["arrays"]
    if set(arrays) != set(declared):
        raise BadCase(f"arrays not in both file and index: {', '.join(sorted(set(arrays) ^ set(declared)))}")
    for name, array in arrays.items():
        want = declared[name]
        if list(array.shape) != list(want["shape"]) or str(array.dtype) != want["dtype"]:
            raise BadCase(
                f"{name} is {array.dtype} {list(array.shape)}, the index says {want['dtype']} {want['shape']}"
            )
    return arrays


@dataclass(frozen=True)
class Graph:
    """The rows of one graph: float64 adjacency and which nodes are real."""

    rows: np.ndarray  # indices into the (flattened) node axis
    a: np.ndarray | None
    valid: np.ndarray


@dataclass(frozen=True)
class Case:
    """A case of a folder in Spektral's format."""

    entry: dict[str, Any]
    arrays: dict[str, np.ndarray]

    @property
    def name(self) -> str:
        return self.entry["id"]

    @property
    def layer(self) -> str:
        return self.entry["layer"]

    @property
    def mode(self) -> str:
        return self.entry["mode"]

    @property
    def args(self) -> dict[str, Any]:
        return self.entry["args"]

    @property
    def x(self) -> np.ndarray:
        return self.arrays["x"]

    @property
    def i(self) -> np.ndarray | None:
        return self.arrays.get("i")

    @cached_property
    def a(self) -> np.ndarray | None:
        """The adjacency as a dense matrix."""
        if "a" in self.arrays:
            return self.arrays["a"]
        if "a_indices" not in self.arrays:
            return None
        out = np.zeros(tuple(self.arrays["a_shape"]), dtype=self.arrays["a_values"].dtype)
        np.add.at(out, tuple(self.arrays["a_indices"].T), self.arrays["a_values"])
        return out

    @cached_property
    def graphs(self) -> list[Graph]:
        """One entry a graph, graphs without nodes too."""
        x = self.x
        mask = self.arrays.get("mask")
        if x.ndim == 3:
            b, n = x.shape[:2]
            real = np.ones((b, n), dtype=bool) if mask is None else mask.reshape(b, n) != 0
            a = None if self.a is None else np.broadcast_to(self.a, (b, n, n))
            return [Graph(np.arange(g * n, (g + 1) * n), None if a is None else a[g], real[g]) for g in range(b)]
        n = x.shape[0]
        ids = np.zeros(n, dtype=np.int64) if self.i is None else self.i.reshape(n, -1)[:, 0]
        real = np.ones(n, dtype=bool) if mask is None else mask.reshape(n) != 0
        graphs = []
        for g in range(int(ids.max(initial=0)) + 1):
            rows = np.flatnonzero(ids == g)
            graphs.append(Graph(rows, None if self.a is None else self.a[np.ix_(rows, rows)], real[rows]))
        return graphs

    @property
    def expected(self) -> dict[str, np.ndarray]:
        """The arrays that the library answered."""
        return {k: v for k, v in self.arrays.items() if k.startswith(("out_", "loss_", "grad_"))}

    @classmethod
    def read(cls, folder: Path, entry: dict[str, Any]) -> Case:
        """Raises BadCase where lists, index and file do not fit together."""
        arrays = read_arrays(folder, entry)
        outputs = set()
        for name in entry["outputs"]:
            sparse = {f"out_{name}_{part}" for part in ("indices", "values", "shape")}
            outputs |= sparse if sparse <= set(arrays) else {f"out_{name}"}
        promised = {*entry["inputs"], *entry["weights"], *outputs}
        promised |= {f"loss_{name}" for name in entry["losses"]} | {f"grad_{name}" for name in entry["grads"]}
        if promised != set(arrays):
            raise BadCase(f"arrays not in both file and lists: {', '.join(sorted(promised ^ set(arrays)))}")
        holes = {k for k, v in arrays.items() if v.dtype.kind == "f" and not np.isfinite(v).all()}
        if holes != set(entry.get("non_finite") or []):
            raise BadCase(f"non_finite names {sorted(entry.get('non_finite') or [])}, the file has {sorted(holes)}")
        return cls(entry, arrays)
