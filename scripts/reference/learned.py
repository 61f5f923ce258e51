"""Cases of operators that learn the clusters or the edges of the pooled graph: as in `keeping`."""

from __future__ import annotations

from poolbench.pool import ClusterPool
from reference.compare import Arrays
from reference.peercase import PeerCase, Run, as_arrays


def cluster(case: PeerCase) -> Arrays:
    """PyG takes the softmax over all edges of a batch. It ignores weights of edges, and returns none."""
    args = case.arguments({"edge_score_method": "tanh", "dropout": 0.0, "threshold": None, "threshold_used": None})
    pool = ClusterPool(
        args["edge_score_method"],
        args["threshold"],
        args["dropout"],
        scope="batch",
        return_selection=True,
        in_channels=case.arrays["in/x"].shape[1],
    )
    names = {"lin.weight": "projection.weight", "lin.bias": "projection.bias"}
    run = Run.of(case, pool.eval(), names)
    found = {"out/x": run.out.x, "out/edge_index": run.edges()["out/edge_index"], "out/batch": run.s.index}
    found |= {"s/cluster_index": run.s.of_node, **run.common(names)}
    if case.library == "authors":
        source, target = case.tensor("in/edge_index")
        found["s/edge_score"] = run.s.heard.to_dense()[target, source]
    return as_arrays(found)
