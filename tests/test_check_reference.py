"""scripts/check_reference.py: it passes on recorded cases, and any changed number makes a case fail."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch_geometric import nn as pyg

ROOT = Path(__file__).parents[1]
DATA = ROOT / "tests" / "data" / "reference"
sys.path.insert(0, str(ROOT / "scripts"))

import check_reference  # noqa: E402
from reference import peers, spektral  # noqa: E402
from reference.cases import Case, read_index  # noqa: E402
from reference.compare import Result, Tolerance  # noqa: E402
from reference.deviations import DEVIATIONS  # noqa: E402
from reference.formulas import answer  # noqa: E402

FOLDERS = ("spektral", "tgp", "pyg", "authors")
SPEKTRAL = read_index(DATA / "spektral")["cases"]
PEERS = [(lib, e) for lib in FOLDERS[1:] for e in read_index(DATA / lib)["cases"]]


def check(library: str, folder: Path, entry: dict[str, Any]) -> Result:
    if library == "spektral":
        return spektral.check(folder, entry)
    return peers.check(library, folder, entry, Tolerance(1e-6, 1e-8))


def mutate(value: np.ndarray, rng: np.random.Generator) -> np.ndarray | None:
    """One entry changed: a float by 1e-3 (1 + |v|), an integer by one. None where there is no number to change."""
    out = value.copy()
    known = np.argwhere(np.isfinite(value)) if value.dtype.kind == "f" else np.argwhere(np.ones_like(value, dtype=bool))
    if not len(known):
        return None
    at = tuple(known[rng.integers(len(known))])
    if value.dtype.kind == "f":
        out[at] += rng.choice([-1.0, 1.0]) * 1e-3 * (1 + abs(value[at]))
    else:
        out[at] = not out[at] if value.dtype.kind == "b" else out[at] + 1
    return out


def write(folder: Path, entry: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    np.savez(folder / entry["file"], **arrays)


@pytest.mark.parametrize("folder", FOLDERS)
def test_recorded_cases_pass(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert check_reference.main([str(DATA / folder)]) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith(" passed, 0 failed")


def test_every_layer_and_the_deviations_are_sampled() -> None:
    layers = {e["layer"] for e in SPEKTRAL}
    assert len(layers) == 15
    found = {n for e in SPEKTRAL for n in spektral.check(DATA / "spektral", e).deviations}
    assert found == {1, 2, 3, 4, 5, 7, 8, 9, 10, 12, 13, 15}


@pytest.mark.parametrize("entry", SPEKTRAL, ids=lambda e: e["id"])
def test_any_changed_number_fails(entry: dict[str, Any], tmp_path: Path) -> None:
    case = Case.read(DATA / "spektral", entry)
    rng = np.random.default_rng(0)
    for name, value in case.expected.items():
        other = mutate(value, rng)
        if other is None:
            continue
        write(tmp_path, entry, {**case.arrays, name: other})
        failures = spektral.check(tmp_path, entry).failures
        assert any(f.startswith(f"{name}:") for f in failures), f"a changed {name} passes"


@pytest.mark.parametrize(("library", "entry"), PEERS, ids=lambda v: v if isinstance(v, str) else v["name"])
def test_any_changed_number_of_a_peer_fails(library: str, entry: dict[str, Any], tmp_path: Path) -> None:
    with np.load(DATA / library / entry["file"]) as file:
        arrays = {name: file[name] for name in file.files}
    rng = np.random.default_rng(0)
    for name in (n for n in arrays if not n.startswith(("in/", "param/"))):
        other = mutate(arrays[name], rng)
        if other is not None:
            write(tmp_path, entry, {**arrays, name: other})
            assert check(library, tmp_path, entry).failures, f"a changed {name} passes"


@pytest.mark.parametrize("change", ["missing", "extra", "shape", "dtype", "unlisted loss", "unknown weight", "layer"])
def test_a_case_that_does_not_fit_fails(change: str, tmp_path: Path) -> None:
    entry = json.loads(json.dumps(next(e for e in SPEKTRAL if e["layer"] == "MinCutPool")))
    arrays = dict(Case.read(DATA / "spektral", entry).arrays)
    if change == "missing":
        del arrays["out_a_pool"]
    elif change == "extra":
        arrays["out_more"] = np.zeros(1)
    elif change == "shape":
        arrays["out_a_pool"] = arrays["out_a_pool"][None]
    elif change == "dtype":
        arrays["out_a_pool"] = arrays["out_a_pool"].astype(np.float64)
    elif change == "unlisted loss":
        entry["losses"].remove("ortho")
        del entry["arrays"]["loss_ortho"], arrays["loss_ortho"]
    elif change == "unknown weight":
        entry["weights"].remove("w_mlp_bias_0")
        entry["weights"].append("w_more")
        entry["arrays"]["w_more"] = entry["arrays"].pop("w_mlp_bias_0")
        arrays["w_more"] = arrays.pop("w_mlp_bias_0")
    else:
        entry["layer"] = "NoSuchPool"
    write(tmp_path, entry, arrays)
    assert spektral.check(tmp_path, entry).failures


def test_failures_are_listed_and_the_exit_code_is_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "spektral"
    shutil.copytree(DATA / "spektral", folder)
    entry = SPEKTRAL[0]
    arrays = dict(Case.read(folder, entry).arrays)
    arrays["out_x_pool"] = arrays["out_x_pool"] + np.float32(0.5)
    write(folder, entry, arrays)
    (folder / "lost.npz").write_bytes(b"")
    assert check_reference.main([str(folder)]) == 1
    out = capsys.readouterr().out
    assert f"FAIL {entry['id']} out_x_pool: largest difference 0.5" in out
    assert "FAIL lost.npz" in out
    assert out.splitlines()[-1] == f"{len(SPEKTRAL) - 1} passed, 2 failed"


def test_operators_narrow_a_run_and_say_so(capsys: pytest.CaptureFixture[str]) -> None:
    folders = [str(DATA / folder) for folder in FOLDERS]
    assert check_reference.main([*folders, "--operators", "mincut,JustBalancePool"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[-2].startswith("narrowed to justbalance, mincut: ")
    assert out[-1] == "11 passed, 0 failed"
    assert check_reference.main([*folders, "--operators", "mincutt"]) == 2
    assert "did you mean mincut" in capsys.readouterr().err


@pytest.mark.parametrize("text", [None, "{", "[]", '{"cases": 3}', '{"cases": []}', '{"cases": [1]}'])
def test_a_folder_that_is_none_is_one_line(
    text: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if text is not None:
        (tmp_path / "index.json").write_text(text)
    assert check_reference.main([str(tmp_path)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


# Cases that were never recorded: the formulas answer in Spektral's place, so that the rules are tried on modes,
# arguments and sizes that the recorded folder lacks.

WEIGHTS = {
    "DiffPool": lambda f, k: {"w_kernel_emb": (f, f), "w_kernel_pool": (f, k)},
    "TopKPool": lambda f, k: {"w_kernel": (f, 1)},
    "SAGPool": lambda f, k: {"w_kernel": (f, 1)},
    "GlobalAttentionPool": lambda f, k: {
        "w_features_kernel": (f, k), "w_features_bias": (k,), "w_attn_kernel": (f, k), "w_attn_bias": (k,),
    },
    "GlobalAttnSumPool": lambda f, k: {"w_attn_kernel": (f, 1)},
}  # fmt: skip
LOSSES = {
    "MinCutPool": ["ortho", "cut"],
    "JustBalancePool": ["balance"],
    "DMoNPool": ["collapse", "modularity"],
    "AsymCheegerCutPool": ["totvar", "balance"],
    "DiffPool": ["link", "entropy"],
}


def invent(layer: str, mode: str, args: dict[str, Any], seed: int, sizes: list[int], mask: bool = False) -> Case:
    """A case of random weighted graphs with the formulas' answer, losses a vector where Spektral gives one."""
    rng = np.random.default_rng(seed)
    f, n, b = 4, max(sizes), len(sizes)
    arrays: dict[str, np.ndarray] = {}
    blocks = [np.triu(rng.random((m, m)) * (rng.random((m, m)) < 0.5), 1) for m in sizes]
    blocks = [(block + block.T).astype(np.float32) for block in blocks]
    if mode in ("batch", "mixed"):
        arrays["x"] = rng.standard_normal((b, n, f)).astype(np.float32)
        dense = np.zeros((b, n, n), dtype=np.float32)
        for g, (m, block) in enumerate(zip(sizes, blocks, strict=True)):
            dense[g, :m, :m] = block
            arrays["x"][g, m:] = 0
        arrays["a"] = dense[int(np.argmax(sizes))] if mode == "mixed" else dense
        if mask:
            arrays["mask"] = (np.arange(n)[None, :, None] < np.array(sizes)[:, None, None]).astype(np.float32)
    else:
        total = sum(sizes)
        arrays["x"] = rng.standard_normal((total, f)).astype(np.float32)
        whole, start = np.zeros((total, total), dtype=np.float32), 0
        for m, block in zip(sizes, blocks, strict=True):
            whole[start : start + m, start : start + m] = block
            start += m
        index = np.argwhere(whole)
        arrays |= {"a_indices": index, "a_values": whole[tuple(index.T)], "a_shape": np.array(whole.shape)}
        if mode == "disjoint":
            arrays["i"] = np.repeat(np.arange(b), sizes)
    readout = layer.startswith("Global") or layer == "SortPool"
    if readout:
        arrays = {k: v for k, v in arrays.items() if not k.startswith("a")}
    inputs = list(arrays)
    k = args.get("k", args.get("channels", 3))
    shapes = WEIGHTS.get(layer, lambda f, k: {"w_mlp_kernel_0": (f, k), "w_mlp_bias_0": (k,)})(f, k)
    if layer in ("SortPool", "GlobalAvgPool", "GlobalMaxPool", "GlobalSumPool"):
        shapes = {}
    weights = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    arrays |= weights
    vector = mode in ("batch", "mixed") and layer == "JustBalancePool"
    vector = vector or (mode == "mixed" and layer == "MinCutPool")
    losses = LOSSES.get(layer, [])
    blank = {f"loss_{name}": np.zeros(b if vector else (), dtype=np.float32) for name in losses}
    entry = {
        "id": f"{layer}-{mode}", "layer": layer, "mode": mode, "args": args, "file": "case.npz", "inputs": inputs,
        "weights": list(weights), "losses": losses, "tags": [],
        "a_format": None if readout else "dense" if "a" in arrays else "coo",
    }  # fmt: skip
    found = answer(Case(entry, {**arrays, **blank}))
    kinds = {"f": np.float32, "i": np.int64}
    arrays |= {name: value.astype(kinds[value.dtype.kind]) for name, value in found.items()}
    return Case(entry, arrays)


