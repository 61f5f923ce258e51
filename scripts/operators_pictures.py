"""Pictures for scripts/operators_page.py: one molecule before and after an operator, the same layout in all of them."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib as mpl
import networkx as nx
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Wedge
from matplotlib.ticker import PercentFormatter
from PIL import Image
from torch import Tensor, nn

from poolbench.data.sources.tu import TUDataset
from poolbench.linalg import GCN, Ragged, Sparse
from poolbench.pool.base.src import GlobalPool, KeptSelection, Operator, PoolOutput, SRCPool

GRAPH = 31  # of MUTAG, counted from 0
STARTS, STEPS = 5, 500  # of training on an operator's own losses; the lowest of the starts is drawn
SMOOTHING = 2  # graph convolutions before the pool

#: Okabe and Ito's colours, which people with any colour vision tell apart, then lighter ones of the same hues.
COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#999999",
           "#FFDF9E", "#C9E8FA", "#8FDCC4", "#FFFABF", "#8FC4E6", "#FFB98A", "#F2D3E3", "#DDDDDD")  # fmt: skip
SCORES = mpl.colormaps["cividis"]
INK, FAINT, PLAIN = "#222222", "#B0B0B0", "#56B4E9"
ATOMS = ("C", "N", "O", "F", "I", "Cl", "Br")  # the node labels of MUTAG
RADIUS = 0.068  # of a node, where a molecule is 2 wide


@dataclass(frozen=True)
class Molecule:
    """Features x [n, f], the matrix a, positions [n, 2] about 0 with the long axis lying, and the atoms."""

    x: Tensor
    a: Sparse
    place: np.ndarray[Any, Any]
    atoms: list[str]


@cache
def molecule() -> Molecule:
    data = TUDataset("MUTAG").load()
    assert data.node_labels is not None
    n, lo = int(data.num_nodes[GRAPH]), int(data.num_nodes[:GRAPH].sum())
    index = data.edge_index[:, (data.edge_index[0] >= lo) & (data.edge_index[0] < lo + n)] - lo
    labels = data.node_labels[lo : lo + n, 0]
    a = Sparse.from_edges(index[0], index[1], None, Ragged.single(n), symmetric=True)

    graph = nx.Graph(index.T.tolist())
    where = nx.kamada_kawai_layout(graph)
    place = np.array([where[u] for u in range(n)])
    place -= place.mean(0)
    place = place @ np.linalg.svd(place)[2].T
    place *= np.sign(place[0]) / np.abs(place[:, 0]).max()  # the singular vectors' signs are arbitrary

    x = torch.cat([nn.functional.one_hot(labels, len(ATOMS)).float(), torch.eye(n)], 1)
    for _ in range(SMOOTHING):
        x = a.view(GCN) @ x
    turn = torch.linalg.qr(torch.randn(x.shape[1], x.shape[1], generator=torch.Generator().manual_seed(0)))[0]
    return Molecule(x @ turn, a, place, [ATOMS[label] for label in labels.tolist()])


def draw(make: Callable[[int], Operator], path: Path) -> None:
    """Write the picture of the operator that `make(seed)` builds for the molecule's features: 900 x 360 pixels."""
    operator = make(0)
    with mpl.rc_context({"font.family": "DejaVu Sans", "font.size": 10, "text.color": INK}):
        figure = Figure(figsize=(9, 3.6), dpi=100)
        if isinstance(operator, SRCPool):
            _pooled(figure, type(operator).__name__, *pooled(make))
        else:
            assert isinstance(operator, GlobalPool)
            _read_out(figure, operator)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
    image = Image.open(buffer).convert("RGB").quantize(192, dither=Image.Dither.NONE)
    image.save(path, optimize=True)


# -- hierarchical operators --------


def pooled(make: Callable[[int], Any]) -> tuple[PoolOutput, str]:
    """What the pool makes of the molecule once its losses are low, and a line about that."""
    pool: SRCPool = make(0)
    out = pool(molecule().x, molecule().a.view(pool.connectivity))
    trainable = any(True for _ in pool.parameters())
    if not out.losses or not trainable:
        return out, "draws anew at each call" if pool.stochastic else "as initialised" if trainable else ""
    best = min((trained(make(seed)) for seed in range(STARTS)), key=lambda out: float(sum(out.losses.values())))
    return best, ", ".join(f"{name} {_number(value)}" for name, value in best.losses.items()) + " after training"


def trained(pool: SRCPool) -> PoolOutput:
    """What the pool makes of the molecule after STEPS steps on the sum of its losses."""
    x, a = molecule().x, molecule().a.view(pool.connectivity)
    optimizer = torch.optim.Adam(pool.parameters(), lr=0.02)
    for _ in range(STEPS):
        optimizer.zero_grad()
        torch.stack(list(pool(x, a).losses.values())).sum().backward()
        optimizer.step()
    with torch.no_grad():
        return pool(x, a)


