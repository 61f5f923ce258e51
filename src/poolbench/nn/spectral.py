"""The operator alone, trained to keep what the Laplacian says of some signals (`model=spectral`)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from poolbench.errors import whole
from poolbench.linalg import RAW, Connectivity, Matrix
from poolbench.linalg.coarsening import Coarsening
from poolbench.nn.model import DataFacts, GraphModel, ModelOutput, Part, build_pool
from poolbench.pool.base.src import GlobalPool, Operator, SRCPool


def quadratic_form(x: Tensor, a: Matrix) -> Tensor:
    """x' L x for each column of x [.., f] in each graph, with L = D - A: [b, f]."""
    return a.nodes.sum(x * (a.degree().to(x.dtype).unsqueeze(-1) * x - a.matmul(x)))


class Spectral(GraphModel):
    """Does pooling preserve structure? y [b, f] is x' L x of each signal less what it is after pooling, x'_p L_p x_p.

    Grattarola, Zambon, Bianchi, Alippi, "Understanding Pooling in Graph Neural Networks", TNNLS 2022, arXiv
    2110.05292, section "preserving structure". The signals are the features of the nodes and the first eigenvectors of
    L = D - A, which the learner computes (`learn.structure`); the operator sees them and the adjacency matrix as it is,
    whichever one it was designed for, so that L_p is comparable to L.

    Args:
        data: widths of the data. pool: any hierarchical operator that keeps the number of features.
        eigenvectors: how many there are among the signals, the constant one included.
    """

    task = "structure"

    def __init__(self, data: DataFacts, pool: Part, eigenvectors: int = 10) -> None:
        eigenvectors = whole("model.eigenvectors", eigenvectors)
        if data.vocabulary is not None:
            raise ValueError("model=spectral takes signals that are numbers, and these node features are categories")
        signals = data.in_channels + eigenvectors
        super().__init__(data, hidden=signals)
        self.eigenvectors = eigenvectors
        self.pool = build_pool(pool, 0, signals, data.mean_nodes)
        pooled = self.pool.out_channels(signals)
        if pooled != signals:
            raise ValueError(
                f"model=spectral compares signals one by one, and this operator makes {pooled} features of {signals}: "
                "set it to keep their number, as by pool.channels=null or pool.num_modes=1"
            )

    @classmethod
    def refuses(cls, pool: type[Operator]) -> str | None:
        if issubclass(pool, GlobalPool):
            return "it is a readout, which leaves no graph to compare: model=spectral takes a hierarchical operator"
        return None

    def requirements(self) -> set[Connectivity]:
        return set()

    def precomputed(self) -> list[SRCPool]:
        return super().precomputed() if self.pool.connectivity == RAW else []  # those are of the operator's own matrix

    def forward(
        self, x: Tensor, a: Matrix, edges: Tensor | None = None, coarsenings: Sequence[Coarsening] = ()
    ) -> ModelOutput:
        out = self.pool(x, a, coarsening=coarsenings[0]) if coarsenings else self.pool(x, a)
        change = quadratic_form(x, a) - quadratic_form(out.x, out.a)
        return ModelOutput(change, out.losses, [a.nodes.sizes, out.sizes])
