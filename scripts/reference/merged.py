"""Cases of operators whose clusters come from the graph or from scores of its edges and nodes, and of chains of them:
as in `keeping`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor, nn

from poolbench.linalg import Matrix, Ragged, Sparse
from poolbench.linalg.products import invert
from poolbench.pool import EdgePool, EigenPool, GraclusPool, KMISPool, MaxCutPool, NDPPool, NMFPool, SEPPool
from poolbench.pool.base.aggregation import REDUCTIONS
from poolbench.pool.base.hostgraph import simple
from poolbench.pool.base.partition import CentredPartition
from poolbench.pool.base.selection import DenseSelection, KeptSelection
from poolbench.pool.base.spectral import laplacian
from poolbench.pool.base.src import SparseSelection
from poolbench.pool.edgepool import METHODS
from poolbench.pool.eigenpool import EigenSelection, cluster_modes
from poolbench.pool.kmis import HEURISTICS, SCORERS
from reference.cases import BadCase
from reference.compare import Arrays
from reference.keeping import by_falling_score, kept_nodes, kept_ratio, nopool
from reference.peercase import POST_PROCESSING, Outside, PeerCase, Run, as_arrays, blocks
from reference.soft import DENSE_S


class Retried(EdgePool):
    """EdgePool that settles ties as a case did: of edges with equal scores, one inside a recorded cluster goes first.

    That is a greedy matching in falling order of the scores, whatever the case recorded; the recorded one comes out if
    it is one, too.
    """

    def __init__(self, cluster: Tensor, **args: Any) -> None:
        super().__init__(**args)
        self.cluster = cluster

    def rank(self, e: Tensor, a: Sparse) -> Tensor:
        self.scores = a.with_value(e).to_dense().T  # of the edge from row to column
        apart = self.cluster[a.row] != self.cluster[a.col]
        order = torch.argsort(apart.to(torch.int64), stable=True)
        return invert(order[torch.argsort(-e[order].round(decimals=9), stable=True)])


def edgepool(case: PeerCase) -> Arrays:
    softmax = "compute_edge_score_softmax"
    known: dict[str, Any] = {"edge_score_method": softmax, "dropout": 0.0, "add_to_edge_score": 0.5}
    if case.library == "tgp":
        known |= {"connect_red_op": "sum", "s_inv_op": "transpose", "remove_self_loops": True}
        known |= {"degree_norm": False, "edge_weight_norm": False}
    args = case.arguments(known)
    method = str(args["edge_score_method"] or softmax).removeprefix("compute_edge_score_")
    if method not in METHODS or args.get("connect_red_op", "sum") not in REDUCTIONS:
        raise Outside("another edge_score_method or connect_red_op")
    post = {n: args.get(n, False) for n in POST_PROCESSING}
    cluster = case.tensor("s/cluster_index")
    pool = Retried(
        cluster,
        edge_score_method=method,
        add_to_edge_score=args["add_to_edge_score"],
        connect_red_op=args.get("connect_red_op", "sum"),
        return_selection=True,
        in_channels=case.arrays["in/x"].shape[1],
        **post,
    )
    prefix = {"tgp": "selector.lin", "pyg": "lin"}[case.library]
    names = {f"{prefix}.weight": "projection.weight", f"{prefix}.bias": "projection.bias"}
    run = Run.of(case, pool.eval(), names)
    s, out = run.s, run.out
    assert isinstance(pool, Retried)
    # Clusters are numbered as the case numbers them, where it has the same ones.
    back = invert(s.node)
    number = torch.empty_like(s.index).index_copy(0, s.cluster, cluster[s.node])
    if not torch.equal(number.sort().values, torch.arange(number.numel())):
        number = torch.arange(number.numel())
    order = torch.argsort(number)
    weight, ours = s.weight[back], number[s.cluster[back]]
    found = {"out/x": out.x[order], "s/cluster_index": ours, **run.common(names), **run.edges()}
    found["out/edge_index"] = number[found["out/edge_index"]]
    if case.library == "pyg":
        found.pop("out/edge_weight", None)
        found |= {"out/batch": s.index[order], "s/score": torch.empty_like(out.x[:, 0]).index_copy(0, ours, weight)}
        return as_arrays({**found, "lift/x": found["out/x"][ours] / weight.unsqueeze(-1)})
    found |= {"s/node_index": torch.arange(len(weight)), "s/weight": weight}
    found["s/perm"] = _tried(case, pool.scores)
    found["lift/x"] = pool.lift(out.x, s, inverse=args["s_inv_op"] == "inverse")
    return as_arrays({**found, "out/batch": s.index[order]} if "in/batch" in case.arrays else found)


def _tried(case: PeerCase, scores: Tensor) -> Tensor:
    """The order in which the case tried the edges if it is one of falling scores, else one that is."""
    e, theirs = scores[tuple(case.tensor("in/edge_index"))], case.tensor("s/perm")
    falls = torch.equal(theirs.sort().values, torch.arange(e.numel())) and not (e[theirs].diff() > 1e-9).any()
    return theirs if falls else torch.argsort(e, descending=True, stable=True)


#: What tgp's poolers take that merge the edges between clusters, with their defaults.
MERGING: dict[str, Any] = {
    "s_inv_op": "transpose", "connect_red_op": "sum", "remove_self_loops": True, "degree_norm": False,
    "edge_weight_norm": False,
}  # fmt: skip


def merging(args: dict[str, Any]) -> dict[str, Any]:
    """Arguments of a PartitionPool."""
    if args["connect_red_op"] not in REDUCTIONS:
        raise Outside("another connect_red_op")
    return {"connect_red_op": args["connect_red_op"], **{n: args[n] for n in POST_PROCESSING}, "return_selection": True}


def partitioned(run: Run, args: dict[str, Any]) -> dict[str, Tensor]:
    """Features, edges, selection and what is lifted, where every node has one cluster."""
    back = invert(run.s.node)
    weight = torch.ones(len(back), dtype=torch.float64) if run.s.weight is None else run.s.weight[back]
    found = {"out/x": run.out.x, **run.edges(weighted="out/edge_weight" in run.case.arrays)}
    found |= {"s/node_index": torch.arange(len(back)), "s/cluster_index": run.s.cluster[back], "s/weight": weight}
    found["lift/x"] = run.pool.lift(run.out.x, run.s, inverse=args["s_inv_op"] == "inverse")
    return {**found, "out/batch": run.s.index} if "in/batch" in run.case.arrays else found


class Reranked(KMISPool):
    """KMISPool with a case's random scores, its degrees (tgp sums them in float32), canonical scores counted over the
    batch, and ties settled as in the case.
    """

    def __init__(self, case: PeerCase, **args: Any) -> None:
        super().__init__(**args)
        self.case = case

    def score(self, x: Tensor, a: Sparse) -> Tensor:
        if self.scorer == "canonical":
            return -torch.arange(len(x)).to(x.dtype)
        theirs = self.case.tensor("s/weight")
        if self.scorer == "random":
            return theirs
        ours = super().score(x, a)
        if self.scorer != "degree":
            return ours
        return torch.where((theirs - ours).abs() <= 1e-6 * ours.abs(), theirs, ours)

    def rank(self, h: Tensor) -> Tensor:
        """The case's order if it is one of falling h; a node without edges may stand anywhere."""
        rank, tried = super().rank(h), self.case.optional("s/perm")
        if tried is not None and torch.equal(tried.sort().values, torch.arange(len(h))):
            linked = torch.isin(tried, self.case.tensor("in/edge_index"))
            rank = rank if (h[tried[linked]].diff() > 1e-9).any() else invert(tried)
        self.tried = invert(rank)
        return rank


