"""Scaled features: by the training part alone, numbers alone, and nothing else of a run changes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from poolbench.data.dataset import GraphDataset
from poolbench.data.features import Features, NodeFeatures
from poolbench.data.generators.plantednodes import PlantedNodes
from poolbench.data.perturb import DropEdges, MaskFeatures, Perturbation
from poolbench.data.prepared import Loaded, Prepared
from poolbench.data.protocols import CrossValidation, Holdout, Nodes, Transductive
from poolbench.data.raw import RawGraphs
from poolbench.data.scaling import Scale, scaled
from poolbench.errors import PoolBenchError

GRAPHS, NODES = 40, 5
NAMES = ["label0=0", "label0=1", "attribute0", "attribute1", "clustering", "constant"]


class Stars(GraphDataset):
    """Graphs of five nodes with a label and two attributes, of which the second is the same for all."""

    name = "stars"
    features = NodeFeatures(["labels", "attributes", "clustering", "constant"])

    def __init__(self, moved: Tensor | None = None) -> None:
        generator = torch.Generator().manual_seed(0)
        start = NODES * torch.arange(GRAPHS).repeat_interleave(NODES - 1)
        leaf = start + torch.arange(1, NODES).repeat(GRAPHS)
        chord = NODES * torch.arange(30)
        row, col = torch.cat([start, leaf, chord + 1, chord + 2]), torch.cat([leaf, start, chord + 2, chord + 1])
        order = (row * GRAPHS * NODES + col).argsort()
        attributes = torch.rand(GRAPHS * NODES, 2, generator=generator) * 100 - 20
        attributes[:, 1] = 7.3
        if moved is not None:
            attributes[moved.repeat_interleave(NODES)] += 1000.0
        self.raw = RawGraphs("stars", torch.full((GRAPHS,), NODES), torch.stack([row, col])[:, order],
                             node_labels=(torch.arange(GRAPHS * NODES) % 2)[:, None], node_attributes=attributes,
                             y=torch.arange(GRAPHS) % 2)  # fmt: skip

    def load(self) -> RawGraphs:
        return self.raw


def made(scale: Scale | None, moved: Tensor | None = None, perturbation: Perturbation | None = None) -> Prepared:
    return Prepared.of(Stars(moved), Holdout(0), None, perturbation, scale)


def rows(prepared: Prepared, *parts: str) -> Tensor:
    """[N] bool, the nodes of the graphs of some parts."""
    own = torch.zeros(GRAPHS, dtype=torch.bool)
    for part in parts:
        own[getattr(prepared.split, part)] = True
    return own.repeat_interleave(NODES)


@pytest.mark.parametrize("scale", ["standard", "range"])
def test_numbers_are_scaled_and_all_else_stays(scale: Scale) -> None:
    plain, found = made(None), made(scale)
    assert found.x.names == plain.x.names == NAMES and found.x.values.dtype == torch.float32
    assert torch.equal(found.x.values[:, [0, 1, 5]], plain.x.values[:, [0, 1, 5]])
    assert found.split.hash == plain.split.hash and found.fingerprint == plain.fingerprint
    trained = found.x.values[rows(found, "train")].double()
    for column in (2, 4):
        if scale == "standard":
            assert abs(float(trained[:, column].mean())) < 1e-6
            assert abs(float(trained[:, column].std(unbiased=False)) - 1) < 1e-6
        else:
            assert (float(trained[:, column].min()), float(trained[:, column].max())) == (0, 1)
    assert not trained[:, 3].any(), "a column of one value has no spread to be divided by"


@pytest.mark.parametrize("scale", ["standard", "range"])
def test_what_is_not_trained_on_changes_no_statistics(scale: Scale) -> None:
    split = made(None).split
    moved = torch.zeros(GRAPHS, dtype=torch.bool)
    moved[torch.cat([split.val, split.test])] = True
    before, after = made(scale), made(scale, moved)
    same = rows(before, "train")
    assert torch.equal(before.x.values[same], after.x.values[same])
    assert (after.x.values[~same][:, [2, 3]] != before.x.values[~same][:, [2, 3]]).all()
    moved = torch.zeros(GRAPHS, dtype=torch.bool)
    moved[split.train[:1]] = True
    assert not torch.equal(before.x.values[~same], made(scale, moved).x.values[~same]), "what is trained on does"


def test_each_fold_has_its_own_statistics_and_shares_the_rest() -> None:
    loaded = Loaded.of(Stars(), "graphs")
    before = loaded.x.values.clone()
    found = [loaded.split(CrossValidation(0), fold, None, "standard") for fold in (0, 1)]
    assert torch.equal(loaded.x.values, before)
    assert not torch.equal(found[0].x.values, found[1].x.values)
    assert loaded.split(CrossValidation(0), 0).x is loaded.x


def test_where_nodes_are_split_the_training_nodes_say_it() -> None:
    dataset = PlantedNodes(num_nodes=200, degree=6.0)
    found = Prepared.of(dataset, Nodes(), None, None, "standard")
    trained = found.x.values[found.split.train].double()
    assert 0 < found.split.train.numel() < 200 and trained.mean(0).abs().max() < 1e-6
    assert (trained.std(0, unbiased=False) - 1).abs().max() < 1e-6
    assert found.x.values.double().mean(0).abs().max() > 1e-3, "those of all nodes are others"
    whole = Prepared.of(dataset, Transductive(), None, None, "standard")
    assert whole.x.values.double().mean(0).abs().max() < 1e-6


def test_graphs_are_perturbed_before_and_features_after() -> None:
    plain = made("standard")
    tested = made("standard", perturbation=DropEdges(1.0, at="test"))
    trained = rows(plain, "train")
    assert torch.equal(tested.x.values[trained], plain.x.values[trained])
    assert not torch.equal(tested.x.values[:, 4], plain.x.values[:, 4]), "clustering is that of the perturbed graphs"
    masked = made("standard", perturbation=MaskFeatures(1.0, at="test")).x.values
    hidden = rows(plain, "test")
    assert not masked[hidden].any() and torch.equal(masked[~hidden], plain.x.values[~hidden])


def test_many_columns_are_scaled_as_one_is() -> None:
    values = torch.randn(30, 150, generator=torch.Generator().manual_seed(0)) * 3 + 5
    x = Features(values, [f"attribute{k}" for k in range(150)])
    trained = torch.arange(30) < 20
    found = scaled(x, trained, "standard", "many")[0].values
    for k in (0, 63, 64, 149):
        one = scaled(Features(values[:, k : k + 1], ["attribute0"]), trained, "standard", "many")[0].values
        torch.testing.assert_close(found[:, k : k + 1], one)
    own = values.double()
    expected = (own - own[:20].mean(0)) / own[:20].std(0, unbiased=False)
    torch.testing.assert_close(found, expected.float())


def test_what_cannot_be_scaled_is_a_line() -> None:
    x = made(None).x
    some = torch.ones(GRAPHS * NODES, dtype=torch.bool)
    categories = Features(x.values[:, :1].long(), ["colour"], (2,))
    for other in (categories, Features(x.values[:, [0, 5]], ["label0=0", "constant"])):
        with pytest.raises(PoolBenchError, match="feature_scale=range: stars has no node feature that is a number"):
            scaled(other, some, "range", "stars")
    with pytest.raises(PoolBenchError, match="of stars no node is trained on"):
        scaled(x, ~some, "standard", "stars")
    narrow = Features(torch.tensor([[5.0, 1e-38], [6.0, 2e-38], [7.0, 1e30]]), ["attribute0", "attribute1"])
    for how in ("standard", "range"):
        with pytest.raises(PoolBenchError, match=f"feature_scale={how}: attribute1 of stars is not finite in 32 bits"):
            scaled(narrow, torch.tensor([True, True, False]), how, "stars")  # type: ignore[arg-type]
    one = Stars()
    one.raw = replace(one.raw, node_attributes=None)
    one.features = NodeFeatures("labels")
    with pytest.raises(PoolBenchError, match=r"choose others by dataset\.features"):
        Prepared.of(one, Holdout(0), None, None, "standard")
