"""SRCPool as a person extends it: one method overridden, keywords routed by name, the ids and the number of nodes."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from registry import FEATURES, Graphs, graphs
from torch import Tensor, nn

from poolbench.linalg import Matrix
from poolbench.pool import GlobalSumPool, MinCutPool, SRCPool
from poolbench.pool.base.src import GlobalPool, constructor_arguments

GRAPH = graphs(5, 4)


def close(ours: Any, theirs: Any) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


class EveryOther(SRCPool):
    """Keeps every other node."""

    def select(self, x: Tensor, a: Matrix, i: Tensor | None) -> Tensor:
        return torch.arange(0, x.shape[0], 2)


class Halves(SRCPool):
    """Two soft clusters from the sign of the first feature."""

    batched = True

    def select(self, x: Tensor, a: Matrix, i: Tensor | None) -> Tensor:
        return torch.stack([x[..., 0].sigmoid(), (-x[..., 0]).sigmoid()], -1)


def call(pool: SRCPool, graph: Graphs = GRAPH, **more: Any) -> Any:
    index, weight = graph.edges
    return pool(graph.x, index, graph.i, edge_weight=weight, **more)


def matrix(out: Any) -> Tensor:
    n = out.x.shape[0]
    return torch.zeros(n, n, dtype=torch.float64).index_put(tuple(out.a.flip(0)), out.edge_weight)


def test_the_base_class_pools_nothing() -> None:
    pool = SRCPool(return_selection=True)
    out = call(pool)
    close(out.x, GRAPH.x)
    close(matrix(out), GRAPH.a)
    assert out.i.tolist() == GRAPH.i.tolist()
    assert out.s.kept.tolist() == list(range(9))
    single = pool(GRAPH.xs[0], GRAPH.adjacencies[0])  # without ids too
    close(single.a, GRAPH.adjacencies[0])
    assert single.i is None


def test_overriding_select_with_indices_is_enough() -> None:
    pool = EveryOther(return_selection=True)
    out, kept = call(pool), torch.arange(0, 9, 2)
    close(out.x, GRAPH.x[kept])
    close(matrix(out), GRAPH.a[kept][:, kept])
    assert out.i.tolist() == GRAPH.i[kept].tolist()
    assert out.sizes.tolist() == [3, 2]
    assert out.s.mask.tolist() == [1, 0] * 4 + [1]
    assert out.losses == {}
    assert pool.n_nodes == 9
    lifted = pool.lift(out.x, out.s)
    close(lifted[kept], out.x)
    assert not lifted[1::2].any()


def test_overriding_select_with_a_matrix_is_enough() -> None:
    pool = Halves(return_selection=True)
    out = call(pool)
    s = torch.stack([GRAPH.x[:, 0].sigmoid(), (-GRAPH.x[:, 0]).sigmoid()], -1)
    for g, rows in enumerate((slice(0, 5), slice(5, 9))):
        at = slice(2 * g, 2 * g + 2)
        close(out.x[at], s[rows].T @ GRAPH.x[rows])
        close(matrix(out)[at, at], s[rows].T @ GRAPH.adjacencies[g] @ s[rows])
    assert out.i.tolist() == [0, 0, 1, 1]
    x, a, mask = GRAPH.padded
    batch = pool(x, a, mask=mask)
    close(batch.x.reshape(4, -1), out.x)


def test_select_may_return_a_list_in_any_order() -> None:
    class Listed(SRCPool):
        def select(self, x: Tensor, a: Matrix, i: Tensor | None) -> list[int]:  # type: ignore[override]
            return [4, 0, 2, 8, 5]

    out, kept = call(Listed()), torch.tensor([4, 0, 2, 8, 5])
    close(out.x, GRAPH.x[kept])
    close(matrix(out), GRAPH.a[kept][:, kept])
    assert out.i.tolist() == [0, 0, 0, 1, 1]


def test_an_operator_with_its_own_reduce_connect_and_reduce_index() -> None:
    class Own(EveryOther):
        def reduce(self, x: Tensor, s: Any) -> Tensor:
            return 2 * s.reduce(x)

        def connect(self, a: Matrix, s: Any) -> Matrix:
            return s.connect(a).times(3.0)

        def reduce_index(self, i: Tensor, s: Any) -> Tensor:
            return i[s.kept] + 10

    out, plain, kept = call(Own()), call(EveryOther()), torch.arange(0, 9, 2)
    close(out.x, 2 * plain.x)
    close(matrix(out), 3 * matrix(plain))
    assert out.i.tolist() == (GRAPH.i[kept] + 10).tolist()


def test_keywords_go_to_the_methods_that_name_them() -> None:
    seen: dict[str, Any] = {}

    class Routed(EveryOther):
        def select(self, x: Tensor, a: Matrix, i: Tensor | None, first: int = 1) -> Tensor:  # type: ignore[override]
            seen["select"] = first
            return super().select(x, a, i)

        def reduce(self, x: Tensor, s: Any, a: Any = None, i: Any = None, first: int = 2, other: int = 3) -> Tensor:  # type: ignore[override]
            seen["reduce"] = (isinstance(a, Matrix), i is not None, first, other)
            return super().reduce(x, s)

        def connect(self, a: Matrix, s: Any, x: Any = None) -> Matrix:  # type: ignore[override]
            seen["connect"] = x.shape
            return super().connect(a, s)

    pool = Routed()
    call(pool)
    assert seen == {"select": 1, "reduce": (True, True, 2, 3), "connect": (9, FEATURES)}  # defaults are used
    call(pool, first=7)
    assert seen == {"select": 7, "reduce": (True, True, 7, 3), "connect": (9, FEATURES)}
    with pytest.raises(TypeError, match="'other'"):
        call(pool, othr=1)


def test_keyword_arguments_receive_what_is_left() -> None:
    class Greedy(EveryOther):
        def select(self, x: Tensor, a: Matrix, i: Tensor | None, **kwargs: Any) -> Tensor:
            self.got = kwargs
            return super().select(x, a, i)

    pool = Greedy()
    call(pool, anything=3)
    assert pool.got == {"anything": 3}


def test_n_nodes_before_the_first_call() -> None:
    pool = EveryOther()
    with pytest.raises(AttributeError, match="n_nodes"):
        pool.n_nodes
    assert not hasattr(pool, "n_nodes")
    x, a, mask = GRAPH.padded
    pool(x, a, mask=mask)
    assert pool.n_nodes == 5


def test_losses_are_added_up_and_do_not_outlive_a_call() -> None:
    class Lossy(EveryOther):
        def select(self, x: Tensor, a: Matrix, i: Tensor | None) -> Tensor:
            self.add_loss("size", x.square().mean())
            self.add_loss("size", x.square().mean())
            return super().select(x, a, i)

    pool = Lossy()
    for _ in range(2):
        close(call(pool).losses, {"size": 2 * GRAPH.x.square().mean()})
    assert not pool._losses  # what an operator keeps must not hold on to the graph of a call


def test_indices_do_not_fit_the_batch_layout() -> None:
    class Wrong(EveryOther):
        batched = True

    x, a, mask = GRAPH.padded
    with pytest.raises(TypeError, match="batched"):
        Wrong()(x, a, mask=mask)


def test_an_operator_with_weights_of_its_own() -> None:
    class Scored(SRCPool):
        """The best node of each graph: an operator in a few lines."""

        def __init__(self, in_channels: int) -> None:
            super().__init__()
            self.score = nn.Linear(in_channels, 1, dtype=torch.float64)

        def select(self, x: Tensor, a: Matrix, i: Tensor | None) -> Tensor:
            score = self.score(x).squeeze(-1)
            ends = a.nodes.sizes.tolist()
            best, start = [], 0
            for n in ends:
                best.append(start + int(score[start : start + n].argmax()))
                start += n
            return torch.tensor(best)

    out = call(Scored(FEATURES))
    assert out.sizes.tolist() == [1, 1]


def test_arguments_of_the_bases_are_known() -> None:
    class Mine(MinCutPool):
        def __init__(self, mine: int = 0, **rest: Any) -> None:
            super().__init__(**rest)

    assert {"mine", "k", "mlp_hidden", "return_selection"} <= set(constructor_arguments(Mine))
    with pytest.raises(TypeError, match="'mlp_hidden'"):
        Mine(k=3, mlp_hiden=[4])


def test_a_readout_is_one_method() -> None:
    class First(GlobalPool):
        def readout(self, x: Tensor, nodes: Any) -> Tensor:
            return nodes.sum(x) / nodes.sizes.unsqueeze(-1)

    close(First()(GRAPH.x, GRAPH.i), GlobalSumPool()(GRAPH.x, GRAPH.i) / torch.tensor([[5.0], [4.0]]))
    with pytest.raises(ValueError, match="mask"):
        First()(GRAPH.x, mask=torch.ones(9))
    with pytest.raises(ValueError, match="batch"):
        First()(GRAPH.padded[0], GRAPH.i)


def test_the_penalty_is_that_of_the_layers_that_there_are_now() -> None:
    """One that was exchanged after a call counted on in place of the new one."""
    pool = MinCutPool(2, in_channels=FEATURES, kernel_regularizer={"l2": 1.0}).double()
    call(pool)
    layer = copy.deepcopy(pool.mlp.layers[0])
    pool.mlp.layers[0] = layer
    layer.weight.data.fill_(2.0)
    close(call(pool).losses["regularization"], 4.0 * torch.tensor(2.0 * FEATURES, dtype=torch.float64))
