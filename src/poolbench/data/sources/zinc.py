"""ZINC, 12,000 molecules: regress the penalised logP (Dwivedi et al., Benchmarking graph neural networks, 2020, arXiv
2003.00982, after Irwin et al., 2012).

The official archive holds train, val and test.pickle, lists of dictionaries with tensors, of the 250,000 molecules; the
index files beside it say which of them are the 12,000.
"""

from __future__ import annotations

import io
import math
import mmap
import pickle
import re
import shutil
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from poolbench.data import target
from poolbench.data.blocks import GraphWriter
from poolbench.data.features import Features
from poolbench.data.raw import RawGraphs
from poolbench.data.sources import fetch
from poolbench.data.sources.archived import ArchivedDataset
from poolbench.data.sources.unpickle import check_memo
from poolbench.data.sources.unsound import said
from poolbench.data.target import Target
from poolbench.errors import PoolBenchError

URL = "https://www.dropbox.com/s/feo9qle74kg48gy/molecules.zip?dl=1"
INDEX_URL = "https://raw.githubusercontent.com/graphdeeplearning/benchmarking-gnns/master/data/molecules"

PARTS = {"train": 10_000, "val": 1_000, "test": 1_000}
ATOM_TYPES, BOND_TYPES = 28, 4
"""Of the whole of ZINC, as the benchmark embeds them; the 12,000 hold 21 of the atom types. Bond type 0 is no bond."""

_BLOCK = 1000
_WHOLE = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


class ZINC(ArchivedDataset):
    """The 12,000 molecules of the benchmark; nothing is touched until `load`.

    Args:
        data: the cache folder; None for POOLBENCH_DATA or the user's cache folder.
        mirror: folder or base URL laid out as the official hosts are; None for POOLBENCH_MIRROR.
    """

    files = tuple(f"raw/{part}.{kind}" for part in PARTS for kind in ("pickle", "index"))
    into: ClassVar[str] = "raw/"
    mirror_paths = ("ZINC/molecules.zip", "molecules.zip")

    def __init__(self, data: str | Path | None = None, mirror: str | None = None) -> None:
        super().__init__("ZINC", "ZINC", data, mirror)
        self.url = URL

    def unpack(self, archive: fetch.Archive, target: Path, work: Path) -> None:
        super().unpack(archive, target, work)
        for part in PARTS:
            place = target / "raw" / f"{part}.index"
            if not place.is_file():
                found = self._find([f"ZINC/{part}.index"], f"{INDEX_URL}/{part}.index", work)
                shutil.copyfile(found.path, place)

    def parse(self, folder: Path, origin: str, out: GraphWriter) -> None:
        for part, count in PARTS.items():
            read = _Files(folder / "raw" / f"{part}.pickle", folder / "raw" / f"{part}.index", origin)
            molecules = read.chosen(count)
            for first in range(0, count, _BLOCK):
                read.write(molecules[first : first + _BLOCK], out)
            out.put(part, np.arange(out.graphs - count, out.graphs))

    def node_features(self, raw: RawGraphs) -> Features:
        assert raw.node_labels is not None
        return Features(raw.node_labels, ["atom type"], (ATOM_TYPES,))

    def edge_features(self, raw: RawGraphs) -> Features:
        assert raw.edge_labels is not None
        return Features(raw.edge_labels, ["bond type"], (BOND_TYPES,))

    def target(self, raw: RawGraphs) -> Target:
        return target.numbers(raw, loss="l1")


