"""`poolbench train`, and `python train.py`: a run, the runs of a protocol, or a sweep."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import click

from poolbench.cli.options import composing, hydra_flags

if TYPE_CHECKING:
    from poolbench.config import Config
    from poolbench.records.record import Record


@click.command(add_help_option=False)
@composing()
@click.option("-h", "--help", "help_", is_flag=True, help="Print this, all choices and the configuration as it stands.")
def command(words: tuple[str, ...], help_: bool) -> int:
    """Train a model with a graph pooling operator and keep a record of the run.

    A part is chosen with GROUP=NAME, a value set with KEY=VALUE, added with +KEY=VALUE, left out with ~KEY. With -m
    there may be several: pool=topk,mincut seed='range(10)'. A run that is done is not done again, one that was stopped
    goes on.

    \b
    Examples:
      poolbench train pool=mincut dataset=PROTEINS
      poolbench train pool=topk pool.ratio=0.25 dataset=MUTAG logger=none
      poolbench train -m pool=topk,mincut,none seed='range(10)' dataset=MUTAG
      poolbench train --config-dir own pool=myclusters dataset=MUTAG
    """
    if help_:
        print(click.get_current_context().get_help(), *_choices_and_configuration(words), sep="\n")
        return 0
    from poolbench.cli.door import Task, run

    return run(Task(train, trains=True), words, hydra_flags())


def train(config: Config) -> Record:
    """Do the run of a configuration; returns its record."""
    from poolbench.cli.terminal import speak
    from poolbench.jobs.run import run

    speak()
    return run(config)


def _choices_and_configuration(words: tuple[str, ...]) -> list[str]:
    """What there is to choose, and what the words make (Hydra's own help takes ten times as long)."""
    from omegaconf import OmegaConf

    from poolbench.cli.door import composed
    from poolbench.cli.folders import groups
    from poolbench.cli.names import choices

    config = OmegaConf.to_yaml(composed(words))
    apart = ("dataset", "experiment", "hydra", "reproduce", "tuned")
    lines = [f"  {group}: {', '.join(choices(group))}" for group in groups() if group not in apart]
    return [
        "\nChoices:",
        *(textwrap.fill(line, 100, subsequent_indent="    ", break_on_hyphens=False) for line in lines),
        "  dataset: any name that `poolbench list datasets` prints",
        f"  experiment: {', '.join(name for name in choices('experiment') if '/' not in name)}, or PAPER/NAME",
        f"\nThe configuration as it stands:\n\n{config}",
    ]
