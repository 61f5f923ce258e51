"""The committed records are runs of today's code, under today's names."""

from __future__ import annotations

import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from omegaconf import OmegaConf

from poolbench import conf_dir
from poolbench.jobs.search import reached
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


def test_tuned_values_are_those_of_the_best_of_their_trials() -> None:
    trials = [record for record in committed() if not record.config["evaluate_test"]]
    paths = sorted((conf_dir() / "tuned").glob("*/*.yaml"))
    assert paths
    for path in paths:
        found = re.search("run ([0-9a-f]{16}): val/accuracy", path.read_text())
        tuned = OmegaConf.to_container(OmegaConf.load(path).tuned)
        assert found and isinstance(tuned, dict), path
        (best,) = [record for record in trials if record.id == found[1]]
        names = best.config["names"]
        assert (names["dataset"], names["pool"]) == (path.parent.name, path.stem)
        assert OmegaConf.merge(best.config, tuned["chosen"]) == best.config, path  # it was run with what was chosen
        alike = [record for record in trials if (record.config["names"], record.splits) == (names, best.splits)]
        scores = {record.id: reached(record, "metric") or 0.0 for record in alike}
        assert len(scores) == tuned["trials"] and scores[best.id] == max(scores.values()), path
