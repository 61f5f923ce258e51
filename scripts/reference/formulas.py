"""What the documented layers compute, in float64, graph by graph on dense matrices, without any code of poolbench.

`answer(case, decisions)` gives Spektral 1.3.1's answer for an empty set of decisions, and PoolBench's for the numbers
of the decisions that make it another. It is read where a decision changes a recorded case: the recorded arrays are
held against the first, poolbench's against the second. Gradients come from automatic differentiation of these formulas.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import ceil
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reference.cases import Case

EPS = 1e-7
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "elu": torch.nn.functional.elu,
    "selu": torch.selu,
    "gelu": torch.nn.functional.gelu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "softplus": torch.nn.functional.softplus,
    "softsign": torch.nn.functional.softsign,
    "swish": torch.nn.functional.silu,
    "exponential": torch.exp,
    "hard_sigmoid": lambda x: (0.2 * x + 0.5).clamp(0, 1),
    "leaky_relu": lambda x: torch.nn.functional.leaky_relu(x, 0.2),
    "linear": lambda x: x,
}


@dataclass
class Part:
    """The answer for one graph: outputs with a row a pooled node, losses before their mean over graphs."""

    x_pool: Tensor
    a_pool: Tensor | None = None
    s: Tensor | None = None
    score: Tensor | None = None
    losses: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Given:
    """One graph as a layer sees it."""

    x: Tensor  # [n, f]
    a: Tensor  # [n, n], without entries where the layer has no adjacency
    valid: Tensor  # [n] 0 or 1
    w: dict[str, Tensor]
    args: dict[str, Any]
    decisions: frozenset[int]
    largest: int  # nodes of the largest graph of the batch

    @property
    def real(self) -> Given:
        """The same graph without its padding nodes."""
        keep = self.valid > 0
        return Given(
            self.x[keep], self.a[keep][:, keep] if self.a.numel() else self.a, self.valid[keep], self.w, self.args,
            self.decisions, self.largest,
        )  # fmt: skip


def answer(case: Case, decisions: frozenset[int] = frozenset()) -> dict[str, np.ndarray]:
    """Arrays under the names of the case's file."""
    w = {n: torch.from_numpy(case.arrays[n]).double().requires_grad_() for n in case.entry["weights"]}
    if 12 in decisions and case.args.get("use_bias") is False:
        w = {n: v for n, v in w.items() if "bias" not in n}
    x = torch.from_numpy(case.x).double().requires_grad_()
    rows = x.reshape(-1, x.shape[-1])
    largest = max((len(g.rows) for g in case.graphs), default=0)
    parts = []
    for g in case.graphs:
        a = torch.zeros(0) if g.a is None else torch.from_numpy(g.a.astype(np.float64))
        valid = torch.from_numpy(g.valid.astype(np.float64))
        given = Given(rows[torch.from_numpy(g.rows)], a, valid, w, case.args, decisions, largest)
        parts.append(LAYERS[case.layer](given))

    outputs = _outputs(case, parts, decisions)
    losses = _losses(case, parts, decisions)
    penalties = _penalties(case.args, w)
    if penalties is not None:
        losses["loss_regularization"] = penalties
    objective = outputs["out_x_pool"].square().sum() + sum(v.sum() for v in losses.values())
    leaves = {"x": x, **w}
    gradients = torch.autograd.grad(objective, list(leaves.values()), allow_unused=True)
    found = {k: v.detach().numpy() for k, v in {**outputs, **losses}.items()}
    for name, grad in zip(leaves, gradients, strict=True):
        found[f"grad_{name}"] = np.zeros(leaves[name].shape) if grad is None else grad.numpy()
    return found


