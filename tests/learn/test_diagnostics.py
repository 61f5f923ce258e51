"""Pooling diagnostics and pictures: exact on small graphs, for every operator, and without a trace in the run."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from configs import small
from poolbench.config import Part
from poolbench.data.generators.synthetic import PlantedGraphs
from poolbench.data.prepared import Prepared
from poolbench.data.protocols import Holdout
from poolbench.data.store import Batch
from poolbench.learn import build, diagnostics, locate, train, trainable
from poolbench.learn.diagnostics import Known, block, pooling, sample, spectrum
from poolbench.learn.pictures import draw, layout, picture
from poolbench.linalg import Ragged, Sparse
from poolbench.pool.base.selection import SparseSelection
from poolbench.pool.base.src import GlobalPool, SRCPool
from poolbench.pool.nopool import NoPool
from poolbench.records.identity import run_identity
from poolbench.records.version import EXECUTION_MODULES, imported_modules

CONF = Path(__file__).parents[2] / "conf"


def graph(*edges: tuple[int, int], sizes: list[int]) -> Batch:
    """Undirected graphs, nodes numbered over the batch."""
    nodes = Ragged.from_index(torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes)), len(sizes))
    row, col = torch.tensor([*edges, *((v, u) for u, v in edges)]).T
    a = Sparse.from_edges(row, col, torch.ones(row.numel()), nodes, symmetric=True)
    n = sum(sizes)
    return Batch(torch.arange(2.0 * n).reshape(n, 2), a, torch.zeros(len(sizes)), torch.arange(len(sizes)))


#: A path 0-1-2-3 and a triangle 4-5-6.
PATH_AND_TRIANGLE = graph((0, 1), (1, 2), (2, 3), (4, 5), (5, 6), (4, 6), sizes=[4, 3])


class Model(nn.Module):
    """Operators in a row."""

    def __init__(self, *pools: SRCPool) -> None:
        super().__init__()
        self.pools = nn.ModuleList(pools)
        self.norm = nn.BatchNorm1d(2)

    def forward(self, batch: Batch) -> Tensor:
        x, a = self.norm(batch.x), batch.a
        for pool in self.pools:
            out = pool(x, a)
            x, a = out.x, out.a
        return x


def measured(*pools: SRCPool, batches: list[Batch] | None = None) -> dict[str, Any]:
    model = Model(*pools)
    return pooling(model, model, batches or [PATH_AND_TRIANGLE])


class Keep(SRCPool):
    """Nodes 0, 2, 3 of the path and 4, 5 of the triangle."""

    def select(self, x: Tensor, a: Any, i: Any) -> Tensor:
        self.add_loss("mine", x.new_tensor(3.0))
        return torch.tensor([0, 2, 3, 4, 5])


class Soft(SRCPool):
    """Three clusters: hard for the nodes of the path (0 0 1 1), uniform over the first two for the triangle."""

    def select(self, x: Tensor, a: Any, i: Any) -> Tensor:
        hard = torch.eye(3)[torch.tensor([0, 0, 1, 1])]
        return torch.cat([hard, torch.tensor([[0.5, 0.5, 0.0]]).expand(3, 3)])


def test_kept_nodes() -> None:
    found = measured(Keep())
    assert found["graphs"] == 2
    (level,) = found["levels"]
    assert level["ratio"] == pytest.approx((3 / 4 + 2 / 3) / 2)
    assert level["assigned"] == pytest.approx(5 / 7)
    assert level["clusters"] == 2.5 and level["used"] == 2.5
    assert level["entropy"] == 0.0 and level["collapsed"] == 0.0
    assert level["constant"] == 0.0, "dropped nodes have the sum 0, kept ones not"
    # 0 stands alone, 2-3 is an edge; 4-5 is an edge.
    assert level["density"] == pytest.approx((1 / 3 + 1) / 2)
    assert level["components"] == 1.5 and level["connected"] == 0.5
    assert level["losses"] == {"mine": 3.0}
    # Path P4: 0, 1/2, 3/2, 2. {2-3, 0}: 0, 0, 2. Triangle: 0, 3/2, 3/2. Edge: 0, 2.
    path = _w1([0, 0.5, 1.5, 2], [0, 0, 2])
    assert level["spectral_distance"] == pytest.approx((path + _w1([0, 1.5, 1.5], [0, 2])) / 2)


def _w1(a: list[float], b: list[float], steps: int = 12) -> float:
    """The distance of two samples by their quantiles, whose numbers divide `steps`."""
    fine = [sorted(v for v in values for _ in range(steps // len(values))) for values in (a, b)]
    return sum(abs(x - y) for x, y in zip(*fine, strict=True)) / steps


def test_soft_assignments() -> None:
    (level,) = measured(Soft())["levels"]
    assert level["entropy"] == pytest.approx(3 / 7 * math.log(2) / math.log(3))
    assert level["assigned"] == 1.0 and level["clusters"] == 3.0
    assert level["used"] == 1.5, "two of the path's clusters, one of the triangle's"
    assert level["collapsed"] == pytest.approx((1 / 3 + 2 / 3) / 2)
    # Path: clusters 0 and 1 share the edge 1-2, cluster 2 is alone. Triangle: 0 and 1 are joined, 2 is alone.
    assert level["density"] == pytest.approx(1 / 3)
    assert level["components"] == 2.0 and level["connected"] == 0.0


class Overlap(SRCPool):
    """Node 1 in both clusters of the path with weights 3 and 1, the triangle in one cluster; node 3 dropped."""

    def select(self, x: Tensor, a: Any, i: Any) -> SparseSelection:
        node, cluster = torch.tensor([0, 1, 1, 2, 4, 5, 6]), torch.tensor([0, 0, 1, 1, 2, 2, 2])
        weight = torch.tensor([1.0, 3.0, 1.0, 1.0, 0.0, 1.0, 1.0])
        return SparseSelection(node, cluster, weight, a.nodes, Ragged.from_index(torch.tensor([0, 0, 1]), 2))


def test_overlapping_clusters() -> None:
    (level,) = measured(Overlap())["levels"]
    one = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25)) / math.log(2)
    assert level["entropy"] == pytest.approx(one / 6) and level["assigned"] == pytest.approx(6 / 7)
    assert level["used"] == 1.5 and level["collapsed"] == 0.0
    assert level["connected"] == 1.0
    assert level["constant"] == 0.0


class Signed(SRCPool):
    """Weights whose sums are 2 for each node of the path, and 0 for each of the triangle."""

    def select(self, x: Tensor, a: Any, i: Any) -> SparseSelection:
        node = torch.tensor([0, 1, 1, 2, 3, 4, 4, 5, 5, 6, 6])
        cluster = torch.tensor([0, 0, 1, 1, 1, 2, 3, 2, 3, 2, 3])
        weight = torch.tensor([2.0, 5.0, -3.0, 2.0, 2.0, 1.0, -1.0, 1.0, -1.0, 2.0, -2.0])
        return SparseSelection(node, cluster, weight, a.nodes, Ragged.from_index(torch.tensor([0, 0, 1, 1]), 2))


def test_sums_that_are_constant_and_not_zero() -> None:
    (level,) = measured(Signed())["levels"]
    assert level["constant"] == 0.5
    (level,) = measured(Soft())["levels"]
    assert level["constant"] == 1.0
    assert [level["constant"] for level in measured(NoPool(), NoPool())["levels"]] == [1.0, 1.0]


def test_known_nodes_are_found_or_not() -> None:
    known = Known("salient", torch.tensor([9, 0, 1, 1, 0, 1, 1, 0]), torch.tensor([0, 1, 5, 8]))
    batch = dataclasses.replace(PATH_AND_TRIANGLE, graphs=torch.tensor([1, 2]))
    model = Model(Keep())
    (level,) = pooling(model, model, [batch], known)["levels"]
    # Kept are 0, 2, 3 of the path, whose salient nodes are 1 and 2, and 4, 5 of the triangle (0 and 1 are salient).
    assert level["recall"] == pytest.approx((1 / 2 + 2 / 2) / 2)
    assert level["kept_salient"] == pytest.approx((1 / 3 + 2 / 2) / 2)
    model = Model(Keep(), NoPool())
    first, second = pooling(model, model, [batch], known)["levels"]
    assert "recall" in first and "recall" not in second


def test_known_clusters_beside_those_that_nodes_belong_to_most() -> None:
    from sklearn.metrics import normalized_mutual_info_score

    known = Known("clusters", torch.tensor([0, 0, 1, 1, 0, 0, 1]), torch.tensor([0, 4, 7]))
    model = Model(Overlap())
    (level,) = pooling(model, model, [PATH_AND_TRIANGLE], known)["levels"]
    # Of the path 0 and 1 belong to the first cluster, 2 to the second, 3 to none; the triangle to one.
    assert level["nmi"] == pytest.approx((normalized_mutual_info_score([0, 0, 1], [0, 0, 1]) + 0) / 2)
    assert "recall" not in level


def test_levels_come_in_order_and_batches_are_one_sample() -> None:
    twice = measured(NoPool(), Keep())["levels"]
    assert [level["ratio"] for level in twice] == [1.0, pytest.approx((3 / 4 + 2 / 3) / 2)]
    assert twice[0]["spectral_distance"] == pytest.approx(0.0, abs=1e-9)
    again = measured(Keep(), batches=[PATH_AND_TRIANGLE, PATH_AND_TRIANGLE])
    assert again["graphs"] == 4 and again["levels"] == measured(Keep())["levels"]
    assert measured()["levels"] == []


def test_nothing_of_the_model_is_changed() -> None:
    model = Model(Keep(), NoPool(return_selection=True))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    pooling(model, model, [PATH_AND_TRIANGLE])
    assert picture(model, model, PATH_AND_TRIANGLE) is not None
    assert model.training and [pool.return_selection for pool in model.pools] == [False, True]
    assert not any(pool._forward_hooks for pool in model.pools)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", sorted(path.stem for path in (CONF / "pool").glob("*.yaml")))
def test_every_operator_can_be_looked_at(name: str) -> None:
    raw = PlantedGraphs(num_graphs=12)
    prepared = Prepared.of(raw, Holdout(0), None)
    pool = Part.of("pool", OmegaConf.to_container(OmegaConf.load(CONF / "pool" / f"{name}.yaml"), resolve=True))
    model_part = small().model
    if issubclass(locate.locate("pool", pool), GlobalPool):
        model_part = Part("poolbench.nn.flat.Global", {"hidden": 8})
    torch.manual_seed(0)
    model = build.build_model(model_part, pool, trainable.data_facts(prepared, "mean"))
    a = Sparse.from_edges(*raw.load().edge_index, None, Ragged(torch.cat([torch.zeros(1, dtype=torch.int64),
                          raw.load().num_nodes.cumsum(0)])), symmetric=True)  # fmt: skip
    batch = Batch(prepared.x.values, a, prepared.target.y, torch.arange(12))

    class Called(nn.Module):
        def forward(self, batch: Batch) -> Any:
            return model(batch.x, batch.a)

    found = pooling(Called(), model, [batch])
    pools = [m for m in model.modules() if isinstance(m, SRCPool)]
    assert len(found["levels"]) == len(pools)
    for level in found["levels"]:
        assert level["ratio"] > 0 and level["clusters"] > 0
        assert 0 <= level["entropy"] <= 1 + 1e-9 and 0 < level["assigned"] <= 1
        assert 0 < level["used"] <= level["clusters"] + 1e-9 and 0 <= level["collapsed"] < 1
        assert level["density"] is None or 0 <= level["density"] <= 1
        assert level["components"] >= 1 and 0 <= level["connected"] <= 1
        assert level["spectral_distance"] is None or 0 <= level["spectral_distance"] <= 2
        assert all(math.isfinite(value) for value in level["losses"].values())
    if pools:
        drawn = picture(Called(), model, batch)
        assert drawn is not None and drawn.startswith(b"\x89PNG")


def test_the_sample_is_bounded() -> None:
    assert sample(torch.full((1000,), 10)) == diagnostics.GRAPHS
    assert sample(torch.tensor([diagnostics.NODES - 5, 5, 1])) == 2
    assert sample(torch.tensor([diagnostics.NODES + 1])) == 0
    assert sample(torch.zeros(0, dtype=torch.int64)) == 0


def test_spectra_and_blocks() -> None:
    a = PATH_AND_TRIANGLE.a
    assert torch.equal(block(a, 1), torch.ones(3, 3).double() - torch.eye(3).double())
    assert spectrum(block(a, 1)) == pytest.approx([0, 1.5, 1.5])
    assert spectrum(block(a, 0)) == pytest.approx([0, 0.5, 1.5, 2])
    assert spectrum(torch.eye(2).double()) == pytest.approx([0, 0]), "a loop is no edge"


def test_rounding_is_no_edge() -> None:
    a = Sparse.from_edges(torch.tensor([0, 0, 1]), torch.tensor([0, 1, 0]), torch.tensor([1.0, 1e-9, 1e-9]),
                          Ragged.single(2))  # fmt: skip
    assert diagnostics._edges(a).col.numel() == 0


# ---------------------------------------------------------------------------------------------------------- in a run


def outcome(**changes: Any) -> train.Outcome:
    config = small(trainer__max_epochs=4, seed=3, callbacks__pictures_every=changes.pop("pictures_every", 0))
    prepared = Prepared.of(PlantedGraphs(num_graphs=48), Holdout(0, test=0.2, val=0.2), None)
    return train.train(config, prepared, trainable.Trainable.of(config, prepared), **changes)


def bits(made: train.Outcome) -> Any:
    curve = [{k: v for k, v in row.items() if not k.startswith("time")} for row in made.curve]
    return curve, made.metrics, made.selected_epoch, made.losses


def test_diagnostics_and_pictures_leave_the_run_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: dict[int, bytes] = {}
    with_all = outcome(pictures_every=2, on_picture=drawn.__setitem__)
    assert sorted(drawn) == [1, 3] and all(png.startswith(b"\x89PNG") for png in drawn.values())
    (level,) = with_all.diagnostics["pooling"]["levels"]
    assert with_all.diagnostics["pooling"]["graphs"] == 10 and set(level["losses"]) == {"cut", "ortho"}
    assert outcome().diagnostics == with_all.diagnostics
    monkeypatch.setattr(diagnostics, "pooling", lambda *_: {"levels": []})
    without = outcome(pictures_every=0)
    assert bits(without) == bits(with_all) and "pooling" not in without.diagnostics


def test_a_failure_is_none_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise ValueError("not square")

    monkeypatch.setattr(diagnostics, "pooling", broken)
    said: list[str] = []
    monkeypatch.setattr(train.log, "warning", lambda text, *args: said.append(text % args))
    assert "accuracy" in outcome().metrics["test"]
    assert said == ["no pooling diagnostics: ValueError: not square"]


def test_neither_is_a_part_of_what_a_run_is() -> None:
    assert {"poolbench.learn.diagnostics", "poolbench.learn.pictures"} <= set(EXECUTION_MODULES)
    names = imported_modules(["poolbench.learn.train"])
    assert "poolbench.learn.keeper" in names and not {*EXECUTION_MODULES} & set(names)
    never, often = ({"callbacks": {"pictures_every": n, "patience": 5}} for n in (0, 1))
    assert run_identity(never, dataset="d", split="s") == run_identity(often, dataset="d", split="s")


def test_a_layout_keeps_the_distances_of_a_path_and_takes_any_graph() -> None:
    path = torch.diag(torch.ones(3), 1).double()
    place = layout(path + path.T)
    assert torch.allclose((place[1:] - place[:-1]).norm(dim=1), torch.ones(3).double())
    for a in (torch.zeros(1, 1), torch.zeros(4, 4), torch.eye(2)):
        assert layout(a.double()).isfinite().all() and layout(a.double()).shape == (a.shape[0], 2)
    assert draw(torch.zeros(1, 1).double(), torch.ones(1, 1).double(), torch.zeros(1, 1).double())[:4] == b"\x89PNG"
