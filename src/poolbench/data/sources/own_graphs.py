"""From graphs in memory, of PyTorch Geometric or networkx, to `RawGraphs`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from poolbench.data.raw import RawGraphs
from poolbench.errors import PoolBenchError, one_line
from poolbench.records.record import PARTS


@dataclass(frozen=True)
class Graph:
    """One graph with n nodes and e directed edges.

    edge_index: [2, e] int64. node_labels, edge_labels: [n, L], [e, M] int64 or None. node_attributes, edge_attributes:
    [n, D], [e, P] float32 or None. y: [T] int64, or float64 where it is no class; None where there is none.
    """

    num_nodes: int
    edge_index: Tensor
    node_labels: Tensor | None = None
    node_attributes: Tensor | None = None
    edge_labels: Tensor | None = None
    edge_attributes: Tensor | None = None
    y: Tensor | None = None


OPTIONAL = tuple(each.name for each in fields(Graph))[2:]


def raw_graphs(name: str, given: Any) -> RawGraphs:
    """The content of the dataset `name`.

    Args:
        given: a list of graphs, each a `torch_geometric.data.Data`, a networkx graph or a `Graph`; or that list and a
            split, a mapping from `train`, `val` and `test` to the numbers of graphs (from 0), each graph in one part.

    Raises `PoolBenchError`, in one line that names the graph and what is wrong with it.
    """
    pair = isinstance(given, tuple) and len(given) == 2 and isinstance(given[0], list | tuple)
    graphs, split = given if pair else (given, None)
    if isinstance(graphs, str | Mapping) or not isinstance(graphs, Sequence) or not graphs:
        kind = "an empty list" if isinstance(graphs, Sequence) and not graphs else type(graphs).__name__
        raise PoolBenchError(f"dataset {name}: a list of graphs, or (list, split), is expected, got {kind}")
    made: list[Graph] = []
    widths: dict[str, int] = {}
    for k, graph in enumerate(graphs):
        try:
            made.append(_checked(graph if isinstance(graph, Graph) else _converted(graph)))
            _alike(made[-1], widths)
        except (ValueError, TypeError, RuntimeError) as error:  # the last are torch's own
            raise PoolBenchError(f"dataset {name}: graph {k}: {one_line(error)}") from error
    return _assembled(name, made, _parts(name, split, len(made)))


def _converted(graph: Any) -> Graph:
    if hasattr(graph, "edge_index"):
        return _of_data(graph)
    if hasattr(graph, "is_directed") and hasattr(graph, "nodes"):
        return _of_networkx(graph)
    raise TypeError(f"a torch_geometric.data.Data or a networkx graph is expected, got {type(graph).__name__}")


def _of_data(data: Any) -> Graph:
    x, edges, y = (getattr(data, key, None) for key in ("x", "edge_attr", "y"))
    if not isinstance(data.edge_index, Tensor):
        raise TypeError(f"edge_index is {type(data.edge_index).__name__}, a tensor [2, e] is expected")
    if x is None and "num_nodes" not in data:
        raise ValueError("it says not how many nodes it has; give x or num_nodes")
    index = data.edge_index.detach().cpu()
    return Graph(int(data.num_nodes), index, *_features("x", x), *_features("edge_attr", edges), _y(y))


def _of_networkx(graph: Any) -> Graph:
    """Of nodes the attribute `x`, of edges `edge_attr`, of the graph `y`; an undirected edge in both directions."""
    place = {node: k for k, node in enumerate(graph.nodes)}
    pairs, edges = [], []
    for source, target, attributes in graph.edges(data=True):
        ends = (place[source], place[target])
        both = [ends] if graph.is_directed() else [ends, ends[::-1]]
        pairs += both
        edges += [attributes.get("edge_attr")] * len(both)
    return Graph(
        len(place),
        torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).T,
        *_features("x", _rows("x", [attributes.get("x") for _, attributes in graph.nodes(data=True)])),
        *_features("edge_attr", _rows("edge_attr", edges)),
        _y(graph.graph.get("y")),
    )


def _rows(key: str, values: list[Any]) -> list[Any] | None:
    """What all nodes or edges have, one below the other; None where none has it."""
    missing = sum(value is None for value in values)
    if missing == len(values):
        return None
    if missing:
        raise ValueError(f"{missing} of {len(values)} have no {key}; give it to all or to none")
    return values


def _features(key: str, value: Any) -> tuple[Tensor | None, Tensor | None]:
    """(labels, attributes): whole numbers are categories, others are values."""
    if value is None:
        return None, None
    rows = _tensor(key, value)
    rows = rows[:, None] if rows.dim() == 1 else rows
    if rows.dim() != 2:
        raise ValueError(f"{key} has the shape {list(rows.shape)}, a row for each of them is expected")
    if rows.shape[1] == 0:
        return None, None
    if rows.is_floating_point() or rows.dtype == torch.bool:
        return None, rows.to(torch.float32)
    return rows.to(torch.int64), None


def _y(value: Any) -> Tensor | None:
    if value is None:
        return None
    y = _tensor("y", value)
    if y.dim() > 1 and y.shape[0] != 1:
        raise ValueError(f"y has the shape {list(y.shape)}, one class, one number or one row of them is expected")
    if not y.numel():
        raise ValueError("y is empty; give a class or numbers, or no y")
    y = y.reshape(-1)
    return y.to(torch.float64 if y.is_floating_point() else torch.int64)


def _tensor(key: str, value: Any) -> Tensor:
    try:
        made = value if isinstance(value, Tensor) else torch.as_tensor(np.asarray(value))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{key} is not made of numbers, or its rows are of different lengths") from error
    if made.is_complex():
        raise ValueError(f"{key} is complex, real numbers are expected")
    return made.detach().cpu().to_dense()


def _checked(graph: Graph) -> Graph:
    """The graph. Raises `ValueError` where its parts do not go together."""
    index, n = graph.edge_index, graph.num_nodes
    if n < 1:
        raise ValueError("it has no nodes")
    if index.dim() != 2 or index.shape[0] != 2 or index.dtype not in (torch.int64, torch.int32):
        raise ValueError(f"edge_index is {index.dtype} of shape {list(index.shape)}, int64 of [2, e] is expected")
    if index.numel() and (int(index.min()) < 0 or int(index.max()) >= n):
        wrong = int(index[(index < 0) | (index >= n)][0])
        raise ValueError(f"edge_index names node {wrong}, but its nodes are 0 to {n - 1}")
    for key in OPTIONAL[:-1]:
        rows, count = getattr(graph, key), n if key.startswith("node") else index.shape[1]
        if rows is not None and len(rows) != count:
            what = "x" if key.startswith("node") else "edge_attr"
            raise ValueError(f"{what} has {len(rows)} rows for {count} {'nodes' if what == 'x' else 'edges'}")
        if rows is not None and not bool(torch.isfinite(rows).all()):
            raise ValueError(f"{'x' if key.startswith('node') else 'edge_attr'} has values that are not finite")
    if graph.y is not None and bool(torch.isinf(graph.y).any()):
        raise ValueError("y has values that are infinite; NaN stands for a number that is not known")
    return graph


def _alike(graph: Graph, widths: dict[str, int]) -> None:
    """Raise `ValueError` where a graph has other columns than those before it; of edges, where it has any.

    Args:
        widths: the columns of those before, which this one adds to.
    """
    for key in OPTIONAL:
        if key.startswith("edge") and not graph.edge_index.numel():
            continue
        rows = getattr(graph, key)
        width = 0 if rows is None else int(rows.shape[-1])
        if width != widths.setdefault(key, width):
            if key == "y" and not (width and widths[key]):
                raise ValueError(f"it has {'a' if width else 'no'} y, those before it have{' none' if width else ''}")
            raise ValueError(
                f"it has {width} columns of {key.replace('_', ' ')}, those before it {widths[key]} "
                "(of x and edge_attr, whole numbers are labels and others attributes)"
            )
    if graph.y is not None:
        whole = int(not graph.y.is_floating_point())
        if whole != widths.setdefault("whole y", whole):
            raise ValueError("y is a whole number here and not in those before, or the reverse; give all one type")


def _parts(name: str, split: Any, count: int) -> dict[str, Tensor]:
    """The parts of a split that its owner fixed, none where he did not."""
    if split is None:
        return {}
    if not isinstance(split, Mapping) or set(split) != set(PARTS):
        said = sorted(map(str, split)) if isinstance(split, Mapping) else type(split).__name__
        raise PoolBenchError(f"dataset {name}: a split is a mapping with train, val and test, got {said}")
    try:
        parts = {part: torch.as_tensor(split[part], dtype=torch.int64).reshape(-1) for part in PARTS}
    except (TypeError, ValueError, RuntimeError) as error:
        raise PoolBenchError(f"dataset {name}: the parts of a split are lists of numbers of graphs") from error
    if not torch.equal(torch.cat(list(parts.values())).sort().values, torch.arange(count)):
        raise PoolBenchError(
            f"dataset {name}: its split must name each of the graphs 0 to {count - 1} once, in train, val or test"
        )
    if empty := [part for part, graphs in parts.items() if not graphs.numel()]:
        raise PoolBenchError(f"dataset {name}: no graph of its split is in {empty[0]}; each part needs some")
    return parts


def _assembled(name: str, graphs: list[Graph], parts: dict[str, Tensor]) -> RawGraphs:
    sizes = torch.tensor([graph.num_nodes for graph in graphs])
    starts = (sizes.cumsum(0) - sizes).tolist()
    index = torch.cat(
        [graph.edge_index.to(torch.int64) + start for graph, start in zip(graphs, starts, strict=True)], 1
    )
    edge_index, kept = _canonical(index, int(sizes.sum()), [_stacked(graphs, key) for key in OPTIONAL[2:4]])
    y = None if graphs[0].y is None else torch.stack([graph.y for graph in graphs if graph.y is not None])
    is_class = y is not None and y.shape[1] == 1 and not y.is_floating_point()
    return RawGraphs(
        name=name,
        num_nodes=sizes,
        edge_index=edge_index,
        node_labels=_stacked(graphs, "node_labels"),
        node_attributes=_stacked(graphs, "node_attributes"),
        edge_labels=kept[0],
        edge_attributes=kept[1],
        y=torch.unique(y[:, 0], return_inverse=True)[1] if y is not None and is_class else None,
        targets=y.to(torch.float64) if y is not None and not is_class else None,
        train=parts.get("train"),
        val=parts.get("val"),
        test=parts.get("test"),
    )


def _stacked(graphs: list[Graph], key: str) -> Tensor | None:
    rows = [value for graph in graphs if (value := getattr(graph, key)) is not None]
    return torch.cat(rows).contiguous() if rows else None


def _canonical(index: Tensor, n: int, columns: list[Tensor | None]) -> tuple[Tensor, list[Tensor | None]]:
    """Edges by source and target, no self-loop, none twice: of those with other features the smallest stay."""
    row, col = index.numpy()
    keep = np.flatnonzero(row != col)
    keys = row[keep] * n + col[keep]
    held = [rows.numpy()[keep] for rows in columns if rows is not None]
    by = np.lexsort([column for rows in reversed(held) for column in rows.T[::-1]] + [keys])
    by = by[np.diff(keys[by], prepend=-1) != 0]
    chosen = torch.from_numpy(keep[by])
    return index[:, chosen].contiguous(), [None if rows is None else rows[chosen].contiguous() for rows in columns]