def _outputs(case: Case, parts: list[Part], decisions: frozenset[int]) -> dict[str, Tensor]:
    stack = case.mode in ("batch", "mixed") or case.layer == "SortPool" or len(parts) == 1
    flat = case.mode in ("single", "disjoint")
    ids = [(g, p.x_pool.shape[0]) for g, p in enumerate(parts)]
    out: dict[str, Tensor] = {}
    if case.layer in GLOBAL:
        xs = torch.stack([p.x_pool for p in parts])
        spektral_single = case.layer == "SortPool" and case.mode == "single" and 3 not in decisions
        return {"out_x_pool": xs[0] if spektral_single else xs}
    if flat:
        out["out_x_pool"] = torch.cat([p.x_pool for p in parts])
        if case.i is not None:
            out["out_i_pool"] = torch.tensor([g for g, k in ids for _ in range(k)], dtype=torch.int64)
    else:
        out["out_x_pool"] = torch.stack([p.x_pool for p in parts])
    pooled = [p.a_pool for p in parts if p.a_pool is not None]
    if case.layer in HARD:
        out |= _coo(torch.block_diag(*pooled))
    else:
        out["out_a_pool"] = pooled[0] if flat and stack else torch.stack(pooled)
    if case.args.get("return_selection"):
        chosen = [p.s for p in parts if p.s is not None]
        out["out_s"] = torch.cat(chosen) if flat else torch.stack(chosen)
    if case.args.get("return_score"):
        score = torch.cat([p.score for p in parts if p.score is not None])
        out["out_score"] = score if 5 in decisions else score.unsqueeze(-1)
    return out


def _coo(a: Tensor) -> dict[str, Tensor]:
    index = a.nonzero()
    shape = torch.tensor(a.shape, dtype=torch.int64)
    return {"out_a_pool_indices": index, "out_a_pool_values": a[tuple(index.T)], "out_a_pool_shape": shape}


def _losses(case: Case, parts: list[Part], decisions: frozenset[int]) -> dict[str, Tensor]:
    """The mean over graphs, or one value a graph where the file has that and no decision makes it a mean."""
    out = {}
    for name in parts[0].losses if parts else ():
        values = torch.stack([p.losses[name] for p in parts])
        vector = case.arrays[f"loss_{name}"].ndim == 1 and not decisions & {1, 22}
        out[f"loss_{name}"] = values if vector else values.mean()
    return out


def _penalties(args: dict[str, Any], w: dict[str, Tensor]) -> Tensor | None:
    total, any_term = torch.zeros((), dtype=torch.float64), False
    for name, v in w.items():
        kind = "bias" if "bias" in name else "kernel"
        rule = args.get(f"{kind}_regularizer") or args.get(f"attn_{kind}_regularizer")
        for norm, c in (rule or {}).items():
            total = total + c * (v.square() if norm == "l2" else v.abs()).sum()
            any_term = True
    return total if any_term else None


def normalized(a: Tensor) -> Tensor:
    """A_uv / ((sqrt(d_u) + eps) (sqrt(d_v) + eps)), d the row sums; the root of 0 with derivative 0."""
    d = a.sum(-1)
    root = torch.where(d == 0, 0.0, torch.where(d == 0, 1.0, d).sqrt()) + EPS
    return a / (root.unsqueeze(-1) * root.unsqueeze(-2))


def _activation(name: str | None) -> Callable[[Tensor], Tensor]:
    return ACTIVATIONS[name or "linear"]


def _assignment(g: Given) -> Tensor:
    h, layers = g.x, sum("mlp_kernel" in n for n in g.w)
    for j in range(layers):
        h = h @ g.w[f"w_mlp_kernel_{j}"]
        if f"w_mlp_bias_{j}" in g.w:
            h = h + g.w[f"w_mlp_bias_{j}"]
        if j < layers - 1:
            h = _activation(g.args.get("mlp_activation", "relu"))(h)
    return h.softmax(-1) * g.valid.unsqueeze(-1)


def _no_diagonal(m: Tensor) -> Tensor:
    return m * (1 - torch.eye(m.shape[0], dtype=m.dtype))


