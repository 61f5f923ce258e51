"""The sweep of W&B that a search space makes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from poolbench import cli
from poolbench.records.attempts import iter_records


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    capsys.readouterr()
    assert cli.main(["wandb-sweep", *words]) == 0
    found: dict[str, Any] = yaml.safe_load(capsys.readouterr().out)
    return found


def test_a_search_space_is_a_sweep(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = printed(capsys, "search=dense", "pool=mincut", "dataset=planted", "trials=7", "search.prune=true")
    assert made["method"] == "bayes" and made["run_cap"] == 7 and made["name"] == "mincut-planted"
    assert made["metric"] == {"name": "val/loss", "goal": "minimize"}
    assert made["parameters"]["model.hidden"] == {"values": [32, 64, 128]}
    assert made["parameters"]["optimizer.lr"] == {"distribution": "log_uniform_values", "min": 0.0001, "max": 0.01}
    assert "loss_weights" in made["parameters"] and made["early_terminate"]["type"] == "hyperband"
    command = made["command"]
    assert command[:3] == ["${env}", "poolbench", "train"] and command[-2:] == [
        "evaluate_test=false",
        "${args_no_hyphens}",
    ]
    assert command[3:-2] == ["pool=mincut", "dataset=planted"]


def test_a_search_by_the_metric_of_points_that_wandb_lacks(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["wandb-sweep", "search=leaderboard", "pool=topk", "dataset=planted"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("# W&B has no quasi-random points: these are drawn at random\n")
    made = yaml.safe_load(out)
    assert made["method"] == "random" and made["metric"] == {"name": "val/accuracy", "goal": "maximize"}


def test_what_the_sweep_starts_is_a_command_that_works(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quick = [
        "dataset=planted",
        "dataset.num_graphs=40",
        "trainer.max_epochs=1",
        "logger=none",
        "callbacks.progress=none",
    ]
    made = printed(capsys, "pool=topk", *quick)
    chosen = [f"{key}={(said.get('values') or [said.get('min')])[0]}" for key, said in made["parameters"].items()]
    assert cli.main([*made["command"][2:-1], *chosen]) == 0
    (record,) = (r for _, r in iter_records(results))
    assert record.metrics.test == {} and "loss" in record.metrics.val
    assert record.config["optimizer"]["lr"] == 0.0001 and record.config["pool"]["ratio"] == 0.25


def test_operators_without_a_ratio_and_all_kinds_of_ranges(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["pool=none", "dataset=planted", "search.sampler=random", "+search.space.model.levels={low: 1, high: 3}",
             "+search.space.model.depth={low: 1, high: 8, log: true}",
             "+search.space.trainer.max_epochs={low: 8, high: 32, step: 8}",
             "+search.space.optimizer.weight_decay={low: 0.0, high: 0.1}"]  # fmt: skip
    made = printed(capsys, *words)
    assert made["method"] == "random" and "pool.ratio" not in made["parameters"]
    assert made["parameters"]["model.depth"] == {"distribution": "q_log_uniform_values", "min": 1, "max": 8, "q": 1}
    assert made["parameters"]["trainer.max_epochs"] == {"distribution": "q_uniform", "min": 8, "max": 32, "q": 8}
    assert made["parameters"]["model.levels"] == {"distribution": "int_uniform", "min": 1, "max": 3}
    assert made["parameters"]["optimizer.weight_decay"] == {"distribution": "uniform", "min": 0.0, "max": 0.1}
    assert printed(capsys, "search=grid-small", "dataset=planted")["method"] == "grid"


def test_what_is_monitored_is_what_the_sweep_minimises(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = printed(capsys, "dataset=planted", "callbacks.monitor=val/accuracy", "callbacks.mode=max")
    assert said["metric"] == {"name": "val/accuracy", "goal": "maximize"}
    official = printed(capsys, "dataset=planted", "protocol=cv10", "fold=0")
    assert official["metric"] == {"name": "val/loss", "goal": "minimize"}
    assert cli.main(["wandb-sweep", "dataset=planted", "protocol=cv10"]) == 2
