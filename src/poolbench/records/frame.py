"""Records as a pandas frame, for whoever has questions of their own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from poolbench.errors import PoolBenchError
from poolbench.loading import loading
from poolbench.records.changes import upgrade
from poolbench.records.gathered import gather
from poolbench.records.record import Record

if TYPE_CHECKING:
    import pandas as pd


def frame(folder: Path | str) -> pd.DataFrame:
    """The records of a results folder, gathered ones and those of its runs: a row a record, by id and attempt.

    Columns: `id`, `code` (version of the code), `attempt`, `status`, `reason`, `task`; the configuration by dotted name
    as it is written today, lists as tuples (`names.pool`, `names.dataset`, `pool.ratio`, `seed`); `splits.hash`;
    `selected_epoch`, counted from 1 as in `metrics.csv`; metrics at that epoch by part, as in W&B's summary
    (`val/loss`, `test/accuracy`); and the cost: `time/epoch`, `time/epoch_cpu`, `time/total` in seconds, `memory_peak`
    in bytes, `parameters`. What a record does not have is missing (NaN or None).

    Every record counts, those of failed runs, of earlier attempts and of every version of the code; forgotten ones do
    not. Which of them may be compared is for tables (`poolbench report`) to choose, and here for you.

    Raises:
        PoolBenchError: the folder holds no records, or pandas is not installed.
    """
    try:
        with loading():
            import pandas as pd
    except ImportError as error:
        raise PoolBenchError("records as a frame need the package pandas: pip install pandas") from error
    return pd.DataFrame([_row(record) for record in gather(Path(folder))])


def _row(record: Record) -> dict[str, Any]:
    epoch = record.selected_epoch
    config = {name: _hashable(value) for name, value in flatten(upgrade(record.config)).items()}
    return {
        "id": record.id,
        "code": record.code,
        "attempt": record.attempt,
        "status": record.status,
        "reason": record.reason,
        "task": record.task,
        **config,
        "splits.hash": record.splits.hash,
        "selected_epoch": None if epoch is None else epoch + 1,
        **{f"{part}/{name}": value for part, row in record.metrics.parts().items() for name, value in row.items()},
        **{f"time/{name}": getattr(record.time, name) for name in record.time.__struct_fields__},
        "memory_peak": record.memory_peak,
        "parameters": record.parameters,
    }


def _hashable(value: Any) -> Any:
    """A list as a tuple, which can be grouped by."""
    return tuple(_hashable(each) for each in value) if isinstance(value, list) else value


def flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """A nested mapping as {dotted name: value}."""
    if not isinstance(value, Mapping):
        return {prefix: value}
    return {
        name: leaf for k, v in value.items() for name, leaf in flatten(v, f"{prefix}.{k}" if prefix else str(k)).items()
    }
