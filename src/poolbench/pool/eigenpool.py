"""EigenPool: Ma, Wang, Aggarwal, Tang, "Graph Convolutional Networks with EigenPooling", KDD 2019,
arXiv 1904.13107."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from poolbench.errors import whole
from poolbench.linalg import Matrix, Nodes, Padded
from poolbench.linalg.coarsening import Coarsening
from poolbench.linalg.products import expand, pointers, segment_sum
from poolbench.pool.base.hostdense import HostDensePool, weights_of
from poolbench.pool.base.hostgraph import Array, on_host, rows_of, simple
from poolbench.pool.base.precomputed import as_layout, real_rows
from poolbench.pool.base.selection import DenseSelection
from poolbench.pool.base.spectral import DENSE, dense_laplacian, laplacian, smallest_eigenvectors

#: Of k-means; the best one counts.
STARTS = 10


class EigenSelection(DenseSelection):
    """Hard clusters, and for each node its entries in the first H eigenvectors of its cluster.

    Args:
        cluster: [m] int64, the cluster of each real node, numbered over the batch with k a graph.
        weight: [m, H], the eigenvectors.
        nodes: the nodes that are pooled.
        k: clusters of a graph.
        clusters: as in `DenseSelection`.
    """

    def __init__(self, cluster: Tensor, weight: Tensor, nodes: Nodes, k: int, clusters: Tensor | None = None) -> None:
        real, rows = real_rows(nodes), nodes.index.numel()
        self.node = torch.arange(rows, device=cluster.device) if real is None else real
        self.cluster, self.weight = cluster, weight
        s = weight.new_zeros(rows, k).index_put((self.node, cluster % k), weight.new_ones(()))
        super().__init__(as_layout(s, nodes), nodes, clusters)

    def modes(self, x: Tensor) -> Tensor:
        """[Theta^1' X | ... | Theta^H' X]: [b, k, H f]."""
        b, k = self.pooled.num_graphs, self.pooled.width
        order = torch.argsort(self.cluster, stable=True)
        index, ptr = self.cluster[order], pointers(self.cluster, b * k)
        rows = x.flatten(0, -2).index_select(0, self.node[order])
        terms = self.weight.to(x.dtype)[order].unsqueeze(-1) * rows.unsqueeze(1)
        return segment_sum(terms, ptr, index).reshape(b, k, self.weight.shape[1] * x.shape[-1])

    def lift_modes(self, x: Tensor) -> Tensor:
        """sum_h Theta^h X'^h: [.., H f] of all clusters -> node level [.., f]."""
        order = torch.argsort(self.cluster, stable=True)
        blocks = self._blocks(x)
        index, ptr = self.cluster[order], pointers(self.cluster, blocks.shape[0] * blocks.shape[1])
        modes = expand(blocks.flatten(0, 1).unflatten(-1, (self.weight.shape[1], -1)), ptr, index)
        rows = (self.weight.to(x.dtype)[order].unsqueeze(-1) * modes).sum(1)
        out = rows.new_zeros(self.nodes.index.numel(), rows.shape[1]).index_copy(0, self.node[order], rows)
        return as_layout(out, self.nodes)


