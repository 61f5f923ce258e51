"""The table of records: means and intervals worked out by hand, failures in sight, nothing mixed that differs."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from poolbench import cli
from poolbench.bench.record import make_record, write_record
from poolbench.bench.report import gather, summarise, table, write_gathered
from poolbench.errors import PoolBenchError


def record(seed: int, accuracy: float | None, pool: str = "mincut", attempt: int = 1, **config: Any) -> dict[str, Any]:
    """A record as a run leaves it; an accuracy of None is a run that failed."""
    return make_record(
        id=f"{pool}-{seed}-{sorted(config.items())}",
        attempt=attempt,
        status="failed" if accuracy is None else "done",
        reason="diverged" if accuracy is None else None,
        config={
            "names": {"pool": pool, "dataset": "MUTAG", "model": "hierarchical", "protocol": "holdout"},
            "dataset": {"name": "MUTAG"},
            "seed": seed,
            "split": {"seed": seed},
            "paths": {"results": "/somewhere/private"},
            **config,
        },
        splits={"train": 80, "val": 10, "test": 10},
        metrics={} if accuracy is None else {"test": {"accuracy": accuracy}},
        provenance={"code": "abc"},
    )


def test_the_interval_is_that_of_nadeau_and_bengio() -> None:
    mean, half = summarise([0.7, 0.8, 0.9], 10 / 80)
    assert mean == pytest.approx(0.8)
    # variance 0.01, t(0.975, 2) = 4.302653
    assert half == pytest.approx(4.302653 * math.sqrt((1 / 3 + 1 / 8) * 0.01), rel=1e-6)
    assert summarise([0.5], 0.1) == (0.5, None)


def test_failed_runs_stand_in_the_table_and_in_no_mean() -> None:
    text = table([record(0, 0.7), record(1, 0.9), record(2, None), record(0, None, pool="topk")])
    assert "0.800 ± " in text and "(n = 2; 1 failed)" in text
    assert "| topk | 1 failed |" in text


def test_what_differs_in_more_than_seeds_is_not_mixed() -> None:
    text = table([record(0, 0.7), record(1, 0.9), record(0, 0.1, batch_size=64)])
    assert text.count("| mincut (setting ") == 2 and "0.100 (n = 1)" in text and "0.800 ± " in text
    other = dict(record(5, 0.2), provenance={"code": "another"})
    assert table([record(0, 0.7), other]).count("| mincut (setting ") == 2


def test_the_latest_attempt_counts() -> None:
    assert "0.900 (n = 1)" in table([record(0, 0.9, attempt=2), record(0, 0.1)])


def test_records_are_gathered_without_the_places_of_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in (0, 1):
        folder = tmp_path / "runs" / f"r{seed}" / "1"
        folder.mkdir(parents=True)
        write_record(folder, record(seed, 0.8))
    assert cli.main(["report", str(tmp_path), "--gather"]) == 0
    assert "0.800 ± 0.000 (n = 2)" in capsys.readouterr().out
    lines = (tmp_path / "records.jsonl").read_text().splitlines()
    assert len(lines) == 2 and "private" not in "".join(lines)
    (tmp_path / "runs" / "r0" / "1" / "record.json").unlink()
    assert len(gather(tmp_path)) == 2, "what was gathered stays"
    write_gathered([json.loads(lines[0])], tmp_path / "records.jsonl")
    assert len((tmp_path / "records.jsonl").read_text().splitlines()) == 1


def test_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(PoolBenchError, match="holds no records"):
        gather(tmp_path)
    (tmp_path / "records.jsonl").write_text("{not json\n")
    assert cli.main(["report", str(tmp_path)]) == 2
    assert "line 1" in capsys.readouterr().err
    assert cli.main(["report", "--all"]) == 2
