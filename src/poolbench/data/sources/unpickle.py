"""Pickles of arrays and sparse matrices, read without running what a pickle may ask to run.

Old datasets are pickles of NumPy arrays, SciPy matrices and dictionaries. A pickle can name any function and call it;
here it may name the few that those need, and every other name is refused before anything of it is imported. Even of
those it gets stand-ins, which hold what it says: NumPy, given the state of an array that lies about its size, reads
outside its memory. The arrays and matrices are made afterwards, of parts that were checked.

What is read takes at most some 20 times the memory of its file (`_ROOM`).
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import re
import zipfile
from mmap import mmap
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import scipy.sparse as sp

from poolbench.data.sources import zips
from poolbench.data.sources.unsound import said
from poolbench.errors import PoolBenchError

Array = np.ndarray[Any, np.dtype[Any]]

_NUMBERS = "biuf"
"""Kinds of NumPy types that are read."""
_ROOM = 16
"""What is made of a pickle may have so many times its bytes. It may say one thing once, and mean it a million times."""
_MAX_RATIO, _RATIO_FREE = 50, 1 << 26
"""What the arrays of an npz file may have in bytes: so many times the file's, or this."""


def load(file: BinaryIO, origin: str) -> Any:
    """What the pickle in `file` holds; strings of Python 2 are taken as latin1. `origin` is its name for messages.

    Raises `PoolBenchError` where it is no pickle, or asks for anything but arrays of numbers, CSR matrices, lists and
    dictionaries, or one of those is not sound.
    """
    content = file.read()
    try:
        check_memo(content)
        room = _Room(_ROOM * len(content))
        return room.made(_Unpickler(io.BytesIO(content), room).load())
    except Exception as error:  # a damaged pickle raises whatever its bytes happen to mean
        raise PoolBenchError(f"{origin} is no pickle of arrays ({said(error)}); fetch it again") from error


def load_npz(path: Path, names: tuple[str, ...]) -> dict[str, Array]:
    """The arrays `names` of an npz file; those of objects are unpickled as `load` does.

    Raises `PoolBenchError` where the file is damaged, lacks one of them, or would grow to an implausible size.
    """
    try:
        with zips.opened(path) as held:
            members = {name: _member(held, name, path) for name in names}
            size, packed = sum(member.file_size for member in members.values()), path.stat().st_size
            if size > max(_RATIO_FREE, _MAX_RATIO * packed):
                raise PoolBenchError(
                    f"{path} ({packed} bytes) would unpack to {size} bytes, which no dataset does; fetch it again"
                )
            return {
                name: _array(b"".join(zips.blocks(held, member)), f"{path} ({name})")
                for name, member in members.items()
            }
    except (zips.Damaged, OSError) as error:
        raise PoolBenchError(f"{path} is damaged ({said(error)}); fetch it again") from error


def _member(held: zipfile.ZipFile, name: str, path: Path) -> zipfile.ZipInfo:
    try:
        return held.getinfo(f"{name}.npy")
    except KeyError:
        raise PoolBenchError(f"{path} holds no array {name}; fetch it again") from None


def _array(content: bytes, origin: str) -> Array:
    file = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(file)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, by_column, dtype = header(file)
        if not dtype.hasobject:
            return _numbers(shape, dtype, content[file.tell() :], by_column)
    except Exception as error:  # the header is Python text, in which anything may stand
        raise PoolBenchError(f"{origin} is damaged ({said(error)}); fetch it again") from error
    values = load(file, origin)
    if not isinstance(values, np.ndarray) or values.shape != shape:
        raise PoolBenchError(f"{origin} is damaged: expected an array of shape {said(shape)}; fetch it again")
    return values