def _number(value: Tensor | float) -> str:
    return f"{float(value):.2f}".replace("-0.00", "0.00").replace("-", "−")


def _pooled(figure: Figure, name: str, out: PoolOutput, how: str) -> None:
    graph = molecule()
    left, right = _axes(figure)
    n, k = len(graph.atoms), int(out.sizes[0])
    _titles(figure, f"{name}: {n} atoms", f"{k} pooled nodes", how)
    _molecule_edges(left)
    s: Any = out.s
    assert out.s is not None
    weights = out.a.to_dense().detach().reshape(k, k).numpy()
    if isinstance(s, KeptSelection):
        _kept(figure, left, right, s, out, weights)
        return
    shares = s.dense().detach().reshape(n, k).clamp(min=0.0).numpy()
    for u in range(n):
        _pie(left, graph.place[u], shares[u])
        _atom(left, graph.place[u], graph.atoms[u])
    mass = shares.sum(0)
    radius = RADIUS * np.sqrt(np.clip(mass, 0.25, None))
    place = _apart(shares.T @ graph.place / np.maximum(mass, 1e-9)[:, None], radius)
    _pooled_edges(right, place, weights, radius)
    for c in range(k):
        right.add_patch(Circle(place[c], radius[c], facecolor=_colour(c), edgecolor=INK, linewidth=1.2, zorder=3))


def _kept(figure: Figure, left: Axes, right: Axes, s: KeptSelection, out: PoolOutput, weights: Any) -> None:
    graph, kept = molecule(), s.kept.tolist()
    colours = [PLAIN] * len(graph.atoms)
    if out.score is not None:
        score = out.score.detach()
        ends = [float(score.min()), float(score.max())]
        norm = mpl.colors.Normalize(ends[0], ends[1])
        colours = [mpl.colors.to_hex(SCORES(norm(y))) for y in score.tolist()]
        bar = figure.add_axes((0.2, 0.08, 0.16, 0.03))
        figure.colorbar(mpl.cm.ScalarMappable(norm, SCORES), cax=bar, orientation="horizontal")
        bar.set_xticks(ends, [_number(end) for end in ends], fontsize=8)
        bar.set_ylabel("score ", fontsize=8, rotation=0, ha="right", va="center")
    for u, atom in enumerate(graph.atoms):
        # A kept node has a ring about it, with a white gap; a dropped one is smaller.
        left.add_patch(Circle(graph.place[u], RADIUS * (0.82 if u in kept else 0.7), facecolor=colours[u], zorder=4))
        if u in kept:
            ring = Circle(graph.place[u], RADIUS * 1.1, facecolor="white", edgecolor=INK, linewidth=1.6, zorder=3)
            left.add_patch(ring)
        _atom(left, graph.place[u], atom, colours[u])
    place = graph.place[kept]
    _pooled_edges(right, place, weights, np.full(len(kept), RADIUS))
    for p, u in zip(place, kept, strict=True):
        right.add_patch(Circle(p, RADIUS, facecolor=colours[u], edgecolor=INK, linewidth=1.2, zorder=3))
        _atom(right, p, graph.atoms[u], colours[u])


# -- readouts --------


@torch.no_grad()
def influence(readout: GlobalPool, x: Tensor) -> Tensor:
    """How far the result moves when a node is left out, as a share of the sum over nodes: [n]."""
    whole, each = readout(x), torch.arange(len(x))
    moved = torch.stack([torch.linalg.vector_norm(readout(x[each != u]) - whole) for u in each])
    return moved / moved.sum()


def _read_out(figure: Figure, readout: GlobalPool) -> None:
    graph = molecule()
    share = influence(readout, graph.x).numpy()
    left, right = _axes(figure)
    how = "as initialised" if any(True for _ in readout.parameters()) else ""
    _titles(figure, f"{type(readout).__name__}: {len(share)} atoms", "share of each atom in the result", how)
    _molecule_edges(left)
    colours = [mpl.colors.to_hex(SCORES(y / share.max())) for y in share]
    order = np.lexsort((graph.place[:, 1], graph.place[:, 0]))
    for u, atom in enumerate(graph.atoms):
        left.add_patch(Circle(graph.place[u], RADIUS, facecolor=colours[u], edgecolor=INK, linewidth=1.0, zorder=3))
        _atom(left, graph.place[u], atom, colours[u])
    right.remove()
    bars = figure.add_axes((0.58, 0.2, 0.38, 0.6))
    bars.bar(range(len(share)), 100 * share[order], color=[colours[u] for u in order], edgecolor=INK, linewidth=0.6)
    bars.set_xticks(range(len(share)), [graph.atoms[u] for u in order], fontsize=8)
    bars.set_xlabel("atoms from left to right", fontsize=9)
    bars.yaxis.set_major_formatter(PercentFormatter(decimals=0))
    bars.spines[["top", "right"]].set_visible(False)


