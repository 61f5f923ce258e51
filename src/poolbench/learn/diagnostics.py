"""What a trained operator does to graphs, level by level: measured at the end of a run on a few validation graphs.

Forward hooks on the operators catch what they return; the selection is asked for (`return_selection`) in that one pass.
Nothing here draws, changes a weight or keeps a mode, so that a run with and without it is the same run.

Cost: one forward pass over at most `GRAPHS` graphs of `NODES` nodes together, a fraction of the evaluation that ends
every run, and one eigenvalue problem for each of at most `SPECTRA` graphs of at most `SPECTRUM` nodes, a level.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from poolbench.data.store import Batch
from poolbench.linalg import Matrix, Padded, Sparse
from poolbench.pool.base.door import PoolOutput
from poolbench.pool.base.selection import DenseSelection, SparseSelection
from poolbench.pool.base.src import SRCPool

log = logging.getLogger(__name__)

GRAPHS = 64
NODES = 50_000
SPECTRA = 16
SPECTRUM = 200
#: Entries of a pooled adjacency smaller than this share of its graph's largest are no edges.
EDGE = 1e-6

Values = dict[str, list[Tensor]]


def sample(sizes: Tensor) -> int:
    """How many graphs, of the sizes [b], are looked at: as many as fit into `GRAPHS` and `NODES`."""
    return int((sizes[:GRAPHS].cumsum(0) <= NODES).sum())


@torch.no_grad()
def pooling(module: nn.Module, model: nn.Module, batches: Iterable[Batch]) -> dict[str, Any]:
    """The diagnostics of all levels, in plain numbers; None where a level has none of a kind.

    For each level, means over graphs (entropy and assigned: over nodes):

    * ratio: pooled nodes over nodes. assigned: share of the nodes that belong to a cluster (that are kept).
    * entropy: of a node's assignment, over the logarithm of its graph's clusters: 0 where it is hard, 1 where uniform.
    * clusters: of a graph. used: those that are the first choice of some node. collapsed: share of the others.
    * density: share of the pairs of pooled nodes with an edge. components: of the pooled graph. connected: share of the
      pooled graphs with one component. Loops count for none of them.
    * spectral_distance: first Wasserstein distance of the eigenvalues of the normalised Laplacians of the graph that
      came into the model and of the pooled one (Gu, Hua, Liu, "Spectral distances on graphs", 2015, arXiv 1402.6041).
    * losses: the operator's, unweighted.

    Args:
        module: called with a batch, in evaluation mode. model: whose operators are looked at.
        batches: of `sample` graphs.
    """
    levels: list[Values] = []
    graphs = 0
    was_training = module.training
    module.eval()
    try:
        with listening(model) as heard, torch.compiler.set_stance("force_eager"):
            for batch in batches:
                heard.clear()
                module(batch)
                levels = levels or [{} for _ in heard]
                for level, (given, out) in zip(levels, heard, strict=True):
                    _measure(level, given, out, batch.a, max(0, SPECTRA - graphs))
                graphs += batch.num_graphs
    finally:
        module.train(was_training)
    return {"graphs": graphs, "levels": [_means(level) for level in levels]}


@contextmanager
def listening(model: nn.Module) -> Iterator[list[tuple[Matrix, PoolOutput]]]:
    """Collects the matrix that each operator gets, and what it returns with its selection, in the order of calls."""
    heard: list[tuple[Matrix, PoolOutput]] = []
    pools = [m for m in model.modules() if isinstance(m, SRCPool)]
    asked = [pool.return_selection for pool in pools]
    hooks = [pool.register_forward_hook(lambda _, given, out: heard.append((given[1], out))) for pool in pools]
    try:
        for pool in pools:
            pool.return_selection = True
        yield heard
    finally:
        for pool, before, hook in zip(pools, asked, hooks, strict=True):
            pool.return_selection = before
            hook.remove()


def _measure(level: Values, given: Matrix, out: PoolOutput, original: Sparse, spectra: int) -> None:
    assert isinstance(out.a, Matrix)
    before, after = given.nodes.sizes.double(), out.sizes.double()
    there = before > 0
    _add(level, "ratio", (after / before)[there])
    _add(level, "clusters", after[there])
    if isinstance(out.s, DenseSelection | SparseSelection):
        entropy, assigned, used = _assignment(out.s)
        _add(level, "entropy", entropy)
        _add(level, "assigned", assigned.double())
        some = there & (after > 0)
        _add(level, "used", used[some])
        _add(level, "collapsed", (1 - used / after)[some])
    pooled = _edges(out.a.sparse())
    pairs = after * (after - 1)
    edges = torch.bincount(pooled.nodes.index[pooled.row], minlength=pooled.nodes.num_graphs)
    _add(level, "density", (edges / pairs)[pairs > 0])
    components = _components(pooled)[after > 0]
    _add(level, "components", components)
    _add(level, "connected", (components == 1).double())
    _add(level, "spectral_distance", _distances(original, pooled, spectra))
    for name, value in out.losses.items():
        _add(level, f"losses.{name}", value.double().expand(given.nodes.num_graphs))


def _add(level: Values, name: str, values: Tensor) -> None:
    level.setdefault(name, []).append(values.detach().cpu())


def _means(level: Values) -> dict[str, Any]:
    found: dict[str, Any] = {"losses": {}}
    for name, parts in level.items():
        values = torch.cat(parts)
        where, _, key = name.rpartition(".")
        (found[where] if where else found)[key] = float(values.mean()) if values.numel() else None
    return found


def _assignment(s: DenseSelection | SparseSelection) -> tuple[Tensor, Tensor, Tensor]:
    """(entropy of each assigned node, whether each node is assigned, used clusters of each graph)."""
    graph, k = s.nodes.index, s.pooled.sizes.double()
    if isinstance(s, DenseSelection):
        p = s.s.double().abs().flatten(0, -2)
        if isinstance(s.nodes, Padded) and s.nodes.mask is not None:
            real = s.nodes.mask.flatten()
            p, graph = p[real], graph[real]
        total = p.sum(-1)
        entropy = torch.special.entr(p / total.clamp(min=torch.finfo(p.dtype).tiny).unsqueeze(-1)).sum(-1)
        assigned = total > 0
        first = (graph * p.shape[1] + p.argmax(-1))[assigned].unique()
        used = torch.bincount(first // max(p.shape[1], 1), minlength=k.numel())
    else:
        n = graph.numel()
        w = torch.ones(s.node.numel(), device=s.node.device) if s.weight is None else s.weight
        w = w.detach().double().abs().clamp(min=torch.finfo(torch.float64).tiny)  # a score of 0 keeps its node, too
        total = w.new_zeros(n).index_add(0, s.node, w)
        entropy = w.new_zeros(n).index_add(0, s.node, torch.special.entr(w / total[s.node]))
        assigned = total > 0
        used = torch.bincount(s.pooled.index[s.cluster.unique()], minlength=k.numel())
    return (entropy / k[graph].clamp(min=2).log())[assigned], assigned, used.double()


def _edges(a: Sparse) -> Sparse:
    """The entries that count as edges: no loops, nothing that is only rounding; their absolute values."""
    graph = a.nodes.index[a.row]
    weight = a.weights.detach().double().abs()
    largest = weight.new_zeros(a.nodes.num_graphs).scatter_reduce(0, graph, weight, "amax")
    a = a.with_value(weight)
    return a.filter((a.row != a.col) & (weight > EDGE * largest[graph]))


def _components(a: Sparse) -> Tensor:
    """Connected components of each graph: [b]."""
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import connected_components

    n = a.nodes.num_rows
    arrays = (a.weights.cpu().numpy(), a.col.cpu().numpy(), a.crow.cpu().numpy())
    count, label = connected_components(csr_matrix(arrays, shape=(n, n)), directed=False)
    graph = torch.zeros(count, dtype=torch.int64).scatter(0, torch.from_numpy(label).long(), a.nodes.index.cpu())
    return torch.bincount(graph, minlength=a.nodes.num_graphs).double().to(a.col.device)


def _distances(original: Sparse, pooled: Sparse, count: int) -> Tensor:
    """Spectral distances of the first `count` graphs, too large ones left out."""
    from scipy.stats import wasserstein_distance

    pairs = zip(original.nodes.host_sizes, pooled.nodes.host_sizes, strict=True)
    found = [
        float(wasserstein_distance(spectrum(block(original, g)), spectrum(block(pooled, g))))
        for g, (n, k) in enumerate(list(pairs)[:count])
        if 0 < n <= SPECTRUM and 0 < k <= SPECTRUM
    ]
    return torch.tensor(found, dtype=torch.float64)


def block(a: Sparse, graph: int) -> Tensor:
    """The adjacency of one graph of a batch: [n, n], float64, on the host."""
    start, end = a.nodes.ptr[graph : graph + 2].tolist()
    low, high = a.crow[start].item(), a.crow[end].item()
    row, col = a.row[low:high] - start, a.col[low:high] - start
    out = torch.zeros(end - start, end - start, dtype=torch.float64)
    return out.index_put((row.cpu(), col.cpu()), a.weights[low:high].detach().double().cpu(), accumulate=True)


def spectrum(a: Tensor) -> Sequence[float]:
    """Eigenvalues of I - D^-1/2 A D^-1/2 for an adjacency [n, n], made symmetric and without loops.

    A node without edges has the eigenvalue 0.
    """
    a = (a + a.T).abs() / 2
    a = a - torch.diag(a.diagonal())
    degree = a.sum(-1)
    root = torch.where(degree > 0, degree, 1.0).rsqrt()
    laplacian = torch.diag((degree > 0).double()) - root.unsqueeze(-1) * a * root
    found: list[float] = torch.linalg.eigvalsh(laplacian).tolist()
    return found
