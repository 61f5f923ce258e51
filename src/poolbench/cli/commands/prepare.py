"""`poolbench prepare`: data ahead of time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from poolbench.cli.options import composing, hydra_flags

if TYPE_CHECKING:
    from poolbench.config import Config


@click.command
@composing()
def command(words: tuple[str, ...]) -> int:
    """Fetch and parse a dataset into the cache and print its facts, for machines without a network or before a sweep.

    \b
    Examples:
      poolbench prepare dataset=PROTEINS
      poolbench prepare -m dataset=MUTAG,PROTEINS
    """
    from poolbench.cli.door import Task, run

    return run(Task(prepare), words, hydra_flags())


def prepare(config: Config) -> None:
    """Fetch and parse the dataset of a configuration, and print the facts."""
    from poolbench.data.prepare import prepare as fetch
    from poolbench.learn.build import build_dataset

    for name, value in fetch(build_dataset(config.dataset, config.paths.data, config.paths.mirror)).items():
        print(f"{name:<16} {value}")
