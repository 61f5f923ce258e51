"""Records are whole or not there, are never edited, and an attempt is resumed, repeated or given up as it should be."""

from __future__ import annotations

import errno
import json
import logging
import math
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from poolbench.errors import RunError
from poolbench.records import record as records
from poolbench.records.record import (
    CHECKPOINT,
    KEYS,
    Attempt,
    begin_attempt,
    find_done,
    iter_records,
    lease,
    make_record,
    next_attempt,
    note_epoch,
    note_start,
    note_stop,
    read_record,
    run_folder,
    write_record,
)

ID = "0123456789abcdef"


def a_record(status: str = "done", **fields: Any) -> dict[str, Any]:
    reason = None if status == "done" else "out of memory"
    return make_record(**{"id": ID, "attempt": 1, "status": status, "reason": reason, **fields})


def files(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


# --------------------------------------------------------------------------------------------------------- the record


def test_a_record_has_the_keys_of_the_design() -> None:
    made = a_record(metrics={"test": {"accuracy": 0.75}}, time={"epoch": 0.5})
    assert tuple(made) == KEYS
    assert made["schema"] == records.SCHEMA
    assert made["metrics"] == {"train": {}, "val": {}, "test": {"accuracy": 0.75}}
    assert made["time"] == {"epoch": 0.5, "epoch_cpu": None, "total": None}


@pytest.mark.parametrize(
    "wrong", [{"status": "finished"}, {"status": "failed", "reason": None}, {"status": "pruned", "reason": ""}]
)
def test_a_record_says_what_became_of_the_run(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=wrong["status"]):
        make_record(**{"id": ID, "attempt": 1, **wrong})


def test_what_is_written_is_read(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    made = a_record(
        config={"note": "NaN", "lr": 1e-3, "sizes": (1, 2), "path": Path("x")},
        metrics={"val": {"loss": math.inf, "accuracy": torch.tensor(0.5)}},
        curve=[{"epoch": 0, "val/loss": math.nan}, {"epoch": 1, "val/loss": -math.inf}],
        diagnostics={"sizes": torch.tensor([1, 2])},
    )
    path = write_record(tmp_path, made)
    assert path == tmp_path / "record.json"
    json.loads(path.read_text(), parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    found = read_record(path)
    assert found["metrics"]["val"] == {"loss": math.inf, "accuracy": 0.5}
    assert math.isnan(found["curve"][0]["val/loss"])
    assert found["curve"][1] == {"epoch": 1, "val/loss": -math.inf}
    assert found["config"] == {"note": "NaN", "lr": 1e-3, "sizes": [1, 2], "path": "x"}, "words stay words there"
    assert found["diagnostics"] == {"sizes": [1, 2]}


def test_a_record_is_never_edited(tmp_path: Path) -> None:
    path = write_record(tmp_path, a_record())
    before = path.read_bytes()
    with pytest.raises(RunError, match="force=true"):
        write_record(tmp_path, a_record("failed"))
    assert path.read_bytes() == before
    assert files(tmp_path) == ["record.json"]


def test_of_two_writers_one_wins(tmp_path: Path) -> None:
    def write(number: int) -> bool:
        try:
            write_record(tmp_path, a_record(parameters=number))
        except RunError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(write, range(32))) == 1
    assert files(tmp_path) == ["record.json"]
    read_record(tmp_path / "record.json")


def test_unknown_keys_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="colour"):
        write_record(tmp_path, {**a_record(), "colour": "red"})
    assert files(tmp_path) == []


@pytest.mark.parametrize("step", ["fsync", "link"])
def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    def full(*args: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, step, full)
    with pytest.raises(RunError, match="no space left") as caught:
        write_record(tmp_path, a_record())
    assert str(tmp_path / "record.json") in str(caught.value)
    assert "paths.results=" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert files(tmp_path) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_disk_that_is_full_while_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = open
    monkeypatch.setattr(
        records, "open", lambda path, mode: real(path, mode).close() or real("/dev/full", "wb"), raising=False
    )
    with pytest.raises(RunError, match="no space left"):
        write_record(tmp_path, a_record())
    assert files(tmp_path) == []


def test_a_file_system_without_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)
    read_record(write_record(tmp_path, a_record()))
    assert files(tmp_path) == ["record.json"]
    with pytest.raises(RunError, match="force=true"):
        write_record(tmp_path, a_record())


