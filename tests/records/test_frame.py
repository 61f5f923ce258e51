"""Records as a frame: what its rows and columns are."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from poolbench.errors import PoolBenchError
from poolbench.records import gathered
from poolbench.records.frame import frame
from poolbench.records.record import Record

Maker = Callable[..., Record]


def test_a_row_a_record_with_configuration_metrics_and_cost(tmp_path: Path, record: Maker) -> None:
    records = [record(0, 0.5, "topk"), record(1, 0.6, "topk"), record(0, None, "diffpool", fold=3)]
    records[2].config["pool"] = {"k": [14, 7]}
    gathered.add(records, tmp_path)

    found = frame(str(tmp_path)).set_index("id").loc[[each.id for each in records]]
    assert list(found["names.pool"]) == ["topk", "topk", "diffpool"] and list(found["seed"]) == [0, 1, 0]
    assert list(found["status"]) == ["done", "done", "failed"] and found["reason"].iloc[2] == records[2].reason
    assert list(found["test/accuracy"].iloc[:2]) == [0.5, 0.6] and found["test/accuracy"].isna().iloc[2]
    assert found["pool.k"].iloc[2] == (14, 7)
    first = found.iloc[0]
    assert first["selected_epoch"] == 4, "from 1, as the curve's file counts"
    assert tuple(first[["time/total", "memory_peak", "parameters"]]) == (1.0, 100_000_000, 1234)
    assert first["splits.hash"] == records[0].splits.hash and first["code"] == records[0].code
    assert not any(name.startswith("paths") for name in found)


def test_a_configuration_is_as_it_is_written_today(tmp_path: Path, record: Maker) -> None:
    old = record(0, 0.5)
    old.config["callbacks"] = {}
    gathered.add([old], tmp_path)
    assert frame(tmp_path)["callbacks.tolerance"].tolist() == [0.0]


def test_what_cannot_be_framed_is_refused(tmp_path: Path, record: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PoolBenchError, match="holds no records"):
        frame(tmp_path / "nothing")
    gathered.add([record(0, 0.5)], tmp_path)
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(PoolBenchError, match="pip install pandas"):
        frame(tmp_path)