def kmis(case: PeerCase) -> Arrays:
    """All graphs are undirected, so that `force_undirected` changes nothing. tgp sums for any other reduce_red_op."""
    known = {
        "scorer": "linear", "order_k": 1, "score_heuristic": "greedy", "force_undirected": False,
        "reduce_red_op": "sum", **MERGING,
    }  # fmt: skip
    args = case.arguments(known)
    if args["scorer"] not in SCORERS or args["score_heuristic"] not in HEURISTICS:
        raise Outside("another scorer or score_heuristic")
    pool = Reranked(
        case,
        **{n: args[n] for n in ("scorer", "order_k", "score_heuristic")},
        reduce_red_op=None if args["reduce_red_op"] is None else "sum",
        in_channels=case.arrays["in/x"].shape[1],
        **merging(args),
    )
    lin = {f"selector.lin.{n}": f"projection.{n}" for n in ("weight", "bias")} if args["scorer"] == "linear" else {}
    run = Run.of(case, pool, lin)
    found = {**partitioned(run, args), **run.common(lin), "s/mis": run.s.centres}
    return as_arrays({**found, "s/perm": pool.tried} if "s/perm" in case.arrays else found)


class Paired(GraclusPool):
    """GraclusPool with a case's pairs; `own` are the clusters that it finds itself."""

    def __init__(self, cluster: Tensor, **args: Any) -> None:
        super().__init__(**args)
        self.cluster = cluster

    def select(self, x: Tensor, a: Matrix, i: Tensor | None) -> CentredPartition:
        own = super().select(x, a, i)
        self.own = own.cluster[invert(own.node)]
        first = torch.full_like(self.cluster, len(x)).scatter_reduce(0, self.cluster, torch.arange(len(x)), "amin")
        return CentredPartition.around(first[self.cluster], None, own.nodes)


