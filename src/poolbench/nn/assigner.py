"""An operator alone, which clusters nodes from their features as they are (`model=assigner`)."""

from __future__ import annotations

from dataclasses import replace

from poolbench.nn.block import Block
from poolbench.nn.clusterer import Clusterer
from poolbench.nn.model import DataFacts, GraphModel, Part, build_pool


class Assigner(Clusterer):
    """`Clusterer` without layers of message passing: for operators that have their own, such as DiffPool.

    Bianchi, Grattarola, Alippi, "Spectral Clustering with Graph Neural Networks for Graph Pooling", ICML 2020, arXiv
    1907.00481, has DiffPool so.

    Args:
        data: widths of the data. pool: an operator with a dense assignment; `pool.k` as in `Clusterer`.
        hidden: width of the embedding of features that are categories.
    """

    def __init__(self, data: DataFacts, pool: Part, hidden: int = 16) -> None:
        GraphModel.__init__(self, data, hidden)
        if pool.args.get("k") is None:
            if data.classes is None:
                raise ValueError("the nodes of this dataset have no classes to take a number of clusters from; "
                                 "give pool.k")  # fmt: skip
            pool = replace(pool, args={**pool.args, "k": data.classes})
        self.block = Block("gcs", [self.in_channels], "none", "none", 0.0)
        self.pool = build_pool(pool, 0, self.in_channels, data.mean_nodes, lifts=True)
