"""Cases of operators with a dense S from the features, and of their losses: as in `keeping`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from poolbench.linalg import Matrix, Nodes, Ragged
from poolbench.pool import (
    AsymCheegerCutPool,
    BNPool,
    DiffPool,
    DMoNPool,
    HOSCPool,
    JustBalancePool,
    LaPool,
    MaxCutPool,
    MinCutPool,
)
from poolbench.pool.base.door import PoolOutput
from poolbench.pool.base.layers import AssignmentMLP
from poolbench.pool.base.mlppool import MLPPool
from poolbench.pool.base.selection import DenseSelection
from poolbench.pool.base.src import SRCPool
from poolbench.pool.mincut import orthogonality_loss
from reference.compare import Arrays
from reference.peercase import POST_PROCESSING, Given, Outside, PeerCase, Run, as_arrays, blocks, in_batch, processed

#: What tgp's poolers with a dense S take, with their defaults.
DENSE_S: dict[str, Any] = {
    "k": None, "sparse_output": False, "s_inv_op": "transpose", "adj_transpose": True, "remove_self_loops": True,
    "degree_norm": True, "edge_weight_norm": False,
}  # fmt: skip


def mlp_of(case: PeerCase, at: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Arguments of the assignment MLP, and its weights' names."""
    widths = case.entry["kwargs"]["in_channels"]
    widths = widths if isinstance(widths, list) else [widths]
    act = case.entry["kwargs"].get("act")
    activation = None if act is None else act.lower()
    args = {"in_channels": widths[0], "mlp_hidden": widths[1:], "mlp_activation": activation}
    layers = range(len(widths))
    names = {f"selector.mlp.lins.{j}.{kind}": f"{at}.layers.{j}.{kind}" for j in layers for kind in ("weight", "bias")}
    return args, names


def tgp_soft(
    case: PeerCase,
    build: Callable[..., SRCPool],
    losses: Mapping[str, str],
    known: Mapping[str, Any],
    coefficients: Mapping[str, tuple[str, float]] | None = None,
    more: Mapping[str, str] | None = None,
    mlp_at: str = "mlp",
    **call: Any,
) -> Arrays:
    """A dense operator of tgp. `losses`: name there -> name here; `known`: the operator's other arguments and their
    defaults; `coefficients`: name of a factor there -> name of the loss here and the default; `more`: names of weights
    besides the MLP's, which is the operator's `mlp_at`; `call`: keywords of the call.
    """
    factors = coefficients or {}
    args = case.arguments(
        {**DENSE_S, "act": None, "dropout": 0.0, **known, **{n: default for n, (_, default) in factors.items()}}
    )
    mlp, names = mlp_of(case, mlp_at)
    names |= more or {}
    own = {n: args[n] for n in ("k", "remove_self_loops", "degree_norm", *known)}
    if factors:
        own["loss_coeffs"] = {ours: args[theirs] for theirs, (ours, _) in factors.items()}
    pool = build(return_selection=True, **mlp, **own)
    if "edge_weight_norm" not in known:
        pool = processed(pool, edge_weight_norm=args["edge_weight_norm"])
    run = Run.of(case, pool, names, **call)
    out, sizes = run.out, case.sizes
    b, k, s = len(sizes), args["k"], run.s.dense()
    lifted = pool.lift(out.x, run.s, inverse=args["s_inv_op"] == "inverse")
    unbatched = case.operator.endswith("_u")
    rows = (lambda v: v) if unbatched else partial(in_batch, case)
    found = {"s/dense": rows(s), "lift/x": rows(lifted), **run.common(names)}
    found |= {f"loss/{theirs}": out.losses[ours] for theirs, ours in losses.items()}
    found["out/mask"] = torch.stack([part.sum(0) > 0 for part in s.split(sizes)])
    ids = torch.arange(b).repeat_interleave(k)
    if args["sparse_output"]:
        found |= {"out/x": out.x, **run.edges(weighted=True, drop=1e-8)}
    else:
        found |= {"out/x": out.x.reshape(b, k, -1), "out/adj": run.blocks(k)}
    if (args["sparse_output"] or unbatched) and "in/batch" in case.arrays:
        found["out/batch"] = ids
    return as_arrays(found)


MINCUT = {"cut_loss": "cut", "ortho_loss": "ortho"}


def mincut(case: PeerCase) -> Arrays:
    factors = {"cut_loss_coeff": ("cut", 1.0), "ortho_loss_coeff": ("ortho", 1.0)}
    return tgp_soft(case, MinCutPool, MINCUT, {}, factors)


