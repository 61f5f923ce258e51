"""Cases of operators that learn the clusters or the edges of the pooled graph: as in `keeping`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch

from poolbench.pool import ClusterPool, HGPSLPool, MemPool, MVPool
from poolbench.pool.hgpsl import StructurePool
from reference.compare import Arrays
from reference.convscores import best, called
from reference.keeping import kept_ratio
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


def mvpool(case: PeerCase) -> Arrays:
    """Views are compared over the whole batch. An edge of `hop_connection` that the graph has not weighs 0, and so does
    a self-loop of each node.
    """
    known = {
        "ratio": 0.8, "sample_neighbor": True, "sparse_attention": True, "structure_learning": False,
        "hop_connection": False, "hop": 3, "lamb": 2.0, "negative_slop": 0.2,
    }  # fmt: skip
    args = case.arguments(known)
    pool = MVPool(
        kept_ratio(case, args["ratio"]),
        args["structure_learning"],
        args["hop_connection"],
        args["lamb"],
        scope="batch",
        sample=args["sample_neighbor"],
        hops=2 ** (args["hop"] - 1),
        sparse=args["sparse_attention"],
        negative_slope=args["negative_slop"],
        return_selection=True,
        in_channels=case.arrays["in/x"].shape[1],
    )
    names = {
        "att": "attention.weight", "weight": "direction.weight", "alpha": "alpha", "beta": "beta",
        "view_att": "views.weight", "view_bias": "views.bias",
        "calc_pagerank_score.gnn.weight": "teleport.weight", "calc_pagerank_score.gnn.bias": "restart",
    }  # fmt: skip
    turned = {name: case.arrays[name].T for name in ("param/view_att", "grad/view_att")}
    found = structured(replace(case, arrays={**case.arrays, **turned}), pool, names)
    found["grad/view_att"] = found["grad/view_att"].T
    return zero_hops(case, found) if args["hop_connection"] else found


def zero_hops(case: PeerCase, found: Arrays) -> Arrays:
    """The answer with a self-loop of each node, and the weight 0 for 1 where the graph has no edge."""
    kept, n = found["s/node_index"], len(case.arrays["in/x"])
    each = np.arange(len(kept))
    edges = np.concatenate([found["out/edge_index"], [each, each]], 1)
    weight = np.concatenate([found["out/edge_weight"], np.ones(len(kept))])
    there = np.zeros((n, n), dtype=bool)
    there[tuple(case.arrays["in/edge_index"])] = True
    return {**found, "out/edge_index": edges, "out/edge_weight": weight - ~there[tuple(kept[edges])]}


def structured(case: PeerCase, pool: StructurePool, names: Mapping[str, str]) -> Arrays:
    """Without structure learning theirs has an attention that is not used, and ours none."""
    own = dict(pool.named_parameters())
    names = {name: path for name, path in names.items() if path in own}
    arrays = {n: v for n, v in case.arrays.items() if not n.startswith("param/") or n.removeprefix("param/") in names}
    run = called(replace(case, arrays=arrays), pool, names)
    score, learned = run.out.score, run.out.edge_weight
    assert score is not None and learned is not None
    weight = torch.ones(len(run.out.x)) if run.s.weight is None else run.s.weight
    return best(run, names, score, weight, *([learned] if learned.requires_grad else []))