def test_a_folder_that_is_read_only(tmp_path: Path) -> None:
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
    for action in (next_attempt, begin_attempt):
        with pytest.raises(RunError, match=r"paths\.results="):
            action(tmp_path / "results", ID)
    with pytest.raises(RunError, match=r"paths\.results="), lease(tmp_path / "results", ID):
        pass


WRITER = """
import sys
from pathlib import Path
from poolbench.records.record import make_record, write_record
folder = Path(sys.argv[1])
print("ready", flush=True)
for number in range(10**6):
    (folder / str(number)).mkdir()
    curve = [{"loss": i / 7} for i in range(3000)]
    write_record(folder / str(number), make_record(id="a", attempt=1, status="done", curve=curve))
"""


def test_a_kill_while_writing_leaves_a_whole_record_or_none(tmp_path: Path) -> None:
    written = missing = 0
    for moment in range(4):
        folder = tmp_path / str(moment)
        folder.mkdir()
        job = subprocess.Popen([sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE)
        assert job.stdout
        job.stdout.readline()
        time.sleep(0.2 + 0.013 * moment)
        job.kill()
        job.wait()
        job.stdout.close()
        for attempt in folder.iterdir():
            if (attempt / "record.json").exists():
                assert len(read_record(attempt / "record.json")["curve"]) == 3000
                written += 1
            else:
                missing += 1
            records.remove_temporaries(attempt)
            assert files(attempt) in ([], ["record.json"])
    assert written
    assert missing <= 4, "only the last one of each process can be missing"


# ---------------------------------------------------------------------------------------------------- reading records


@pytest.mark.parametrize("text", ["", '{"schema": 1, "id"', "[]", "{}", '{"schema": 1}', "\x00\x00"])
def test_an_unreadable_record_costs_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str) -> None:
    folder = next_attempt(tmp_path, ID)
    (folder / "record.json").write_text(text)
    with caplog.at_level(logging.WARNING):
        assert find_done(tmp_path, ID) is None
        assert list(iter_records(tmp_path)) == []
    assert len(caplog.records) == 2
    assert all(str(folder) in r.getMessage() and "\n" not in r.getMessage() for r in caplog.records)
    with pytest.raises(RunError):
        read_record(folder / "record.json")
    assert begin_attempt(tmp_path, ID).number == 2, "it is not written over"


def test_records_of_another_schema_are_not_guessed_at(tmp_path: Path) -> None:
    (tmp_path / "record.json").write_text(json.dumps({**a_record(), "schema": 99}))
    with pytest.raises(RunError, match="schema 99"):
        read_record(tmp_path / "record.json")


def test_find_done_takes_the_latest_that_is_done(tmp_path: Path) -> None:
    assert find_done(tmp_path, ID) is None
    for status in ("done", "failed", "done", "pruned"):
        write_record(next_attempt(tmp_path, ID), a_record(status))
    next_attempt(tmp_path, ID)
    assert find_done(tmp_path, ID) == run_folder(tmp_path, ID) / "3" / "record.json"
    assert find_done(tmp_path, "another") is None


def test_records_come_in_order_of_their_numbers(tmp_path: Path) -> None:
    for id in ("b", "a"):
        for number in range(1, 12):
            write_record(next_attempt(tmp_path, id), a_record(id=id, attempt=number))
    (run_folder(tmp_path, "a") / "notes").mkdir()
    found = [(record["id"], record["attempt"]) for _, record in iter_records(tmp_path)]
    assert found == [(id, number) for id in "ab" for number in range(1, 12)]
    assert list(iter_records(tmp_path / "nowhere")) == []


# ----------------------------------------------------------------------------------------------------------- attempts


def test_attempts_are_numbered_without_a_race(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: next_attempt(tmp_path, ID), range(40)))
    assert sorted(int(f.name) for f in folders) == list(range(1, 41))


def started(results: Path) -> Attempt:
    """What a process does that begins to train."""
    attempt = begin_attempt(results, ID)
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


@pytest.mark.parametrize("status", ["done", "failed", "pruned"])
def test_a_record_ends_its_attempt(tmp_path: Path, status: str) -> None:
    first = started(tmp_path)
    write_record(first.folder, a_record(status))
    second = started(tmp_path)
    assert (second.number, second.deaths) == (2, 0)


def test_two_deaths_without_an_epoch_are_a_failure(tmp_path: Path) -> None:
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
        assert begin_attempt(tmp_path, ID).deaths == 0


# -------------------------------------------------------------------------------------------------------------- lease

HOLDER = """
import sys, time
from pathlib import Path
from poolbench.records.record import lease
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