def graclus(case: PeerCase) -> Arrays:
    """Pairs are random: the case's must be a maximal matching, and so must ours; the rest follows from the case's."""
    args = case.arguments(MERGING)
    cluster = case.tensor("s/cluster_index")[torch.argsort(case.tensor("s/node_index"))]
    pool = Paired(cluster, **merging(args))
    run = Run.of(case, pool, {})
    for what, found in (("the case's", cluster), ("ours", pool.own)):
        if not maximal_matching(case, found):
            raise BadCase(f"{what} is no maximal matching")
    return as_arrays({**partitioned(run, args), **run.common({})})


def maximal_matching(case: PeerCase, cluster: Tensor) -> bool:
    """Whether the clusters are pairs of neighbours and nodes that have no neighbour without a pair."""
    row, col = case.tensor("in/edge_index")
    size = torch.bincount(cluster)
    linked = torch.unique(cluster[row[(row != col) & (cluster[row] == cluster[col])]])
    pairs = (size == 2).nonzero().squeeze(-1)
    alone = size[cluster] == 1
    return int(size.max()) <= 2 and torch.equal(linked, pairs) and not (alone[row] & alone[col] & (row != col)).any()


@dataclass(frozen=True)
class TgpPropagation:
    """I - delta L_sym without poolbench's epsilon, and without the nodes after the last that has an edge."""

    delta: float

    def __call__(self, a: Matrix) -> Sparse:
        a = a.sparse()
        inverse = a.degree().pow(-0.5).masked_fill(a.degree() == 0, 0.0)
        p = a.scale(inverse, inverse).times(self.delta).add_identity(1.0 - self.delta)
        return p.filter(p.row <= max(a.row.tolist(), default=-1))


class Sent(MaxCutPool):
    """MaxCutPool that sends the nodes out of reach where the case, which drew, has sent them."""

    def __init__(self, case: PeerCase, **args: Any) -> None:
        super().__init__(ties="node", **args)
        self.case = case
        self.network.propagation = TgpPropagation(args["delta"])

    def assign(self, kept: Tensor, z: Tensor, a: Sparse) -> Tensor:
        centre, reached = super().assign(kept, z, a), torch.zeros(len(z), dtype=torch.bool).index_fill(0, kept, True)
        for _ in range(self.max_iter):
            reached[a.col[reached[a.row]]] = True
        drawn = self.case.tensor("s/cluster_index")
        if self.assign_all_nodes and not reached.all() and len(drawn) == len(z) and int(drawn.max()) < len(kept):
            theirs = kept[drawn[torch.argsort(self.case.tensor("s/node_index"))]]
            same = a.nodes.index[theirs] == a.nodes.index
            centre = torch.where(reached | ~same, centre, theirs)
        return centre


