"""CEXP and EXP: pairs of graphs that make a formula each, of which one can be satisfied and the other cannot.

R. Abboud, I. I. Ceylan, M. Grohe, T. Lukasiewicz, "The Surprising Power of Graph Neural Networks with Random Node
Initialization", IJCAI 2021, arXiv 2010.01179; files: https://github.com/ralphabb/GNN-RNI (GPL-3.0: they are fetched).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from poolbench.data import refinement, twins
from poolbench.data.features import NodeFeatures
from poolbench.data.raw import RawGraphs
from poolbench.data.sources.files import FileDataset
from poolbench.data.sources.unsound import said
from poolbench.errors import PoolBenchError, nearest

HOST = "https://raw.githubusercontent.com/ralphabb/GNN-RNI/main/Data"
FILE = "GRAPHSAT.txt"
#: name: the folder on the host
SETS = {"CEXP": "CEXP", "EXP": "EXP", "CEXP-WL1": "CEXP"}
GRAPHS, LARGEST = 1200, 1 << 24
"""Graphs of a file, and the bytes that it has at most."""


class SatPairs(FileDataset):
    """600 pairs of graphs of formulas: can it be satisfied (1) or not (0)? Graphs 2j and 2j + 1 are a pair.

    `raw.node_labels` says whether a node is a literal (0) or a clause (1). EXP has no pair that 1-WL tells apart, CEXP
    has 300; `CEXP-WL1` are those pairs, 600 graphs, found by colour refinement. It asks whether a pool keeps what
    message passing has told apart, as EXPWL1 does (Bianchi & Lachi, NeurIPS 2023, arXiv 2304.01575), and is not that
    set.

    Args:
        name: one of `SETS`.
        features, use_node_attr, max_degree: see `NodeFeatures`; `auto` is the kind of node, one-hot.
        data: the cache folder; None for POOLBENCH_DATA or the user's cache folder.
        mirror: folder or base URL laid out as the official hosts are; None for POOLBENCH_MIRROR.

    Raises `PoolBenchError` for a name that there is not, and when loaded, for a file that is missing or damaged.
    """

    def __init__(
        self,
        name: str,
        features: str | Sequence[str] = "auto",
        use_node_attr: bool = True,
        max_degree: int = 135,
        data: str | Path | None = None,
        mirror: str | None = None,
    ) -> None:
        if name not in SETS:
            raise PoolBenchError(f"there is no set {name!r} of pairs of formulas{nearest(str(name), SETS)}")
        place = SETS[name]
        super().__init__(
            name, f"GNN-RNI/Data/{place}", {FILE: f"{HOST}/{place}/{FILE}"}, f"GNN-RNI/{place}", data, mirror
        )
        self.features = NodeFeatures(features, use_node_attr=use_node_attr, max_degree=max_degree)

    def parse(self, folder: Path) -> RawGraphs:
        path = folder / FILE
        try:
            raw = self._graphs(_numbers(path))
        except OSError as error:
            raise PoolBenchError(f"{path} cannot be read ({error.strerror}); make it readable or remove it") from error
        except ValueError as error:
            raise PoolBenchError(
                f"{path} is no sound copy of {SETS[self.name]}: {said(error)}; fetch it again"
            ) from None
        if self.name != "CEXP-WL1":
            return raw
        found = told_apart(raw)
        if not found.num_graphs:
            raise PoolBenchError(f"{path} is no sound copy of CEXP: 1-WL tells none of its pairs apart; fetch it again")
        return replace(found, name=self.name)

    def _graphs(self, numbers: Iterator[int]) -> RawGraphs:
        """Graph by graph: `nodes class`, then a line a node: `kind degree neighbour neighbour ...`."""
        count = next(numbers, 0)
        if count != GRAPHS:
            raise ValueError(f"it begins with {count}, expected the number of graphs, {GRAPHS}")
        sizes: list[int] = []
        y: list[int] = []
        kinds: list[int] = []
        row: list[int] = []
        col: list[int] = []
        for graph in range(count):
            try:
                n, label, start = next(numbers), next(numbers), len(kinds)
                for node in range(start, start + n):
                    kinds.append(next(numbers))
                    around = sorted(next(numbers) for _ in range(next(numbers)))
                    if kinds[-1] not in (0, 1) or any(not 0 <= other < n for other in around):
                        raise ValueError(f"graph {graph} has a node of no kind, or an edge to a node that there is not")
                    row += [node] * len(around)
                    col += [start + other for other in around]
            except (StopIteration, RuntimeError):  # the second is what the first becomes within `sorted`
                raise ValueError(f"it ends within graph {graph}") from None
            if n < 1 or label not in (0, 1):
                raise ValueError(f"graph {graph} has {n} nodes and is of class {label}, expected 0 or 1")
            sizes.append(n)
            y.append(label)
        if next(numbers, None) is not None:
            raise ValueError(f"it goes on after graph {count - 1}")
        edges = torch.tensor([row, col], dtype=torch.int64)
        raw = RawGraphs(self.name, torch.tensor(sizes), edges, torch.tensor(kinds)[:, None], y=torch.tensor(y))
        keys = edges[0] * len(kinds) + edges[1]
        if not raw.symmetric or bool((edges[0] == edges[1]).any()) or not bool((keys.diff() > 0).all()):
            raise ValueError("it has a self-loop, an edge twice, or one in one direction alone")
        return raw


def _numbers(path: Path) -> Iterator[int]:
    if path.stat().st_size > LARGEST:
        raise ValueError(f"it is larger than {LARGEST >> 20} MiB")
    for word in path.read_bytes().split():
        if not word.isdigit() or len(word) > 9:
            raise ValueError(f"{word[:20]!r} stands where a whole number of 0 or more is expected")
        yield int(word)


def told_apart(raw: RawGraphs) -> RawGraphs:
    """The pairs (graphs 2j and 2j + 1) that 1-WL tells apart."""
    first, second = torch.from_numpy(refinement.classes(raw)).view(-1, 2).unbind(1)
    return twins.take(raw, (first != second).repeat_interleave(2).nonzero()[:, 0])
