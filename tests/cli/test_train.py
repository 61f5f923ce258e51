"""Training as a person meets it: what it prints, what it refuses in one line, and its exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from poolbench import cli
from poolbench.cli import names
from poolbench.records.record import Record

ROOT = Path(__file__).parents[2]
QUICK = ["dataset=planted", "dataset.num_graphs=40", "trainer.max_epochs=3", "model.hidden=8", "logger=none",
         "callbacks.progress=none"]  # fmt: skip


def records(results: Path) -> dict[str, dict]:
    found = [json.loads(path.read_text()) for path in results.glob("runs/*/*/record.json")]
    return {f"{r['id']}/{r['attempt']}": r for r in found}


def outcome(record: dict) -> tuple:
    """What must not change when a run is done again: all but time, memory and the places of files."""
    curve = [{k: v for k, v in row.items() if not k.startswith("time")} for row in record["curve"]]
    kept = {key: record.get(key) for key in ("digests", "outcomes")}
    return record["id"], record["status"], record["metrics"], record["selected_epoch"], curve, record["losses"], kept


def test_a_run_ends_in_a_record_and_is_not_done_twice(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.train(["pool=mincut", *QUICK]) == 0
    said = capsys.readouterr()
    assert "test accuracy" in said.out and "record:" in said.out and said.err == ""
    (first,) = records(results).values()
    assert tuple(first) == Record.__struct_fields__
    assert first["status"] == "done" and set(first["metrics"]) == {"train", "val", "test"}
    assert len(first["curve"]) == 3 and first["parameters"] > 0 and first["time"]["epoch"] > 0
    (folder,) = results.glob("runs/*/1")
    assert (folder / "metrics.csv").read_text().count("\n") == 4
    assert not (folder / "resume.ckpt").exists()

    assert cli.train(["pool=mincut", *QUICK]) == 0
    assert "is done" in capsys.readouterr().out
    assert len(records(results)) == 1

    assert cli.train(["pool=mincut", *QUICK, "force=true"]) == 0
    again = records(results)
    assert len(again) == 2
    assert {json.dumps(outcome(r)) for r in again.values()} == {json.dumps(outcome(first))}


def test_what_does_not_change_a_result_does_not_change_its_identity(results: Path) -> None:
    cli.train(["pool=topk", *QUICK])
    cli.train(["pool=topk", *QUICK, "callbacks.resume_every=1", "tags=[a]", "group=b", "callbacks.progress=lines"])
    assert len(records(results)) == 1
    cli.train(["pool=topk", *QUICK, "pool.ratio=0.4"])
    assert len(records(results)) == 2


def test_a_sweep_does_every_job_and_goes_on_after_a_failure(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = cli.train(["-m", "pool=topk,none", "optimizer=sgd", "optimizer.lr=0.01,1e30", *QUICK])
    made = records(results)
    assert sorted(r["status"] for r in made.values()) == ["done", "done", "failed", "failed"]
    assert code == 1
    for record in made.values():
        assert (record["reason"] is None) == (record["status"] == "done")
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 2 and all("diverged" in line for line in errors)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["pool=mincutt"], "pool=mincutt is unknown (did you mean mincut"),
        (["-m", "pool=topk,mincutt"], "pool=mincutt is unknown (did you mean mincut"),
        (["dataset=PROTEIN"], "did you mean PROTEINS"),
        (["model=hierarchic"], "did you mean hierarchical"),
        (["pool.ratoi=0.5"], "pool.ratoi is no key of the configuration (did you mean pool.ratio"),
        (["trainer.max_epoch=5"], "did you mean trainer.max_epochs"),
        (["poool=topk"], "did you mean pool"),
        (["loss_weights.cut=0.5"], "'loss_weights={cut: 0.5}'"),
        (["pool.ratio=0"], "pool.ratio=0"),
        (["pool=topk", "pool.ratio=1.5"], "ratio=1.5"),
        (["pool.k=0"], "k=0"),
        (["optimizer.lr=-1"], "learning rate"),
        (["trainer.max_epochs=0"], "trainer.max_epochs=0"),
        (["model.readout=globalavgg"], "did you mean globalavg"),
        (["pool=globalavg"], "add model=global"),
        (["model=global"], "add model=hierarchical"),
        (["dataset=tu"], "dataset.name must be given"),
        (["pool="], "pool"),
        (["pool='"], "pool='"),
        (["trainer.precision=31"], "trainer.precision=31 is not one of 32-true, bf16-mixed, 16-mixed"),
        (["callbacks.progress=dots"], "callbacks.progress='dots'"),
        (["pool._target_=no.such.Pool"], "pool._target_=no.such.Pool"),
        (["logger.mode=sometimes", "logger=wandb"], "mode"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    arguments: list[str], expected: str, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {word.split("=")[0] for word in arguments}
    base = [word for word in QUICK if not {word.split("=")[0], word.split(".")[0]} & given]
    assert cli.train([*base, *arguments]) == 2
    said = capsys.readouterr()
    assert said.err.startswith("error: ") and said.err.count("\n") == 1, said.err
    assert expected in said.err
    assert "Traceback" not in said.err + said.out
    assert not list(results.glob("runs/*"))


def test_other_names_of_the_operators_are_known(results: Path) -> None:
    assert cli.train(["pool=nopool", *QUICK]) == 0
    (record,) = records(results).values()
    assert record["config"]["names"]["pool"] == "none"
    pools = names.choices("pool")
    assert not set(names.ALIASES) & set(pools)


def test_an_operator_of_ones_own(results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_pool.py").write_text(
        "from poolbench.pool import SRCPool\n"
        "class EveryOther(SRCPool):\n"
        "    def select(self, x, a, i):\n"
        "        return list(range(0, x.shape[0], 2))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert cli.train(["pool=none", "pool._target_=my_pool.EveryOther", *QUICK]) == 0
    (record,) = records(results).values()
    assert record["config"]["names"]["pool"] == "EveryOther"
    levels = record["diagnostics"]["nodes_per_level"]
    assert levels[1] < 0.6 * levels[0]


def test_a_results_folder_that_cannot_be_written_to(tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                                    monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    monkeypatch.setenv("POOLBENCH_DATA", str(tmp_path / "cache"))
    code = cli.train(["pool=topk", *QUICK, f"paths.results={blocked}"])
    said = capsys.readouterr().err
    assert code in (1, 2) and said.count("\n") == 1 and str(blocked) in said and "paths.results" in said


def test_no_data_and_no_network_names_the_ways_to_supply_it(results: Path, capsys: pytest.CaptureFixture[str],
                                                            monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    from poolbench.data.sources import tu

    monkeypatch.setattr(tu, "HOST", "http://127.0.0.1:9/x")
    assert cli.train(["dataset=ENZYMES", "logger=none"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert all(word in said for word in ("ENZYMES", "POOLBENCH_MIRROR", str(results.parent / "cache")))


def test_prepare(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["prepare", "dataset=planted"]) == 0
    assert "fingerprint" in capsys.readouterr().out


def test_an_interrupt_that_a_library_turns_into_its_own_error_is_no_failure(
    results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from poolbench.learn import train

    def interrupted(*args: object, **kwargs: object) -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)
        except KeyboardInterrupt:
            raise RuntimeError("unexpected pos 64 vs 0") from None

    monkeypatch.setattr(train, "train", interrupted)
    handler = signal.getsignal(signal.SIGINT)
    assert cli.train(["pool=topk", *QUICK]) == 130
    assert "interrupted" in capsys.readouterr().err
    assert not records(results)
    assert signal.getsignal(signal.SIGINT) is handler


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_killed_run_goes_on_and_ends_alike(number: signal.Signals, results: Path, tmp_path: Path) -> None:
    arguments = ["pool=mincut", *[w for w in QUICK if "max_epochs" not in w], "trainer.max_epochs=60",
                 "callbacks.resume_every=0", "callbacks.patience=100"]  # fmt: skip
    assert cli.train([*arguments, f"paths.results={tmp_path / 'whole'}"]) == 0
    process = subprocess.Popen([sys.executable, "train.py", *arguments], cwd=ROOT, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True)  # fmt: skip
    deadline = time.monotonic() + 60
    while not any(len(p.read_text().splitlines()) > 10 for p in results.glob("runs/*/1/metrics.csv")):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    process.send_signal(number)
    text, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "Traceback" not in text
    assert not records(results)
    assert cli.train(arguments) == 0
    (whole,), (resumed,) = records(tmp_path / "whole").values(), records(results).values()
    assert outcome(resumed) == outcome(whole)
    (curve,) = results.glob("runs/*/1/metrics.csv")
    assert [line.split(",")[0] for line in curve.read_text().splitlines()][1:] == [str(e) for e in range(1, 61)]
