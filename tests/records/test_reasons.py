"""Reasons say what went wrong and not where somebody keeps his files."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from poolbench import cli
from poolbench.records.attempts import iter_records
from poolbench.records.gathered import gather
from poolbench.records.reasons import placeless, placeless_here

REASONS = {
    "OSError: [Errno 28] No space left on device: '/home/me/secret/results/runs/x'":
        "OSError: [Errno 28] No space left on device: '.../x'",
    'File "/opt/me/venv/lib/python3.11/site-packages/torch/nn/linear.py" failed':
        'File "site-packages/torch/nn/linear.py" failed',
    "cannot write /data/a/b: it is full": "cannot write .../b: it is full",
    "no such file (/usr/lib/x.so)": "no such file (.../x.so)",
    "https://host.org/a/b is not there": "https://host.org/a/b is not there",
    "1/2 of 3/4/5, a/b, ./a/b, ~/c/d and .../e": "1/2 of 3/4/5, a/b, ./a/b, ~/c/d and .../e",
    "no / and // or /x": "no / and // or /x",
}  # fmt: skip


@pytest.mark.parametrize("said", REASONS)
def test_absolute_paths_are_left_out(said: str) -> None:
    assert placeless(said) == REASONS[said] == placeless(REASONS[said])


def test_a_long_reason_is_no_long_work() -> None:
    started = time.process_time()
    assert placeless("-/" * 100_000).startswith("-.../") and placeless("/-" * 100_000) == ".../-"
    assert time.process_time() - started < 5


def test_here_and_home_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.chdir(tmp_path)
    said = f"{tmp_path}/results/x, {tmp_path}else/x, /home/me/x/y, /mnt/home/me/x and {tmp_path}"
    assert placeless_here(said) == "./results/x, .../x, ~/x/y, .../x and ."
    monkeypatch.setenv("HOME", "/")
    assert placeless_here("a / b: /x/y") == "a / b: .../y"


def test_the_record_of_a_run_that_failed_names_no_place(
    results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from poolbench.learn import train

    def fails(*args: Any, **kwargs: Any) -> None:
        raise OSError(f"cannot read /some/where/some.file and {Path.home()}/x")

    monkeypatch.setattr(train, "train", fails)
    assert cli.train(["pool=topk", "dataset=planted", "dataset.num_graphs=40", "logger=none"]) == 1
    assert f"{Path.home()}/x" in capsys.readouterr().err, "the terminal is one's own"
    ((_, record),) = iter_records(results)
    assert record.reason == "OSError: cannot read .../some.file and ~/x"
    assert gather(results)[0].reason == record.reason
