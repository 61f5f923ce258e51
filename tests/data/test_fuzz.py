"""Files with mutations: whatever is read from outside comes out sound, or is refused in one line, in bounded memory."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import tracemalloc
import zipfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from poolbench.data.blocks import GraphWriter, read_folder
from poolbench.data.raw import ARRAYS, RawGraphs
from poolbench.data.sources import bench_dataset, fetch, lrgb, ogb, tu, unpickle, zinc
from poolbench.data.sources.bench_dataset import BenchDataset
from poolbench.data.sources.lrgb import Peptides
from poolbench.data.sources.nodegraphs import PLANETOID_PARTS, NodeGraph
from poolbench.data.sources.ogb_names import OGB_NAMES
from poolbench.data.sources.unpack import unpack
from poolbench.data.sources.zinc import ZINC
from poolbench.errors import PoolBenchError


def examples(fast: int, slow: int) -> pytest.MarkDecorator:
    """How many mutations are tried: `fast` of them each time, `slow` where slow tests are asked for."""
    more = pytest.param(slow, marks=[pytest.mark.slow, pytest.mark.timeout(900)])
    return pytest.mark.parametrize("examples", [fast, more])


RATIO, SPARE = 100, 128 << 20
"""Memory that reading may take: so many times the file, and what reading the smallest one takes: text is read in
pieces of 32 MiB, and LZMA may have a dictionary of 64."""

WORDS = (b"nan", b"-inf", b"1e39", b"1e19", b"9223372036854775807", b"-", b"0", b"-1", b"1.5", b"x", b"", b"\n", b", ")
NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF_FFFF, 0xFFFF_FFFF, 2**63 - 1, 2**64 - 1)


@st.composite
def mutated(draw: st.DrawFn, content: bytes) -> bytes:
    """`content` with one to four bytes, numbers, words or pieces changed, doubled or cut."""
    for _ in range(draw(st.integers(1, 4))):
        at, size = draw(st.integers(0, len(content))), draw(st.integers(0, 16))
        piece = content[at : at + size]
        number = draw(st.sampled_from(NUMBERS)).to_bytes(8, "little")[: draw(st.sampled_from((1, 2, 4, 8)))]
        new, gone = draw(
            st.sampled_from(
                (
                    (bytes([draw(st.integers(0, 255))]), 1),
                    (number, len(number)),
                    (draw(st.sampled_from(WORDS)), draw(st.integers(0, 3))),
                    (piece + piece, size),
                    (b"", size),
                    (b"", len(content) if draw(st.integers(0, 9)) == 0 else 1),
                )
            )
        )
        content = content[:at] + new + content[at + gone :]
    return content


def tried(read: Callable[[], object], size: int) -> object | None:
    """What `read` makes of a file of `size` bytes; None where it refuses, as it may, and says so as it must."""
    tracemalloc.start()
    try:
        return read()
    except PoolBenchError as error:
        text = str(error)
        assert text.isprintable() and 20 < len(text) < 1500, text
        return None
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < RATIO * size + SPARE, f"{peak} bytes of memory for {size} bytes"


def check(raw: RawGraphs) -> None:
    """Raises `AssertionError` where what was read is not as `RawGraphs` promises."""
    n, e, g = raw.total_nodes, raw.num_edges, raw.num_graphs
    assert raw.num_nodes.dtype == torch.int64 and bool((raw.num_nodes >= 0).all())
    row, col = raw.edge_index
    keys = row * max(n, 1) + col
    assert bool((keys.diff() > 0).all()) and not bool((row == col).any())
    assert e == 0 or (int(raw.edge_index.min()) >= 0 and int(raw.edge_index.max()) < n)
    graph = torch.repeat_interleave(torch.arange(g), raw.num_nodes)
    assert torch.equal(graph[row], graph[col])
    for key in ARRAYS:
        held = getattr(raw, key)
        rows = {"node": n, "edge": e}.get(key.partition("_")[0])
        if held is not None and key != "edge_index" and rows is not None:
            assert len(held) == rows
        if held is not None and held.is_floating_point():
            assert not bool(torch.isinf(held).any()) and (key == "targets" or bool(torch.isfinite(held).all()))
    for labels, count in ((raw.y, g), (raw.node_y, n)):
        assert labels is None or (len(labels) == count and not bool((labels < 0).any()))
    for part in (raw.train, raw.val, raw.test):
        assert part is None or part.numel() == 0 or (int(part.min()) >= 0 and int(part.max()) < g)


def fuzz(examples: int, content: bytes, read: Callable[[bytes], object]) -> None:
    """Mutations of `content` through `read`, and once as it is, which must be read."""

    @settings(max_examples=examples, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(mutated(content))
    def run(changed: bytes) -> None:
        found = tried(lambda: read(changed), len(changed))
        if isinstance(found, RawGraphs):
            check(found)

    read(content)
    run()


# ---------------------------------------------------------------- TU

TEXT = {
    "A": b"1, 2\n2, 1\n2, 3\n3, 2\n3, 1\n1, 3\n4, 5\n5, 4\n",
    "graph_indicator": b"1\n1\n1\n2\n2\n3\n",
    "graph_labels": b"-1\n1\n-1\n",
    "node_labels": b"3\n5\n3\n4\n4\n3\n",
    "node_attributes": b"0.5, 1\n1.5, 2\n2.5, 3\n3.5, 4\n4.5, 5\n5.5, 6\n",
    "edge_labels": b"1\n1\n0\n0\n2\n2\n1\n1\n",
}


def put(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def archive(files: dict[str, bytes], packing: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", packing) as held:
        for name, content in files.items():
            held.writestr(name, content)
    return buffer.getvalue()


@examples(15, 400)
@pytest.mark.parametrize("kind", TEXT)
@pytest.mark.parametrize("name", ["TINY", "mit_ct1"])
def test_tu_text(tmp_path: Path, kind: str, name: str, examples: int) -> None:
    labels = b"0, 3, 4, 5\n" + b"0, 3\n" * 5
    files = {**TEXT, "node_labels": labels} if name == "mit_ct1" else TEXT
    folder = put(tmp_path, {f"{name}_{key}.txt": content for key, content in files.items()})

    def read(content: bytes) -> RawGraphs:
        (folder / f"{name}_{kind}.txt").write_bytes(content)
        return tu.parse(name, folder)

    fuzz(examples, files[kind], read)


@examples(25, 1000)
@pytest.mark.parametrize("packing", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_tu_archives(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, packing: int, examples: int) -> None:
    whole = archive({f"TINY/TINY_{kind}.txt": content for kind, content in TEXT.items()}, packing)

    def read(content: bytes) -> RawGraphs:
        (tmp_path / "TINY.zip").write_bytes(content)
        folder = tmp_path_factory.mktemp("files") / "raw"
        unpack(fetch.Archive(tmp_path / "TINY.zip", {}, "TINY.zip"), folder, lambda name: name.startswith("TINY_"))
        return tu.parse("TINY", folder)

    fuzz(examples, whole, read)


# ---------------------------------------------------------------- pickles and npz

FEATURES = np.array([[1, 0], [0, 1], [1, 1], [0, 2], [2, 0], [3, 1]], dtype=np.float32)
ONE_HOT = np.eye(2, dtype=np.int32)[[0, 1, 1, 0, 0, 1]]


def planetoid(protocol: int) -> dict[str, bytes]:
    graph = defaultdict(list, {0: [1, 1, 0], 1: [0, 2], 2: [1], 3: [5], 5: [3], 4: []})
    parts = {
        "x": sp.csr_matrix(FEATURES[:2]), "allx": sp.csr_matrix(FEATURES[:3]), "tx": sp.csr_matrix(FEATURES[[4, 3, 5]]),
        "y": ONE_HOT[:2], "ally": ONE_HOT[:3], "ty": ONE_HOT[[4, 3, 5]], "graph": graph,
    }  # fmt: skip
    files = {f"ind.cora.{part}": pickle.dumps(value, protocol=protocol) for part, value in parts.items()}
    return {**files, "ind.cora.test.index": b"4\n3\n5\n"}


@examples(15, 300)
@pytest.mark.parametrize("part", PLANETOID_PARTS)
@pytest.mark.parametrize("protocol", [2, 4])
def test_planetoid(tmp_path: Path, part: str, protocol: int, examples: int) -> None:
    folder = put(tmp_path, planetoid(protocol))

    def read(content: bytes) -> RawGraphs:
        (folder / f"ind.cora.{part}").write_bytes(content)
        return NodeGraph("Cora").parse(folder)

    fuzz(examples, planetoid(protocol)[f"ind.cora.{part}"], read)


def saved(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


@examples(40, 2000)
def test_npz_graphs(tmp_path: Path, examples: int) -> None:
    adjacency, words = sp.csr_matrix(np.eye(4)[[1, 2, 3, 0]]), sp.csr_matrix(FEATURES[:4])
    held: dict[str, np.ndarray] = {"labels": np.array([0, 1, 1, 0])}
    for name, matrix in (("adj", adjacency), ("attr", words)):
        parts = ("data", "indices", "indptr", "shape")
        held |= {f"{name}_{part}": np.asarray(getattr(matrix, part)) for part in parts}

    def read(content: bytes) -> RawGraphs:
        (tmp_path / "dblp.npz").write_bytes(content)
        return NodeGraph("DBLP").parse(tmp_path)

    fuzz(examples, saved(**held), read)


def objects(values: list) -> np.ndarray:
    held = np.empty(len(values), dtype=object)
    held[:] = values
    return held


@examples(40, 2000)
def test_npz_objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, examples: int) -> None:
    monkeypatch.setitem(bench_dataset.BENCH, "Bench-easy-small", ("easy_small.npz", (2, 1, 1)))
    held: dict[str, np.ndarray] = {}
    for part, numbers in (("tr", [0, 1]), ("val", [2]), ("te", [3])):
        held[f"{part}_adj"] = objects([sp.csr_matrix(np.ones((3, 3)) - np.eye(3)) for _ in numbers])
        held[f"{part}_feat"] = objects([np.eye(5, dtype=np.float32)[[k % 3, 4, 0]] for k in numbers])
        held[f"{part}_class"] = np.eye(3, dtype=np.float32)[[k % 3 for k in numbers]]

    def read(content: bytes) -> RawGraphs:
        (tmp_path / "easy_small.npz").write_bytes(content)
        return BenchDataset("Bench-easy-small").parse(tmp_path)

    fuzz(examples, saved(**held), read)


@examples(40, 2000)
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_pickles(protocol: int, examples: int) -> None:
    """Arrays of every kind, without the zip around them whose checksums catch most."""
    held = [
        np.arange(6.0).reshape(2, 3),
        np.array([True, False]),
        np.arange(4, dtype=">i4"),
        objects([np.ones(2), "a"]),
        1,
    ]
    held.append({"a": [b"\0\xff", ()]} if protocol == 0 else sp.csr_matrix(FEATURES))
    fuzz(examples, pickle.dumps(held, protocol), lambda content: unpickle.load(io.BytesIO(content), "some file.x"))


# ---------------------------------------------------------------- OGB, ZINC, LRGB

OGB_TEXT = {
    "raw/num-node-list": b"3\n1\n2\n",
    "raw/num-edge-list": b"2\n0\n1\n",
    "raw/edge": b"2,1\n0,1\n1,0\n",
    "raw/node-feat": b"5,0,2,5,0,0,1,0,1\n" * 6,
    "raw/edge-feat": b"0,0,0\n1,0,1\n3,5,1\n",
    "raw/graph-label": b"1.0,0.0\n,1.0\n0.0,\n",
    "split/scaffold/train": b"2\n",
    "split/scaffold/valid": b"0\n",
    "split/scaffold/test": b"1\n",
}


@examples(5, 100)
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", OGB_TEXT)
def test_ogb(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch,
    kind: str, packed: bool, examples: int,
) -> None:  # fmt: skip
    """The text in the file, and the file around the text."""
    monkeypatch.setitem(OGB_NAMES, "ogbg-molclintox", OGB_NAMES["ogbg-molclintox"]._replace(graphs=3))
    files = {f"{key}.csv.gz": gzip.compress(content, mtime=0) for key, content in OGB_TEXT.items()}
    folder = put(tmp_path, files)

    def read(content: bytes) -> RawGraphs:
        (folder / f"{kind}.csv.gz").write_bytes(content if packed else gzip.compress(content, 1, mtime=0))
        out = GraphWriter(tmp_path_factory.mktemp("parsed") / "new")
        ogb.parse("ogbg-molclintox", folder, out)
        out.close("ogbg-molclintox", {})
        return read_folder(out.folder)[0]

    fuzz(examples, files[f"{kind}.csv.gz"] if packed else OGB_TEXT[kind], read)


@examples(40, 2000)
def test_zinc(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, examples: int
) -> None:
    monkeypatch.setattr(zinc, "PARTS", {"train": 1})
    bond = torch.tensor([[0, 1, 0], [1, 0, 2], [0, 2, 0]], dtype=torch.int32)
    molecule = {"atom_type": torch.tensor([1, 2, 3]), "bond_type": bond, "logP_SA_cycle_normalized": torch.ones(1)}
    put(tmp_path / "raw", {"train.index": b"0\n"})

    def read(content: bytes) -> RawGraphs:
        (tmp_path / "raw/train.pickle").write_bytes(content)
        out = GraphWriter(tmp_path_factory.mktemp("parsed") / "new")
        ZINC().parse(tmp_path, "molecules.zip", out)
        out.close("ZINC", {})
        return read_folder(out.folder)[0]

    fuzz(examples, pickle.dumps([molecule]), read)


@examples(40, 2000)
def test_lrgb(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, examples: int
) -> None:
    monkeypatch.setattr(lrgb, "PARTS", {"train": 1})
    graph = (
        torch.ones(2, 9, dtype=torch.int64), torch.ones(2, 3, dtype=torch.int64), torch.tensor([[0, 1], [1, 0]]),
        torch.ones(1, 10),
    )  # fmt: skip
    buffer = io.BytesIO()
    torch.save([graph], buffer)
    (tmp_path / "raw").mkdir()

    def read(content: bytes) -> RawGraphs:
        (tmp_path / "raw/train.pt").write_bytes(content)
        out = GraphWriter(tmp_path_factory.mktemp("parsed") / "new")
        Peptides("peptides-func").parse(tmp_path, "peptidesfunc.zip", out)
        out.close("peptides-func", {})
        return read_folder(out.folder)[0]

    fuzz(examples, buffer.getvalue(), read)


# ---------------------------------------------------------------- what is said of files


@examples(100, 4000)
def test_manifests(caplog: pytest.LogCaptureFixture, examples: int) -> None:
    entry = {"name": "MUTAG", "path": "TUDataset/MUTAG.zip", "sha256": "0f" * 32, "bytes": 123}

    def read(content: bytes) -> None:
        fetch._unlisted.cache_clear()
        caplog.clear()
        listing = fetch._listing(content, "manifest.json")
        assert bool(listing) or not caplog.records or caplog.records[0].getMessage().isprintable()
        for path, held in listing.items():
            assert isinstance(path, str) and (held.bytes is None or held.bytes >= 0)
            assert held.sha256 is None or len(held.sha256) == 64

    fuzz(examples, json.dumps({"format": 1, "entries": [entry, {**entry, "path": "ü"}]}).encode(), read)


@examples(25, 1000)
@pytest.mark.parametrize("file", ["meta.json", "num_nodes.npy", "edge_index.npy"])
def test_parsed_folders(tmp_path: Path, file: str, examples: int) -> None:
    """A damaged one is not taken for a dataset: it has its fingerprint."""
    out = GraphWriter(tmp_path / "parsed")
    out.add(np.array([2, 1]), np.array([[0, 1], [1, 0]]))
    out.close("TINY", {"kind": "mirror"})
    whole = read_folder(out.folder)[0].fingerprint()

    def read(content: bytes) -> RawGraphs:
        (out.folder / file).write_bytes(content)
        raw = read_folder(out.folder)[0]
        assert raw.fingerprint() == whole
        return raw

    fuzz(examples, (out.folder / file).read_bytes(), read)
