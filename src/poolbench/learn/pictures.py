"""A picture of what an operator does to one graph: the clusters or kept nodes, and the graph that comes out."""

from __future__ import annotations

import io
from typing import Any

import torch
from torch import Tensor

from poolbench.data.store import Batch
from poolbench.learn.diagnostics import block, listening
from poolbench.linalg import Matrix
from poolbench.pool.base.selection import Selection

#: Graphs with more nodes are no picture.
NODES = 300
COLOURS = 20


@torch.no_grad()
def picture(module: torch.nn.Module, model: torch.nn.Module, batch: Batch) -> bytes | None:
    """PNG of the first graph of a batch before and after the first pool; None where there is no pool.

    Nothing is drawn from the global generator, and every module keeps its mode.
    """
    was_training = module.training
    devices = [batch.x.device] if batch.x.is_cuda else []
    module.eval()
    try:
        with listening(model) as heard, torch.compiler.set_stance("force_eager"), torch.random.fork_rng(devices):
            module(batch)
    finally:
        module.train(was_training)
    if not heard:
        return None
    _, out = heard[0]
    assert isinstance(out.s, Selection) and isinstance(out.a, Matrix)
    s = out.s.dense().reshape(-1, out.s.dense().shape[-1]).detach().double().abs().cpu()
    n, k = batch.a.nodes.host_sizes[0], int(out.sizes[0])
    return draw(block(batch.a, 0), s[:n, :k], block(out.a.sparse(), 0))


def draw(a: Tensor, s: Tensor, pooled: Tensor) -> bytes:
    """PNG of a graph a [n, n], coloured by the first choice in s [n, k], beside the pooled graph [k, k]."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    place = layout(a)
    first = torch.where(s.sum(-1) > 0, s.argmax(-1), -1)
    share = s / s.sum(0).clamp(min=torch.finfo(s.dtype).tiny)
    figure = Figure(figsize=(8, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    _graph(left, a, place, first, 40)
    _graph(right, pooled, share.T @ place, torch.arange(s.shape[1]), 120)
    left.set_title(f"{a.shape[0]} nodes, {int((first < 0).sum())} dropped")
    right.set_title(f"{s.shape[1]} pooled nodes, {first[first >= 0].unique().numel()} used")
    file = io.BytesIO()
    FigureCanvasAgg(figure).print_png(file, metadata={"Software": None})
    return file.getvalue()


def _graph(axes: Any, a: Tensor, place: Tensor, colour: Tensor, size: float) -> None:
    from matplotlib import colormaps
    from matplotlib.collections import LineCollection

    a = a.abs()
    a = torch.triu(a + a.T, 1)
    u, v = a.nonzero(as_tuple=True)
    strength = (a[u, v] / a.max().clamp(min=torch.finfo(a.dtype).tiny)).tolist()
    ends = torch.stack([place[u], place[v]], 1).numpy()
    axes.add_collection(
        LineCollection(list(ends), colors=[(0.4, 0.4, 0.4, x) for x in strength], linewidths=1, zorder=1)
    )
    palette = colormaps["tab20"]
    face = [palette(c % COLOURS) if c >= 0 else (1.0, 1.0, 1.0, 1.0) for c in colour.tolist()]
    axes.scatter(place[:, 0], place[:, 1], c=face, s=size, edgecolors="0.3", linewidths=0.7, zorder=2)
    axes.set_axis_off()
    axes.margins(0.08)


def layout(a: Tensor) -> Tensor:
    """Places of the nodes of a [n, n] in the plane: classical multidimensional scaling of the hop distances, [n, 2]."""
    from scipy.sparse.csgraph import shortest_path

    hops = torch.from_numpy(shortest_path(((a + a.T) != 0).numpy(), unweighted=True))
    far = hops[hops.isfinite()].max() + 2  # between components
    square = torch.where(hops.isfinite(), hops, far).square()
    centred = -0.5 * (square - square.mean(0) - square.mean(1, keepdim=True) + square.mean())
    value, vector = torch.linalg.eigh(centred)
    place = vector[:, -2:] * value[-2:].clamp(min=0).sqrt()
    place = torch.nn.functional.pad(place, (0, 2 - place.shape[1]))
    sign = torch.where(place.sum(0) < 0, -1.0, 1.0)  # an eigenvector has none of its own
    return place * sign