UNSEEN = [
    *((layer, "mixed", {"k": 3, "return_selection": True}, False, {22}) for layer in LOSSES if layer[0] not in "AD"),
    ("DiffPool", "mixed", {"k": 3}, False, {22}),
    ("JustBalancePool", "batch", {"k": 4, "normalized_loss": True}, True, {1, 13}),
    ("MinCutPool", "batch", {"k": 4, "use_bias": False}, True, {12}),
    ("DMoNPool", "batch", {"k": 2, "use_bias": False, "collapse_regularization": 0.7}, True, {9, 12, 13}),
    ("AsymCheegerCutPool", "batch", {"k": 4, "totvar_coeff": 0.3}, True, {13}),
    ("DiffPool", "batch", {"k": 3, "activation": "sigmoid"}, True, {13, 15}),
    ("TopKPool", "disjoint", {"ratio": 0.3, "return_score": True, "return_selection": True}, False, {4, 5}),
    ("SAGPool", "single", {"ratio": 0.6, "sigmoid_gating": True}, False, {4}),
    ("SortPool", "disjoint", {"k": 9}, False, {2}),
    ("SortPool", "batch", {"k": 9}, True, {14}),
    ("SortPool", "single", {"k": 30}, False, {3}),
    ("GlobalAvgPool", "batch", {}, True, {14}),
    ("GlobalMaxPool", "batch", {}, True, {14}),
    ("GlobalAttentionPool", "batch", {"channels": 3, "bias_regularizer": {"l1": 0.3, "l2": 0.2}}, True, {14}),
    ("GlobalAttnSumPool", "mixed", {}, True, {14}),
    ("GlobalSumPool", "disjoint", {}, False, set()),
]


