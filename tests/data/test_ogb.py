"""OGB datasets, from generated files in the official format and, with a mirror, against OGB's own loader."""

from __future__ import annotations

import csv
import gzip
import io
import logging
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from sklearn.metrics import average_precision_score, roc_auc_score

from poolbench.cli.folders import conf_dir
from poolbench.config import Part
from poolbench.data import blocks
from poolbench.data.cache import CacheNotWritable
from poolbench.data.prepare import prepare
from poolbench.data.raw import RawGraphs
from poolbench.data.sources import code2, fetch, molecules, official, ogb
from poolbench.data.sources.ogb import OGBDataset
from poolbench.data.sources.ogb_names import OGB_NAMES
from poolbench.errors import PoolBenchError
from poolbench.learn.build import build_dataset

Files = dict[str, str]
Put = Callable[..., Path]


@pytest.fixture(autouse=True)
def _no_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ogb, "HOST", "http://127.0.0.1:9/ogb/data")
    official._warn.cache_clear()


def lines(rows: Any) -> str:
    return "".join(",".join(str(value) for value in row) + "\n" for row in rows)


def molecules_like(**changed: str) -> Files:
    """A path of three atoms, one atom, a bond; two tasks of clintox with an answer missing."""
    atoms = [[5 + k, 0, 2, 5, 0, 0, 2, 0, 1] for k in range(6)]
    files = {
        "raw/num-node-list": "3\n1\n2\n",
        "raw/num-edge-list": "2\n0\n1\n",
        "raw/edge": "2,1\n0,1\n1,0\n",
        "raw/node-feat": lines(atoms),
        "raw/edge-feat": "0,0,0\n1,0,1\n3,5,1\n",
        "raw/graph-label": "1.0,0.0\n,1.0\n0.0,\n",
        "split/scaffold/train": "2\n",
        "split/scaffold/valid": "0\n",
        "split/scaffold/test": "1\n",
    }
    return {**files, **changed}


def associations_like(**changed: str) -> Files:
    """Three neighbourhoods as in ogbg-ppa."""
    scores = [[0.0, 0.162, 0.0, 0.0, 0.5, 0.0, round(0.1 * k, 1)] for k in range(3)]
    files = {
        "raw/num-node-list": "2\n3\n1\n",
        "raw/num-edge-list": "1\n2\n0\n",
        "raw/edge": "0,1\n2,0\n0,1\n",
        "raw/edge-feat": lines(scores),
        "raw/graph-label": "36\n0\n5\n",
        "split/species/train": "0\n",
        "split/species/valid": "1\n",
        "split/species/test": "2\n",
    }
    return {**files, **changed}


def trees_like(**changed: str) -> Files:
    """Three trees as in ogbg-code2: 0 -> (1 -> 2, 3), 0 -> 1, and 0; attributed are 0, 2, 3 of the first, and all."""
    files = {
        "raw/num-node-list": "4\n2\n1\n",
        "raw/num-edge-list": "3\n1\n0\n",
        "raw/edge": "0,1\n1,2\n0,3\n0,1\n",
        "raw/node-feat": "97,10029\n1,10028\n2,7\n2,8\n97,10029\n3,9\n0,0\n",
        "raw/node_is_attributed": "1\n0\n1\n1\n1\n1\n1\n",
        "raw/node_dfs_order": "0\n1\n2\n3\n0\n1\n0\n",
        "raw/node_depth": "0\n1\n25\n1\n0\n1\n0\n",
        "raw/graph-label": "get config get\nnull\nset get of\n",
        "split/project/train": "0\n",
        "split/project/valid": "1\n",
        "split/project/test": "2\n",
    }
    return {**files, **changed}


KINDS = {"ogbg-molclintox": molecules_like, "ogbg-ppa": associations_like, "ogbg-code2": trees_like}


@pytest.fixture
def put(monkeypatch: pytest.MonkeyPatch, cache: Path) -> Put:
    """`put(name, **changed)` writes the files where ogb itself keeps them."""

    def write(name: str, folder: Path | None = None, **changed: str) -> Path:
        files = KINDS[name](**changed)
        monkeypatch.setitem(OGB_NAMES, name, OGB_NAMES[name]._replace(graphs=3))
        folder = folder or cache / "ogb" / name.replace("-", "_")
        for path, text in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / f"{path}.csv.gz").write_bytes(gzip.compress(text.encode(), mtime=0))
        return folder

    return write


