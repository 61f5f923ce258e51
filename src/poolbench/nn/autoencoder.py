"""Message passing, pool, lift, message passing: the node features again (`model=autoencoder`)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from poolbench.linalg import Connectivity, Matrix
from poolbench.linalg.coarsening import Coarsening
from poolbench.nn.message_passing import LAYERS
from poolbench.nn.model import Block, DataFacts, GraphModel, ModelOutput, Part, build_pool, check_choices
from poolbench.pool.base.src import GlobalPool, Operator


class Autoencoder(GraphModel):
    """Does pooling preserve the attributes of the nodes? y is the reconstruction of x [n, f].

    Bianchi et al., ICML 2020, arXiv 1907.00481, section 5.2; Grattarola et al., TNNLS 2022, arXiv 2110.05292, section
    "preserving node attributes".

    Args:
        data: widths of the data. pool: any hierarchical operator; pooled features are lifted with S, or with its
            pseudo-inverse where `inverse_lift` is true.
        mp, depth, hidden, activation, norm, dropout: of the message passing before the pool and after the lift.
    """

    task = "reconstruction"

    def __init__(
        self,
        data: DataFacts,
        pool: Part,
        mp: str = "gcs",
        depth: int = 2,
        hidden: int = 32,
        activation: str = "tanh",
        norm: str = "none",
        dropout: float = 0.0,
        inverse_lift: bool = False,
    ) -> None:
        super().__init__(data, hidden)
        check_choices(mp=mp, depth=depth, hidden=hidden, activation=activation, norm=norm, dropout=dropout)
        if data.vocabulary is not None:
            raise ValueError("model=autoencoder reconstructs numbers, and these node features are categories")
        self.inverse_lift = inverse_lift
        self.before = Block(mp, [self.in_channels, *[hidden] * depth], activation, norm, dropout, data.edges)
        self.pool = build_pool(pool, 0, hidden, data.mean_nodes, lifts=True)
        lifted = self.pool.out_channels(hidden)
        self.after = Block(mp, [lifted, *[hidden] * depth], activation, norm, dropout)
        self.last = LAYERS[mp](hidden, data.in_channels)

    @classmethod
    def refuses(cls, pool: type[Operator]) -> str | None:
        if issubclass(pool, GlobalPool):
            return "it is a readout, which cannot be lifted: model=autoencoder takes a hierarchical operator"
        return None

    def requirements(self) -> set[Connectivity]:
        return self.before.connectivities | self.after.connectivities | {self.pool.connectivity}

    def forward(
        self, x: Tensor, a: Matrix, edges: Tensor | None = None, coarsenings: Sequence[Coarsening] = ()
    ) -> ModelOutput:
        out = self.pool_once(self.pool, self.before(x, a, edges), a, 0, coarsenings)
        x = self.pool.lift(out.x, out.s, inverse=self.inverse_lift)
        return ModelOutput(self.last(self.after(x, a), a), out.losses, [a.nodes.sizes, out.sizes])
