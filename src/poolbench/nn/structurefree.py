"""A network that sees nodes and no edges: the baseline that a graph network must beat (`model=structure-free`)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from poolbench.linalg import Connectivity, Matrix
from poolbench.linalg.coarsening import Coarsening
from poolbench.nn.model import DataFacts, GraphModel, ModelOutput, Part, build_readout, check_choices, head, penalties
from poolbench.pool.base.src import GlobalPool, Operator


class StructureFree(GraphModel):
    """An MLP on each node, a readout, an MLP.

    The baselines of Errica, Podda, Bacciu, Micheli, "A Fair Comparison of Graph Neural Networks for Graph
    Classification", ICLR 2020, arXiv 1912.09893, section 4: `node_layers` = 0 and pool=globalsum is the molecular
    fingerprint (a sum of the features, then an MLP), `node_layers` = 1 is Deep Multisets.

    Args:
        data: widths of the data. pool: the readout.
        node_layers: layers of the MLP on nodes. hidden: width of all layers. activation, dropout: after each layer.
        head_layers: linear layers of the MLP on the graph, halving from `hidden`, or a list of the widths of its hidden
            layers.
    """

    def __init__(
        self,
        data: DataFacts,
        pool: Part,
        node_layers: int = 1,
        hidden: int = 64,
        activation: str = "relu",
        dropout: float = 0.0,
        head_layers: int | Sequence[int] = 2,
    ) -> None:
        check_choices(hidden=hidden, activation=activation, dropout=dropout, head_layers=head_layers,
                      node_layers=node_layers)  # fmt: skip
        super().__init__(data, hidden, node_layers, activation, dropout)
        width = self.in_channels
        self.readout = build_readout(pool, width, hidden, data)
        if self.readout.needs_graph:
            raise ValueError("with these arguments the readout looks at edges, which model=structure-free never does")
        self.head = head(self.readout.out_channels(width), hidden, data.out_channels, head_layers, activation, dropout)

    @classmethod
    def refuses(cls, pool: type[Operator]) -> str | None:
        if not issubclass(pool, GlobalPool):
            return "it pools by the edges, which model=structure-free never looks at: take a readout such as globalsum"
        return None

    def requirements(self) -> set[Connectivity]:
        return set()

    def forward(
        self, x: Tensor, a: Matrix, edges: Tensor | None = None, coarsenings: Sequence[Coarsening] = ()
    ) -> ModelOutput:
        losses = penalties([self.readout])
        return ModelOutput(self.head(self.readout(self.encode(x), a.nodes)), losses, [a.nodes.sizes])
