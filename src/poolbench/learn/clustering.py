"""How good an assignment of nodes to clusters is, by itself and against classes that it never saw."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def against_classes(cluster: Tensor, y: Tensor) -> dict[str, float]:
    """Agreement of clusters [n] with classes [n].

    nmi: mutual information over the mean of the entropies (arithmetic). ari: adjusted Rand index. accuracy, macro_f1:
    after the one-to-one matching of clusters and classes that agrees on most nodes (Hungarian method); nodes in
    clusters beyond it are wrong. Where there are more clusters than classes, accuracy is bounded by that.
    """
    from sklearn.metrics import adjusted_rand_score, f1_score, normalized_mutual_info_score  # half a second

    c, t = cluster.numpy(), y.numpy()
    matched = match(c, t)
    return {
        "nmi": float(normalized_mutual_info_score(t, c)),
        "accuracy": float((matched == t).mean()),
        "ari": float(adjusted_rand_score(t, c)),
        "macro_f1": float(f1_score(t, matched, labels=np.unique(t), average="macro", zero_division=0.0)),
    }


def match(cluster: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Each node's cluster as the class that it is matched with, -1 for clusters without a match."""
    from scipy.optimize import linear_sum_assignment

    clusters, c = np.unique(cluster, return_inverse=True)
    classes, t = np.unique(y, return_inverse=True)
    counts = np.zeros((len(clusters), len(classes)), dtype=np.int64)
    np.add.at(counts, (c, t), 1)
    of_cluster = np.full(len(clusters), -1, dtype=y.dtype)
    row, col = linear_sum_assignment(counts, maximize=True)
    of_cluster[row] = classes[col]
    return of_cluster[c]


def by_itself(cluster: Tensor, edge_index: Tensor, k: int) -> dict[str, float]:
    """Quality of clusters [n] in a graph, every edge counted in both directions as [2, e] holds it.

    modularity: Newman & Girvan, sum_c (e_c / m - (d_c / m)^2) with m the number of entries, e_c those inside a cluster
    and d_c those that leave its nodes. conductance: the mean over the used clusters of (edges that leave) / (edges
    that leave or stay), 0 where a cluster has none. cut: the share of edges between clusters. used: clusters that
    have nodes.
    """
    row, col = edge_index
    m = max(row.numel(), 1)
    inside = torch.bincount(cluster[row][cluster[row] == cluster[col]], minlength=k).double()
    volume = torch.bincount(cluster[row], minlength=k).double()
    used = torch.bincount(cluster, minlength=k) > 0
    conductance = torch.where(volume > 0, (volume - inside) / volume.clamp(min=1), 0.0)
    return {
        "modularity": float((inside / m - (volume / m).square()).sum()),
        "conductance": float(conductance[used].mean()) if bool(used.any()) else 0.0,
        "cut": float((volume - inside).sum() / m),
        "used_clusters": float(used.sum()),
    }
