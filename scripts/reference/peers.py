"""Cases of folders in the format of tgp and PyG, run by poolbench and compared.

To check an operator, write one function from a case to the arrays that the folder holds for it and enter it in
`MAPPINGS`. It raises `Outside` with the reason for arguments that poolbench's operator does not have.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from poolbench.pool import AsymCheegerCutPool, DMoNPool, JustBalancePool, MinCutPool, NoPool, TopKPool
from poolbench.pool.door import PoolOutput
from poolbench.pool.src import SRCPool
from reference.cases import BadCase, read_arrays
from reference.compare import Arrays, Result, Tolerance, difference


class Outside(Exception):
    """The case has arguments that the documented operator does not have."""


#: Values that leave a sparse operator as it is.
NEUTRAL = {"remove_self_loops": False, "degree_norm": False, "edge_weight_norm": False, "min_score": None}


@dataclass(frozen=True)
class PeerCase:
    library: str  # tgp or pyg
    entry: dict[str, Any]
    arrays: Arrays
    tolerance: Tolerance

    @property
    def operator(self) -> str:
        return self.entry["operator"]

    def tensor(self, name: str) -> Tensor:
        """An array of the case, floats in float64."""
        value = torch.from_numpy(self.arrays[name])
        return value.double() if value.is_floating_point() else value

    def optional(self, name: str) -> Tensor | None:
        return self.tensor(name) if name in self.arrays else None

    @property
    def expected(self) -> Arrays:
        return {k: v for k, v in self.arrays.items() if not k.startswith(("in/", "param/"))}

    @property
    def sizes(self) -> list[int]:
        """Nodes of each graph."""
        i = self.arrays.get("in/batch")
        return [len(self.arrays["in/x"])] if i is None else np.bincount(i).tolist()

    def arguments(self, known: Mapping[str, Any]) -> dict[str, Any]:
        """The case's arguments, `known` being all that can be expressed and their defaults."""
        for name, value in self.entry["kwargs"].items():
            if name not in known and name != "in_channels" and value != NEUTRAL.get(name, Outside):
                raise Outside(f"argument {name}")
        return {**known, **self.entry["kwargs"]}


def check(library: str, folder: Path, entry: dict[str, Any], default: Tolerance) -> Result:
    """Run one case. A case that cannot be read is a failure; one of an operator to come is outside."""
    result = Result(str(entry.get("name", entry)))
    try:
        own = entry.get("tolerance")
        tolerance = Tolerance(own["rtol"], own["atol"]) if own else default
        case = PeerCase(library, entry, read_arrays(folder, entry), tolerance)
        mapping = MAPPINGS.get((library, case.operator))
        if mapping is None:
            if case.operator not in TO_COME:
                raise BadCase(f"operator {case.operator!r} is not known")
            raise Outside("not implemented yet")
        ours = mapping(case)
    except Outside as reason:
        result.outside = str(reason)
        return result
    except Exception as error:  # one case's failure must not end the run
        result.fail("case", f"{type(error).__name__}: {error}")
        return result
    expected = _sorted_edges(case.expected)
    ours = _sorted_edges(ours)
    for name, value in expected.items():
        why = difference(ours.get(name), value, tolerance)
        if why is not None:
            result.fail(name, why)
    for name in ours.keys() - expected.keys():
        result.fail(name, "poolbench answers it, the case does not list it")
    return result


def _sorted_edges(arrays: Arrays) -> Arrays:
    """Edges in the order of their ends: the order of a list of edges means nothing."""
    out = dict(arrays)
    for name in ("out/edge_index", "out/edge_index_aligned"):
        if name not in arrays:
            continue
        order = np.lexsort(arrays[name][::-1])
        out[name] = arrays[name][:, order]
        if "out/edge_weight" in arrays:
            out[f"{name}, weights"] = arrays["out/edge_weight"][order]
    out.pop("out/edge_weight", None)
    return out


