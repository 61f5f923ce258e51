"""DGCNN: graph convolutions, SortPool, one-dimensional convolutions over the sorted nodes (`model=dgcnn`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor, nn

from poolbench.errors import whole
from poolbench.linalg import RAW, Connectivity, Matrix
from poolbench.linalg.coarsening import Coarsening
from poolbench.nn.model import DataFacts, GraphModel, ModelOutput, Part, build_readout, check_choices, each
from poolbench.pool.base.src import Operator
from poolbench.pool.readouts.sortpool import SortPool


class DGCNN(GraphModel):
    """Zhang, Cui, Neumann, Chen, "An End-to-End Deep Learning Architecture for Graph Classification", AAAI 2018.

    Z_{t+1} = tanh(D~^-1 A~ Z_t W_t) with A~ = A + I, `depth` layers of width `hidden` and one of width 1; their outputs
    side by side are sorted by the last column; a convolution that reads one node at a time, max pooling by two, a
    second convolution over `kernel` places, a dense layer.

    Args:
        data: widths and sizes of the data. pool: sortpool; k null is what 60 % of the training graphs reach.
        depth: graph convolutions before the one of width 1. hidden: their width.
        channels: of the two convolutions. kernel: places that the second one reads. dense: width of the last layer.
        dropout: before the answer.
    """

    def __init__(
        self,
        data: DataFacts,
        pool: Part,
        depth: int = 3,
        hidden: int = 32,
        channels: tuple[int, int] = (16, 32),
        kernel: int = 5,
        dense: int = 128,
        dropout: float = 0.5,
    ) -> None:
        super().__init__(data, hidden)
        check_choices(depth=depth, hidden=hidden, dropout=dropout)
        for name, values in (("channels", channels), ("kernel", kernel), ("dense", dense)):
            for value in each(values):
                whole(f"model.{name}", value)
        widths = [self.in_channels, *[hidden] * depth, 1]
        self.layers = nn.ModuleList(nn.Linear(n, m, bias=False) for n, m in pairwise(widths))
        width = hidden * depth + 1
        self.pool = build_readout(replace(pool, args={**pool.args, "flatten": False}), width, hidden, data)
        assert isinstance(self.pool, SortPool)
        # Two pooled places for each of the k sorted nodes, of which the second convolution needs `kernel`.
        places = self.pool.k // 2
        if places < kernel:
            raise ValueError(
                f"k={self.pool.k} is too small for model.kernel={kernel}: give pool.k of at least {2 * kernel}"
            )
        first, second = channels
        self.convolutions = nn.Sequential(
            nn.Conv1d(1, first, width, stride=width),
            nn.ReLU(),
            nn.MaxPool1d(2, 2),
            nn.Conv1d(first, second, kernel),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(second * (places - kernel + 1), dense),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(dense, data.out_channels),
        )

    @classmethod
    def refuses(cls, pool: type[Operator]) -> str | None:
        if not issubclass(pool, SortPool):
            return "model=dgcnn is built around sortpool: take pool=sortpool, or another model"
        return None

    def requirements(self) -> set[Connectivity]:
        return {RAW}

    def forward(
        self, x: Tensor, a: Matrix, edges: Tensor | None = None, coarsenings: Sequence[Coarsening] = ()
    ) -> ModelOutput:
        x, layers = self.encode(x), []
        share = (1.0 + a.degree()).reciprocal().unsqueeze(-1)
        for layer in self.layers:
            x = layer(x)
            x = torch.tanh(share * (a.matmul(x) + x))
            layers.append(x)
        rows = self.pool(torch.cat(layers, -1), a.nodes)
        return ModelOutput(self.convolutions(rows.flatten(1).unsqueeze(1)), {}, [a.nodes.sizes])
