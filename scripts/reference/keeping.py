"""Cases of operators that keep the best nodes. A function makes of a case the arrays that the folder has for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from math import ceil
from typing import Any

import numpy as np
import torch
import torch_geometric.nn
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing
from torch_geometric.utils import add_remaining_self_loops

from poolbench.linalg import Matrix, Ragged, Sparse
from poolbench.linalg.products import invert
from poolbench.pool import ASAPPool, NoPool, PANPool, SAGPool, TopKPool
from poolbench.pool.asap import EgoSelection, with_self_loops
from poolbench.pool.base.door import PoolOutput
from poolbench.pool.base.src import SparseSelection
from poolbench.pool.topk import GatedPool
from reference.compare import Arrays
from reference.peercase import POST_PROCESSING, Outside, PeerCase, Run, as_arrays, processed


class Blind(nn.Module):
    """A score network that sees no weights of edges, as PyG and tgp call theirs. PyG multiplies its score by a weight,
    of which the sign is left where `ratio` decides.
    """

    def __init__(self, gnn: nn.Module, factor: bool, sign: bool) -> None:
        super().__init__()
        self.gnn, self.sign = gnn, sign
        self.weight = nn.Parameter(torch.ones(1, 1)) if factor else None

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        y = self.gnn(x, edge_index)
        if self.weight is None:
            return y
        return y * (self.weight / self.weight.norm() if self.sign else self.weight)


def layer(name: Any) -> Callable[..., nn.Module]:
    """The layer of PyG that a case names."""
    found = getattr(torch_geometric.nn, str(name), None)
    if not (isinstance(found, type) and issubclass(found, MessagePassing)):
        raise Outside(f"a GNN {name}")
    return found


#: What tgp and PyG score nodes with, and tgp's defaults.
SCORED: dict[str, Any] = {
    "ratio": 0.5, "min_score": None, "multiplier": 1.0, "nonlinearity": "tanh", "s_inv_op": "transpose",
    "remove_self_loops": True, "degree_norm": False, "edge_weight_norm": False,
}  # fmt: skip


#: Gates that rank as the score does. Others rank by the gate, and ours by the score.
INCREASING = ("tanh", "sigmoid", "softplus", "softsign", "elu", "selu")


def topk(case: PeerCase) -> Arrays:
    args, width = case.arguments(SCORED), case.arrays["in/x"].shape[1]
    pool = TopKPool(**scoring(case, args), in_channels=width)
    weight = {"tgp": "selector.weight", "pyg": "select.weight"}[case.library]
    return scored(case, args, pool, {weight: "projection.weight"})


def sag(case: PeerCase) -> Arrays:
    args = case.arguments({**SCORED, "GNN": "GraphConv"})
    gnn = layer(args["GNN"] or "GraphConv")(case.arrays["in/x"].shape[1], 1)
    pyg = case.library == "pyg"
    names = {f"gnn.{name}": f"gnn.gnn.{name}" for name, _ in gnn.named_parameters()}
    names |= {"select.weight": "gnn.weight"} if pyg else {}
    pool = SAGPool(**scoring(case, args), gnn=Blind(gnn, factor=pyg, sign=args["min_score"] is None))
    return scored(case, args, pool, names)


def scoring(case: PeerCase, args: dict[str, Any]) -> dict[str, Any]:
    """Arguments of a `GatedPool`."""
    if args["nonlinearity"] not in INCREASING:
        raise Outside("argument nonlinearity")
    ratio = kept_ratio(case, args["ratio"]) if args["min_score"] is None else 0.5
    own = {n: args[n] for n in ("min_score", "multiplier", "nonlinearity")}
    return {"ratio": ratio, "return_selection": True, "return_score": True, **own}


def scored(case: PeerCase, args: dict[str, Any], pool: GatedPool, names: Mapping[str, str]) -> Arrays:
    """Keeps nodes in input order where the others order them by falling score: their order is made from our scores."""
    choose, best = pool.choose, args["min_score"] is None
    if best:
        pool.choose = lambda y, nodes: choose(-ranked(case, y).double(), nodes)  # type: ignore[method-assign]
    if case.library == "tgp":
        processed(pool, **{n: args[n] for n in POST_PROCESSING})
    run = Run.of(case, pool.eval(), names)
    assert run.out.score is not None
    kept, multiplier = run.s.kept, args["multiplier"]
    order = torch.arange(kept.numel())  # by node where a score decides
    if best:
        order = by_falling_score(run.out, -ranked(case, run.out.score)[kept])
    found = {**kept_nodes(run, kept, run.s.weight / multiplier, order), **run.common(names)}
    if case.library == "tgp":
        inverse = args["s_inv_op"] == "inverse"
        found["lift/x"] = pool.lift(run.out.x, run.s, inverse) * (multiplier if inverse else 1 / multiplier)
    return as_arrays(found)


def nopool(case: PeerCase) -> Arrays:
    case.arguments({})
    pool = NoPool(return_selection=True)
    run = Run.of(case, pool, {})
    each = torch.arange(run.x.shape[0])
    found = {"out/x": run.out.x, **run.common({}), **run.edges(), "lift/x": pool.lift(run.out.x, run.s)}
    found |= {"s/node_index": each, "s/cluster_index": each, "s/weight": torch.ones_like(each, dtype=torch.float64)}
    if run.out.i is not None:
        found["out/batch"] = run.out.i
    return as_arrays(found)


def kept_ratio(case: PeerCase, ratio: float) -> float | int:
    """The ratio of ours that keeps as many nodes as theirs, which is not rounded down before it is rounded up, and of
    which 1 and 1.0 mean one node.
    """
    if ratio > 1:
        return int(ratio)
    if ratio == 1:
        return 1e-9  # no share keeps less than one node
    for share in (ratio, *(ratio + 2e-6 / n for n in case.sizes)):
        if all(ceil(ratio * n) == ceil(share * n - 1e-6) for n in case.sizes):
            return share
    raise Outside(f"ratio={ratio} keeps another number of nodes there (decision 4)")


def by_falling_score(out: PoolOutput, score: Tensor) -> Tensor:
    """Row of theirs -> row of ours, where theirs stand in falling order of the kept nodes' score."""
    graph = torch.repeat_interleave(out.sizes)
    by_score = torch.argsort(score, descending=True, stable=True)
    return by_score[torch.argsort(graph[by_score], stable=True)]


