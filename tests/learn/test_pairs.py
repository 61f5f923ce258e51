"""Paired comparison: what is told apart and what is not, the same bits however a run got there, what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch

from configs import small
from poolbench.config import Config
from poolbench.data.dataset import GraphDataset
from poolbench.data.features import Features, NodeFeatures
from poolbench.data.paired import PairedComparison, pair_of
from poolbench.data.pairs import Pairs
from poolbench.data.perturb import DropEdges
from poolbench.data.prepared import Prepared
from poolbench.data.raw import RawGraphs
from poolbench.errors import PoolBenchError
from poolbench.learn import pairs as comparing
from poolbench.learn.outcome import Outcome, Row
from poolbench.learn.pairs import RESOLUTION, Apart, Pair
from poolbench.learn.train import train
from poolbench.learn.trainable import Trainable
from poolbench.records.outcomes import unpack
from poolbench.records.record import PAIRED

C6, TRIANGLES = nx.cycle_graph(6), nx.disjoint_union(nx.cycle_graph(3), nx.cycle_graph(3))
#: Two hexagons with an edge in common, two pentagons with an edge between them: 1-WL does not tell them apart.
DECALIN = nx.Graph([(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 0), (5, 6), (6, 7), (7, 8), (8, 9), (9, 0)])
PENTAGONS = nx.Graph([(0, 1), (1, 2), (2, 3), (3, 4), (4, 0), (5, 6), (6, 7), (7, 8), (8, 9), (9, 5), (0, 5)])
TREE, TURNED = nx.balanced_tree(2, 2), nx.relabel_nodes(nx.balanced_tree(2, 2), {u: 6 - u for u in range(7)})
PAIRS = (
    ("easy", nx.path_graph(4), nx.star_graph(3)),
    ("wl", C6, TRIANGLES),
    ("wl", DECALIN, PENTAGONS),
    ("same", TREE, TURNED),
    ("easy", nx.path_graph(5), nx.path_graph(6)),
)


class Few(GraphDataset):
    """The pairs above, after one graph that is in none."""

    name = "few"

    def __init__(self, labels: bool = False) -> None:
        self.features, self.labels = NodeFeatures("auto" if labels else "constant"), labels

    def load(self) -> RawGraphs:
        graphs = [nx.path_graph(2), *(graph for _, *both in PAIRS for graph in both)]
        edges, start = list[tuple[int, int]](), 0
        for graph in graphs:
            edges += [(start + a, start + b) for u, v in graph.edges for a, b in ((u, v), (v, u))]
            start += len(graph)
        index = torch.tensor(sorted(edges)).T
        return RawGraphs(
            "few",
            torch.tensor([len(graph) for graph in graphs]),
            index,
            node_labels=torch.arange(start)[:, None] % 7 if self.labels else None,
            edge_attributes=(index[0] * 1000 + index[1])[:, None].float() if self.labels else None,
            y=torch.arange(len(graphs)) % 2,
        )

    def edge_features(self, raw: RawGraphs) -> Features | None:
        return None if raw.edge_attributes is None else Features(raw.edge_attributes, ["edge"])

    def edge_weight(self, raw: RawGraphs) -> torch.Tensor | None:
        return None if raw.edge_attributes is None else raw.edge_attributes[:, 0] + 0.5

    def pairs(self, raw: RawGraphs) -> Pairs:
        return Pairs(torch.arange(1, raw.num_graphs).view(-1, 2), tuple(kind for kind, *_ in PAIRS))


def prepared(labels: bool = False, **changes: Any) -> Prepared:
    return Prepared.of(Few(labels), PairedComparison(**{"copies": 12, "dim": 4, **changes}), None)


RANDOM = "randompool.RandomSparsePool"


def config(pool: str = "nopool.NoPool", **changes: Any) -> Config:
    return small(
        protocol={"_target_": "poolbench.data.paired.PairedComparison"},
        pool={"_target_": f"poolbench.pool.{pool}", **({"ratio": 0.5} if pool == RANDOM else {})},
        **{"model__mp": "gin", "model__norm": "batch", "model__dropout": 0.0, "trainer__max_epochs": 8, **changes},
    )


def outcome(config: Config, data: Prepared, **how: Any) -> Outcome:
    return train(config, data, Trainable.of(config, data), **how)


def test_what_1_wl_tells_apart_is_told_apart_and_nothing_else() -> None:
    found = outcome(config(), prepared())
    test = found.metrics["test"]
    assert test == {"pairs": 2, "unreliable": 0, "pairs/easy": 2, "pairs/wl": 0, "pairs/same": 0}
    assert found.task == PAIRED and found.parameters and found.memory_peak and len(found.curve) == len(PAIRS)
    assert found.outcomes is not None
    answers = unpack(found.outcomes)
    assert answers.graphs.tolist() == [1, 3, 5, 7, 9] and answers.right is not None
    assert answers.right.tolist() == [True, False, False, False, True]
    kept = [[row["test/t2"], row["test/t2_same"]] for row in found.curve]
    np.testing.assert_array_equal(answers.predicted, np.array(kept, dtype=np.float32))
    assert found.diagnostics["pairs"]["of"] == {"easy": 2, "wl": 2, "same": 1}


def test_rounding_is_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    """Embeddings of graphs that 1-WL does not tell apart differ in their last bits alone, far below the resolution."""
    seen: list[tuple[float, float]] = []

    def watched(differences: np.ndarray, resolution: float) -> float:
        seen.append((float(np.abs(differences).max()), resolution))
        return 0.0

    monkeypatch.setattr(comparing, "hotelling", watched)
    Pair(config(model__hidden=64), prepared(copies=32), 2).row()
    assert all(0 < most < resolution / 3 for most, resolution in seen) and len(seen) == 2 and RESOLUTION < 1e-4


def test_a_pool_that_draws_is_no_way_to_tell_a_graph_from_itself() -> None:
    found = outcome(config(RANDOM), prepared(copies=32))
    assert found.curve[2]["test/t2_same"] > 0.1, "copies of a graph do differ"
    assert found.metrics["test"]["pairs/same"] == found.metrics["test"]["unreliable"] == 0


@pytest.mark.parametrize("pool", ["nopool.NoPool", RANDOM, "ndp.NDPPool"])
def test_the_same_bits_twice_and_after_a_kill(pool: str, tmp_path: Path) -> None:
    data, settings = prepared(copies=6, dim=2), config(pool, trainer__max_epochs=2)
    whole, again = (outcome(settings, data) for _ in range(2))
    assert bits(whole) == bits(again)

    def killed(number: int, row: Row) -> None:
        if number == 3:
            raise KeyboardInterrupt

    resume, started = tmp_path / "resume.pt", list[int]()
    with pytest.raises(KeyboardInterrupt):
        outcome(settings, data, resume=resume, identity="a", on_epoch=killed)
    rest = outcome(settings, data, resume=resume, identity="a", on_start=started.append)
    assert started == [3] and bits(rest) == bits(whole)
    assert whole.outcomes == rest.outcomes and whole.metrics == rest.metrics
    other = list[int]()
    outcome(settings, data, resume=resume, identity="b", on_start=other.append)
    assert other == [0], "the checkpoint of another run is none of this one's"
    resume.write_bytes(b"no checkpoint")
    outcome(settings, data, resume=resume, identity="a", on_start=other.append)
    assert other == [0, 0]


def bits(outcome: Outcome) -> list[Row]:
    return [{name: value for name, value in row.items() if "time" not in name} for row in outcome.curve]


def test_each_pair_has_a_model_of_its_own_seed() -> None:
    data, other = prepared(), config(seed=1)

    def weights(config: Config, number: int) -> torch.Tensor:
        return torch.cat([p.flatten() for p in Pair(config, data, number).module.parameters()])

    first = weights(config(), 0)
    assert torch.equal(first, weights(config(), 0))
    assert not torch.equal(first, weights(config(), 3)[: first.numel()])
    assert not torch.equal(first, weights(other, 0))


def test_a_batch_holds_whole_pairs_and_the_loss_parts_them() -> None:
    pair = Pair(config(), prepared(), 0)
    sizes = [batch.a.nodes.sizes.tolist() for batch in pair.data.train_dataloader()]
    assert sizes == [[4, 4] * 8, [4, 4] * 4] and pair.data.split.train.numel() == 24
    batch = next(iter(pair.data.train_dataloader()))
    y = pair.module(batch).y.detach()
    cosine = [max(0.0, float(torch.cosine_similarity(a, b, 0))) for a, b in zip(y[0::2], y[1::2], strict=True)]
    loss, count = pair.module.task_loss(pair.module(batch), batch)
    assert count == 8 and float(loss.detach()) == pytest.approx(np.mean(cosine), abs=1e-5)


@pytest.mark.parametrize(
    ("losses", "epochs"), [([0.5, 0.1], 2), ([1.0, 1.0, 1.0, 1.0], 4), ([1, 0.9, 0.8, 0.7, 0.6], 5)]
)
def test_when_a_pair_is_done_with(losses: list[float], epochs: int) -> None:
    apart = Apart(0.2, 3, 0.0)
    for number, loss in enumerate(losses, 1):
        apart.update(number - 1, {"train/loss": loss, "train/total_loss": loss}, torch.nn.Identity())
        assert apart.exhausted == (number == epochs and losses[-1] != 0.6)


def test_a_pair_ends_where_its_loss_is_small_enough() -> None:
    data = prepared(stop_below=0.999)
    assert Pair(config(), data, 0).row()["epochs"] == 1 < Pair(config(), data, 1).row()["epochs"] == 8


def test_copies_are_the_graphs_with_all_that_belongs_to_them() -> None:
    whole = prepared(labels=True)
    pair, raw = pair_of(whole, 3), whole.raw
    assert pair.raw.num_nodes.tolist() == [7] * 48 and pair.split.sizes["test"] == 24 and pair.raw.symmetric
    assert pair.edges is not None and pair.weight is not None
    keys = pair.raw.edge_index[0] * pair.raw.total_nodes + pair.raw.edge_index[1]
    assert (keys.diff() > 0).all(), "edges stand in canonical order"
    start, names = int(raw.num_nodes[:7].sum()), whole.x.values.argmax(1)  # labels differ within a graph
    label = pair.x.values.argmax(1)
    for copy in range(48):
        inside = (pair.raw.edge_index[0] // 7) == copy
        found = {
            (int(label[u]), int(label[v]), float(e))
            for (u, v), e in zip(pair.raw.edge_index[:, inside].T.tolist(), pair.edges.values[inside, 0], strict=True)
        }
        graph = copy % 2 if copy < 24 else int(float(pair.edges.values[inside].max()) // 1000 >= start + 7)
        first = start + 7 * graph
        at = (raw.edge_index[0] >= first) & (raw.edge_index[0] < first + 7)
        assert found == {(int(names[u]), int(names[v]), 1000.0 * u + v) for u, v in raw.edge_index[:, at].T.tolist()}
    assert torch.equal(pair.weight, pair.edges.values[:, 0] + 0.5)


def test_another_seed_numbers_nodes_anew_and_each_copy_has_an_order_of_its_own() -> None:
    one, again, other = (pair_of(prepared(seed=seed), 2) for seed in (0, 0, 1))
    assert one.raw.fingerprint() == again.raw.fingerprint() != other.raw.fingerprint()
    assert one.raw.fingerprint() != pair_of(prepared(), 3).raw.fingerprint()
    graph = torch.repeat_interleave(torch.arange(48), 10)[one.raw.edge_index[0]]
    made = {str((one.raw.edge_index[:, graph == g] - 10 * g).tolist()) for g in range(0, 24, 2)}
    assert len(made) == 12


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "as many copies as numbers": (lambda: PairedComparison(copies=16), "copies=16 must be more than dim=16"),
    "no whole number": (lambda: PairedComparison(copies=2.5), "copies=2.5 must be a whole number, 3 or more"),  # type: ignore[arg-type]
    "no width": (lambda: PairedComparison(dim=0), "dim=0 must be a whole number, 1 or more"),
    "no probability": (lambda: PairedComparison(alpha=1), "alpha=1 must be a number above 0 and below 1"),
    "a perturbation of a part": (
        lambda: Prepared.of(Few(), PairedComparison(), None, DropEdges(0.5, at="test")),
        "perturb.at=test: protocol=brec measures on the pairs that it trains on",
    ),
    "no loss": (lambda: PairedComparison(stop_below=0.0), "stop_below=0.0 must be a number above 0"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(case: str) -> None:
    make, what = REFUSED[case]
    with pytest.raises(PoolBenchError, match=what):
        make()
