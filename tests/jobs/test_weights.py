"""The selected epoch's weights, kept beside the record on request."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from configs import small, values
from poolbench.config import read
from poolbench.errors import PoolBenchError, RunFailed
from poolbench.jobs import attempt
from poolbench.jobs.run import run
from poolbench.jobs.weights import Weights
from poolbench.records.attempts import iter_records
from poolbench.records.changes import upgrade
from poolbench.records.identity import run_identity
from poolbench.records.record import Record

CV = {"_target_": "poolbench.data.protocols.CrossValidation", "folds": 3}


def done(folder: Path, **changes: Any) -> Record:
    return run(small(paths__results=str(folder), **{"callbacks__keep_weights": True, **changes}))


def measured(record: Record) -> list[Any]:
    rows = [{name: value for name, value in row.items() if not name.startswith("time")} for row in record.curve]
    return [record.id, record.metrics, rows, record.selected_epoch, record.losses]


def test_a_run_that_keeps_its_weights_is_the_run_that_does_not(tmp_path: Path) -> None:
    with_, without = done(tmp_path / "a"), done(tmp_path / "b", callbacks__keep_weights=False)
    assert measured(with_) == measured(without)
    assert not list((tmp_path / "b").glob("runs/*/*/*.pt"))
    (path,) = (tmp_path / "a").glob("runs/*/1/weights.pt")
    held = Weights.read(path)
    assert (held.about.run, held.about.attempt, held.about.code) == (with_.id, 1, with_.provenance.code)
    assert sum(w.numel() for w in held.values.values()) == with_.parameters
    assert held.about.x.names == with_.provenance.data["features"] and held.facts.sizes == held.sizes.tolist()


def test_the_key_is_no_part_of_a_run_and_records_from_before_lack_it() -> None:
    config = values()
    before = {**config, "callbacks": {k: v for k, v in config["callbacks"].items() if k != "keep_weights"}}
    asked = values(callbacks__keep_weights=True)
    assert len({run_identity(each, dataset="d", split="s") for each in (before, config, asked)}) == 1
    assert read(upgrade(before)).callbacks.keep_weights is False


def test_they_are_those_of_the_selected_epoch(tmp_path: Path) -> None:
    """Which is not the last one: fewer epochs select the same and leave the same weights."""
    long = done(tmp_path / "a", optimizer__lr=0.5, trainer__max_epochs=6)
    assert long.selected_epoch is not None and long.selected_epoch < 5
    done(tmp_path / "b", optimizer__lr=0.5, trainer__max_epochs=long.selected_epoch + 1)
    one, other = (Weights.read(*(tmp_path / name).glob("runs/*/1/weights.pt")).values for name in "ab")
    assert one.keys() == other.keys() and all(torch.equal(w, other[name]) for name, w in one.items())


def test_each_fold_has_its_own(tmp_path: Path) -> None:
    done(tmp_path, protocol=CV, names__protocol="cv10", trainer__max_epochs=1)
    paths = sorted(tmp_path.glob("runs/*/1/weights.pt"))
    assert {path.parent.parent.name for path in paths} == {record.id for _, record in iter_records(tmp_path)}
    assert len(paths) == 3 and all(Weights.read(path).about.run == path.parent.parent.name for path in paths)


def test_a_kill_between_weights_and_record_leaves_an_attempt_to_go_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(attempt, "write_record", killed)
        with pytest.raises(KeyboardInterrupt):
            done(tmp_path)
    (path,) = tmp_path.glob("runs/*/1/weights.pt")
    before = Weights.read(path).values
    assert not list(tmp_path.glob("runs/*/*/record.json"))
    path.write_bytes(b"cut off")
    assert done(tmp_path).attempt == 1
    assert all(torch.equal(w, before[name]) for name, w in Weights.read(path).values.items())


def test_weights_that_cannot_be_written_are_said_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("poolbench.jobs.weights.put", full)
    with pytest.raises(RunFailed, match=r"cannot write .*weights\.pt: no space left on device; free some space"):
        done(tmp_path)
    assert not list(tmp_path.glob("runs/*/1/*.pt")) and [r.status for _, r in iter_records(tmp_path)] == ["failed"]


def test_a_run_that_is_done_says_that_it_kept_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done(tmp_path, callbacks__keep_weights=False)
    capsys.readouterr()
    assert done(tmp_path).attempt == 1
    assert "(its weights were not kept: force=true makes another attempt that keeps them)" in capsys.readouterr().out
    assert done(tmp_path, force=True).attempt == 2
    capsys.readouterr()
    done(tmp_path)
    assert "(force=true makes another attempt)" in capsys.readouterr().out


def test_a_kernel_has_no_weights(tmp_path: Path) -> None:
    kernel = {"_target_": "poolbench.learn.kernel.WeisfeilerLehman", "iterations": [1], "C": [1.0]}
    with pytest.raises(PoolBenchError, match=r"^callbacks\.keep_weights=true: a graph kernel has no weights"):
        done(tmp_path, model=kernel, pool={"_target_": "poolbench.pool.nopool.NoPool"})
    assert not list(tmp_path.glob("runs/*/*/record.json"))


@pytest.mark.parametrize("content", [b"", b"no file of torch", b"PK\x03\x04cut"])
def test_a_file_that_is_no_weights_is_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "weights.pt"
    path.write_bytes(content)
    with pytest.raises(PoolBenchError, match=r"^[^\n]*weights\.pt holds no weights of this version[^\n]*$"):
        Weights.read(path)
    torch.save({"format": 1, "about": "{}", "sizes": torch.ones(2), "weights": {}}, path)
    with pytest.raises(PoolBenchError, match="holds no weights"):
        Weights.read(path)


@pytest.mark.parametrize("change", ["packed", "stretched", "tensor"])
def test_a_file_that_would_take_more_than_it_holds_is_not_taken(
    tmp_path: Path, change: str, recwarn: pytest.WarningsRecorder
) -> None:
    done(tmp_path)
    (path,) = tmp_path.glob("runs/*/1/weights.pt")
    held = torch.load(path, weights_only=True)
    if change == "stretched":
        torch.save({**held, "sizes": torch.ones(1, dtype=torch.int64).expand(10**10)}, path)
    elif change == "tensor":
        torch.save(torch.ones(3), path)
    else:
        with zipfile.ZipFile(path) as file:
            parts = {name: file.read(name) for name in file.namelist()}
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            for name, content in parts.items():
                file.writestr(name, content)
    recwarn.clear()
    with pytest.raises(PoolBenchError, match=r"weights\.pt holds no weights .*(packed|more than the file|no mapping)"):
        Weights.read(path)
    assert not recwarn.list
