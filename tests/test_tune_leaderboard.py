"""scripts/tune_leaderboard.py: which searches there are, what is written of them, and what of one that failed."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

import tune_leaderboard
from poolbench.errors import RunError
from poolbench.jobs import tuning

QUICK = ["dataset.num_graphs=40", "~dataset.deduplicate", "trainer.max_epochs=1", "model.hidden=8",
         "callbacks.progress=none", "search.trials=2"]  # fmt: skip


def test_operators_with_losses_have_these_weighed_and_all_have_as_many_trials() -> None:
    todo = tune_leaderboard.tunings(["MUTAG"], ["none", "topk", "kmis", "mincut"], [])
    assert {each.name: list(each.search.space) for each in todo} == {
        "MUTAG/none": ["optimizer.lr"],
        "MUTAG/topk": ["optimizer.lr", "pool.ratio"],
        "MUTAG/kmis": ["optimizer.lr", "pool.order_k"],
        "MUTAG/mincut": ["optimizer.lr", "pool.ratio", "loss_weights"],
    }
    assert {each.search.budget for each in todo} == {6}


def test_what_was_found_is_written_once_and_is_there_for_the_next_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--datasets", "planted", "--pools", "topk", "--to", str(tmp_path / "tuned"), *QUICK,
             f"paths.results={tmp_path / 'results'}"]  # fmt: skip
    assert tune_leaderboard.main(["--plan", *words]) == 0
    assert "in all: 2 of 2 runs, 1 searches" in capsys.readouterr().out and not (tmp_path / "results").exists()
    assert tune_leaderboard.main(words) == 0
    path = tmp_path / "tuned/planted/topk.yaml"
    text = path.read_text()
    assert text.startswith("# @package _global_\n# Found by poolbench tune: search ") and "2 trials (2 done)" in text
    found = yaml.safe_load(text)
    assert "no trial saw the test split" in text and set(found) == {"optimizer", "pool", "tuned"}
    told = found.pop("tuned")
    assert told == {"sampler": "quasi", "trials": 2, "chosen": found}
    runs = sorted((tmp_path / "results/runs").iterdir())
    assert len(runs) == 2
    assert tune_leaderboard.main(words) == 0 and path.read_text() == text
    assert sorted((tmp_path / "results/runs").iterdir()) == runs
    capsys.readouterr()
    assert tune_leaderboard.main(["--plan", *words]) == 0 and "in all: 0 of 2 runs" in capsys.readouterr().out


def test_a_search_that_found_nothing_leaves_no_file_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    begun: list[str] = []

    def fails(config: tuning.Config, workers: int) -> None:
        begun.append(config.names.pool)
        raise RunError("search abc: all 6 trials failed; the first: a loss is nan")

    monkeypatch.setattr(tuning, "tune", fails)
    assert tune_leaderboard.main(["--datasets", "MUTAG", "--pools", "none,topk", "--to", str(tmp_path)]) == 1
    assert begun == ["none", "topk"] and not list(tmp_path.iterdir())
    assert "found nothing: MUTAG/none, MUTAG/topk" in capsys.readouterr().err


def test_bad_words_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--pools", "topkk"], ["--datasets", "MUTAG", "--pools", "topk", "--jobs", "7"], ["optimizer.l=1"]):
        assert tune_leaderboard.main(words) == 2
    assert len(capsys.readouterr().err.splitlines()) == 3
