"""Message passing and one assignment of the nodes to clusters: the template for node clustering (`model=clusterer`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from poolbench.linalg import Connectivity, Matrix
from poolbench.linalg.coarsening import Coarsening
from poolbench.nn.block import Block
from poolbench.nn.message_passing import Named
from poolbench.nn.model import DataFacts, GraphModel, ModelOutput, Part, build_pool, check_choices
from poolbench.pool.base.src import DenseSelection, GlobalPool, Operator, SoftPool


class Clusterer(GraphModel):
    """Message passing, then the pool: y is its assignment [n, k], and its own losses are all that trains it.

    Bianchi, Grattarola, Alippi, "Spectral Clustering with Graph Neural Networks for Graph Pooling", ICML 2020, arXiv
    1907.00481, section 5.1.

    Args:
        data: widths of the data. pool: an operator with a dense assignment; `pool.k` clusters, as many as there are
            classes of nodes where it is null (`pool.ratio` plays no part).
        mp: a message passing layer: its name (see `poolbench.nn.message_passing.LAYERS`), or a mapping of its `name`
            and arguments. depth: how many. hidden: their width.
        activation, norm (none, batch, layer), dropout: after each layer.
        initializer: of the weights of all linear layers, see `GraphModel.draw`; None: each layer has its own.
    """

    task = "clusters"

    def __init__(
        self,
        data: DataFacts,
        pool: Part,
        mp: Named = "gcs",
        depth: int = 1,
        hidden: int = 16,
        activation: str = "elu",
        norm: str = "none",
        dropout: float = 0.0,
        initializer: str | None = None,
    ) -> None:
        super().__init__(data, hidden)
        check_choices(mp=mp, depth=depth, hidden=hidden, activation=activation, norm=norm, dropout=dropout)
        if pool.args.get("k") is None:
            if data.classes is None:
                raise ValueError(
                    "the nodes of this dataset have no classes to take a number of clusters from; give pool.k"
                )
            pool = replace(pool, args={**pool.args, "k": data.classes})
        self.block = Block(mp, [self.in_channels, *[hidden] * depth], activation, norm, dropout, data.edges)
        self.pool = build_pool(pool, 0, hidden, data.mean_nodes, lifts=True)
        self.draw(initializer)

    @classmethod
    def refuses(cls, pool: type[Operator]) -> str | None:
        if issubclass(pool, GlobalPool):
            return "it is a readout, and model=clusterer takes an operator that assigns nodes to clusters"
        if not issubclass(pool, SoftPool):
            return "it makes no assignment to k clusters, which model=clusterer takes for the clustering"
        return None

    def requirements(self) -> set[Connectivity]:
        return self.block.connectivities | {self.pool.connectivity}

    def forward(
        self, x: Tensor, a: Matrix, edges: Tensor | None = None, coarsenings: Sequence[Coarsening] = ()
    ) -> ModelOutput:
        out = self.pool_once(self.pool, self.block(self.encode(x), a, edges), a, 0, coarsenings)
        assert isinstance(out.s, DenseSelection)
        return ModelOutput(out.s.s, out.losses, [a.nodes.sizes, out.sizes])
