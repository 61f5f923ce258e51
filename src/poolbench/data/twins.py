"""Isomorphic graphs within a dataset: how many there are, what they cost, and a dataset without them.

Ivanov, Sviridov & Burnaev, "Understanding Isomorphism Bias in Graph Data Sets", 2019, arXiv 1910.12091. A model that
does not see the order of nodes gives twins the same answer: where they differ in class, one of them is wrong, and
where one is trained on and the other tested, the test is none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from typing import Any

import numpy as np
import torch
from torch import Tensor

from poolbench.data.raw import RawGraphs
from poolbench.errors import PoolBenchError
from poolbench.splitmix import scrambled

Array = np.ndarray[Any, np.dtype[Any]]

CLEANED = "cleaned"


@dataclass(frozen=True, eq=False)
class Twins:
    """The classes of isomorphic graphs of a dataset.

    Args:
        first: [G] int64, for each graph the number of the first graph that it is isomorphic to; its own if it is that.
        y: [G] int64 classes, None where graphs have none.
    """

    first: Tensor
    y: Tensor | None

    @property
    def distinct(self) -> int:
        """How many graphs remain when of each class of twins one is kept."""
        return int((self.first == torch.arange(len(self.first))).sum())

    @property
    def contradicted(self) -> Tensor:
        """[G] bool, whether a graph has a twin of another class; all False where graphs have no class."""
        if self.y is None:
            return torch.zeros(len(self.first), dtype=torch.bool)
        return ((self._votes(self.y) > 0).sum(dim=1) > 1)[self.first]

    @property
    def ceiling(self) -> float | None:
        """The best accuracy on all graphs that answers the same for twins can have: each class of twins gets the label
        that most of them carry. None where graphs have no class."""
        if self.y is None or not len(self.y):
            return None
        return float(self._votes(self.y).amax(dim=1).sum()) / len(self.y)

    def _votes(self, y: Tensor) -> Tensor:
        """[G, C] the labels of each class of twins, in the row of its first graph."""
        columns = int(y.max()) + 1 if len(y) else 1
        return torch.bincount(self.first * columns + y, minlength=len(y) * columns).view(-1, columns)


def find(raw: RawGraphs, labels: bool = True, edge_labels: bool = False, attributes: bool = False) -> Twins:
    """Which graphs of a dataset are isomorphic, exactly.

    Graphs that colour refinement (Weisfeiler & Leman, 1968) cannot tell apart are candidates; for each of them an
    isomorphism is searched by backtracking within the colours. No hash decides: colours are hashes, but equal ones
    only make candidates.

    Args:
        labels: an isomorphism keeps node labels. edge_labels: and edge labels. attributes: and the attributes of nodes
            and edges, to the last bit. What the dataset has not is not compared. The direction of edges always counts.
    """
    nodes = _codes(raw.total_nodes, raw.node_labels if labels else None, raw.node_attributes if attributes else None)
    edges = _codes(raw.num_edges, raw.edge_labels if edge_labels else None, raw.edge_attributes if attributes else None)
    colours = _refine(raw, nodes, edges)
    first = torch.arange(raw.num_graphs)
    for group in _candidates(raw, colours):
        representatives: list[_Graph] = []
        for number in group:
            graph = _Graph(raw, number, colours, nodes, edges)
            known = next((other for other in representatives if isomorphic(other, graph)), None)
            if known is None:
                representatives.append(graph)
            else:
                first[number] = known.number
    return Twins(first, raw.y)


def deduplicate(raw: RawGraphs, how: bool | str = True) -> RawGraphs:
    """The dataset with one graph of each class of twins, the first, in the same order.

    Args:
        how: True: twins have the same node labels. "cleaned": the rule of the published cleaned TU datasets
            (github.com/nd7141/graph_datasets; MUTAG 135 graphs, PROTEINS 975, ENZYMES 595, IMDB-BINARY 493, NCI1
            3785): labels and nodes without edges are not compared, and of twins that differ in class none is kept.
            False: the dataset as it is.

    Raises `PoolBenchError` for another value of `how`.
    """
    check_how(how)
    if how is False:
        return raw
    found = find(raw) if how is True else find(_without_isolated_nodes(raw), labels=False)
    kept = found.first == torch.arange(raw.num_graphs)
    if how == CLEANED:
        kept &= ~found.contradicted
    return take(raw, kept.nonzero()[:, 0]).with_provenance(deduplicated=how, graphs_before=raw.num_graphs)


def _without_isolated_nodes(raw: RawGraphs) -> RawGraphs:
    """The structure alone: graphs of the nodes that have an edge."""
    kept = torch.zeros(raw.total_nodes, dtype=torch.bool)
    kept[raw.edge_index.reshape(-1)] = True
    graph = torch.arange(raw.num_graphs).repeat_interleave(raw.num_nodes)[kept]
    number = kept.cumsum(0) - 1
    sizes = torch.bincount(graph, minlength=raw.num_graphs)
    return RawGraphs(raw.name, num_nodes=sizes, edge_index=number[raw.edge_index], y=raw.y)


def check_how(how: bool | str) -> None:
    """Raises `PoolBenchError` for a value that `deduplicate` does not know."""
    if not (isinstance(how, bool) or how == CLEANED):
        raise PoolBenchError(f"deduplicate={how!r} must be true, false or {CLEANED}")


def take(raw: RawGraphs, graphs: Tensor | Sequence[int]) -> RawGraphs:
    """The dataset of the given graphs alone, in ascending order, each with its labels, attributes, words and part.

    Raises `PoolBenchError` for a graph that there is not.
    """
    kept = torch.as_tensor(graphs, dtype=torch.int64).unique()
    if kept.numel() and not (int(kept[0]) >= 0 and int(kept[-1]) < raw.num_graphs):
        raise PoolBenchError(f"dataset {raw.name} has the graphs 0 to {raw.num_graphs - 1}, not {kept.tolist()[-1]}")
    chosen = torch.zeros(raw.num_graphs, dtype=torch.bool)
    chosen[kept] = True
    of_nodes = chosen.repeat_interleave(raw.num_nodes)
    of_edges = of_nodes[raw.edge_index[0]]
    node, graph = of_nodes.cumsum(0) - 1, chosen.cumsum(0) - 1
    rows = {
        "num_nodes": chosen, "node_labels": of_nodes, "node_attributes": of_nodes, "node_y": of_nodes,
        "edge_labels": of_edges, "edge_attributes": of_edges, "y": chosen, "targets": chosen, "num_words": chosen,
    }  # fmt: skip
    if raw.num_words is not None:
        rows["words"] = chosen.repeat_interleave(raw.num_words)
    changed = {key: value[mask] for key, mask in rows.items() if (value := getattr(raw, key)) is not None}
    parts = {key: part for key in ("train", "val", "test") if (part := getattr(raw, key)) is not None}
    changed |= {key: graph[part[chosen[part]]] for key, part in parts.items()}
    return replace(raw, edge_index=node[raw.edge_index[:, of_edges]], **changed)


# -- colour refinement --------


def _codes(count: int, *columns: Tensor | None) -> Array:
    """[count] int64, equal for rows that are equal in all columns."""
    held = [_bits(rows) for rows in columns if rows is not None and rows.shape[1]]
    if not held or not count:
        return np.zeros(count, dtype=np.int64)
    return np.unique(np.concatenate(held, axis=1), axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)


def _bits(rows: Tensor) -> Array:
    """Rows as int64, different where the values are; 0.0 and -0.0 are the same."""
    values = rows.numpy()
    return (values + 0.0).view(np.int32).astype(np.int64) if values.dtype == np.float32 else values


def _refine(raw: RawGraphs, nodes: Array, edges: Array) -> Array:
    """[N] uint64 stable colours; nodes that an isomorphism can map to each other have the same."""
    n = raw.total_nodes
    row, col = raw.edge_index.numpy()
    ends = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=n))])
    back = None if raw.symmetric else np.argsort(col, kind="stable")
    back_ends = np.concatenate([[0], np.cumsum(np.bincount(col, minlength=n))])
    salt = scrambled(edges.astype(np.uint64) + np.uint64(1))
    colours, count = scrambled(nodes.astype(np.uint64)), 0
    while (distinct := len(_sorted_distinct(colours))) > count:
        count = distinct
        around = _sums(scrambled(colours[col] ^ salt), ends)
        if back is not None:
            around = scrambled(around) + _sums(scrambled(colours[row[back]] ^ scrambled(salt[back])), back_ends)
        colours = scrambled(colours + scrambled(around))
    return colours


def _candidates(raw: RawGraphs, colours: Array) -> Iterator[list[int]]:
    """Groups of graphs with as many nodes and the same colours, each in ascending order."""
    ends = np.concatenate([[0], np.cumsum(raw.num_nodes.numpy())])
    keys = np.stack([np.diff(ends).astype(np.uint64), _sums(scrambled(colours), ends)], axis=1)
    _, group, sizes = np.unique(keys, axis=0, return_inverse=True, return_counts=True)
    order = np.argsort(group.reshape(-1), kind="stable")
    for members in np.split(order, np.cumsum(sizes)[:-1]):
        if len(members) > 1:
            yield members.tolist()


def _sums(values: Array, ends: Array) -> Array:
    """Sums of consecutive runs modulo 2^64, in which the order of terms does not count."""
    total = np.concatenate([np.zeros(1, dtype=np.uint64), np.cumsum(values)])
    return total[ends[1:]] - total[ends[:-1]]


def _sorted_distinct(values: Array) -> Array:
    ordered = np.sort(values)
    return ordered[np.concatenate([[True], ordered[1:] != ordered[:-1]])] if len(ordered) else ordered


# -- isomorphism --------


class _Graph:
    """One graph for the search, its nodes numbered from 0.

    number: of the graph in the dataset. colours: of each node. around: for each node its neighbours, each with the
    codes of the edge to it and of the edge back, 0 for none.
    """

    def __init__(self, raw: RawGraphs, number: int, colours: Array, nodes: Array, edges: Array) -> None:
        start = int(raw.num_nodes[:number].sum())
        count = int(raw.num_nodes[number])
        low, high = np.searchsorted(raw.edge_index[0].numpy(), [start, start + count])
        row, col = (raw.edge_index[:, low:high] - start).tolist()
        self.number, self.count = number, count
        own = slice(start, start + count)
        self.colours = list(zip(colours[own].tolist(), nodes[own].tolist(), strict=True))
        self.around: list[dict[int, tuple[int, int]]] = [{} for _ in range(count)]
        for u, v, code in zip(row, col, (edges[low:high] + 1).tolist(), strict=True):
            self.around[u][v] = (code, self.around[u].get(v, (0, 0))[1])
            self.around[v][u] = (self.around[v].get(u, (0, 0))[0], code)
        self.edges = len(row)
        self.by_colour: dict[tuple[int, int], list[int]] = {}
        for node, colour in enumerate(self.colours):
            self.by_colour.setdefault(colour, []).append(node)

    def order(self) -> list[tuple[int, int | None]]:
        """All nodes, each with a neighbour that comes before it where there is one; rare colours first."""
        rarity = [len(self.by_colour[colour]) for colour in self.colours]
        placed: set[int] = set()
        found: list[tuple[int, int | None]] = []
        for root in sorted(range(self.count), key=lambda node: (rarity[node], node)):
            heap: list[tuple[int, int, int | None]] = [(rarity[root], root, None)]
            while heap:
                _, node, parent = heappop(heap)
                if node in placed:
                    continue
                placed.add(node)
                found.append((node, parent))
                for other in self.around[node]:
                    if other not in placed:
                        heappush(heap, (rarity[other], other, node))
        return found


def isomorphic(g: _Graph, h: _Graph) -> bool:
    """Whether a bijection of nodes keeps colours, edges, their directions and their codes."""
    sizes = {colour: len(nodes) for colour, nodes in g.by_colour.items()}
    if g.edges != h.edges or sizes != {colour: len(nodes) for colour, nodes in h.by_colour.items()}:
        return False
    order = g.order()
    image: dict[int, int] = {}
    taken: set[int] = set()
    choices: list[Iterator[int]] = []
    while len(image) < len(order):
        if len(choices) == len(image):
            node, parent = order[len(image)]
            near = h.by_colour[g.colours[node]] if parent is None else h.around[image[parent]]
            choices.append(iter(near))
        node = order[len(image)][0]
        chosen = next((c for c in choices[-1] if c not in taken and _fits(g, h, node, c, image, taken)), None)
        if chosen is not None:
            image[node] = chosen
            taken.add(chosen)
            continue
        choices.pop()
        if not choices:
            return False
        taken.remove(image.pop(order[len(image) - 1][0]))  # the node before takes its next choice
    return True


def _fits(g: _Graph, h: _Graph, node: int, candidate: int, image: dict[int, int], taken: set[int]) -> bool:
    if g.colours[node] != h.colours[candidate]:
        return False
    theirs = h.around[candidate]
    mapped = [(image[other], code) for other, code in g.around[node].items() if other in image]
    return len(mapped) == sum(other in taken for other in theirs) and all(
        theirs.get(other) == code for other, code in mapped
    )
