"""Graphs of one's own as three tables: nodes, edges and graphs, as CSV with names of columns in front, or Parquet."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from poolbench.data.sources.own_graphs import Graph
from poolbench.errors import PoolBenchError, one_line
from poolbench.records.record import PARTS

STEMS = ("nodes", "edges", "graphs")
CSV, PARQUET = ".csv", ".parquet"
_MAX_RATIO, _RATIO_FREE = 200, 1 << 28
"""How much larger than its file a table may be, and bytes that any may have: as of archives (`unpack`)."""

Number = TypeVar("Number", int, float)


def most_bytes(path: Path) -> int:
    """So many bytes may come out of a file that is packed."""
    return max(_RATIO_FREE, _MAX_RATIO * path.stat().st_size)


def tables_in(folder: Path) -> tuple[str, ...]:
    """The names of the three tables that a folder holds or lacks some of; none where it holds none of them.

    Raises `PoolBenchError` where some are CSV and others Parquet.
    """
    here = [f"{stem}{suffix}" for suffix in (CSV, PARQUET) for stem in STEMS if (folder / f"{stem}{suffix}").is_file()]
    suffixes = {Path(name).suffix for name in here}
    if len(suffixes) > 1:
        raise PoolBenchError(f"{folder} holds {', '.join(here)}: give all tables as CSV, or all as Parquet")
    return tuple(f"{stem}{suffix}" for suffix in suffixes for stem in STEMS)


def read_tables(folder: Path) -> tuple[list[Graph], dict[str, list[int]] | None]:
    """The graphs in the order of the table of graphs, and their split where it has one.

    `graphs`: `graph` (a name), perhaps `split` (train, val or test), and columns of labels. `nodes`: `graph`, `node`
    (a name, of its graph), features. `edges`: `graph`, `source`, `target`, features; an edge has one direction, and an
    undirected one two lines. A column of features of whole numbers holds categories, any other values. A column of
    labels of whole numbers is the class; several columns, or other numbers, are to be regressed.

    Raises `PoolBenchError` that names the file, the line and what is wrong.
    """
    nodes, edges, graphs = (_Table.read(folder / name, keys) for name, keys in zip(
        tables_in(folder), (("graph", "node"), ("graph", "source", "target"), ("graph",)), strict=True))  # fmt: skip
    place = _numbered(graphs, [row[0] for row in graphs.keys], "graph")
    node_of = _of(nodes, place)
    _numbered(nodes, [tuple(row) for row in nodes.keys], "node")
    ids: list[dict[str, int]] = [{} for _ in place]
    for k, graph in enumerate(node_of):
        ids[graph][nodes.keys[k][1]] = len(ids[graph])
    edge_of = _of(edges, place)
    ends = [[_end(edges, k, ids[graph], name) for name in edges.keys[k][1:]] for k, graph in enumerate(edge_of)]
    node_rows, edge_rows = _rows(node_of, len(place)), _rows(edge_of, len(place))
    index = torch.tensor(ends, dtype=torch.int64).reshape(-1, 2).T
    labels, attributes = nodes.features()
    edge_labels, edge_attributes = edges.features()
    y = graphs.labels()
    made = [
        Graph(len(ids[k]), index[:, of], _at(labels, at), _at(attributes, at), _at(edge_labels, of),
              _at(edge_attributes, of), None if y is None else y[k])
        for k, (at, of) in enumerate(zip(node_rows, edge_rows, strict=True))
    ]  # fmt: skip
    return made, graphs.split()


@dataclass(frozen=True)
class _Table:
    """path: of the file. keys: of each line the columns that say what it is of. columns: the others by name."""

    path: Path
    keys: list[list[str]]
    columns: dict[str, list[str]]

    @classmethod
    def read(cls, path: Path, keys: tuple[str, ...]) -> _Table:
        names, columns = (_parquet if path.suffix == PARQUET else _csv)(path)
        if missing := [key for key in keys if key not in names]:
            raise PoolBenchError(f"{path} has no column {missing[0]}; there must be {', '.join(keys)}")
        if len(set(names)) < len(names):
            raise PoolBenchError(f"{path} has two columns of one name; each must have its own")
        by_name = dict(zip(names, columns, strict=True))
        rows = [list(row) for row in zip(*(by_name.pop(key) for key in keys), strict=True)]
        return cls(path, rows, by_name)

    def error(self, row: int, what: str) -> PoolBenchError:
        where = f"row {row + 1}" if self.path.suffix == PARQUET else f"line {row + 2}"
        return PoolBenchError(f"{self.path}, {where}: {what}")

    def features(self) -> tuple[Tensor | None, Tensor | None]:
        """(labels, attributes): the columns of whole numbers, and the others; None where there are no lines."""
        if not self.keys:
            return None, None
        whole = {name: each for name, column in self.columns.items() if (each := _whole(column)) is not None}
        others = [self._floats(name) for name in self.columns if name not in whole]
        return _stacked(whole.values(), torch.int64), _stacked(others, torch.float32)

    def labels(self) -> Tensor | None:
        """[G, T], int64 where there is a class; of several numbers one that is not known is an empty word."""
        names = [name for name in self.columns if name != "split"]
        if len(names) == 1 and (whole := _whole(self.columns[names[0]])) is not None:
            return _stacked([whole], torch.int64)
        return _stacked([self._floats(name, unknown=len(names) > 1) for name in names], torch.float64)

    def split(self) -> dict[str, list[int]] | None:
        if (column := self.columns.get("split")) is None:
            return None
        for k, part in enumerate(column):
            if part not in PARTS:
                raise self.error(k, f"split={part!r} is none of {', '.join(PARTS)}")
        return {part: [k for k, each in enumerate(column) if each == part] for part in PARTS}

    def _floats(self, name: str, unknown: bool = False) -> list[float]:
        found = []
        for k, word in enumerate(self.columns[name]):
            value = _number(float, word or "nan" if unknown else word)
            if value is None:
                raise self.error(k, f"{name}={word!r} is no number")
            found.append(value)
        return found


def _csv(path: Path) -> tuple[list[str], list[list[str]]]:
    """The names and the columns of a table, as words."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            lines = list(csv.reader(file, strict=True))
    except FileNotFoundError as error:
        raise _missing(path) from error
    except (OSError, ValueError, csv.Error) as error:
        raise PoolBenchError(f"{path} cannot be read ({one_line(error)}); a table in UTF-8 is expected") from error
    while lines and not lines[-1]:  # empty lines at the end
        lines.pop()
    names = [name.strip() for name in lines[0]] if lines else []
    for k, line in enumerate(lines[1:]):
        if len(line) != len(names):
            raise PoolBenchError(f"{path}, line {k + 2}: {len(line)} values, and {len(names)} columns")
    return names, [[line[j].strip() for line in lines[1:]] for j in range(len(names))]


