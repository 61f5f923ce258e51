"""What a person sees of a sweep: a line a job; a bar on a terminal, and no control characters elsewhere."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from poolbench.jobs import display
from poolbench.jobs.display import Lines
from poolbench.jobs.sweep import JobState, Sweep

QUICK = ["dataset=planted", "dataset.num_graphs=40", "trainer.max_epochs=2", "model.hidden=8", "logger=none"]
MAIN = "import sys; from poolbench.cli import main; sys.exit(main())"
DONE = r"\[{}\] pool={} seed={} +test accuracy 0\.\d{{4}}  \d+(\.\d)? s"


def command(*words: str) -> list[str]:
    return [sys.executable, "-c", MAIN, "train", "-m", *QUICK, *words]


def on_a_terminal(words: list[str]) -> tuple[int, str]:
    """Exit code and output of a command on a pseudo-terminal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(words, stdout=theirs, stderr=theirs, stdin=theirs,
                               env={**os.environ, "TERM": "xterm", "COLUMNS": "120"})  # fmt: skip
    os.close(theirs)
    said = b""
    try:
        while chunk := os.read(ours, 65536):
            said += chunk
    except OSError:  # Linux says so when the other end is closed
        pass
    os.close(ours)
    return process.wait(60), said.decode()


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["inprocess", "local"])
def test_a_terminal_has_a_bar_and_a_line_for_each_job(results: Path, launcher: str) -> None:
    words = ["pool=topk,globalsum", "seed=0,1", f"hydra/launcher={launcher}"]
    code, said = on_a_terminal(command(*words, *(["hydra.launcher.n_jobs=2"] if launcher == "local" else [])))
    assert code == 2, said
    assert "━" in said and "running" in said and "\x1b[2K" in said
    said_again = said.replace("\x1b[2K", "\n")  # a line that is drawn anew
    lines = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", said_again).replace("\r", "\n").split("\n")
    lines = [line.strip() for line in lines if line.strip()]
    for seed in (0, 1):
        assert sum(re.fullmatch(DONE.format(seed + 1, "topk", seed), line) is not None for line in lines) == 1
        assert sum(line.startswith(f"error: [{seed + 3}] pool=globalsum seed={seed}: ") for line in lines) == 1
    assert lines[-1] == "4 of 4: 2 done, 2 refused"
    assert "epoch" not in said and "record:" not in said


@pytest.mark.slow
def test_a_file_has_quiet_lines_and_a_restart_counts_what_is_done(results: Path) -> None:
    words = command("pool=topk,none", "seed=0,1")
    first = subprocess.run([*words[:-1], "seed=0"], capture_output=True, text=True, check=True).stdout.splitlines()
    assert first[1] == "0 done before, 2 to go" and len(first) == 5
    again = subprocess.run(words, capture_output=True, text=True, check=True)
    head, before, *jobs, last = again.stdout.splitlines()
    assert head.startswith("sweep of 4 jobs, 1 at once; poolbench status ")
    assert re.fullmatch(r"2 done before, 2 to go, about \d+ s left", before)
    assert all(re.fullmatch(DONE.format(n, pool, 1), line) for line, n, pool in zip(jobs, (2, 4), ("topk", "none"),
                                                                                   strict=True))  # fmt: skip
    assert last == "4 of 4: 4 done" and not again.stderr
    status = subprocess.run([sys.executable, "-c", MAIN, "status", str(results)], capture_output=True, text=True,
                            check=True)  # fmt: skip
    assert status.stdout.splitlines()[1] == last
    third = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()
    assert third[1:] == ["4 done before, 0 to go", "4 of 4: 4 done"]


def test_lines_say_now_and_then_how_far_the_sweep_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr(display.time, "monotonic", lambda: clock[0])
    jobs = [JobState("[1] pool=topk", "done", seconds=90.0), JobState("[2] pool=asap")]
    with Lines(lambda: Sweep(Path("s"), tuple(jobs)), [job.text for job in jobs]) as lines:
        lines.end("[1] pool=topk", "test accuracy 0.5000", 90.0)
        lines.summary()
        clock[0] = display.EVERY
        lines.summary()
        lines.summary()
        jobs[1] = JobState("[2] pool=asap", "done")
        lines.end("[2] \x1b[31m", None, None)
    assert capsys.readouterr().out.splitlines() == [
        "[1] pool=topk  test accuracy 0.5000  2 min",
        "1 of 2: 1 done, 1 to go, about 2 min left",
        "[2] \\x1b[31m      done before",
        "2 of 2: 2 done",
    ]


def test_a_stream_that_is_no_terminal_has_no_bar(capsys: pytest.CaptureFixture[str],
                                                 monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert type(display.display(lambda: Sweep(Path("s"), ()), [], quiet=True)) is Lines
