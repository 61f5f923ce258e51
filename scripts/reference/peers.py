"""Cases of folders in the format of tgp, PyG and authors' own code, run by poolbench and compared.

To check an operator, write one function from a case to the arrays that the folder holds for it and enter it in
`MAPPINGS`. It raises `Outside` with the reason for arguments that poolbench's operator does not have.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch_geometric.nn
from scipy.sparse import csr_array
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing
from torch_geometric.utils import add_remaining_self_loops

from poolbench.linalg import Matrix, Nodes, Ragged, Sparse
from poolbench.linalg.products import invert
from poolbench.pool import (
    ASAPPool,
    AsymCheegerCutPool,
    BNPool,
    DiffPool,
    DMoNPool,
    EdgePool,
    EigenPool,
    GraclusPool,
    HOSCPool,
    JustBalancePool,
    KMISPool,
    LaPool,
    MaxCutPool,
    MinCutPool,
    NDPPool,
    NMFPool,
    NoPool,
    PANPool,
    SAGPool,
    SEPPool,
    TopKPool,
)
from poolbench.pool.asap import EgoSelection, with_self_loops
from poolbench.pool.base.aggregation import REDUCTIONS
from poolbench.pool.base.door import PoolOutput
from poolbench.pool.base.hostgraph import host_graphs, simple
from poolbench.pool.base.layers import AssignmentMLP
from poolbench.pool.base.mlppool import MLPPool
from poolbench.pool.base.partition import CentredPartition
from poolbench.pool.base.postprocess import post_process
from poolbench.pool.base.selection import DenseSelection, KeptSelection
from poolbench.pool.base.spectral import laplacian
from poolbench.pool.base.src import SparseSelection, SRCPool
from poolbench.pool.edgepool import METHODS
from poolbench.pool.eigenpool import EigenSelection, cluster_modes
from poolbench.pool.kmis import HEURISTICS, SCORERS
from poolbench.pool.mincut import orthogonality_loss
from poolbench.pool.topk import GatedPool
from reference.cases import BadCase, read_arrays
from reference.compare import Arrays, Result, Tolerance, difference


class Outside(Exception):
    """The case is of an operator, or has arguments, that poolbench does not have."""


#: Values that leave a sparse operator as it is.
NEUTRAL = {"remove_self_loops": False, "degree_norm": False, "edge_weight_norm": False, "min_score": None}


@dataclass(frozen=True)
class PeerCase:
    library: str  # tgp, pyg or authors
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
            if case.operator not in NOT_OFFERED[library]:
                raise BadCase(f"operator {case.operator!r} is not known")
            raise Outside("an operator that PoolBench does not have")
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
    out = {n: value for n, value in arrays.items() if not n.endswith("/edge_weight")}
    for name in list(out):
        folder, _, last = name.rpartition("/")
        if not last.startswith("edge_index"):
            continue
        order = np.lexsort(arrays[name][::-1])
        out[name] = arrays[name][:, order]
        if f"{folder}/edge_weight" in arrays:
            out[f"{name}, weights"] = arrays[f"{folder}/edge_weight"][order]
    return out


@dataclass
class Run:
    """An operator called on a case's graph, in float64."""

    case: PeerCase
    pool: SRCPool
    x: Tensor
    out: PoolOutput

    @classmethod
    def of(cls, case: PeerCase, pool: SRCPool, parameters: Mapping[str, str], **call: Any) -> Run:
        """`parameters`: name in the case -> name of ours; `call`: keywords of the call."""
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
        return cls(case, pool, x, pool(x, edges, case.optional("in/batch"), edge_weight=weight, **call))

    @property
    def s(self) -> Any:
        """The selection."""
        return self.out.s

    def blocks(self, k: int, place: Tensor | None = None) -> Tensor:
        """The pooled adjacency, a block a graph: [b, k, k]. `place`: row of each pooled node among b k rows."""
        assert isinstance(self.out.a, Tensor) and self.out.edge_weight is not None
        b, edges = len(self.case.sizes), self.out.a if place is None else place[self.out.a]
        graph, row, col = edges[0] // k, edges[0] % k, edges[1] % k
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


#: What tgp and PyG score nodes with, and its defaults.
SCORED: dict[str, Any] = {
    "ratio": 0.5, "min_score": None, "multiplier": 1.0, "nonlinearity": "tanh", "s_inv_op": "transpose",
    "remove_self_loops": False, "degree_norm": False, "edge_weight_norm": False,
}  # fmt: skip


#: Gates that rank as the score does. Others rank by the gate, and ours by the score.
INCREASING = ("tanh", "sigmoid", "softplus", "softsign", "elu", "selu")