@dataclass
class Run:
    """An operator called on a case's graph, in float64."""

    case: PeerCase
    pool: SRCPool
    x: Tensor
    out: PoolOutput

    @classmethod
    def of(cls, case: PeerCase, pool: SRCPool, parameters: Mapping[str, str]) -> Run:
        """`parameters`: name in the case -> name of ours."""
        pool.double()
        own = dict(pool.named_parameters())
        missing = set(own) ^ set(parameters.values())
        theirs = {k.removeprefix("param/") for k in case.arrays if k.startswith("param/")}
        if missing or theirs != set(parameters):
            raise BadCase(f"weights do not fit: {', '.join(sorted(missing | theirs ^ set(parameters)))}")
        with torch.no_grad():
            for name, path in parameters.items():
                own[path].copy_(case.tensor(f"param/{name}"))
        x, edges = case.tensor("in/x"), case.tensor("in/edge_index")
        x.requires_grad_()
        weight = case.optional("in/edge_weight")
        weight = torch.ones(edges.shape[1], dtype=torch.float64) if weight is None else weight
        return cls(case, pool, x, pool(x, edges, case.optional("in/batch"), edge_weight=weight))

    @property
    def s(self) -> Any:
        """The selection."""
        return self.out.s

    def blocks(self, k: int) -> Tensor:
        """The pooled adjacency of a dense operator, a block a graph: [b, k, k]."""
        assert isinstance(self.out.a, Tensor) and self.out.edge_weight is not None
        b = len(self.case.sizes)
        graph, row, col = self.out.a[0] // k, self.out.a[0] % k, self.out.a[1] % k
        dense = torch.zeros(b, k, k, dtype=torch.float64)
        return dense.index_put((graph, row, col), self.out.edge_weight, accumulate=True)

    def common(self, parameters: Mapping[str, str]) -> dict[str, Tensor]:
        """Losses are the mapping's; here the objective and its gradients."""
        objective = self.out.x.square().sum() / 2 + sum(self.out.losses.values())
        own = dict(self.pool.named_parameters())
        leaves = {"x": self.x, **{name: own[path] for name, path in parameters.items()}}
        gradients = torch.autograd.grad(objective, list(leaves.values()), allow_unused=True)
        found = {"objective": objective}
        for (name, leaf), g in zip(leaves.items(), gradients, strict=True):
            found[f"grad/{name}"] = torch.zeros_like(leaf) if g is None else g
        return found

    def edges(self, weighted: bool = False, drop: float = 0.0) -> dict[str, Tensor]:
        """The pooled edges, those of weight above `drop`; with weights where `weighted` or weights were given."""
        assert isinstance(self.out.a, Tensor) and self.out.edge_weight is not None
        keep = self.out.edge_weight.abs() > drop
        found = {"out/edge_index": self.out.a[:, keep]}
        if weighted or "in/edge_weight" in self.case.arrays:
            found["out/edge_weight"] = self.out.edge_weight[keep]
        return found


def _numpy(found: dict[str, Tensor]) -> Arrays:
    return {name: value.detach().numpy() for name, value in found.items()}


def topk(case: PeerCase) -> Arrays:
    """Keeps nodes in input order where the others order them by falling score: their order is made from our scores."""
    args = case.arguments({"ratio": 0.5, "nonlinearity": "tanh", "multiplier": 1.0, "s_inv_op": "transpose"})
    if args["multiplier"] != 1:
        raise Outside("argument multiplier")
    if args["nonlinearity"] not in ("tanh", "sigmoid"):
        raise Outside("argument nonlinearity")
    if args["ratio"] == 1:
        raise Outside("ratio=1.0 keeps one node there, all of them here (decision 4)")
    sigmoid = args["nonlinearity"] == "sigmoid"
    pool = TopKPool(
        args["ratio"],
        return_selection=True,
        return_score=True,
        sigmoid_gating=sigmoid,
        in_channels=case.arrays["in/x"].shape[1],
    )
    weight = {"tgp": "selector.weight", "pyg": "select.weight"}[case.library]
    names = {weight: "projection.weight"}
    run = Run.of(case, pool, names)
    out, kept = run.out, run.s.kept
    assert out.score is not None
    graph, score = torch.repeat_interleave(out.sizes), out.score[kept]
    by_score = torch.argsort(score, descending=True, stable=True)
    order = by_score[torch.argsort(graph[by_score], stable=True)]  # row of theirs -> row of ours
    place = torch.argsort(order)
    gate = torch.sigmoid(score) if sigmoid else torch.tanh(score)
    found = {"out/x": out.x[order], **run.common(names), **run.edges()}
    if case.library == "pyg":
        found |= {"s/node_index": kept[order], "s/weight": gate[order], "out/batch": graph}
        found["out/edge_index"] = place[found["out/edge_index"]]
        return _numpy(found)
    found |= {"s/node_index": kept, "s/cluster_index": place, "s/weight": gate}
    found["lift/x"] = pool.lift(out.x, run.s, inverse=args["s_inv_op"] == "inverse")
    found["out/edge_index_aligned"] = place[found["out/edge_index"]]
    if "in/batch" in case.arrays:
        found["out/batch"] = graph
    return _numpy(found)


