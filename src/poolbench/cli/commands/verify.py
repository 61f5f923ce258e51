"""`poolbench verify`: whether records are what they say."""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path
from typing import Any

import click

from poolbench.cli.options import PATH, RESULTS, data_paths, trust, trusting

OF_SUBMISSIONS = ("against", "rerun", "seed", "summary")
"""The options that go with --submission alone."""


@click.command
@click.argument("where", type=PATH, envvar=RESULTS, default="results", metavar="[FOLDER|FILE]")
@click.option("--splits", is_flag=True, help="Also draw each split anew from its dataset.")
@click.option("--strict", is_flag=True, help="What cannot be checked is an error, too.")
@click.option("--submission", is_flag=True, help="FOLDER is a submission: all that its repository asks of it.")
@click.option("--against", type=PATH, metavar="FOLDER", help="Of a submission: the results folder of reference rows.")
@click.option(
    "--rerun",
    type=click.FloatRange(0, 1),
    metavar="SHARE",
    help="Of a submission: run this share again; 0.05 by default, 0 for none.",
)
@click.option("--seed", type=click.IntRange(min=0), help="Of a submission: which are run again; drawn where not given.")
@click.option("--summary", type=PATH, metavar="FILE", help="Of a submission: write what was found there, in Markdown.")
@trusting
def command(
    where: Path, splits: bool, strict: bool, submission: bool, allow_large: bool, **asked: Any
) -> int:  # fmt: skip
    """Check the records of a results folder, a file of lines or a record.json. Exit code 1 where anything is wrong.

    With --submission check one of docs/submitting.md; exit code 2 where it must be refused.

    \b
    Examples:
      poolbench verify
      poolbench verify theirs.jsonl --splits
      poolbench verify --submission submissions/mine --against reference --summary summary.md
    """
    trusted = trust(asked["trust"], allow_large)
    if submission:
        if splits or strict:
            raise click.UsageError("--submission draws splits anew by itself: leave --splits and --strict out")
        return _submission(where, trusted, **{name: asked[name] for name in OF_SUBMISSIONS})
    if given := [name for name in OF_SUBMISSIONS if asked[name] is not None]:
        raise click.UsageError(f"--{given[0]} goes with --submission")
    from poolbench.audit.verify import verify

    found = verify(where, splits, data_paths(), trusted, strict)
    print(found.written())
    return 1 if found.errors else 0


def _submission(
    folder: Path, trusted: Any, against: Path | None, rerun: float | None, seed: int | None, summary: Path | None
) -> int:
    from poolbench.audit.judge import SHARE, judge
    from poolbench.disk import write_text

    if sys.path[-1:] == [os.getcwd()]:
        sys.path.pop()  # the current folder may be the stranger's: nothing there is imported
    # Who hands in must not know which runs will be done again.
    drawn = secrets.randbelow(2**32) if seed is None else seed
    made = judge(folder, against, SHARE if rerun is None else rerun, drawn, data_paths(), trusted)
    print(made.written())
    if summary is not None:
        write_text(summary, made.markdown())
    return 2 if made.findings.errors else 0