def _norm(v: Tensor) -> Tensor:
    """Euclidean norm, with derivative 0 at 0."""
    square = v.square().sum()
    return square.sqrt() if square.item() > 0 else square * 0.0


def _soft(losses: Callable[[Given, Tensor, Tensor], dict[str, Tensor]], normalize: bool) -> Callable[[Given], Part]:
    """A layer with S = softmax(MLP(X)); the losses see the real nodes alone under decision 13."""

    def layer(g: Given) -> Part:
        s = _assignment(g)
        seen = g.real if 13 in g.decisions else g
        inner = s[g.valid > 0] if 13 in g.decisions else s
        m = inner.T @ seen.a @ inner
        pooled = normalized(_no_diagonal(m)) if normalize else m
        return Part(s.T @ g.x, pooled, s, losses=losses(seen, inner, m))

    return layer


def _mincut(g: Given, s: Tensor, m: Tensor) -> dict[str, Tensor]:
    k = s.shape[1]
    gram = s.T @ s
    ortho = _norm(gram / _norm(gram) - torch.eye(k, dtype=s.dtype) / k**0.5)
    volume = (g.a.sum(-1, keepdim=True) * s.square()).sum()
    cut = -m.trace() / volume
    return {"ortho": ortho, "cut": cut * 0 if 10 in g.decisions and edgeless(g.a) else cut}


def _justbalance(g: Given, s: Tensor, m: Tensor) -> dict[str, Tensor]:
    loss = -sum(_norm(s[:, j]) for j in range(s.shape[1]))
    if g.args.get("normalized_loss"):
        loss = loss / (s.shape[0] * s.shape[1]) ** 0.5
    return {"balance": torch.as_tensor(loss)}


def _dmon(g: Given, s: Tensor, m: Tensor) -> dict[str, Tensor]:
    n, k = s.shape
    collapse = g.args.get("collapse_regularization", 0.1) * (k**0.5 / n * _norm(s.sum(0)) - 1)
    count = g.a.sum() if 9 in g.decisions else (g.a != 0).sum()
    spread = (s.T @ g.a.sum(-1)).square().sum() / (2 * count)
    modularity = -(m.trace() - spread) / (2 * count)
    if 10 in g.decisions and edgeless(g.a):
        modularity = torch.zeros((), dtype=s.dtype)
    return {"collapse": collapse, "modularity": modularity}