def nopool(case: PeerCase) -> Arrays:
    case.arguments({})
    pool = NoPool(return_selection=True)
    run = Run.of(case, pool, {})
    each = torch.arange(run.x.shape[0])
    found = {"out/x": run.out.x, **run.common({}), **run.edges(), "lift/x": pool.lift(run.out.x, run.s)}
    found |= {"s/node_index": each, "s/cluster_index": each, "s/weight": torch.ones_like(each, dtype=torch.float64)}
    if run.out.i is not None:
        found["out/batch"] = run.out.i
    return _numpy(found)


def _padded(case: PeerCase, rows: Tensor) -> Tensor:
    """[n, ...] -> [b, nmax, ...] with zeros."""
    return nn.utils.rnn.pad_sequence(list(rows.split(case.sizes)), batch_first=True)


def _mlp(case: PeerCase) -> tuple[dict[str, Any], dict[str, str]]:
    """Arguments of the assignment MLP, and its weights' names."""
    widths = case.entry["kwargs"]["in_channels"]
    widths = widths if isinstance(widths, list) else [widths]
    act = case.entry["kwargs"].get("act")
    activation = None if act is None else act.lower()
    args = {"in_channels": widths[0], "mlp_hidden": widths[1:], "mlp_activation": activation}
    layers = range(len(widths))
    names = {f"selector.mlp.lins.{j}.{kind}": f"mlp.layers.{j}.{kind}" for j in layers for kind in ("weight", "bias")}
    return args, names


def _tgp_soft(
    case: PeerCase, build: Callable[..., SRCPool], losses: Mapping[str, str], known: Mapping[str, Any], plain: bool
) -> Arrays:
    """A dense operator of tgp. `losses`: name there -> name here; `plain`: the pooled adjacency is S'AS as it is."""
    shared = {
        "k": None, "act": None, "sparse_output": False, "s_inv_op": "transpose", "adj_transpose": True,
        "remove_self_loops": True, "degree_norm": True, "edge_weight_norm": False,
    }  # fmt: skip
    args = case.arguments({**shared, **known})
    post = (args["remove_self_loops"], args["degree_norm"], args["edge_weight_norm"])
    if post != ((False, False, False) if plain else (True, True, False)):
        raise Outside("another post-processing of the pooled adjacency")
    mlp, names = _mlp(case)
    pool = build(k=args["k"], return_selection=True, **mlp, **{n: args[n] for n in known})
    run = Run.of(case, pool, names)
    out, sizes = run.out, case.sizes
    b, k, s = len(sizes), args["k"], run.s.dense()
    lifted = pool.lift(out.x, run.s, inverse=args["s_inv_op"] == "inverse")
    unbatched = case.operator.endswith("_u")
    padded = (lambda v: v) if unbatched else partial(_padded, case)
    found = {"s/dense": padded(s), "lift/x": padded(lifted), **run.common(names)}
    found |= {f"loss/{theirs}": out.losses[ours] for theirs, ours in losses.items()}
    found["out/mask"] = torch.stack([part.sum(0) > 0 for part in s.split(sizes)])
    ids = torch.arange(b).repeat_interleave(k)
    if args["sparse_output"]:
        found |= {"out/x": out.x, **run.edges(weighted=True, drop=1e-8)}
    else:
        found |= {"out/x": out.x.reshape(b, k, -1), "out/adj": run.blocks(k)}
    if (args["sparse_output"] or unbatched) and "in/batch" in case.arrays:
        found["out/batch"] = ids
    return _numpy(found)


def mincut(case: PeerCase) -> Arrays:
    if {"cut_loss_coeff", "ortho_loss_coeff"} & set(case.entry["kwargs"]):
        raise Outside("coefficients of MinCutPool's losses")
    return _tgp_soft(case, MinCutPool, {"cut_loss": "cut", "ortho_loss": "ortho"}, {}, plain=False)


def justbalance(case: PeerCase) -> Arrays:
    kwargs = case.entry["kwargs"]
    if kwargs.get("loss_coeff", 1.0) != 1:
        raise Outside("coefficient of JustBalancePool's loss")

    def build(normalize_loss: bool, loss_coeff: float, **args: Any) -> SRCPool:
        return JustBalancePool(normalized_loss=normalize_loss, **args)

    known = {"normalize_loss": True, "loss_coeff": 1.0}
    return _tgp_soft(case, build, {"balance_loss": "balance"}, known, plain=False)


