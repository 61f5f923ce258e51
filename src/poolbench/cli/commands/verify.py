"""`poolbench verify`: whether records are what they say."""

from __future__ import annotations

from pathlib import Path

import click

from poolbench.cli.options import PATH, RESULTS, data_paths


@click.command
@click.argument("where", type=PATH, envvar=RESULTS, default="results", metavar="[FOLDER|FILE]")
@click.option("--splits", is_flag=True, help="Also draw each split anew from its dataset.")
def command(where: Path, splits: bool) -> int:
    """Check the records of a results folder, a file of lines or a record.json. Exit code 1 where anything is wrong.

    \b
    Examples:
      poolbench verify
      poolbench verify theirs.jsonl --splits
    """
    from poolbench.audit.verify import verify

    found = verify(where, splits, data_paths())
    print(found.written())
    return 1 if found.errors else 0
