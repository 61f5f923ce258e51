"""Jobs are done by processes that live on; one that dies is replaced, and an interrupt stops all in good order."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from configs import small
from poolbench.errors import PoolBenchError
from poolbench.jobs import launcher, sweep
from poolbench.jobs.launcher import InProcess, Job, Processes, Workers, launch, share_cores

WORK = '''
import multiprocessing, os, signal, time
from pathlib import Path
from poolbench.records.attempts import Held, lease
from poolbench.errors import PoolBenchError, RunError

def mark(config, text):
    with open(config["out"], "a") as file:
        file.write(text + "\\n")

def who(config):
    mark(config, f"{os.getpid()} {os.environ['OMP_NUM_THREADS']}")
    print("said by", config["number"])

def dies(config):
    """Dies as often as config says, then does the job."""
    mark(config, str(os.getpid()))
    if len(Path(config["out"]).read_text().splitlines()) <= config["deaths"]:
        os.kill(os.getpid(), signal.SIGKILL)

def fails(config):
    raise {"refused": PoolBenchError, "failed": RunError, "broken": KeyError}[config["how"]]("no\\nluck")

def sleeps(config):
    mark(config, "began")
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        mark(config, "stopped in good order")
        raise

def multiplies(config):
    """Starts a process of its own, which may outlive it."""
    child = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(60 if config["dies"] else 0,))
    child.start()
    mark(config, str(child.pid))
    if config["dies"]:
        os.kill(os.getpid(), signal.SIGKILL)
    child.join()

def leased(config):
    with lease(Path(config.paths.results), "the-run") as mine:
        if not mine:
            raise Held("the-run")
    mark({"out": config.paths.data}, "done")
'''


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Callable[..., Any]]:
    """A function of a module that worker processes find."""
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "sweep_work.py").write_text(WORK)
    monkeypatch.syspath_prepend(str(tmp_path / "lib"))
    monkeypatch.delitem(sys.modules, "sweep_work", raising=False)
    return lambda name: getattr(importlib.import_module("sweep_work"), name)


def swept(
    tmp_path: Path, jobs: list[tuple[Callable[..., Any], Any]], workers: Workers
) -> tuple[list[str], sweep.Sweep]:
    """What the jobs came to, and the books."""
    books = sweep.Books(tmp_path / "sweep", [[f"job={n}"] for n in range(len(jobs))], workers.count)

    def make(number: int) -> Job:
        function, config = jobs[number - 1]
        told: Any = {"number": number, **config} if isinstance(config, dict) else config
        return Job(number, books.text(number), told, function, books.folder)

    states = launch(range(1, len(jobs) + 1), make, books, workers)
    return states, sweep.read(books.folder)


def test_processes_are_reused(work: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str],
                              monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    out = tmp_path / "out"
    states, books = swept(tmp_path, [(work("who"), {"out": str(out)})] * 6, Processes(2, threads=3))
    assert states == ["done"] * 6 and books.counts == {"done": 6}
    lines = [line.split() for line in out.read_text().splitlines()]
    assert len(lines) == 6 and {threads for _, threads in lines} == {"3"}
    pids = {int(pid) for pid, _ in lines}
    assert 1 <= len(pids) <= 2 and os.getpid() not in pids
    assert not any(map(alive, pids)), "no worker outlives its sweep"
    said = capfd.readouterr().out
    for number in range(1, 7):
        assert f"[{number}] job={number - 1}\nsaid by {number}\n" in said
    assert said.splitlines()[-1] == "6 of 6: 6 done"
    assert "OMP_NUM_THREADS" not in os.environ


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"  # dead, and not yet buried


def test_a_worker_that_dies_is_replaced_and_its_job_started_again(work: Any, tmp_path: Path) -> None:
    outs = [tmp_path / str(n) for n in range(4)]
    deaths = [0, 2, 99, 0]
    jobs = [(work("dies"), {"out": str(out), "deaths": n}) for out, n in zip(outs, deaths, strict=True)]
    states, books = swept(tmp_path, jobs, Processes(2))
    assert states == ["done", "done", "failed", "done"]
    starts = [out.read_text().split() for out in outs]
    assert list(map(len, starts)) == [1, 3, launcher.STARTS, 1]
    assert len(set(starts[2])) == launcher.STARTS, "each time another process"
    assert "process died" in (books.jobs[2].reason or "")


def test_a_job_may_start_processes_which_end_with_its_worker(work: Any, tmp_path: Path) -> None:
    outs = [tmp_path / str(n) for n in range(2)]
    jobs = [(work("multiplies"), {"out": str(out), "dies": n}) for n, out in enumerate(outs)]
    states, _ = swept(tmp_path, jobs, Processes(2))
    assert states == ["done", "failed"]
    children = [int(pid) for pid in outs[1].read_text().split()]
    assert len(children) == launcher.STARTS
    deadline = time.monotonic() + 10
    while any(map(alive, children)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(alive, children))


@pytest.mark.parametrize("workers", [InProcess, lambda: Processes(1)], ids=["in process", "processes"])
def test_a_failure_is_one_line_and_leaves_the_others_running(
    workers: Callable[[], Workers], work: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    out = {"out": str(tmp_path / "out")}
    jobs = [*((work("fails"), {"how": how}) for how in ("refused", "failed", "broken")), (work("who"), out)]
    states, books = swept(tmp_path, jobs, workers())
    assert states == ["refused", "failed", "failed", "done"]
    errors = capfd.readouterr().err.splitlines()
    assert [line.partition(": ")[2] for line in errors[:2]] == ["[1] job=0: no luck", "[2] job=1: no luck"]
    assert errors[2].startswith("error: [3] job=2: KeyError") and len(errors) == 3
    assert [job.reason for job in books.jobs][:2] == ["no luck", "no luck"]


def test_a_sweep_knows_how_far_it_is_where_no_note_can_be_written(
    work: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sweep, "put", full)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    jobs = [(work("who"), {"out": str(tmp_path / "out")}), (work("fails"), {"how": "failed"})]
    states, books = swept(tmp_path, jobs, InProcess())
    assert states == ["done", "failed"] and books.counts == {"to go": 2}, "the books know nothing"
    said = capfd.readouterr()
    assert said.out.splitlines()[-1] == "2 of 2: 1 done, 1 failed"


def test_a_job_that_cannot_be_composed_is_refused(tmp_path: Path) -> None:
    books = sweep.Books(tmp_path / "sweep", [["a=1"], ["a=2"]], 1)

    def make(number: int) -> Job:
        if number == 1:
            raise PoolBenchError("a=1 makes no sense")
        return Job(number, books.text(number), small(), repr, books.folder)

    assert launch([1, 2], make, books, InProcess()) == ["refused", "done"]
    assert sweep.read(books.folder).jobs[0].reason == "a=1 makes no sense"


HOLDER = """
import sys, time
from pathlib import Path
from poolbench.records.attempts import lease
with lease(Path(sys.argv[1]), "the-run") as mine:
    print(mine, flush=True)
    time.sleep(2)