def topk(case: PeerCase) -> Arrays:
    """Where `min_score` decides, both leave the length of p in the score: it is a layer of one's own then."""
    args, width = case.arguments(SCORED), case.arrays["in/x"].shape[1]
    plain = args["min_score"] is not None
    pool = TopKPool(**scoring(case, args), gnn=nn.Linear(width, 1, bias=False) if plain else None, in_channels=width)
    weight = {"tgp": "selector.weight", "pyg": "select.weight"}[case.library]
    return scored(case, args, pool, {weight: "gnn.weight" if plain else "projection.weight"})


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
    run = Run.of(case, processed(pool, **{n: args[n] for n in POST_PROCESSING}).eval(), names)
    assert run.out.score is not None
    kept, multiplier = run.s.kept, args["multiplier"]
    order = torch.arange(kept.numel())  # by node where a score decides
    if best:
        order = by_falling_score(run.out, -ranked(case, run.out.score)[kept])
    found = {**kept_nodes(run, kept, run.s.weight / multiplier, order), **run.common(names)}
    if case.library == "tgp":
        inverse = args["s_inv_op"] == "inverse"
        found["lift/x"] = pool.lift(run.out.x, run.s, inverse) * (multiplier if inverse else 1 / multiplier)
    return _numpy(found)


def processed(pool: SRCPool, **post: bool) -> SRCPool:
    """The pool with a last step that its constructor does not offer."""
    if any(post.values()):
        connect = pool.connect
        pool.connect = lambda a, s: post_process(connect(a, s), **post)  # type: ignore[method-assign]
    return pool


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


