"""Cases of a folder in Spektral's format, run by poolbench and compared."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import poolbench.pool
from poolbench.pool.base.src import GlobalPool, SRCPool
from reference.cases import BadCase, Case
from reference.compare import Arrays, Result, Tolerance, difference
from reference.deviations import DEVIATIONS, SCORED
from reference.formulas import LAYERS, answer

OUTPUT = Tolerance(rtol=1e-5, atol=1e-5)
GRADIENT = Tolerance(rtol=2e-4, atol=2e-4)


def check(folder: Path, entry: dict[str, Any]) -> Result:
    """Run one case. A case that cannot be read or mapped is a failure."""
    result = Result(str(entry.get("id", entry)))
    try:
        _check(Case.read(folder, entry), result)
    except Exception as error:  # one case's failure must not end the run
        result.fail("case", f"{type(error).__name__}: {error}")
    return result


def _check(case: Case, result: Result) -> None:
    found = [d for d in DEVIATIONS if d.applies(case)]
    result.deviations = [d.number for d in found]
    restore = {name: value for d in found for name, value in d.restore.items()}
    decided = frozenset(d.number for d in found if not d.restore)
    ours = run(case, {**case.args, **restore})
    expected = case.expected

    spektral = answer(case) if decided else {}
    decision = answer(case, decided) if decided else {}
    for name, value in expected.items():
        if decided and _changed(spektral[name], decision[name]):
            _compare(result, name, *_nan_as_zero(value, spektral[name]), "the file against the formula")
            _compare(result, name, ours.get(name), decision[name], "against the decision")
        else:
            _compare(result, name, ours.get(name), value)
    for name in ours.keys() - expected.keys():
        if not name.startswith("grad_"):  # gradients are recorded where Spektral's are finite
            result.fail(name, "poolbench answers it, the case does not list it")
        elif not np.isfinite(ours[name]).all():
            result.fail(name, "not finite")
    if restore and case.layer in LAYERS:  # the decision itself, where it has a formula
        own, decision = run(case, case.args), answer(case, frozenset(d.number for d in found))
        for name in own.keys() | (decision.keys() & expected.keys()):
            if name in decision:
                _compare(result, name, own.get(name), decision[name], "against the decision")


def _changed(before: np.ndarray, after: np.ndarray) -> bool:
    if before.shape != after.shape:
        return True
    return not np.allclose(before, after, rtol=1e-9, atol=1e-9)  # NaN against a number: changed


def _nan_as_zero(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The two with 0 wherever both hold NaN."""
    if a.shape != b.shape:
        return a, b
    both = np.isnan(a) & np.isnan(b)
    return (np.where(both, 0, a), np.where(both, 0, b)) if both.any() else (a, b)


def _compare(result: Result, name: str, ours: np.ndarray | None, expected: np.ndarray, what: str = "") -> None:
    why = difference(ours, expected, GRADIENT if name.startswith("grad_") else OUTPUT)
    if why is not None:
        result.fail(name, f"{why} ({what})" if what else why)


class Chosen(SRCPool):
    """Keeps the nodes with the given numbers: the smallest operator that a person can write."""

    def __init__(self, select_indices: list[int], return_selection: bool = False) -> None:
        super().__init__(return_selection=return_selection)
        self.indices = select_indices

    def select(self, x: Tensor, a: Any, i: Tensor | None) -> Tensor:
        return torch.tensor(self.indices)


def build(case: Case, args: dict[str, Any]) -> nn.Module:
    """The layer with the weights of the case."""
    if "select_indices" in args:
        return Chosen(**args)
    cls = getattr(poolbench.pool, case.layer)
    pool = cls(**args, **({"in_channels": case.x.shape[-1]} if case.entry["weights"] else {}))
    own = dict(pool.named_parameters())
    with torch.no_grad():
        for name, path in weight_names(case, args).items():
            if path not in own:
                raise BadCase(f"{case.layer} has no weight {path} for {name}")
            value = torch.from_numpy(case.arrays[name])
            own.pop(path).copy_(value.T if value.ndim == 2 else value)
    if own:
        raise BadCase(f"the case has no value for the weights {', '.join(own)} of {case.layer}")
    return pool


