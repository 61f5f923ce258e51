"""Cases of operators that contract edges until the clusters are what these join: as in `keeping`."""

from __future__ import annotations

import torch
from torch import Tensor

from poolbench.linalg import Ragged, Sparse
from poolbench.linalg.products import invert
from poolbench.pool import ParsPool
from poolbench.pool.base.partition import neighbourhoods
from reference.compare import Arrays
from reference.merged import matched
from reference.peercase import PeerCase, Run, as_arrays


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
    links, factor = links.clamp(min=1).double()[order], run.s.weight[invert(run.s.node)][run.s.centres][order]
    found = {"out/x": run.out.x[order], "out/edge_index": number[run.out.a], **run.common(names)}
    found |= {"s/cluster_index": number[cluster], "s/link_counts": links, "s/cluster_score": factor / links}
    found |= {"s/edge_score": edge_scores(pool, run.x, edges), "s/more": torch.tensor(len(order) < len(cluster))}
    found["out/batch"] = run.s.index[order]
    return as_arrays(found)


def edge_scores(pool: ParsPool, x: Tensor, edges: Tensor) -> Tensor:
    """The score of each edge, in the order in which they are given."""
    pairs = neighbourhoods(Sparse.from_edges(edges[1], edges[0], None, Ragged.single(len(x))))
    e, u, v = pool.score(x, pairs.filter(pairs.row < pairs.col))
    scores = x.new_zeros(len(x), len(x)).index_put((u, v), e)
    return scores[edges.min(0).values, edges.max(0).values]