@pytest.fixture
def mirrored(put: Put, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Put:
    """`mirrored(name, **changed)` packs them as the official host has them, into a mirror."""

    def pack(name: str, **changed: str) -> Path:
        folder = put(name, tmp_path / "loose", **changed)
        path = tmp_path / "mirror" / "ogb" / OGB_NAMES[name].archive
        path.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(path, "w") as archive:
            for file in sorted(folder.rglob("*.gz")):
                archive.write(file, f"{path.stem}/{file.relative_to(folder)}")
            archive.writestr(f"{path.stem}/RELEASE_v1.txt", "v1")
            archive.writestr(f"{path.stem}/mapping/README.md", "columns")
        shutil.rmtree(folder)
        monkeypatch.setenv("POOLBENCH_MIRROR", str(tmp_path / "mirror"))
        return path

    return pack


# ---------------------------------------------------------------- content


def test_molecules(put: Put) -> None:
    put("ogbg-molclintox")
    dataset = OGBDataset("ogbg-molclintox")
    raw = dataset.load()
    assert raw.num_nodes.tolist() == [3, 1, 2] and raw.symmetric
    assert raw.edge_index.tolist() == [[0, 1, 1, 2, 4, 5], [1, 0, 2, 1, 5, 4]]
    bonds = dataset.edge_features(raw)
    assert bonds.values.tolist() == [[1, 0, 1], [1, 0, 1], [0, 0, 0], [0, 0, 0], [3, 5, 1], [3, 5, 1]]
    assert bonds.vocabulary == (5, 6, 2) and bonds.values.dtype == torch.int64
    atoms = dataset.node_features(raw)
    assert atoms.values[:, 0].tolist() == [5, 6, 7, 8, 9, 10] and atoms.values.dtype == torch.int64
    assert atoms.vocabulary == (119, 5, 12, 12, 10, 6, 6, 2, 2) and len(atoms.names) == 9
    split = dataset.official_split(raw)
    assert {part: graphs.tolist() for part, graphs in split.items()} == {"train": [2], "val": [0], "test": [1]}
    assert dataset.edge_weight(raw) is None


def test_missing_answers_are_nan(put: Put) -> None:
    put("ogbg-molclintox")
    dataset = OGBDataset("ogbg-molclintox")
    target = dataset.target(dataset.load())
    nan = float("nan")
    expected = torch.tensor([[1, 0], [nan, 1], [0, nan]])
    torch.testing.assert_close(target.y, expected, equal_nan=True, rtol=0, atol=0)
    assert (target.kind, target.outputs, target.metric, target.mode) == ("binary", 2, "rocauc", "max")
    # first task: 1 above 0; second: 1 below 0
    scores = torch.tensor([[0.9, 0.8], [0.0, 0.2], [0.1, 0.5]])
    assert target.evaluate(target.y, scores) == {"rocauc": 0.5}


def test_associations(put: Put) -> None:
    put("ogbg-ppa")
    dataset = OGBDataset("ogbg-ppa")
    raw = dataset.load()
    assert raw.edge_index.tolist() == [[0, 1, 2, 2, 3, 4], [1, 0, 3, 4, 2, 2]]
    edges, nodes = dataset.edge_features(raw), dataset.node_features(raw)
    assert edges.values[:, 6].tolist() == pytest.approx([0.0, 0.0, 0.2, 0.1, 0.2, 0.1])
    assert edges.values.dtype == torch.float32 and edges.vocabulary is None and len(edges.names) == 7
    assert nodes.values.tolist() == [[0]] * 6 and nodes.vocabulary == (1,)
    target = dataset.target(raw)
    assert (target.kind, target.y.tolist(), target.outputs, target.metric) == ("classes", [36, 0, 5], 37, "acc")
    scores = torch.zeros(3, 37)
    scores[0, 36] = scores[1, 1] = scores[2, 5] = 1
    assert target.evaluate(target.y, scores) == {"acc": 2 / 3}


def test_syntax_trees(put: Put) -> None:
    put("ogbg-code2")
    dataset = OGBDataset("ogbg-code2")
    raw = dataset.load()
    held = {
        (row, col): kind for row, col, kind in zip(*raw.edge_index.tolist(), raw.edge_attributes.tolist(), strict=True)
    }
    assert held == {
        # the first tree, and its next tokens 0 -> 2 -> 3
        (0, 1): [0, 0], (1, 0): [0, 1], (1, 2): [0, 0], (2, 1): [0, 1], (0, 3): [0, 0], (3, 0): [0, 1],
        (0, 2): [1, 0], (2, 0): [1, 1], (2, 3): [1, 0], (3, 2): [1, 1],
        # the second: its edge leads to the next token too
        (4, 5): [0.5, 0], (5, 4): [0.5, 1],
    }  # fmt: skip
    assert dataset.edge_weight(raw).tolist() == [1.0] * 10 + [2.0] * 2 and raw.symmetric
    features = dataset.node_features(raw)
    assert features.values.tolist()[2] == [2, 7, 20] and raw.node_labels.tolist()[2] == [2, 7, 25]
    assert features.vocabulary == (98, 10030, 21)
    assert dataset.edge_features(raw).names == ["next token", "inverse"]


def test_words(put: Put) -> None:
    """Only `get` and `config` are in the training part; `null` is read as nan, as the official loader does."""
    put("ogbg-code2")
    dataset = OGBDataset("ogbg-code2")
    target = dataset.target(dataset.load())
    assert target.kind == "words" and target.outputs == 5 * 4
    assert target.y.tolist() == [[0, 1, 0, 3, 3], [2, 3, 3, 3, 3], [2, 0, 2, 3, 3]]
    assert target.evaluate.vocabulary == ["get", "config"]
    assert target.evaluate.lexicon == ["get", "config", "nan", "set", "of"]
    chosen = torch.tensor([[0, 3, 1, 3, 3], [2, 2, 3, 3, 3], [0, 1, 0, 1, 0]])
    scores = torch.nn.functional.one_hot(chosen, 4).float().reshape(3, -1)
    values = target.evaluate(target.references, scores)
    # {get} of {get, config}: precision 1, recall 1/2. An unknown word is never right. {get, config} of {set, get, of}.
    f1 = (2 / 3 + 0 + 0.4) / 3
    assert values == pytest.approx({"precision": 1.5 / 3, "recall": (1 / 2 + 1 / 3) / 3, "F1": f1})
    assert torch.equal(target.choose(scores), chosen)
    assert target.evaluate(target.references, chosen) == values
    with pytest.raises(ValueError, match="references"):
        target.evaluate(target.y, scores)


def test_the_vocabulary_is_that_of_the_baseline(monkeypatch: pytest.MonkeyPatch) -> None:
    """By frequency in the training part; of equals the one that is met first, in the order of the part."""
    monkeypatch.setattr(code2, "VOCABULARY", 3)
    words = np.array([4, 1, 1, 0, 3, 2, 2, 0, 5])
    start = np.array([0, 3, 5, 7, 9])
    assert code2.most_frequent(words, start, np.array([2, 0, 1]), 6).tolist() == [2, 1, 4]
    assert code2.most_frequent(words, start, np.array([0, 1, 2]), 6).tolist() == [1, 2, 4]
    assert code2.most_frequent(words, start, np.array([3]), 6).tolist() == [0, 5]


def test_next_tokens_stay_in_their_graph() -> None:
    """Against a loop over graphs."""
    generator = np.random.default_rng(0)
    sizes = generator.integers(1, 9, 40)
    graph, start = np.repeat(np.arange(40), sizes), np.cumsum(sizes) - sizes
    attributed = generator.random(len(graph)) < 0.6
    child = np.flatnonzero(np.arange(len(graph)) > start[graph])
    parent = start[graph[child]] + generator.integers(0, child - start[graph[child]])
    expected: dict[tuple[int, int], set[tuple[int, int]]] = {}
    for p, c in zip(parent, child, strict=True):
        expected.setdefault((p, c), set()).add((0, 0))
        expected.setdefault((c, p), set()).add((0, 1))
    for g in range(40):
        tokens = [n for n in range(start[g], start[g] + sizes[g]) if attributed[n]]
        for a, b in pairwise(tokens):
            expected.setdefault((a, b), set()).add((1, 0))
            expected.setdefault((b, a), set()).add((1, 1))
    edges, kinds = code2.with_next_tokens(np.stack([parent, child]), attributed, graph)
    assert any(len(held) == 2 for held in expected.values()) and edges.shape[1] == len(expected)
    for row, col, kind in zip(*edges, kinds, strict=True):
        assert np.array_equal(np.mean(list(expected[row, col]), axis=0), kind)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("block", [1, 2, 1 << 20])
def test_blocks_of_any_size_give_the_same(put: Put, monkeypatch: pytest.MonkeyPatch, name: str, block: int) -> None:
    folder = put(name)
    whole = OGBDataset(name).load().fingerprint()
    shutil.rmtree(folder / "parsed-v1")
    monkeypatch.setattr(ogb, "BLOCK", block)
    monkeypatch.setattr(ogb, "_PIECE", block)
    assert OGBDataset(name).load().fingerprint() == whole


def test_blocks() -> None:
    ends = [last for _, last in ogb.blocks(np.array([0, 5, ogb.BLOCK - 5, 1, 3 * ogb.BLOCK, 0, 2]))]
    assert ends == [3, 4, 5, 7]


# ---------------------------------------------------------------- where it comes from


def test_from_a_mirror_into_the_layout_of_ogb(mirrored: Put, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = mirrored("ogbg-molclintox")
    raw = OGBDataset("ogbg-molclintox").load()
    assert raw.provenance["kind"] == "mirror"
    assert raw.provenance["where"] == "ogb/graphproppred/csv_mol_download/clintox.zip"
    assert raw.provenance["sha256"] == fetch.file_sha256(archive)
    folder = cache / "ogb" / "ogbg_molclintox"
    held = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert {"RELEASE_v1.txt", "mapping/README.md", "raw/edge.csv.gz", "split/scaffold/test.csv.gz"} < set(held)
    monkeypatch.setattr(ogb, "parse", lambda *_: pytest.fail("parsed twice"))
    archive.unlink()
    again = OGBDataset("ogbg-molclintox").load()
    assert again.fingerprint() == raw.fingerprint() and again.provenance == raw.provenance


@pytest.mark.parametrize("beside", [False, True])
def test_an_archive_in_the_cache(mirrored: Put, cache: Path, monkeypatch: pytest.MonkeyPatch, beside: bool) -> None:
    archive = mirrored("ogbg-ppa")
    monkeypatch.delenv("POOLBENCH_MIRROR")
    place = cache / "ogb" if beside else cache / "ogb" / "ogbg_ppa"
    place.mkdir(parents=True)
    shutil.move(archive, place / "ogbg_ppi_medium.zip")
    raw = OGBDataset("ogbg-ppa").load()
    assert raw.num_graphs == 3 and raw.provenance["kind"] == "cache"


def test_other_files_are_parsed_anew(put: Put) -> None:
    put("ogbg-molclintox")
    first = OGBDataset("ogbg-molclintox").load()
    assert first.provenance["kind"] == "cache" and len(first.provenance["files_sha256"]) == 64
    put("ogbg-molclintox", **{"raw/edge-feat": "0,0,0\n1,0,1\n2,5,1\n"})
    assert OGBDataset("ogbg-molclintox").load().fingerprint() != first.fingerprint()


def test_a_damaged_parsed_form_is_made_anew(put: Put, cache: Path) -> None:
    put("ogbg-molclintox")
    whole = OGBDataset("ogbg-molclintox").load().fingerprint()
    path = cache / "ogb/ogbg_molclintox/parsed-v1/edge_index.npy"
    path.write_bytes(path.read_bytes()[:-8])
    assert OGBDataset("ogbg-molclintox").load().fingerprint() == whole
    assert blocks.read_folder(path.parent)[0].fingerprint() == whole


def test_a_large_dataset_is_mapped(mirrored: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    mirrored("ogbg-ppa")
    whole = OGBDataset("ogbg-ppa").load()
    monkeypatch.setattr(blocks, "IN_MEMORY", 0)
    mapped = OGBDataset("ogbg-ppa").load()
    assert mapped.fingerprint() == whole.fingerprint()
    assert torch.equal(mapped.edge_index, whole.edge_index)
    assert torch.equal(mapped.edge_attributes, whole.edge_attributes)


def test_a_cache_that_cannot_be_written_to(put: Put, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put("ogbg-molclintox")

    def refuse(*_: object) -> None:
        raise CacheNotWritable("cache folder cannot be written to")

    monkeypatch.setattr("poolbench.data.sources.archived.workspace", refuse)
    for limit in (0, 100):
        monkeypatch.setattr(blocks, "IN_MEMORY", limit)
        assert OGBDataset("ogbg-molclintox").load().edge_index.tolist()[0] == [0, 1, 1, 2, 4, 5]
    assert not (cache / "ogb/ogbg_molclintox/parsed-v1").exists()
    with pytest.raises(CacheNotWritable):
        OGBDataset("ogbg-molbace").load()


def test_prepare(put: Put, cache: Path) -> None:
    put("ogbg-molclintox")
    facts = prepare(OGBDataset("ogbg-molclintox"))
    assert (facts["graphs"], facts["node_labels"], facts["edge_labels"], facts["directed"]) == (3, 9, 3, False)
    assert facts["path"] == str(cache / "ogb/ogbg_molclintox")


# ---------------------------------------------------------------- what can be wrong


def refused(name: str) -> str:
    with pytest.raises(PoolBenchError) as caught:
        OGBDataset(name).load()
    assert "\n" not in str(caught.value) and f"dataset {name}" in str(caught.value)
    return str(caught.value)


def test_nowhere_to_be_had(cache: Path) -> None:
    text = refused("ogbg-molhiv")
    assert f"put hiv.zip into {cache / 'ogb/ogbg_molhiv'}" in text
    assert "POOLBENCH_MIRROR to a folder or URL that holds ogb/graphproppred/csv_mol_download/hiv.zip" in text
    assert "poolbench prepare dataset=ogbg-molhiv" in text
    with pytest.raises(PoolBenchError, match=r"did you mean ogbg-molhiv"):
        OGBDataset("ogbg-molhif")


def test_a_damaged_archive_leaves_nothing(mirrored: Put, cache: Path) -> None:
    archive = mirrored("ogbg-molclintox")
    archive.write_bytes(archive.read_bytes()[:-100])
    with pytest.raises(PoolBenchError, match=r"clintox.zip is corrupt"):
        OGBDataset("ogbg-molclintox").load()
    assert not (cache / "ogb").exists()


def test_an_archive_of_something_else(mirrored: Put, tmp_path: Path) -> None:
    archive = mirrored("ogbg-molclintox")
    other = tmp_path / "mirror/ogb/graphproppred/csv_mol_download"
    shutil.copy(archive, other / "hiv.zip")
    assert "raw/num-node-list.csv.gz has 3 lines, but ogbg-molhiv has 41127 graphs" in refused("ogbg-molhiv")
    with zipfile.ZipFile(other / "bace.zip", "w") as held:
        held.writestr("bace/readme.txt", "nothing")
    with pytest.raises(PoolBenchError, match=r"bace.zip holds no raw/num-node-list.csv.gz, so it is not ogbg-molbace"):
        OGBDataset("ogbg-molbace").load()


def test_files_that_are_not_complete(put: Put) -> None:
    folder = put("ogbg-molclintox")
    (folder / "split/scaffold/valid.csv.gz").unlink()
    assert "lacks split/scaffold/valid.csv.gz; complete the files" in refused("ogbg-molclintox")


@pytest.mark.parametrize(
    ("name", "changed", "text"),
    [
        ("ogbg-molclintox", {"raw/edge": "2,1\n0,1\n"}, "raw/edge.csv.gz has fewer lines"),
        ("ogbg-molclintox", {"raw/edge": "2,1\n0,1\n1,0\n0,1\n"}, "raw/edge.csv.gz has more lines"),
        ("ogbg-molclintox", {"raw/edge": "2,1\n0,1\n2,0\n"}, "has the edge [2, 0] in a graph of 2 nodes"),
        ("ogbg-molclintox", {"raw/edge": "2,1\n-1,1\n1,0\n"}, "has the edge [-1, 1] in a graph of 3 nodes"),
        ("ogbg-molclintox", {"raw/edge": "2,1,0\n0,1,0\n1,0,0\n"}, "has 3 columns, expected 2"),
        ("ogbg-molclintox", {"raw/edge": "2,1\n0,x\n1,0\n"}, "raw/edge.csv.gz cannot be read"),
        ("ogbg-molclintox", {"raw/edge": "2,1\n0\n1,0\n"}, "raw/edge.csv.gz cannot be read"),
        ("ogbg-molclintox", {"raw/node-feat": "1,2,3\n" * 6}, "raw/node-feat.csv.gz has 3 columns, expected 9"),
        ("ogbg-molclintox", {"raw/edge-feat": "0,0,0\n1,6,1\n3,5,1\n"}, "holds a number that is not from 0 to below"),
        ("ogbg-molclintox", {"raw/graph-label": "1,0\n0,1\n"}, "raw/graph-label.csv.gz has 2 lines"),
        ("ogbg-molclintox", {"raw/graph-label": "1,0\n2,0\n0,0\n"}, "neither 0 nor 1 nor empty"),
        ("ogbg-molclintox", {"raw/num-node-list": "3\n1\n"}, "has 2 lines, but ogbg-molclintox has 3 graphs"),
        ("ogbg-molclintox", {"raw/num-edge-list": "3\n-1\n1\n"}, "holds -1"),
        ("ogbg-molclintox", {"split/scaffold/test": "0\n"}, "names a graph that is in another part, or twice"),
        ("ogbg-molclintox", {"split/scaffold/test": "3\n"}, "names graph 3, but graphs are 0 to 2"),
        ("ogbg-molclintox", {"split/scaffold/test": "-1\n"}, "names graph -1, but graphs are 0 to 2"),
        ("ogbg-molclintox", {"raw/graph-label": "1,0\n1\n0,0\n"}, "has lines with fewer than 2 columns"),
        ("ogbg-molclintox", {"raw/num-node-list": f"3\n{2**62}\n2\n"}, f"holds {2**62}, which is no number of nodes"),
        ("ogbg-molclintox", {"raw/num-node-list": "1\n1\n" + "0" * (3 << 20)}, "lines are too long"),
        ("ogbg-ppa", {"raw/num-node-list": "2\n1000000000\n1\n"}, "says 1000000000 nodes of a graph with 2 edges"),
        ("ogbg-ppa", {"raw/edge-feat": "0,0,0,0,0,0,0\n" * 2 + "0,0,0,0,0,0,1e39\n"}, "no number of 32 bits"),
        ("ogbg-ppa", {"raw/graph-label": "37\n0\n0\n"}, "no class from 0 to 36"),
        ("ogbg-ppa", {"raw/edge-feat": "0,0,0,0,0,0,0\n0,0,0,0,0,0,\n0,0,0,0,0,0,0\n"}, "no number"),
        ("ogbg-code2", {"raw/graph-label": "get\n"}, "raw/graph-label.csv.gz has 1 lines"),
    ],
)
def test_malformed_files(put: Put, name: str, changed: Files, text: str) -> None:
    put(name, **changed)
    assert text in refused(name)


def test_a_file_that_is_cut(put: Put) -> None:
    folder = put("ogbg-molclintox")
    path = folder / "raw/node-feat.csv.gz"
    path.write_bytes(path.read_bytes()[:-12])
    assert "raw/node-feat.csv.gz cannot be read" in refused("ogbg-molclintox")


# ---------------------------------------------------------------- metrics


@pytest.mark.parametrize(
    ("name", "function"), [("ogbg-molhiv", roc_auc_score), ("ogbg-molmuv", average_precision_score)]
)
def test_metrics_of_answers(name: str, function: Callable[..., float]) -> None:
    generator = torch.Generator().manual_seed(0)
    facts = OGB_NAMES[name]
    y = torch.randint(0, 2, (30, facts.tasks), generator=generator).float()
    scores = torch.randn(30, facts.tasks, generator=generator)
    y[::4, 0] = float("nan")
    each = [
        function(t[~torch.isnan(t)].numpy(), s[~torch.isnan(t)].numpy()) for t, s in zip(y.T, scores.T, strict=True)
    ]
    metric = official.OGBMetric(name, facts.metric)
    assert metric(y, scores) == {facts.metric: pytest.approx(np.mean(each), abs=1e-12)}
    if facts.metric == "ap":  # LRGB computes it in the same way
        assert official.MeanAveragePrecision("peptides-func")(y, scores) == pytest.approx(metric(y, scores), abs=1e-12)


def test_root_mean_squared_error() -> None:
    metric = official.OGBMetric("ogbg-molesol", "rmse")
    assert metric(torch.tensor([[1.0], [2.0]]), torch.tensor([[1.0], [5.0]])) == {"rmse": pytest.approx(4.5**0.5)}


@pytest.mark.parametrize("metric", [official.OGBMetric("ogbg-molhiv", "rocauc"), official.MeanAveragePrecision("set")])
def test_a_metric_that_is_not_defined_is_nan(metric: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            (value,) = metric(torch.ones(4, 1), torch.rand(4, 1)).values()
            assert np.isnan(value)
        assert len(caplog.records) == 1 and "no task has both answers" in caplog.text
        (value,) = metric(torch.tensor([[1.0], [0.0]]), torch.tensor([[0.0], [float("nan")]])).values()
        assert np.isnan(value) and "predictions are not finite" in caplog.text


def test_the_evaluator_asks_nobody() -> None:
    """No thread, no import of ogb (which asks PyPI), nothing printed, nothing read."""
    code = (
        "import sys, threading, torch\n"
        "from poolbench.data.sources.official import OGBMetric\n"
        "value = OGBMetric('ogbg-molhiv', 'rocauc')(torch.tensor([[0.0], [1.0]]), torch.tensor([[0.0], [1.0]]))\n"
        "assert threading.active_count() == 1 and not {'ogb', 'outdated', 'dgl'} & set(sys.modules)\n"
        "print(value)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "{'rocauc': 1.0}\n", "")


# ---------------------------------------------------------------- facts of the ogb package


def test_vocabularies_are_those_of_ogb() -> None:
    features = official.ogb_module("utils/features")
    assert list(molecules.ATOM.values()) == features.get_atom_feature_dims()
    assert list(molecules.BOND.values()) == features.get_bond_feature_dims()


def test_names_are_those_of_ogb() -> None:
    path = Path(official.ogb_module("graphproppred/evaluate").__file__).with_name("master.csv")
    rows = {row[0]: row[1:] for row in csv.reader(path.open())}
    master = {name: {key: rows[key][k] for key in rows} for k, name in enumerate(rows[""])}
    kinds = {"binary classification": "binary", "regression": "numbers", "multiclass classification": "classes",
             "subtoken prediction": "words"}  # fmt: skip
    assert set(master) == set(OGB_NAMES)
    for name, facts in OGB_NAMES.items():
        row = master[name]
        assert row["url"] == f"http://snap.stanford.edu/ogb/data/{facts.archive}"
        assert (int(row["num tasks"]), row["eval metric"], row["split"]) == (facts.tasks, facts.metric, facts.split)
        assert kinds[row["task type"]] == facts.kind and row["binary"] == "False"
        assert (row["add_inverse_edge"] == "True") == (facts.kind != "words")
        assert Path(facts.archive).stem == row["download_name"]


# ---------------------------------------------------------------- configuration


@pytest.mark.parametrize("chosen", [["dataset=ogb", "dataset.name=ogbg-molhiv"], ["dataset=ZINC"],
                                    ["dataset=peptides-func"], ["dataset=peptides-struct"]])  # fmt: skip
def test_the_official_split_comes_with_the_dataset(chosen: list[str]) -> None:
    with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = hydra.compose("train", overrides=chosen)
        other = hydra.compose("train", overrides=[*chosen, "protocol=holdout"])
    assert config.protocol._target_.endswith(".Official") and other.protocol._target_.endswith(".Holdout")
    dataset = build_dataset(Part.of("dataset", OmegaConf.to_container(config.dataset)))
    assert dataset.name == chosen[-1].partition("=")[2]


# ---------------------------------------------------------------- real data

needs_mirror = [
    pytest.mark.mirror,
    pytest.mark.skipif(not os.environ.get("POOLBENCH_MIRROR"), reason="POOLBENCH_MIRROR is not set"),
]

# parts, mean nodes, mean undirected edges, positive answers in all and in the test part (or mean, std)
OFFICIAL = {
    "ogbg-molhiv": ((32901, 4113, 4113), 25.51, 27.47, (1443, 130)),
    "ogbg-molbace": ((1210, 151, 152), 34.09, 36.86, (691, 81)),
    "ogbg-molbbbp": ((1631, 204, 204), 24.06, 25.95, (1560, 108)),
    "ogbg-molesol": ((902, 113, 113), 13.29, 13.68, (-3.0501, 2.0964)),
}


@pytest.mark.parametrize("name", [pytest.param(name, marks=needs_mirror) for name in OFFICIAL])
def test_statistics_are_the_official_ones(name: str) -> None:
    dataset = OGBDataset(name)
    raw = dataset.load()
    stats, target = raw.stats(), dataset.target(raw)
    parts, nodes, edges, labels = OFFICIAL[name]
    assert (stats["graphs"], target.y.shape) == (sum(parts), (sum(parts), 1))
    assert (round(stats["mean_nodes"], 2), round(stats["mean_edges"], 2)) == (nodes, edges) and not stats["directed"]
    split = dataset.official_split(raw)
    assert tuple(part.numel() for part in split.values()) == parts
    assert torch.cat(list(split.values())).sort().values.equal(torch.arange(sum(parts)))
    if target.kind == "binary":
        assert (int(target.y.sum()), int(target.y[split["test"]].sum())) == labels
    else:
        assert (round(float(target.y.mean()), 4), round(float(target.y.std()), 4)) == labels


@pytest.mark.parametrize("name", [pytest.param(name, marks=needs_mirror) for name in ("ogbg-molesol", "ogbg-molbace")])
def test_content_is_that_of_the_official_loader(name: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = OGBDataset(name).load()
    compare(raw, official_loader(name, cache, monkeypatch))


@pytest.mark.parametrize("name", ["ogbg-molclintox", "ogbg-ppa"])
def test_generated_content_is_that_of_the_official_loader(
    mirrored: Put, name: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirrored(name)
    raw = OGBDataset(name).load()
    compare(raw, official_loader(name, cache, monkeypatch))


def test_trees_and_words_are_those_of_the_official_loader(
    mirrored: Put, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirrored("ogbg-code2")
    dataset = OGBDataset("ogbg-code2")
    raw = dataset.load()
    metric = dataset.target(raw).evaluate
    node = 0
    tree = raw.edge_attributes[:, 1] + (raw.edge_attributes[:, 0] == 1) == 0
    edges = set(zip(*raw.edge_index[:, tree].tolist(), strict=True))
    for k, graph in enumerate(official_loader("ogbg-code2", cache, monkeypatch)):
        n = graph.num_nodes
        assert torch.equal(raw.node_labels[node : node + n], torch.cat([graph.x, graph.node_depth], dim=1))
        for row, col in (graph.edge_index + node).T.tolist():
            edges.remove((row, col))
        assert metric._label(k) == graph.y
        node += n
    assert not edges and node == raw.total_nodes


def official_loader(name: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """OGB's own dataset, which finds the files that ours has put into the cache."""
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    monkeypatch.setenv("OUTDATED_IGNORE", "1")
    monkeypatch.setitem(sys.modules, "outdated", None)  # no thread that asks PyPI
    from ogb.graphproppred import PygGraphPropPredDataset
    from torch_geometric.data.data import DataEdgeAttr, DataTensorAttr
    from torch_geometric.data.storage import GlobalStorage

    with torch.serialization.safe_globals([DataEdgeAttr, DataTensorAttr, GlobalStorage]):
        return PygGraphPropPredDataset(name, root=str(cache / "ogb"))


def compare(raw: RawGraphs, theirs: Any) -> None:
    assert len(theirs) == raw.num_graphs
    features = raw.edge_attributes if raw.edge_labels is None else raw.edge_labels
    node = edge = 0
    for k, graph in enumerate(theirs):
        n, e = graph.num_nodes, graph.num_edges
        order = (graph.edge_index[0] * n + graph.edge_index[1]).argsort()
        assert raw.num_nodes[k] == n and torch.equal(
            raw.edge_index[:, edge : edge + e] - node, graph.edge_index[:, order]
        )
        assert torch.equal(features[edge : edge + e], graph.edge_attr[order])
        if raw.node_labels is not None:
            assert torch.equal(raw.node_labels[node : node + n], graph.x)
        mine = raw.targets[k] if raw.y is None else raw.y[k : k + 1]
        torch.testing.assert_close(mine.to(graph.y.dtype), graph.y[0], rtol=0, atol=0, equal_nan=True)
        node, edge = node + n, edge + e
    assert (node, edge) == (raw.total_nodes, raw.num_edges)
    parts = theirs.get_idx_split()
    for mine, name in ((raw.train, "train"), (raw.val, "valid"), (raw.test, "test")):
        assert torch.equal(mine, parts[name])
