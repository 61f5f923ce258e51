"""Cases of operators that score nodes by graph convolutions of their own, and keep the best: as in `keeping`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from poolbench.linalg import Matrix
from poolbench.pool import CGIPool, CoPool, GSAPool
from poolbench.pool.topk import ScorePool
from reference.compare import Arrays
from reference.keeping import by_falling_score, kept_nodes, kept_ratio, ranked
from reference.peercase import Outside, PeerCase, Run, as_arrays

#: Layers of PyG -> (name here, name of each weight there -> here).
LAYERS: dict[str, tuple[str, dict[str, str]]] = {
    "GCNConv": ("gcn", {"lin.weight": "linear.weight", "bias": "linear.bias"}),
    "SAGEConv": (
        "sage",
        {"lin_l.weight": "neighbours.weight", "lin_l.bias": "root.bias", "lin_r.weight": "root.weight"},
    ),
    "GATConv": (
        "gat",
        {"lin.weight": "linear.weight", "bias": "linear.bias", "att_src": "source.weight", "att_dst": "target.weight"},
    ),
    "GraphConv": (
        "graphconv",
        {"lin_rel.weight": "neighbours.weight", "lin_rel.bias": "root.bias", "lin_root.weight": "root.weight"},
    ),
    "ChebConv": ("cheb", {"lins.0.weight": "weight", "bias": "bias"}),
}


def layer(name: Any, theirs: str, ours: str) -> tuple[str, dict[str, str]]:
    """Name of a layer here, and its weights' names: in the module `theirs` of the case, `ours` of ours."""
    if name not in LAYERS:
        raise Outside(f"a GNN {name}")
    here, weights = LAYERS[name]
    return here, {f"{theirs}.{key}": f"{ours}.{value}" for key, value in weights.items()}


def gsapool(case: PeerCase) -> Arrays:
    known = {"pooling_ratio": 0.5, "alpha": 0.6, "pooling_conv": "GCNConv", "fusion_conv": None, "multiplier": 1.0}
    args = case.arguments(known)
    structure, names = layer(args["pooling_conv"], "sbtl_layer", "structure")
    names |= {"fbtl_layer.weight": "features.weight", "fbtl_layer.bias": "features.bias"}
    fusion = None
    if args["fusion_conv"] is not None:
        fusion, more = layer(args["fusion_conv"], "fusion", "fusion")
        names |= more
    ratio, width = kept_ratio(case, args["pooling_ratio"]), case.arrays["in/x"].shape[1]
    pool = GSAPool(
        ratio, args["alpha"], structure, fusion, args["multiplier"], return_selection=True, in_channels=width
    )
    run = called(case, pool, names)
    assert run.out.score is not None
    score = run.out.score.tanh()
    return best(run, names, score, weight=score[run.s.kept])


def called(case: PeerCase, pool: ScorePool | CoPool, names: Mapping[str, str]) -> Run:
    """The operator called on the case, ties settled as the case did; PyG's weights in the shapes of ours."""
    choose, own = pool.choose, dict(pool.named_parameters())
    pool.choose = lambda y, nodes: choose(-ranked(case, y).double(), nodes)  # type: ignore[method-assign]
    shaped = {f"param/{name}": case.arrays[f"param/{name}"].reshape(own[path].shape) for name, path in names.items()}
    return Run.of(replace(case, arrays={**case.arrays, **shaped}), pool.eval(), names)


def best(run: Run, names: Mapping[str, str], score: Tensor, weight: Tensor, *also: Tensor) -> Arrays:
    """What a case holds of nodes that were kept, rows by falling score; `also` takes part in the objective."""
    assert run.out.score is not None
    case, kept = run.case, run.s.kept
    order = by_falling_score(run.out, -ranked(case, run.out.score)[kept])
    found = {**kept_nodes(run, kept, weight, order), "s/score": score, **run.common(names, *also)}
    found |= {f"loss/{name}": value for name, value in run.out.losses.items()}
    return {n: v.reshape(case.arrays[n].shape) if n.startswith("grad/") else v for n, v in as_arrays(found).items()}


class Remembering(CGIPool):
    """CGIPool that remembers both scores of its last call."""

    def views(self, x: Tensor, a: Matrix) -> tuple[Tensor, Tensor, Tensor]:
        h, self.p, self.q = super().views(x, a)
        return h, self.p, self.q


def cgipool(case: PeerCase) -> Arrays:
    args = case.arguments({"ratio": 0.8, "contrast_nodes": "one"})
    pairs = {
        "transform": "transform", "pp_conv": "positive.hidden", "positive_pooling": "positive.score",
        "np_conv": "negative.hidden", "negative_pooling": "negative.score",
    }  # fmt: skip
    parts = {"fc1": "hidden", "fc2": "logit"}
    names = {f"discriminator.{t}.{w}": f"discriminator.{o}.{w}" for t, o in parts.items() for w in ("weight", "bias")}
    for theirs, ours in pairs.items():
        names |= layer("GraphConv", theirs, ours)[1]
    ratio, width = kept_ratio(case, args["ratio"]), case.arrays["in/x"].shape[1]
    pool = Remembering(ratio, args["contrast_nodes"], return_selection=True, in_channels=width)
    run = called(case, pool, names)
    assert run.out.score is not None
    found = best(run, names, run.out.score, run.s.weight)
    return {**found, **as_arrays({"s/positive": pool.p, "s/negative": pool.q})}


def copool(case: PeerCase) -> Arrays:
    """The edges are cut over the whole batch. The filter's `Init` has no effect."""
    args = case.arguments({"nhid": None, "ratio": 0.5, "K": 1, "edge_ratio": 0.6, "alpha": 0.1, "Init": None})
    turned = {name: case.arrays[name].T for name in ("param/weight", "grad/weight")}
    case = replace(case, arrays={**case.arrays, **turned})
    names = {
        "prop1.temp": "gamma", "G_att.linear_proj.weight": "projection.weight", "weight": "update.weight",
        "G_att.scoring_fn_source": "source.weight", "G_att.scoring_fn_target": "target.weight", "bias": "update.bias",
    }  # fmt: skip
    pool = CoPool(
        kept_ratio(case, args["ratio"]), args["edge_ratio"], args["K"], args["alpha"], scope="batch",
        return_selection=True, in_channels=args["nhid"],
    )  # fmt: skip
    run = called(case, pool, names)
    assert run.out.score is not None and run.out.edge_weight is not None
    found = best(run, names, run.out.score, run.out.score[run.s.kept], run.out.edge_weight)
    del found["s/weight"]
    found["grad/weight"] = found["grad/weight"].T
    return {**found, **as_arrays({"s/attention": run.s.m.to_dense()})}
