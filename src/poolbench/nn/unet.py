"""Graph U-Net: pool down, lift up, skip connections between (`model=unet`)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from poolbench.linalg import Connectivity, Matrix
from poolbench.linalg.coarsening import Coarsening
from poolbench.nn.block import Block
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
    head,
    penalties,
    pooled_channels,
)
from poolbench.pool.base.src import GlobalPool, Operator, SRCPool


class UNet(GraphModel):
    """Gao & Ji, "Graph U-Nets", ICML 2019, arXiv 1905.05178, figure 4.

    Down: message passing, pool, `levels` times; message passing at the bottom; up: lift, add the features of that level
    from the way down, message passing. Any hierarchical operator takes the place of the paper's topk: what its `lift`
    does is what unpooling does. The paper squares A before a pool: `squared` of `TopKPool`. Where edge features go
    through the pools, the layers on the way up see those of their level, too.

    Args:
        data: widths of the data. pool: the operator, built once a level.
        readout: any global operator; used for graphs alone.
        nodes: an answer a node (node classification) instead of one a graph.
        mp, hidden, activation, norm, dropout: of the message passing layers. levels: number of pools.
        skip: `sum` or `cat`, how the way down joins the way up.
        head_layers: linear layers of the MLP at the end, halving from `hidden`, or a list of the widths of its hidden
            layers. head_dropout: between them; None: `dropout`.
        initializer: of the weights of all linear layers, see `GraphModel.draw`; None: each layer has its own.
    """

    def __init__(
        self,
        data: DataFacts,
        pool: Part,
        readout: Part,
        nodes: bool = False,
        mp: Named = "gcn",
        levels: int = 3,
        hidden: int = 64,
        activation: str = "relu",
        norm: str = "none",
        dropout: float = 0.0,
        skip: str = "sum",
        head_layers: int | Sequence[int] = 1,
        head_dropout: float | None = None,
        initializer: str | None = None,
    ) -> None:
        super().__init__(data, hidden)
        check_choices(mp=mp, levels=levels, hidden=hidden, activation=activation, norm=norm, dropout=dropout,
                      head_layers=head_layers, head_dropout=head_dropout)  # fmt: skip
        if skip not in ("sum", "cat"):
            raise ValueError(f"model.skip={skip!r} is not one of sum, cat")
        self.skip = skip
        settings: dict[str, Any] = dict(mp=mp, activation=activation, norm=norm, dropout=dropout)
        self.first = Block(widths=[self.in_channels, hidden], edges=data.edges, **settings)
        pools = [build_pool(pool, level, hidden, data.mean_nodes, lifts=True) for level in range(levels)]
        self.pools = nn.ModuleList(pools)
        edges = [data.edges]  # of each level
        for op in pools:
            edges.append(pooled_channels(op, edges[-1]))
        self.down = nn.ModuleList(
            Block(widths=[op.out_channels(hidden), hidden], edges=after, **settings)
            for op, after in zip(pools, edges[1:], strict=True)
        )
        joined = 2 * hidden if skip == "cat" else hidden
        self.up = nn.ModuleList(
            Block(widths=[joined, hidden], edges=after and before, **settings)  # with what went through the pool
            for before, after in reversed(list(pairwise(edges)))
        )
        self.readout = None if nodes else build_readout(readout, hidden, hidden, data)
        width = hidden if self.readout is None else self.readout.out_channels(hidden)
        self.head = head(width, hidden, data.out_channels, head_layers, activation,
                         dropout if head_dropout is None else head_dropout)  # fmt: skip
        self.draw(initializer)
        self.task = "nodes" if nodes else "graphs"

    @classmethod
    def refuses(cls, pool: type[Operator]) -> str | None:
        if issubclass(pool, GlobalPool):
            return "it is a readout, which cannot be lifted: model=unet takes a hierarchical operator"
        return None

    def requirements(self) -> set[Connectivity]:
        first = self.pools[0]
        assert isinstance(first, SRCPool)
        return self.first.connectivities | {first.connectivity}  # the last layer on the way up has the first one's

    def forward(
        self, x: Tensor, a: Matrix, edges: Tensor | None = None, coarsenings: Sequence[Coarsening] = ()
    ) -> ModelOutput:
        losses: dict[str, Tensor] = {}
        x = self.first(self.encode(x), a, edges)
        sizes, way = [a.nodes.sizes], []
        graph = a
        for level, (pool, block) in enumerate(zip(self.pools, self.down, strict=True)):
            out = self.pool_once(pool, x, a, level, coarsenings, edges)
            way.append((x, a, edges, out.s, pool))
            x, a, edges = block(out.x, out.a, out.edge_attr), out.a, out.edge_attr
            sizes.append(out.sizes)
            losses |= at_level(out.losses, level)
        for (above, a, edges, s, pool), block in zip(reversed(way), self.up, strict=True):
            lifted = pool.lift(x, s)
            x = block(torch.cat([above, lifted], -1) if self.skip == "cat" else above + lifted, a, edges)
        if self.readout is not None:
            x = self.readout(x, graph.nodes, a=graph)
            losses |= penalties([self.readout])
        return ModelOutput(self.head(x), losses, sizes)
