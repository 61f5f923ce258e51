"""`poolbench verify`: whether records are what they say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from poolbench.cli.options import PATH, RESULTS, data_paths, trust, trusting


@click.command
@click.argument("where", type=PATH, envvar=RESULTS, default="results", metavar="[FOLDER|FILE]")
@click.option("--splits", is_flag=True, help="Also draw each split anew from its dataset.")
@click.option("--strict", is_flag=True, help="What cannot be checked is an error, too.")
@trusting
def command(where: Path, splits: bool, strict: bool, allow_large: bool, **asked: Any) -> int:
    """Check the records of a results folder, a file of lines or a record.json. Exit code 1 where anything is wrong.

    \b
    Examples:
      poolbench verify
      poolbench verify theirs.jsonl --splits
    """
    from poolbench.audit.verify import verify

    found = verify(where, splits, data_paths(), trust(asked["trust"], allow_large), strict)
    print(found.written())
    return 1 if found.errors else 0
