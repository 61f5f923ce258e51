"""The whole road, in processes of their own: sweeps killed and started again, W&B on disk, several processes."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

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
        found[r["id"]] = (r["status"], r["metrics"], r["selected_epoch"], curve, r["losses"])
    return found


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_sweep_that_is_killed_again_and_again_ends_in_the_same_records(results: Path, tmp_path: Path) -> None:
    sweep = command("-m", "pool=topk,mincut,none", "seed=range(3)", "dataset=planted", "dataset.num_graphs=60",
                    "trainer.max_epochs=12", "callbacks.resume_every=0", "callbacks.progress=none")  # fmt: skip
    whole = tmp_path / "whole"
    subprocess.run(sweep, cwd=ROOT, env=environment(whole), check=True, capture_output=True)
    assert len(outcomes(whole)) == 9
    ids = {p.read_text() for p in whole.glob("runs/*/*/wandb.id")}
    assert len(ids) == 9, "each job is a W&B run of its own"

    rng = random.Random(0)
    for _ in range(6):
        process = subprocess.Popen(sweep, cwd=ROOT, env=environment(results), stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL)  # fmt: skip
        time.sleep(rng.uniform(5.0, 12.0))
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run(sweep, cwd=ROOT, env=environment(results), check=True, capture_output=True)
    assert outcomes(results) == outcomes(whole)


@pytest.mark.slow
def test_two_processes_share_a_run_and_keep_one_record(results: Path) -> None:
    done = subprocess.run(
        command("pool=mincut", "dataset=planted", "trainer=ddp", "trainer.accelerator=cpu", "trainer.max_epochs=3",
                "logger=none"),
        cwd=ROOT, env=environment(results), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (outcome,) = outcomes(results).values()
    assert outcome[0] == "done" and len(outcome[4]) == 3
    assert done.stdout.count("record:") == 1


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