def csr(data: Array, indices: Array, indptr: Array, shape: Any) -> sp.csr_matrix:
    """The matrix [m, n] of `shape` with these parts: data and indices [nnz], indptr [m + 1].

    Raises `ValueError` where they are no matrix: SciPy checks the least of it, and then reads outside its memory.
    """
    parts = {"data": data, "indices": indices, "indptr": indptr}
    for name, part in parts.items():
        kinds = _NUMBERS if name == "data" else "iu"
        if not isinstance(part, np.ndarray) or part.ndim != 1 or part.dtype.kind not in kinds:
            raise ValueError(f"its {name} are no row of {'' if name == 'data' else 'whole '}numbers")
    size = [int(n) for n in shape]
    if len(size) != 2 or min(size) < 0 or max(size) >= 2**31:
        raise ValueError(f"it has the shape {size}")
    if len(indptr) != size[0] + 1 or indptr[0] != 0 or (indptr[1:] < indptr[:-1]).any():
        raise ValueError(f"its indptr is not that of {size[0]} rows")
    if not indptr[-1] == len(indices) == len(data):
        raise ValueError(f"it has {len(data)} numbers and {len(indices)} indices, but its indptr ends at {indptr[-1]}")
    if len(indices) and not (indices.min() >= 0 and indices.max() < size[1]):
        raise ValueError(f"it names column {indices.max()}, but it has {size[1]}")
    if not np.isfinite(data).all():
        raise ValueError("it holds a number that is not finite")
    return sp.csr_matrix((data, indices, indptr), shape=size)


# ---------------------------------------------------------------- what a pickle may name


class _Array:
    """Stands for an array that is not made yet."""

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Csr:
    """Stands for a matrix that is not made yet."""

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Dtype:
    """Stands for the type of an array."""

    def __init__(self, code: Any, *_: Any) -> None:
        if not isinstance(code, str) or not re.fullmatch(rf"[{_NUMBERS}][1248]|O[48]?", code):
            raise pickle.UnpicklingError(f"it holds an array of the type {said(repr(code))}")
        self.code, self.order = code, ""

    def __setstate__(self, state: Any) -> None:
        self.order = {"<": "<", ">": ">", "|": ""}[state[1]]


class _Room:
    """Makes arrays and matrices of their stand-ins, as long as there are bytes `left`."""

    def __init__(self, left: int) -> None:
        self.left = left
        self.held: dict[int, Any] = {}
        """What was met already, by its identity."""

    def take(self, size: int) -> None:
        self.left -= size
        if self.left < 0:
            raise ValueError(f"it grows to more than {_ROOM} times its size")

    def made(self, value: Any) -> Any:
        """`value` with arrays and matrices in the place of stand-ins, in lists and dictionaries too."""
        if isinstance(value, _Dtype):
            raise ValueError("a type without an array")
        if isinstance(value, _Array | _Csr):
            if id(value) not in self.held:
                self.held[id(value)] = None  # of an array that holds itself
                self.held[id(value)] = self._array(value) if isinstance(value, _Array) else self._csr(value)
            return self.held[id(value)]
        if isinstance(value, list | dict) and id(value) not in self.held:
            self.held[id(value)] = value
            for key, inner in list(value.items() if isinstance(value, dict) else enumerate(value)):
                if isinstance(inner, _Array | _Csr | _Dtype | list | dict):
                    value[key] = self.made(inner)
        return value

    def _array(self, value: _Array) -> Array:
        shape, dtype, by_column, content = value.state[-4:]
        if not (isinstance(shape, tuple) and all(isinstance(n, int) for n in shape) and isinstance(dtype, _Dtype)):
            raise ValueError("an array without a shape or a type")
        if dtype.code[0] != "O":
            self.take(len(content))
            content = content.encode("latin1") if isinstance(content, str) else content
            return _numbers(shape, np.dtype(dtype.order + dtype.code), content, by_column)
        self.take(8 * len(content))
        if not isinstance(content, list) or len(content) != math.prod(shape) or min(shape, default=0) < 0:
            raise ValueError(f"{len(content)} objects as an array of shape {shape}")
        values = np.empty(len(content), dtype=object)
        for place, inner in enumerate(content):
            values[place] = self.made(inner)
        return values.reshape(shape, order="F" if by_column else "C")

    def _csr(self, value: _Csr) -> sp.csr_matrix:
        data, indices, indptr = (self.made(value.state[name]) for name in ("data", "indices", "indptr"))
        self.take(4 * (len(indices) + len(indptr)))  # SciPy makes them shorter where it can
        return csr(data, indices, indptr, value.state["_shape"])


