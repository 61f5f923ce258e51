"""W&B beside the logger: the upload of offline runs, a report, and artifacts."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from poolbench import cli
from poolbench.errors import PoolBenchError
from poolbench.jobs.weights import Weights
from poolbench.records.attempts import iter_records
from poolbench.report.wandb_tools import offline_runs, sync

KEY = "0123456789" * 4


# --------------------------------------------------------------------------------------------------------- offline runs


@pytest.fixture
def offline(tmp_path: Path) -> Path:
    """A results folder with three offline runs, one of them uploaded."""
    for number in (1, 2, 3):
        run = tmp_path / "runs" / f"r{number}" / "1" / "wandb" / f"offline-run-2026010{number}_000000-r{number}"
        run.mkdir(parents=True)
        (run / f"run-r{number}.wandb").write_text("")
    next(tmp_path.rglob("run-r2.wandb")).with_suffix(".wandb.synced").write_text("")
    return tmp_path


def fake(tmp_path: Path, body: str) -> list[str]:
    """A stand-in for `wandb sync`."""
    path = tmp_path / "wandb.py"
    path.write_text(f"import sys, pathlib\nfolder = pathlib.Path(sys.argv[1])\n{body}\n")
    return [sys.executable, str(path)]


def test_each_offline_run_is_uploaded_once(offline: Path, tmp_path: Path) -> None:
    assert [run.name[-2:] for run in offline_runs(offline)] == ["r1", "r3"]
    command = fake(tmp_path, "next(folder.glob('*.wandb')).with_suffix('.wandb.synced').touch()\n"
                             "print('wandb: Syncing: ... \\nwandb: done: https://wandb.ai/x')")  # fmt: skip
    lines = list(sync(offline, command))
    assert [worked for worked, _ in lines] == [True, True]
    assert lines[0][1].endswith("offline-run-20260101_000000-r1: done: https://wandb.ai/x")
    with pytest.raises(PoolBenchError, match="no offline run that was not uploaded"):
        list(sync(offline, command))


def test_no_key_is_ever_shown(offline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "short-secret")
    command = fake(tmp_path, f"print('wandb: ERROR bad key {KEY} and local-{KEY} and short-secret', file=sys.stderr)\n"
                             "sys.exit(1)")  # fmt: skip
    lines = list(sync(offline, command))
    assert [worked for worked, _ in lines] == [False, False]
    for _, line in lines:
        assert "failed: ERROR bad key *** and *** and ***" in line and KEY not in line and "\n" not in line


def test_what_fails_again_and_again_is_given_up(offline: Path, tmp_path: Path) -> None:
    for number in (4, 5, 6):
        (offline / "runs" / f"offline-run-2026010{number}_000000-r{number}").mkdir()
    lines = list(sync(offline, fake(tmp_path, "sys.exit(1)")))
    assert len(lines) == 4 and lines[-1] == (False, "3 in a row failed; 2 more are left as they are")


def test_sync_as_a_command(offline: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for run in offline_runs(offline):
        next(run.glob("*.wandb")).with_suffix(".wandb.synced").touch()
    assert cli.main(["sync", str(offline)]) == 2
    assert cli.main(["sync", str(offline / "nowhere")]) == 2
    assert "is no folder" in capsys.readouterr().err


def test_a_report_is_a_run_with_tables(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["dataset=planted", "dataset.num_graphs=40", "trainer.max_epochs=1", "logger=none"]
    for pool in ("none", "topk"):
        assert cli.train([*words, f"pool={pool}"]) == 0
    assert cli.main(["report", str(results), "--wandb"]) == 0
    (run,) = offline_runs(results)
    assert str(run) in capsys.readouterr().err
    (found,) = run.rglob("*results*.table.json")
    table = json.loads(found.read_text())
    assert {row[table["columns"].index("pool")] for row in table["data"]} == {"none", "topk"}


# ------------------------------------------------------------------------------------------------------------ artifacts


def test_a_run_keeps_its_best_weights_where_artifacts_are_wanted(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    words = ["pool=topk", "dataset=planted", "dataset.num_graphs=40", "trainer.max_epochs=2", "callbacks.progress=none"]
    assert cli.train([*words, "logger=wandb", "logger.artifacts=true", "callbacks.pictures_every=1"]) == 0
    (folder,) = results.glob("runs/*/1")
    weights = Weights.read(folder / "weights.pt").values
    (record,) = (r for _, r in iter_records(results))
    assert sum(w.numel() for name, w in weights.items() if "running" not in name and "batches" not in name) == (
        record.parameters
    )
    assert sorted(path.name for path in (folder / "pictures").iterdir()) == ["epoch-0001.png", "epoch-0002.png"]
    assert offline_runs(results)
    assert len(record.diagnostics["pooling"]["levels"]) == 2