# -- strokes --------


def _axes(figure: Figure) -> tuple[Axes, Axes]:
    left, right = figure.add_axes((0.01, 0.08, 0.48, 0.8)), figure.add_axes((0.51, 0.08, 0.48, 0.8))
    for axes in (left, right):
        axes.set(xlim=(-1.17, 1.17), ylim=(-0.78, 0.78), aspect="equal")
        axes.axis("off")
    return left, right


def _titles(figure: Figure, left: str, right: str, below: str) -> None:
    figure.text(0.25, 0.92, left, ha="center", fontsize=12, weight="bold")
    figure.text(0.75, 0.92, right, ha="center", fontsize=12, weight="bold")
    figure.text(0.75, 0.03, below, ha="center", fontsize=9)
    figure.text(0.5, 0.5, "→", ha="center", va="center", fontsize=20, color=FAINT)


def _molecule_edges(axes: Axes) -> None:
    graph = molecule()
    for u, v in zip(graph.a.row.tolist(), graph.a.col.tolist(), strict=True):
        if u < v:
            axes.plot(*graph.place[[u, v]].T, color=FAINT, linewidth=1.6, zorder=1)


def _pooled_edges(axes: Axes, place: Any, weights: Any, radius: Any) -> None:
    """Edges and loops, each as wide as its weight says relative to the largest of its kind."""
    off, own = weights - np.diag(np.diag(weights)), np.diag(weights)
    centre = place.mean(0)
    for u, v in zip(*np.nonzero(np.triu(np.abs(off), 1)), strict=True):
        width = abs(off[u, v]) / np.abs(off).max()
        if width > 0.01:
            axes.plot(*place[[u, v]].T, color="#777777", linewidth=0.3 + 4.2 * width, zorder=1, solid_capstyle="round")
    for u in np.flatnonzero(np.abs(own) > 0.01 * np.abs(own).max()):
        away = place[u] - centre
        away = away / max(float(np.hypot(*away)), 1e-9)
        width = 0.3 + 3.5 * abs(own[u]) / np.abs(own).max()
        at = place[u] + (radius[u] + 0.03) * away
        axes.add_patch(Circle(at, 0.06, facecolor="none", edgecolor="#777777", linewidth=width, zorder=2))


def _pie(axes: Axes, at: Any, shares: Any) -> None:
    """A node whose slices are its shares, from the top clockwise; what is left of 1 stays white."""
    axes.add_patch(Circle(at, RADIUS, facecolor="white", edgecolor=INK, linewidth=1.6, zorder=2))
    end, total = 90.0, max(1.0, float(shares.sum()))
    for c, share in enumerate(shares):
        if share / total > 0.005:
            axes.add_patch(Wedge(at, RADIUS, end - 360 * share / total, end, facecolor=_colour(c), zorder=3))
            end -= 360 * share / total


def _colour(cluster: int) -> str:
    return COLOURS[cluster % len(COLOURS)]


def _atom(axes: Axes, at: Any, atom: str, ground: str = "#FFFFFF") -> None:
    """The letter of an atom other than carbon, in ink or white, whichever stands out."""
    red, green, blue = mpl.colors.to_rgb(ground)
    colour = INK if 0.3 * red + 0.59 * green + 0.11 * blue > 0.5 else "white"
    if atom != "C":
        style: dict[str, Any] = {"ha": "center", "va": "center_baseline", "fontsize": 7, "weight": "bold", "zorder": 5}
        axes.text(at[0], at[1], atom, color=colour, **style)


def _apart(place: Any, radius: Any, steps: int = 300) -> Any:
    """The places pushed from each other until all nodes stand clear of each other, inside the picture."""
    least = np.maximum(0.5, radius[:, None] + radius[None] + 0.2)
    edge = np.array((1.12, 0.73)) - radius[:, None] - 0.12  # room for a loop
    for _ in range(steps):
        gap = place[:, None] - place[None]
        distance = np.hypot(gap[..., 0], gap[..., 1])
        np.fill_diagonal(distance, np.inf)
        push = np.clip(least - distance, 0.0, None) / np.maximum(distance, 1e-6)
        place = place + 0.25 * (push[..., None] * gap).sum(1)
        place = np.clip(place, -edge, edge)
    return place
