"""An attempt is resumed, repeated or given up as it should be, and done runs are found again."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from poolbench.errors import RunError
from poolbench.records.attempts import (
    CHECKPOINT,
    Attempt,
    begin_attempt,
    iter_records,
    lease,
    next_attempt,
    note_epoch,
    note_start,
    note_stop,
    run_folder,
)
from poolbench.records.record import Record, read_record, write_record

Maker = Callable[..., Record]
ID = "0123456789abcdef"
CODE = "fedcba9876543210"


def files(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


@pytest.fixture
def a_record(record: Maker) -> Maker:
    """Makes the record of an attempt that came to a status."""

    def make(status: str = "done", **fields: Any) -> Record:
        reason = None if status == "done" else "out of memory"
        return replace(record(0, 0.75), **{"id": ID, "status": status, "reason": reason, **fields})

    return make


def test_a_folder_that_is_read_only(tmp_path: Path, a_record: Maker) -> None:
    tmp_path.chmod(0o500)
    try:
        if os.access(tmp_path, os.W_OK):
            pytest.skip("this user may write anywhere")
        for action in (lambda: write_record(tmp_path, a_record()), lambda: next_attempt(tmp_path, ID)):
            with pytest.raises(RunError, match="permission denied"):
                action()
    finally:
        tmp_path.chmod(0o700)


def test_a_results_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("")
    for action in (
        lambda: next_attempt(tmp_path / "results", ID),
        lambda: begin_attempt(tmp_path / "results", ID, CODE),
    ):
        with pytest.raises(RunError, match=r"paths\.results="):
            action()
    with pytest.raises(RunError, match=r"paths\.results="), lease(tmp_path / "results", ID):
        pass


# ---------------------------------------------------------------------------------------------------- reading records


@pytest.mark.parametrize("text", ["", '{"schema": 1, "id"', "[]", "{}", '{"schema": 1}', "\x00\x00"])
def test_an_unreadable_record_costs_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str) -> None:
    folder = next_attempt(tmp_path, ID)
    (folder / "record.json").write_text(text)
    with caplog.at_level(logging.WARNING):
        assert list(iter_records(tmp_path)) == []
    assert len(caplog.records) == 1
    assert all(str(folder) in r.getMessage() and "\n" not in r.getMessage() for r in caplog.records)
    with pytest.raises(RunError):
        read_record(folder / "record.json")
    assert begin_attempt(tmp_path, ID, CODE).number == 2, "it is not written over"


def test_records_come_in_order_of_their_numbers(tmp_path: Path, a_record: Maker) -> None:
    first, second = "a" * 16, "b" * 16
    for id in (second, first):
        for number in range(1, 12):
            write_record(next_attempt(tmp_path, id), a_record(id=id, attempt=number))
    (run_folder(tmp_path, first) / "notes").mkdir()
    found = [(record.id, record.attempt) for _, record in iter_records(tmp_path)]
    assert found == [(id, number) for id in (first, second) for number in range(1, 12)]
    assert list(iter_records(tmp_path / "nowhere")) == []


# ----------------------------------------------------------------------------------------------------------- attempts


def test_attempts_are_numbered_without_a_race(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: next_attempt(tmp_path, ID), range(40)))
    assert sorted(int(f.name) for f in folders) == list(range(1, 41))


def started(results: Path, code: str = CODE) -> Attempt:
    """What a process does that begins to train."""
    attempt = begin_attempt(results, ID, code)
    note_start(attempt.folder)
    return attempt


def test_an_unfinished_attempt_is_taken_up_again(tmp_path: Path) -> None:
    first = started(tmp_path)
    assert (first.number, first.checkpoint, first.deaths, first.failed) == (1, None, 0, False)
    (first.folder / CHECKPOINT).write_text("weights")
    (first.folder / ".record.json-1-abc.tmp").write_text("half")
    again = started(tmp_path)
    assert (again.folder, again.checkpoint) == (first.folder, first.folder / CHECKPOINT)
    assert files(again.folder) == ["attempt.json", CHECKPOINT]


def test_an_attempt_that_other_code_began_is_left_alone(tmp_path: Path) -> None:
    first = started(tmp_path)
    (first.folder / CHECKPOINT).write_text("weights")
    other = started(tmp_path, "another")
    assert (other.number, other.checkpoint, other.deaths) == (2, None, 0)
    assert files(first.folder) == ["attempt.json", CHECKPOINT]
    assert started(tmp_path, "another").folder == other.folder


@pytest.mark.parametrize("status", ["done", "failed", "pruned"])
def test_a_record_ends_its_attempt(tmp_path: Path, a_record: Maker, status: str) -> None:
    first = started(tmp_path)
    write_record(first.folder, a_record(status))
    second = started(tmp_path)
    assert (second.number, second.deaths) == (2, 0)


def test_two_deaths_without_an_epoch_are_a_failure(tmp_path: Path, a_record: Maker) -> None:
    assert started(tmp_path).deaths == 0
    assert started(tmp_path).deaths == 1
    third = started(tmp_path)
    assert third.failed
    assert "2 times" in third.reason
    write_record(third.folder, a_record("failed", reason=third.reason))
    fourth = started(tmp_path)
    assert (fourth.number, fourth.failed) == (2, False), "a failed run is tried again"


def test_an_epoch_between_two_deaths_forgives_the_first(tmp_path: Path) -> None:
    started(tmp_path)
    for _ in range(5):
        attempt = started(tmp_path)
        assert attempt.deaths == 1
        note_epoch(attempt.folder)
        note_epoch(attempt.folder)


def test_stopping_in_good_order_is_no_death(tmp_path: Path) -> None:
    for _ in range(5):
        attempt = started(tmp_path)
        assert attempt.deaths == 0
        note_stop(attempt.folder)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"deaths": "many"}'])
def test_a_damaged_marker_costs_nothing(tmp_path: Path, text: str) -> None:
    attempt = started(tmp_path)
    (attempt.folder / "attempt.json").write_text(text)
    assert started(tmp_path).number == 1


def test_a_death_before_training_does_not_count(tmp_path: Path) -> None:
    for _ in range(4):
        assert begin_attempt(tmp_path, ID, CODE).deaths == 0


# -------------------------------------------------------------------------------------------------------------- lease

HOLDER = """
import sys, time
from pathlib import Path
from poolbench.records.attempts import lease
with lease(Path(sys.argv[1]), sys.argv[2]) as mine:
    print(mine, flush=True)
    time.sleep(float(sys.argv[3]))
"""


def holder(results: Path, seconds: float) -> subprocess.Popen:
    job = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(results), ID, str(seconds)], stdout=subprocess.PIPE, text=True
    )
    assert job.stdout
    assert job.stdout.readline() == "True\n"
    return job


def test_one_process_at_a_time_holds_a_run(tmp_path: Path) -> None:
    job = holder(tmp_path, 60)
    with lease(tmp_path, ID) as mine:
        assert not mine
    with lease(tmp_path, "another") as mine:
        assert mine
    job.kill()
    job.communicate()
    with lease(tmp_path, ID, wait=5) as mine:
        assert mine, "a dead process holds nothing"


def test_a_lease_can_be_waited_for(tmp_path: Path) -> None:
    job = holder(tmp_path, 0.5)
    with lease(tmp_path, ID, wait=20) as mine:
        assert mine
    job.communicate()


def test_what_fails_under_a_lease_is_not_its_error(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(OSError, match="mine"), lease(tmp_path, ID) as mine:
            assert mine
            raise OSError("mine")
