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
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from poolbench.data.prepared import Prepared
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

#: Sums of a node's assignments may differ by this share of the largest and still be one constant.
CONSTANT = 1e-3

Values = dict[str, list[Tensor]]


@dataclass(frozen=True)
class Known:
    """What is known of the nodes of a dataset's graphs, and a pool might find (`GraphDataset.known`).

    kind: salient or clusters. y: [N] of each node. ptr: [G + 1] where the nodes of each graph begin.
    """

    kind: str
    y: Tensor
    ptr: Tensor

    @classmethod
    def of(cls, prepared: Prepared) -> Known | None:
        """Of a dataset; None where nothing is known."""
        raw = prepared.raw
        if prepared.known is None or raw.node_y is None:
            return None
        return cls(prepared.known, raw.node_y, torch.cat([raw.num_nodes.new_zeros(1), raw.num_nodes.cumsum(0)]))

    def of_graphs(self, graphs: Tensor) -> list[Tensor]:
        """[n] of the nodes of each graph."""
        return [self.y[self.ptr[g] : self.ptr[g + 1]] for g in graphs.tolist()]


def sample(sizes: Tensor) -> int:
    """How many graphs, of the sizes [b], are looked at: as many as fit into `GRAPHS` and `NODES`."""
    return int((sizes[:GRAPHS].cumsum(0) <= NODES).sum())


@torch.no_grad()
def pooling(
    module: nn.Module, model: nn.Module, batches: Iterable[Batch], known: Known | None = None
) -> dict[str, Any]:
    """The diagnostics of all levels, in plain numbers; None where a level has none of a kind.

    For each level, means over graphs (entropy and assigned: over nodes):

    * ratio: pooled nodes over nodes. assigned: share of the nodes that belong to a cluster (that are kept).
    * entropy: of a node's assignment, over the logarithm of its graph's clusters: 0 where it is hard, 1 where uniform.
    * clusters: of a graph. used: those that are the first choice of some node. collapsed: share of the others.
    * constant: share of the graphs in which all nodes have the same sum over their clusters, and not 0, as a pool has
      to that keeps apart what message passing has told apart (Bianchi & Lachi, NeurIPS 2023, arXiv 2304.01575, theorem
      1). Weights count as they are, scores that features are multiplied with among them.
    * density: share of the pairs of pooled nodes with an edge. components: of the pooled graph. connected: share of the
      pooled graphs with one component. Loops count for none of them.
    * spectral_distance: first Wasserstein distance of the eigenvalues of the normalised Laplacians of the graph that
      came into the model and of the pooled one (Gu, Hua, Liu, "Spectral distances on graphs", 2015, arXiv 1402.6041).
    * losses: the operator's, unweighted.

    At the first level, where something is known of the nodes:

    * recall: share of the salient nodes that are kept. kept_salient: share of the kept nodes that are salient.
    * nmi: normalised mutual information of the known clusters and those that nodes belong to most, of assigned nodes.

    Args:
        module: called with a batch, in evaluation mode. model: whose operators are looked at.
        batches: of `sample` graphs. known: what is known of the nodes of the dataset.
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
                if known is not None and heard:
                    _match(levels[0], heard[0][1], known.kind, known.of_graphs(batch.graphs))
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
        entropy, assigned, used, constant = _assignment(out.s)
        _add(level, "entropy", entropy)
        _add(level, "assigned", assigned.double())
        some = there & (after > 0)
        _add(level, "constant", constant[there])
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


def _match(level: Values, out: PoolOutput, kind: str, known: Sequence[Tensor]) -> None:
    """What is known of the nodes of each graph, beside what the first pool made of them."""
    if not isinstance(out.s, DenseSelection | SparseSelection):
        return
    assigned, cluster = (part.cpu().split([len(y) for y in known]) for part in _first(out.s))
    kept = [(y[own], c[own]) for y, own, c in zip(known, assigned, cluster, strict=True)]
    if kind == "salient":
        pairs = [((y == 1).sum(), (mine == 1).sum(), len(mine)) for y, (mine, _) in zip(known, kept, strict=True)]
        _add(level, "recall", torch.tensor([float(k / n) for n, k, _ in pairs if n]))
        _add(level, "kept_salient", torch.tensor([float(k / m) for _, k, m in pairs if m]))
        return
    from sklearn.metrics import normalized_mutual_info_score

    scores = [normalized_mutual_info_score(y.numpy(), c.numpy()) for y, c in kept if len(y)]
    _add(level, "nmi", torch.tensor(scores, dtype=torch.float64))


def _first(s: DenseSelection | SparseSelection) -> tuple[Tensor, Tensor]:
    """Whether each node is assigned, and the cluster that it belongs to most: [n], [n]."""
    if isinstance(s, DenseSelection):
        p = s.s.double().abs().flatten(0, -2)
        return p.sum(-1) > 0, p.argmax(-1)
    w, n, none = _weights(s).abs(), s.nodes.index.numel(), torch.iinfo(torch.int64).max
    best = w >= w.new_zeros(n).scatter_reduce(0, s.node, w, "amax")[s.node]
    cluster = s.cluster.new_full((n,), none).scatter_reduce(0, s.node[best], s.cluster[best], "amin")
    return cluster < none, cluster


def _weights(s: SparseSelection) -> Tensor:
    return torch.ones(s.node.numel(), device=s.node.device).double() if s.weight is None else s.weight.detach().double()


def _constant(sums: Tensor, graph: Tensor, graphs: int) -> Tensor:
    """[b] 1 where the sums [n] of a graph's nodes are one number other than 0, else 0."""
    least = sums.new_full((graphs,), torch.inf).scatter_reduce(0, graph, sums, "amin")
    most = sums.new_full((graphs,), -torch.inf).scatter_reduce(0, graph, sums, "amax")
    size = torch.maximum(least.abs(), most.abs())
    return ((most - least <= CONSTANT * size) & (size > 0)).double()


def _assignment(s: DenseSelection | SparseSelection) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(entropy of each assigned node, whether each node is assigned, used clusters of each graph, whether its nodes'
    assignments have one sum)."""
    graph, k = s.nodes.index, s.pooled.sizes.double()
    if isinstance(s, DenseSelection):
        signed = s.s.double().flatten(0, -2)
        if isinstance(s.nodes, Padded) and s.nodes.mask is not None:
            real = s.nodes.mask.flatten()
            signed, graph = signed[real], graph[real]
        p, sums = signed.abs(), signed.sum(-1)
        total = p.sum(-1)
        entropy = torch.special.entr(p / total.clamp(min=torch.finfo(p.dtype).tiny).unsqueeze(-1)).sum(-1)
        assigned = total > 0
        first = (graph * p.shape[1] + p.argmax(-1))[assigned].unique()
        used = torch.bincount(first // max(p.shape[1], 1), minlength=k.numel())
    else:
        n = graph.numel()
        w = _weights(s)
        sums = w.new_zeros(n).index_add(0, s.node, w)
        w = w.abs().clamp(min=torch.finfo(torch.float64).tiny)  # a score of 0 keeps its node, too
        total = w.new_zeros(n).index_add(0, s.node, w)
        entropy = w.new_zeros(n).index_add(0, s.node, torch.special.entr(w / total[s.node]))
        assigned = total > 0
        used = torch.bincount(s.pooled.index[s.cluster.unique()], minlength=k.numel())
    constant = _constant(sums, graph, k.numel())
    return (entropy / k[graph].clamp(min=2).log())[assigned], assigned, used.double(), constant


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
