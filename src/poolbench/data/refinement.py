"""What 1-WL tells apart, exactly: colour refinement (Weisfeiler & Leman, 1968), its colours numbers and no hashes.

No network of message passing and a readout tells graphs apart that it does not (Xu et al., ICLR 2019, arXiv 1810.00826;
Morris et al., AAAI 2019, arXiv 1810.02244).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from poolbench.data.raw import RawGraphs

Array = np.ndarray[Any, np.dtype[Any]]


def colours(raw: RawGraphs) -> Array:
    """[N] int64, the stable colours of the nodes of all graphs together. They begin as the node labels; attributes and
    what is at edges are not looked at, and a node of a directed graph sees whom its edges lead to."""
    row, col = raw.edge_index.numpy()
    degree = np.bincount(row, minlength=raw.total_nodes)
    starts, found, count = np.cumsum(degree) - degree, np.zeros(raw.total_nodes, dtype=np.int64), 1
    if raw.node_labels is not None:
        found = np.unique(raw.node_labels.numpy(), axis=0, return_inverse=True)[1].reshape(-1)
        count = int(found.max()) + 1
    while True:
        around = found[col]
        around = _codes(around[np.lexsort((around, row))], starts, degree)
        known, found = count, np.unique(np.stack([found, around]), axis=1, return_inverse=True)[1].reshape(-1)
        count = int(found.max()) + 1
        if count == known:
            return found


def classes(raw: RawGraphs) -> Array:
    """[G] int64, the same number for graphs that 1-WL does not tell apart."""
    found, sizes = colours(raw), raw.num_nodes.numpy()
    graph = np.repeat(np.arange(len(sizes)), sizes)
    return _codes(found[np.lexsort((found, graph))], np.cumsum(sizes) - sizes, sizes)


def _codes(values: Array, starts: Array, lengths: Array) -> Array:
    """A number for each run of `values`, equal where the runs are."""
    codes, used = np.zeros(len(lengths), dtype=np.int64), 0
    for length in np.unique(lengths):
        at = np.flatnonzero(lengths == length)
        rows = values[starts[at][:, None] + np.arange(length)]
        inverse = np.unique(rows, axis=0, return_inverse=True)[1].reshape(-1) if length else 0
        codes[at] = used + inverse
        used = int(codes[at].max()) + 1
    return codes