def justbalance(case: PeerCase) -> Arrays:
    def build(normalize_loss: bool, **args: Any) -> SRCPool:
        return JustBalancePool(normalized_loss=normalize_loss, **args)

    factors = {"loss_coeff": ("balance", 1.0)}
    return tgp_soft(case, build, {"balance_loss": "balance"}, {"normalize_loss": True}, factors)


def cheeger(case: PeerCase) -> Arrays:
    names = {"total_variation_loss": "totvar", "balance_loss": "balance"}
    return tgp_soft(case, AsymCheegerCutPool, names, {"totvar_coeff": 1.0, "balance_coeff": 1.0})


class Orthogonal(DMoNPool):
    """DMoNPool with the loss that tgp and PyG add to it, MinCutPool's."""

    def __init__(self, **args: Any) -> None:
        super().__init__(null_model="exact", collapse_regularization=1.0, **args)

    def assess(self, s: DenseSelection, x: Tensor, a: Matrix) -> None:  # type: ignore[override]
        super().assess(s, x, a)
        self.add_loss("ortho", orthogonality_loss(s, a.nodes))


DMON = {"spectral_loss": "modularity", "cluster_loss": "collapse", "ortho_loss": "ortho"}


def dmon(case: PeerCase) -> Arrays:
    factors = {
        "spectral_loss_coeff": ("modularity", 1.0), "cluster_loss_coeff": ("collapse", 1.0),
        "ortho_loss_coeff": ("ortho", 0.0),
    }  # fmt: skip
    return tgp_soft(case, Orthogonal, DMON, {}, factors)


class PygDMoN(Orthogonal):
    """Orthogonal with PyG's SELU of the pooled features, and its cluster loss of a batch, where the size of each
    graph's clusters is divided by the number of nodes of every graph (issue 10148); `corrected` is the loss itself.
    """

    def reduce(self, x: Tensor, s: DenseSelection) -> Tensor:  # type: ignore[override]
        return nn.functional.selu(super().reduce(x, s))

    @staticmethod
    def per_graph(values: Tensor, nodes: Nodes) -> Tensor:
        return torch.stack([values, nodes.sizes.to(values.dtype)])

    def add_loss(self, name: str, value: Tensor) -> None:
        if value.ndim == 0:
            return super().add_loss(name, value)
        each, n = value
        if name == "collapse":
            self.corrected = each.mean()
            each = (each + 1.0) * n * n.reciprocal().mean() - 1.0
        super().add_loss(name, each.mean())


def pyg_dmon(case: PeerCase) -> Arrays:
    args = case.arguments({"channels": None, "k": None, "dropout": 0.0})
    widths, k = args["channels"], args["k"]
    widths = widths if isinstance(widths, list) else [widths]
    pool = PygDMoN(
        k=k, in_channels=widths[0], mlp_hidden=widths[1:], mlp_activation=None, remove_self_loops=True,
        degree_norm=True, return_selection=True,
    )  # fmt: skip
    names = {
        f"mlp.lins.{j}.{kind}": f"mlp.layers.{j}.{kind}" for j in range(len(widths)) for kind in ("weight", "bias")
    }
    run = Run.of(case, pool, names)
    return as_arrays({**padded(run, k, DMON, names), "loss/cluster_loss_corrected": pool.corrected})


def padded(run: Run, k: int, losses: Mapping[str, str], names: Mapping[str, str]) -> dict[str, Tensor]:
    """What PyG's dense operators return."""
    out, case = run.out, run.case
    found = {"out/x": out.x.reshape(len(case.sizes), k, -1), "out/adj": run.blocks(k), **run.common(names)}
    found["s/dense"] = in_batch(case, run.s.dense())
    return found | {f"loss/{theirs}": out.losses[ours] for theirs, ours in losses.items()}


class Unfiltered(DiffPool):
    """DiffPool with an assignment from elsewhere, X' = S'X without filter and embedding, and losses of a whole batch,
    where ours are means over graphs: the norm over all graphs, divided by `entries`, and the sum of the entropies,
    divided by `rows`.
    """

    def __init__(self, k: int, assignment: nn.Module, entries: int, rows: int, **args: Any) -> None:
        super().__init__(k, in_channels=1, **{"return_selection": True, **args})
        self.register_module("embedding", None)
        self.assignment = assignment
        self.entries, self.rows = entries, rows

    def select(self, x: Tensor, a: Matrix, i: Tensor | None) -> DenseSelection:
        return self.assign(self.assignment(x), a.nodes)

    def reduce(self, x: Tensor, s: DenseSelection) -> Tensor:  # type: ignore[override]
        return s.reduce(x)

    @staticmethod
    def per_graph(values: Tensor, nodes: Nodes) -> Tensor:
        return torch.stack([values, nodes.sizes.to(values.dtype)])

    def add_loss(self, name: str, value: Tensor) -> None:
        each, n = value
        whole = {"link": each.square().sum().sqrt() / self.entries, "entropy": (each * n).sum() / self.rows}
        super().add_loss(name, whole[name])