def _numbers(shape: tuple[int, ...], dtype: np.dtype[Any], content: bytes, by_column: bool) -> Array:
    if dtype.kind not in _NUMBERS or min(shape, default=0) < 0:
        raise ValueError(f"an array of the type {dtype} and the shape {shape}")
    if len(content) != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{len(content)} bytes as an array of shape {shape} and type {dtype}")
    if dtype.kind == "b" and content.translate(None, b"\0\1"):
        raise ValueError("truth values that are neither true nor false")
    return np.frombuffer(content, dtype=dtype).reshape(shape, order="F" if by_column else "C").copy(order="K")


def _names(room: _Room) -> dict[tuple[str, str], Any]:
    """What a pickle may name. The functions are made anew for each: a pickle may set attributes of a function."""

    def reconstruct(kind: Any, *_: Any) -> Any:
        if kind is not _Array:
            raise pickle.UnpicklingError("it makes an array of what is none")
        return _Array()

    def encode(text: str, encoding: str) -> bytes:
        """Stands for `_codecs.encode`, by which Python 3 writes bytes for Python 2; nothing but that."""
        if encoding != "latin1":
            raise pickle.UnpicklingError(f"text in {said(encoding)}")
        room.take(len(text))
        return text.encode("latin1")

    def empty() -> bytes:
        """Stands for `bytes`, which makes a TB of nothing where it is asked to."""
        return b""

    def dictionary(of: Any) -> dict[Any, Any]:
        """Stands for `defaultdict`, whose missing values nobody asks for."""
        return {}

    return {
        **{(f"numpy.{core}.multiarray", "_reconstruct"): reconstruct for core in ("core", "_core")},
        ("numpy", "ndarray"): _Array,
        ("numpy", "dtype"): _Dtype,
        ("collections", "defaultdict"): dictionary,
        ("_codecs", "encode"): encode,
        **{(where, "list"): None for where in ("builtins", "__builtin__")},  # what a defaultdict is of
        **{(where, "bytes"): empty for where in ("builtins", "__builtin__")},
        # SciPy moved its classes: scipy.sparse.csr, scipy.sparse._csr, scipy.sparse.
        **{
            (f"scipy.sparse{module}", name): _Csr
            for name in ("csr_matrix", "csr_array")
            for module in ("", ".csr", "._csr")
        },
    }


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: BinaryIO, room: _Room) -> None:
        super().__init__(file, encoding="latin1")
        self.names = _names(room)

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.names:
            raise pickle.UnpicklingError(f"it asks for {said(module)}.{said(name)}, which no dataset needs")
        return self.names[module, name]


# ---------------------------------------------------------------- the memo

_OPCODES = {ord(op.code): (op.name, 0 if op.arg is None else op.arg.n) for op in pickletools.opcodes}
_WIDTHS = {pickletools.TAKEN_FROM_ARGUMENT1: 1, pickletools.TAKEN_FROM_ARGUMENT4: 4,
           pickletools.TAKEN_FROM_ARGUMENT4U: 4, pickletools.TAKEN_FROM_ARGUMENT8U: 8}  # fmt: skip


def check_memo(content: bytes | mmap) -> None:
    """Raises `ValueError` where a pickle notes something under a number beyond its own size.

    Python's reader makes room for all numbers up to that one, 64 GB for a pickle of ten bytes. Nothing is read here:
    the operations are counted through.
    """
    at = 0
    while at < len(content):
        name, length = _OPCODES.get(content[at], ("", None))
        if length is None:
            raise ValueError(f"there is no operation {content[at]} (at byte {at})")
        at += 1
        if length == pickletools.UP_TO_NEWLINE:
            for _ in range(2 if name in ("GLOBAL", "INST") else 1):
                start, at = at, content.find(b"\n", at) + 1
                if not at:
                    raise ValueError("it ends too early")
            if name == "PUT" and int(content[start : at - 1]) > len(content):
                raise ValueError("it notes something under a number beyond its own size")
        elif length >= 0:
            if name == "LONG_BINPUT" and int.from_bytes(content[at : at + 4], "little") > len(content):
                raise ValueError("it notes something under a number beyond its own size")
            at += length
        else:
            width = _WIDTHS[length]
            at += width + int.from_bytes(content[at : at + width], "little")
        if name == "STOP":
            return
    raise ValueError("it ends too early")
