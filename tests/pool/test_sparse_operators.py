"""SAGPool and LaPool: exact values, dense formulas in float64, the modes against each other, gradients, edge cases."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.utils._python_dispatch import TorchDispatchMode

from poolbench.linalg import Ragged, Sparse
from poolbench.pool import LaPool, OverlapSelection, SAGPool
from poolbench.pool.lapool import Pairs, hop_counts, leading_nodes, path_lengths, sparsemax

F64 = torch.float64
Graph = tuple[Tensor, Tensor]
LAPOOLS: list[dict[str, Any]] = [
    {},
    {"shortest_path_reg": False},
    {"weighted_paths": True},
    {"assignment": "softmax"},
    {"assignment": "softmax", "leaders": "ge", "weighted_paths": True},
    {"leaders": "ge"},
]


def random_graph(n: int, kind: str = "binary", f: int = 3, seed: int = 0, p: float = 0.3) -> Graph:
    """(x [n, f], a [n, n]) in float64."""
    g = torch.Generator().manual_seed(1000 * n + seed)
    hit = (torch.rand(n, n, generator=g) < p).to(F64)
    a = hit.triu(1) + hit.triu(1).T
    weight = torch.rand(n, n, generator=g, dtype=F64) + 0.5
    if kind == "weighted":
        a = a * (weight + weight.T)
    elif kind == "directed":
        a = hit.fill_diagonal_(0.0) * weight
    elif kind == "loops":
        a = a + torch.diag((torch.arange(n) % 2).to(F64))
    elif kind == "components":
        a[: n // 2, n // 2 :] = a[n // 2 :, : n // 2] = 0.0
    return torch.randn(n, f, generator=g, dtype=F64), a


def mixed_graphs() -> list[Graph]:
    kinds = ["binary", "weighted", "directed", "loops", "components"]
    graphs = [random_graph(n, kind, seed=3) for n, kind in zip([9, 12, 8, 10, 11], kinds, strict=True)]
    return [*graphs, random_graph(1), (torch.randn(4, 3, dtype=F64), torch.zeros(4, 4, dtype=F64))]


def disjoint(graphs: list[Graph]) -> tuple[Tensor, Tensor, Tensor]:
    x = torch.cat([x for x, _ in graphs])
    a = torch.block_diag(*(a for _, a in graphs)).to_sparse()
    return x, a, torch.repeat_interleave(torch.tensor([len(x) for x, _ in graphs]))


def padded(graphs: list[Graph]) -> tuple[Tensor, Tensor, Tensor]:
    b, n = len(graphs), max(len(x) for x, _ in graphs)
    x, a = torch.zeros(b, n, graphs[0][0].shape[1], dtype=F64), torch.zeros(b, n, n, dtype=F64)
    mask = torch.zeros(b, n, dtype=torch.bool)
    for g, (xg, ag) in enumerate(graphs):
        m = len(xg)
        x[g, :m], a[g, :m, :m], mask[g, :m] = xg, ag, True
    return x, a, mask


def sparse(a: Tensor, sizes: list[int] | None = None) -> Sparse:
    row, col = a.nonzero(as_tuple=True)
    sizes = sizes or [a.shape[0]]
    ptr = torch.tensor([0, *sizes]).cumsum(0)
    return Sparse.from_edges(row, col, a[row, col], Ragged(ptr, sizes))


def sag(**kwargs: Any) -> SAGPool:
    torch.manual_seed(0)
    defaults = {"ratio": 0.5, "in_channels": 3, "return_selection": True, "return_score": True}
    return SAGPool(**(defaults | kwargs)).double()


# ---- SAGPool --------------------------------------------------------------------------------------


def test_sag_on_a_path_by_hand() -> None:
    # Degrees of A + I: 2, 3, 2. y = (1/2 + 2/sqrt 6, 1/sqrt 6 + 2/3 - 3/sqrt 6, 2/sqrt 6 - 3/2) = (1.32, -0.15, -0.68).
    x = torch.tensor([[1.0], [2.0], [-3.0]], dtype=F64)
    a = torch.tensor([[0.0, 1, 0], [1, 0, 1], [0, 1, 0]], dtype=F64)
    pool = sag(in_channels=1, kernel_initializer="ones")
    out = pool(x, a)
    root = 6**0.5
    y = torch.tensor([0.5 + 2 / root, 2 / 3 - 2 / root, 2 / root - 1.5], dtype=F64)
    torch.testing.assert_close(out.score, y, atol=1e-6, rtol=0)
    assert out.s.mask.tolist() == [1, 1, 0]
    torch.testing.assert_close(out.x, (x * y.tanh()[:, None])[:2], atol=1e-6, rtol=0)
    assert out.a.tolist() == [[0, 1], [1, 0]]
    gated = sag(in_channels=1, kernel_initializer="ones", sigmoid_gating=True)(x, a)
    torch.testing.assert_close(gated.x, (x * y.sigmoid()[:, None])[:2], atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", ["binary", "weighted", "directed", "loops", "components"])
def test_sag_is_its_dense_formula(kind: str) -> None:
    x, a = random_graph(13, kind)
    pool = sag(ratio=0.4)
    out = pool(x, a)
    loops = a + torch.eye(13, dtype=F64)
    d = loops.sum(1)
    y = (loops / (d.sqrt()[:, None] * d.sqrt()[None]) @ x @ pool.projection.weight.T).squeeze(-1)
    kept = y.topk(6).indices.sort().values
    torch.testing.assert_close(out.score, y, atol=1e-5, rtol=1e-5)
    assert out.s.kept.tolist() == kept.tolist()
    torch.testing.assert_close(out.x, x[kept] * y[kept].tanh()[:, None], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(out.a, a[kept][:, kept])
    assert out.losses == {}


def test_sag_breaks_ties_by_node_and_takes_a_regulariser() -> None:
    x, a = torch.ones(6, 3, dtype=F64), torch.zeros(6, 6, dtype=F64)
    out = sag(kernel_regularizer={"l2": 0.5})(x, a)
    assert out.s.kept.tolist() == [0, 1, 2]
    assert set(out.losses) == {"regularization"}


def test_sag_gradients() -> None:
    x, a = random_graph(7, "weighted")
    pool = sag()
    index = a.nonzero().T
    weight = a[index[0], index[1]].clone().requires_grad_()
    x = x.requires_grad_()

    def run(x: Tensor, weight: Tensor, w: Tensor) -> Tensor:
        out = torch.func.functional_call(pool, {"projection.weight": w}, (x, index), {"edge_weight": weight})
        return torch.cat([out.x.reshape(-1), out.edge_weight])

    assert gradcheck(run, (x, weight, pool.projection.weight.detach().clone().requires_grad_()))


# ---- LaPool: one graph by the formulas of the docstring -------------------------------------------


def sorted_sparsemax(z: Tensor) -> Tensor:
    """Martins & Astudillo, algorithm 1, one row."""
    ordered = z.sort(descending=True).values
    k = torch.arange(1, len(z) + 1, dtype=z.dtype)
    size = int((1 + k * ordered > ordered.cumsum(0)).sum())
    return (z - (ordered[:size].sum() - 1) / size).clamp(min=0.0)


def distances(length: Tensor) -> Tensor:
    """Floyd-Warshall, direction ignored."""
    n = len(length)
    d = torch.where(length > 0, length, torch.inf)
    d = torch.minimum(d, d.T).fill_diagonal_(0.0)
    for k in range(n):
        d = torch.minimum(d, d[:, k : k + 1] + d[k : k + 1])
    return d


def dense_lapool(
    x: Tensor, a: Tensor, shortest_path_reg: bool = True, assignment: str = "sparsemax", leaders: str = "gt",
    weighted_paths: bool = False,
) -> tuple[Tensor, list[int]]:  # fmt: skip
    n = len(x)
    v = ((torch.diag(a.sum(1)) - a) @ x).norm(dim=1)
    neighbours = [[w for w in range(n) if a[u, w] != 0 and w != u] for u in range(n)]
    above = [u for u in range(n) if all(v[u] > v[w] for w in neighbours[u])]
    level = [u for u in range(n) if all(v[u] >= v[w] for w in neighbours[u])]
    lead = above if leaders == "gt" and above else level
    d = distances(a if weighted_paths else (a != 0).to(a.dtype))
    s = torch.zeros(n, len(lead), dtype=x.dtype)
    for u in range(n):
        if u in lead:
            s[u, lead.index(u)] = 1.0
            continue
        cosine = torch.stack([x[u] @ x[w] / (x[u].norm() * x[w].norm()) for w in lead])
        beta = 1 / d[u, lead] if shortest_path_reg else torch.ones(len(lead), dtype=x.dtype)
        s[u] = sorted_sparsemax(beta * cosine) if assignment == "sparsemax" else beta * cosine.softmax(0)
    return s, lead


def test_lapool_on_a_path_by_hand() -> None:
    # L X = (1, -1), (0, 0), (-1, 1): the ends lead, the middle is as near and as similar to both.
    x = torch.tensor([[2.0, 0], [1, 1], [0, 2]])
    a = torch.tensor([[0.0, 1, 0], [1, 0, 1], [0, 1, 0]])
    out = LaPool(return_selection=True)(x, a)
    torch.testing.assert_close(out.s.dense(), torch.tensor([[1.0, 0], [0.5, 0.5], [0, 1]]))
    torch.testing.assert_close(out.x, torch.tensor([[2.5, 0.5], [0.5, 2.5]]))
    torch.testing.assert_close(out.a, torch.ones(2, 2))
    assert out.s.kept.numel() == 4
    assert out.losses == {}
    assert out.sizes.tolist() == [2]


def test_lapool_path_lengths_weigh_the_cosines() -> None:
    # A path, v = (9, 8, 2, 6, 7): its ends lead. All cosines are 1, but those of node 2, a zero vector, are 0.
    x = torch.tensor([[10.0], [1], [0], [1], [8]])
    a = torch.diag(torch.ones(4), 1) + torch.diag(torch.ones(4), -1)
    s = LaPool(return_selection=True)(x, a).s.dense()
    # Node 1: beta = (1, 1/3), sparsemax((1, 1/3)) = (5/6, 1/6). Node 3 mirrors it.
    expected = torch.tensor([[1, 0], [5 / 6, 1 / 6], [1 / 2, 1 / 2], [1 / 6, 5 / 6], [0, 1]])
    torch.testing.assert_close(s, expected)
    # Spektral's code: softmax((1, 1)) times beta.
    soft = LaPool(return_selection=True, assignment="softmax")(x, a).s.dense()
    expected = torch.tensor([[1, 0], [1 / 2, 1 / 6], [1 / 4, 1 / 4], [1 / 6, 1 / 2], [0, 1]])
    torch.testing.assert_close(soft, expected)
    # Without path lengths nothing tells the leaders apart.
    plain = LaPool(return_selection=True, shortest_path_reg=False)(x, a).s.dense()
    torch.testing.assert_close(plain[1:4], torch.full((3, 2), 0.5))


@pytest.mark.parametrize("kwargs", LAPOOLS, ids=str)
@pytest.mark.parametrize("kind", ["binary", "weighted", "directed", "loops", "components"])
@pytest.mark.parametrize("n", [5, 14, 23])
def test_lapool_is_its_dense_formula(kind: str, n: int, kwargs: dict[str, Any]) -> None:
    x, a = random_graph(n, kind, seed=1, p=0.25)
    s, lead = dense_lapool(x, a, **kwargs)
    for form in (a, a.to_sparse()):
        out = LaPool(return_selection=True, **kwargs)(x, form)
        torch.testing.assert_close(out.s.dense(), s)
        torch.testing.assert_close(out.x, s.T @ x)
        pooled = out.a if out.a.layout == torch.strided else out.a.to_dense()
        torch.testing.assert_close(pooled, s.T @ a @ s)
        assert out.x.shape[0] == len(lead)


def test_lapool_leaders_are_strictly_above_their_neighbours() -> None:
    # Two tied peaks side by side (nodes 0, 1) do not lead while node 4 does; with "ge" they do.
    x = torch.tensor([[3.0, 0], [-3, 0], [0, 0], [0, 1], [0, 9], [0, 1]])
    edges = torch.tensor([[0, 1], [1, 2], [2, 3], [3, 4], [4, 5], [0, 2]]).T
    index = torch.cat([edges, edges.flip(0)], 1)
    assert leading(x, index, strict=True) == [4]
    assert leading(x, index, strict=False) == [0, 1, 4]
    # A graph where nobody is strictly above uses "ge": constant features, all lead, S = I.
    flat = torch.full((6, 2), 0.1)
    out = LaPool(return_selection=True)(flat, index)
    torch.testing.assert_close(out.s.dense(), torch.eye(6))
    # ... graph by graph: the flat graph does not change its neighbour in the batch.
    both = LaPool()(torch.cat([x, flat]), torch.cat([index, index + 6], 1), torch.arange(2).repeat_interleave(6))
    assert both.sizes.tolist() == [1, 6]
    assert both.i.tolist() == [0] + [1] * 6


def leading(x: Tensor, index: Tensor, strict: bool) -> list[int]:
    a = Sparse.from_edges(index[0], index[1], None, Ragged.single(len(x)))
    return leading_nodes(x, a, strict).tolist()


def test_lapool_rounding_makes_no_leader() -> None:
    # In a complete graph with features 0.7 + 0.3 I all nodes are alike: only the order of additions differs.
    row, col = (1 - torch.eye(50)).nonzero(as_tuple=True)
    a = Sparse.from_edges(row, col, torch.full((row.numel(),), 0.1), Ragged.single(50))
    x = torch.eye(50) * 0.3 + 0.7
    for strict in (True, False):
        assert leading_nodes(x, a, strict).tolist() == list(range(50))


def test_lapool_zero_features_are_finite() -> None:
    x, a = random_graph(8)
    x[2], x[5] = 0.0, 0.0
    for features in (x, torch.zeros_like(x)):
        for kwargs in LAPOOLS:
            leaf = features.clone().requires_grad_()
            out = LaPool(return_selection=True, **kwargs)(leaf, a)
            (out.x.square().sum() + out.a.square().sum()).backward()
            for v in (out.x, out.a, out.s.dense(), leaf.grad):
                assert torch.isfinite(v).all()
    assert LaPool()(torch.zeros(3, 2), torch.ones(3, 3) - torch.eye(3)).x.shape == (3, 2)


def test_lapool_nodes_of_other_components_take_part_with_zero() -> None:
    # A star 1 - 0 - 2 and an isolated node: 0 and 3 lead. Logits of node 1: (-1, 0), of node 2: (1/sqrt 2, 0).
    x = torch.tensor([[4.0, 0], [-1, 0], [1, 1], [0, 1]])
    index = torch.tensor([[0, 1, 0, 2], [1, 0, 2, 0]])
    half = 0.5 / 2**0.5
    s = LaPool(return_selection=True)(x, index).s.dense()
    torch.testing.assert_close(s, torch.tensor([[1.0, 0], [0, 1], [0.5 + half, 0.5 - half], [0, 1]]))
    soft = LaPool(return_selection=True, assignment="softmax")(x, index).s.dense()
    torch.testing.assert_close(soft, torch.tensor([[1, 0], [1 / (1 + torch.e), 0], [0.5, 0], [0, 1]]))


def test_lapool_refuses_what_it_does_not_know() -> None:
    with pytest.raises(ValueError, match="sparsemax, softmax"):
        LaPool(assignment="hardmax")
    with pytest.raises(ValueError, match="gt, ge"):
        LaPool(leaders=">")
    with pytest.raises(TypeError, match="shortest_path_reg"):
        LaPool(shortest_paths_reg=True)
    x, a = random_graph(6, "weighted")
    with pytest.raises(ValueError, match="negative"):
        LaPool(weighted_paths=True)(x, -a)


@pytest.mark.parametrize("kwargs", LAPOOLS, ids=str)
def test_lapool_gradients(kwargs: dict[str, Any]) -> None:
    x, a = random_graph(6, "weighted", seed=4)
    index = a.nonzero().T
    pool = LaPool(return_selection=True, **{**kwargs, "weighted_paths": False})

    def run(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        out = pool(x, index, edge_weight=weight)
        return out.x, out.edge_weight, out.s.lift(out.x)

    weight = a[index[0], index[1]].clone().requires_grad_()
    x = x.requires_grad_()
    assert 1 < pool(x, index, edge_weight=weight).x.shape[0] < 6  # leaders and followers
    assert gradcheck(run, (x, weight))
    assert gradgradcheck(run, (x, weight))


# ---- its parts ------------------------------------------------------------------------------------


def segments(sizes: list[int]) -> Ragged:
    return Ragged(torch.tensor([0, *sizes]).cumsum(0), sizes)


@pytest.mark.parametrize("spread", [0.01, 1.0, 30.0])
def test_sparsemax_of_ragged_rows(spread: float) -> None:
    sizes = [1, 7, 40, 2, 300]
    rows = segments(sizes)
    torch.manual_seed(0)
    z = spread * torch.randn(sum(sizes), dtype=F64)
    p = sparsemax(z, rows)
    torch.testing.assert_close(p, torch.cat([sorted_sparsemax(r) for r in z.split(sizes)]))
    torch.testing.assert_close(rows.sum(p), torch.ones(5, dtype=F64))
    torch.testing.assert_close(sparsemax(z + 1e6, rows), p, atol=1e-8, rtol=0)
    assert sparsemax(z[:0], segments([])).shape == (0,)


def test_sparsemax_ties_gradients_and_nan() -> None:
    rows = segments([4, 3])
    z = torch.tensor([1.0, 1, 1, 1, 0.3, 0.2, -3], dtype=F64, requires_grad=True)
    p = sparsemax(z, rows)
    torch.testing.assert_close(p.detach(), torch.tensor([0.25, 0.25, 0.25, 0.25, 0.55, 0.45, 0], dtype=F64))
    assert gradcheck(lambda z: sparsemax(z, rows), z)
    bad = sparsemax(torch.tensor([torch.nan, 0.0, 1.0, 0.0, 0.3, 0.2, -3]), rows)
    assert bad[:4].isnan().any()
    torch.testing.assert_close(bad[4:], torch.tensor([0.55, 0.45, 0.0]))


@pytest.mark.parametrize("directed", [False, True])
def test_path_lengths_of_a_batch(directed: bool) -> None:
    # The second graph has more than 2 x 64 leaders, the third several components, the fourth no edges.
    sizes, shares = [12, 300, 40, 5, 1], [0.3, 0.6, 0.2, 1.0, 1.0]
    torch.manual_seed(1)
    blocks, leaders = [], []
    for n, share, p in zip(sizes, shares, [0.2, 0.01, 0.03, 0.0, 0.0], strict=True):
        _, a = random_graph(n, "directed" if directed else "weighted", p=p)
        blocks.append(a)
        own = torch.randperm(n)[: max(1, int(share * n))].sort().values
        leaders.append(own + sum(s for s in sizes[: len(blocks) - 1]))
    a = sparse(torch.block_diag(*blocks), sizes)
    pairs = Pairs.of(torch.cat(leaders), a.nodes)
    for weighted, lengths in ((False, hop_counts(a, pairs)), (True, path_lengths(a, pairs))):
        expected, start = [], 0
        for block, own in zip(blocks, leaders, strict=True):
            d = distances(block if weighted else (block != 0).to(F64))
            follows = torch.ones(len(block), dtype=torch.bool).index_fill(0, own - start, False)
            expected.append(d[follows][:, own - start].reshape(-1))
            start += len(block)
        torch.testing.assert_close(lengths.to(F64), torch.cat(expected))


def test_hop_counts_of_a_long_path() -> None:
    n = 300
    a = sparse(torch.diag(torch.ones(n - 1), 1) + torch.diag(torch.ones(n - 1), -1))
    pairs = Pairs.of(torch.tensor([0, n - 1]), a.nodes)
    u = torch.arange(1, n - 1)
    torch.testing.assert_close(hop_counts(a, pairs), torch.stack([u, n - 1 - u], 1).reshape(-1).float())


def overlapping() -> tuple[OverlapSelection, Tensor, Tensor, Sparse]:
    """Three graphs, the second without nodes, a cluster without nodes: S, the same dense, A dense, A."""
    torch.manual_seed(2)
    sizes, clusters = [9, 0, 6], [4, 0, 3]
    _, a1 = random_graph(9, "weighted")
    _, a2 = random_graph(6, "directed")
    a = torch.block_diag(a1, a2)
    dense = torch.block_diag(torch.rand(9, 4, dtype=F64), torch.rand(6, 3, dtype=F64))
    dense = dense * (torch.rand_like(dense) < 0.5)
    dense[:, 1] = 0.0
    cluster, node = dense.T.nonzero(as_tuple=True)
    weight = dense[node, cluster]
    return OverlapSelection(node, cluster, weight, segments(sizes), segments(clusters)), dense, a, sparse(a, sizes)


@pytest.mark.parametrize("entry", [0, 10**9])
def test_overlapping_clusters(entry: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OverlapSelection, "entry", entry)  # never, always over dense blocks
    s, dense, a, matrix = overlapping()
    assert s._crowded == bool(entry)
    torch.testing.assert_close(s.dense(), dense)
    x, y = torch.randn(15, 3, dtype=F64), torch.randn(7, 3, dtype=F64)
    torch.testing.assert_close(s.reduce(x), dense.T @ x)
    torch.testing.assert_close(s.lift(y), dense @ y)
    torch.testing.assert_close(s.lift_inverse(y), torch.linalg.pinv(dense).T @ y)
    blocks, entries = s._connect_blocks(matrix), s._connect_entries(matrix)
    for out in (blocks, entries, s.connect(matrix)):
        torch.testing.assert_close(out.to_dense(), dense.T @ a @ dense)
        assert out.nodes.sizes.tolist() == [4, 0, 3]
    assert torch.equal(blocks.col, entries.col)
    assert torch.equal(blocks.crow, entries.crow)
    unweighted = OverlapSelection(s.node, s.cluster, None, s.nodes, s.pooled)
    ones = (dense != 0).to(torch.float32)
    torch.testing.assert_close(unweighted.reduce(x.float()), ones.T @ x.float())
    torch.testing.assert_close(unweighted._connect_entries(matrix).to_dense(), ones.double().T @ a @ ones.double())


@pytest.mark.parametrize("way", ["_connect_blocks", "_connect_entries"])
def test_overlapping_clusters_gradients(way: str) -> None:
    s, _, _, matrix = overlapping()
    assert matrix.value is not None

    def run(weight: Tensor, value: Tensor) -> Tensor:
        again = OverlapSelection(s.node, s.cluster, weight, s.nodes, s.pooled)
        return getattr(again, way)(matrix.with_value(value)).weights

    inputs = (s.weight.clone().requires_grad_(), matrix.value.clone().requires_grad_())
    assert gradcheck(run, inputs)
    assert gradgradcheck(run, inputs)


def test_overlapping_clusters_take_the_cheaper_way() -> None:
    # A ring of 2000 nodes in 1000 clusters of two: 4 terms a node against 1000 x 1000 multiply-adds.
    n = 2000
    u = torch.arange(n)
    ring = Sparse.from_edges(torch.cat([u, u]), torch.cat([(u + 1) % n, (u - 1) % n]), None, Ragged.single(n))
    few = OverlapSelection(u, u // 2, torch.ones(n), Ragged.single(n), Ragged.single(n // 2))
    assert few._entries_are_faster(ring)
    # A clique of 60 nodes in 30 clusters of all: 60 x 60 x 30 x 30 terms.
    clique = sparse(torch.ones(60, 60))
    cluster, node = torch.ones(30, 60).nonzero(as_tuple=True)
    assert not OverlapSelection(node, cluster, None, clique.nodes, Ragged.single(30))._entries_are_faster(clique)


class Largest(TorchDispatchMode):
    """The largest tensor that any operation returned."""

    numel = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for v in out if isinstance(out, tuple | list) else (out,):
            if isinstance(v, Tensor):
                self.numel = max(self.numel, v.numel())
        return out


def test_lapool_pads_nothing_to_the_largest_graph() -> None:
    graphs = [(torch.randn(n, 4), n) for n in [1500] + [20] * 60]
    x = torch.cat([x for x, _ in graphs])
    i = torch.repeat_interleave(torch.tensor([n for _, n in graphs]))
    start = 0
    edges = []
    for _, n in graphs:
        u = torch.arange(n - 1) + start
        edges.append(torch.stack([torch.cat([u, u + 1]), torch.cat([u + 1, u])]))
        start += n
    for kwargs in LAPOOLS:
        with Largest() as largest:
            out = LaPool(return_selection=True, **kwargs)(x, torch.cat(edges, 1), i)
        pairs = sum(n * k for (_, n), k in zip(graphs, out.sizes.tolist(), strict=True))
        assert largest.numel <= pairs < len(x) * out.x.shape[0] // 2


# ---- both -----------------------------------------------------------------------------------------


def operators() -> list[Any]:
    return [sag(), sag(ratio=3, sigmoid_gating=True)] + [LaPool(return_selection=True, **kw) for kw in LAPOOLS]


@pytest.mark.parametrize("pool", operators(), ids=lambda p: type(p).__name__)
def test_disjoint_batch_and_singles_agree(pool: Any) -> None:
    graphs = mixed_graphs()
    x, a, i = disjoint(graphs)
    union = pool(x, a, i)
    xb, ab, mask = padded(graphs)
    batch = pool(xb, ab, mask=mask)
    singles = [pool(x, a) for x, a in graphs]

    torch.testing.assert_close(union.x, torch.cat([s.x for s in singles]))
    torch.testing.assert_close(union.a.to_dense(), torch.block_diag(*(s.a for s in singles)))
    assert union.sizes.tolist() == [len(s.x) for s in singles] == batch.sizes.tolist()
    assert union.i.tolist() == torch.repeat_interleave(union.sizes).tolist()
    for g, s in enumerate(singles):
        k = len(s.x)
        torch.testing.assert_close(batch.x[g, :k], s.x)
        torch.testing.assert_close(batch.a[g, :k, :k], s.a)
        assert not batch.x[g, k:].any()
        assert batch.mask[g].tolist() == [True] * k + [False] * (batch.x.shape[1] - k)
    lifted = pool.lift(union.x, union.s)
    torch.testing.assert_close(lifted, torch.cat([pool.lift(s.x, s.s) for s in singles]))
    torch.testing.assert_close(union.s.reduce(pool.lift(union.x, union.s, inverse=True)), union.x)


@pytest.mark.parametrize("pool", operators(), ids=lambda p: type(p).__name__)
def test_permuting_the_nodes_permutes_the_answer(pool: Any) -> None:
    x, a = random_graph(15, "weighted", seed=7)
    order = torch.randperm(15, generator=torch.Generator().manual_seed(0))
    one, two = pool(x, a), pool(x[order], a[order][:, order])
    match = (torch.cdist(one.x, two.x) < 1e-9).nonzero()[:, 1]
    assert match.sort().values.tolist() == list(range(len(one.x)))
    torch.testing.assert_close(two.a[match][:, match], one.a)


@pytest.mark.parametrize("pool", operators(), ids=lambda p: type(p).__name__)
def test_edge_cases(pool: Any) -> None:
    # Graph 1 has no nodes, graph 2 one, graph 3 no edges, graph 0 a self-loop, a twofold edge and an isolated node.
    index = torch.tensor([[0, 0, 0, 1, 1, 2], [0, 1, 1, 0, 2, 1]])
    i = torch.tensor([0, 0, 0, 0, 2, 3, 3])
    torch.manual_seed(0)
    x = torch.randn(7, 3, dtype=F64, requires_grad=True)
    out = pool(x, index, i, edge_weight=torch.ones(6, dtype=F64))
    assert torch.isfinite(out.x).all()
    assert out.sizes.tolist()[1:3] == [0, 1]
    assert set(out.i.tolist()) == {0, 2, 3}
    out.x.sum().backward()
    assert torch.isfinite(x.grad).all()
    merged = torch.tensor([[0, 0, 1, 1, 2], [0, 1, 0, 2, 1]])
    twofold = pool(x, merged, i, edge_weight=torch.tensor([1, 2, 1, 1, 1], dtype=F64))
    torch.testing.assert_close(twofold.x, out.x)

    none = torch.zeros(0, dtype=torch.int64)
    nothing = pool(torch.zeros(0, 3, dtype=F64), none.expand(2, 0), none)
    assert nothing.x.shape == (0, 3)
    alone = pool(torch.ones(1, 3, dtype=F64), torch.zeros(1, 1, dtype=F64))
    assert alone.x.shape == (1, 3)
    assert alone.a.shape == (1, 1)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("pool", operators(), ids=lambda p: type(p).__name__)
def test_autocast_and_half_inputs_are_finite(pool: Any, dtype: torch.dtype) -> None:
    x, a, i = disjoint(mixed_graphs())
    pool = pool.float()
    x = x.float().requires_grad_()
    with torch.autocast("cpu", dtype=dtype):
        out = pool(x, a.float(), i)
        out.x.float().square().sum().backward()
    assert torch.isfinite(out.x).all()
    assert torch.isfinite(out.a.to_dense()).all()
    assert torch.isfinite(x.grad).all()
    half = pool.to(dtype)(x.detach().to(dtype), a.float(), i)
    assert half.x.dtype == dtype
    assert torch.isfinite(half.x).all()
    pool.double()


def test_the_same_seed_gives_the_same_bits() -> None:
    x, a, i = disjoint(mixed_graphs())
    for kwargs in LAPOOLS:
        grads = []
        for _ in range(2):
            leaf = x.clone().requires_grad_()
            out = LaPool(**kwargs)(leaf, a, i)
            (out.x.square().sum() + out.a.to_dense().square().sum()).backward()
            grads.append(leaf.grad)
        assert torch.equal(*grads)