def _cheeger(g: Given, s: Tensor, m: Tensor) -> dict[str, Tensor]:
    n, k = s.shape
    gap = (s.unsqueeze(1) - s.unsqueeze(0)).abs().sum(-1)
    totvar = (g.a * gap).sum() / (2 * (g.a != 0).sum())
    if 10 in g.decisions and edgeless(g.a):
        totvar = torch.zeros((), dtype=s.dtype)
    quantile = s.sort(0, descending=True).values[n // k]
    r = s - quantile
    rho = torch.where(r >= 0, (k - 1) * r, -r).sum()
    balance = (n * (k - 1) - rho) / (n * (k - 1))
    return {
        "totvar": g.args.get("totvar_coeff", 1.0) * totvar,
        "balance": g.args.get("balance_coeff", 1.0) * balance,
    }


def edgeless(a: Tensor) -> bool:
    return not bool((a != 0).any())


def _diffpool(g: Given) -> Part:
    eye = torch.eye(g.x.shape[0], dtype=g.x.dtype)
    fx = normalized(g.a + eye) @ g.x
    s = (fx @ g.w["w_kernel_pool"]).softmax(-1) * g.valid.unsqueeze(-1)
    z, act = fx @ g.w["w_kernel_emb"], _activation(g.args.get("activation"))
    x_pool = act(s.T @ z) if 15 in g.decisions else s.T @ act(z)
    link = _norm(g.a - s @ s.T)
    count = g.valid.sum() if 13 in g.decisions else s.shape[0]
    entropy = -(s * (s + EPS).log()).sum() / count
    return Part(x_pool, s.T @ g.a @ s, s, losses={"link": link, "entropy": entropy})


def kept_count(ratio: float | int, n: int, decisions: frozenset[int]) -> int:
    """Nodes that TopKPool and SAGPool keep of n: Spektral rounds in float32, decision 4 does not."""
    if not n:
        return 0
    if 4 not in decisions:
        return int(np.ceil(np.float32(ratio) * np.float32(n)))
    if isinstance(ratio, int) and ratio > 1:
        return min(ratio, n)
    return min(n, max(1, ceil(ratio * n - 1e-6)))


def _keep_best(g: Given, y: Tensor) -> Part:
    # Exact ties of float32 must stay ties: ranked in float32, the lower node first.
    order = torch.argsort(y.detach().float(), descending=True, stable=True)
    kept = order[: kept_count(g.args["ratio"], len(y), g.decisions)].sort().values
    gate = torch.sigmoid(y) if g.args.get("sigmoid_gating") else torch.tanh(y)
    mask = torch.zeros(len(y), dtype=torch.int64).index_fill(0, kept, 1)
    return Part((g.x * gate.unsqueeze(-1))[kept], g.a[kept][:, kept], mask, y)


def _topk(g: Given) -> Part:
    p = g.w["w_kernel"].squeeze(-1)
    return _keep_best(g, g.x @ p / p.square().sum().clamp(min=1e-12).sqrt())


def _sag(g: Given) -> Part:
    eye = torch.eye(g.x.shape[0], dtype=g.x.dtype)
    return _keep_best(g, normalized(g.a + eye) @ g.x @ g.w["w_kernel"].squeeze(-1))


def _sortpool(g: Given) -> Part:
    k, x = int(g.args["k"]), g.x
    if 14 in g.decisions:
        x = g.real.x
    missing = 0 if g.decisions & {2, 14} else g.largest - x.shape[0]
    x = torch.cat([x, x.new_zeros(missing, x.shape[1])])
    order = torch.argsort(x.detach()[:, -1], descending=True, stable=True)
    x = x[order][:k]
    return Part(torch.cat([x, x.new_zeros(k - x.shape[0], x.shape[1])]))


def _readout(pool: Callable[[Given], Tensor], width: Callable[[Given], int]) -> Callable[[Given], Part]:
    def layer(g: Given) -> Part:
        g = g.real if 14 in g.decisions else g
        return Part(pool(g) if len(g.x) else g.x.new_zeros(width(g)))

    return layer


def _attention(g: Given) -> Tensor:
    gate = torch.sigmoid(g.x @ g.w["w_attn_kernel"] + g.w["w_attn_bias"])
    return (gate * (g.x @ g.w["w_features_kernel"] + g.w["w_features_bias"])).sum(0)


def _features(g: Given) -> int:
    return g.x.shape[1]


LAYERS: dict[str, Callable[[Given], Part]] = {
    "MinCutPool": _soft(_mincut, normalize=True),
    "JustBalancePool": _soft(_justbalance, normalize=True),
    "DMoNPool": _soft(_dmon, normalize=False),
    "AsymCheegerCutPool": _soft(_cheeger, normalize=False),
    "DiffPool": _diffpool,
    "TopKPool": _topk,
    "SAGPool": _sag,
    "SortPool": _sortpool,
    "GlobalAvgPool": _readout(lambda g: g.x.mean(0), _features),
    "GlobalMaxPool": _readout(lambda g: g.x.amax(0), _features),
    "GlobalSumPool": _readout(lambda g: g.x.sum(0), _features),
    "GlobalAttentionPool": _readout(_attention, lambda g: g.args["channels"]),
    "GlobalAttnSumPool": _readout(lambda g: (g.x @ g.w["w_attn_kernel"]).softmax(0).squeeze(-1) @ g.x, _features),
}
GLOBAL = {name for name in LAYERS if name.startswith("Global")} | {"SortPool"}
HARD = {"TopKPool", "SAGPool"}
