"""GOOD-Motif: which motif hangs on a base, tested on other bases or other sizes than those that are trained on.

S. Gui, X. Li, L. Wang, S. Ji, "GOOD: A Graph Out-of-Distribution Benchmark", NeurIPS 2022 (datasets and benchmarks),
arXiv 2206.08452, after Y. Wu et al., "Discovering Invariant Rationales for Graph Neural Networks", ICLR 2022, arXiv
2201.12872; the rule is that of the authors' generator (repository divelab/GOOD, good_motif.py, covariate shift).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from poolbench.data.dataset import GraphDataset
from poolbench.data.features import NodeFeatures
from poolbench.data.generators.drawing import both_ways, real, refuse_huge, shuffled
from poolbench.data.generators.shapes import CRANE, CYCLE, HOUSE, Hung, base, hang
from poolbench.data.generators.stream import Stream, generated, whole
from poolbench.data.raw import RawGraphs
from poolbench.errors import PoolBenchError, nearest

Array = np.ndarray[Any, np.dtype[Any]]

VERSION = 1
"""Rises when the same arguments make other graphs."""
BASES = ("wheel", "tree", "ladder", "star", "path")
MOTIFS = (HOUSE, CYCLE, CRANE)
SHIFTS = ("none", "base", "size")
WIDTHS = (6, 10, 15, 30, 70)
"""Under a shift of size: those of training, the fourth of validation, the fifth of test, each give or take 5."""
FEWEST = 30
"""Graphs that a shift takes, so that validation and test see each motif."""


class GoodMotif(GraphDataset):
    """Graphs of a base (wheel, tree, ladder, star or path) and a motif; the class is the motif: house, 5-cycle, crane.

    Nodes have no features but a constant. One node of the motif is joined to a random node of the base; then the part
    `extra` of the edges is added at random, none within the motif, and the part `noise` of the graphs gets a random
    class. Classes come in turn. `raw.node_y` is 1 for the nodes of the motif.

    Under a shift the first 80 % of the graphs are for training, 10 % each for validation and test, which see others:

    | shift | training | validation | test | widths of a base |
    | --- | --- | --- | --- | --- |
    | base | wheel, tree, ladder | star | path | 5 to 15 |
    | size | widths about 6, 10, 15 | about 30 | about 70 | each give or take 5 |
    | none | all bases; no fixed parts | - | - | 5 to 15 |

    The last tenth of those for training is held back, and tested on beside (`id_test`): what was trained on.

    Args:
        num_graphs: how many graphs (60,000 there). shift: see above. extra, noise: see above.
        seed: which draw.
        features, use_node_attr, max_degree: see `NodeFeatures`.

    The same graphs, and the same fingerprint, on every machine (`Stream`).

    Raises `PoolBenchError` for a value that makes no such graphs.
    """

    generated = True
    known = "salient"

    def __init__(
        self,
        num_graphs: int = 3000,
        shift: str = "base",
        extra: float = 0.05,
        noise: float = 0.1,
        seed: int = 0,
        features: str | Sequence[str] = "constant",
        use_node_attr: bool = True,
        max_degree: int = 135,
    ) -> None:
        self.name = "good-motif"
        if shift not in SHIFTS:
            raise PoolBenchError(
                f"{self.name}: shift={shift!r} is none of {', '.join(SHIFTS)}{nearest(str(shift), SHIFTS)}"
            )
        self.num_graphs = whole(self.name, "num_graphs", num_graphs, 3)
        self.seed = whole(self.name, "seed", seed, 0)
        self.shift, self.extra, self.noise = shift, real(self.name, "extra", extra), real(self.name, "noise", noise)
        refuse_huge(self.name, self.num_graphs, max(WIDTHS), 2 * max(WIDTHS))
        self.features = NodeFeatures(features, use_node_attr=use_node_attr, max_degree=max_degree)
        if not 0 <= self.extra <= 0.5 or not 0 <= self.noise <= 1:
            raise PoolBenchError(
                f"{self.name}: expected extra between 0 and 0.5 and noise between 0 and 1, "
                f"got extra={extra}, noise={noise}"
            )
        if shift != "none" and self.num_graphs < FEWEST:
            raise PoolBenchError(
                f"{self.name}: num_graphs={num_graphs} are too few for shift={shift}, {FEWEST} are needed; "
                "take more, or shift=none"
            )

    def official_split(self, raw: RawGraphs) -> dict[str, Tensor] | None:
        """Under a shift, with graphs like those of training held back beside (`id_test`)."""
        if raw.train is None or raw.val is None or raw.test is None:
            return None
        train, beside = raw.train.tensor_split([-raw.test.numel()])
        return {"train": train, "val": raw.val, "test": raw.test, "id_test": beside}

    def load(self) -> RawGraphs:
        """Make the graphs; nothing is read or written."""
        stream, graphs = Stream(self.seed), self.num_graphs
        part = np.repeat([0, 1, 2], [graphs - 2 * (graphs // 10), graphs // 10, graphs // 10])
        kinds = stream.below(len(BASES), graphs)
        if self.shift == "base":
            kinds = np.where(part == 0, stream.below(3, graphs), part + 2)
        middle = np.full(graphs, 10)
        if self.shift == "size":
            middle = np.array(WIDTHS)[np.where(part == 0, stream.below(3, graphs), part + 2)]
        widths = middle - 5 + stream.below(11, graphs)
        motif = np.arange(graphs) % len(MOTIFS)
        bases = [base(BASES[kind], width) for kind, width in zip(kinds.tolist(), widths.tolist(), strict=True)]
        hung = hang(stream, bases, [MOTIFS[k] for k in motif])
        u, v = self._with_extra(stream, hung)
        number = shuffled(stream, hung.sizes)
        of_motif = np.empty(len(number), dtype=np.int64)
        of_motif[number] = hung.motif
        noisy = stream.uniform(graphs) < self.noise
        parts: dict[str, Any] = {}
        if self.shift != "none":
            numbers = torch.arange(graphs).split(np.bincount(part).tolist())
            parts = dict(zip(("train", "val", "test"), numbers, strict=True))
        return RawGraphs(
            name=self.name,
            num_nodes=torch.from_numpy(hung.sizes),
            edge_index=torch.from_numpy(both_ways(number[u], number[v], len(number))),
            y=torch.from_numpy(np.where(noisy, stream.below(len(MOTIFS), graphs), motif)),
            node_y=torch.from_numpy(of_motif),
            provenance=generated(self.name, VERSION, self.seed),
            **parts,
        )

    def _with_extra(self, stream: Stream, hung: Hung) -> tuple[Array, Array]:
        """The edges, and in each graph as many more as it is to get, uniform over the pairs that may be joined."""
        nodes, starts = len(hung.motif), np.cumsum(hung.sizes) - hung.sizes
        graph = np.repeat(np.arange(len(hung.sizes)), hung.sizes)
        edges = np.bincount(graph[hung.u], minlength=len(hung.sizes))
        wanted = edges + (edges * self.extra).astype(np.int64)
        keys = np.sort(np.minimum(hung.u, hung.v) * nodes + np.maximum(hung.u, hung.v))
        while len(missing := np.repeat(np.arange(len(wanted)), wanted - edges)):
            u, v = (starts[missing] + stream.below(hung.sizes[missing], len(missing)) for _ in range(2))
            allowed = (u != v) & ~(hung.motif[u] & hung.motif[v])
            keys = np.unique(np.concatenate([keys, (np.minimum(u, v) * nodes + np.maximum(u, v))[allowed]]))
            edges = np.bincount(graph[keys // nodes], minlength=len(wanted))
        u, v = np.divmod(keys, nodes)
        return u, v
