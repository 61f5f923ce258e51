"""`poolbench wandb-sweep`: a search space for W&B's own search."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import click

from poolbench.cli import folders
from poolbench.cli.options import composing, hydra_flags, search_words
from poolbench.errors import PoolBenchError

if TYPE_CHECKING:
    from omegaconf import DictConfig

#: Words of a command line that are the search's own.
SEARCHES = ("search=", "search.", "trials=", "workers=")


@click.command
@composing(sweeps=False)
def command(words: tuple[str, ...]) -> int:
    """Print a search space of conf/search as a file for wandb sweep. Takes the words of poolbench tune.

    \b
    Examples:
      poolbench wandb-sweep search=default pool=mincut dataset=PROTEINS > sweep.yaml
    """
    from poolbench.cli.door import Task, run

    own = [*folders.words(), *(word for word in words if not word.startswith(SEARCHES))]
    return run(Task(None, partial(write, own)), search_words(words)[1], hydra_flags())


def write(words: list[str], config: DictConfig) -> None:
    """Print the file for a composed configuration, whose agents start `poolbench train` with `words`."""
    from poolbench.cli.door import resolve
    from poolbench.cli.names import choices
    from poolbench.jobs.wandb_sweep import sweep

    run = resolve(config)
    if run.search is None:
        raise PoolBenchError(f"poolbench wandb-sweep needs a search; there are {', '.join(choices('search'))}")
    print(sweep(run, words), end="")
