"""Pickles of arrays and sparse matrices, read without running what a pickle may ask to run.

Old datasets are pickles of NumPy arrays, SciPy matrices and dictionaries. A pickle can name any function and call it;
here it may name the few that those need, and every other name is refused before anything of it is imported.
"""

from __future__ import annotations

import collections
import io
import pickle
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import scipy.sparse

from poolbench.errors import PoolBenchError, one_line

Array = np.ndarray[Any, np.dtype[Any]]

_RECONSTRUCT = np.zeros(0).__reduce__()[0]
"""NumPy's own way to make an array of a pickle, wherever this version keeps it."""


def _encode(text: str, encoding: str) -> bytes:
    """Stands for `_codecs.encode`, by which Python 3 writes bytes for Python 2; nothing but that."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"text in {encoding}")
    return text.encode("latin1")


_MATRICES = ("csr_matrix", "csc_matrix", "coo_matrix", "csr_array", "csc_array", "coo_array")
_ALLOWED: dict[tuple[str, str], Any] = {
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _RECONSTRUCT for core in ("core", "_core")},
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("collections", "defaultdict"): collections.defaultdict,
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("_codecs", "encode"): _encode,
    **{(builtins, kind.__name__): kind for builtins in ("builtins", "__builtin__") for kind in (list, bytes)},
    # SciPy moved its classes: scipy.sparse.csr, scipy.sparse._csr, scipy.sparse.
    **{
        (f"scipy.sparse{module}", name): getattr(scipy.sparse, name)
        for name in _MATRICES
        for module in ("", f".{name[:3]}", f"._{name[:3]}")
    },
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no dataset needs")
        return _ALLOWED[module, name]


def load(file: BinaryIO, origin: str) -> Any:
    """What the pickle in `file` holds; strings of Python 2 are taken as latin1. `origin` is its name for messages.

    Raises `PoolBenchError` where it is no pickle, or asks for anything but arrays, matrices, lists and dictionaries.
    """
    try:
        return _Unpickler(file, encoding="latin1").load()
    except OSError:
        raise
    except Exception as error:  # a damaged pickle raises whatever its bytes happen to mean
        raise PoolBenchError(f"{origin} is no pickle of arrays ({one_line(error)}); fetch it again") from error


def load_npz(path: Path, names: tuple[str, ...]) -> dict[str, Array]:
    """The arrays `names` of an npz file; those of objects are unpickled as `load` does.

    Raises `PoolBenchError` where the file is damaged or lacks one of them.
    """
    try:
        with zipfile.ZipFile(path) as held:
            return {name: _array(io.BytesIO(held.read(f"{name}.npy")), f"{path} ({name})") for name in names}
    except KeyError as error:
        raise PoolBenchError(f"{path} holds no array {error.args[0].split(chr(39))[1][:-4]}; fetch it again") from error
    except (zipfile.BadZipFile, EOFError, ValueError) as error:
        raise PoolBenchError(f"{path} is damaged ({one_line(error)}); fetch it again") from error


def _array(file: BinaryIO, origin: str) -> Array:
    version = np.lib.format.read_magic(file)
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = header(file)
    if not dtype.hasobject:
        file.seek(0)
        return np.lib.format.read_array(file, allow_pickle=False)
    values = load(file, origin)
    if not isinstance(values, np.ndarray) or values.shape != shape:
        raise PoolBenchError(f"{origin} is damaged: expected an array of shape {shape}; fetch it again")
    return values
