"""The books of a sweep: what became of each job, how far the whole is, and what an error makes of a job."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from poolbench.data.sources.fetch import Absent
from poolbench.errors import PoolBenchError, RunError
from poolbench.jobs import sweep
from poolbench.jobs.sweep import Books, JobState, Note, Sweep, exit_code, read, state_of
from poolbench.records.attempts import Held

JOBS = [["pool=topk", "seed=0", "dataset=planted"], ["pool=topk", "seed=1", "dataset=planted"],
        ["pool=none", "seed=0", "dataset=planted"]]  # fmt: skip


def test_a_job_is_named_by_what_sets_it_apart(tmp_path: Path) -> None:
    books = Books(tmp_path / "s", JOBS, 2)
    found = read(books.folder)
    assert [job.text for job in found.jobs] == ["[1] pool=topk seed=0", "[2] pool=topk seed=1", "[3] pool=none seed=0"]
    assert [books.text(n) for n in (1, 2, 3)] == [job.text for job in found.jobs]
    assert {job.state for job in found.jobs} == {"to go"} and found.at_once == 2
    assert read(Books(tmp_path / "one", JOBS[:1], 1).folder).jobs[0].text == "[1] pool=topk seed=0 dataset=planted"
    books.add([["pool=sag", "seed=0", "dataset=planted"]])
    assert [job.text for job in read(books.folder).jobs][3] == "[4] pool=sag seed=0"


def test_two_sweeps_that_begin_at_once_keep_books_of_their_own(tmp_path: Path) -> None:
    folders = [Books(tmp_path / "now", JOBS[:n], 1).folder for n in (1, 2, 3)]
    assert [folder.name for folder in folders] == ["now", "now-2", "now-3"]
    assert [len(read(folder).jobs) for folder in folders] == [1, 2, 3]


def test_a_place_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(RunError, match=r"paths\.results="):
            Books(place, JOBS, 1)


def test_what_a_process_notes_is_read(tmp_path: Path) -> None:
    books = Books(tmp_path / "s", JOBS, 2)
    first, second, third = (Note(books.folder, n) for n in (1, 2, 3))
    first.begin()
    with sweep.noting(first):
        sweep.note_run("aa")
        sweep.note_run("bb")
        sweep.note_run("aa")
    sweep.note_run("cc")  # outside of any job
    first.end("done", seconds=2.0)
    second.begin()
    third.end("refused", "pool=none does not go")
    a, b, c = read(books.folder).jobs
    assert (a.state, a.runs, a.seconds, a.pid) == ("done", ("aa", "bb"), 2.0, os.getpid())
    assert (b.state, b.runs, b.seconds) == ("running", (), None)
    assert (c.state, c.reason) == ("refused", "pool=none does not go")
    assert read(books.folder).line().startswith("2 of 3: 1 done, 1 running, 1 refused")


def test_a_job_whose_process_died_is_to_go(tmp_path: Path) -> None:
    books = Books(tmp_path / "s", JOBS, 2)
    code = "import sys, pathlib; from poolbench.jobs.sweep import Note; Note(pathlib.Path(sys.argv[1]), 1).begin()"
    subprocess.run([sys.executable, "-c", code, str(books.folder)], check=True)
    found = read(books.folder)
    assert found.jobs[0].state == "stopped" and "died" in (found.jobs[0].reason or "")
    assert found.counts == {"to go": 3}
    path = books.folder / "jobs" / "1.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "host": "another-machine"}))
    assert read(books.folder).jobs[0].state == "running", "of other machines nothing is known"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"state": "done"}', '{"runs": [], "colour": "red"}'])
def test_a_damaged_note_is_a_job_that_is_to_go(tmp_path: Path, text: str) -> None:
    books = Books(tmp_path / "s", JOBS, 2)
    (books.folder / "jobs" / "1.json").write_text(text)
    assert read(books.folder).counts == {"to go": 3}


def test_a_note_that_cannot_be_written_costs_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "jobs").write_text("a file where a folder should be")
    with caplog.at_level(logging.WARNING):
        Note(tmp_path, 1).begin()
    (record,) = caplog.records
    assert str(tmp_path / "jobs" / "1.json") in record.getMessage()


def a_sweep(*jobs: JobState, at_once: int = 1) -> Sweep:
    return Sweep(Path("s"), jobs, at_once)


def test_the_time_that_is_left() -> None:
    done = [JobState("a", "done", seconds=10.0), JobState("b", "done", seconds=30.0), JobState("c", "done")]
    to_go = [JobState("d"), JobState("e", "stopped")]
    running = JobState("f", "running", began=1000.0)
    assert a_sweep(*done).seconds_left(0.0) is None, "nothing is left"
    assert a_sweep(*to_go).seconds_left(0.0) is None, "nothing is known"
    assert a_sweep(*done, *to_go).seconds_left(0.0) == 40.0
    assert a_sweep(*done, *to_go, running, at_once=2).seconds_left(1005.0) == 20 - 5 + 20, (
        "the first free takes the last"
    )
    assert a_sweep(*done, running, at_once=8).seconds_left(1100.0) == 0.0
    assert a_sweep(*done, *to_go).line() == "3 of 5: 3 done, 2 to go, about 40 s left"
    assert a_sweep(*done, *to_go).to_go() == "2 to go, about 40 s left"


def test_the_time_of_a_job_is_that_of_its_kind() -> None:
    near, far, other = ("topk on A", "A"), ("mincut on A", "A"), ("topk on B", "B")
    done = [JobState("a", "done", seconds=10.0, kinds=near), JobState("b", "done", seconds=30.0, kinds=far)]

    def left(*kinds: tuple[str, ...], jobs: Sequence[JobState] = done, **times: float) -> float | None:
        to_go = (JobState("c", kinds=each) for each in kinds)
        return Sweep(Path("s"), (*jobs, *to_go), 1, times).seconds_left(0.0)

    assert left(near) == 10.0 and left(far) == 30.0 and left(near, far) == 40.0
    assert left(("sag on A", "A")) == 20.0, "else of the same dataset"
    assert left(other) == 20.0, "else of all"
    assert left(other, B=7.0) == 7.0 and left(other, **{"topk on B": 5.0}, B=7.0) == 5.0, "records know more"
    assert left(near, A=7.0, **{"topk on A": 5.0}) == 10.0, "what was done here counts first"
    assert left(other, jobs=()) is None and left(near, other, far, jobs=(), A=6.0) == 18.0


def test_what_is_expected_is_read(tmp_path: Path) -> None:
    books = Books(tmp_path / "s", JOBS, 2)
    books.expect({1: ("x", "y"), 3: ("z", "y")}, {"y": 8.0})
    Note(books.folder, 1).end("done", seconds=4.0)
    found = read(books.folder)
    assert [job.kinds for job in found.jobs] == [("x", "y"), (), ("z", "y")] and found.times == {"y": 8.0}
    assert found == books.sweep(map(books.job, (1, 2, 3)))
    assert found.line() == "1 of 3: 1 done, 2 to go, about 4 s left"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (89, "89 s"), (90, "2 min"), (3600, "60 min"), (12000, "3 h 20 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert sweep.duration(seconds) == text


def test_the_latest_sweep_is_found(tmp_path: Path) -> None:
    with pytest.raises(PoolBenchError, match="holds no sweep"):
        sweep.find(tmp_path)
    for name, time in (("old", 100), ("new", 300), ("older", 50)):
        folder = Books(tmp_path / "sweeps" / name, JOBS, 1).folder
        os.utime(folder / "jobs.json", (time, time))
    assert sweep.find(tmp_path) == tmp_path / "sweeps" / "new"
    assert sweep.find(tmp_path / "sweeps" / "old") == tmp_path / "sweeps" / "old"
    (tmp_path / "sweeps" / "old" / "jobs.json").write_text("{}")
    with pytest.raises(PoolBenchError, match=r"jobs\.json"):
        read(tmp_path / "sweeps" / "old")


def test_the_report_names_what_runs_and_what_went_wrong(tmp_path: Path) -> None:
    books = Books(tmp_path / "sweeps" / "s", JOBS, 1)
    running, failed = Note(books.folder, 1), Note(books.folder, 2)
    running.begin()
    running.run("abc")
    failed.end("failed", "out of memory")
    (tmp_path / "runs" / "abc" / "1").mkdir(parents=True)
    assert "running    [1] pool=topk seed=0: begins" in sweep.report(read(books.folder))
    (tmp_path / "runs" / "abc" / "1" / "metrics.csv").write_text("epoch,loss\n0,1\n1,0.5\n")
    lines = sweep.report(read(books.folder)).splitlines()
    assert lines[0] == f"sweep {books.folder}"
    assert lines[1] == "1 of 3: 0 done, 1 running, 1 failed, 1 to go"
    assert lines[2:] == ["running    [1] pool=topk seed=0: epoch 2", "failed     [2] pool=topk seed=1: out of memory"]


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (PoolBenchError("pool=x does not go with this model"), "refused"),
        (caused(PoolBenchError("pool._target_=x cannot be imported"), ImportError("x")), "refused"),
        (RunError("the run has diverged"), "failed"),
        (Held("0123"), "elsewhere"),
        (caused(PoolBenchError("dataset X is not here"), Absent("no mirror")), "failed"),
        (caused(PoolBenchError("the cache cannot be written to"), OSError(28, "No space left on device")), "failed"),
        (OSError(28, "No space left on device"), "failed"),
        (KeyError("x"), "failed"),
        (MemoryError(), "failed"),
    ],
)
def test_what_an_error_makes_of_a_job(error: Exception, state: str) -> None:
    assert state_of(error) == state


@pytest.mark.parametrize(
    ("states", "code"),
    [
        ([], 0),
        (["done"], 0),
        (["done", "refused"], 2),
        (["refused", "failed"], 1),
        (["done", "elsewhere"], 1),
        (["to go"], 1),
    ],
)
def test_the_exit_code_says_the_worst(states: list[str], code: int) -> None:
    assert exit_code(states) == code
