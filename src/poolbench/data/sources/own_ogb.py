"""Graphs of one's own in a folder laid out as those of the Open Graph Benchmark: gzipped CSV files without header.

raw/num-node-list and raw/num-edge-list: a graph a line; raw/edge: an edge a line, nodes numbered from 0 within each
graph; raw/node-feat and raw/edge-feat: a node or an edge a line; raw/graph-label: a graph a line;
split/SCHEME/train, valid, test: the graphs of each part. As in OGB's own sets an edge is undirected and listed once.
"""

from __future__ import annotations

import gzip
import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from poolbench.data.sources.own_graphs import Graph
from poolbench.data.sources.own_tables import most_bytes
from poolbench.data.sources.unsound import said
from poolbench.errors import PoolBenchError

NEEDED = ("raw/edge", "raw/num-node-list", "raw/num-edge-list")
FURTHER = ("raw/node-feat", "raw/edge-feat", "raw/graph-label")
PARTS = {"train": "train", "val": "valid", "test": "test"}

Array = np.ndarray[Any, np.dtype[Any]]


def is_ogb(folder: Path) -> bool:
    """Whether a folder is laid out so."""
    return (folder / "raw").is_dir()


def ogb_files(folder: Path) -> list[str]:
    """The files that `read_ogb` reads of a folder, relative to it."""
    optional = [kind for kind in FURTHER if _path(folder, kind).is_file()]
    scheme = _scheme(folder)
    return [
        f"{kind}.csv.gz" for kind in (*NEEDED, *optional, *(f"{scheme}/{part}" for part in PARTS.values() if scheme))
    ]


def read_ogb(folder: Path) -> tuple[list[Graph], dict[str, list[int]] | None]:
    """The graphs in the order of the files, each edge in both directions, and their split where there is one.

    A column of features of whole numbers holds categories, any other values. A label of one whole number is the class;
    several, or other numbers, are to be regressed, and are left empty where they are not known.

    Raises `PoolBenchError` that names the file and what is wrong.
    """
    nodes, edges = (_counts(folder, f"raw/num-{what}-list") for what in ("node", "edge"))
    if len(nodes) != len(edges):
        raise _error(folder, "raw/num-edge-list", f"has {len(edges)} lines, and raw/num-node-list has {len(nodes)}")
    index = _whole(folder, "raw/edge", 2)
    _check_lines(folder, "raw/edge", index, int(edges.sum()), "raw/num-edge-list")
    x = _features(folder, "raw/node-feat", int(nodes.sum()), "raw/num-node-list")
    e = _features(folder, "raw/edge-feat", int(edges.sum()), "raw/num-edge-list")
    y = _labels(folder, len(nodes))
    node_ends, edge_ends = np.cumsum(nodes), np.cumsum(edges)
    made = []
    for k, (n, m) in enumerate(zip(nodes.tolist(), edges.tolist(), strict=True)):
        of, at = slice(edge_ends[k] - m, edge_ends[k]), slice(node_ends[k] - n, node_ends[k])
        once = torch.from_numpy(index[of].T)
        labels, attributes = (None if rows is None else rows[at] for rows in x)
        edge_labels, edge_attributes = (None if rows is None else rows[of].repeat(2, 1) for rows in e)
        both = torch.cat([once, once.flip(0)], 1)
        made.append(Graph(n, both, labels, attributes, edge_labels, edge_attributes, None if y is None else y[k]))
    return made, _split(folder)


def _features(folder: Path, kind: str, count: int, by: str) -> tuple[Tensor | None, Tensor | None]:
    """(labels [rows, L] int64, attributes [rows, D] float32): the columns of whole numbers, and the others."""
    if not _path(folder, kind).is_file():
        return None, None
    columns = _columns(folder, kind)
    _check_lines(folder, kind, columns[0] if columns else [], count, by)
    whole, others = ([c for c in columns if (c.dtype.kind == "i") is is_whole] for is_whole in (True, False))
    return _stacked(whole, torch.int64), _stacked(others, torch.float32)


def _labels(folder: Path, graphs: int) -> Tensor | None:
    """[G, T], int64 where there is a class; None where there is no such file."""
    if not _path(folder, kind := "raw/graph-label").is_file():
        return None
    columns = _columns(folder, kind)
    _check_lines(folder, kind, columns[0] if columns else [], graphs, "raw/num-node-list")
    is_class = len(columns) == 1 and columns[0].dtype.kind == "i"
    return _stacked(columns, torch.int64 if is_class else torch.float64)


def _split(folder: Path) -> dict[str, list[int]] | None:
    """The split; that it names each graph once is looked at where all splits are."""
    scheme = _scheme(folder)
    if scheme is None:
        return None
    return {part: _whole(folder, f"{scheme}/{file}", 1)[:, 0].tolist() for part, file in PARTS.items()}


def _scheme(folder: Path) -> str | None:
    schemes = sorted(path.name for path in (folder / "split").glob("*") if path.is_dir())
    if len(schemes) > 1:
        raise PoolBenchError(f"{folder / 'split'} holds the splits {', '.join(schemes)}: leave the one that counts")
    return f"split/{schemes[0]}" if schemes else None


# ---------------------------------------------------------------- files


def _path(folder: Path, kind: str) -> Path:
    return folder / f"{kind}.csv.gz"


def _error(folder: Path, kind: str, what: str) -> PoolBenchError:
    return PoolBenchError(f"{_path(folder, kind)} {what}")


def _columns(folder: Path, kind: str) -> list[Array]:
    """The columns of a file, each int64 or float64."""
    import pandas as pd

    path = _path(folder, kind)
    try:
        most = most_bytes(path)
        with gzip.open(path) as file:
            text = file.read(most + 1)
        if len(text) > most:
            raise ValueError(f"more than {most} bytes in so small a file")
        table = pd.read_csv(io.BytesIO(text), header=None)
    except FileNotFoundError as error:
        raise _error(folder, kind, f"is missing; {', '.join(NEEDED)} are expected") from error
    except pd.errors.EmptyDataError:
        return []
    except Exception as error:  # of gzip, of pandas, of text that is none
        raise _error(folder, kind, f"cannot be read ({said(error)}); a gzipped table of numbers is expected") from error
    columns = [table[name].to_numpy() for name in table]
    for k, column in enumerate(columns):
        if column.dtype not in (np.int64, np.float64):
            raise _error(folder, kind, f"holds something that is no number, in column {k + 1}")
    return columns


def _whole(folder: Path, kind: str, width: int) -> Array:
    """[lines, width] int64."""
    columns = _columns(folder, kind)
    if columns and (len(columns) != width or any(column.dtype.kind != "i" for column in columns)):
        raise _error(folder, kind, f"has not {width} whole number{'s'[: width > 1]} a line")
    return np.stack(columns, 1) if columns else np.zeros((0, width), dtype=np.int64)


def _counts(folder: Path, kind: str) -> Array:
    """[G] int64."""
    counts = _whole(folder, kind, 1)[:, 0]
    if (wrong := counts[(counts < 0) | (counts >= 2**31)]).size:
        raise _error(folder, kind, f"holds {wrong[0]}, which is no number of nodes or edges")
    return counts


def _check_lines(folder: Path, kind: str, rows: Any, count: int, by: str) -> None:
    if len(rows) != count:
        raise _error(folder, kind, f"has {len(rows)} lines, and {by} says {count}")


def _stacked(columns: list[Array], dtype: torch.dtype) -> Tensor | None:
    return torch.from_numpy(np.stack(columns, 1)).to(dtype) if columns else None