def _parquet(path: Path) -> tuple[list[str], list[list[str]]]:
    """The same of a Parquet file: as the words that a CSV file would have, so that the same rules go for both."""
    if not path.is_file():
        raise _missing(path)
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise PoolBenchError(
            f"{path}: Parquet is read by pyarrow, which is not installed: pip install pyarrow, or write CSV"
        ) from error
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            size = 8 * file.metadata.num_rows * file.metadata.num_columns
            if size > most_bytes(path):
                raise ValueError(f"{file.metadata.num_rows} rows in so small a file")
            table = file.read()
    except Exception as error:  # of Arrow, whose errors for a damaged file are of half a dozen types
        raise PoolBenchError(
            f"{path} cannot be read ({one_line(error)}); a Parquet file is expected, write it anew"
        ) from error
    if index := [name for name in table.column_names if name.startswith("__index_level_")]:
        raise PoolBenchError(f"{path} has the column {index[0]}, an index of pandas: write it with index=False")
    return table.column_names, [_words(path, *each) for each in zip(table.column_names, table.columns, strict=True)]


def _words(path: Path, name: str, column: Any) -> list[str]:
    from pyarrow import types

    kind = column.type.value_type if types.is_dictionary(column.type) else column.type
    known = (types.is_integer, types.is_floating, types.is_boolean, types.is_string, types.is_large_string)
    if not (any(is_one(kind) for is_one in known) or types.is_null(kind)):
        raise PoolBenchError(f"{path}: the column {name} holds {kind}; numbers, words or true and false are expected")
    values = column.to_pylist()
    return ["" if v is None else str(int(v) if isinstance(v, bool) else v).strip() for v in values]


def _missing(path: Path) -> PoolBenchError:
    names = ", ".join(f"{stem}{path.suffix}" for stem in STEMS)
    return PoolBenchError(f"{path} is missing; {names} are expected")


def _number(kind: Callable[[str], Number], word: str) -> Number | None:
    try:
        return kind(word)
    except ValueError:
        return None


def _whole(column: list[str]) -> list[int] | None:
    """A column as whole numbers that an int64 holds; None where one is none."""
    found = [_number(int, word) for word in column]
    return None if any(v is None or abs(v) >= 1 << 63 for v in found) else [v for v in found if v is not None]


def _stacked(columns: Iterable[list[Any]], dtype: torch.dtype) -> Tensor | None:
    made = [torch.tensor(column, dtype=dtype) for column in columns]
    return torch.stack(made, 1) if made else None


def _numbered(table: _Table, names: list[Any], what: str) -> dict[Any, int]:
    """The place of each name. Raises where one is there twice."""
    place: dict[Any, int] = {}
    for k, name in enumerate(names):
        if place.setdefault(name, k) != k:
            raise table.error(k, f"{what} {name if isinstance(name, str) else name[-1]!r} is there twice")
    return place


def _of(table: _Table, place: dict[str, int]) -> list[int]:
    """The graph of each line."""
    for k, (graph, *_) in enumerate(table.keys):
        if graph not in place:
            raise table.error(k, f"graph {graph!r} is not in graphs{table.path.suffix}")
    return [place[row[0]] for row in table.keys]


def _end(table: _Table, row: int, ids: dict[str, int], name: str) -> int:
    if name not in ids:
        nodes, graph = f"nodes{table.path.suffix}", table.keys[row][0]
        raise table.error(row, f"node {name!r} is not in {nodes} as one of graph {graph!r}")
    return ids[name]


def _rows(of: list[int], count: int) -> list[list[int]]:
    """The lines of each graph."""
    found: list[list[int]] = [[] for _ in range(count)]
    for k, graph in enumerate(of):
        found[graph].append(k)
    return found


def _at(rows: Tensor | None, chosen: list[int]) -> Tensor | None:
    return None if rows is None else rows[chosen]
