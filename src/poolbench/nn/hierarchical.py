"""[message passing, pool] x L, message passing, readout, MLP: the template of the field's hierarchical models."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from poolbench.linalg import Connectivity, Matrix
from poolbench.linalg.coarsening import Coarsening
from poolbench.nn.block import Block, Logits, combined, combined_width
from poolbench.nn.message_passing import Named
from poolbench.nn.model import (
    DataFacts,
    GraphModel,
    ModelOutput,
    Part,
    at_level,
    build_pool,
    build_readout,
    check_choices,
    check_levels,
    head,
    penalties,
    pooled_channels,
    up_to_level,
)
from poolbench.pool.base.src import GlobalPool, Operator, SRCPool


class Hierarchical(GraphModel):
    """Levels of message passing and pooling, then a readout and an MLP. docs/models.md shows networks of papers in it.

    Args:
        data: widths of the data and the mean size of the training graphs.
        pool: the hierarchical operator, built once a level (`pool.ratio` and `pool.k` may be lists, one a level).
        readout: any global operator.
        node_layers: linear layers on the nodes before all message passing, each with the activation and dropout.
        mp: a message passing layer: its name (see `poolbench.nn.message_passing.LAYERS`), or a mapping of its `name`
            and arguments.
        levels: number of pools. depth: message passing layers before each pool and after the last.
        hidden: width of all layers. activation, norm (none, batch, layer), dropout: after each layer.
        norm_at, residual, combine: see `Block`; block: once, before each pool and after the last layer.
        linear_last: the last layer of each level has neither normalisation nor activation.
        jumping: none: the readout sees the last level; cat, sum, max: readouts after every level, combined.
        jumping_over: levels; layers: readouts after every message passing layer; pools: after every pool, and after the
            last layer where one follows the last pool.
        head_layers: linear layers of the MLP, halving from `hidden`, or a list of the widths of its hidden layers.
        head_dropout: between its layers; None: `dropout`.
        initializer: of the weights of all linear layers, see `GraphModel.draw`; None: each layer has its own.

    mp, depth, hidden and norm may be lists: one value a level, the last one for all that follow, levels + 1 in all. A
    level of depth 0 pools what it is given. The readouts and the MLP have the width of the last level.
    """

    def __init__(
        self,
        data: DataFacts,
        pool: Part,
        readout: Part,
        mp: Named | Sequence[Named] = "gcn",
        levels: int = 2,
        depth: int | Sequence[int] = 1,
        hidden: int | Sequence[int] = 64,
        activation: str = "relu",
        norm: str | Sequence[str] = "none",
        dropout: float = 0.0,
        jumping: str = "none",
        head_layers: int | Sequence[int] = 2,
        norm_at: str = "before",
        residual: str = "none",
        combine: str = "none",
        jumping_over: str = "levels",
        node_layers: int = 0,
        head_dropout: float | None = None,
        initializer: str | None = None,
        linear_last: bool = False,
    ) -> None:
        check_choices(levels=levels, activation=activation, dropout=dropout, jumping=jumping,
                      head_layers=head_layers, norm_at=norm_at, residual=residual, combine=combine,
                      jumping_over=jumping_over, node_layers=node_layers, head_dropout=head_dropout)  # fmt: skip
        check_levels(mp=mp, depth=depth, hidden=hidden, norm=norm)
        if jumping == "none" and jumping_over != "levels":
            raise ValueError(
                f"model.jumping_over={jumping_over}: say how readouts are combined, by model.jumping=cat, sum or max"
            )
        hiddens = up_to_level("model.hidden", hidden, levels)
        super().__init__(data, hiddens[0], node_layers, activation, dropout)
        self.jumping, self.jumping_over = jumping, jumping_over
        self.blocks = nn.ModuleList()
        width, edges = self.in_channels, data.edges
        pools: list[SRCPool] = []
        widths: list[int] = []  # of what the readouts see
        for level in range(levels + 1):
            if jumping_over == "pools" and level:
                widths.append(width)
            layers = up_to_level("model.depth", depth, level)[-1]
            settings: dict[str, Any] = dict(
                mp=up_to_level("model.mp", mp, level)[-1], norm=up_to_level("model.norm", norm, level)[-1],
                activation=activation, dropout=dropout, norm_at=norm_at, residual=residual, combine=combine,
                linear_last=linear_last)  # fmt: skip
            block = Block(widths=[width, *[hiddens[level]] * layers], edges=edges, **settings)
            self.blocks.append(block)
            if jumping_over == "layers":
                widths += block.widths
            elif self._read_out(level == levels, layers > 0):
                widths.append(block.channels)
            if level < levels:
                like_level = partial(Logits, hidden=hiddens[level], depth=layers, **settings)
                op = build_pool(pool, level, block.channels, data.mean_nodes, like_level=like_level, x0_channels=width)
                pools.append(op)
                width, edges = op.out_channels(block.channels), pooled_channels(op, edges)
        self.pools = nn.ModuleList(pools)
        if not widths:
            raise ValueError("model.depth=0 at all levels: model.jumping_over=layers finds no layer to read out after")
        readouts = [build_readout(readout, w, hiddens[-1], data) for w in widths]
        self.readouts = nn.ModuleList(readouts)
        out = [r.out_channels(w) for r, w in zip(readouts, widths, strict=True)]
        self.head = head(combined_width("model.jumping", out, jumping), hiddens[-1], data.out_channels, head_layers,
                         activation, dropout if head_dropout is None else head_dropout)  # fmt: skip
        self.draw(initializer)

    def _read_out(self, last: bool, layers: bool) -> bool:
        """Whether there is a readout of what the block of a level hands on, other than of each of its layers."""
        if self.jumping_over == "pools":
            return last and layers
        return last or self.jumping != "none"

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
        readouts = iter(self.readouts)
        for level, block in enumerate(self.blocks):
            assert isinstance(block, Block)
            last = level == len(self.pools)
            if self.jumping_over == "pools" and level:
                summaries.append(next(readouts)(x, a.nodes, a=a))
            outputs: list[Tensor] = []
            x0, x = x, block(x, a, edges, outputs)
            if self.jumping_over == "layers":
                summaries += [next(readouts)(y, a.nodes, a=a) for y in outputs]
            elif self._read_out(last, bool(outputs)):
                summaries.append(next(readouts)(x, a.nodes, a=a))
            if not last:
                out = self.pool_once(self.pools[level], x, a, level, coarsenings, edges, x0)
                x, a, edges = out.x, out.a, out.edge_attr
                sizes.append(out.sizes)
                losses |= at_level(out.losses, level)
        losses |= penalties(self.readouts)
        return ModelOutput(self.head(combined(summaries, self.jumping)), losses, sizes)
