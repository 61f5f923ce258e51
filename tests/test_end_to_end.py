"""The whole road, in processes of their own: sweeps killed and started again, W&B on disk, several processes."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from poolbench import cli
from poolbench.records.provenance import usable_cores

ROOT = Path(__file__).parents[1]
MIRROR = os.environ.get("POOLBENCH_MIRROR")  # tests themselves run without


def command(*arguments: str) -> list[str]:
    return [sys.executable, "train.py", *arguments]


def environment(results: Path) -> dict[str, str]:
    return {**os.environ, "POOLBENCH_RESULTS": str(results), "OMP_NUM_THREADS": "1"}


def outcomes(results: Path) -> dict[str, Any]:
    """What a sweep came to, time, memory and provenance apart.

    An attempt that was killed twice before its first epoch ended is recorded as failed, as it should be; the next start
    makes another attempt, and that one counts here.
    """
    found = {}
    for path in results.glob("runs/*/*/record.json"):
        r = json.loads(path.read_text())
        if r["status"] == "failed":
            assert "died by a signal" in r["reason"], r["reason"]
            continue
        assert r["id"] not in found, "one run was done twice"
        curve = [{k: v for k, v in row.items() if not k.startswith("time")} for row in r["curve"]]
        kept = {key: r.get(key) for key in ("digests", "outcomes")}
        found[r["id"]] = (r["status"], r["metrics"], r["selected_epoch"], curve, r["losses"], kept)
    return found


# The processes are forks of one that has imported everything, so that a kill hits a run and not an import. When is
# counted in epochs, so that a quick machine is killed as often as a slow one: within an epoch, or while a job begins.
KILLED = """
import json, os, random, signal, sys, time
import torch
torch.set_num_threads(1)
from poolbench import cli
from poolbench.records import attempts
from poolbench.jobs import run
from poolbench.learn import build, loggers, train

note_epoch = attempts.note_epoch

def start():
    told, tell = os.pipe()
    pid = os.fork()
    if pid:
        os.close(tell)
        return pid, told
    attempts.note_epoch = lambda folder: (note_epoch(folder), os.write(tell, b"."))
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1), os.dup2(null, 2)
    os._exit(cli.train(sys.argv[1:]))

rng = random.Random(0)
ends = []
for number in [signal.SIGKILL, signal.SIGTERM, signal.SIGINT] * 8 + [signal.SIGKILL]:
    pid, told = start()
    epochs = rng.randrange(20)
    while epochs and os.read(told, 1):
        epochs -= 1
    time.sleep(rng.uniform(0.0, 0.05))
    os.kill(pid, number)
    ends.append(os.waitpid(pid, 0)[1])
    os.close(told)
ends.append(os.waitpid(start()[0], 0)[1])
print(json.dumps(ends))
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_sweep_that_is_killed_again_and_again_ends_in_the_same_records(results: Path, tmp_path: Path) -> None:
    jobs = ["-m", "pool=topk,mincut,none", "seed=0,1", "dataset=planted", "dataset.num_graphs=40", "model.hidden=8",
            "trainer.max_epochs=50", "callbacks.resume_every=0", "callbacks.progress=none"]  # fmt: skip
    whole = tmp_path / "whole"
    subprocess.run(command(*jobs), cwd=ROOT, env=environment(whole), check=True, capture_output=True)
    assert len(outcomes(whole)) == 6
    ids = {p.read_text() for p in whole.glob("runs/*/*/wandb.id")}
    assert len(ids) == 6, "each job is a W&B run of its own"

    done = subprocess.run([sys.executable, "-c", KILLED, *jobs, "logger=none"], cwd=ROOT, env=environment(results),
                          check=True, capture_output=True, text=True)  # fmt: skip
    *killed, last = json.loads(done.stdout)
    assert len(killed) == 25 and sum(end != 0 for end in killed) > 20, "most kills hit a sweep that was at work"
    assert last == 0
    assert outcomes(results) == outcomes(whole)


