"""Precomputable operators: precomputed is on the fly, and a graph is coarsened alike alone and in a batch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from registry import FEATURES, REGISTRY, Graphs, Registered, graphs
from torch import Tensor

from poolbench.data.coarsen import Recipe, coarsen_dataset
from poolbench.learn.trainable import settings
from poolbench.linalg import Ragged, Sparse
from poolbench.linalg.coarsening import Coarsening

SIZES = (6, 1, 9, 3, 12)
#: Arguments with which an operator is precomputable where it is not with those of its YAML file.
SCORERS: list[dict[str, Any]] = [{"scorer": s} for s in ("degree", "random", "constant", "canonical")]
SCORERS.append({"scorer": "degree", "reduce_red_op": None})


def _precomputable() -> Iterator[Any]:
    for entry in REGISTRY:
        if entry.is_readout:
            continue
        for changes in [{}, *(SCORERS if "scorer" in entry.takes else [])]:
            if entry.make(**changes).precomputable:
                yield pytest.param(entry, changes, id="-".join([entry.name, *map(str, changes.values())]))


precomputable = pytest.mark.parametrize(("entry", "changes"), list(_precomputable()))


def matrix(graph: Graphs, dtype: torch.dtype = torch.float32, symmetric: bool = True) -> Sparse:
    (col, row), weight = graph.edges
    return Sparse.from_edges(row, col, weight.to(dtype), Ragged.from_index(graph.i), symmetric)


def tensors(c: Coarsening) -> dict[str, Tensor]:
    held = {"node": c.node, "cluster": c.cluster, "weight": c.weight, "centre": c.centre, "s": c.s}
    return {name: v for name, v in held.items() if v is not None} | {"a": c.a.to_dense(), "sizes": c.pooled.sizes}


def same(one: Coarsening, other: Coarsening) -> None:
    assert one.kind == other.kind
    p, q = tensors(one), tensors(other)
    assert p.keys() == q.keys()
    for name, value in p.items():
        assert value.dtype == q[name].dtype, name
        assert torch.equal(value, q[name]), name


@precomputable
@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_precomputed_is_on_the_fly(
    entry: Registered, changes: dict[str, Any], directed: bool, dtype: torch.dtype
) -> None:
    """To the bit, two levels deep, with losses, lift and the gradient in x."""
    module, graph = entry.make(return_selection=True, dtype=dtype, **changes), graphs(*SIZES, directed=directed)
    a = given = matrix(graph, dtype, symmetric=not directed)
    x = graph.x.to(dtype).requires_grad_()
    for _ in range(2):
        c = module.coarsen(given)
        fly, read = module(x, a), module(x, a, coarsening=c)
        assert torch.equal(fly.x, read.x)
        assert torch.equal(fly.a.to_dense(), read.a.to_dense())
        assert fly.a.symmetric == read.a.symmetric
        assert fly.sizes.tolist() == read.sizes.tolist()
        assert fly.losses.keys() == read.losses.keys()
        assert torch.equal(module.lift(fly.x, fly.s), module.lift(read.x, read.s))
        assert torch.equal(*(torch.autograd.grad(o.x.square().sum(), x, retain_graph=True)[0] for o in (fly, read)))
        assert not read.a.to_dense().requires_grad
        x, a, given = fly.x.detach().requires_grad_(), fly.a, c.a


@precomputable
def test_alone_is_in_a_batch(entry: Registered, changes: dict[str, Any]) -> None:
    module = entry.make(dtype=torch.float32, **changes)
    graph = graphs(*SIZES)
    together = module(graph.x.float(), matrix(graph))
    singles = [Graphs([x], [a]) for x, a in zip(graph.xs, graph.adjacencies, strict=True)]
    alone = [module(g.x.float(), matrix(g), coarsening=module.coarsen(matrix(g))) for g in singles]
    blocks = [o.a.to_dense().reshape(int(o.sizes), -1) for o in alone]
    assert torch.equal(together.a.sparse().to_dense(), torch.block_diag(*blocks))
    assert together.sizes.tolist() == [int(o.sizes) for o in alone]
    torch.testing.assert_close(together.x.reshape(-1, together.x.shape[-1]), torch.cat([o.x.reshape(-1, together.x.shape[-1]) for o in alone]))  # fmt: skip  # noqa: E501


@precomputable
def test_cut_from_a_dataset_is_on_the_fly(entry: Registered, changes: dict[str, Any], tmp_path: Path) -> None:
    """Batches in any order, one graph twice, after a way through the cache."""
    module, graph = entry.make(dtype=torch.float32, **changes), graphs(*SIZES, 7, 4)
    index, weight = graph.edges
    recipe = Recipe(entry.cls.__name__, changes, "code", "data")
    sizes = torch.tensor(graph.sizes)
    for _ in range(2):  # the second time from the file
        packed = coarsen_dataset(
            sizes, index, [module.coarsen] * 2, recipe, weight.float(), symmetric=True, data=tmp_path
        )
        for chosen in ([0, 1, 2, 3, 4, 5, 6], [4, 2, 2, 1], [1], []):
            batch = Graphs([graph.xs[g] for g in chosen], [graph.adjacencies[g] for g in chosen])
            a = matrix(batch) if chosen else Sparse.from_edges(*torch.zeros(2, 0).long(), None, Ragged(torch.zeros(1).long(), []), True)  # fmt: skip  # noqa: E501
            first, second = packed.cut(torch.tensor(chosen, dtype=torch.int64))
            if chosen:
                fresh = module.coarsen(a)
                same(first, fresh)
                same(second, module.coarsen(fresh.a))
            out = module(torch.zeros(sum(batch.sizes), FEATURES), a, coarsening=first)
            assert module(out.x, out.a, coarsening=second).sizes.numel() == len(chosen)


@precomputable
def test_a_coarsening_of_another_batch_is_refused(entry: Registered, changes: dict[str, Any]) -> None:
    module, graph = entry.make(dtype=torch.float32, **changes), graphs(6, 4)
    c = module.coarsen(matrix(graphs(5, 4)))
    with pytest.raises(ValueError, match="same batch"):
        module(graph.x.float(), matrix(graph), coarsening=c)


def test_others_refuse_a_coarsening(pool: Registered) -> None:
    module, graph = pool.make(dtype=torch.float32), graphs(6)
    if module.precomputable:
        return
    with pytest.raises(TypeError, match="not precomputable"):
        module.coarsen(matrix(graph))


@precomputable
def test_what_changes_a_coarsening_changes_what_it_is_kept_by(entry: Registered, changes: dict[str, Any]) -> None:
    """Else one is read from the cache that was made with other arguments."""
    graph = matrix(graphs(9, 7))
    flags = [name for name in entry.takes if name in ("remove_self_loops", "degree_norm", "edge_weight_norm")]
    for name in flags:
        one, other = (entry.make(dtype=torch.float32, **{**changes, name: value}) for value in (False, True))
        made = [module.coarsen(graph).a.to_dense() for module in (one, other)]
        assert (settings(one) != settings(other)) or torch.equal(*made), name