def maxcut(case: PeerCase) -> Arrays:
    own: dict[str, Any] = {"ratio": 0.5, "assign_all_nodes": True, "max_iter": 5, "loss_coeff": 1.0, "delta": 2.0}
    own |= {"mp_units": [32, 32, 32, 32], "mlp_units": [16, 16]}
    acts = {"mp_act": "tanh", "mlp_act": "relu", "act": "tanh"}
    args = case.arguments({**own, **acts, **MERGING, "edge_weight_norm": True})
    named = {n: "linear" if args[n] is None else str(args[n]).lower() for n in acts}
    if not set(named.values()) <= {"linear", "tanh", "relu", "sigmoid", "elu", "selu", "gelu", "softplus"}:
        raise Outside("another activation")
    pool = Sent(
        case,
        **{n: args[n] for n in own if n != "ratio"},
        ratio=kept_ratio(case, args["ratio"]),
        mp_activation=named["mp_act"],
        mlp_activation=named["mlp_act"],
        score_activation=named["act"],
        return_score=True,
        in_channels=case.arrays["in/x"].shape[1],
        **merging(args),
    )
    parts = {"initial_layer": "first", "final_layer": "last"}
    parts |= {f"mlp.{j}": f"mlp.{j}" for j in range(len(args["mlp_units"]))}
    parts = {f"{theirs}.{n}": f"{ours}.{n}" for theirs, ours in parts.items() for n in ("weight", "bias")}
    for j in range(len(args["mp_units"])):
        parts |= {f"mp_convs.{j}.lin.weight": f"mp.{j}.weight", f"mp_convs.{j}.bias": f"mp.{j}.bias"}
    names = {f"selector.score_net.{theirs}": f"network.{ours}" for theirs, ours in parts.items()}
    run = Run.of(case, pool, names)
    z = run.out.score
    assert z is not None
    found = {**run.common(names), "loss/maxcut_loss": run.out.losses["maxcut"], "s/scores": z}
    if args["assign_all_nodes"]:
        return as_arrays({**partitioned(run, args), **found})
    found["lift/x"] = pool.lift(run.out.x, run.s, inverse=args["s_inv_op"] == "inverse")
    return as_arrays({**kept_nodes(run, run.s.kept, run.s.weight, by_falling_score(run.out, z[run.s.kept])), **found})


class Halved(NDPPool):
    """NDPPool that keeps the nodes that a case keeps; `own` are those that it keeps itself."""

    def __init__(self, kept: Tensor, **args: Any) -> None:
        super().__init__(**args)
        self.kept = kept

    def select(self, x: Tensor, a: Matrix, i: Tensor | None) -> KeptSelection:
        self.own = super().select(x, a, i).mask.bool()
        return SparseSelection.keep(self.kept, None, a.sparse().nodes)


def ndp(case: PeerCase) -> Arrays:
    """tgp's start vector is random, and so is its split where the cut is small: its nodes are taken from the case."""
    args = case.arguments({"s_inv_op": "transpose", "sparse_threshold": 0.01})
    kept = case.tensor("s/node_index")[case.tensor("s/weight") != 0]
    pool = Halved(kept, threshold=args["sparse_threshold"], return_selection=True)
    run = Run.of(case, pool, {})
    adjacency, laplacians = blocks(case), []
    sides = torch.zeros(len(pool.own), dtype=torch.bool).index_fill(0, kept, True)
    for a, ours, theirs in zip(adjacency, pool.own.split(case.sizes), sides.split(case.sizes), strict=True):
        laplacians.append(torch.from_numpy(laplacian(simple(a), normalized=False).toarray()))
        if certain_cut(a) and not (torch.equal(ours, theirs) or torch.equal(ours, ~theirs)):
            raise BadCase("the kept nodes are neither side of the largest eigenvector")
    found = {"out/x": run.out.x, **run.edges(weighted=True), **run.common({}), "s/node_index": kept}
    found |= {"s/cluster_index": torch.arange(len(kept)), "s/weight": torch.ones(len(kept), dtype=torch.float64)}
    found["s/laplacian"] = torch.block_diag(*laplacians)
    found["lift/x"] = pool.lift(run.out.x, run.s, inverse=args["s_inv_op"] == "inverse")
    if "in/batch" in case.arrays:
        found["out/batch"] = run.s.index
    return as_arrays(found)


