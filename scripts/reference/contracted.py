"""Cases of operators that contract edges until the clusters are what these join: as in `keeping`."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from poolbench.linalg import Matrix, Ragged, Sparse
from poolbench.pool import MagEdgePool, ParsPool
from poolbench.pool.base.geometry import DIVERSITIES, METRICS, edge_scores
from poolbench.pool.base.partition import CentredPartition, neighbourhoods
from reference.compare import Arrays
from reference.merged import matched
from reference.peercase import Outside, PeerCase, Run, as_arrays


def parspool(case: PeerCase) -> Arrays:
    """The cases leave out both networks of the sets, and number the clusters in an order of their own."""
    args = case.arguments({"channels": None, "layers": 2, "self_loops": False})
    pool = ParsPool(
        score_layers=args["layers"], set_layers=0, self_loops=args["self_loops"], in_channels=args["channels"],
        return_selection=True,
    )  # fmt: skip
    names = {f"edge_net.mlp.{4 * (args['layers'] - 1)}.{n}": f"edge_network.last.{n}" for n in ("weight", "bias")}
    for j in range(args["layers"] - 1):
        for n in ("weight", "bias"):
            names |= {f"edge_net.mlp.{4 * j}.{n}": f"edge_network.hidden.{j}.{n}"}
            names |= {f"edge_net.mlp.{4 * j + 1}.{n}": f"edge_network.norms.{j}.{n}"}
    run = Run.of(case, pool, names)
    cluster = run.s.of_node
    number = matched(cluster, case.tensor("s/cluster_index"))
    order = torch.argsort(number)
    edges, (row, col) = case.tensor("in/edge_index"), cluster[case.tensor("in/edge_index")]
    links = torch.bincount(row[row == col], minlength=len(order))
    links = links + torch.bincount(cluster, minlength=len(order)) * args["self_loops"]
    links, factor = links.clamp(min=1).double()[order], run.s.factor[order]
    found = {"out/x": run.out.x[order], "out/edge_index": number[run.out.a], **run.common(names)}
    found |= {"s/cluster_index": number[cluster], "s/link_counts": links, "s/cluster_score": factor / links}
    found |= {"s/edge_score": learned(pool, run.x, edges), "s/more": torch.tensor(len(order) < len(cluster))}
    found["out/batch"] = run.s.index[order]
    return as_arrays(found)


def learned(pool: ParsPool, x: Tensor, edges: Tensor) -> Tensor:
    """The score of each edge, in the order in which they are given."""
    pairs = neighbourhoods(Sparse.from_edges(edges[1], edges[0], None, Ragged.single(len(x))))
    e, u, v = pool.score(x, pairs.filter(pairs.row < pairs.col))
    scores = x.new_zeros(len(x), len(x)).index_put((u, v), e)
    return scores[edges.min(0).values, edges.max(0).values]


class Merged(MagEdgePool):
    """MagEdgePool with a case's clusters."""

    def __init__(self, cluster: Tensor, **args: Any) -> None:
        super().__init__(**args)
        self.cluster = cluster

    def select(self, x: Tensor, a: Matrix, i: Tensor | None) -> CentredPartition:
        first = torch.full_like(self.cluster, len(x)).scatter_reduce(0, self.cluster, torch.arange(len(x)), "amin")
        return CentredPartition.around(first[self.cluster], None, a.sparse().nodes)


def magedge(case: PeerCase) -> Arrays:
    """Ties are drawn there, graphs of several components are contracted wrongly, and a share above 0.5 has passes of
    its own: clusters are ours where none of this is so, and the case's elsewhere.
    """
    args = case.arguments(
        {"ratio": 0.5, "metric": "diffusion_distance", "diversity": None, "approx": False, "n_steps": 0}
    )
    if args["approx"]:
        raise Outside("argument approx")
    own = {n: args[n] for n in ("ratio", "metric", "diversity")}
    row, col = case.tensor("in/edge_index")
    graph = np.zeros((len(case.arrays["in/x"]),) * 2, dtype=bool)
    graph[row, col] = True
    parts, component = connected_components(csr_array(graph), directed=False)
    if case.entry.get("deterministic") and parts == 1 and args["ratio"] <= 0.5:
        pool = MagEdgePool(**own, return_selection=True)
    else:
        pool = Merged(case.tensor("s/cluster_index"), **own, return_selection=True)
    run = Run.of(case, pool, {})
    metric, diversity = METRICS[args["metric"]], DIVERSITIES[args["diversity"]]
    edges, scores = edge_scores(graph, args["metric"], args["diversity"])
    distance, total = np.full(graph.shape, -1.0), 0.0
    for c in range(parts):
        block = np.ix_(component == c, component == c)
        distance[block] = own_distance = metric(graph[block].astype(float)[None])[0]
        total += diversity(own_distance[None]).item()
    mean = run.s.dense().T
    found = {"out/x": run.out.x, "out/edge_index": run.out.a, **run.common({}), "s/cluster_index": run.s.of_node}
    found |= {"s/cluster_released": run.s.of_node.sort().values, "s/dense": mean.double() / mean.sum(1, keepdim=True)}
    arrays = {"s/edges": edges.T, "s/edge_score": scores, "s/distance": distance, "s/diversity": np.array(total)}
    return {**as_arrays(found), **arrays}
