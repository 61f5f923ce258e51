"""SEPPool: the greedy tree against a plain dense version of its definition, and one hierarchy for several levels."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array
from torch import Tensor

from poolbench.data.coarsen import Recipe, coarsen_dataset
from poolbench.linalg import Ragged, Sparse
from poolbench.pool import SEPPool
from poolbench.pool.base.codingtree import hierarchy


def random_graph(n: int, seed: int, density: float = 0.3) -> np.ndarray:
    rng = np.random.default_rng(seed)
    upper = np.triu(rng.random((n, n)) + 0.5, 1) * (np.triu(rng.random((n, n)), 1) > 1 - density)
    path = np.diag(rng.random(n - 1) + 0.5, 1)
    return upper + upper.T + path + path.T


def slow_two_levels(a: np.ndarray) -> list[frozenset[int]]:
    """The definition, on sets of leaves and dense sums: merge, then compress to height 2."""
    total = a.sum()

    def volume(s: frozenset[int]) -> float:
        return a[sorted(s)].sum()

    def cut(s: frozenset[int], t: frozenset[int]) -> float:
        return a[np.ix_(sorted(s), sorted(t))].sum()

    def leaving(s: frozenset[int]) -> float:
        return volume(s) - cut(s, s)

    def change(s: frozenset[int], t: frozenset[int]) -> float:
        both = volume(s) + volume(t)
        out = sum((volume(u) - leaving(u)) * math.log2(both / volume(u)) for u in (s, t))
        return out - 2 * cut(s, t) * math.log2(total / both)

    roots, children = [frozenset([v]) for v in range(len(a))], {}
    while len(roots) > 1:
        pairs = [(s, t) for j, s in enumerate(roots) for t in roots[:j] if cut(s, t) > 0]
        s, t = min(pairs, key=lambda p: change(*p))
        children[s | t] = [s, t]
        roots = [r for r in roots if r not in (s, t)] + [s | t]
    root = roots[0]

    def height(s: frozenset[int]) -> int:
        return 1 + max(map(height, children[s])) if s in children else 0

    def parent(s: frozenset[int]) -> frozenset[int]:
        return next(p for p, below in children.items() if s in below)

    def depth(s: frozenset[int]) -> int:
        return 0 if s == root else 1 + depth(parent(s))

    def cost(s: frozenset[int]) -> float:
        joined = sum(cut(c, d) for c in children[s] for d in children[s] if c != d) / 2
        return joined * math.log(volume(parent(s)) / volume(s))

    while height(root) > 2:
        inner = [s for s in children if s != root and height(s) + depth(s) > 2]
        s = min(inner, key=cost)
        above = parent(s)
        children[above] = [c for c in children[above] if c != s] + children.pop(s)
    return sorted(children[root], key=min)


def sets(labels: np.ndarray) -> list[frozenset[int]]:
    return [frozenset(np.flatnonzero(labels == c).tolist()) for c in range(int(labels.max()) + 1)]


@pytest.mark.parametrize("seed", range(8))
def test_the_tree_is_the_greedy_one(seed: int) -> None:
    a = random_graph(14, seed)
    assert sets(hierarchy(csr_array(a), 1)[0]) == slow_two_levels(a)


def test_cliques_are_clusters() -> None:
    a = np.kron(np.eye(3), np.ones((5, 5))) - np.eye(15)
    for u, v in ((4, 5), (9, 10), (14, 0)):
        a[u, v] = a[v, u] = 1.0
    assert sets(hierarchy(csr_array(a), 1)[0]) == [frozenset(range(5 * g, 5 * g + 5)) for g in range(3)]


@pytest.mark.parametrize("levels", [2, 3, 4])
def test_levels_are_nested_and_the_middle_is_the_tree_of_height_two(levels: int) -> None:
    a = csr_array(random_graph(40, 1, density=0.1))
    layers = hierarchy(a, levels)
    assert len(layers) == levels
    for finer, coarser in itertools.pairwise(layers):
        assert all(np.unique(coarser[finer == s]).size == 1 for s in range(finer.max() + 1))
    assert any(np.array_equal(layer, hierarchy(a, 1)[0]) for layer in layers)


def test_components_lone_nodes_and_pairs() -> None:
    one = random_graph(8, 3)
    a = np.zeros((13, 13))
    a[:8, :8], a[9, 10], a[10, 9] = one, 1.0, 1.0
    for layer in hierarchy(csr_array(a), 2):
        assert len(set(layer[[8, 9, 10, 11, 12]]) | set(layer[:8])) == 5 + len(set(layer[:8]))
    assert np.array_equal(hierarchy(csr_array(a), 1)[0][:8], hierarchy(csr_array(one), 1)[0])
    assert hierarchy(csr_array((3, 3)), 1)[0].tolist() == [0, 1, 2]


def call(a: Tensor, **args: object) -> object:
    return SEPPool(return_selection=True, **args)(torch.eye(len(a), dtype=a.dtype), a)


def test_features_and_edges_are_sums_over_clusters() -> None:
    a = torch.from_numpy(random_graph(12, 0))
    out = call(a, degree_norm=False)
    s = out.s.dense().double()
    torch.testing.assert_close(out.x, s.T)
    m = s.T @ a @ s
    torch.testing.assert_close(out.a, m - m.diag().diag())
    d = out.a.sum(1).rsqrt()
    torch.testing.assert_close(call(a).a, d.unsqueeze(1) * out.a * d)


def test_loops_directions_and_negative_weights_do_not_make_the_tree() -> None:
    a = torch.from_numpy(random_graph(12, 0))
    want = call(a).s.cluster.tolist()
    assert call(a.triu()).s.cluster.tolist() == want
    assert call(a + 9 * torch.eye(12)).s.cluster.tolist() == want
    assert call(torch.where(a > 0, a, -1.0)).s.cluster.tolist() == want


def test_pools_in_a_row_share_one_hierarchy() -> None:
    """Each pool hands the sets above on with its graph; the last one finds none and builds its own tree."""
    blocks = [random_graph(20, 5), random_graph(9, 6)]
    layers = [hierarchy(csr_array(b), 2) for b in blocks]
    a = torch.block_diag(*map(torch.from_numpy, blocks))
    nodes = Ragged.from_index(torch.tensor([0] * 20 + [1] * 9))
    graph = Sparse.from_edges(*a.nonzero().T, a[a != 0], nodes, symmetric=True)
    pool = SEPPool(levels=2, return_selection=True)
    cluster = torch.arange(29)
    x, count = torch.eye(29, dtype=torch.float64), []
    for level in range(2):
        out = pool(x, graph)
        cluster = out.s.cluster[torch.argsort(out.s.node)][cluster]
        want = np.concatenate([layers[0][level], layers[1][level] + layers[0][level].max() + 1])
        assert cluster.tolist() == want.tolist()
        x, graph = out.x, out.a
        count.append(out.sizes.tolist())
    assert count == [[int(layer[level].max()) + 1 for layer in layers] for level in range(2)]
    alone = SEPPool()(x, Sparse(graph.crow, graph.col, graph.value, graph.nodes, graph.symmetric))
    assert pool(x, graph).sizes.sum() <= alone.sizes.sum()


def test_a_dataset_is_coarsened_by_one_hierarchy(tmp_path: Path) -> None:
    blocks = [torch.from_numpy(random_graph(n, n)) for n in (20, 9, 14)]
    a = torch.block_diag(*blocks)
    index, sizes = a.nonzero().T, torch.tensor([20, 9, 14])
    pool = SEPPool(levels=2)
    recipe = Recipe("SEPPool", {"levels": 2}, "code", "data")
    packed = coarsen_dataset(sizes, index, [pool.coarsen] * 2, recipe, a[tuple(index)], symmetric=True, data=tmp_path)
    for g, block in enumerate(blocks):
        below = np.zeros(len(block), dtype=np.int64)
        for layer, c in zip(hierarchy(csr_array(block.numpy()), 2), packed.cut(torch.tensor([g])), strict=True):
            assert c.cluster is not None and c.node is not None
            cluster = c.cluster[torch.argsort(c.node)].numpy()
            below = cluster if c.node.numel() == len(block) else cluster[below]
            assert below.tolist() == layer.tolist()


def test_arguments() -> None:
    with pytest.raises(ValueError, match="levels"):
        SEPPool(levels=0)
    with pytest.raises(ValueError, match="connect_red_op"):
        SEPPool(connect_red_op="median")
    with pytest.raises(ValueError, match="finite"):
        call(torch.full((3, 3), torch.nan))
