"""The peptides from generated files in the form of the official archives, against PyG's own reading of them."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from poolbench.data.sources import lrgb
from poolbench.data.sources.lrgb import Peptides
from poolbench.data.sources.molecules import ATOM, BOND
from poolbench.errors import PoolBenchError

PARTS = {"train": 3, "val": 1, "test": 2}
Put = Callable[..., Path]


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lrgb, "PARTS", PARTS)
    monkeypatch.setattr(lrgb, "HOST", "http://127.0.0.1:9")


def peptide(seed: int, name: str) -> tuple[torch.Tensor, ...]:
    """A tree with its edges in both directions, each pair after the other, as OGB makes molecules."""
    generator = torch.Generator().manual_seed(seed)
    n = 3 + seed % 5
    x, kinds = (
        torch.stack([torch.randint(0, top, (rows,), generator=generator) for top in tops.values()], dim=1)
        for rows, tops in ((n, ATOM), (n - 1, BOND))
    )
    parent = torch.tensor([int(torch.randint(0, child, (1,), generator=generator)) for child in range(1, n)])
    pairs = torch.stack([parent, torch.arange(1, n)])
    edges = torch.stack([pairs, pairs.flip(0)], dim=2).reshape(2, -1)
    y = torch.randn(1, lrgb.TASKS[name], generator=generator)
    return x, kinds.repeat_interleave(2, dim=0), edges, (y > 0).float() if name == "peptides-func" else y


@pytest.fixture
def mirrored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Put:
    def pack(name: str, **changed: Any) -> Path:
        folder = tmp_path / "mirror" / "LRGB"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{name.replace('-', '')}.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for k, (part, count) in enumerate(PARTS.items()):
                graphs = changed.get(part, [peptide(10 * k + m, name) for m in range(count)])
                buffer = io.BytesIO()
                torch.save(graphs, buffer)
                archive.writestr(f"{path.stem}/{part}.pt", buffer.getvalue())
        monkeypatch.setenv("POOLBENCH_MIRROR", str(tmp_path / "mirror"))
        return path

    return pack


@pytest.mark.parametrize("name", lrgb.ARCHIVES)
@pytest.mark.parametrize("block", [1, 2, 1000])
def test_content_is_that_of_pyg(
    mirrored: Put, cache: Path, monkeypatch: pytest.MonkeyPatch, name: str, block: int
) -> None:
    from torch_geometric.datasets import LRGBDataset

    mirrored(name)
    monkeypatch.setattr(lrgb, "_BLOCK", block)
    dataset = Peptides(name)
    raw = dataset.load()
    graphs = [graph for part in PARTS for graph in LRGBDataset(str(cache / "LRGB"), name, split=part)]
    atoms, bonds = dataset.node_features(raw), dataset.edge_features(raw)
    assert torch.equal(atoms.values, torch.cat([graph.x for graph in graphs]))
    assert atoms.vocabulary == tuple(ATOM.values()) and bonds.vocabulary == tuple(BOND.values())
    start = raw.num_nodes.cumsum(0) - raw.num_nodes
    edges = torch.cat([graph.edge_index + s for graph, s in zip(graphs, start, strict=True)], dim=1)
    order = (edges[0] * raw.total_nodes + edges[1]).argsort()
    assert torch.equal(raw.edge_index, edges[:, order]) and raw.symmetric
    assert torch.equal(bonds.values, torch.cat([graph.edge_attr for graph in graphs])[order])
    target = dataset.target(raw)
    assert torch.equal(target.y, torch.cat([graph.y for graph in graphs]))
    split = dataset.official_split(raw)
    assert {part: at.tolist() for part, at in split.items()} == {"train": [0, 1, 2], "val": [3], "test": [4, 5]}
    assert Peptides(name).load().fingerprint() == raw.fingerprint()


def test_targets(mirrored: Put) -> None:
    for name in lrgb.ARCHIVES:
        mirrored(name)
    func, struct = (dataset.target(dataset.load()) for dataset in map(Peptides, lrgb.ARCHIVES))
    assert (func.kind, func.outputs, func.metric, func.mode) == ("binary", 10, "ap", "max")
    assert func.evaluate(func.y, func.y) == {"ap": 1.0}
    assert (struct.kind, struct.outputs, struct.metric, struct.mode, struct.loss) == ("numbers", 11, "mae", "min", "l1")


def test_nowhere_to_be_had(cache: Path) -> None:
    with pytest.raises(PoolBenchError) as caught:
        Peptides("peptides-func").load()
    assert f"put peptidesfunc.zip into {cache / 'LRGB/peptides-func'}" in str(caught.value)
    assert "holds LRGB/peptidesfunc.zip" in str(caught.value)
    with pytest.raises(PoolBenchError, match=r"did you mean peptides-func"):
        Peptides("peptides-fun")


good = peptide(0, "peptides-func")


@pytest.mark.parametrize(
    ("graphs", "text"),
    [
        ([good], "train.pt holds 1 graphs, expected 3"),
        ({"no": 1}, "train.pt holds no graphs, expected 3"),
        ([good, good, good[:3]], "no (x, edge_attr, edge_index, y)"),
        ([good, good, peptide(0, "peptides-struct")], "[1, 11]], expected"),
        ([good, good, (good[0], good[1], good[2] + 1, good[3])], "has an edge of node 3 in a graph of 3 nodes"),
        ([good, good, (good[0] + 119, *good[1:])], "holds categories of atoms that are outside [119, 5"),
        ([good, good, (good[0].float(), *good[1:])], "no whole numbers"),
        ([good, good, (good[0].bool(), *good[1:])], "no whole numbers"),
        ([good, good, (torch.tensor(3), *good[1:])], "holds a graph of the shapes [[],"),
        ([good, good, (torch.zeros(1, 1, dtype=int).expand(10**12, 9), *good[1:])], "whose numbers are not all there"),
        ([good, good, (good[0].to_sparse(), *good[1:])], "whose numbers are not all there"),
        ([good, good, (*good[:3], good[3] / 0)], "a target that is no finite number"),
        ([good, good, (*good[:3], good[3] + 1)], "an answer that is neither 0 nor 1"),
    ],
)
def test_content_that_is_not_the_dataset(mirrored: Put, cache: Path, graphs: Any, text: str) -> None:
    mirrored("peptides-func", train=graphs)
    with pytest.raises(PoolBenchError) as caught:
        Peptides("peptides-func").load()
    assert text in str(caught.value) and "\n" not in str(caught.value)
    assert not (cache / "LRGB").exists()


def test_a_file_that_is_no_torch_file(cache: Path) -> None:
    raw = cache / "LRGB/peptides-func/raw"
    raw.mkdir(parents=True)
    for part in PARTS:
        (raw / f"{part}.pt").write_bytes(b"\x80\x02cos\nsystem\nU\x04true\x85R.")
    with pytest.raises(PoolBenchError, match=r"train.pt cannot be read") as caught:
        Peptides("peptides-func").load()
    assert "\n" not in str(caught.value)
