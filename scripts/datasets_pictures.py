"""Pictures for scripts/datasets_page.py: one typical graph of a dataset."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from poolbench.data.raw import RawGraphs

#: Okabe and Ito's colours, which people with any colour vision tell apart; further classes take them again.
COLOURS = ("#56B4E9", "#E69F00", "#009E73", "#D55E00", "#0072B2", "#CC79A7", "#F0E442", "#999999")
EDGE, EXACT, LARGEST = "#777777", 130, 4000

Array = np.ndarray[Any, np.dtype[Any]]


def typical(raw: RawGraphs) -> int:
    """The first graph whose size is nearest to the median."""
    sizes = raw.num_nodes.double()
    return int((sizes - sizes.median()).abs().argmin())


def draw(raw: RawGraphs, path: Path) -> None:
    """Write a picture of the typical graph; of a very large one, what a walk over neighbours reaches first."""
    number = typical(raw)
    start, n = int(raw.num_nodes[:number].sum()), int(raw.num_nodes[number])
    row = raw.edge_index[0]
    edges = raw.edge_index[:, (row >= start) & (row < start + n)] - start
    graph = nx.Graph()
    graph.add_nodes_from(range(n))
    graph.add_edges_from(edges.T.tolist())
    if n > LARGEST:
        graph = graph.subgraph(list(nx.bfs_tree(graph, 0))[:LARGEST]).copy()
    nodes = sorted(graph)
    place = _layout(graph, raw, start)
    kinds = _kinds(raw, start, n)
    figure = Figure(figsize=(2.6, 2.6))
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_axis_off()
    axes.set_aspect("equal")
    axes.margins(0.04)
    segments = np.array([(place[u], place[v]) for u, v in graph.edges]).reshape(-1, 2, 2)
    share = 1 / max(len(segments), 1)
    axes.add_collection(LineCollection(list(segments), colors=EDGE, linewidths=1.1 * min(1.0, (400 * share) ** 0.5),
                                       alpha=float(np.clip(400 * share, 0.08, 1.0)), zorder=1))  # fmt: skip
    points = np.array([place[node] for node in nodes])
    size = 60 * min(1.0, 18 / max(len(nodes), 1))
    axes.scatter(*points.T, s=max(1.5, size), c=[COLOURS[kinds[node] % len(COLOURS)] for node in nodes],
                 edgecolors="white", linewidths=0.4 if size > 8 else 0.0, zorder=2)  # fmt: skip
    held = io.BytesIO()
    figure.savefig(held, dpi=100)
    Image.open(held).convert("RGB").convert("P", palette=Image.Palette.ADAPTIVE, colors=64).save(path, optimize=True)


def _layout(graph: nx.Graph, raw: RawGraphs, start: int) -> dict[int, Array]:
    if raw.name in ("grid2d", "ring", "multipartite") and raw.node_attributes is not None:
        return {node: raw.node_attributes[start + node, :2].numpy() for node in graph}
    if len(graph) <= EXACT and nx.is_connected(graph):
        return dict(nx.kamada_kawai_layout(graph))
    return dict(nx.spring_layout(graph, seed=0, iterations=60, method="force"))


def _kinds(raw: RawGraphs, start: int, n: int) -> list[int]:
    """What the colour of each node says: its class, else its first label, else its cluster, else nothing."""
    shown: Tensor | None = raw.node_y
    if shown is None and raw.node_labels is not None:
        shown = raw.node_labels[:, 0] - raw.node_labels[:, 0].min()
    if shown is None and raw.node_attributes is not None:
        x = raw.node_attributes
        shown = x[:, 2].long() if raw.name == "multipartite" else x.argmax(1) if raw.name == "planted" else None
    return [0] * n if shown is None else shown[start : start + n].tolist()
