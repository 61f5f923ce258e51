"""Pickles that ask for more than arrays are refused before anything of them runs."""

from __future__ import annotations

import collections
import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from poolbench.data.sources import unpickle
from poolbench.errors import PoolBenchError


class Harmful:
    """Its pickle, when loaded by the ordinary means, makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return open, (str(self.path), "w")


def pickled(value: object, protocol: int = 2) -> io.BytesIO:
    return io.BytesIO(pickle.dumps(value, protocol=protocol))


@pytest.mark.parametrize("protocol", range(5))
def test_arrays_matrices_lists_and_dictionaries_come_back(protocol: int) -> None:
    # Protocols 0 and 1 make objects by a function that makes anything: sparse matrices need 2, as old files have it.
    matrix = sp.csr_matrix([[0.0, 2.0], [3.0, 0.0]]) if protocol > 1 else None
    held = {"x": np.arange(6.0).reshape(2, 3), "a": matrix, "s": ["ü", 1]}
    back = unpickle.load(pickled(held, protocol), "f")
    assert back["x"].tolist() == held["x"].tolist() and back["s"] == held["s"]
    assert matrix is None or (back["a"].toarray() == matrix.toarray()).all()
    graph = collections.defaultdict(list, {0: [1], 1: [0]})
    assert unpickle.load(pickled(graph, max(protocol, 2)), "f") == graph


def test_old_names_of_scipy_and_numpy_are_known() -> None:
    matrix = sp.csr_matrix([[0.0, 2.0], [3.0, 0.0]])
    text = pickle.dumps(matrix, protocol=2)
    for new, old in ((b"cscipy.sparse._csr\n", b"cscipy.sparse.csr\n"), (b"cnumpy._core.", b"cnumpy.core.")):
        text = text.replace(new, old)
    assert b"scipy.sparse.csr\n" in text
    assert (unpickle.load(io.BytesIO(text), "f").toarray() == matrix.toarray()).all()


def test_a_harmful_pickle_does_nothing(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    with pytest.raises(PoolBenchError, match=r"file\.x is no pickle of arrays \(it asks for \w+\.open"):
        unpickle.load(pickled(Harmful(trace)), "file.x")
    assert not trace.exists()
    inside = np.empty(1, dtype=object)
    inside[0] = Harmful(trace)
    np.savez(tmp_path / "f.npz", x=inside)
    with pytest.raises(PoolBenchError, match="which no dataset needs"):
        unpickle.load_npz(tmp_path / "f.npz", ("x",))
    assert not trace.exists()


@pytest.mark.parametrize("name", ["eval", "exec", "getattr", "__import__"])
def test_builtins_are_refused(name: str) -> None:
    with pytest.raises(PoolBenchError, match=f"builtins.{name}"):
        unpickle.load(io.BytesIO(f"cbuiltins\n{name}\n.".encode()), "f")


def test_text_of_another_encoding_is_refused() -> None:
    text = b"c_codecs\nencode\n(Va\nVrot13\ntR."
    with pytest.raises(PoolBenchError, match="rot13"):
        unpickle.load(io.BytesIO(text), "f")


def test_npz_with_and_without_objects(tmp_path: Path) -> None:
    objects = np.empty(2, dtype=object)
    objects[:] = [np.ones(3), sp.csr_matrix([[1.0]])]
    np.savez(tmp_path / "f.npz", plain=np.arange(4), objects=objects)
    held = unpickle.load_npz(tmp_path / "f.npz", ("plain", "objects"))
    assert held["plain"].tolist() == [0, 1, 2, 3]
    assert held["objects"][0].tolist() == [1, 1, 1] and held["objects"][1].nnz == 1
    with pytest.raises(PoolBenchError, match="holds no array other"):
        unpickle.load_npz(tmp_path / "f.npz", ("other",))


def test_a_damaged_file(tmp_path: Path) -> None:
    np.savez(tmp_path / "f.npz", x=np.arange(1000))
    whole = (tmp_path / "f.npz").read_bytes()
    for broken in (whole[:500], b"", b"text", whole[:200] + b"\0" * 50 + whole[250:]):
        (tmp_path / "f.npz").write_bytes(broken)
        with pytest.raises(PoolBenchError, match=r"f\.npz.*(damaged|no pickle)"):
            unpickle.load_npz(tmp_path / "f.npz", ("x",))


def test_sizes_are_looked_at_before_anything_is_read(tmp_path: Path) -> None:
    """Of an archive that would grow, and of an array that says it has more than it brings."""
    with zipfile.ZipFile(tmp_path / "f.npz", "w", zipfile.ZIP_DEFLATED) as held:
        held.writestr("x.npy", b"\0" * (65 << 20))
    with pytest.raises(PoolBenchError, match=r"f\.npz .* would unpack to 68157440 bytes, which no dataset does"):
        unpickle.load_npz(tmp_path / "f.npz", ("x",))
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "<f8", "fortran_order": False, "shape": (10**12,)})
    with zipfile.ZipFile(tmp_path / "f.npz", "w") as held:
        held.writestr("x.npy", buffer.getvalue() + b"\0" * 16)
    with pytest.raises(
        PoolBenchError, match=r"f\.npz \(x\) is damaged \(16 bytes as an array of shape \(1000000000000,\)"
    ):
        unpickle.load_npz(tmp_path / "f.npz", ("x",))


ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntVb\ntR"
"""The beginning of an array's pickle: its state and `b` are to follow."""
TYPE = b"cnumpy\ndtype\n(V%s\nI0\nI1\ntR"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        # NumPy, given the next two, reads outside its memory.
        (ARRAY + b"(I1\n(I1000000\nt" + TYPE % b"O8" + b"I00\n(lI1\natb.", "1 objects as an array"),
        (ARRAY + b"(I1\n(I1000000\nt" + TYPE % b"f8" + b"I00\nVab\ntb.", "2 bytes as an array of shape"),
        (ARRAY + b"(I1\n(I-1\nt" + TYPE % b"f8" + b"I00\nVab\ntb.", "and the shape"),
        (ARRAY + b"(I1\n(I1\nt" + TYPE % b"V100" + b"I00\nVab\ntb.", "an array of the type 'V100'"),
        (ARRAY + b"(I1\n(I2\nt" + TYPE % b"b1" + b"I00\nVab\ntb.", "neither true nor false"),
        (ARRAY + b".", "has no attribute 'state'"),
        (b"cnumpy\nndarray\n(I1000000000\ntR.", "takes no arguments"),
        (b"c__builtin__\nbytes\n(I1000000000000\ntR.", "takes 0 positional arguments"),
        (b"cnumpy\nndarray\n(N(dV__setstate__\nI1\nstb.", "missing 1 required positional argument"),
        (TYPE % b"f8" + b".", "a type without an array"),
        (b"]r\xff\xff\xff\x7f.", "a number beyond its own size"),
        (b"]p2000000000\n.", "a number beyond its own size"),
        (b"]" * 100_000 + b"a" * 99_999 + b".", "recursion"),
        (b"\x80\x02X\xff\xff\xff\x7fabc.", "too early"),
        (b"\xfe", "no operation 254"),
        (b"", "too early"),
        (b"c" + b"m" * 10_000 + b"\nx\n.", r"mmm\.\.\."),
        (b"c\x1b[31m\nx\n.", r"\\x1b\[31m\.x"),
    ],
)
def test_pickles_that_lie(text: bytes, why: str) -> None:
    with pytest.raises(PoolBenchError, match=why) as caught:
        unpickle.load(io.BytesIO(text), "file.x")
    assert str(caught.value).isprintable() and len(str(caught.value)) < 500


def test_what_is_said_once_and_meant_many_times() -> None:
    """10,000 arrays of the same 100,000 bytes."""
    shared = b"\x80\x02X\xa0\x86\x01\x00" + b"a" * 100_000 + b"q\x00(l" + TYPE % b"i1" + b"q\x010"
    once = ARRAY + b"(I1\n(I100000\nth\x01I00\nh\x00tba"
    assert len(unpickle.load(io.BytesIO(shared + once * 3 + b"."), "file.x")) == 3
    with pytest.raises(PoolBenchError, match="it grows to more than 16 times its size"):
        unpickle.load(io.BytesIO(shared + once * 10_000 + b"."), "file.x")
