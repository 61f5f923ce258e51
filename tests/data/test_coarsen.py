"""Coarsenings of a dataset: in chunks, in processes, from the cache, and cut into batches."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from poolbench.data import coarsen as module
from poolbench.data.coarsen import PackedCoarsenings, Recipe, coarsen_dataset
from poolbench.data.store import GraphStore
from poolbench.errors import PoolBenchError
from poolbench.linalg import Dense, Padded, Ragged, Sparse
from poolbench.linalg.coarsening import Coarsening

SIZES = [3, 1, 5, 0, 4, 2] * 15
RECIPE = Recipe("Halve", {"k": 2}, "code", "data")


def halve(a: Sparse | Dense) -> Coarsening:
    """Nodes in pairs of the order in their graph; edges between pairs, weights added."""
    assert isinstance(a, Sparse)
    nodes = a.nodes
    counts = (nodes.sizes + 1) // 2
    ptr = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    pooled = Ragged(ptr, counts.tolist())
    place = torch.arange(nodes.num_rows) - nodes.ptr[nodes.index]
    cluster = ptr[nodes.index] + place // 2
    s = Sparse.from_edges(cluster[a.row], cluster[a.col], a.weights, pooled, a.symmetric)
    centre = nodes.ptr[pooled.index] + 2 * (torch.arange(pooled.num_rows) - ptr[pooled.index])
    weight = torch.stack([place.float(), torch.ones(nodes.num_rows)], 1)
    return Coarsening("pairs", nodes, pooled, s, torch.arange(nodes.num_rows), cluster, weight, centre)


def spread(a: Sparse | Dense, k: int, masked: bool = False) -> Coarsening:
    """k clusters a graph, S from degrees; with `masked` a graph has as many clusters as nodes, up to k."""
    rows = a.nodes.num_rows if isinstance(a, Sparse) else a.nodes.num_graphs * a.nodes.width
    s = (a.degree().reshape(-1, 1) + torch.arange(k)).reshape(rows, k)
    b, sizes = a.nodes.num_graphs, a.nodes.sizes
    mask = torch.arange(k) < sizes.unsqueeze(-1) if masked else None
    total = a.total() if isinstance(a, Sparse) else a.value.sum((1, 2))
    blocks = total.reshape(b, 1, 1) * torch.ones(k, k)
    pooled = Padded(b, k, mask)
    return Coarsening("soft", a.nodes, pooled, Dense(blocks, pooled, True), s=s)


def fail(a: Sparse | Dense) -> Coarsening:
    raise ValueError("no such graph")


def dataset(weighted: bool = True, directed: bool = False) -> tuple[Tensor, Tensor, Tensor | None]:
    torch.manual_seed(0)
    dense = torch.block_diag(*[(torch.rand(n, n) + 0.5) * (1 - torch.eye(n)) for n in SIZES])
    dense = dense * (torch.rand_like(dense) < 0.6) if directed else dense + dense.T
    row, col = dense.nonzero(as_tuple=True)
    return torch.tensor(SIZES), torch.stack([row, col]), dense[row, col] if weighted else None


def tensors(c: Coarsening) -> list[Tensor]:
    held = [c.node, c.cluster, c.weight, c.centre, c.s, c.pooled.sizes, c.nodes.sizes, c.pooled.index]
    matrix = [c.a.value] if isinstance(c.a, Dense) else [c.a.crow, c.a.col, c.a.value]
    masks = [n.mask for n in (c.nodes, c.pooled) if isinstance(n, Padded)]
    return [v for v in (*held, *matrix, *masks) if v is not None]


def same(ours: list[Coarsening], theirs: list[Coarsening]) -> None:
    for p, q in zip(ours, theirs, strict=True):
        assert (p.kind, p.a.symmetric, type(p.a)) == (q.kind, q.a.symmetric, type(q.a))
        for v, w in zip(tensors(p), tensors(q), strict=True):
            assert v.dtype == w.dtype
            assert torch.equal(v, w)


def chain(a: Sparse | Dense, functions: list[module.Coarsen]) -> list[Coarsening]:
    out = []
    for function in functions:
        out.append(function(a))
        a = out[-1].a
    return out


CHAINS = {
    "sparse": [halve, halve, halve],
    "dense": [halve, partial(spread, k=3), partial(spread, k=2)],
    "masked": [partial(spread, k=3, masked=True)],
}


@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("directed", [True, False])
def test_a_cut_is_what_the_batch_of_the_store_gives(
    name: str, weighted: bool, directed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes, index, weight = dataset(weighted, directed)
    store = GraphStore(torch.zeros(sum(SIZES), 1), sizes, index, torch.zeros(len(SIZES)), weight)
    monkeypatch.setattr(module, "CHUNK", 7)
    monkeypatch.setattr(module, "FEW", 5)
    packed = coarsen_dataset(sizes, index, CHAINS[name], RECIPE, weight, store.symmetric, data=tmp_path)
    assert (len(packed), len(packed.cut(torch.arange(1)))) == (len(SIZES), len(CHAINS[name]))
    for graphs in ([0], [3], [89, 2, 2, 3, 17, 40], list(range(90)), []):
        chosen = torch.tensor(graphs, dtype=torch.int64)
        same(packed.cut(chosen), chain(store.batch(chosen).a, CHAINS[name]))


def test_processes_give_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", -1.0)
    sizes, index, weight = dataset()
    every = torch.arange(len(SIZES))
    one, two = (
        coarsen_dataset(sizes, index, CHAINS["dense"], RECIPE, weight, workers=n, data=tmp_path / str(n))
        for n in (1, 2)
    )
    same(one.cut(every), two.cut(every))


def count(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    calls: list[int] = []
    compute = module._compute
    monkeypatch.setattr(module, "_compute", lambda *args: calls.append(1) or compute(*args))
    return calls


def test_it_is_computed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, index, weight = dataset()
    calls = count(monkeypatch)
    packs = [coarsen_dataset(sizes, index, [halve], RECIPE, weight, data=tmp_path) for _ in range(2)]
    assert len(calls) == 1
    same(packs[0].cut(torch.tensor([4, 2])), packs[1].cut(torch.tensor([4, 2])))
    others = [replace(RECIPE, **{n: "other"}) for n in ("operator", "code", "dataset")]
    others.append(replace(RECIPE, arguments={"k": 3}))
    for number, recipe in enumerate(others):
        coarsen_dataset(sizes, index, [halve], recipe, weight, data=tmp_path)
        assert len(calls) == 2 + number
    coarsen_dataset(sizes, index, [halve, halve], RECIPE, weight, data=tmp_path)
    assert len(calls) == 6
    assert replace(RECIPE, arguments={"a": 1, "b": 2}).digest(1) == replace(RECIPE, arguments={"b": 2, "a": 1}).digest(
        1
    )


@pytest.mark.parametrize("damage", ["cut", "flipped", "other"])
def test_a_damaged_file_is_computed_anew(
    damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sizes, index, weight = dataset()
    want = coarsen_dataset(sizes, index, [halve], RECIPE, weight, data=tmp_path)
    (path,) = (tmp_path / module.FOLDER).glob("Halve-*.pt")
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-1000])
    elif damage == "flipped":
        held = torch.load(path, weights_only=True)
        held["0.cluster"][0] += 1
        torch.save(held, path)
    else:
        torch.save({"something": torch.zeros(1)}, path)
    with pytest.raises(PoolBenchError, match="remove it"):
        PackedCoarsenings.load(path)
    calls = count(monkeypatch)
    with caplog.at_level(logging.WARNING):
        found = coarsen_dataset(sizes, index, [halve], RECIPE, weight, data=tmp_path)
    assert len(calls) == 1
    assert "computing it anew" in caplog.text
    same(want.cut(torch.arange(90)), found.cut(torch.arange(90)))
    PackedCoarsenings.load(path)


def test_a_cache_that_cannot_be_written_to_is_no_hindrance(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sizes, index, weight = dataset()
    blocked = tmp_path / "file"
    blocked.write_text("")
    with caplog.at_level(logging.WARNING):
        packed = coarsen_dataset(sizes, index, [halve], RECIPE, weight, data=blocked)
    assert "not kept" in caplog.text
    assert len(packed.cut(torch.arange(90))[0].pooled.sizes) == 90


def test_what_goes_wrong_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", -1.0)
    sizes, index, weight = dataset()
    for workers in (1, 2):
        with pytest.raises(ValueError, match="no such graph"):
            coarsen_dataset(sizes, index, [fail], RECIPE, weight, workers=workers, data=tmp_path)
    with pytest.raises(PoolBenchError, match="workers=0"):
        coarsen_dataset(sizes, index, [halve], RECIPE, weight, workers=0, data=tmp_path)
    assert not list((tmp_path / module.FOLDER).glob("*"))


def test_no_graphs_at_all(tmp_path: Path) -> None:
    none = torch.zeros(0, dtype=torch.int64)
    packed = coarsen_dataset(none, torch.zeros(2, 0, dtype=torch.int64), [halve, halve], RECIPE, data=tmp_path)
    assert [c.pooled.num_graphs for c in packed.cut(none)] == [0, 0]


def test_it_moves_to_a_device(tmp_path: Path) -> None:
    sizes, index, weight = dataset()
    packed = coarsen_dataset(sizes, index, [halve], RECIPE, weight, data=tmp_path).to("meta")
    assert packed.device.type == "meta"
    assert packed._levels[0].cluster is not None
    assert packed._levels[0].cluster.device.type == "meta"
    assert packed._levels[0].pooled_sizes.device.type == "cpu"
