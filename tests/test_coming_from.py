"""The examples of docs/coming_from.md as they stand on the page, and its claims beside PyTorch Geometric."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch_geometric import nn as pyg
from torch_geometric.data import Batch, Data
from torch_geometric.nn.dense import dense_diff_pool, dense_mincut_pool
from torch_geometric.utils import to_dense_adj, to_dense_batch

from poolbench import pool as pools

PAGE = (Path(__file__).parents[1] / "docs" / "coming_from.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page() -> dict[str, Any]:
    """What the blocks of the page leave behind, run one after the other."""
    names: dict[str, Any] = {}
    for block in re.findall(r"^```python\n(.*?)^```$", PAGE, flags=re.M | re.S):
        exec(block, names)
    return names


def test_the_classes_of_the_page_are_there(page: dict[str, Any]) -> None:
    named = set(re.findall(r"`(\w+Pool)\(", PAGE))
    assert {"TopKPool", "MinCutPool", "GivenClustersPool", "AggregationPool"} <= named
    assert named <= set(dir(pools))


def test_every_graph_comes_out_under_pygs_names(page: dict[str, Any]) -> None:
    out = pools.TopKPool(0.5)(x=page["x"], edge_index=page["edge_index"], batch=page["batch"])
    assert out.batch.tolist() == [0, 0, 1, 1] and out.edge_index.shape[0] == 2
    assert torch.equal(page["batch"][out.perm], out.batch)


def test_topk_is_pygs_with_its_rows_in_input_order(page: dict[str, Any]) -> None:
    x, edge_index, batch, edge_attr = (page[name] for name in ("x", "edge_index", "batch", "edge_attr"))
    theirs = pyg.TopKPooling(16, 0.5, multiplier=2.0)
    ours = pools.TopKPool(0.5, multiplier=2.0, in_channels=16)
    ours.projection.weight.data = theirs.select.weight.data.clone()
    y, index, attr, _, perm, score = theirs(x, edge_index, edge_attr, batch)
    out = ours(x, edge_index, batch, edge_attr=edge_attr)
    order = perm.argsort()
    torch.testing.assert_close(out.x, y[order])
    torch.testing.assert_close(torch.tanh(out.score)[out.perm], score[order])
    torch.testing.assert_close(edges(out.edge_index, out.edge_attr, out.perm), edges(index, attr, perm))


def edges(index: torch.Tensor, attr: torch.Tensor, perm: torch.Tensor) -> torch.Tensor:
    """Ends by their numbers in the input and attributes, in order."""
    ends = perm[index]
    return torch.cat([ends.T.to(attr.dtype), attr], 1)[(ends[0] * 100 + ends[1]).argsort()]


@pytest.mark.parametrize("name", ["mincut", "diffpool"])
def test_an_assignment_of_yours_gives_pygs_pooled_graph(page: dict[str, Any], name: str) -> None:
    x, edge_index, batch = (page[name] for name in ("x", "edge_index", "batch"))
    logits = torch.randn(7, 3, generator=torch.Generator().manual_seed(0))
    padded, mask = to_dense_batch(x, batch)
    s, _ = to_dense_batch(logits, batch)
    dense = dense_mincut_pool if name == "mincut" else dense_diff_pool
    y, a, *_ = dense(padded, to_dense_adj(edge_index, batch), s, mask)
    cls = pools.MinCutPool if name == "mincut" else pools.DiffPool
    given = logits.softmax(-1)
    out = cls(3, **({} if name == "mincut" else {"channels": 16}))(x, edge_index, batch, s=given)
    if name == "mincut":  # DiffPool pools what its own layer made of x
        torch.testing.assert_close(out.x.reshape(2, 3, -1), y)
    torch.testing.assert_close(to_dense_adj(out.edge_index, out.batch, out.edge_weight), a, atol=1e-5, rtol=1e-5)


def test_given_clusters_are_pooled_as_avg_pool_does(page: dict[str, Any]) -> None:
    x, edge_index = page["x"][:4], page["edge_index"][:, :6]
    cluster = torch.tensor([1, 1, 0, 0])
    theirs = pyg.avg_pool(cluster, Batch.from_data_list([Data(x=x, edge_index=edge_index)]))
    out = pools.GivenClustersPool(reduce="mean")(x, edge_index, cluster=cluster)
    torch.testing.assert_close(out.x, theirs.x)
    assert sorted(out.edge_index.T.tolist()) == theirs.edge_index.T.tolist()


def test_a_mean_over_graphs_without_nodes_is_pygs(page: dict[str, Any]) -> None:
    ours = pools.GlobalAvgPool()(page["x"], page["batch"], batch_size=4)
    torch.testing.assert_close(ours, pyg.global_mean_pool(page["x"], page["batch"], 4))
