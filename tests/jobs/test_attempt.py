"""What an attempt tells its loggers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from configs import small
from poolbench.jobs.attempt import tags
from poolbench.jobs.run import run
from poolbench.learn.loggers import CSVLogger, Row, RunInfo, RunLogger, read_curve


class Told(RunLogger):
    """A logger that remembers."""

    def __init__(self, run: RunInfo) -> None:
        self.run, self.rows, self.pictures = run, {}, []  # type: ignore[var-annotated]

    def log(self, epoch: int, metrics: Mapping[str, float]) -> None:
        self.rows[epoch] = dict(metrics)

    def picture(self, epoch: int, path: Path) -> None:
        self.pictures.append((epoch, path.name))

    def summary(self, values: Mapping[str, Any]) -> None:
        self.values = dict(values)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Told]:
    """What the loggers of runs were told."""
    made: list[Told] = []

    def open(self: CSVLogger, run: RunInfo, history: list[Row]) -> Told:
        made.append(Told(run))
        return made[-1]

    monkeypatch.setattr(CSVLogger, "open", open)
    return made


CSV = "poolbench.learn.loggers.CSVLogger"


def test_the_summary_is_the_selected_epochs_and_the_last_is_beside_it(tmp_path: Path, told: list[Told]) -> None:
    config = small(trainer__max_epochs=6, paths__results=str(tmp_path), logger={"_target_": CSV},
                   callbacks__pictures_every=3, optimizer__lr=0.5)  # fmt: skip
    made = run(config)
    (logger,) = told
    assert list(logger.rows) == [1, 2, 3, 4, 5, 6], "counted from 1"
    assert logger.pictures == [(3, "epoch-0003.png"), (6, "epoch-0006.png")]
    (path,) = tmp_path.glob("runs/*/1/metrics.csv")
    assert {row.pop("epoch"): row for row in read_curve(path)} == logger.rows

    found, selected = logger.values, made.selected_epoch + 1
    assert selected < 6, "else the two epochs are one"
    assert found["epoch"] == found["selected_epoch"] == selected and found["last/epoch"] == 6
    best, last = logger.rows[selected], logger.rows[6]
    assert found["val/loss"] == best["val/loss"] == made.metrics.val["loss"] != last["val/loss"]
    assert {name: found[f"last/{name}"] for name in last} == last and found["lr"] == best["lr"]
    assert set(best) <= set(found)
    for part, metrics in made.metrics.parts().items():
        assert {name: found[f"{part}/{name}"] for name in metrics} == metrics


def test_what_a_logger_is_told_of_the_run_names_it_and_no_folder(tmp_path: Path, told: list[Told]) -> None:
    config = small(trainer__max_epochs=1, paths__results=str(tmp_path), tags=["mine", "mincut"],
                   logger={"_target_": CSV}, group=str(tmp_path / "sweep"))  # fmt: skip
    run(config)
    (logger,) = told
    assert logger.run.tags == ("mincut", "planted", "holdout", "mine")
    assert "paths" not in logger.run.config and logger.run.config["pool"]["_target_"].endswith("MinCutPool")
    assert logger.run.config["group"] == ".../sweep"
    assert str(tmp_path) not in str(logger.run.config)


def test_tags_are_as_long_as_wandb_takes_them() -> None:
    long = small(names__dataset="x" * 80, dataset__name=None)
    assert tags(long)[1] == "x" * 64
