"""`poolbench sync`: W&B runs that were made offline."""

from __future__ import annotations

from pathlib import Path

import click

from poolbench.cli.options import folder


@click.command
@folder
def command(folder: Path) -> int:
    """Upload the W&B runs below a results folder that were made offline, a line each. Exit code 1 where one failed.

    \b
    Examples:
      poolbench sync
      poolbench sync results
    """
    from poolbench.report.wandb_tools import sync

    failed = False
    for worked, line in sync(folder):
        print(line, flush=True)
        failed |= not worked
    return int(failed)
