"""A run's identity changes with what can change its result, and with nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from poolbench.records.identity import EXECUTION_KEYS, canonical_json, run_identity, without

CONFIG: dict[str, Any] = {
    "pool": {"_target_": "poolbench.pool.mincut.MinCutPool", "ratio": 0.5},
    "model": {"_target_": "poolbench.nn.flat.Flat", "layers": [{"_target_": "torch.nn.ReLU"}]},
    "trainer": {"max_epochs": 3, "accelerator": "cpu", "devices": 1},
    "callbacks": {"patience": 5, "progress": "rich"},
    "paths": {"results": "results"},
    "logger": {"project": "p"},
    "seed": 0,
}


def id_of(config: dict[str, Any] | None = None, dataset: str = "d", split: str = "s") -> str:
    return run_identity(CONFIG if config is None else config, dataset=dataset, split=split)


def changed(dotted: str, value: Any) -> dict[str, Any]:
    *path, last = dotted.split(".")
    out = {k: dict(v) if isinstance(v, dict) else v for k, v in CONFIG.items()}
    at = out
    for part in path:
        at = at.setdefault(part, {})
    at[last] = value
    return out


@pytest.mark.parametrize("key", EXECUTION_KEYS)
def test_where_and_how_a_run_is_executed_does_not_count(key: str) -> None:
    assert id_of(changed(key, "something else")) == id_of()


@pytest.mark.parametrize(
    "key", ["pool.ratio", "seed", "trainer.max_epochs", "callbacks.patience", "trainer.precision", "trainer.threads",
            "evaluate_test", "new"]
)  # fmt: skip
def test_what_can_change_the_result_counts(key: str) -> None:
    assert id_of(changed(key, 77)) != id_of()


def test_data_split_and_processes_count() -> None:
    two = id_of(changed("trainer.devices", 2))
    assert len({id_of(), id_of(dataset="x"), id_of(split="x"), two}) == 4
    assert id_of(changed("trainer.devices", [0, 3])) == two, "which devices is where it runs, how many is what"
    assert id_of(changed("trainer.devices", "2")) == id_of(changed("trainer.devices", "0,3")) == two
    assert id_of(changed("trainer.devices", [3])) == id_of(changed("trainer.devices", "auto")) == id_of()


def test_order_of_keys_does_not_count() -> None:
    assert id_of(dict(reversed(CONFIG.items()))) == id_of()


@pytest.mark.parametrize(
    ("one", "other"),
    [(1, 1.0), (0.0, -0.0), (0.5, float(".5")), (1e-3, 0.001), (1e22, 10.0**22), ((1, 2), [1, 2]), (100, 1e2)],
)
def test_one_number_has_one_text(one: Any, other: Any) -> None:
    assert canonical_json(one) == canonical_json(other)


@pytest.mark.parametrize(
    ("one", "other"), [(1, True), (1, "1"), (0.1, 0.10000000000000002), (None, 0), ([], {}), (0, "")]
)
def test_different_values_have_different_texts(one: Any, other: Any) -> None:
    assert canonical_json(one) != canonical_json(other)


def test_the_identity_is_stable() -> None:
    """A change of this value makes every record anew: only with a change of the schema."""
    assert id_of() == "cf38b96e83e08e70"


def test_what_json_lacks_has_a_text() -> None:
    assert canonical_json({"a": float("nan"), "b": float("-inf"), 3: Path("x")}) == '{"3":"x","a":"nan","b":"-inf"}'


def test_without_leaves_the_original_alone() -> None:
    config = {"a": {"b": 1, "c": {"d": 2, "e": 3}}, "f": 4}
    assert without(config, ["a.c.d", "f", "no.such"]) == {"a": {"b": 1, "c": {"e": 3}}}
    assert config == {"a": {"b": 1, "c": {"d": 2, "e": 3}}, "f": 4}
