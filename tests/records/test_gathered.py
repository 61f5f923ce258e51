"""Gathered records: one place for each, lines only added, and a done run found without its folder."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from poolbench.errors import PoolBenchError, RunError
from poolbench.records import gathered
from poolbench.records.attempts import begin_attempt, next_attempt, run_folder
from poolbench.records.gathered import add, files, find_done, found_records, gather, home, key, places, read
from poolbench.records.record import Record, encode, lean, write_record

Maker = Callable[..., Record]


def shown(results: Path) -> dict[str, list[str]]:
    """The ids of the records in each file."""
    return {path.relative_to(results).as_posix(): [r.id for r in read(path)] for path in files(results)}


def test_each_record_has_one_place_by_dataset_and_protocol(record: Maker, tmp_path: Path) -> None:
    made = [record(0, 0.7), record(1, 0.7), record(0, 0.7, dataset="NCI1"), record(0, 0.7, protocol="cv10", fold=0)]
    written = add(made, tmp_path)
    assert shown(tmp_path) == {
        "records/MUTAG/cv10.jsonl": [made[3].id],
        "records/MUTAG/holdout.jsonl": sorted([made[0].id, made[1].id]),
        "records/NCI1/holdout.jsonl": [made[2].id],
    }
    assert written == files(tmp_path)
    assert places(tmp_path)[key(made[2])] == (tmp_path / "records/NCI1/holdout.jsonl", 1)
    assert found_records(tmp_path) == sorted(map(lean, made), key=key)


def test_lines_are_only_added_and_no_record_twice(record: Maker, tmp_path: Path) -> None:
    first, second = record(0, 0.7), record(1, 0.8)
    add([second], tmp_path)
    (path,) = files(tmp_path)
    before = path.read_bytes()
    add([first, second, replace(first, attempt=2)], tmp_path)
    assert path.read_bytes().startswith(before) and len(path.read_bytes().splitlines()) == 3
    assert add([first, second], tmp_path) == []
    other = record(0, 0.9, code="other")
    add([other], tmp_path)
    assert [r.code for r in found_records(tmp_path) if r.id == first.id and r.attempt == 1] == ["abc", "other"], (
        "the same run by another version of the code is another record"
    )


def test_a_full_file_is_gone_on_with_in_another_one(
    record: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = sorted((record(seed, 0.7) for seed in range(5)), key=key)
    size = len(encode(lean(made[0]))) + 1
    monkeypatch.setattr(gathered, "FULL", int(2.5 * size))
    add(made[:1], tmp_path)
    add(made[1:], tmp_path)
    assert shown(tmp_path) == {
        "records/MUTAG/holdout-2.jsonl": [made[2].id, made[3].id],
        "records/MUTAG/holdout-3.jsonl": [made[4].id],
        "records/MUTAG/holdout.jsonl": [made[0].id, made[1].id],
    }
    assert add(made, tmp_path) == [] and found_records(tmp_path) == list(map(lean, made))
    assert places(tmp_path)[key(made[4])].path.name == "holdout-3.jsonl"


@pytest.mark.parametrize("name", ["../../evil", "a/b", ".hidden", "", None, "x\x00y"])
def test_a_name_is_no_path(record: Maker, tmp_path: Path, name: Any) -> None:
    made = record(0, 0.7)
    made.config["dataset"] = {"name": name}
    made.config["names"] = {**made.config["names"], "dataset": name}
    (path,) = add([made], tmp_path / "results")
    assert path.parent.parent == tmp_path / "results" / "records" and path.parent.name == home(made.config)[0]


BAD_LINES = [b"{}", b"null", b"[1]", b"\xff\xfe", b"{\"id\": 1" + b"0" * 400 + b"}", b"{\"schema\": 2, ", b"\x1b[31m",
             b"[" * 100_000]  # fmt: skip


@pytest.mark.parametrize("line", BAD_LINES)
def test_a_line_that_is_no_record_is_named_and_left_out(
    record: Maker, tmp_path: Path, line: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (path,) = add([record(0, 0.7)], tmp_path)
    good = path.read_bytes()
    path.write_bytes(b"\n" + line + b"\n\n" + good)
    broken: list[str] = []
    (found,) = found_records(tmp_path, broken=broken)
    assert found.id == record(0, 0.7).id and list(places(tmp_path).values()) == [(path, 4)]
    (said,) = broken
    assert said.startswith(f"{path}, line 2: not a record (") and said.isprintable()
    assert f"{said}: it is left out" in caplog.messages
    add([record(1, 0.7)], tmp_path)
    assert line in path.read_bytes() and len(found_records(tmp_path)) == 2, "nothing is taken out"


def test_a_last_line_that_was_cut_off_is_left_out(record: Maker, tmp_path: Path) -> None:
    (path,) = add([record(0, 0.7), record(1, 0.7)], tmp_path)
    path.write_bytes(path.read_bytes()[:-100])
    assert len(found_records(tmp_path)) == 1
    add([record(0, 0.7), record(1, 0.7)], tmp_path)
    assert len(found_records(tmp_path)) == 2


def test_only_lines_that_are_none_are_no_records(tmp_path: Path) -> None:
    path = tmp_path / "records" / "MUTAG" / "holdout.jsonl"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"null\n")
    with pytest.raises(PoolBenchError, match=r"no records that can be read: .*line 1: not a record"):
        gather(tmp_path)


def test_a_full_disk_loses_nothing(record: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (path,) = add([record(0, 0.7)], tmp_path)
    before = path.read_bytes()

    def full(*args: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match="no space left"):
        add([record(1, 0.7)], tmp_path)
    assert path.read_bytes() == before and list(path.parent.iterdir()) == [path]


# ------------------------------------------------------------------------------------------------------- what is done


def any_code(record: Record) -> bool:
    return True


def test_the_latest_that_is_done_is_found_in_its_folder(record: Maker, tmp_path: Path) -> None:
    made = record(0, 0.7)
    assert find_done(tmp_path, made.id, made.config, any_code) is None
    for status in ("done", "failed", "done", "pruned"):
        one = replace(made, status=status, reason=None if status == "done" else "why")
        write_record(next_attempt(tmp_path, made.id), one)
    next_attempt(tmp_path, made.id)
    found = find_done(tmp_path, made.id, made.config, any_code)
    assert found is not None and found.path == run_folder(tmp_path, made.id) / "3" / "record.json"
    assert find_done(tmp_path, "f" * 16, made.config, any_code) is None


def test_a_record_whose_code_does_not_count_is_none(record: Maker, tmp_path: Path) -> None:
    made = record(0, 0.7)
    write_record(next_attempt(tmp_path, made.id), made)
    write_record(next_attempt(tmp_path, made.id), replace(record(0, 0.1, code="other"), attempt=2))
    found = find_done(tmp_path, made.id, made.config, lambda record: record.code == "abc")
    assert found is not None and found.record.metrics == made.metrics
    assert find_done(tmp_path, made.id, made.config, lambda record: False) is None


def test_a_gathered_record_is_found_by_its_setting(record: Maker, tmp_path: Path) -> None:
    """Of schema 2 by its id, of schema 1 by what its configuration makes."""
    made = [record(seed, 0.7) for seed in range(3)]
    old = replace(made[1], schema=1, id="0" * 16, digests=None, selected=None)
    add([made[0], old, replace(made[2], status="failed", reason="why")], tmp_path)
    for id, config, known in (
        (made[0].id, made[0].config, made[0]), (old.setting, old.config, old), (made[2].id, made[2].config, None),
        (old.id, old.config, None),
    ):  # fmt: skip
        found = find_done(tmp_path, id, config, any_code)
        assert (found and found.record.id) == (known and known.id)
    assert find_done(tmp_path, made[0].id, made[0].config, lambda record: False) is None


def test_attempts_are_numbered_on_from_those_that_are_gathered(record: Maker, tmp_path: Path) -> None:
    made = record(0, 0.7, attempt=2)
    add([made], tmp_path)
    last = gathered.attempts(tmp_path, made.id, made.config)
    assert last == 2 and gathered.attempts(tmp_path, "0" * 16, made.config) == 0
    assert begin_attempt(tmp_path, made.id, "abc", after=last).number == 3
    assert begin_attempt(tmp_path, made.id, "other", after=last).number == 4, "unfinished, and of other code"


def test_a_last_line_without_its_end_is_ended_first(record: Maker, tmp_path: Path) -> None:
    (path,) = add([record(0, 0.7)], tmp_path)
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    add([record(1, 0.7)], tmp_path)
    assert [made.seeds.seed for made in read(path)] == [0, 1]


def test_two_who_add_at_once_lose_nothing(record: Maker, tmp_path: Path) -> None:
    made = [record(seed, 0.7) for seed in range(16)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda some: add(some, tmp_path), [made[i::4] for i in range(4)]))
    assert len(found_records(tmp_path)) == 16