def certain_cut(a: csr_array) -> bool:
    """Whether the split by the largest eigenvector is one that rounding to float32 and a random start leave alone."""
    a = simple(a)
    degree = a.sum(1)
    if a.shape[0] < 2 or (degree == 0).any():
        return False
    values, vectors = np.linalg.eigh(laplacian(a, normalized=True).toarray())
    v, edges = vectors[:, -1], a.tocoo()
    cut = edges.data[(v[edges.row] > 0) != (v[edges.col] > 0)].sum() / edges.data.sum()
    return bool(values[-1] - values[-2] > 1e-3 and abs(v).min() > 1e-3 and cut > 0.5 + 1e-3)


class Factored(NMFPool):
    """NMFPool with a case's S, but for the graphs that the start does not matter for."""

    def __init__(self, case: PeerCase, **args: Any) -> None:
        super().__init__(**args)
        self.case = case

    def select(self, x: Tensor, a: Matrix, i: Tensor | None) -> DenseSelection:
        own = super().select(x, a, i).s
        fixed = a.nodes.expand((a.nodes.sizes <= self.k) | (a.nnz() == 0)) | (self.k == 1)
        return DenseSelection(torch.where(fixed.unsqueeze(-1), own, self.case.tensor("s/dense")), a.nodes)


def nmf(case: PeerCase) -> Arrays:
    """The start is random: S is taken from the case."""
    args = case.arguments(DENSE_S)
    pool = Factored(case, k=args["k"], return_selection=True, **{n: args[n] for n in POST_PROCESSING})
    run = Run.of(case, pool, {})
    lifted = pool.lift(run.out.x, run.s, inverse=args["s_inv_op"] == "inverse")
    return as_arrays({**from_the_graph(run, args), "s/dense": run.s.s, "lift/x": lifted})


def from_the_graph(run: Run, args: dict[str, Any]) -> dict[str, Tensor]:
    """Features, adjacency and clusters of a dense S that was computed from the graph."""
    k, out, b = args["k"], run.out, len(run.case.sizes)
    found = {**run.common({}), "out/mask": torch.stack([part.sum(0) > 0 for part in run.s.s.split(run.case.sizes)])}
    if args["sparse_output"]:
        found |= {"out/x": out.x, **run.edges(weighted=True, drop=1e-8)}
    else:
        shape = run.case.arrays["out/x"].shape  # eigen leaves out the axis of a single graph
        whole = out.x.reshape(-1, k, out.x.shape[1])
        found |= {"out/x": whole[0] if len(shape) == 2 else whole, "out/adj": run.blocks(k)}
    return {**found, "out/batch": torch.arange(b).repeat_interleave(k)} if "in/batch" in run.case.arrays else found


class Clustered(EigenPool):
    """EigenPool with a case's clusters and eigenvectors; `own` are the eigenvectors that it finds for the clusters."""

    def __init__(self, case: PeerCase, **args: Any) -> None:
        super().__init__(**args)
        self.case = case

    def select(self, x: Tensor, a: Matrix, i: Tensor | None) -> EigenSelection:
        cluster = self.case.tensor("s/dense").argmax(1)
        graphs = zip(blocks(self.case), cluster.split(self.case.sizes), strict=True)
        own = [cluster_modes(simple(g), c.numpy(), self.num_modes, self.normalized) for g, c in graphs]
        self.own = modes = torch.from_numpy(np.concatenate(own))
        if "s/theta0" in self.case.arrays:
            theta = [self.case.tensor(f"s/theta{g}") for g in range(len(self.case.sizes))]
            columns = torch.arange(self.num_modes) * self.k + cluster.unsqueeze(1)
            modes = torch.cat(theta).gather(1, columns)
        return EigenSelection(a.nodes.index * self.k + cluster, modes, a.nodes, self.k)


