from __future__ import annotations

import math

import pytest
import torch

from poolbench.data import features
from poolbench.data.features import NodeFeatures
from poolbench.data.raw import RawGraphs
from poolbench.errors import PoolBenchError


def star(**changed: object) -> RawGraphs:
    """A centre with three leaves."""
    content: dict = {
        "name": "star",
        "num_nodes": torch.tensor([4]),
        "edge_index": torch.tensor([[0, 0, 0, 1, 2, 3], [1, 2, 3, 0, 0, 0]]),
        "node_labels": torch.tensor([[2], [4], [4], [2]]),
        "node_attributes": torch.tensor([[0.5], [1.5], [2.5], [3.5]]),
        "y": torch.tensor([0]),
    }
    return RawGraphs(**{**content, **changed})


def test_auto_is_labels_and_attributes() -> None:
    x, names, _ = NodeFeatures()(star())
    assert names == ["label0=2", "label0=3", "label0=4", "attribute0"]
    assert x.tolist() == [[1, 0, 0, 0.5], [0, 0, 1, 1.5], [0, 0, 1, 2.5], [1, 0, 0, 3.5]]
    assert x.dtype == torch.float32


def test_attributes_can_be_switched_off() -> None:
    assert NodeFeatures(use_node_attr=False)(star())[1] == ["label0=2", "label0=3", "label0=4"]
    assert NodeFeatures(use_node_attr=False)(star(node_labels=None))[1] == [f"degree={d}" for d in range(4)]


def test_degree_where_there_is_nothing_else() -> None:
    x, names, _ = NodeFeatures()(star(node_labels=None, node_attributes=None))
    assert names == ["degree=0", "degree=1", "degree=2", "degree=3"]
    assert x.argmax(1).tolist() == [3, 1, 1, 1] and x.sum(1).tolist() == [1] * 4


def test_large_degrees_share_a_column() -> None:
    x, names, _ = NodeFeatures("degree", max_degree=2)(star())
    assert names == ["degree=0", "degree=1", "degree>=2"] and x.argmax(1).tolist() == [2, 1, 1, 1]


def test_features_come_in_the_order_asked_for() -> None:
    x, names, _ = NodeFeatures(["constant", "degree-scalar", "attributes"])(star())
    assert names == ["constant", "log(1+degree)", "attribute0"]
    torch.testing.assert_close(x[0], torch.tensor([1.0, math.log(4), 0.5]))


def test_all_label_columns_count_and_wide_ranges_are_closed_up() -> None:
    x, names, _ = NodeFeatures("labels")(star(node_labels=torch.tensor([[0, 10**6], [1, 5], [0, 5], [1, 10**6]])))
    assert names == ["label0=0", "label0=1", "label1=5", "label1=1000000"]
    assert x.tolist() == [[1, 0, 0, 1], [0, 1, 1, 0], [1, 0, 1, 0], [0, 1, 0, 1]]


def test_no_nodes() -> None:
    none = torch.zeros(0, 1, dtype=torch.int64)
    x, *_ = NodeFeatures()(
        star(
            num_nodes=torch.tensor([0]),
            edge_index=torch.zeros(2, 0, dtype=torch.int64),
            node_labels=none,
            node_attributes=none.float(),
        )
    )
    assert x.size(0) == 0


@pytest.mark.parametrize("name", ["labels", "attributes"])
def test_what_is_not_there_is_told(name: str) -> None:
    with pytest.raises(PoolBenchError, match=f"features={name}: dataset star has no node {name}; choose from degree"):
        NodeFeatures([name])(star(node_labels=None, node_attributes=None))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"features": "degre"}, "did you mean degree"),
        ({"features": ["labels", "auto"]}, "'auto' is unknown"),
        ({"features": []}, "at least one"),
        ({"features": ["labels", "labels"]}, "once"),
        ({"max_degree": 0}, "max_degree=0"),
        ({"use_node_attr": "yes"}, "use_node_attr='yes'"),
    ],
)
def test_wrong_arguments(arguments: dict, text: str) -> None:
    with pytest.raises(PoolBenchError, match=text):
        NodeFeatures(**arguments)


def test_a_matrix_beyond_reason_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "MAX_BYTES", 15)
    with pytest.raises(PoolBenchError, match="choose others"):
        NodeFeatures()(star())
