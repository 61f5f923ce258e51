"""`poolbench tune`: a search for hyper-parameters."""

from __future__ import annotations

import os
import shlex
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from poolbench.cli import folders
from poolbench.cli.options import composing, hydra_flags, search_words
from poolbench.errors import PoolBenchError

if TYPE_CHECKING:
    from omegaconf import DictConfig


@click.command
@composing(sweeps=False)
def command(words: tuple[str, ...]) -> int:
    """Search hyper-parameters on validation graphs; the best configuration becomes an experiment.

    Beside what train takes: search=NAME, a space of conf/search (search=default where none is named), trials=N, how
    many are tried, and workers=N, in how many processes.

    \b
    Examples:
      poolbench tune pool=mincut dataset=PROTEINS
      poolbench tune pool=mincut dataset=PROTEINS search=dense trials=30 workers=2
    """
    from poolbench.cli.door import Task, run

    workers, kept = search_words(words)
    return run(Task(None, partial(tune, workers)), kept, hydra_flags())


def tune(workers: int, config: DictConfig) -> None:
    """Do the search of a composed configuration, and write the experiment."""
    from hydra.core.hydra_config import HydraConfig

    from poolbench.cli.door import resolve
    from poolbench.cli.names import choices
    from poolbench.cli.terminal import speak
    from poolbench.jobs import tuning

    speak()
    job = HydraConfig.get()
    run = resolve(config)
    if run.search is None:
        raise PoolBenchError(f"poolbench tune needs a search; there are {', '.join(choices('search'))}")
    values = tuning.set_values(config, job.runtime.choices, job.overrides.task)
    search, trials = tuning.tune(run, workers)
    print(tuning.summary(search, trials))
    name, text = tuning.experiment(search, trials, job.runtime.choices, values)
    folder, again = experiment_home(Path(run.paths.results))
    print(f"best: {tuning.write_found(folder, name, text)}\nrun it with: {again} experiment={name}")


def experiment_home(results: Path) -> tuple[Path, str]:
    """Where experiments are written, and the command that finds them there: in conf/ of a checkout, else in results."""
    conf, seen = folders.conf_dir(), folders.words()
    if (conf.parent / "train.py").is_file():
        return conf / "experiment", shlex.join(["python", "train.py", *seen])
    home = os.path.relpath(results / "conf")
    own = [] if home in seen else ["--config-dir", home]
    return results / "conf" / "experiment", shlex.join(["poolbench", "train", *seen, *own])