def ranked(case: PeerCase, score: Tensor) -> Tensor:
    """The place of each node by falling score: [n]. Ties but for rounding, as nodes with the same neighbours have them,
    are settled as the case did.
    """
    kept = case.tensor("s/node_index")
    row = case.tensor("s/cluster_index") if case.library == "tgp" else torch.arange(kept.numel())
    order = torch.argsort(torch.full((len(score),), kept.numel()).index_copy(0, kept, row), stable=True)
    return invert(order[torch.argsort(-score[order].round(decimals=9), stable=True)])


def without_parameter(case: PeerCase, name: str) -> PeerCase:
    """The case without a parameter that PyG's layers have and do not use."""
    return replace(case, arrays={k: v for k, v in case.arrays.items() if k != f"param/{name}"})


def kept_nodes(run: Run, kept: Tensor, weight: Tensor, order: Tensor) -> dict[str, Tensor]:
    """Features, edges and selection of nodes that are kept. In tgp's cases the edges are numbered by node."""
    case, out, place = run.case, run.out, torch.argsort(order)
    graph = torch.repeat_interleave(out.sizes)
    found = {"out/x": out.x[order], **run.edges(weighted="out/edge_weight" in case.arrays)}
    if case.library != "tgp":
        found |= {"s/node_index": kept[order], "s/weight": weight[order], "out/batch": graph}
        return {**found, "out/edge_index": place[found["out/edge_index"]]}
    found |= {"s/node_index": kept, "s/cluster_index": place, "s/weight": weight}
    if "out/edge_index_aligned" in case.arrays:
        found["out/edge_index_aligned"] = place[found["out/edge_index"]]
    return {**found, "out/batch": graph} if "in/batch" in case.arrays else found


class Rechosen(ASAPPool):
    """ASAPPool that settles ties of the fitness as a case did, and does what PyG alone does.

    Nodes with the same neighbours have the same fitness but for rounding. PyG ranks the fitness times the sign of a
    weight that the method does not have: if negative, the least fit stay. Its `add_self_loops` keeps the diagonal.
    """

    def __init__(self, case: PeerCase, **args: Any) -> None:
        super().__init__(**args)
        self.case, self.pyg = case, case.library == "pyg"
        self.sign = int(np.sign(case.arrays["param/select.weight"]).item()) if self.pyg else 1

    def choose(self, phi: Tensor, nodes: Ragged) -> Tensor:
        self.rank = ranked(self.case, self.sign * phi)
        return super().choose(-self.rank.double(), nodes)

    def connect(self, a: Matrix, s: EgoSelection) -> Sparse:
        whole = self.pyg and self.add_self_loops
        return s.overlapping().connect(with_self_loops(a)) if whole else super().connect(a, s)