WEIGHTS = {
    "w_kernel_emb": "embedding.weight",
    "w_kernel_pool": "assignment.weight",
    "w_kernel": "projection.weight",
    "w_features_kernel": "features_layer.weight",
    "w_features_bias": "features_layer.bias",
    "w_attn_kernel": "attention_layer.weight",
    "w_attn_bias": "attention_layer.bias",
}


def weight_names(case: Case, args: dict[str, Any]) -> dict[str, str]:
    """Weight of the case -> name of our parameter."""
    names = {}
    for name in case.entry["weights"]:
        if name.startswith("w_mlp_"):
            _, _, kind, j = name.split("_")
            if kind == "bias" and args.get("use_bias") is False:
                continue
            names[name] = f"mlp.layers.{j}.{'bias' if kind == 'bias' else 'weight'}"
        elif name in WEIGHTS:
            names[name] = WEIGHTS[name]
        else:
            raise BadCase(f"no weight of {case.layer} is known under {name}")
    return names


def run(case: Case, args: dict[str, Any]) -> Arrays:
    """Poolbench's answer under the names of the file."""
    pool = build(case, args)
    x = torch.from_numpy(case.x.copy()).requires_grad_()
    i = None if case.i is None else torch.from_numpy(case.i)
    mask = torch.from_numpy(case.arrays["mask"]) if "mask" in case.arrays else None
    if isinstance(pool, GlobalPool):
        x_pool = pool(x, i, mask=mask)
        outputs: dict[str, Tensor] = {"out_x_pool": x_pool}
        weights = pool.penalty()
        losses = {} if weights is None else {"regularization": weights}
    else:
        out = pool(x, _adjacency(case), i, mask=mask)
        x_pool, losses = out.x, out.losses
        outputs = {"out_x_pool": x_pool, **_pooled_adjacency(case, out.a)}
        if out.i is not None:
            outputs["out_i_pool"] = out.i
        if out.s is not None:
            outputs["out_s"] = _selection(case, out.s)
        if args.get("return_score"):
            # (N, 1) in the reference: the trailing axis is decision 5's, so it is left out here
            outputs["out_score"] = out.score
    objective = x_pool.square().sum() + sum(value.sum() for value in losses.values())
    leaves = {"grad_x": x}
    own = dict(pool.named_parameters())
    leaves |= {f"grad_{name}": own[path] for name, path in weight_names(case, args).items()}
    gradients = torch.autograd.grad(objective, list(leaves.values()), allow_unused=True)
    found = {**outputs, **{f"loss_{name}": value for name, value in losses.items()}}
    arrays = {name: value.detach().numpy() for name, value in found.items()}
    for (name, leaf), g in zip(leaves.items(), gradients, strict=True):
        g = torch.zeros_like(leaf) if g is None else g
        arrays[name] = (g.T if name != "grad_x" and g.ndim == 2 else g).numpy()
    return arrays


def _adjacency(case: Case) -> Tensor:
    if case.entry["a_format"] == "dense":
        return torch.from_numpy(case.arrays["a"])
    index, value = torch.from_numpy(case.arrays["a_indices"]), torch.from_numpy(case.arrays["a_values"])
    return torch.sparse_coo_tensor(index.T, value, tuple(case.arrays["a_shape"]), check_invariants=True)


def _pooled_adjacency(case: Case, a: Tensor) -> dict[str, Tensor]:
    if "out_a_pool" in case.arrays:  # Spektral returns it dense, whatever form it was given
        return {"out_a_pool": a.to_dense() if a.is_sparse else a}
    a = a.to_sparse().coalesce()
    shape = torch.tensor(a.shape, dtype=torch.int64)
    return {"out_a_pool_indices": a.indices().T, "out_a_pool_values": a.values(), "out_a_pool_shape": shape}


def _selection(case: Case, s: Any) -> Tensor:
    """The form in which Spektral returns it: a mask, indices, or a matrix."""
    form: dict[str, Callable[[], Tensor]] = {"SRCPool": lambda: s.kept, **{name: lambda: s.mask for name in SCORED}}
    dense = form[case.layer]() if case.layer in form else s.dense()
    return dense.squeeze(0) if dense.ndim > case.arrays["out_s"].ndim and dense.shape[0] == 1 else dense
