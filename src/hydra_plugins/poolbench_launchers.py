"""PoolBench's Hydra launchers and sweeper. Hydra takes plugins from the package `hydra_plugins` alone, imported at each
start.

All launchers compose the jobs, and hand them to workers (`poolbench.jobs.launcher`, `poolbench.jobs.cluster`) that know
no Hydra.
"""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from poolbench.config import Config, replace
from poolbench.errors import PoolBenchError

if TYPE_CHECKING:
    from poolbench.jobs.launcher import Job, Workers
    from poolbench.jobs.sweep import Books


WORDS = ("hydra:job.override_dirname", "hydra:overrides")
"""What of Hydra's part of a configuration a `Composer` does not know: a job that takes it is composed by Hydra."""


class Sweeper(BasicSweeper):
    """Hydra's own; that each job can be composed is seen by the launcher, sooner, before it begins one."""

    def sweep(self, arguments: list[str]) -> Any:
        assert self.config is not None
        folder = Path(self.config.hydra.sweep.dir)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            OmegaConf.save(self.config, folder / "multirun.yaml")  # as Hydra does next
        except OSError as error:
            raise PoolBenchError(
                f"hydra.sweep.dir={folder} cannot be written ({error.strerror}); set it, or paths.results=, to a "
                "folder that can be"
            ) from error
        return super().sweep(arguments)

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Nothing, see `SweepLauncher._composed`."""


class SweepLauncher(Launcher):
    """Does the jobs of a sweep with its workers, keeps the books, and lets no job's failure end the others."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        from poolbench.cli.door import Task

        assert isinstance(task_function, Task)
        self.context, self.task, self.config = hydra_context, task_function, config
        self._books: Books | None = None
        self._runs: dict[int, Config] = {}

    @abstractmethod
    def workers(self, jobs: int) -> Workers:
        """What does `jobs` jobs."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from poolbench.jobs import launcher
        from poolbench.jobs.sweep import Books

        setup_globals()
        numbers = range(initial_job_idx + 1, initial_job_idx + 1 + len(job_overrides))
        self._runs = self._composed(numbers, job_overrides)
        workers = self.workers(len(job_overrides))
        if self._books is None:
            self._books = Books(Path(self.config.hydra.sweep.dir).absolute(), job_overrides, workers.count)
        else:
            self._books.add(job_overrides)
        runs = self._runs if self.task.trains else {}
        states = launcher.launch(numbers, self._make, self._books, workers, self.task.traces, runs)
        self.task.states += states
        return [JobReturn(overrides=job, status=JobStatus.COMPLETED) for job in job_overrides]

    def _composed(self, numbers: Sequence[int], jobs: Sequence[Sequence[str]]) -> dict[int, Config]:
        """The configurations of jobs, composed sooner than Hydra does it, less those of which a job will complain.

        Raises `PoolBenchError` for a job whose words make none.
        """
        from poolbench.cli.door import composed, resolve, say_untuned, tuned
        from poolbench.jobs.sweep import texts

        found, running, taken = {}, GlobalHydra.instance().hydra, set[str | None]()
        GlobalHydra.instance().clear()  # there may be one Hydra at a time
        try:
            for number, words in zip(numbers, jobs, strict=True):
                try:
                    config = composed(words, self.task.composer)
                except PoolBenchError as error:
                    raise PoolBenchError(f"{texts(jobs)[number - numbers[0]]}: {error}") from error
                taken.add(tuned())
                OmegaConf.copy_cache(
                    from_config=self.config, to_config=config
                )  # the time that names the sweep's folder
                _number(HydraConfig.instance().cfg, number)
                if any(key in str(OmegaConf.to_container(config, resolve=False)) for key in WORDS):
                    continue
                with contextlib.suppress(PoolBenchError):
                    found[number] = resolve(config)
        finally:
            GlobalHydra.instance().hydra = running
        say_untuned(taken)
        return found

    def _make(self, number: int) -> Job:
        """The job; one that was not composed before is composed by Hydra, which says what is wrong."""
        from poolbench.jobs.launcher import Job, beside

        assert self._books is not None
        run = self._runs.get(number)
        if run is None:
            config = self.context.config_loader.load_sweep_config(self.config, list(self._books.jobs[number - 1]))
            _number(config, number)
            HydraConfig.instance().set_config(config)
            run = self.task.resolve(config)
        if run.trainer.starts_processes:
            raise PoolBenchError("trainer=ddp starts its own processes and does not go with -m: start the runs apart")
        if run.group is None:
            run = replace(run, group=f"sweep-{self._books.folder.name}")
        job = Job(number, self._books.text(number), run, self.task.work, self._books.folder)
        return beside(job) if self.task.trains else job

    @property
    def threads(self) -> int:
        """The most threads that a job of the sweep takes."""
        words = [w.partition("=") for w in self.config.hydra.overrides.task]
        swept = [n for key, _, value in words if key.lstrip("+") == "trainer.threads" for n in value.split(",")]
        return max((int(n) for n in (*swept, str(self.config.trainer.threads)) if n.isdigit()), default=1)


class InProcessLauncher(SweepLauncher):
    """`hydra/launcher=inprocess`."""

    def workers(self, jobs: int) -> Workers:
        from poolbench.jobs.launcher import InProcess

        return InProcess()


class LocalLauncher(SweepLauncher):
    """`hydra/launcher=local`, see conf/hydra/launcher/local.yaml."""

    def __init__(self, n_jobs: int | None = None) -> None:
        self.n_jobs = n_jobs

    def workers(self, jobs: int) -> Workers:
        from poolbench.jobs.launcher import Processes, share_cores

        return Processes(share_cores(self.n_jobs, self.threads, jobs), self.threads)


class SubmititLauncher(SweepLauncher):
    """`hydra/launcher=submitit_slurm`, see conf/hydra/launcher/submitit_slurm.yaml."""

    def __init__(self, cluster: str, n_jobs: int | None = None, parameters: Mapping[str, Any] | None = None) -> None:
        self.cluster, self.n_jobs, self.parameters = cluster, n_jobs, parameters

    def workers(self, jobs: int) -> Workers:
        from poolbench.jobs.cluster import SubmititJobs
        from poolbench.jobs.launcher import share_cores

        # All jobs of a sweep may wait in a queue; this machine has its cores.
        n_jobs = jobs if self.n_jobs is None and self.cluster != "local" else self.n_jobs
        folder = Path(self.config.hydra.sweep.dir).absolute() / "submitit"
        return SubmititJobs(self.cluster, folder, share_cores(n_jobs, self.threads, jobs), _plain(self.parameters))


class RayLauncher(SweepLauncher):
    """`hydra/launcher=ray`, see conf/hydra/launcher/ray.yaml."""

    def __init__(self, init: Mapping[str, Any] | None = None, remote: Mapping[str, Any] | None = None) -> None:
        self.init, self.remote = init, remote

    def workers(self, jobs: int) -> Workers:
        from poolbench.jobs.cluster import RayTasks

        return RayTasks(jobs, _plain(self.init), _plain(self.remote))


def _number(config: Any, number: int) -> None:
    """Let Hydra's part of a configuration know which job it is of."""
    with read_write(config.hydra), open_dict(config.hydra):
        config.hydra.job.id = config.hydra.job.num = number - 1


def _plain(config: Any) -> dict[str, Any]:
    return OmegaConf.to_container(OmegaConf.create(config or {}), resolve=True)  # type: ignore[return-value]