DIFF = {"link_loss": "link", "entropy_loss": "entropy"}


def batch_entries(case: PeerCase, padded: bool) -> int:
    """Entries of the adjacency matrices of a batch."""
    sizes = np.array(case.sizes)
    return len(sizes) * int(sizes.max()) ** 2 if padded else int((sizes**2).sum())


def diff(case: PeerCase) -> Arrays:
    def build(k: int, normalize_loss: bool, **args: Any) -> SRCPool:
        mlp = AssignmentMLP(k, args.pop("mlp_hidden"), args.pop("mlp_activation"), args.pop("in_channels"))
        entries = batch_entries(case, padded=not case.operator.endswith("_u")) if normalize_loss else 1
        return Unfiltered(k, mlp, entries, sum(case.sizes), **args)

    factors = {"link_loss_coeff": ("link", 1.0), "ent_loss_coeff": ("entropy", 1.0)}
    return tgp_soft(case, build, DIFF, {"normalize_loss": False}, factors, mlp_at="assignment")


def pyg_diff(case: PeerCase) -> Arrays:
    """dense_diff_pool takes the logits of S, and counts the rows of padding."""
    args = case.arguments({"k": None, "normalize": True})
    entries = batch_entries(case, padded=True) if args["normalize"] else 1
    rows = len(case.sizes) * max(case.sizes)
    run = Run.of(case, Unfiltered(args["k"], Given(case.tensor("in/logits")), entries, rows), {})
    return as_arrays(padded(run, args["k"], DIFF, {}))


def hosc(case: PeerCase) -> Arrays:
    names = {"hosc_loss": "hosc", "ortho_loss": "ortho"}
    return tgp_soft(case, HOSCPool, names, {"alpha": 0.5, "mu": 0.1, "hosc_ortho": False, "edge_weight_norm": False})


#: Arguments of tgp's BNPool, their defaults, and their names here.
BNPOOL: dict[str, tuple[Any, str]] = {
    "alpha_DP": (1.0, "alpha_dp"), "K_var": (1.0, "k_var"), "K_mu": (10.0, "k_mu"), "K_init": (1.0, "k_init"),
    "eta": (1.0, "kl_coeff"), "train_K": (True, "train_k"), "num_neg_samples": (None, "num_neg_samples"),
}  # fmt: skip


def bnpool(case: PeerCase) -> Arrays:
    """The recorded draws stand in for the drawn sticks and pairs; their derivative is torch's for a Beta variable."""
    sampled = case.operator.endswith("_u")
    trained = case.entry["kwargs"].get("train_K", True)
    fixed = {"param/alpha_prior", "param/beta_prior", "param/K_var", "param/K_mu", *(() if trained else ("param/K",))}
    given = _real_rows(case, case.tensor("s/dense"))
    shapes: dict[str, Tensor] = {}

    def draw(alpha: Tensor, beta: Tensor, noise: Any) -> tuple[Tensor, Tensor]:
        shapes.update({"s/alpha": alpha, "s/beta": beta})
        v = _GivenBeta.apply(alpha, beta, given[:, :-1] / (1.0 - given.cumsum(-1) + given)[:, :-1])
        return v.log(), torch.log1p(-v)

    def build(**args: Any) -> SRCPool:
        args = {BNPOOL[n][1] if n in BNPOOL else n: value for n, value in args.items()}
        pool = BNPool(sampled=sampled, **args).double()
        pool.draw = draw  # type: ignore[method-assign]
        if not trained:
            pool.links = nn.Buffer(case.tensor("param/K"))
        return pool

    call = {"negatives": case.tensor("neg_edge_index")} if sampled else {}
    known = {**{n: default for n, (default, _) in BNPOOL.items()}, "edge_weight_norm": False}
    less = replace(case, arrays={n: value for n, value in case.arrays.items() if n not in fixed})
    names = {"quality": "quality", "kl": "kl"} | ({"K_prior": "K_prior"} if trained else {})
    found = tgp_soft(less, build, names, known, more={"K": "links"} if trained else None, **call)
    for name, value in shapes.items():
        found[name] = case.arrays[name].copy()  # the rows of padding mean nothing
        found[name][case.arrays["in/mask"] if found[name].ndim == 3 else ...] = value.detach().numpy()
    found |= {"neg_edge_index": case.arrays["neg_edge_index"]} if sampled else {}
    return found if trained else {**found, "loss/K_prior": np.zeros(())}


