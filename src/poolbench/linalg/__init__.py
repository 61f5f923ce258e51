"""Graphs as matrices: the two layouts, their products and their normalisations. Imports torch alone."""

from poolbench.linalg.connectivity import GCN, RAW, SYMMETRIC, Connectivity, Normalized, Propagation, Raw
from poolbench.linalg.matrix import Dense, Matrix, Sparse, block_diagonal, merged_entries, to_flat, to_padded
from poolbench.linalg.nodes import Nodes, Padded, Ragged

__all__ = [
    "GCN",
    "RAW",
    "SYMMETRIC",
    "Connectivity",
    "Dense",
    "Matrix",
    "Nodes",
    "Normalized",
    "Padded",
    "Propagation",
    "Ragged",
    "Raw",
    "Sparse",
    "block_diagonal",
    "merged_entries",
    "to_flat",
    "to_padded",
]
