"""What a run prints at its end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from poolbench.jobs.run import table
from poolbench.records.record import Metrics, Record, Time

Maker = Callable[..., Record]


def made(record: Maker, **changes: Any) -> Record:
    fields = {
        "metrics": Metrics(train={"loss": 0.5, "accuracy": 0.75}, val={}, test={"loss": 0.25, "accuracy": 0.875}),
        "diagnostics": {"metric": {"name": "accuracy", "mode": "max"}},
        "curve": [{}] * 9,
        "selected_epoch": 6,
        "time": Time(epoch=0.125, epoch_cpu=None, total=2.0),
        **changes,
    }
    return replace(record(0, 0.875), **fields)


def test_the_table_has_the_metric_first_and_the_cost_last(record: Maker) -> None:
    assert table(made(record)).splitlines() == [
        "mincut-MUTAG-s0: test accuracy 0.8750",
        "          accuracy      loss",
        "train       0.7500    0.5000",
        "test        0.8750    0.2500",
        "selected epoch 7 of 9, 125 ms an epoch, 2.0 s in all, 1,234 parameters",
    ]


def test_what_is_not_trained_by_epochs_has_none_in_its_table(record: Maker) -> None:
    time = Time(epoch=None, epoch_cpu=None, total=2.0)
    kernel = made(record, curve=[], selected_epoch=None, time=time, parameters=0)
    assert table(kernel).splitlines()[-1] == "2.0 s in all, 0 parameters"