def _real_rows(case: PeerCase, rows: Tensor) -> Tensor:
    """[b, nmax, ...], or [n, ...] as it is -> [n, ...]."""
    return rows if rows.ndim == 2 else torch.cat([part[:n] for part, n in zip(rows, case.sizes, strict=True)])


class _GivenBeta(torch.autograd.Function):
    """Draws that were made elsewhere, with the implicit derivative of a Beta variable in its two shapes."""

    @staticmethod
    def forward(ctx: Any, alpha: Tensor, beta: Tensor, v: Tensor) -> Tensor:
        ctx.save_for_backward(torch.stack([alpha, beta], -1), torch.stack([v, 1.0 - v], -1))
        return v

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        shapes, both = ctx.saved_tensors
        inner = torch.stack([grads[0], torch.zeros_like(grads[0])], -1)
        inner = inner - (both * inner).sum(-1, keepdim=True)
        slope = torch._dirichlet_grad(both, shapes, shapes.sum(-1, keepdim=True).expand_as(shapes))
        return (*(slope * inner).unbind(-1), None)


def pyg_mincut(case: PeerCase) -> Arrays:
    """dense_mincut_pool takes the logits of S: they stand in for the MLP."""
    args = case.arguments({"k": None, "temp": 1.0})
    logits = case.tensor("in/logits")
    pool = MinCutPool(args["k"], return_selection=True, in_channels=case.arrays["in/x"].shape[1])
    pool.mlp = Given(logits / args["temp"])
    return as_arrays(padded(Run.of(case, pool, {}), args["k"], MINCUT, {}))


def lap(case: PeerCase) -> Arrays:
    """Clusters are padded to the largest number of them, but in the sparse result of the padded form."""
    args = case.arguments({**DENSE_S, "shortest_path_reg": False})
    pool = LaPool(args["shortest_path_reg"], return_selection=True, assignment="softmax", leaders="ge")
    run = Run.of(case, processed(pool, **{n: args[n] for n in POST_PROCESSING}), {})
    out, unbatched, clusters = run.out, case.operator.endswith("_u"), Ragged.from_index(run.s.index)
    b, k = len(case.sizes), int(clusters.sizes.max())
    place = clusters.index * k + clusters.numbers
    x = torch.zeros(b * k, out.x.shape[1], dtype=torch.float64).index_copy(0, place, out.x)
    s = torch.zeros(len(run.x), k, dtype=torch.float64).index_add(1, clusters.numbers, run.s.dense())
    rows = (lambda v: v) if unbatched else partial(in_batch, case)
    found = {**run.common({}), "s/dense": rows(s), "out/mask": torch.arange(k) < clusters.sizes.unsqueeze(-1)}
    found["lift/x"] = rows(pool.lift(out.x, run.s, inverse=args["s_inv_op"] == "inverse"))
    ids = torch.arange(b).repeat_interleave(k)
    if args["sparse_output"]:
        found |= {"out/x": x if unbatched else out.x, **run.edges(weighted=True, drop=1e-8)}
        found["out/edge_index"] = place[found["out/edge_index"]] if unbatched else found["out/edge_index"]
        ids = ids if unbatched else clusters.index
    else:
        found |= {"out/x": x.reshape(b, k, -1), "out/adj": run.blocks(k, place)}
    if (args["sparse_output"] or unbatched) and "in/batch" in case.arrays:
        found["out/batch"] = ids
    return as_arrays(found)


