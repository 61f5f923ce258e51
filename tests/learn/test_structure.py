"""Signals for structure preservation: eigenvectors by Lanczos against all of them, features of unit length."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.sparse import block_diag, csr_array

from poolbench.data.features import NodeFeatures
from poolbench.data.generators.pointclouds import Grid2d
from poolbench.data.generators.synthetic import PlantedGraphs
from poolbench.data.raw import RawGraphs
from poolbench.errors import PoolBenchError
from poolbench.learn.structure import first_eigenvectors, signals
from poolbench.pool.base.hostgraph import Array


def ring(n: int) -> csr_array:
    node = np.arange(n)
    a = csr_array((np.ones(n), (node, (node + 1) % n)), shape=(n, n))
    return csr_array(a + a.T)


def laplacian(a: csr_array) -> Array:
    dense = a.toarray()
    return np.diag(dense.sum(1)) - dense


GRID = Grid2d(17, 18).load()
LARGE = {
    "a ring, eigenvalues twice": ring(300),
    "40 components, 0 as often": csr_array(block_diag([ring(3 + k % 9) for k in range(40)])),
    "components of several sizes": csr_array(block_diag([ring(280), csr_array((2, 2)), ring(290)])),
    "a grid": csr_array((np.ones(GRID.num_edges), tuple(GRID.edge_index.numpy())), shape=(306, 306)),
}


@pytest.mark.parametrize("name", LARGE)
def test_first_eigenvectors_of_large_graphs(name: str) -> None:
    a = LARGE[name]
    assert a.shape[0] > 256, "beyond the dense solver"
    vectors, lap = first_eigenvectors(a, 8), laplacian(a)
    values = np.linalg.eigvalsh(lap)[:8]
    np.testing.assert_allclose(lap @ vectors, vectors * values, atol=1e-9)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(8), atol=1e-9)
    np.testing.assert_array_equal(first_eigenvectors(a, 8), vectors)


def test_signals_of_each_graph_for_itself() -> None:
    raw = PlantedGraphs(num_graphs=3).load()
    x = NodeFeatures("attributes")(raw)
    made = signals(raw, x, None, 4)
    assert made.values.dtype == torch.float32
    assert made.values.shape == (raw.total_nodes, x.values.shape[1] + 4) and len(made.names) == made.values.shape[1]
    first, last = int(raw.num_nodes[0]), int(raw.num_nodes[:2].sum())
    features, vectors = made.values[first:last].double().tensor_split([x.values.shape[1]], 1)
    torch.testing.assert_close(features.norm(dim=0), torch.ones(8, dtype=torch.float64))
    torch.testing.assert_close(features.sum(0), torch.zeros(8, dtype=torch.float64), atol=1e-5, rtol=0)
    row, col = (raw.edge_index[:, (raw.edge_index[0] >= first) & (raw.edge_index[0] < last)] - first).numpy()
    lap = laplacian(csr_array((np.ones(len(row)), (row, col)), shape=(last - first, last - first)))
    np.testing.assert_allclose(
        np.diag(vectors.numpy().T @ lap @ vectors.numpy()), np.linalg.eigvalsh(lap)[:4], atol=1e-5
    )


def test_constant_features_weights_and_graphs_of_fewer_nodes() -> None:
    raw = RawGraphs("three", torch.tensor([2, 0, 1]), torch.tensor([[0, 1], [1, 0]]))
    made = signals(raw, NodeFeatures("constant")(raw), torch.tensor([3.0, 3.0]), 3)
    half = 0.5**0.5
    wanted = torch.tensor([[0, half, half, 0], [0, half, -half, 0], [0, 1, 0, 0]])
    torch.testing.assert_close(made.values, wanted)


def test_a_directed_graph_is_refused() -> None:
    raw = RawGraphs("one-way", torch.tensor([2]), torch.tensor([[0], [1]]))
    with pytest.raises(PoolBenchError, match="one-way is directed"):
        signals(raw, NodeFeatures("constant")(raw), None, 2)
