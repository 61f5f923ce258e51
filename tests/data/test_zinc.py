"""ZINC from generated pickles in the form of the official archive, against PyG's own reading of them."""

from __future__ import annotations

import math
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from poolbench.data.sources import zinc
from poolbench.data.sources.zinc import ZINC
from poolbench.errors import PoolBenchError

INDEX = {"train": [3, 0, 2], "val": [1], "test": [0, 1]}
Put = Callable[..., Path]


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zinc, "PARTS", {part: len(index) for part, index in INDEX.items()})
    monkeypatch.setattr(zinc, "URL", "http://127.0.0.1:9/molecules.zip")
    monkeypatch.setattr(zinc, "INDEX_URL", "http://127.0.0.1:9")


def molecule(seed: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    n = 3 + seed % 4
    bond = torch.randint(0, 4, (n, n), generator=generator, dtype=torch.int32).triu(1)
    return {
        "num_atom": n,
        "atom_type": torch.randint(0, 28, (n,), generator=generator, dtype=torch.int8 if seed % 2 else torch.int64),
        "bond_type": bond + bond.T,
        "logP_SA_cycle_normalized": torch.randn(1, generator=generator),
    }


def members(**changed: Any) -> dict[str, bytes]:
    held = {part: [molecule(10 * k + m) for m in range(4)] for k, part in enumerate(INDEX)}
    files = {f"{part}.pickle": pickle.dumps({**held, **changed}[part]) for part in INDEX}
    return {**files, **{f"{part}.index": ",".join(map(str, at)).encode() + b"\n" for part, at in INDEX.items()}}


@pytest.fixture
def mirrored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Put:
    """`mirrored(**changed)`: a mirror with molecules.zip and, beside it, the index files."""

    def pack(**changed: Any) -> Path:
        folder = tmp_path / "mirror" / "ZINC"
        folder.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(folder / "molecules.zip", "w") as archive:
            for name, content in members(**changed).items():
                if name.endswith(".pickle"):
                    archive.writestr(f"molecules/{name}", content)
                else:
                    (folder / name).write_bytes(content)
            archive.writestr("molecules/atom_dict.pickle", b"not wanted")
        monkeypatch.setenv("POOLBENCH_MIRROR", str(tmp_path / "mirror"))
        return folder / "molecules.zip"

    return pack


@pytest.mark.parametrize("block", [1, 2, 1000])
def test_content_is_that_of_pyg(mirrored: Put, cache: Path, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    from torch_geometric.datasets import ZINC as Theirs

    mirrored()
    monkeypatch.setattr(zinc, "_BLOCK", block)
    dataset = ZINC()
    raw = dataset.load()
    held = sorted(path.name for path in (cache / "ZINC/raw").iterdir())
    assert held == sorted([*members(), "provenance.json"])
    graphs = [graph for part in INDEX for graph in Theirs(str(cache / "ZINC"), subset=True, split=part)]
    assert raw.num_nodes.tolist() == [graph.num_nodes for graph in graphs]
    assert torch.equal(raw.node_labels, torch.cat([graph.x for graph in graphs]))
    start = raw.num_nodes.cumsum(0) - raw.num_nodes
    edges = torch.cat([graph.edge_index + s for graph, s in zip(graphs, start, strict=True)], dim=1)
    assert torch.equal(raw.edge_index, edges) and raw.symmetric
    assert torch.equal(raw.edge_labels[:, 0], torch.cat([graph.edge_attr for graph in graphs]))
    target = dataset.target(raw)
    assert torch.equal(target.y[:, 0], torch.cat([graph.y for graph in graphs]))
    assert (target.kind, target.metric, target.mode, target.loss) == ("numbers", "mae", "min", "l1")
    split = dataset.official_split(raw)
    assert {part: at.tolist() for part, at in split.items()} == {"train": [0, 1, 2], "val": [3], "test": [4, 5]}
    assert dataset.node_features(raw).vocabulary == (28,) and dataset.edge_features(raw).vocabulary == (4,)
    assert ZINC().load().fingerprint() == raw.fingerprint()


def test_index_files_beside_the_archive_in_the_cache(mirrored: Put, cache: Path, monkeypatch: Any) -> None:
    archive = mirrored()
    monkeypatch.delenv("POOLBENCH_MIRROR")
    (cache / "ZINC").mkdir(parents=True)
    for path in archive.parent.iterdir():
        path.rename(cache / "ZINC" / path.name)
    raw = ZINC().load()
    assert raw.num_graphs == 6 and raw.provenance["kind"] == "cache"


def refused() -> str:
    with pytest.raises(PoolBenchError) as caught:
        ZINC().load()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_nowhere_to_be_had(mirrored: Put, cache: Path) -> None:
    assert f"put molecules.zip into {cache / 'ZINC'}" in refused()
    archive = mirrored()
    (archive.parent / "val.index").unlink()
    assert f"put val.index into {cache / 'ZINC'}" in refused() and not (cache / "ZINC").exists()


class Harmful:
    def __reduce__(self) -> Any:
        return os.mkdir, ("harm",)


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ([Harmful()] * 4, "mkdir is no part of a tensor"),
        ({"no": "list"}, "is no list of molecules up to number 3"),
        ([molecule(0)], "is no list of molecules up to number 3"),
        ([{"atom_type": 1}] * 4, "holds something that is no molecule"),
        ([{**molecule(0), "bond_type": torch.zeros(2, 2, dtype=int)}] * 4, "holds 3 atoms with bonds of shape [2, 2]"),
        ([{**molecule(0), "bond_type": torch.zeros(3, 3)}] * 4, "atoms or bonds that are no whole numbers"),
        ([{**molecule(0), "logP_SA_cycle_normalized": torch.tensor([math.nan])}] * 4, "logP is not finite"),
        ([{**molecule(0), "atom_type": torch.zeros(1).expand(10**12)}] * 4, "1 numbers as a tensor of shape"),
        ([{**molecule(0), "atom_type": torch.tensor([28, 0, 1])}] * 4, "holds atom type 28, expected 0 to 27"),
    ],
)
def test_content_that_is_not_zinc(
    mirrored: Put, cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, changed: Any, text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    mirrored(train=changed)
    assert f"{text}" in refused() and not (tmp_path / "harm").exists() and not (cache / "ZINC").exists()


def test_a_pickle_that_asks_for_memory(mirrored: Put, cache: Path) -> None:
    mirrored()
    (cache / "ZINC/raw").mkdir(parents=True)
    for name, content in members().items():
        (cache / "ZINC/raw" / name).write_bytes(b"]r\xff\xff\xff\x7f." if name == "val.pickle" else content)
    assert "val.pickle cannot be read (it notes something under a number beyond its own size)" in refused()


def test_cut_files(mirrored: Put, cache: Path) -> None:
    mirrored()
    raw = cache / "ZINC/raw"
    raw.mkdir(parents=True)
    for name, content in members().items():
        (raw / name).write_bytes(content[:-5] if name == "test.pickle" else content)
    assert "test.pickle cannot be read" in refused()
    (raw / "test.index").write_text("0,1,2\n")
    (raw / "test.pickle").write_bytes(members()["test.pickle"])
    assert "test.index names 3 molecules, expected 2" in refused()
    (raw / "test.index").unlink()
    assert "lacks raw/test.index" in refused()