def eigen(case: PeerCase) -> Arrays:
    """k-means is random: clusters and eigenvectors are taken from the case, and the latter held against ours."""
    args = case.arguments({**DENSE_S, "num_modes": 5, "normalized": True})
    if args["s_inv_op"] != "transpose":
        raise Outside("another s_inv_op")
    taken = ("k", "num_modes", "normalized", "degree_norm", "edge_weight_norm")
    pool = Clustered(case, return_selection=True, **{n: args[n] for n in taken})
    run = Run.of(case, pool, {})
    found = {**from_the_graph(run, args), "s/dense": run.s.s, "lift/x": pool.lift(run.out.x, run.s, modes=True)}
    clusters, ours = run.s.s.argmax(1).split(case.sizes), pool.own.split(case.sizes)
    for g, (a, cluster, modes) in enumerate(zip(blocks(case), clusters, ours, strict=True)):
        theta = case.tensor(f"s/theta{g}") if f"s/theta{g}" in case.arrays else None
        if theta is not None:
            same = same_modes(case, simple(a), cluster, theta, modes, args)
            found[f"s/theta{g}"] = theta if same else _by_cluster(cluster, modes, args["k"])
    return as_arrays(found)


def _by_cluster(cluster: Tensor, modes: Tensor, k: int) -> Tensor:
    """[n, H] -> [n, H k], mode after mode."""
    return (nn.functional.one_hot(cluster, k).unsqueeze(1) * modes.unsqueeze(-1)).flatten(1)


def same_modes(case: PeerCase, a: csr_array, cluster: Tensor, theta: Tensor, modes: Tensor, args: Any) -> bool:
    """Whether theta's columns and ours are eigenvectors of the same eigenvalues, of length 1 and apart from each other.

    More cannot be said where eigenvalues are equal. Of a cluster of one node theirs is A_ii, ours 1.
    """
    k, close = args["k"], partial(np.allclose, rtol=case.tolerance.rtol, atol=1e-7)
    for c in range(k):
        (members,) = (cluster == c).nonzero().T.numpy()
        own, other = theta[:, c::k][members].numpy(), modes[members].numpy()
        if members.size < 2:
            if not (other == 1).all():
                return False
            continue
        have = min(args["num_modes"], members.size)
        lap = laplacian(a[members][:, members], args["normalized"]).toarray()
        for u in (own, other):
            first, last = u[:, :have], u[:, have - 1 : have]
            eigenvectors = close(lap @ first, first * np.linalg.eigvalsh(lap)[:have])
            if not (eigenvectors and close(first.T @ first, np.eye(have)) and close(u[:, have:], last)):
                return False
    elsewhere = torch.arange(theta.shape[1]) % k != cluster.unsqueeze(1)
    return not theta[elsewhere].any()


def sep(case: PeerCase) -> Arrays:
    """Clusters come in an order of their own there: ours are numbered as the case's where the partitions are equal."""
    args = case.arguments({**MERGING, "degree_norm": True})
    run = Run.of(case, SEPPool(**merging(args)), {})
    return as_arrays({**renumbered(case, partitioned(run, args)), **run.common({})})


def renumbered(case: PeerCase, found: dict[str, Tensor]) -> dict[str, Tensor]:
    """Pooled nodes in the order of the case's."""
    ours = found["s/cluster_index"]
    number = matched(ours, case.tensor("s/cluster_index"))
    found = {**found, "s/cluster_index": number[ours], "out/x": found["out/x"][torch.argsort(number)]}
    return {**found, "out/edge_index": number[found["out/edge_index"]]}


def matched(ours: Tensor, theirs: Tensor) -> Tensor:
    """Cluster of ours -> cluster of theirs, for two ways to number one partition."""
    pairs = torch.unique(torch.stack([ours, theirs]), dim=1)
    every = torch.arange(int(ours.max()) + 1)
    if not torch.equal(pairs[0], every) or not torch.equal(pairs[1].sort().values, every):
        raise BadCase("the clusters are others")
    return pairs[1]