"""


def test_a_job_that_another_process_does_is_looked_at_again(work: Any, tmp_path: Path,
                                                            capfd: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    out = tmp_path / "out"
    other = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert other.stdout and other.stdout.readline() == "True\n"
    config = small(paths__results=str(tmp_path), paths__data=str(out))
    states, books = swept(tmp_path, [(work("leased"), config), (dict, {})], InProcess())
    other.communicate()
    assert states == ["done", "done"] and out.read_text() == "done\n" and books.counts == {"done": 2}
    said = capfd.readouterr().out
    assert "[1] job=0  run the-run is being done by another process" in said
    assert said.splitlines()[-1] == "2 of 2: 2 done"


SWEEP = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import sweep_work
from poolbench.jobs import sweep
from poolbench.jobs.launcher import Job, Processes, launch
folder = Path(sys.argv[2])
if __name__ == "__main__":
    books = sweep.Books(folder / "sweep", [["job=0"], ["job=1"]], 2)
    make = lambda n: Job(n, books.text(n), {"out": str(folder / f"out{n}")}, sweep_work.sleeps, books.folder)
    launch([1, 2], make, books, Processes(2))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_workers_stop_in_good_order_with_the_sweep(number: signal.Signals, work: Any, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SWEEP)
    process = subprocess.Popen([sys.executable, str(script), str(tmp_path / "lib"), str(tmp_path)],
                               stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)  # fmt: skip
    outs = [tmp_path / "out1", tmp_path / "out2"]
    wait_for(lambda: all(out.exists() for out in outs))
    pids = [job.pid for job in sweep.read(tmp_path / "sweep").jobs]
    assert process.pid not in pids and None not in pids
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode != 0
    wait_for(lambda: not any(alive(pid) for pid in pids if pid))
    assert [out.read_text().splitlines() for out in outs] == [["began", "stopped in good order"]] * 2
    books = sweep.read(tmp_path / "sweep")
    assert [job.state for job in books.jobs] == ["stopped"] * 2 and books.counts == {"to go": 2}


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_threads_are_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher, "usable_cores", lambda: 8)
    assert share_cores(None, 1, 100) == 8
    assert share_cores(-1, 3, 100) == 2
    assert share_cores(None, 16, 100) == 1
    assert share_cores(3, 1, 100) == 3
    assert share_cores(None, 1, 5) == 5
    for wrong in (0, -2, 1.5, True):
        with pytest.raises(PoolBenchError, match="n_jobs"):
            share_cores(wrong, 1, 5)  # type: ignore[arg-type]
