"""[message passing, pool] x L, message passing, readout, MLP: the template of the field's hierarchical models."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from poolbench.linalg import Connectivity, Matrix
from poolbench.linalg.coarsening import Coarsening
from poolbench.nn.model import (
    Block,
    DataFacts,
    GraphModel,
    ModelOutput,
    Part,
    at_level,
    build_pool,
    build_readout,
    check_choices,
    combined,
    head,
    penalties,
    pooled_channels,
)
from poolbench.pool.base.src import GlobalPool, Operator, SRCPool


class Hierarchical(GraphModel):
    """Levels of message passing and pooling, then a readout and an MLP.

    Args:
        data: widths of the data and the mean size of the training graphs.
        pool: the hierarchical operator, built once a level (`pool.ratio` and `pool.k` may be lists, one a level).
        readout: any global operator.
        mp: a message passing layer: gcn, gin, gine (uses edge features), graphconv, gcs ...
        levels: number of pools. depth: message passing layers before each pool and after the last.
        hidden: width of all layers. activation, norm (none, batch, layer), dropout: after each layer.
        jumping: none: the readout sees the last level; cat, sum, max: readouts after every level, combined.
        head_layers: linear layers of the MLP.
    """

    def __init__(
        self,
        data: DataFacts,
        pool: Part,
        readout: Part,
        mp: str = "gcn",
        levels: int = 2,
        depth: int = 1,
        hidden: int = 64,
        activation: str = "relu",
        norm: str = "none",
        dropout: float = 0.0,
        jumping: str = "none",
        head_layers: int = 2,
    ) -> None:
        super().__init__(data, hidden)
        check_choices(mp=mp, levels=levels, depth=depth, hidden=hidden, activation=activation, norm=norm,
                      dropout=dropout, jumping=jumping, head_layers=head_layers)  # fmt: skip
        self.jumping = jumping
        self.blocks = nn.ModuleList()
        width, edges = self.in_channels, data.edges
        pools: list[SRCPool] = []
        for level in range(levels):
            self.blocks.append(Block(mp, [width, *[hidden] * depth], activation, norm, dropout, edges))
            op = build_pool(pool, level, hidden, data.mean_nodes)
            pools.append(op)
            width, edges = op.out_channels(hidden), pooled_channels(op, edges)
        self.pools = nn.ModuleList(pools)
        self.blocks.append(Block(mp, [width, *[hidden] * depth], activation, norm, dropout, edges))
        widths = [hidden] * (levels + 1) if jumping != "none" else [hidden]
        readouts = [build_readout(readout, w, hidden, data) for w in widths]
        self.readouts = nn.ModuleList(readouts)
        out = [r.out_channels(w) for r, w in zip(readouts, widths, strict=True)]
        self.head = head(sum(out) if jumping == "cat" else out[0], hidden, data.out_channels, head_layers,
                         activation, dropout)  # fmt: skip

    @classmethod
    def refuses(cls, pool: type[Operator]) -> str | None:
        if issubclass(pool, GlobalPool):
            return "it is a readout, and model=hierarchical takes a hierarchical operator: add model=global"
        return None

    def requirements(self) -> set[Connectivity]:
        first = self.pools[0]
        assert isinstance(first, SRCPool) and isinstance(self.blocks[0], Block)
        return self.blocks[0].connectivities | {first.connectivity}

    def forward(
        self, x: Tensor, a: Matrix, edges: Tensor | None = None, coarsenings: Sequence[Coarsening] = ()
    ) -> ModelOutput:
        x = self.encode(x)
        losses: dict[str, Tensor] = {}
        sizes, summaries = [a.nodes.sizes], []
        for level, (block, pool) in enumerate(zip(self.blocks[:-1], self.pools, strict=True)):
            x = block(x, a, edges)
            if self.jumping != "none":
                summaries.append(self.readouts[level](x, a.nodes))
            out = self.pool_once(pool, x, a, level, coarsenings, edges)
            x, a, edges = out.x, out.a, out.edge_attr
            sizes.append(out.sizes)
            losses |= at_level(out.losses, level)
        x = self.blocks[-1](x, a, edges)
        summaries.append(self.readouts[-1](x, a.nodes))
        losses |= penalties(self.readouts)
        return ModelOutput(self.head(combined(summaries, self.jumping)), losses, sizes)
