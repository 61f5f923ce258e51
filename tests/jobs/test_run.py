"""What a run prints at its end."""

from __future__ import annotations

from typing import Any

from poolbench.jobs.run import table


def made(**changes: Any) -> dict[str, Any]:
    return {
        "metrics": {"train": {"loss": 0.5, "accuracy": 0.75}, "test": {"loss": 0.25, "accuracy": 0.875}},
        "diagnostics": {"metric": {"name": "accuracy", "mode": "max"}},
        "curve": [{}] * 9,
        "selected_epoch": 6,
        "time": {"epoch": 0.125, "total": 2.0},
        "parameters": 1234,
        **changes,
    }


def test_the_table_has_the_metric_first_and_the_cost_last() -> None:
    assert table("mincut-MUTAG-s0", made()).splitlines() == [
        "mincut-MUTAG-s0: test accuracy 0.8750",
        "          accuracy      loss",
        "train       0.7500    0.5000",
        "test        0.8750    0.2500",
        "selected epoch 7 of 9, 125 ms an epoch, 2.0 s in all, 1,234 parameters",
    ]


def test_what_is_not_trained_by_epochs_has_none_in_its_table() -> None:
    kernel = made(curve=[], selected_epoch=None, time={"epoch": None, "total": 2.0}, parameters=0)
    assert table("mincut-MUTAG-s0", kernel).splitlines()[-1] == "2.0 s in all, 0 parameters"
