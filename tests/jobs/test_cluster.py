"""Sweeps by submitit and Ray, as far as one machine can tell: a local one of each, and a Slurm that is played."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from poolbench.errors import PoolBenchError
from poolbench.jobs import cluster, launcher, sweep
from poolbench.jobs.launcher import Job, Workers, launch

pytestmark = pytest.mark.slow

WORK = """
import os, signal
from pathlib import Path
from poolbench.errors import PoolBenchError

def work(config):
    out = Path(config["out"])
    out.write_text((out.read_text() if out.exists() else "") + "started ")
    print("said by", config["number"])
    if config["how"] == "refused":
        raise PoolBenchError("no luck")
    if config["how"] == "dies" or (config["how"] == "dies once" and out.read_text().count("started") == 1):
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """A function of a module that other processes find."""
    (tmp_path / "cluster_work.py").write_text(WORK)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "cluster_work", raising=False)
    monkeypatch.setattr(cluster, "POLL", 0.1)
    return importlib.import_module("cluster_work").work


def swept(tmp_path: Path, work: Callable[..., Any], hows: list[str], workers: Workers) -> tuple[list[str], list[int]]:
    """What the jobs came to, and how often each was started."""
    books = sweep.Books(tmp_path / "sweep", [[f"how={how}"] for how in hows], workers.count)
    outs = [tmp_path / f"out{n}" for n in range(len(hows))]

    def make(number: int) -> Job:
        config = {"number": number, "out": str(outs[number - 1]), "how": hows[number - 1]}
        return Job(number, books.text(number), config, work, books.folder)

    states = launch(range(1, len(hows) + 1), make, books, workers)
    assert [job.state for job in sweep.read(books.folder).jobs] == states
    return states, [out.read_text().count("started") for out in outs]


HOWS = ["sound", "refused", "dies once", "dies", "sound"]
STATES = ["done", "refused", "done", "failed", "done"]
STARTS = [1, 1, 2, launcher.STARTS, 1]


def test_submitit_on_this_machine(work: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("submitit")
    jobs = cluster.SubmititJobs("local", tmp_path / "submitit", 3, {"timeout_min": 5, "mem_gb": None})
    assert swept(tmp_path, work, HOWS, jobs) == (STATES, STARTS)
    said = capfd.readouterr()
    assert "[1] how=sound\nsaid by 1\n" in said.out
    assert "error: [2] how=refused: no luck" in said.err


SLURM = {
    # Takes a job, answers as Slurm does, and then runs it here, the tasks of an array one after the other.
    "sbatch": """#!{python}
import os, re, subprocess, sys
from pathlib import Path
folder = Path(__file__).parent
if sys.argv[1] != "--now":
    number = str(len(list(folder.glob("job-*"))) + 100)
    (folder / f"job-{{number}}").write_text(Path(sys.argv[-1]).read_text())
    quiet = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
    subprocess.Popen([sys.executable, __file__, "--now", number], **quiet)
    print(f"Submitted batch job {{number}}")
    sys.exit()
number = sys.argv[2]
script = (folder / f"job-{{number}}").read_text()
tasks = re.search(r"--array=0-(\\d+)", script)
for task in range(int(tasks[1]) + 1) if tasks else [None]:
    surroundings = dict(os.environ, SLURM_JOB_ID=number, SLURM_NTASKS="1", SLURM_JOB_NUM_NODES="1", SLURM_NODEID="0",
                        SLURM_PROCID="0", SLURM_LOCALID="0", SLURM_JOB_NODELIST="here")
    if task is not None:
        surroundings.update(SLURM_ARRAY_JOB_ID=number, SLURM_ARRAY_TASK_ID=str(task))
    ended = subprocess.run(["bash", "-c", script], env=surroundings)
    job = number if task is None else f"{{number}}_{{task}}"
    (folder / f"state-{{job}}").write_text("COMPLETED" if ended.returncode == 0 else "FAILED")
""",
    "srun": """#!/bin/bash
while [[ "$1" == --* || "$1" == -* ]]; do
  if [[ "$1" == --output || "$1" == --error ]]; then shift; fi
  shift
done
exec "$@"
""",
    "sacct": """#!{python}
from pathlib import Path
print("JobID|State|NodeList")
for path in sorted(Path(__file__).parent.glob("state-*")):
    print(f"{{path.name[6:]}}|{{path.read_text()}}|here")
""",
    "scancel": "#!/bin/bash\n",
}


def test_slurm_is_given_arrays_and_what_they_need(work: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("submitit")
    programs = tmp_path / "slurm"
    programs.mkdir()
    for name, text in SLURM.items():
        (programs / name).write_text(text.format(python=sys.executable) if "{python}" in text else text)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    wanted = {"timeout_min": 90, "cpus_per_task": 2, "mem_gb": 4, "slurm_partition": "long", "gpus_per_node": None}
    jobs = cluster.SubmititJobs("slurm", tmp_path / "submitit", 3, wanted)
    assert swept(tmp_path, work, ["sound", "refused", "sound"], jobs) == (["done", "refused", "done"], [1, 1, 1])
    (script,) = (path.read_text() for path in programs.glob("job-*"))
    for option in ("--array=0-2", "--time=90", "--cpus-per-task=2", "--mem=4GB", "--partition=long"):
        assert f"#SBATCH {option}" in script
    assert "gpus" not in script


def test_what_submitit_does_not_know_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("submitit")
    with pytest.raises(PoolBenchError, match="timeout_hours"):
        cluster.SubmititJobs("local", tmp_path, 1, {"timeout_hours": 5})
    monkeypatch.setenv("PATH", "")
    with pytest.raises(PoolBenchError, match="slurm"):
        cluster.SubmititJobs("slurm", tmp_path, 1, {"timeout_min": 5})


def test_a_ray_of_this_machine(work: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("ray")
    init = {"address": None, "num_cpus": 2, "include_dashboard": False, "log_to_driver": False, "logging_level": 40}
    jobs = cluster.RayTasks(5, init, {"num_cpus": 1})
    assert jobs.count == 2
    assert swept(tmp_path, work, HOWS, jobs) == (STATES, STARTS)
    assert "[5] how=sound\nsaid by 5\n" in capfd.readouterr().out


def test_a_launcher_that_is_not_installed_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, make in (("submitit", lambda: cluster.SubmititJobs("slurm", tmp_path, 1, {})),
                       ("ray", lambda: cluster.RayTasks(1, {}, {}))):  # fmt: skip
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(PoolBenchError, match=rf"poolbench\[{name}\]"):
            make()