class _Files:
    """One part: the pickle with all its molecules, and the index of those in the benchmark."""

    def __init__(self, pickled: Path, index: Path, origin: str) -> None:
        self.pickled, self.index, self.origin = pickled, index, origin

    def error(self, file: Path, what: str) -> PoolBenchError:
        return PoolBenchError(
            f"dataset ZINC: {file.name} {what}; {self.origin} is no sound copy of ZINC, replace it by the official one"
        )

    def chosen(self, count: int) -> list[Any]:
        """The molecules of the benchmark, in the order of the index."""
        try:
            index = [int(word) for word in re.split(r"[,\s]+", self.index.read_text(encoding="utf-8").strip())]
        except (OSError, ValueError) as error:
            raise self.error(self.index, f"cannot be read ({said(error)})") from error
        if len(index) != count:
            raise self.error(self.index, f"names {len(index)} molecules, expected {count}")
        try:
            with open(self.pickled, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                check_memo(content)
                molecules = _Unpickler(content).load()
        except Exception as error:  # a damaged pickle raises any type
            raise self.error(self.pickled, f"cannot be read ({said(error)})") from error
        if not isinstance(molecules, list) or not 0 <= min(index) <= max(index) < len(molecules):
            raise self.error(self.pickled, f"is no list of molecules up to number {max(index)}")
        return [molecules[at] for at in index]

    def write(self, molecules: list[Any], out: GraphWriter) -> None:
        try:
            atoms = [_tensor(molecule["atom_type"]).reshape(-1) for molecule in molecules]
            bonds = [_tensor(molecule["bond_type"]) for molecule in molecules]
            values = [float(_tensor(molecule["logP_SA_cycle_normalized"])) for molecule in molecules]
        except Exception as error:  # of whatever is in the place of a tensor
            raise self.error(self.pickled, f"holds something that is no molecule ({said(error)})") from error
        if not np.isfinite(values).all():
            raise self.error(self.pickled, "holds a molecule whose logP is not finite")
        if any(held.dtype not in _WHOLE for held in (*atoms, *bonds)):
            raise self.error(self.pickled, "holds types of atoms or bonds that are no whole numbers")
        for atom, bond in zip(atoms, bonds, strict=True):
            if bond.shape != (len(atom), len(atom)):
                raise self.error(self.pickled, f"holds {len(atom)} atoms with bonds of shape {list(bond.shape)}")
        labels = torch.cat(atoms).to(torch.int64)
        sizes = np.array([len(atom) for atom in atoms])
        pairs = [bond.nonzero() for bond in bonds]
        edges = torch.cat([pair + start for pair, start in zip(pairs, np.cumsum(sizes) - sizes, strict=True)]).T
        kinds = torch.cat([bond[pair[:, 0], pair[:, 1]] for pair, bond in zip(pairs, bonds, strict=True)])
        for what, found, limit in (("atom", labels, ATOM_TYPES), ("bond", kinds, BOND_TYPES)):
            if found.numel() and not (found.min() >= 0 and found.max() < limit):
                raise self.error(self.pickled, f"holds {what} type {int(found.max())}, expected 0 to {limit - 1}")
        out.add(sizes, edges.numpy(), node_labels=labels[:, None].numpy(), edge_labels=kinds[:, None].numpy())
        out.put("targets", np.array(values)[:, None])


# ---------------------------------------------------------------- reading the pickles


class _Storage(NamedTuple):
    """What torch.save made of a storage, not looked into."""

    data: bytes


class _Pickled(NamedTuple):
    """A tensor as it is pickled; only those that are needed become tensors."""

    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def _rebuild(storage: _Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> _Pickled:
    return _Pickled(storage, offset, size, stride)


class _Unpickler(pickle.Unpickler):
    """Reads tensors in containers, and nothing else: a pickle can name any function to be called."""

    def find_class(self, module: str, name: str) -> Any:
        known = {
            "torch.storage._load_from_bytes": _Storage,
            "torch._utils._rebuild_tensor_v2": _rebuild,
            "torch._utils._rebuild_tensor": _rebuild,
            "collections.OrderedDict": dict,  # a tensor's hooks: there are none
        }
        if f"{module}.{name}" not in known:
            raise pickle.UnpicklingError(f"{module}.{name} is no part of a tensor")
        return known[f"{module}.{name}"]


def _tensor(held: _Pickled) -> Tensor:
    storage = torch.load(io.BytesIO(held.storage.data), map_location="cpu", weights_only=True)
    whole = torch.tensor([], dtype=storage.dtype).set_(storage)
    if math.prod(held.size) > whole.numel():  # a view of one number may have any size
        raise ValueError(f"{whole.numel()} numbers as a tensor of shape {held.size}")
    return whole.as_strided(held.size, held.stride, held.offset)
