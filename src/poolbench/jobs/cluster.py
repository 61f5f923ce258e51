"""The jobs of a sweep on other machines: Slurm by submitit, and Ray. Both can be tried on this machine alone."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from poolbench.errors import PoolBenchError, one_line
from poolbench.jobs.launcher import GRACE, Ended, Job, do_quietly, say_stopping

POLL = 0.5
"""Seconds between two looks at the jobs."""


def python_path() -> str:
    """PYTHONPATH with which another process finds the modules that this one does."""
    return os.pathsep.join(dict.fromkeys(path or os.getcwd() for path in sys.path))


# ------------------------------------------------------------------------------------------------------ submitit, Slurm


class SubmititJobs:
    """Each job of the sweep as a job of Slurm, submitted as arrays; or, for trying, as a process of this machine.

    A job that runs into its time limit, or is preempted, is queued again and goes on from its last checkpoint.

    Args:
        cluster: `slurm` or `local`. folder: for submitit's files; all machines must see it. count: how many jobs are in
            the queue at once. parameters: of `submitit.AutoExecutor.update_parameters`, those that are None left out.

    Raises `PoolBenchError`: submitit is not installed, there is no such cluster, or it knows no such parameter.
    """

    def __init__(self, cluster: str, folder: Path, count: int, parameters: Mapping[str, Any]) -> None:
        try:
            import submitit
        except ImportError as error:
            raise PoolBenchError("this launcher needs submitit: pip install 'poolbench[submitit]'") from error
        try:
            self._executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
            self._executor.update_parameters(**{k: v for k, v in parameters.items() if v is not None})
        except (RuntimeError, ValueError, TypeError, NameError, AssertionError) as error:
            raise PoolBenchError(f"hydra.launcher: {one_line(error)}") from error
        self.count = count
        self._waiting: list[Job] = []
        self._submitted: dict[int, submitit.Job[Ended]] = {}

    def submit(self, job: Job) -> None:
        self._waiting.append(job)

    def next(self) -> tuple[int, Ended | None]:
        self._flush()
        while True:
            for number, job in self._submitted.items():
                if job.done():
                    del self._submitted[number]
                    return number, self._result(job)
            time.sleep(POLL)

    def _flush(self) -> None:
        if not self._waiting:
            return
        before = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = python_path()
        try:
            with self._executor.batch():
                made = [(job.number, self._executor.submit(_Task(), job)) for job in self._waiting]
        finally:
            if before is None:
                del os.environ["PYTHONPATH"]
            else:
                os.environ["PYTHONPATH"] = before
        self._waiting.clear()
        self._submitted.update(made)

    @staticmethod
    def _result(job: Any) -> Ended | None:
        from submitit.core.utils import FailedJobError, UncompletedJobError

        try:
            return job.result()
        except UncompletedJobError:
            return None
        except FailedJobError as error:  # before the job's own code began
            return Ended("failed", one_line(error)[:500])

    def stop(self) -> None:
        say_stopping(len(self._submitted))
        for job in self._submitted.values():
            job.cancel(check=False)
        deadline = time.monotonic() + GRACE
        with contextlib.suppress(KeyboardInterrupt):
            while time.monotonic() < deadline and not all(job.done() for job in self._submitted.values()):
                time.sleep(POLL)

    def close(self) -> None:
        """Every job has ended, or was cancelled."""


class _Task:
    """A job as submitit calls it."""

    def __call__(self, job: Job) -> Ended:
        return do_quietly(job)

    def checkpoint(self, job: Job) -> Any:
        """Asked for by submitit when the time is up: what is to be done next time, which is the same."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, job)


# ---------------------------------------------------------------------------------------------------------------- Ray


class RayTasks:
    """Each job as a task of Ray, which does them in worker processes that it reuses, and replaces where they died.

    Args:
        jobs: how many there are. init: arguments of `ray.init`, such as the address of a cluster. remote: what a job
            needs, as `ray.remote` takes it, such as num_cpus and num_gpus.

    Raises `PoolBenchError`: Ray is not installed, cannot be reached, or refuses the arguments.
    """

    def __init__(self, jobs: int, init: Mapping[str, Any], remote: Mapping[str, Any]) -> None:
        try:
            import ray
        except ImportError as error:
            raise PoolBenchError("hydra/launcher=ray needs Ray: pip install 'poolbench[ray]'") from error
        self._ray = ray
        environment = {"env_vars": {"PYTHONPATH": python_path()}}
        try:
            ray.init(**{"runtime_env": environment, **{k: v for k, v in init.items() if v is not None}})
            self._do = ray.remote(do_quietly).options(max_retries=0, **remote)
        except (RuntimeError, ValueError, TypeError, ConnectionError) as error:
            ray.shutdown()
            raise PoolBenchError(f"hydra.launcher: {one_line(error)}") from error
        fits = int(ray.cluster_resources().get("CPU", 1) // max(remote.get("num_cpus") or 1, 1e-9))
        self.count = max(min(fits, jobs), 1)
        self._submitted: dict[Any, int] = {}

    def submit(self, job: Job) -> None:
        self._submitted[self._do.remote(job)] = job.number

    def next(self) -> tuple[int, Ended | None]:
        (ready, *_), _ = self._ray.wait(list(self._submitted), num_returns=1)
        number = self._submitted.pop(ready)
        try:
            return number, self._ray.get(ready)
        except self._ray.exceptions.RayTaskError as error:  # before the job's own code began
            return number, Ended("failed", str(error).strip().splitlines()[-1])
        except self._ray.exceptions.RayError:
            return number, None

    def stop(self) -> None:
        say_stopping(len(self._submitted))
        tasks = list(self._submitted)
        for task in tasks:
            self._ray.cancel(task)
        with contextlib.suppress(KeyboardInterrupt):
            self._ray.wait(tasks, num_returns=len(tasks), timeout=GRACE)

    def close(self) -> None:
        self._ray.shutdown()