class EigenPool(HostDensePool):
    """Clusters of a spectral clustering, each summed up by its graph Fourier transform: out_channels = H f.

        c    = spectral clustering of A into k clusters, S its one-hot matrix                [n, k]
        u^h  = the h-th eigenvector, by rising eigenvalue, of the Laplacian of the subgraph within a cluster
        Theta^h_ic = u^h_i for i in cluster c, 0 elsewhere                                   [n, k], h = 1 ... H
        X'   = [Theta^1' X | ... | Theta^H' X]                                               [k, H f]
        A'   = D'^-1/2 M D'^-1/2,   M = S'AS off the diagonal

    No parameters, no losses; S, Theta and A' depend on A alone (`precomputable`) and are constants for the gradient.
    The clustering is k-means, best of 10 starts, on the rows of the eigenvectors of the k smallest eigenvalues of
    L_sym, divided by the roots of the degrees. It is drawn from `seed` over an order of the nodes that does not depend
    on their numbers, and weights are read to 12 bits. A directed graph is made symmetric first, with the larger of both
    weights, for everything but A'; self-loops and negative weights are no edges there.

    What the method leaves open:

    * A graph of n <= k nodes has a cluster a node, with empty ones behind; k = 1 gives one cluster.
    * Of an eigenvector the first entry that is not zero is positive, in the order of nodes said above. Of a multiple
      eigenvalue it is one vector of the eigenspace, the same one each time: a cluster in two parts, say, or a ring.
    * A cluster of fewer than H nodes repeats its last eigenvector. The one of a single node is 1 (in other
      implementations its features vanish).
    * Components are clusters of their own where there are at most k, and isolated nodes are components. In a graph with
      more components than k, and in one without edges, k-means shares them out.

    `lift` is S X', which takes any width; `lift(..., modes=True)` is the paper's un-pooling sum_h Theta^h X'^h, H f
    features back to f.

    Cost O(E k t) for t Lanczos steps and O(n k^2) a step of k-means, O(n^3) at most 256 nodes; for the modes
    O(sum |C|^3) over clusters of at most 256 nodes, Lanczos above. All this on the host. O(n H f) after it.

    Args:
        k: number of clusters of each graph.
        num_modes: H, at least 1.
        normalized: the Laplacian of a cluster is I - D^-1/2 A D^-1/2, else D - A.
        seed: of the starts of k-means.
        remove_self_loops, degree_norm, edge_weight_norm, return_selection: see `HostDensePool`.

    Raises: ValueError for H < 1, for weights that are not finite, and for modes of a width that H does not divide.
    """

    selects = (EigenSelection,)

    def __init__(
        self,
        k: int,
        num_modes: int = 5,
        normalized: bool = True,
        seed: int = 0,
        return_selection: bool = False,
        **unknown: Any,
    ) -> None:
        super().__init__(k, seed=seed, return_selection=return_selection, **unknown)
        self.num_modes, self.normalized = whole("num_modes", num_modes), normalized

    def out_channels(self, in_channels: int) -> int:
        return self.num_modes * in_channels

    @on_host
    def select(self, x: Tensor, a: Matrix, i: Tensor | None) -> EigenSelection:
        found = self.assignments(a).reshape(-1, 1 + self.num_modes)
        real = real_rows(a.nodes)
        graph = a.nodes.index if real is None else a.nodes.index[real]
        cluster = graph * self.k + found[:, 0].to(device=graph.device, dtype=torch.int64)
        return EigenSelection(cluster, found[:, 1:].to(weights_of(a)), a.nodes, self.k, self.clusters(a.nodes))

    def assign_graph(self, a: csr_array, k: int) -> Array:
        """Column 0: the cluster of each node, counted from 0; then its entries in the eigenvectors: [n, 1 + H]."""
        edges = simple(a)
        cluster = spectral_clusters(edges, k, self.seed)
        modes = cluster_modes(edges, cluster, self.num_modes, self.normalized)
        return np.concatenate([cluster[:, None].astype(np.float64), modes], axis=1)

    def restore(self, c: Coarsening, nodes: Nodes) -> EigenSelection:
        assert c.cluster is not None and c.weight is not None and isinstance(c.pooled, Padded)
        return EigenSelection(c.cluster, c.weight, nodes, self.k, c.pooled.mask)

    def reduce(self, x: Tensor, s: EigenSelection) -> Tensor:  # type: ignore[override]
        return s.modes(x)

    def lift(  # type: ignore[override]
        self, x: Tensor, s: EigenSelection, inverse: bool = False, modes: bool = False
    ) -> Tensor:
        """S X', or (S+)' X' with `inverse`; with `modes` sum_h Theta^h X'^h."""
        if not modes:
            return super().lift(x, s, inverse)
        if inverse or x.shape[-1] % self.num_modes:
            raise ValueError(f"modes=True takes {self.num_modes} f features and no inverse, not {x.shape[-1]} features")
        return s.lift_modes(x)


