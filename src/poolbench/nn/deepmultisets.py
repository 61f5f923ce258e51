"""Errica et al.'s baseline without structure (`model=deepmultisets`)."""

from __future__ import annotations

from poolbench.nn.model import DataFacts, Part
from poolbench.nn.structurefree import StructureFree


class DeepMultisets(StructureFree):
    """A layer on each node, a readout, a layer of the same width, the answer; ReLU after all but the last.

    Errica, Podda, Bacciu, Micheli, "A Fair Comparison of Graph Neural Networks for Graph Classification", ICLR 2020,
    arXiv 1912.09893, for datasets that are no molecules, with a sum for the readout: a `StructureFree` whose MLP does
    not halve, so that a search may choose one width for all.

    Args:
        data: widths of the data. pool: the readout. hidden: width of both layers.
    """

    def __init__(self, data: DataFacts, pool: Part, hidden: int = 64) -> None:
        super().__init__(data, pool, node_layers=1, hidden=hidden, activation="relu", dropout=0.0, head_layers=[hidden])
