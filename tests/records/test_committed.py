"""The committed records are runs of today's code, under today's names."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path

from poolbench.records.changes import upgrade
from poolbench.records.gathered import FULL, files, found_records
from poolbench.records.identity import run_identity
from poolbench.records.record import Record
from poolbench.records.version import config_targets

RESULTS = Path(__file__).parents[2] / "results"


@cache
def committed() -> list[Record]:
    return [*found_records(RESULTS), *found_records(RESULTS / "archive")]


def test_each_is_the_same_run_as_it_is_written_today() -> None:
    for record in committed():
        today = run_identity(upgrade(record.config), dataset=record.splits.dataset, split=record.splits.hash)
        assert today == record.setting


def test_each_run_is_there_once_by_each_version_of_the_code() -> None:
    runs = [(record.setting, record.code) for record in committed() if record.done]
    assert len(runs) == len(set(runs))


def test_each_class_is_where_its_configuration_says() -> None:
    targets = {target for record in committed() for target in config_targets(upgrade(record.config))}
    missing = [target for target in sorted(targets) if not find_spec(target.rpartition(".")[0])]
    assert targets and not missing


def test_files_are_small() -> None:
    for path in (*files(RESULTS), *files(RESULTS / "archive")):
        assert path.stat().st_size <= FULL, path
