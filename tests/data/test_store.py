"""The packed store: a batch is the graphs that were asked for, with the matrices that were computed once."""

from __future__ import annotations

import pytest
import torch

from poolbench.data.store import BatchLoader, GraphStore
from poolbench.linalg import GCN, RAW, SYMMETRIC, Propagation, Sparse

SIZES = [3, 1, 5, 0, 4]


def make(directed: bool = False, weighted: bool = False) -> tuple[GraphStore, list[torch.Tensor], torch.Tensor]:
    """A store of five small graphs (one empty, one a single node), and each graph's dense matrix (u hears v)."""
    torch.manual_seed(0)
    blocks = []
    for n in SIZES:
        a = (torch.rand(n, n) < 0.5).float()
        a = a.fill_diagonal_(0)
        if not directed:
            a = torch.maximum(a, a.T)
        if weighted:
            w = torch.rand(n, n) + 0.1
            a = a * (w if directed else w + w.T)
        blocks.append(a)
    dense = torch.block_diag(*blocks)
    col, row = dense.T.nonzero(as_tuple=True)
    x = torch.randn(sum(SIZES), 2)
    store = GraphStore(
        x,
        torch.tensor(SIZES),
        torch.stack([col, row]),
        torch.arange(len(SIZES)),
        dense[row, col] if weighted else None,
        [GCN, SYMMETRIC, Propagation(0.85)],
    )
    return store, blocks, x


@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_batch_is_the_graphs_that_were_asked_for(directed: bool, weighted: bool) -> None:
    store, blocks, x = make(directed, weighted)
    assert store.symmetric is not directed
    graphs = torch.tensor([4, 0, 3, 2, 1])
    batch = store.batch(graphs)
    wanted = torch.block_diag(*[blocks[g] for g in graphs])
    torch.testing.assert_close(batch.a.to_dense(), wanted)
    rows = [x[sum(SIZES[:g]) : sum(SIZES[: g + 1])] for g in graphs.tolist()]
    torch.testing.assert_close(batch.x, torch.cat(rows))
    assert batch.y.tolist() == graphs.tolist()
    assert batch.a.nodes.host_sizes == [SIZES[g] for g in graphs]
    assert batch.a.nodes.index.tolist() == [g for g, n in enumerate(batch.a.nodes.host_sizes) for _ in range(n)]


