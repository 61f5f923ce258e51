"""How long runs take, by records: of runs of a kind, on this machine before others."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from configs import small
from poolbench.config import Config, plain
from poolbench.records import provenance
from poolbench.records.clock import Clock, kinds
from poolbench.records.record import Record

Maker = Callable[..., Record]


def test_runs_of_a_kind_are_of_one_dataset_and_as_long() -> None:
    exact, dataset = kinds(small())
    assert kinds(small(seed=7, paths__results="elsewhere", callbacks__progress="lines")) == (exact, dataset)
    other = kinds(small(pool__ratio=0.25))
    assert other[0] != exact and other[1] == dataset
    for change in ({"dataset__num_graphs": 50}, {"trainer__max_epochs": 9}, {"callbacks__patience": 1}, {"fold": 1}):
        assert not {exact, dataset} & {*kinds(small(**change))}, change


def test_the_time_of_a_run_is_the_median_of_those_of_its_kind(record: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "cpu_model", lambda: "this CPU")
    monkeypatch.setattr(provenance, "usable_cores", lambda: 1)

    def made(config: Config, seconds: float, cpu: str, score: float | None = 0.5) -> Record:
        found = record(0, score)
        found.config, found.time.total = plain(config), seconds
        found.provenance.hardware = {"cpu": cpu, "cores_usable": 1, "gpus": []}
        return found

    def run(config: Config, *records: Record) -> list[float | None]:
        clock = Clock(records)
        return [taken.seconds if (taken := clock.run(kind, config)) else None for kind in kinds(config)]

    mine, other = small(), small(pool__ratio=0.25)
    here = [made(mine, 2.0, "this CPU"), made(mine, 4.0, "this CPU"), made(other, 9.0, "this CPU")]
    there = [made(mine, 50.0, "another CPU")] * 4
    assert run(mine, *here, *there) == [3.0, 4.0]
    assert run(mine, *there) == [50.0, 50.0]
    assert run(other, *there) == [None, 50.0]
    assert run(mine, made(mine, 1.0, "this CPU", None)) == [None, None], "one that failed may have ended early"