@pytest.mark.parametrize(("layer", "mode", "args", "mask", "numbers"), UNSEEN, ids=str)
def test_rules_hold_for_cases_not_seen(
    layer: str, mode: str, args: dict[str, Any], mask: bool, numbers: set[int]
) -> None:
    sizes = [25] if mode == "single" else [10, 10] if mode == "mixed" and not mask else [50, 5, 10]
    case = invent(layer, mode, args, seed=3, sizes=sizes, mask=mask)
    result = Result(case.name)
    spektral._check(case, result)
    assert result.failures == []
    assert set(result.deviations) == numbers
    rng = np.random.default_rng(1)
    for name, value in case.expected.items():
        other = mutate(value, rng)
        assert other is not None
        changed = Result(case.name)
        spektral._check(Case(case.entry, {**case.arrays, name: other}), changed)
        assert any(f.startswith(f"{name}:") for f in changed.failures), f"a changed {name} passes"


def test_operators_that_there_are_none_of_are_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(peers.NOT_OFFERED, "authors", {"missing"})
    entry = {"name": "a case", "file": "case.npz", "operator": "missing", "kwargs": {}}
    entry["arrays"] = {"in/x": {"shape": [1], "dtype": "float64"}}
    write(tmp_path, entry, {"in/x": np.zeros(1)})
    tolerance = Tolerance(1e-6, 1e-8)
    assert peers.check("authors", tmp_path, entry, tolerance).outside
    assert peers.check("tgp", tmp_path, entry, tolerance).failures == ["case: BadCase: operator 'missing' is not known"]


