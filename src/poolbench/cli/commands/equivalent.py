"""`poolbench equivalent`: which versions of the code come to the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from poolbench.cli.options import PATH, RESULTS, Word, data_paths, trust, trusting
from poolbench.records.equivalence import COST, EPOCHS


@click.command
@click.argument("words", nargs=-1, type=Word(), metavar="[KEY=VALUE]...")
@click.option("--results", type=PATH, envvar=RESULTS, default="results", metavar="FOLDER", help="The results folder.")
@click.option("--plan", is_flag=True, help="Print what would be run again and about how long it takes, and stop.")
@click.option("--jobs", type=click.IntRange(min=1), default=1, metavar="N", help="Processes, 1 by default.")
@click.option("--cost", type=click.FloatRange(min=0, min_open=True), default=COST, metavar="SECONDS", show_default=True,
              help="What a witness may take.")  # fmt: skip
@click.option("--epochs", type=click.IntRange(min=0), default=EPOCHS, metavar="N", show_default=True,
              help="So many of the first are compared where there are digests; 0: all, and the end.")  # fmt: skip
@click.option("--close", is_flag=True, help="Also link versions that come merely close, which tables then show.")
@click.option("--old-code", is_flag=True, help="Run the old version here as well, from its commit.")
@trusting
def command(words: tuple[str, ...], results: Path, allow_large: bool, **asked: Any) -> int:
    """Run some records of other versions of the code again, and link the versions that come to the same.

    KEY=VALUE chooses records, as in poolbench report. Links are added to equivalence.jsonl in the results folder, group
    by group: a command that was stopped goes on when it is given again. Exit code 1 where a group is not linked.

    \b
    Examples:
      poolbench equivalent --plan
      poolbench equivalent --jobs 2
      poolbench equivalent pool=mincut,topk dataset=MUTAG --cost 20
    """
    from poolbench.audit.equivalence import equivalent
    from poolbench.cli.names import canonical

    asked["trust"] = trust(asked["trust"], allow_large)
    return equivalent(results, list(map(canonical, words)), paths=data_paths(), **asked)