def losses(case: PeerCase) -> Arrays:
    """Functions of A and S: each is the loss of an operator that S is handed to, in a padded batch or by its edges."""
    k = case.arguments({"k": None})["k"]
    graph = (case.tensor("in/edge_index"), case.tensor("in/batch"))
    weight, s = case.optional("in/edge_weight"), case.tensor("in/s")
    weight = torch.ones(graph[0].shape[1], dtype=torch.float64) if weight is None else weight
    adjacency = [torch.from_numpy(a.toarray()).double() for a in blocks(case)]
    most = max(case.sizes)
    a = torch.stack([nn.functional.pad(g, (0, most - len(g), 0, most - len(g))) for g in adjacency])
    mask = case.tensor("in/mask")

    def dense(pool: SRCPool) -> PoolOutput:
        return pool.double()(torch.zeros(*mask.shape, 1, dtype=torch.float64), a, mask=mask, s=in_batch(case, s))

    def sparse(pool: SRCPool) -> PoolOutput:
        return pool.double()(torch.zeros(len(s), 1, dtype=torch.float64), *graph, edge_weight=weight, s=s)

    def difference(entries: int) -> SRCPool:
        return Unfiltered(k, nn.Identity(), entries, len(s))

    cut = MinCutPool(k)
    motif = HOSCPool(k, alpha=1.0, mu=1.0, hosc_ortho=True, loss_coeffs={"hosc": k})
    variation = AsymCheegerCutPool(k)
    modularity = DMoNPool(k, null_model="exact", collapse_regularization=1.0)
    table: list[tuple[Callable[[SRCPool], PoolOutput], SRCPool, dict[str, str]]] = [
        (dense, cut, {"mincut": "cut", "orthogonality": "ortho"}),
        (sparse, cut, {"mincut_sparse": "cut"}),
        (dense, motif, {"ho_mincut": "hosc", "hosc_orthogonality": "ortho"}),
        (sparse, motif, {"ho_mincut_sparse": "hosc"}),
        (dense, variation, {"total_variation": "totvar", "asym_norm": "balance"}),
        (sparse, variation, {"total_variation_sparse": "totvar"}),
        (dense, modularity, {"modularity": "modularity", "cluster_size": "collapse"}),
        (sparse, modularity, {"modularity_sparse": "modularity"}),
        (dense, JustBalancePool(k), {"just_balance_raw": "balance"}),
        (dense, JustBalancePool(k, normalized_loss=True), {"just_balance": "balance"}),
        (dense, difference(1), {"link_pred": "link", "entropy": "entropy"}),
        (sparse, difference(1), {"link_pred_sparse": "link"}),
        (dense, difference(batch_entries(case, padded=True)), {"link_pred_normalised": "link"}),
        (sparse, difference(batch_entries(case, padded=False)), {"link_pred_sparse_normalised": "link"}),
    ]
    found: dict[str, Tensor] = {}
    for call, pool, names in table:
        out = call(pool)
        found |= {f"loss/{theirs}": out.losses[ours] for theirs, ours in names.items()}
    for loops, norm in ((True, True), (True, False), (False, True), (False, False)):
        pool = MLPPool(k, remove_self_loops=not loops, degree_norm=norm)
        found[f"out/adj_loops{loops:d}_norm{norm:d}"] = dense(pool).a
    ones = torch.ones_like(weight)
    return as_arrays({**found, **_bayesian(case, k, graph, ones), "loss/maxcut": _score_cut(case, graph, weight)})


def _bayesian(case: PeerCase, k: int, graph: tuple[Tensor, Tensor], weight: Tensor) -> dict[str, Tensor]:
    """BNPool's losses of a binary A."""
    mean, s = case.tensor("in/K_mu"), case.tensor("in/s")
    k_mu = float(mean[0, 0])
    if not torch.equal(mean, k_mu * (2.0 * torch.eye(k, dtype=mean.dtype) - 1.0)):
        raise Outside("a prior mean of BNPool's links with other entries")
    shapes = torch.cat([case.tensor("in/alpha"), case.tensor("in/beta")], -1)
    stick = s[:, :-1] / (1.0 - s.cumsum(-1) + s)[:, :-1]
    pool = BNPool(k, alpha_dp=case.tensor("in/prior_beta").item(), k_var=case.tensor("in/K_var").item(), k_mu=k_mu)
    pool.mlp = Given(shapes + torch.log(-torch.expm1(-shapes)))  # softplus undone
    pool.links = nn.Parameter(case.tensor("in/K"))
    pool.draw = lambda alpha, beta, noise: (stick.log(), torch.log1p(-stick))  # type: ignore[method-assign]
    out = pool.double()(torch.zeros(len(s), 1, dtype=torch.float64), *graph, edge_weight=weight)
    names = {"kl": "kl", "K_prior": "K_prior", "bce": "quality"}
    return {f"loss/{theirs}": out.losses[ours] for theirs, ours in names.items()}


def _score_cut(case: PeerCase, graph: tuple[Tensor, Tensor], weight: Tensor) -> Tensor:
    """MaxCutPool's loss of given scores."""
    z = case.tensor("in/z")
    pool = MaxCutPool(ties="node", in_channels=1)
    pool.network = Given(z)  # type: ignore[assignment]
    return pool(torch.zeros(len(z), 1, dtype=torch.float64), *graph, edge_weight=weight).losses["maxcut"]
