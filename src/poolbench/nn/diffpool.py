"""DiffPool in dense GraphSAGE, as two comparisons have it (`model=diffpool`)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn

from poolbench.errors import whole
from poolbench.linalg import Connectivity, Matrix, Nodes, Ragged
from poolbench.linalg.coarsening import Coarsening
from poolbench.nn.message_passing import SAGE
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
)
from poolbench.pool.base.src import GlobalPool, Operator, SRCPool
from poolbench.pool.readouts.globalpool import GlobalAvgPool


class DiffPoolNet(GraphModel):
    """Blocks of GraphSAGE that embed, a pool between each two, a readout of each level, an MLP.

    Two networks are made of it (docs/models.md): that of PyTorch Geometric's benchmark (Fey & Lenssen, 2019, arXiv
    1903.02428), with `joined`, and that of Errica et al. ("A Fair Comparison of Graph Neural Networks for Graph
    Classification", ICLR 2020, arXiv 1912.09893), with `norm: batch` and `linear_last`. With `pool.gnn=level` the
    assignment has a block like that of its level, and a linear layer on the outputs of all its layers. Weights and
    biases start as torch's linear layers do.

    Args:
        data: widths of the data. pool: the operator, built once a level. readout: any global operator.
        levels: number of pools. depth: layers of a block. hidden: their width.
        last: width of the last layer of an embedding block; None: hidden.
        joined: a linear layer and ReLU on the outputs of all layers of an embedding block, side by side, to the width
            of the last; False: it hands these on as they are.
        root: a node hears itself, too. linear_last: the last layer of a block has neither ReLU nor normalisation.
        norm: none, or batch: after the ReLU, over the rows of all graphs padded to the largest of the batch.
        read: levels: the readouts see what each block hands on; pools: what each pool does, and the last block.
        rows: of graphs padded to so many nodes the first readout is the mean over all rows; a larger graph has its own.
            None: over the nodes. For `joined`, whose padding is relu(bias), and readout=globalavg.
        head_layers, head_dropout: the MLP, as in `poolbench.nn.hierarchical.Hierarchical`.
    """

    def __init__(
        self,
        data: DataFacts,
        pool: Part,
        readout: Part,
        levels: int = 1,
        depth: int = 2,
        hidden: int = 64,
        last: int | None = None,
        joined: bool = True,
        root: bool = True,
        linear_last: bool = False,
        norm: str = "none",
        read: str = "levels",
        rows: int | None = None,
        head_layers: int | Sequence[int] = 2,
        head_dropout: float = 0.0,
    ) -> None:
        super().__init__(data, hidden)
        check_choices(levels=levels, depth=depth, hidden=hidden, head_layers=head_layers, head_dropout=head_dropout)
        if norm not in ("none", "batch"):
            raise ValueError(f"model.norm={norm!r} is neither none nor batch")
        if read not in ("levels", "pools"):
            raise ValueError(f"model.read={read!r} is neither levels nor pools")
        width = hidden if last is None else whole("model.last", last)
        self.read, self.rows = read, None if rows is None else whole("model.rows", rows)
        block = partial(SAGEBlock, hidden=hidden, depth=depth, root=root, norm=norm, linear_last=linear_last)
        self.blocks, pools, seen = nn.ModuleList(), [], []
        channels = self.in_channels
        for level in range(levels + 1):
            embed = block(channels, width, joined=joined)
            self.blocks.append(embed)
            if level == levels:
                seen.append(embed.channels)
                break
            op = build_pool(pool, level, embed.channels, data.mean_nodes, like_level=block, x0_channels=channels)
            pools.append(op)
            channels = op.out_channels(embed.channels)
            seen.append(channels if read == "pools" else embed.channels)
        self.pools = nn.ModuleList(pools)
        readouts = [build_readout(readout, w, hidden, data) for w in seen]
        self.readouts = nn.ModuleList(readouts)
        if self.rows is not None and not (joined and read == "levels" and isinstance(readouts[0], GlobalAvgPool)):
            raise ValueError(f"model.rows={rows}: goes with joined, read=levels and readout=globalavg")
        out = sum(r.out_channels(w) for r, w in zip(readouts, seen, strict=True))
        self.head = head(out, hidden, data.out_channels, head_layers, "relu", head_dropout)

    @classmethod
    def refuses(cls, pool: type[Operator]) -> str | None:
        if issubclass(pool, GlobalPool):
            return "it is a readout, and model=diffpool takes a hierarchical operator"
        return None

    def requirements(self) -> set[Connectivity]:
        first = self.pools[0]
        assert isinstance(first, SRCPool)
        return {SAGE.connectivity, first.connectivity}

    def forward(
        self, x: Tensor, a: Matrix, edges: Tensor | None = None, coarsenings: Sequence[Coarsening] = ()
    ) -> ModelOutput:
        x = self.encode(x)
        losses: dict[str, Tensor] = {}
        sizes, summaries = [a.nodes.sizes], []
        for level, (block, readout) in enumerate(zip(self.blocks, self.readouts, strict=True)):
            assert isinstance(block, SAGEBlock)
            x0, x = x, block(x, a)
            last = level == len(self.pools)
            if last or self.read == "levels":
                summary = readout(x, a.nodes, a=a)
                summaries.append(self._padded(summary, block, a.nodes) if level == 0 else summary)
            if last:
                break
            out = self.pool_once(self.pools[level], x, a, level, coarsenings, None, x0)
            x, a = out.x, out.a
            sizes.append(out.sizes)
            losses |= at_level(out.losses, level)
            if self.read == "pools":
                summaries.append(readout(x, a.nodes, a=a))
        losses |= penalties(self.readouts)
        return ModelOutput(self.head(torch.cat(summaries, -1)), losses, sizes)

    def _padded(self, mean: Tensor, block: SAGEBlock, nodes: Nodes) -> Tensor:
        """The mean over `rows` rows, those of padding included, from the mean over the nodes: [b, f]."""
        if self.rows is None:
            return mean
        assert isinstance(block.linear, nn.Linear)
        share = (nodes.sizes.to(mean.dtype) / self.rows).clamp(max=1.0).unsqueeze(-1)
        return share * mean + (1.0 - share) * torch.relu(block.linear.bias)


class SAGEBlock(nn.Module):
    """Layers of GraphSAGE in a row, their outputs side by side: [.., in_channels] -> [.., channels].

    The last layer is `out_channels` wide, the others `hidden`. joined: a linear layer and ReLU follow, to
    `out_channels`; None: the linear layer alone, as for the logits of an assignment. The others: see `DiffPoolNet`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        hidden: int,
        depth: int,
        root: bool,
        norm: str,
        linear_last: bool,
        joined: bool | None = None,
    ) -> None:
        super().__init__()
        self.joined, self.linear_last = joined, linear_last
        inner = [*[hidden] * (depth - 1), out_channels]
        self.layers = nn.ModuleList(SAGE(n, m, root=root) for n, m in pairwise([in_channels, *inner]))
        normed = inner[:-1] if linear_last else inner
        self.norms = nn.ModuleList(PaddedNorm(m) if norm == "batch" else nn.Identity() for m in normed)
        wide = sum(inner)
        self.linear = nn.Identity() if joined is False else nn.Linear(wide, out_channels)
        #: Width of what the block hands on.
        self.channels = wide if joined is False else out_channels
        for layer in self.layers:
            assert isinstance(layer, SAGE)
            self._draw(layer)

    @staticmethod
    @torch.no_grad()
    def _draw(layer: SAGE) -> None:
        layer.neighbours.reset_parameters()
        if layer.root is not None:
            layer.root.reset_parameters()
        else:
            bound = layer.neighbours.in_features**-0.5
            layer.bias.uniform_(-bound, bound)

    def forward(self, x: Tensor, a: Matrix) -> Tensor:
        found = []
        for number, layer in enumerate(self.layers):
            x = layer(x, a)
            if number < len(self.norms):
                norm, x = self.norms[number], torch.relu(x)
                x = norm(x, a.nodes) if isinstance(norm, PaddedNorm) else x
            found.append(x)
        y = self.linear(torch.cat(found, -1))
        return torch.relu(y) if self.joined else y


class PaddedNorm(nn.Module):
    """Batch normalisation over graphs that are padded to the largest of the batch, with rows of zeros: x [n, f], or
    [b, k, f], which has no padding of its own. Cost O(b n_max f) in training, O(n f) in evaluation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(channels)

    def forward(self, x: Tensor, nodes: Nodes) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        if self.training and isinstance(nodes, Ragged):
            padding = nodes.num_graphs * max(nodes.host_sizes, default=0) - rows.shape[0]
            rows = torch.cat([rows, rows.new_zeros(padding, rows.shape[1])])
        if self.training and rows.shape[0] == 1:
            return x  # torch refuses a single row, which has no variance
        return self.norm(rows)[: x.numel() // x.shape[-1]].reshape(x.shape)
