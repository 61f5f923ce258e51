"""`poolbench status`: how far a sweep is."""

from __future__ import annotations

from pathlib import Path

import click

from poolbench.cli.options import folder
from poolbench.jobs import sweep


@click.command
@folder
def command(folder: Path) -> None:
    """Print how many jobs of a sweep are done, running, failed or to go, and what went wrong.

    FOLDER is a results folder, whose latest sweep is meant, or the folder of a sweep.

    \b
    Examples:
      poolbench status
      poolbench status results/sweeps/2026-03-01_12-00-00
    """
    print(sweep.report(sweep.read(sweep.find(folder))))
