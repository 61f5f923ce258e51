"""Reliable paired comparison, the protocol `brec`: does a model that is trained on a pair of graphs tell them apart?

Y. Wang, M. Zhang, "An Empirical Study of Realized GNN Expressiveness", ICML 2024, arXiv 2304.07702, section 5; the
settings are those of the authors' evaluation, https://github.com/GraphPKU/BREC.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from poolbench.data.pairs import Comparison
from poolbench.data.protocols import Parts, Protocol
from poolbench.errors import PoolBenchError

if TYPE_CHECKING:
    from torch import Tensor

    from poolbench.data.dataset import GraphDataset
    from poolbench.data.generators.stream import Stream
    from poolbench.data.prepared import Prepared
    from poolbench.data.raw import RawGraphs


class PairedComparison(Protocol):
    """Each pair (G, H) of the dataset gets a model of its own, which is trained on `copies` copies of both, their nodes
    numbered anew, so that their embeddings part: max(0, cos) of the two of a copy, the mean over copies. Then

        T^2 = q m' S^-1 m,   m and S the mean and the covariance of the q differences f(G_i) - f(H_i),

    of Hotelling is asked twice (`poolbench.statistics.hotelling`): of the pair, and of as many pairs of copies of one
    of its graphs. The pair is told apart where the first is above the threshold that equal means exceed with
    probability alpha; it is unreliable, and counts for nothing, where the second is above it as well.

    All graphs of the pairs are `test`: what a model was trained on is what it is asked. Of equal copies in the dataset
    the first ones are taken.

    Args:
        seed: how nodes are numbered, and which graph of a pair the reliability is asked of.
        copies: q. dim: p, the width of the embeddings. alpha: see above.
        stop_below: a mean loss of an epoch that ends the training of a pair.

    Raises `PoolBenchError` for what is none of that, and for q <= p, where T^2 has no distribution.
    """

    name = "brec"
    select = "last"
    selects = ("last",)
    validates = "train"

    def __init__(
        self, seed: int = 0, copies: int = 32, dim: int = 16, alpha: float = 0.05, stop_below: float = 0.2
    ) -> None:
        super().__init__(seed)
        for key, whole, least in (("copies", copies, 3), ("dim", dim, 1)):
            if isinstance(whole, bool) or not isinstance(whole, int) or whole < least:
                raise PoolBenchError(f"brec: {key}={whole!r} must be a whole number, {least} or more")
        if copies <= dim:
            raise PoolBenchError(f"brec: copies={copies} must be more than dim={dim}: T^2 has no distribution else")
        for key, share in (("alpha", alpha), ("stop_below", stop_below)):
            if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share < 1:
                raise PoolBenchError(f"brec: {key}={share!r} must be a number above 0 and below 1")
        self.copies, self.dim, self.alpha, self.stop_below = copies, dim, alpha, stop_below

    def comparison(self, dataset: GraphDataset, raw: RawGraphs) -> Comparison:
        """Raises `PoolBenchError` for a dataset without pairs."""
        pairs = dataset.pairs(raw)
        if pairs is None:
            raise PoolBenchError(
                f"protocol=brec compares pairs of graphs, and dataset {raw.name} has none; take dataset=BREC, "
                "or another protocol such as holdout"
            )
        return Comparison(pairs, self.seed, self.copies, self.dim, self.alpha, self.stop_below)

    def order(self, dataset: GraphDataset, raw: RawGraphs) -> Tensor:
        """[G] the pair of each graph, -1 for a graph of none."""
        import torch

        graphs = self.comparison(dataset, raw).pairs.graphs
        pair = torch.full((raw.num_graphs,), -1)
        pair[graphs] = torch.arange(len(graphs))[:, None]
        return pair

    def parts_by(self, order: Tensor, y: Tensor) -> Parts:
        none = (order < -1).nonzero()[:, 0]
        tested, unused = (order >= 0).nonzero()[:, 0], (order < 0).nonzero()[:, 0]
        return {"train": none, "val": none, "test": tested, "unused": unused}


def pair_of(prepared: Prepared, number: int) -> Prepared:
    """The dataset that a pair makes: 2 q copies of its graphs to train on, G and H in turn, and as `test` 2 q copies
    of one of them.

    Args:
        prepared: with the pairs (`comparison`), of which the answer has none.
    """
    import torch

    from poolbench.data.generators.stream import Stream
    from poolbench.data.splits import Split
    from poolbench.data.target import pairs
    from poolbench.splitmix import mix

    how = prepared.comparison
    assert how is not None
    q, stream = how.copies, Stream(mix(how.seed, 0xB4EC, number))
    pair = how.pairs.graphs[number]
    again = pair[int(stream.below(2, 1)[0])]
    made = _copied(prepared, torch.cat([pair.repeat(q), again.repeat(2 * q)]), stream)
    part = torch.arange(4 * q).split(2 * q)
    split = Split(prepared.split.protocol, prepared.split.version, how.seed, None, part[0], part[0][:0], part[1],
                  prepared.fingerprint)  # fmt: skip
    return replace(made, target=pairs(made.raw, how.dim), split=split, comparison=None)


def _copied(prepared: Prepared, graphs: Tensor, stream: Stream) -> Prepared:
    """One copy of each of the graphs [c], in this order, its nodes numbered anew. A graph may be there many times."""
    import torch

    from poolbench.data.generators.drawing import shuffled
    from poolbench.data.raw import RawGraphs
    from poolbench.linalg.products import offsets, ranges

    raw, edges = prepared.raw, prepared.edges
    sizes, start = raw.num_nodes[graphs], offsets(raw.num_nodes)
    first = offsets(sizes)
    which, _ = ranges(start[graphs], first, int(first[-1]))  # the node that each one is a copy of
    number = torch.from_numpy(shuffled(stream, sizes.numpy()))
    node = torch.empty_like(which)
    node[number] = which

    edge_start = torch.searchsorted(raw.edge_index[0].contiguous(), start)  # edges stand by graph, as nodes do
    ptr = offsets(edge_start.diff()[graphs])
    which, copy = ranges(edge_start[graphs], ptr, int(ptr[-1]))
    source, target = number[raw.edge_index[:, which] + (first[:-1] - start[graphs])[copy]]
    order = (source * number.numel() + target).argsort()
    edge = which[order]
    return replace(
        prepared,
        raw=RawGraphs(raw.name, sizes, torch.stack([source[order], target[order]])),
        x=prepared.x._replace(values=prepared.x.values[node]),
        edges=None if edges is None else edges._replace(values=edges.values[edge]),
        weight=None if prepared.weight is None else prepared.weight[edge],
    )
