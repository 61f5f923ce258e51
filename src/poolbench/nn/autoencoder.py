"""Message passing, pool, lift, message passing: the node features again (`model=autoencoder`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from poolbench.linalg import Connectivity, Matrix
from poolbench.linalg.coarsening import Coarsening
from poolbench.nn.block import Block
from poolbench.nn.message_passing import MessagePassing, Named, layer_of
from poolbench.nn.mlp import MLP
from poolbench.nn.model import DataFacts, GraphModel, ModelOutput, Part, build_pool, check_choices, head
from poolbench.pool.base.src import GlobalPool, Operator


class Autoencoder(GraphModel):
    """Does pooling preserve the attributes of the nodes? y is the reconstruction of x [n, f].

    Bianchi et al., ICML 2020, arXiv 1907.00481, section 5.2; Grattarola et al., TNNLS 2022, arXiv 2110.05292, section
    "preserving node attributes".

    Args:
        data: widths of the data. pool: any hierarchical operator; pooled features are lifted with S, or with its
            pseudo-inverse where `inverse_lift` is true.
        mp, depth, hidden, activation, norm, dropout, residual: of the message passing before the pool and after the
            lift, see `Block`.
        node_layers: linear layers on the nodes before all message passing, each with the activation and dropout.
        head_layers: linear layers of the MLP at the end, or a list of the widths of its hidden ones; 0: a layer of
            message passing in its place.
        initializer: of the weights of all linear layers, see `GraphModel.draw`; None: each layer has its own.
    """

    task = "reconstruction"

    def __init__(
        self,
        data: DataFacts,
        pool: Part,
        mp: Named = "gcs",
        depth: int = 2,
        hidden: int = 32,
        activation: str = "tanh",
        norm: str = "none",
        dropout: float = 0.0,
        inverse_lift: bool = False,
        residual: str = "none",
        node_layers: int = 0,
        head_layers: int | Sequence[int] = 0,
        initializer: str | None = None,
    ) -> None:
        check_choices(mp=mp, depth=depth, hidden=hidden, activation=activation, norm=norm, dropout=dropout,
                      residual=residual, node_layers=node_layers, head_layers=head_layers or 1)  # fmt: skip
        if data.vocabulary is not None:
            raise ValueError("model=autoencoder reconstructs numbers, and these node features are categories")
        super().__init__(data, hidden, node_layers, activation, dropout)
        self.inverse_lift = inverse_lift
        settings: dict[str, Any] = dict(mp=mp, activation=activation, norm=norm, dropout=dropout, residual=residual)
        self.before = Block(widths=[self.in_channels, *[hidden] * depth], edges=data.edges, **settings)
        self.pool = build_pool(pool, 0, self.before.channels, data.mean_nodes, lifts=True)
        lifted = self.pool.out_channels(self.before.channels)
        self.after = Block(widths=[lifted, *[hidden] * depth], **settings)
        self.last: MessagePassing | MLP
        if head_layers == 0:
            layer, options = layer_of(mp)
            self.last = layer(self.after.channels, data.in_channels, **options)
        else:
            self.last = head(self.after.channels, hidden, data.in_channels, head_layers, activation, dropout)
        self.draw(initializer)

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
        out = self.pool_once(self.pool, self.before(self.encode(x), a, edges), a, 0, coarsenings)
        x = self.after(self.pool.lift(out.x, out.s, inverse=self.inverse_lift), a)
        y = self.last(x) if isinstance(self.last, MLP) else self.last(x, a)
        return ModelOutput(y, out.losses, [a.nodes.sizes, out.sizes])
