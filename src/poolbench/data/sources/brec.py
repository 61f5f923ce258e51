"""BREC: 400 pairs of graphs that are hard to tell apart.

Y. Wang, M. Zhang, "An Empirical Study of Realized GNN Expressiveness", ICML 2024, arXiv 2304.07702; files:
https://github.com/GraphPKU/BREC (MIT).
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from poolbench.data.features import NodeFeatures
from poolbench.data.generators.drawing import both_ways, refuse_above, shuffled
from poolbench.data.generators.stream import Stream, whole
from poolbench.data.pairs import Pairs
from poolbench.data.raw import RawGraphs
from poolbench.data.sources.files import FileDataset
from poolbench.data.sources.unsound import said
from poolbench.errors import PoolBenchError, nearest

Array = np.ndarray[Any, np.dtype[Any]]

SIZE = 290 * 2
"""About how many nodes and edges a pair has."""
HOST = "https://raw.githubusercontent.com/GraphPKU/BREC/Release/customize/Data/raw"
PAIRS = {"basic": 60, "regular": 50, "str": 50, "extension": 100, "cfi": 100, "4vtx": 20, "dr": 20}
"""Pairs of each file, in the official order: basic, simple and strongly regular, extension, Cai-Furer-Immerman,
4-vertex condition, distance-regular graphs."""
CATEGORIES = {"str": "regular"}
"""The category of a file's pairs, as the authors count them, where it is not the file's own."""
LARGEST = 1 << 20
MOST_NODES = 1000


class BREC(FileDataset):
    """Each of the 800 graphs in several copies, its nodes numbered anew in each; the class is which of its pair it is.

    No pair is told apart by 1-WL, so that a network of message passing and a readout is right in half of the graphs. A
    model that tells the part p of the pairs apart, and learns to, is right in (1 + p) / 2 of them. The last copy of
    each graph is for the test, the one before for validation.

    The official evaluation trains a network on one pair at a time, and compares its outputs by a statistical test
    against those for copies of one graph: the protocol `brec`, which makes copies of its own. `pair` makes a set of one
    pair.

    Args:
        kind: one of `PAIRS`, or `all`.
        pair: the number of one pair of that kind, from 0; None for all of them.
        copies: of each graph, three or more.
        seed: how nodes are numbered.
        features, use_node_attr, max_degree: see `NodeFeatures`.
        data: the cache folder; None for POOLBENCH_DATA or the user's cache folder.
        mirror: folder or base URL laid out as the official hosts are; None for POOLBENCH_MIRROR.

    Raises `PoolBenchError` for pairs that there are not, and when loaded, for a file that is missing or damaged.
    """

    def __init__(
        self,
        kind: str = "all",
        pair: int | None = None,
        copies: int = 4,
        seed: int = 0,
        features: str | Sequence[str] = "constant",
        use_node_attr: bool = True,
        max_degree: int = 135,
        data: str | Path | None = None,
        mirror: str | None = None,
    ) -> None:
        if kind != "all" and kind not in PAIRS:
            known = ("all", *PAIRS)
            raise PoolBenchError(f"BREC: kind={kind!r} is none of {', '.join(known)}{nearest(str(kind), known)}")
        kinds = list(PAIRS) if kind == "all" else [kind]
        there = sum(PAIRS[each] for each in kinds)
        if pair is not None and whole("BREC", "pair", pair, 0) >= there:
            raise PoolBenchError(f"BREC: pair={pair} is not there: kind={kind} has the pairs 0 to {there - 1}")
        files = {f"{each}.npy": f"{HOST}/{each}.npy" for each in PAIRS}
        super().__init__("BREC", "BREC/customize/Data/raw", files, "BREC", data, mirror)
        self.kinds, self.pair = kinds, pair
        self.copies = whole("BREC", "copies", copies, 3)
        self.seed = whole("BREC", "seed", seed, 0)
        pairs = there if pair is None else 1
        refuse_above("BREC", SIZE * pairs * self.copies, f"{self.copies:,} copies of {pairs} pairs")
        self.features = NodeFeatures(features, use_node_attr=use_node_attr, max_degree=max_degree)

    def official_split(self, raw: RawGraphs) -> dict[str, Tensor]:
        return {part: getattr(raw, part) for part in ("train", "val", "test")}

    def pairs(self, raw: RawGraphs) -> Pairs:
        """By the categories in which the authors count: `CATEGORIES`."""
        kinds = [CATEGORIES.get(kind, kind) for kind in self.kinds for _ in range(PAIRS[kind])]
        chosen = kinds if self.pair is None else kinds[self.pair : self.pair + 1]
        return Pairs(torch.arange(2 * len(chosen)).view(-1, 2), tuple(chosen))

    def parse(self, folder: Path) -> RawGraphs:
        graphs = [graph for kind in self.kinds for graph in _read(folder / f"{kind}.npy", 2 * PAIRS[kind])]
        chosen = graphs if self.pair is None else graphs[2 * self.pair : 2 * self.pair + 2]
        sizes = np.array([n for n, _ in chosen] * self.copies)
        starts = np.cumsum(sizes) - sizes
        edges = [pairs for _, pairs in chosen] * self.copies
        u, v = np.concatenate(edges, axis=1) + np.repeat(starts, [pairs.shape[1] for pairs in edges])
        number = shuffled(Stream(self.seed), sizes)
        copies = torch.arange(len(sizes)).view(self.copies, -1)
        return RawGraphs(
            name=self.name,
            num_nodes=torch.from_numpy(sizes),
            edge_index=torch.from_numpy(both_ways(number[u], number[v], len(number))),
            y=torch.arange(len(sizes)) % 2,
            train=copies[:-2].reshape(-1),
            val=copies[-2],
            test=copies[-1],
        )


def _read(path: Path, count: int) -> list[tuple[int, Array]]:
    """The graphs of a file, each with its number of nodes and edges [2, m]."""
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError(f"it is larger than {LARGEST >> 20} MiB")
        return [graph6(text) for text in _texts(path.read_bytes(), count)]
    except OSError as error:
        raise PoolBenchError(f"{path} cannot be read ({error.strerror}); make it readable or remove it") from error
    except Exception as error:  # the header is Python text, in which anything may stand
        raise PoolBenchError(f"{path} is no sound file of BREC: {said(error)}; fetch it again") from error


def _texts(content: bytes, count: int) -> list[bytes]:
    """The texts of a .npy file of `count` of them. No more is made than the file has bytes for."""
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = header(file)
    rest = content[file.tell() :]
    if dtype.kind not in "SU" or math.prod(shape) != count or len(rest) != count * dtype.itemsize:
        raise ValueError(f"it holds {len(rest)} bytes as {dtype} of shape {shape}, expected {count} texts")
    sign: np.dtype[Any] = np.dtype("u1") if dtype.kind == "S" else np.dtype("u4").newbyteorder(dtype.byteorder)
    signs: Array = np.frombuffer(rest, dtype=sign).reshape(count, -1)
    if signs.max(initial=0) > 126:
        raise ValueError("a text that is no graph6")
    return [row[row > 0].astype(np.uint8).tobytes() for row in signs]


def graph6(text: bytes) -> tuple[int, Array]:
    """Nodes and edges [2, m] (u < v) of a graph of up to `MOST_NODES` in the format graph6 (B. McKay, formats.txt).

    Raises ValueError for anything else.
    """
    signs = np.frombuffer(text, dtype=np.uint8).astype(np.int64) - 63
    if not len(signs) or signs.min() < 0 or signs.max() > 63:
        raise ValueError("a text that is no graph6")
    long = signs[0] == 63
    head = 4 if long else 1
    n = int(signs[1:4] @ [4096, 64, 1]) if long and len(signs) >= 4 else int(signs[0])
    if not 0 < n <= MOST_NODES:
        raise ValueError(f"a graph of {n} nodes, expected 1 to {MOST_NODES}")
    pairs = n * (n - 1) // 2
    if len(signs) != head + -(-pairs // 6):
        raise ValueError(f"a graph6 of {n} nodes and {len(signs)} signs")
    bits = (signs[head:, None] >> np.arange(5, -1, -1) & 1).reshape(-1)[:pairs]
    v, u = np.tril_indices(n, -1)  # column by column of the upper triangle
    return n, np.stack([u, v])[:, bits == 1]
