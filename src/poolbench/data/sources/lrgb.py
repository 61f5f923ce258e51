"""The peptides of the Long Range Graph Benchmark (Dwivedi et al., 2022, arXiv 2206.08164).

15,535 molecules of some 150 atoms with two targets: `peptides-func`, ten functions that a peptide may have, and
`peptides-struct`, eleven properties of its three-dimensional shape. The archive holds train, val and test.pt, lists of
(x, edge_attr, edge_index, y), with the features of OGB's molecules.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from poolbench.data import target
from poolbench.data.blocks import GraphWriter
from poolbench.data.features import Features
from poolbench.data.raw import RawGraphs
from poolbench.data.sources import molecules
from poolbench.data.sources.archived import ArchivedDataset
from poolbench.data.sources.official import MeanAveragePrecision
from poolbench.data.sources.unsound import said
from poolbench.data.target import Target
from poolbench.errors import PoolBenchError, nearest

HOST = "https://www.dropbox.com/s"

PARTS = {"train": 10_873, "val": 2_331, "test": 2_331}
ARCHIVES = {
    "peptides-func": ("ycsq37q8sxs1ou8", "peptidesfunc.zip"),
    "peptides-struct": ("zgv4z8fcpmknhs8", "peptidesstruct.zip"),
}
TASKS = {"peptides-func": 10, "peptides-struct": 11}

_BLOCK = 1000


class Peptides(ArchivedDataset):
    """`peptides-func` (ten yes/no questions, average precision) or `peptides-struct` (eleven numbers, mean absolute
    error); nothing is touched until `load`.

    The numbers of `peptides-struct` are as the files have them: each of mean 0 and standard deviation 1 over the whole
    dataset. So is the error that is reported everywhere.

    Args:
        name: one of the two.
        data: the cache folder; None for POOLBENCH_DATA or the user's cache folder.
        mirror: folder or base URL laid out as the official hosts are; None for POOLBENCH_MIRROR.

    Raises `PoolBenchError` for another name.
    """

    files = tuple(f"raw/{part}.pt" for part in PARTS)
    into: ClassVar[str] = "raw/"

    def __init__(self, name: str, data: str | Path | None = None, mirror: str | None = None) -> None:
        if name not in ARCHIVES:
            raise PoolBenchError(f"unknown dataset {name!r}{nearest(str(name), ARCHIVES)} of {', '.join(ARCHIVES)}")
        super().__init__(name, f"LRGB/{name}", data, mirror)
        key, archive = ARCHIVES[name]
        self.url = f"{HOST}/{key}/{archive}?dl=1"
        self.mirror_paths = [f"LRGB/{archive}", archive]

    def parse(self, folder: Path, origin: str, out: GraphWriter) -> None:
        for part, count in PARTS.items():
            read = _File(self.name, folder / "raw" / f"{part}.pt", origin)
            graphs = read.graphs(count)
            for first in range(0, count, _BLOCK):
                read.write(graphs[first : first + _BLOCK], out)
            out.put(part, np.arange(out.graphs - count, out.graphs))

    def node_features(self, raw: RawGraphs) -> Features:
        assert raw.node_labels is not None
        return molecules.atoms(raw.node_labels)

    def edge_features(self, raw: RawGraphs) -> Features:
        assert raw.edge_labels is not None
        return molecules.bonds(raw.edge_labels)

    def target(self, raw: RawGraphs) -> Target:
        if self.name == "peptides-struct":
            return target.numbers(raw, loss="l1")
        assert raw.targets is not None
        evaluate = MeanAveragePrecision(self.name)
        return Target("binary", raw.targets.float(), TASKS[self.name], "ap", evaluate=evaluate)


class _File:
    """One part."""

    def __init__(self, name: str, path: Path, origin: str) -> None:
        self.name, self.path, self.origin = name, path, origin

    def error(self, what: str) -> PoolBenchError:
        return PoolBenchError(
            f"dataset {self.name}: {self.path.name} {what}; {self.origin} is no sound copy of {self.name}, "
            "replace it by the official one"
        )

    def graphs(self, count: int) -> list[Any]:
        try:
            graphs = torch.load(self.path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch.load raises half a dozen types for a file that is not its own
            raise self.error(f"cannot be read ({said(str(error).partition('.')[0])})") from error
        if not isinstance(graphs, list) or len(graphs) != count:
            found = len(graphs) if isinstance(graphs, list) else "no"
            raise self.error(f"holds {found} graphs, expected {count}")
        return graphs

    def write(self, graphs: list[Any], out: GraphWriter) -> None:
        for graph in graphs:
            self._check(graph)
        atoms, bonds, edges, values = zip(*graphs, strict=True)
        sizes = np.array([len(x) for x in atoms])
        joined = torch.cat([edge + start for edge, start in zip(edges, np.cumsum(sizes) - sizes, strict=True)], dim=1)
        labels, kinds = torch.cat(atoms), torch.cat(bonds)
        for what, found, limits in (("atoms", labels, molecules.ATOM), ("bonds", kinds, molecules.BOND)):
            if bool(((found < 0) | (found >= torch.tensor(list(limits.values())))).any()):
                raise self.error(f"holds categories of {what} that are outside {list(limits.values())}")
        out.add(sizes, joined.numpy(), node_labels=labels.numpy(), edge_labels=kinds.numpy())
        out.put("targets", torch.cat(values).double().numpy())

    def _check(self, graph: Any) -> None:
        """Raises `PoolBenchError` where this is no (x [n, 9], edge_attr [e, 3], edge_index [2, e], y [1, T])."""
        if not (isinstance(graph, tuple) and len(graph) == 4 and all(isinstance(part, Tensor) for part in graph)):
            raise self.error("holds something that is no (x, edge_attr, edge_index, y)")
        x, kinds, edges, y = graph
        shapes = [list(part.shape) for part in graph]
        n, e = ((part.shape or (0,))[0] for part in (x, kinds))
        expected = [[n, len(molecules.ATOM)], [e, len(molecules.BOND)], [2, e], [1, TASKS[self.name]]]
        if shapes != expected:
            raise self.error(f"holds a graph of the shapes {said(shapes)}, expected {expected}")
        if any(part.layout != torch.strided or part.device.type != "cpu" or not _held(part) for part in graph):
            raise self.error("holds a tensor whose numbers are not all there")
        if any(part.dtype not in _WHOLE for part in (x, kinds, edges)):
            raise self.error("holds categories or edges that are no whole numbers")
        if y.dtype not in (*_WHOLE, torch.float32, torch.float64) or not bool(torch.isfinite(y).all()):
            raise self.error("holds a target that is no finite number")
        if self.name == "peptides-func" and not bool(((y == 0) | (y == 1)).all()):
            raise self.error("holds an answer that is neither 0 nor 1")
        if edges.numel() and not (edges.min() >= 0 and edges.max() < len(x)):
            raise self.error(f"has an edge of node {int(edges.max())} in a graph of {len(x)} nodes")


_WHOLE = (torch.int64, torch.int32, torch.int16, torch.uint8)


def _held(part: Tensor) -> bool:
    """Whether a tensor has no more numbers than its memory: a view of one number may have any size."""
    return part.numel() * part.element_size() <= part.untyped_storage().nbytes()