@pytest.mark.parametrize("args", [{"ratio": 1.0}, {"ratio": 0.55}, {"ratio": 3}, {"nonlinearity": "elu"}], ids=str)
@pytest.mark.parametrize("layer", ["GCNConv", "GATConv", "SAGEConv"])
def test_other_layers_score_and_ties_are_settled_as_the_case_did(
    layer: str, args: dict[str, Any], tmp_path: Path
) -> None:
    """PyG answers on graphs in which many nodes score alike but for rounding, pairs and a complete graph of four, and
    keeps lower ones; with the nodes numbered backwards, the same answer keeps higher ones."""
    torch.manual_seed(1)
    pairs = torch.cat([torch.tensor([[0, 2], [1, 3]]), torch.combinations(torch.arange(4, 8)).T], 1)
    index = torch.cat([pairs, pairs.flip(0)], 1)
    x, batch = torch.randn(8, 4, dtype=torch.float64, requires_grad=True), torch.tensor([0] * 4 + [1] * 4)
    pool = pyg.SAGPooling(4, GNN=getattr(pyg, layer), **args).double().eval()
    out, edges, _, index_out, perm, weight = pool(x, index, None, batch)
    objective = out.square().sum() / 2
    leaves = {"x": x, **dict(pool.named_parameters())}
    gradients = torch.autograd.grad(objective, list(leaves.values()), materialize_grads=True)
    arrays = {
        "in/batch": batch, "out/x": out, "out/edge_index": edges, "out/batch": index_out, "s/weight": weight,
        "objective": objective, **{f"param/{n}": p for n, p in pool.named_parameters()},
        **{f"grad/{n}": g for n, g in zip(leaves, gradients, strict=True)},
    }  # fmt: skip
    for number in (torch.arange(8), torch.tensor([3, 2, 1, 0, 7, 6, 5, 4])):  # both are their own inverse
        arrays |= {"in/x": x[number], "grad/x": gradients[0][number]}
        arrays |= {"in/edge_index": number[index], "s/node_index": number[perm]}
        found = {name: value.detach().numpy() for name, value in arrays.items()}
        shapes = {name: {"shape": list(value.shape), "dtype": str(value.dtype)} for name, value in found.items()}
        entry = {"name": layer, "file": "case.npz", "operator": "sag", "kwargs": {"GNN": layer, **args}}
        write(tmp_path, entry, found)
        assert check("pyg", tmp_path, {**entry, "arrays": shapes}).passed


def test_no_rule_reads_a_case_s_name() -> None:
    """A case with another name has the same deviations."""
    for entry in SPEKTRAL:
        case = Case.read(DATA / "spektral", entry)
        other = Case({**entry, "id": "x", "file": "y", "note": "", "tags": []}, case.arrays)
        assert [d.number for d in DEVIATIONS if d.applies(other)] == [d.number for d in DEVIATIONS if d.applies(case)]