def cheeger(case: PeerCase) -> Arrays:
    names = {"total_variation_loss": "totvar", "balance_loss": "balance"}
    return _tgp_soft(case, AsymCheegerCutPool, names, {"totvar_coeff": 1.0, "balance_coeff": 1.0}, plain=True)


def dmon(case: PeerCase) -> Arrays:
    if case.entry["kwargs"].get("ortho_loss_coeff", 0.0) or case.entry["kwargs"].get("spectral_loss_coeff", 1.0) != 1:
        raise Outside("losses that DMoNPool does not have")

    def build(cluster_loss_coeff: float, ortho_loss_coeff: float, spectral_loss_coeff: float, **args: Any) -> SRCPool:
        return DMoNPool(null_model="exact", collapse_regularization=cluster_loss_coeff, **args)

    known = {"cluster_loss_coeff": 1.0, "ortho_loss_coeff": 0.0, "spectral_loss_coeff": 1.0}
    found = _tgp_soft(case, build, {"spectral_loss": "modularity", "cluster_loss": "collapse"}, known, plain=True)
    return {**found, "loss/ortho_loss": np.zeros(())}


def pyg_mincut(case: PeerCase) -> Arrays:
    """dense_mincut_pool takes the logits of S: they stand in for the MLP."""
    args = case.arguments({"k": None, "temp": 1.0})
    logits = case.tensor("in/logits")
    pool = MinCutPool(args["k"], return_selection=True, in_channels=case.arrays["in/x"].shape[1])
    pool.mlp = _Given((logits / args["temp"]).softmax(-1))
    run = Run.of(case, pool, {})
    out, b, k = run.out, len(case.sizes), args["k"]
    found = {"out/x": out.x.reshape(b, k, -1), "out/adj": run.blocks(k), **run.common({})}
    found["s/dense"] = _padded(case, run.s.dense())
    found |= {"loss/cut_loss": out.losses["cut"], "loss/ortho_loss": out.losses["ortho"]}
    return _numpy(found)


class _Given(nn.Module):
    """An assignment that does not depend on the features."""

    def __init__(self, s: Tensor) -> None:
        super().__init__()
        self.s = s

    def forward(self, x: Tensor) -> Tensor:
        return self.s


def outside(reason: str) -> Callable[[PeerCase], Arrays]:
    """A mapping for an operator whose cases poolbench's cannot express."""

    def mapping(case: PeerCase) -> Arrays:
        raise Outside(reason)

    return mapping


#: Operators of these folders that poolbench is still to get.
TO_COME = {
    "asap", "bnpool", "bnpool_u", "cluster", "ec", "edge", "eigen", "graclus", "hosc", "hosc_u", "kmis", "maxcut",
    "mem", "ndp", "nmf", "pan", "precoarsening", "sep",
}  # fmt: skip

MAPPINGS: dict[tuple[str, str], Callable[[PeerCase], Arrays]] = {
    ("tgp", "topk"): topk,
    ("pyg", "topk"): topk,
    ("tgp", "sag"): outside("another score network than SAGPool's"),
    ("pyg", "sag"): outside("another score network than SAGPool's"),
    ("tgp", "nopool"): nopool,
    ("tgp", "mincut"): mincut,
    ("tgp", "mincut_u"): mincut,
    ("pyg", "mincut"): pyg_mincut,
    ("tgp", "jb"): justbalance,
    ("tgp", "jb_u"): justbalance,
    ("tgp", "acc"): cheeger,
    ("tgp", "acc_u"): cheeger,
    ("tgp", "dmon"): dmon,
    ("tgp", "dmon_u"): dmon,
    ("pyg", "dmon"): outside("a SELU after DMoN's reduction and another pooled adjacency"),
    ("tgp", "diff"): outside("an MLP in place of DiffPool's filters"),
    ("tgp", "diff_u"): outside("an MLP in place of DiffPool's filters"),
    ("pyg", "diff"): outside("a link loss over the whole padded batch, divided by its number of entries"),
    ("tgp", "lap"): outside("padded clusters and another post-processing of LaPool's pooled adjacency"),
    ("tgp", "lap_u"): outside("padded clusters and another post-processing of LaPool's pooled adjacency"),
    ("tgp", "losses"): outside("losses as functions of A and S"),
}
