"""`poolbench forget`: failed and mistaken runs set aside."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click

from poolbench.cli.options import results


@click.command
@click.argument("words", nargs=-1, required=True, metavar="ID... [FOLDER]")
@click.option("--attempt", type=click.IntRange(min=1), metavar="N", help="This attempt alone; else all of a run.")
@click.option("--reason", metavar="TEXT", help="Why; it is noted.")
@click.option("--undo", is_flag=True, help="Bring back what was forgotten: it counts again.")
def command(words: tuple[str, ...], attempt: int | None, reason: str | None, undo: bool) -> None:
    """Set the runs with these IDs aside: no table counts them, and they are done again when they are asked for.

    Nothing is deleted. In the results folder FOLDER folders are moved from runs/ to forgotten/, gathered records stay
    in their lines, and forgotten.jsonl says what does not count, since when and why. The beginning of an ID will do.

    \b
    Examples:
      poolbench forget 0123456789abcdef --reason "the learning rate was wrong"
      poolbench forget 0123456789abcdef --attempt 1
      poolbench forget --undo 0123456789abcdef
    """
    others = [word for word in words if not re.fullmatch("[0-9a-f]{1,16}", word)]
    folders = [word for word in others if "/" in word or Path(word).is_dir()]
    names = [word for word in words if word not in folders]
    if len(folders) > 1 or not names:
        raise click.UsageError("give the IDs of runs, and at most one results folder")
    if undo and reason:
        raise click.UsageError("--reason says why runs are forgotten: leave it out with --undo")
    from poolbench.records import forgetting

    folder = Path(folders[0]) if folders else results()
    numbered = ["--attempt", str(attempt)] if attempt else []
    undone = ["poolbench", "forget", "--undo", *names, *numbered]
    if undo:
        print("\n".join(forgetting.bring_back(folder, names, attempt, shlex.join(undone))))
        return
    done = ["poolbench", "forget", *names, *numbered]
    print("\n".join(forgetting.forget(folder, names, attempt, reason, shlex.join(done))))
    print(f"nothing was deleted; to bring back: {shlex.join([*undone, *folders])}")