def nested(case: PeerCase) -> Arrays:
    """A chain of SEPPools, which share one hierarchy."""
    levels = case.entry["kwargs"]["levels"]
    given = [{} if isinstance(level, str) else level[1] for level in levels]
    if any(args != given[0] for args in given):
        raise Outside("SEPPools with other arguments on other levels")
    less = replace(case, entry={**case.entry, "kwargs": given[0]})
    pool = SEPPool(levels=len(levels), **merging(less.arguments({**MERGING, "degree_norm": True})))
    row, col = case.tensor("in/edge_index")
    nodes = Ragged.from_index(torch.repeat_interleave(torch.tensor(case.sizes)))
    weight = case.optional("in/edge_weight")
    a = Sparse.from_edges(row, col, torch.ones(len(row), dtype=torch.float64) if weight is None else weight, nodes)
    found, rename = {}, torch.arange(nodes.num_rows)  # node of ours -> node of theirs
    for j in range(len(levels)):
        s = pool.select(torch.zeros(a.nodes.num_rows, 0), a, None)
        a, cluster, theirs = pool.connect(a, s), s.cluster[invert(s.node)], case.tensor(f"level{j}/s")
        number = matched(cluster, theirs.argmax(1)[rename])
        assignment = torch.zeros_like(theirs)
        assignment[rename, number[cluster]] = 1.0
        found |= {f"level{j}/s": assignment, f"level{j}/edge_index": number[torch.stack([a.row, a.col])]}
        found |= {f"level{j}/edge_weight": a.weights, f"level{j}/batch": a.nodes.index[torch.argsort(number)]}
        rename = number
    return as_arrays(found)


def precoarsening(case: PeerCase) -> Arrays:
    """A chain of poolers without features: each level is checked as a case of its pooler on the level before."""
    if {level if isinstance(level, str) else level[0] for level in case.entry["kwargs"]["levels"]} == {"sep"}:
        return nested(case)
    found: Arrays = {}
    given = {n: case.arrays[f"in/{n}"] for n in ("edge_index", "edge_weight", "batch") if f"in/{n}" in case.arrays}
    given.setdefault("batch", np.zeros(len(case.arrays["in/x"]), dtype=np.int64))
    for j, level in enumerate(case.entry["kwargs"]["levels"]):
        name, kwargs = (level, {}) if isinstance(level, str) else level
        if name not in LEVELS:
            raise Outside(f"precoarsening with {name}")
        theirs = {n.removeprefix(f"level{j}/"): v for n, v in case.arrays.items() if n.startswith(f"level{j}/")}
        s = theirs["s"]
        arrays = {"in/x": np.ones((len(s), 1)), **{f"in/{n}": v for n, v in given.items()}}
        arrays |= {"s/node_index": np.arange(len(s)), "s/cluster_index": abs(s).argmax(1), "s/weight": s.sum(1)}
        arrays |= {f"out/{n}": v for n, v in theirs.items() if n != "s"}
        if name in DENSE:
            arrays["s/dense"], kwargs = s, {**kwargs, "sparse_output": True}
        ours = LEVELS[name](replace(case, entry={**case.entry, "operator": name, "kwargs": kwargs}, arrays=arrays))
        found |= {f"level{j}/{n}": ours[f"out/{n}"] for n in theirs if n != "s"}
        found[f"level{j}/s"] = ours["s/dense"] if name in DENSE else np.zeros_like(s)
        if name not in DENSE and len(ours["out/x"]) == s.shape[1]:
            np.add.at(found[f"level{j}/s"], (ours["s/node_index"], ours["s/cluster_index"]), ours["s/weight"])
        given = {n: v for n, v in theirs.items() if n != "s"}
    return found


#: Poolers of which precoarsening cases are checked.
LEVELS: dict[str, Callable[[PeerCase], Arrays]] = {
    "eigen": eigen, "graclus": graclus, "kmis": kmis, "ndp": ndp, "nmf": nmf, "nopool": nopool, "sep": sep,
}  # fmt: skip


#: Those with a dense S.
DENSE = ("eigen", "nmf")
