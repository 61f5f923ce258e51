"""Message passing layers, a readout and an MLP: the template for global operators (`model=global`)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from poolbench.linalg import Connectivity, Matrix
from poolbench.linalg.coarsening import Coarsening
from poolbench.nn.block import JUMPING, Block, combined, combined_width
from poolbench.nn.message_passing import Named
from poolbench.nn.mlp import NORM_AT, among
from poolbench.nn.model import (
    DataFacts,
    GraphModel,
    ModelOutput,
    Part,
    build_readout,
    check_choices,
    head,
    penalties,
)
from poolbench.pool.base.src import GlobalPool, Operator

LAYER_JUMPING = (*JUMPING, "lstm")


class Global(GraphModel):
    """Message passing on the graph as it is, then the readout under test and an MLP.

    Args:
        data: widths of the data.
        pool: the readout.
        node_layers: linear layers on the nodes before all message passing, each with the activation and dropout.
        mp: a message passing layer: its name (see `poolbench.nn.message_passing.LAYERS`), or a mapping of its `name`
            and arguments. depth: how many.
        hidden: width of all layers.
        activation, norm (none, batch, layer), dropout: after each layer.
        norm_at (before, after, between), residual: see `Block`.
        jumping: none: the readout sees the last layer; cat, sum, max: the outputs of all layers, combined;
            lstm: their mean, weighted for each node by a bidirectional LSTM over its layers (Xu et al., "Representation
            Learning on Graphs with Jumping Knowledge Networks", ICML 2018, arXiv 1806.03536).
        head_layers: linear layers of the MLP, halving from `hidden`, or a list of the widths of its hidden layers.
        head_dropout: between its layers; None: `dropout`.
        initializer: of the weights of all linear layers, see `GraphModel.draw`; None: each layer has its own.
    """

    def __init__(
        self,
        data: DataFacts,
        pool: Part,
        mp: Named = "gcn",
        depth: int = 3,
        hidden: int = 64,
        activation: str = "relu",
        norm: str = "none",
        dropout: float = 0.0,
        jumping: str = "none",
        head_layers: int | Sequence[int] = 2,
        norm_at: str = "before",
        residual: str = "none",
        node_layers: int = 0,
        head_dropout: float | None = None,
        initializer: str | None = None,
    ) -> None:
        check_choices(mp=mp, depth=depth, hidden=hidden, activation=activation, norm=norm, dropout=dropout,
                      residual=residual, head_layers=head_layers, node_layers=node_layers,
                      head_dropout=head_dropout)  # fmt: skip
        among("model.norm_at", norm_at, NORM_AT)
        among("model.jumping", jumping, LAYER_JUMPING)
        super().__init__(data, hidden, node_layers, activation, dropout)
        self.jumping = jumping
        if jumping == "lstm" and residual == "cat":
            raise ValueError("model.jumping=lstm takes layers of one width, which model.residual=cat makes none of")
        if jumping == "lstm":
            from torch_geometric.nn import JumpingKnowledge  # seconds to import

            self.jump = JumpingKnowledge("lstm", hidden, depth)
        self.blocks = nn.ModuleList()
        width, widths = self.in_channels, []
        for _ in range(depth):
            block = Block(mp, [width, hidden], activation, norm, dropout, data.edges, norm_at, residual)
            self.blocks.append(block)
            width = block.channels
            widths.append(width)
        width = combined_width("model.jumping", widths, jumping)
        self.readout = build_readout(pool, width, hidden, data)
        self.head = head(self.readout.out_channels(width), hidden, data.out_channels, head_layers, activation,
                         dropout if head_dropout is None else head_dropout)  # fmt: skip
        self.draw(initializer)

    @classmethod
    def refuses(cls, pool: type[Operator]) -> str | None:
        if not issubclass(pool, GlobalPool):
            return "it is a hierarchical operator, and model=global takes a readout: add model=hierarchical"
        return None

    def requirements(self) -> set[Connectivity]:
        first = self.blocks[0]
        assert isinstance(first, Block)
        return first.connectivities

    def forward(
        self, x: Tensor, a: Matrix, edges: Tensor | None = None, coarsenings: Sequence[Coarsening] = ()
    ) -> ModelOutput:
        x, layers = self.encode(x), []
        for block in self.blocks:
            x = block(x, a, edges)
            layers.append(x)
        x = self.jump(layers) if self.jumping == "lstm" else combined(layers, self.jumping)
        losses = penalties([self.readout])
        return ModelOutput(self.head(self.readout(x, a.nodes, a=a)), losses, [a.nodes.sizes])
