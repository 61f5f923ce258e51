"""Pooling by clusters that somebody else found: the library's own, for what PyTorch Geometric does by `avg_pool` and
`max_pool`."""

from __future__ import annotations

import torch
from torch import Tensor

from poolbench.linalg import Matrix, Ragged
from poolbench.pool.base.door import check_tensor
from poolbench.pool.base.partition import Partition
from poolbench.pool.base.partitionpool import PartitionPool


class GivenClustersPool(PartitionPool):
    """Merges the nodes that bear one label: `pool(x, a, i, cluster=labels)`.

        X' = S'X, or another `reduce` of the rows of a cluster;   A' = S'AS without its diagonal

    Labels [n] are whole numbers of any size, one for each real node; those of different graphs are different clusters,
    whatever their numbers. Of a graph, the clusters come out in increasing label. With `return_selection`,
    `pool.lift(out.x, out.s)` brings the row of a cluster back to each of its nodes. Cost O(n f + n log n + E).
    No parameters, no losses.

    The arguments are those of `PartitionPool`.

    Raises: ValueError, in a call, without labels and for labels that are not whole numbers [n];
        TypeError for what is no tensor.
    """

    def select(
        self, x: Tensor, a: Matrix, i: Tensor | None, cluster: Tensor | None = None, node_order: Tensor | None = None
    ) -> Partition:
        nodes = a.sparse().nodes
        if cluster is not None:
            check_tensor("cluster", cluster)
        if cluster is None or cluster.is_floating_point() or cluster.numel() != nodes.num_rows:
            given = "nothing" if cluster is None else f"{cluster.dtype} {list(cluster.shape)}"
            raise ValueError(
                f"cluster is {given}: the label of each node, whole numbers [{nodes.num_rows}], is expected"
            )
        cluster = cluster.reshape(-1) if node_order is None else cluster.reshape(-1).index_select(0, node_order)
        values, label = torch.unique(cluster, return_inverse=True)
        found, number = torch.unique(nodes.index * values.numel() + label, return_inverse=True)
        pooled = Ragged.from_index(found // max(values.numel(), 1), nodes.num_graphs)
        return Partition.partition(number, None, nodes, pooled)