def asap(case: PeerCase) -> Arrays:
    """tgp connects the induced subgraph and un-pools with the scores alone."""
    known = {
        "ratio": 0.5, "GNN": None, "dropout": 0.0, "negative_slope": 0.2, "add_self_loops": False,
        "nonlinearity": "sigmoid", "s_inv_op": "transpose", **dict.fromkeys(POST_PROCESSING, False),
        "remove_self_loops": True,
    }  # fmt: skip
    args = case.arguments(known)
    if args["nonlinearity"] != "sigmoid":
        raise Outside("argument nonlinearity")
    norms = {n: args[n] for n in ("degree_norm", "edge_weight_norm")}
    if args["add_self_loops"] and any(norms.values()):
        raise Outside("a norm of a pooled adjacency to which self-loops are added later")
    width = case.arrays["in/x"].shape[1]
    scorer = {"tgp": "select_scorer", "pyg": "gnn_score"}[case.library]
    names = {
        "lin.weight": "query.weight", "lin.bias": "query.bias",
        "att.weight": "attention.weight", "att.bias": "attention.bias",
        f"{scorer}.lin1.weight": "neighbours.weight", f"{scorer}.lin1.bias": "neighbours.bias",
        f"{scorer}.lin2.weight": "centre.weight",
        f"{scorer}.lin3.weight": "own.weight", f"{scorer}.lin3.bias": "own.bias",
    }  # fmt: skip
    gnn = None
    if args["GNN"] is not None:
        gnn = Looped(layer(args["GNN"])(width, width))
        names |= {f"gnn_intra_cluster.{name}": f"gnn.gnn.{name}" for name, _ in gnn.gnn.named_parameters()}
    pool = Rechosen(
        case,
        ratio=kept_ratio(case, args["ratio"]),
        gnn=gnn,
        negative_slope=args["negative_slope"],
        # a graph without self-loops: those that step 1 adds stay in tgp's unless they are removed
        add_self_loops=args["add_self_loops"] or not args["remove_self_loops"],
        overlap=case.library == "pyg",
        weighted_fitness=case.library == "tgp",
        **norms,
        return_selection=True,
        return_score=True,
        in_channels=width,
    )
    run = Run.of(without_parameter(case, "select.weight"), pool.eval(), names)
    assert run.out.score is not None
    kept = run.s.centres
    phi = run.out.score[kept]
    found = {**kept_nodes(run, kept, phi, by_falling_score(run.out, -pool.rank[kept])), **run.common(names)}
    found["out/batch"] = torch.repeat_interleave(run.out.sizes)
    if case.library == "pyg":
        del found["s/weight"]
    else:
        alone = SparseSelection.keep(kept, phi, run.s.nodes)
        found["lift/x"] = pool.lift(run.out.x, alone, inverse=args["s_inv_op"] == "inverse")
    return as_arrays(found)


class Looped(nn.Module):
    """A layer on a graph with self-loops, as tgp and PyG call the one inside ASAPooling."""

    def __init__(self, gnn: nn.Module) -> None:
        super().__init__()
        self.gnn = gnn

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        return self.gnn(x, *add_remaining_self_loops(edge_index, edge_weight, 1.0, len(x)))


def pan(case: PeerCase) -> Arrays:
    """Both hand in the weighted adjacency for M.

    PyG exchanges the ends of the pooled edges, and multiplies the score by a weight that the method does not have, or
    by its sign where `ratio` decides: both go into beta.
    """
    known = {
        "ratio": 0.5, "min_score": None, "multiplier": 1.0, "nonlinearity": "tanh", "s_inv_op": "transpose",
        **dict.fromkeys(POST_PROCESSING, False),
    }  # fmt: skip
    args = case.arguments(known)
    if args["nonlinearity"] not in INCREASING:
        raise Outside("argument nonlinearity")
    taken = ("min_score", "multiplier", "nonlinearity", *POST_PROCESSING)
    pool = PANPool(
        kept_ratio(case, args["ratio"]) if args["min_score"] is None else 0.5,
        return_selection=True,
        return_score=True,
        in_channels=case.arrays["in/x"].shape[1],
        **{n: args[n] for n in taken},
    )
    pool.register_parameter("paths", None)  # M is handed in
    names = {"p": "projection.p", "beta": "beta"}
    nodes = Ragged(torch.tensor([0, *case.sizes]).cumsum(0), case.sizes)
    (row, col), weight = case.tensor("in/edge_index"), case.optional("in/edge_weight")
    weight = torch.ones(row.numel(), dtype=torch.float64) if weight is None else weight
    factor = case.optional("param/select.weight")
    if factor is not None:
        factor = (factor if args["min_score"] is not None else factor.sign()).reshape(())
        case = without_parameter(case, "select.weight")
        case = replace(case, arrays={**case.arrays, "param/beta": case.arrays["param/beta"] * factor.numpy()})
    run = Run.of(case, pool.eval(), names, m=Sparse.from_edges(row, col, weight, nodes))
    assert run.out.score is not None
    kept, multiplier = run.s.kept, args["multiplier"]
    gate = run.s.weight / multiplier
    order = torch.arange(kept.numel())  # by node where a score decides
    if args["min_score"] is None:
        order = by_falling_score(run.out, run.out.score[kept])
    found = {**kept_nodes(run, kept, gate, order), **run.common(names)}
    if case.library == "pyg":
        assert factor is not None
        # beta here is factor beta there
        beta, grad = case.tensor("param/beta") / factor, found["grad/beta"]
        through = beta @ grad if args["min_score"] is not None else torch.zeros(())
        found |= {"grad/beta": grad * factor, "grad/select.weight": through.reshape(1, 1)}
        return as_arrays(found)
    inverse = args["s_inv_op"] == "inverse"
    found["lift/x"] = pool.lift(run.out.x, run.s, inverse) * (multiplier if inverse else 1 / multiplier)
    return as_arrays(found)
