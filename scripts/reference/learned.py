"""Cases of operators that learn the clusters or the edges of the pooled graph: as in `keeping`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from poolbench.pool import ClusterPool, MemPool
from reference.compare import Arrays
from reference.peercase import PeerCase, Run, as_arrays, in_batch


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


def mem(case: PeerCase) -> Arrays:
    """PyG's keys [h, k, f] are rows here, its weights of the heads a kernel [1, h, 1, 1]. It returns no graph."""
    args = case.arguments({"out_channels": None, "heads": None, "num_clusters": None, "tau": 1.0})
    heads, k, width = args["heads"], args["num_clusters"], case.arrays["in/x"].shape[1]
    pool = MemPool(k, args["out_channels"], heads, args["tau"], return_selection=True, in_channels=width)
    names = {"k": "keys.weight", "conv.weight": "mix", "lin.weight": "embedding.weight"}
    shapes = {"k": (heads * k, width), "conv.weight": (heads,)}
    flat = {f"param/{name}": case.arrays[f"param/{name}"].reshape(shape) for name, shape in shapes.items()}
    edges = {"in/edge_index": case.arrays.get("in/edge_index", np.zeros((2, 0), dtype=np.int64))}
    run = Run.of(replace(case, arrays={**case.arrays, **flat, **edges}), pool, names)
    found = {"out/x": run.out.x.unflatten(0, (-1, k)), "s/dense": in_batch(case, run.s.dense())}
    found["loss/kl"] = run.out.losses["kl"]
    if case.library == "pyg":  # its recordings have the loss, and an objective without it
        run.out = run.out._replace(losses={})
    found |= run.common(names)
    found |= {f"grad/{name}": found[f"grad/{name}"].reshape(case.arrays[f"param/{name}"].shape) for name in shapes}
    return as_arrays(found)
