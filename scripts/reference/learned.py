"""Cases of operators that learn the clusters or the edges of the pooled graph: as in `keeping`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch

from poolbench.pool import ClusterPool, HGPSLPool, MemPool
from poolbench.pool.hgpsl import StructurePool
from reference.compare import Arrays
from reference.keeping import by_falling_score, kept_nodes, kept_ratio, ranked
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


def hgpsl(case: PeerCase) -> Arrays:
    known = {"ratio": 0.8, "sample": False, "sparse": False, "sl": True, "lamb": 1.0, "negative_slop": 0.2}
    args = case.arguments(known)
    pool = HGPSLPool(
        kept_ratio(case, args["ratio"]),
        structure_learning=args["sl"],
        **{name: args[name] for name in ("sample", "sparse", "lamb")},
        negative_slope=args["negative_slop"],
        return_selection=True,
        in_channels=case.arrays["in/x"].shape[1],
    )
    found = structured(case, pool, {"att": "attention.weight"})
    del found["s/weight"]
    return found


def structured(case: PeerCase, pool: StructurePool, names: Mapping[str, str]) -> Arrays:
    """Rows by falling score, ties settled as the case did. Without structure learning theirs has an attention that is
    not used, and ours none.
    """
    choose, own = pool.choose, dict(pool.named_parameters())
    pool.choose = lambda y, nodes: choose(-ranked(case, y).double(), nodes)  # type: ignore[method-assign]
    names = {name: path for name, path in names.items() if path in own}
    arrays = {n: v for n, v in case.arrays.items() if not n.startswith("param/") or n.removeprefix("param/") in names}
    shaped = {f"param/{name}": case.arrays[f"param/{name}"].reshape(own[path].shape) for name, path in names.items()}
    run = Run.of(replace(case, arrays={**arrays, **shaped}), pool.eval(), names)
    score, learned = run.out.score, run.out.edge_weight
    assert score is not None and learned is not None
    kept, also = run.s.kept, [learned] if learned.requires_grad else []
    weight = torch.ones(len(kept), dtype=torch.float64) if run.s.weight is None else run.s.weight
    found = kept_nodes(run, kept, weight, by_falling_score(run.out, -ranked(case, score)[kept]))
    found |= {"s/score": score, **run.common(names, *also)}
    return {n: v.reshape(case.arrays[n].shape) if n.startswith("grad/") else v for n, v in as_arrays(found).items()}