def _mlp(case: PeerCase, at: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Arguments of the assignment MLP, and its weights' names."""
    widths = case.entry["kwargs"]["in_channels"]
    widths = widths if isinstance(widths, list) else [widths]
    act = case.entry["kwargs"].get("act")
    activation = None if act is None else act.lower()
    args = {"in_channels": widths[0], "mlp_hidden": widths[1:], "mlp_activation": activation}
    layers = range(len(widths))
    names = {f"selector.mlp.lins.{j}.{kind}": f"{at}.layers.{j}.{kind}" for j in layers for kind in ("weight", "bias")}
    return args, names


POST_PROCESSING = ("remove_self_loops", "degree_norm", "edge_weight_norm")


def _tgp_soft(
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
    shared = {
        "k": None, "act": None, "dropout": 0.0, "sparse_output": False, "s_inv_op": "transpose", "adj_transpose": True,
        "remove_self_loops": True, "degree_norm": True, "edge_weight_norm": False,
    }  # fmt: skip
    factors = coefficients or {}
    args = case.arguments({**shared, **known, **{n: default for n, (_, default) in factors.items()}})
    mlp, names = _mlp(case, mlp_at)
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
    rows = (lambda v: v) if unbatched else partial(_padded, case)
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
    return _numpy(found)


MINCUT = {"cut_loss": "cut", "ortho_loss": "ortho"}


def mincut(case: PeerCase) -> Arrays:
    factors = {"cut_loss_coeff": ("cut", 1.0), "ortho_loss_coeff": ("ortho", 1.0)}
    return _tgp_soft(case, MinCutPool, MINCUT, {}, factors)


def justbalance(case: PeerCase) -> Arrays:
    def build(normalize_loss: bool, **args: Any) -> SRCPool:
        return JustBalancePool(normalized_loss=normalize_loss, **args)

    factors = {"loss_coeff": ("balance", 1.0)}
    return _tgp_soft(case, build, {"balance_loss": "balance"}, {"normalize_loss": True}, factors)


def cheeger(case: PeerCase) -> Arrays:
    names = {"total_variation_loss": "totvar", "balance_loss": "balance"}
    return _tgp_soft(case, AsymCheegerCutPool, names, {"totvar_coeff": 1.0, "balance_coeff": 1.0})


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
    return _tgp_soft(case, Orthogonal, DMON, {}, factors)


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
    return _numpy({**padded(run, k, DMON, names), "loss/cluster_loss_corrected": pool.corrected})


def padded(run: Run, k: int, losses: Mapping[str, str], names: Mapping[str, str]) -> dict[str, Tensor]:
    """What PyG's dense operators return."""
    out, case = run.out, run.case
    found = {"out/x": out.x.reshape(len(case.sizes), k, -1), "out/adj": run.blocks(k), **run.common(names)}
    found["s/dense"] = _padded(case, run.s.dense())
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
    return _tgp_soft(case, build, DIFF, {"normalize_loss": False}, factors, mlp_at="assignment")


def pyg_diff(case: PeerCase) -> Arrays:
    """dense_diff_pool takes the logits of S, and counts the rows of padding."""
    args = case.arguments({"k": None, "normalize": True})
    entries = batch_entries(case, padded=True) if args["normalize"] else 1
    rows = len(case.sizes) * max(case.sizes)
    run = Run.of(case, Unfiltered(args["k"], _Given(case.tensor("in/logits")), entries, rows), {})
    return _numpy(padded(run, args["k"], DIFF, {}))


def hosc(case: PeerCase) -> Arrays:
    names = {"hosc_loss": "hosc", "ortho_loss": "ortho"}
    return _tgp_soft(case, HOSCPool, names, {"alpha": 0.5, "mu": 0.1, "hosc_ortho": False, "edge_weight_norm": False})


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
    found = _tgp_soft(less, build, names, known, more={"K": "links"} if trained else None, **call)
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
    pool.mlp = _Given(logits / args["temp"])
    return _numpy(padded(Run.of(case, pool, {}), args["k"], MINCUT, {}))


class _Given(nn.Module):
    """A network whose answer, as logits of an assignment, does not depend on what it is given."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, *given: Any) -> Tensor:
        return self.logits


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
    row = torch.arange(kept.numel()) if case.library == "pyg" else case.tensor("s/cluster_index")
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
    if case.library == "pyg":
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
    return _numpy(found)


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
        return _numpy(found)
    inverse = args["s_inv_op"] == "inverse"
    found["lift/x"] = pool.lift(run.out.x, run.s, inverse) * (multiplier if inverse else 1 / multiplier)
    return _numpy(found)


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
        return _numpy({**found, "lift/x": found["out/x"][ours] / weight.unsqueeze(-1)})
    found |= {"s/node_index": torch.arange(len(weight)), "s/weight": weight}
    found["s/perm"] = _tried(case, pool.scores)
    found["lift/x"] = pool.lift(out.x, s, inverse=args["s_inv_op"] == "inverse")
    return _numpy({**found, "out/batch": s.index[order]} if "in/batch" in case.arrays else found)


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
    return _numpy({**found, "s/perm": pool.tried} if "s/perm" in case.arrays else found)


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
    return _numpy({**partitioned(run, args), **run.common({})})


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
        return _numpy({**partitioned(run, args), **found})
    found["lift/x"] = pool.lift(run.out.x, run.s, inverse=args["s_inv_op"] == "inverse")
    return _numpy({**kept_nodes(run, run.s.kept, run.s.weight, by_falling_score(run.out, z[run.s.kept])), **found})


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
    return _numpy(found)


def blocks(case: PeerCase) -> list[csr_array]:
    """The adjacency matrix of each graph."""
    row, col = case.tensor("in/edge_index")
    sizes = torch.tensor(case.sizes)
    nodes = Ragged.from_index(torch.repeat_interleave(sizes), len(sizes))
    return host_graphs(Sparse.from_edges(row, col, case.optional("in/edge_weight"), nodes))


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


#: What tgp's poolers with a dense S from the graph alone take, with their defaults.
FROM_THE_GRAPH: dict[str, Any] = {
    "k": None, "sparse_output": False, "s_inv_op": "transpose", "adj_transpose": True, "remove_self_loops": True,
    "degree_norm": True, "edge_weight_norm": False,
}  # fmt: skip


def lap(case: PeerCase) -> Arrays:
    """Clusters are padded to the largest number of them, but in the sparse result of the padded form."""
    args = case.arguments({**FROM_THE_GRAPH, "shortest_path_reg": False})
    pool = LaPool(args["shortest_path_reg"], return_selection=True, assignment="softmax", leaders="ge")
    run = Run.of(case, processed(pool, **{n: args[n] for n in POST_PROCESSING}), {})
    out, unbatched, clusters = run.out, case.operator.endswith("_u"), Ragged.from_index(run.s.index)
    b, k = len(case.sizes), int(clusters.sizes.max())
    place = clusters.index * k + clusters.numbers
    x = torch.zeros(b * k, out.x.shape[1], dtype=torch.float64).index_copy(0, place, out.x)
    s = torch.zeros(len(run.x), k, dtype=torch.float64).index_add(1, clusters.numbers, run.s.dense())
    rows = (lambda v: v) if unbatched else partial(_padded, case)
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
    return _numpy(found)


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
    args = case.arguments(FROM_THE_GRAPH)
    pool = Factored(case, k=args["k"], return_selection=True, **{n: args[n] for n in POST_PROCESSING})
    run = Run.of(case, pool, {})
    lifted = pool.lift(run.out.x, run.s, inverse=args["s_inv_op"] == "inverse")
    return _numpy({**from_the_graph(run, args), "s/dense": run.s.s, "lift/x": lifted})


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
    args = case.arguments({**FROM_THE_GRAPH, "num_modes": 5, "normalized": True})
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
    return _numpy(found)


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
    return _numpy({**renumbered(case, partitioned(run, args)), **run.common({})})


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
    return _numpy(found)


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
        return pool.double()(torch.zeros(*mask.shape, 1, dtype=torch.float64), a, mask=mask, s=_padded(case, s))

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
    return _numpy({**found, **_bayesian(case, k, graph, ones), "loss/maxcut": _score_cut(case, graph, weight)})


def _bayesian(case: PeerCase, k: int, graph: tuple[Tensor, Tensor], weight: Tensor) -> dict[str, Tensor]:
    """BNPool's losses of a binary A."""
    mean, s = case.tensor("in/K_mu"), case.tensor("in/s")
    k_mu = float(mean[0, 0])
    if not torch.equal(mean, k_mu * (2.0 * torch.eye(k, dtype=mean.dtype) - 1.0)):
        raise Outside("a prior mean of BNPool's links with other entries")
    shapes = torch.cat([case.tensor("in/alpha"), case.tensor("in/beta")], -1)
    stick = s[:, :-1] / (1.0 - s.cumsum(-1) + s)[:, :-1]
    pool = BNPool(k, alpha_dp=case.tensor("in/prior_beta").item(), k_var=case.tensor("in/K_var").item(), k_mu=k_mu)
    pool.mlp = _Given(shapes + torch.log(-torch.expm1(-shapes)))  # softplus undone
    pool.links = nn.Parameter(case.tensor("in/K"))
    pool.draw = lambda alpha, beta, noise: (stick.log(), torch.log1p(-stick))  # type: ignore[method-assign]
    out = pool.double()(torch.zeros(len(s), 1, dtype=torch.float64), *graph, edge_weight=weight)
    names = {"kl": "kl", "K_prior": "K_prior", "bce": "quality"}
    return {f"loss/{theirs}": out.losses[ours] for theirs, ours in names.items()}


def _score_cut(case: PeerCase, graph: tuple[Tensor, Tensor], weight: Tensor) -> Tensor:
    """MaxCutPool's loss of given scores."""
    z = case.tensor("in/z")
    pool = MaxCutPool(ties="node", in_channels=1)
    pool.network = _Given(z)  # type: ignore[assignment]
    return pool(torch.zeros(len(z), 1, dtype=torch.float64), *graph, edge_weight=weight).losses["maxcut"]


#: Poolers of which precoarsening cases are checked.
LEVELS: dict[str, Callable[[PeerCase], Arrays]] = {
    "eigen": eigen, "graclus": graclus, "kmis": kmis, "ndp": ndp, "nmf": nmf, "nopool": nopool, "sep": sep,
}  # fmt: skip
#: Those with a dense S.
DENSE = ("eigen", "nmf")


#: Operators of these folders that PoolBench does not have.
NOT_OFFERED: dict[str, set[str]] = {
    "tgp": set(),
    "pyg": {"cluster", "mem"},
    "authors": {
        "cgipool", "cluster", "copool", "gsapool", "gtv", "hgpsl", "hyperdrop", "magedge", "mem", "mvpool", "parspool",
        "structpool", "vipool",
    },
}  # fmt: skip

MAPPINGS: dict[tuple[str, str], Callable[[PeerCase], Arrays]] = {
    ("tgp", "topk"): topk,
    ("pyg", "topk"): topk,
    ("tgp", "sag"): sag,
    ("pyg", "sag"): sag,
    ("tgp", "nopool"): nopool,
    ("tgp", "asap"): asap,
    ("pyg", "asap"): asap,
    ("tgp", "pan"): pan,
    ("pyg", "pan"): pan,
    ("tgp", "ec"): edgepool,
    ("tgp", "graclus"): graclus,
    ("tgp", "kmis"): kmis,
    ("tgp", "maxcut"): maxcut,
    ("tgp", "ndp"): ndp,
    ("tgp", "nmf"): nmf,
    ("tgp", "eigen"): eigen,
    ("tgp", "sep"): sep,
    ("tgp", "precoarsening"): precoarsening,
    ("pyg", "edge"): edgepool,
    ("tgp", "mincut"): mincut,
    ("tgp", "mincut_u"): mincut,
    ("pyg", "mincut"): pyg_mincut,
    ("tgp", "jb"): justbalance,
    ("tgp", "jb_u"): justbalance,
    ("tgp", "acc"): cheeger,
    ("tgp", "acc_u"): cheeger,
    ("tgp", "bnpool"): bnpool,
    ("tgp", "bnpool_u"): bnpool,
    ("tgp", "hosc"): hosc,
    ("tgp", "hosc_u"): hosc,
    ("tgp", "dmon"): dmon,
    ("tgp", "dmon_u"): dmon,
    ("pyg", "dmon"): pyg_dmon,
    ("tgp", "diff"): diff,
    ("tgp", "diff_u"): diff,
    ("pyg", "diff"): pyg_diff,
    ("tgp", "lap"): lap,
    ("tgp", "lap_u"): lap,
    ("tgp", "losses"): losses,
}