def spectral_clusters(a: csr_array, k: int, seed: int) -> Array:
    """The cluster of each node of a symmetric graph without negative weights: [n] int64, below min(k, n)."""
    n = a.shape[0]
    if n <= k:
        return np.arange(n)
    if k == 1:
        return np.zeros(n, dtype=np.int64)
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    degree = a.sum(1)
    small = n <= DENSE
    lap = dense_laplacian(a.toarray(), True, alone=0.0) if small else laplacian(a, True, alone=0.0)
    rows = smallest_eigenvectors(lap, k)
    rows = rows / np.sqrt(np.where(degree > 0, degree, 1.0))[:, None]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct rows than clusters: some stay empty
        found = KMeans(k, init=_Starts(STARTS), n_init=STARTS, random_state=seed, copy_x=False).fit(rows)
    return found.labels_.astype(np.int64)


class _Starts:
    """k-means++ (Arthur and Vassilvitskii, SODA 2007) as scikit-learn has it, from the same random numbers.

    All starts are made at the first call, side by side: k - 1 rounds of a few NumPy calls and not `count` (k - 1) of
    them, which was two thirds of the time of k-means on a graph of 20 nodes.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.left: list[Array] = []

    def __call__(self, x: Array, k: int, random_state: np.random.RandomState) -> Array:
        if not self.left:
            self.left = list(x[self._chosen(x, k, random_state)])[::-1]
        return self.left.pop()

    def _chosen(self, x: Array, k: int, random_state: np.random.RandomState) -> Array:
        """[count, k], rows of x."""
        n, tries = x.shape[0], 2 + int(np.log(k))
        draws = random_state.random_sample((self.count, 1 + (k - 1) * tries))
        first, later = draws[:, 0], draws[:, 1:].reshape(self.count, k - 1, tries)
        norm, start, ones = np.einsum("ij,ij->i", x, x), np.arange(self.count), np.ones((n, 1))
        chosen = np.empty((self.count, k), dtype=np.int64)

        def distances(to: Array) -> Array:
            """Squared, from each row of x: [.., n]."""
            return np.maximum(-2.0 * (x[to] @ x.T) + norm[to][..., None] + norm, 0.0)

        share = np.cumsum(np.full(n, 1.0 / n))
        chosen[:, 0] = np.searchsorted(share / share[-1], first, side="right")
        nearest = distances(chosen[:, :1])[:, 0]
        potential = (nearest @ ones)[:, 0]
        for c in range(1, k):
            drawn = later[:, c - 1] * potential[:, None]
            below = np.cumsum(nearest, 1)[:, None, :] < drawn[..., None]
            candidates = np.minimum(below.sum(-1), n - 1)
            closer = np.minimum(nearest[:, None], distances(candidates))
            potentials = (closer @ ones)[..., 0]
            best = np.argmin(potentials, 1)
            nearest, potential, chosen[:, c] = closer[start, best], potentials[start, best], candidates[start, best]
        return chosen


def cluster_modes(a: csr_array, cluster: Array, count: int, normalized: bool) -> Array:
    """The first `count` eigenvectors of the Laplacian of each cluster's induced subgraph: [n, count]."""
    modes = np.zeros((a.shape[0], count))
    order = np.argsort(cluster, kind="stable")
    sizes = np.bincount(cluster)
    size_of = sizes[cluster]
    place = np.empty_like(order)  # of a node among its cluster's
    place[order] = np.arange(order.size) - (np.cumsum(sizes) - sizes)[cluster[order]]
    row = rows_of(a)
    (inside,) = (cluster[row] == cluster[a.indices]).nonzero()
    row, col, weight = row[inside], a.indices[inside], a.data[inside]
    for size in np.unique(size_of):
        members = order[size_of[order] == size].reshape(-1, size)  # [clusters of that size, size]
        have = min(count, size)
        if size <= DENSE:
            number = np.zeros_like(sizes)
            number[cluster[members[:, 0]]] = np.arange(len(members))
            own = size_of[row] == size
            blocks = np.zeros((*members.shape, size))
            blocks[number[cluster[row[own]]], place[row[own]], place[col[own]]] = weight[own]
            vectors = smallest_eigenvectors(dense_laplacian(blocks, normalized), have)
        else:
            parts = [laplacian(a[nodes][:, nodes], normalized) for nodes in members]
            vectors = np.stack([smallest_eigenvectors(part, have) for part in parts])
        modes[members, :have] = vectors
        modes[members, have:] = vectors[..., -1:]
    return modes
