"""Protocols of shift: what is trained on, what is tested on, and graphs like the training ones tested on beside."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from poolbench.data.dataset import GraphDataset
from poolbench.data.features import NodeFeatures
from poolbench.data.generators.goodmotif import GoodMotif
from poolbench.data.prepared import Prepared
from poolbench.data.protocols import Official
from poolbench.data.raw import RawGraphs
from poolbench.data.shift import Shift
from poolbench.data.splits import Split
from poolbench.errors import PoolBenchError


class Paths(GraphDataset):
    """Paths of 2, 3, ... nodes; two classes in turn; the environment is the size by tens."""

    name, generated = "paths", True
    features = NodeFeatures("constant")

    def __init__(self, num_graphs: int = 100, says: bool = True) -> None:
        self.num_graphs, self.says = num_graphs, says

    def load(self) -> RawGraphs:
        n = torch.arange(self.num_graphs) + 2
        start = (n.cumsum(0) - n).repeat_interleave(n - 1)
        place = torch.cat([torch.arange(k - 1) for k in n.tolist()])
        one = torch.stack([start + place, start + place + 1])
        both = torch.cat([one, one.flip(0)], 1)
        order = (both[0] * int(n.sum()) + both[1]).argsort()
        return RawGraphs("paths", n, both[:, order], y=torch.arange(self.num_graphs) % 2)

    def environment(self, raw: RawGraphs) -> torch.Tensor | None:
        return raw.num_nodes // 10 if self.says else None


def test_large_graphs_are_tested_on_and_small_ones_trained_on() -> None:
    made = Prepared.of(Paths(), Shift(), None)
    split, sizes = made.split, made.raw.num_nodes
    assert split.sizes == {"train": 41, "val": 5, "test": 9, "unused": 40, "id_test": 5}
    inside = torch.cat([split.train, split.val, split.id_test])
    assert int(sizes[inside].max()) == 52 and int(sizes[split.test].min()) == 93
    assert sorted(sizes[split.unused].tolist()) == list(range(53, 93))
    for part in (split.val, split.id_test):
        assert made.target.y[part].sum() in (2, 3), "stratified"
    again, other = (Prepared.of(Paths(), Shift(seed), None).split for seed in (0, 1))
    assert again.hash == split.hash != other.hash
    assert torch.equal(other.test, split.test) and not torch.equal(other.id_test, split.id_test)


def test_by_density_and_by_environment() -> None:
    """A path of n nodes has the density 2 / n: the large ones are trained on."""
    made = Prepared.of(Paths(), Shift(by="density", above=0.75), None)
    assert int(made.raw.num_nodes[made.split.train].min()) > int(made.raw.num_nodes[made.split.test].max())
    made = Prepared.of(Paths(), Shift(by="environment"), None)
    assert int((made.raw.num_nodes[made.split.train] // 10).max()) == 5, "of an environment all graphs are in one part"
    assert int((made.raw.num_nodes[made.split.test] // 10).min()) == 10
    with pytest.raises(PoolBenchError, match="dataset paths does not say where its graphs come from"):
        Prepared.of(Paths(says=False), Shift(by="environment"), None)


def test_a_split_is_read_back(tmp_path: Any) -> None:
    split = Prepared.of(Paths(), Shift(), None).split
    split.save(tmp_path / "split.json")
    read = Split.load(tmp_path / "split.json", split.fingerprint, 100)
    assert read.hash == split.hash and torch.equal(read.id_test, split.id_test)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"by": "weight"}, "by='weight' is none of size, density, environment"),
        ({"upto": 0}, "upto=0 must be a number above 0 and below 1"),
        ({"upto": 0.95}, "upto=0.95 is more than above=0.9"),
        ({"held": 0.5}, "held=0.5 must be a number above 0 and below 0.5"),
        ({"above": True}, "above=True must be"),
        ({"select": "first"}, "select='first' is none of loss, metric, last"),
    ],
)
def test_bad_arguments_are_a_line(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(PoolBenchError, match=said):
        Shift(**arguments)


@pytest.mark.parametrize("number", [2, 3])
def test_a_set_too_small_is_a_line(number: int) -> None:
    with pytest.raises(PoolBenchError, match=f"protocol=shift by=size: of {number} graphs .* take other quantiles"):
        Prepared.of(Paths(number), Shift(), None)


def test_the_shift_of_a_dataset_is_tested_beside_graphs_like_those_of_training() -> None:
    made = Prepared.of(GoodMotif(num_graphs=100), Official(), None)
    assert made.split.sizes == {"train": 70, "val": 10, "test": 10, "unused": 0, "id_test": 10}
    assert made.split.id_test.tolist() == list(range(70, 80)) and made.known == "salient"