POOLS = """
import os, signal
import torch
from poolbench.pool import SRCPool

class Sound(SRCPool):
    def select(self, x, a, i):
        return list(range(0, x.shape[0], 2))

class Broken(Sound):
    def select(self, x, a, i):
        raise KeyError("a mistake in the operator")

class Hungry(Sound):
    def select(self, x, a, i):
        torch.empty(2**52)
        return super().select(x, a, i)

class Diverging(Sound):
    def reduce(self, x, s):
        return super().reduce(x, s) * float("nan")

class Killed(Sound):
    def select(self, x, a, i):
        os.kill(os.getpid(), signal.SIGKILL)

class Refused(SRCPool):
    def __init__(self, *, strength):
        super().__init__()
"""
SMALL = ["dataset=planted", "dataset.num_graphs=40", "trainer.max_epochs=3", "model.hidden=8", "logger=none",
         "callbacks.progress=none"]  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_whatever_a_job_comes_to_the_others_go_on(results: Path, tmp_path: Path) -> None:
    (tmp_path / "bad_pools.py").write_text(POOLS)
    names = ["Broken", "Hungry", "Diverging", "Killed", "Refused", "Sound"]
    targets = ",".join(f"bad_pools.{name}" for name in names)
    sweep = command("-m", "pool=none", f"pool._target_={targets}", *SMALL, "hydra/launcher=local",
                    "hydra.launcher.n_jobs=2")  # fmt: skip
    surroundings = environment(results)
    surroundings["PYTHONPATH"] = os.pathsep.join([str(tmp_path), *surroundings.get("PYTHONPATH", "").split(os.pathsep)])
    done = subprocess.run(sweep, cwd=ROOT, env=surroundings, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    made = [json.loads(path.read_text()) for path in results.glob("runs/*/*/record.json")]
    found = {r["config"]["names"]["pool"]: (r["status"], r["reason"]) for r in made}
    assert len(made) == len(found) == 5
    assert found["Sound"] == ("done", None)
    assert {status for name, (status, _) in found.items() if name != "Sound"} == {"failed"}
    for name, reason in (("Broken", "a mistake in the operator"), ("Hungry", "out of memory"),
                         ("Diverging", "diverged"), ("Killed", "died by a signal 2 times")):  # fmt: skip
        assert reason in str(found[name][1])
    assert done.stdout.splitlines()[-1] == "6 of 6: 1 done, 4 failed, 1 refused"
    main = "import sys; from poolbench.cli import main; sys.exit(main())"
    status = subprocess.run([sys.executable, "-c", main, "status", str(results)], env=surroundings,
                            capture_output=True, text=True, check=True)  # fmt: skip
    assert status.stdout.splitlines()[1] == "6 of 6: 1 done, 4 failed, 1 refused"
    assert len([line for line in status.stdout.splitlines() if line.startswith("failed")]) == 4

    again = subprocess.run([*sweep, "pool._target_=bad_pools.Sound"], cwd=ROOT, env=surroundings, capture_output=True,
                           text=True, check=False)  # fmt: skip
    assert again.returncode == 0 and "done before" in again.stdout


def limit_files(size: int) -> Callable[[], None]:
    """What makes every file of the process end at `size` bytes, as a full disk would."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@pytest.mark.slow
def test_a_disk_without_room_for_a_checkpoint_fails_the_job_and_the_record_says_so(results: Path) -> None:
    done = subprocess.run(command("-m", "pool=topk,none", *SMALL, "callbacks.resume_every=0"), cwd=ROOT,
                          env=environment(results), capture_output=True, text=True, check=False,
                          preexec_fn=limit_files(12_000))  # fmt: skip
    assert done.returncode == 1
    made = [json.loads(path.read_text()) for path in results.glob("runs/*/1/record.json")]
    assert [r["status"] for r in made] == ["failed"] * 2
    assert all("resume.ckpt: file too large" in r["reason"] for r in made)
    assert not list(results.glob("runs/*/*/.*.tmp"))


@pytest.mark.slow
def test_a_disk_without_room_for_a_record_leaves_none_and_the_exit_code_says_so(results: Path) -> None:
    sweep = command("-m", "pool=topk,none", *SMALL[:2], "trainer.max_epochs=60", *SMALL[3:])
    done = subprocess.run(sweep, cwd=ROOT, env=environment(results), capture_output=True, text=True, check=False,
                          preexec_fn=limit_files(12_000))  # fmt: skip
    assert done.returncode == 1
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 2 and all("record.json: file too large" in line for line in errors), done.stderr
    assert not list(results.glob("runs/*/*/record.json")) and not list(results.glob("runs/*/*/.*.tmp"))
    assert done.stdout.splitlines()[-1] == "2 of 2: 0 done, 2 failed"
    assert subprocess.run(sweep, cwd=ROOT, env=environment(results), capture_output=True, check=False).returncode == 0


@pytest.mark.slow
def test_two_processes_that_do_one_sweep_do_no_job_twice(results: Path) -> None:
    sweep = command("-m", "pool=topk,none", "seed=0,1", *SMALL[:2], "trainer.max_epochs=40", *SMALL[3:])
    both = [subprocess.Popen(sweep, cwd=ROOT, env=environment(results), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                             text=True) for _ in range(2)]  # fmt: skip
    said = [process.communicate(timeout=250) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert sorted(path.parent.name for path in results.glob("runs/*/*/record.json")) == ["1"] * 4
    assert [out.splitlines()[-1] for out, _ in said] == ["4 of 4: 4 done"] * 2
    assert len(list(results.glob("sweeps/*/jobs.json"))) == 2


@pytest.mark.slow
def test_two_processes_share_a_run_and_keep_one_record(results: Path) -> None:
    """Started as commands, and as copies of what one command has built: the same numbers."""
    found = []
    for strategy in ("ddp", "ddp_spawn"):
        done = subprocess.run(
            command("pool=mincut", "dataset=planted", "trainer=ddp", "trainer.accelerator=cpu", "trainer.max_epochs=3",
                    f"trainer.strategy={strategy}", "logger=none"),
            cwd=ROOT, env=environment(results / strategy), capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("record:") == 1
        (outcome,) = outcomes(results / strategy).values()
        assert outcome[0] == "done" and len(outcome[3]) == 3
        found.append(outcome)
    assert found[0] == found[1]


@pytest.mark.slow
@pytest.mark.mirror
@pytest.mark.skipif(MIRROR is None, reason="needs POOLBENCH_MIRROR")
@pytest.mark.timeout(900)
@pytest.mark.parametrize("model", ["hierarchical", "global"])
@pytest.mark.parametrize("dataset", ["PROTEINS", "ENZYMES", "IMDB-BINARY"])
def test_every_pool_on_real_data_trains_or_is_refused(dataset: str, model: str, results: Path) -> None:
    pools = sorted(p.stem for p in (ROOT / "conf" / "pool").glob("*.yaml"))
    done = subprocess.run(
        command("-m", f"pool={','.join(pools)}", f"model={model}", f"dataset={dataset}", "trainer.max_epochs=2",
                "logger=none", "callbacks.progress=none"),
        cwd=ROOT, capture_output=True, text=True, check=False,
        env={**environment(results), "POOLBENCH_MIRROR": str(MIRROR)},
    )  # fmt: skip
    refused = [line for line in done.stderr.splitlines() if "does not go with this model" in line]
    assert len(done.stderr.splitlines()) == len(refused), done.stderr
    assert len(outcomes(results)) + len(refused) == len(pools)
    assert all(outcome[0] == "done" for outcome in outcomes(results).values())
    assert done.returncode == 2


def test_a_further_run_in_a_process_costs_little_beside_its_training(results: Path) -> None:
    cli.train([*SMALL, "seed=0"])  # imports are paid for by the first
    started = time.process_time()
    assert cli.train([*SMALL, "seed=1"]) == 0
    spent = time.process_time() - started
    made = [json.loads(path.read_text()) for path in results.glob("runs/*/1/record.json")]
    (record,) = (r for r in made if r["seeds"]["seed"] == 1)
    assert spent - sum(row["time_cpu"] for row in record["curve"]) < 1.5, "seconds of CPU, validation and test included"


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(
    os.environ.get("POOLBENCH_QUIET") != "1" or usable_cores() < 2,
    reason="a measurement: POOLBENCH_QUIET=1 says that nobody else uses this machine, the other tests included",
)
def test_two_workers_do_the_runs_of_nearly_two(results: Path, tmp_path: Path) -> None:
    sweep = ["-m", "pool=mincut", "seed=range(40)", "dataset=planted", "trainer.max_epochs=40", "logger=none",
             "callbacks.progress=none", "callbacks.patience=40"]  # fmt: skip
    spent = []
    for folder, launcher in ((tmp_path / "one", []), (results, ["hydra/launcher=local", "hydra.launcher.n_jobs=2"])):
        started = time.monotonic()
        subprocess.run(command(*sweep, *launcher), cwd=ROOT, env=environment(folder), check=True, capture_output=True)
        spent.append(time.monotonic() - started)
        assert len(outcomes(folder)) == 40
    assert spent[0] / spent[1] >= 1.7
