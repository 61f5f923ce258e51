"""Message passing layers, a readout and an MLP: the template for global operators (`model=global`)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from poolbench.linalg import Connectivity, Matrix
from poolbench.linalg.coarsening import Coarsening
from poolbench.nn.model import (
    JUMPING,
    Block,
    DataFacts,
    GraphModel,
    ModelOutput,
    Part,
    build_readout,
    check_choices,
    combined,
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
        mp: a message passing layer: gcn, gin, gine (uses edge features), graphconv, gcs ... depth: how many.
        hidden: width of all layers.
        activation, norm (none, batch, layer), dropout: after each layer.
        jumping: none: the readout sees the last layer; cat, sum, max: the outputs of all layers, combined;
            lstm: their mean, weighted for each node by a bidirectional LSTM over its layers (Xu et al., "Representation
            Learning on Graphs with Jumping Knowledge Networks", ICML 2018, arXiv 1806.03536).
        head_layers: linear layers of the MLP.
    """

    def __init__(
        self,
        data: DataFacts,
        pool: Part,
        mp: str = "gcn",
        depth: int = 3,
        hidden: int = 64,
        activation: str = "relu",
        norm: str = "none",
        dropout: float = 0.0,
        jumping: str = "none",
        head_layers: int = 2,
    ) -> None:
        super().__init__(data, hidden)
        check_choices(mp=mp, depth=depth, hidden=hidden, activation=activation, norm=norm, dropout=dropout,
                      head_layers=head_layers)  # fmt: skip
        if jumping not in LAYER_JUMPING:
            raise ValueError(f"model.jumping={jumping!r} is not one of {', '.join(LAYER_JUMPING)}")
        self.jumping = jumping
        if jumping == "lstm":
            from torch_geometric.nn import JumpingKnowledge  # seconds to import

            self.jump = JumpingKnowledge("lstm", hidden, depth)
        pairs = pairwise([self.in_channels, *[hidden] * depth])
        self.blocks = nn.ModuleList(Block(mp, pair, activation, norm, dropout, data.edges) for pair in pairs)
        width = hidden * depth if jumping == "cat" else hidden
        self.readout = build_readout(pool, width, hidden, data)
        self.head = head(self.readout.out_channels(width), hidden, data.out_channels, head_layers, activation, dropout)

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
        return ModelOutput(self.head(self.readout(x, a.nodes)), losses, [a.nodes.sizes])
