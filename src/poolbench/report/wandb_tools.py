"""What users of W&B expect beside a logger: tables of a report, upload of offline runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from poolbench.disk import cannot_write
from poolbench.errors import PoolBenchError
from poolbench.records.forgotten import FOLDER as FORGOTTEN

if TYPE_CHECKING:
    from poolbench.report.report import Report

#: Seconds that a wait of W&B's may take where a report is written.
BUDGET = 30.0
#: So many uploads in a row fail for a reason that the next ones share.
GIVE_UP = 3
KEY = re.compile(r"\b(local-)?[0-9a-f]{40,}\b|\bwandb_v\d+_\w+")


# --------------------------------------------------------------------------------------------------------------- report


def log_report(report: Report, folder: Path) -> Path:
    """Keep the tables of a report as a W&B run of the job type `report`, offline; returns the folder of the run.

    Every table is a `wandb.Table` in full precision, named `<board>/<table>`. `poolbench sync` uploads the run.

    Args:
        folder: where the folder wandb/ is made.

    Raises `RunError` where it cannot be written.
    """
    from poolbench.learn import loggers
    from poolbench.report.tables import tables

    wandb = loggers._import_wandb()
    project = os.environ.get("WANDB_PROJECT", "poolbench")
    notes = " ".join(report.notes)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with wandb.init(project=project, job_type="report", name="report", notes=notes, mode="offline",
                        dir=folder.absolute(), settings=loggers._settings(wandb, BUDGET)) as run:  # fmt: skip
            made = {f"{one.board.slug}/{table.name}": table.records for one in report.evidence for table in tables(one)}
            run.log({name: _table(records) for name, records in made.items()})
            return Path(run.settings.sync_dir)
    except OSError as error:
        raise cannot_write(folder, error) from error


def _table(records: Sequence[Mapping[str, Any]]) -> Any:
    import wandb

    columns: list[Any] = list(dict.fromkeys(key for record in records for key in record))
    data = [[record.get(column) for column in columns] for record in records]
    return wandb.Table(columns=columns, data=data, allow_mixed_types=True)


# ----------------------------------------------------------------------------------------------------------------- sync


def offline_runs(folder: Path) -> list[Path]:
    """The folders of W&B runs below `folder` that are offline and were not uploaded, in the order of their making.

    Those of forgotten runs are left out.
    """
    aside = folder / FORGOTTEN
    found = (path for path in folder.rglob("offline-run-*") if path.is_dir() and not path.is_relative_to(aside))
    return sorted((path for path in found if not list(path.glob("*.wandb.synced"))), key=lambda path: path.name)


def sync(folder: Path, command: Sequence[str] = (sys.executable, "-m", "wandb", "sync")) -> Iterator[tuple[bool, str]]:
    """Upload the offline runs below a folder by wandb's own command: (whether it worked, a line) for each.

    Raises `PoolBenchError` where there are none.
    """
    if not folder.is_dir():
        raise PoolBenchError(f"{folder} is no folder")
    runs = offline_runs(folder)
    if not runs:
        raise PoolBenchError(f"{folder} holds no offline run that was not uploaded")
    failed = 0
    for number, run in enumerate(runs):
        done = subprocess.run(
            [*command, str(run)], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        failed = failed + 1 if done.returncode else 0
        yield not done.returncode, f"{run}: {'failed: ' * bool(done.returncode)}{_last(done.stdout + done.stderr)}"
        if failed == GIVE_UP and number + 1 < len(runs):
            yield False, f"{GIVE_UP} in a row failed; {len(runs) - number - 1} more are left as they are"
            return


def _last(text: str) -> str:
    """What wandb said last, without anything that looks like a key."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    if key := os.environ.get("WANDB_API_KEY"):
        text = text.replace(key, "***")
    lines = [line.removeprefix("wandb:").strip() for line in text.splitlines() if line.strip(" .\t")]
    return KEY.sub("***", lines[-1])[:300] if lines else "done"