@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize("together", [0, 40, 10**6])
def test_batches_cut_together_are_those_cut_alone(
    directed: bool, together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, _, _ = make(directed, weighted=True)
    monkeypatch.setattr("poolbench.data.store.TOGETHER", together)
    parts = [torch.tensor(part) for part in ([4, 0, 3], [2, 2, 1], [3], [0, 4, 4, 2])]
    for graphs, batch in zip(parts, store.batches(parts), strict=True):
        alone = store.batch(graphs)
        assert torch.equal(batch.x, alone.x) and torch.equal(batch.y, alone.y) and batch.graphs is graphs
        assert batch.a.nodes.host_sizes == alone.a.nodes.host_sizes
        for name in ("ptr", "index"):
            assert torch.equal(getattr(batch.a.nodes, name), getattr(alone.a.nodes, name))
        for key in (RAW, GCN, SYMMETRIC, Propagation(0.85)):
            one, other = batch.a.view(key), alone.a.view(key)
            assert isinstance(one, Sparse) and isinstance(other, Sparse)
            for name in ("crow", "col", "value", "row"):
                assert torch.equal(getattr(one, name), getattr(other, name))
            assert all(torch.equal(p, q) for p, q in zip(one.transposed(), other.transposed(), strict=True))


@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize("connectivity", [GCN, SYMMETRIC, Propagation(0.85)])
def test_views_computed_once_equal_views_computed_on_the_batch(directed: bool, connectivity: object) -> None:
    store, _, _ = make(directed, weighted=True)
    batch = store.batch(torch.tensor([2, 4, 0]))
    kept = batch.a.view(connectivity)
    fresh = connectivity(Sparse(batch.a.crow, batch.a.col, batch.a.value, batch.a.nodes))
    torch.testing.assert_close(kept.to_dense(), fresh.to_dense())


@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize("view", [None, GCN, SYMMETRIC])
def test_gradients_flow_through_the_transpose_that_was_computed_once(directed: bool, view: object) -> None:
    store, _, _ = make(directed, weighted=True)
    batch = store.batch(torch.tensor([4, 2, 1]))
    a = batch.a if view is None else batch.a.view(view)
    x = torch.randn(batch.x.shape[0], 3, requires_grad=True)
    weight = torch.randn(batch.x.shape[0], 3)
    ((a @ x) * weight).sum().backward()
    torch.testing.assert_close(x.grad, a.to_dense().T @ weight)


def test_the_order_is_a_pure_function_of_seed_and_epoch() -> None:
    store, _, _ = make()
    graphs = torch.tensor([0, 1, 2, 4])

    def labels(seed: int, epoch: int) -> list[int]:
        loader = BatchLoader(store, graphs, 3, seed=seed)
        loader.epoch = epoch
        assert len(loader) == 2
        return [y for batch in loader for y in batch.y.tolist()]

    assert labels(1, 0) == labels(1, 0)
    orders = {tuple(labels(seed, epoch)) for seed in range(4) for epoch in range(4)}
    assert len(orders) > 8
    assert all(sorted(order) == graphs.tolist() for order in orders)


def test_evaluation_keeps_the_order_and_cuts_its_batches_once() -> None:
    store, _, _ = make()
    loader = BatchLoader(store, torch.tensor([4, 1, 2]), 2)
    first, second = list(loader), list(loader)
    assert [b.y.tolist() for b in first] == [[4, 1], [2]]
    assert all(a is b for a, b in zip(first, second, strict=True))


def test_processes_share_an_epoch() -> None:
    store, _, _ = make()
    graphs = torch.arange(5)
    shares = [BatchLoader(store, graphs, 2, seed=3, rank=r, world=2) for r in range(2)]
    seen = [[y for b in loader for y in b.y.tolist()] for loader in shares]
    assert len(seen[0]) == len(seen[1]) == 3, "every process takes as many steps"
    assert set(seen[0]) | set(seen[1]) == set(range(5))
    evaluation = [BatchLoader(store, graphs, 2, rank=r, world=2) for r in range(2)]
    assert sorted(y for loader in evaluation for b in loader for y in b.y.tolist()) == list(range(5))


def test_a_batch_size_of_zero_is_refused() -> None:
    store, _, _ = make()
    with pytest.raises(ValueError, match="batch_size=0"):
        BatchLoader(store, torch.arange(2), 0)


@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize("large", [False, True])
def test_edge_features_go_with_the_entries_of_the_matrix(
    directed: bool, large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of the entry (u, v), with which u hears v, are those of the edge v -> u, undirected or not."""
    _, blocks, x = make(directed)
    monkeypatch.setattr("poolbench.data.store.LARGE", 0 if large else 100)
    source, target = torch.block_diag(*blocks).T.nonzero(as_tuple=True)
    edges = torch.stack([100.0 * source + target, torch.arange(source.numel())], 1)  # which edge it is
    ends = torch.stack([source, target])
    store = GraphStore(x, torch.tensor(SIZES), ends, torch.arange(5), None, [GCN], "cpu", edges)
    start = torch.tensor([sum(SIZES[:g]) for g in range(len(SIZES))])
    loader = BatchLoader(store, torch.arange(5), 2, seed=0)
    for epoch in range(3):
        loader.epoch = epoch
        for batch in loader:
            assert batch.edges is not None
            shift = (start[batch.graphs] - batch.a.nodes.ptr[:-1])[batch.a.nodes.index]  # back to the whole dataset
            whole = 100.0 * (batch.a.col + shift[batch.a.col]) + batch.a.row + shift[batch.a.row]
            assert torch.equal(batch.edges[:, 0], whole)
            assert torch.equal(batch.edges, edges[batch.edges[:, 1].long()])
    assert make(directed)[0].batch(torch.tensor([0])).edges is None


def test_labels_of_nodes_are_hidden_outside_the_mask() -> None:
    _, blocks, x = make()
    row, col = torch.block_diag(*blocks).nonzero(as_tuple=True)
    labels, mask = torch.arange(13), torch.arange(13) % 3 == 0
    store = GraphStore(x, torch.tensor(SIZES), torch.stack([row, col]), labels, node_labels=True)
    (batch,) = BatchLoader(store, torch.tensor([4, 3, 0]), 3, mask=mask)
    assert batch.y.tolist() == [9, -1, -1, 12, 0, -1, -1]
    (seen,) = BatchLoader(store, torch.tensor([4, 3, 0]), 3)
    assert seen.y.tolist() == [9, 10, 11, 12, 0, 1, 2]
