"""Records say what became of a run, are whole or not there, and are never edited; those of schema 1 are read."""

from __future__ import annotations

import errno
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from poolbench import disk
from poolbench.errors import RunError
from poolbench.records.record import SCHEMA, Known, Record, decode, encode, lean, read_record, write_record

Maker = Callable[..., Record]
SHIPPED = Path(__file__).parents[2] / "results/records"


def files(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


@pytest.fixture
def old(record: Maker) -> dict[str, Any]:
    """A record of schema 1, as JSON has it."""
    made = json.loads(encode(record(0, 0.75)))
    return {k: v for k, v in made.items() if k not in ("outcomes", "digests", "selected")} | {"schema": 1}


# --------------------------------------------------------------------------------------------------------- the record


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"status": "finished"}, "finished"),
        ({"status": "failed", "reason": None}, "failed"),
        ({"status": "pruned", "reason": ""}, "pruned"),
        ({"id": "ABC"}, "id"),
        ({"attempt": 0}, "attempt"),
        ({"schema": 99}, "99"),
    ],
)
def test_what_is_no_record_is_not_written(tmp_path: Path, record: Maker, wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        write_record(tmp_path, replace(record(0, 0.75), **wrong))
    assert "\n" not in str(caught.value) and files(tmp_path) == []


def test_what_is_written_is_read(tmp_path: Path, record: Maker) -> None:
    torch = pytest.importorskip("torch")
    made = replace(
        record(0, 0.75),
        config={"note": "NaN", "lr": 1e-3, "sizes": (1, 2), "path": Path("x")},
        curve=[{"epoch": 0, "val/loss": math.nan}, {"epoch": 1, "val/loss": -math.inf}],
        diagnostics={"sizes": torch.tensor([1, 2])},
    )
    made.metrics.val = {"loss": math.inf, "accuracy": torch.tensor(0.5)}
    path = write_record(tmp_path, made)
    assert path == tmp_path / "record.json"
    json.loads(path.read_text(), parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    found = read_record(path)
    assert found.metrics.val == {"loss": math.inf, "accuracy": 0.5}
    assert math.isnan(found.curve[0]["val/loss"])
    assert found.curve[1] == {"epoch": 1, "val/loss": -math.inf}
    assert found.config == {"note": "NaN", "lr": 1e-3, "sizes": [1, 2], "path": "x"}, "words stay words there"
    assert found.diagnostics == {"sizes": [1, 2]}
    assert (found.schema, found.digests, found.selected) == (SCHEMA, made.digests, made.selected)
    assert read_record(path) == decode(encode(found))


def test_a_record_of_schema_1_reads_as_it_is(old: dict[str, Any]) -> None:
    old["metrics"]["test"]["loss"] = "NaN"
    old["splits"]["unused"] = [3, 4]
    found = decode(json.dumps(old))
    assert (found.schema, found.id, found.attempt, found.code) == (1, old["id"], 1, "abc")
    assert found.done and found.metrics.test["accuracy"] == 0.75 and math.isnan(found.metrics.test["loss"])
    assert found.outcomes is None and found.digests is None and found.selected is None
    assert json.loads(encode(found)) == old, "and is written as it was"


def test_the_setting_of_a_record_of_schema_1_is_the_id_of_a_new_one(old: dict[str, Any], record: Maker) -> None:
    assert decode(json.dumps(old)).setting != old["id"]
    new = record(0, 0.75)
    assert new.setting == new.id
    old["provenance"]["code"] = "another"
    first = decode(json.dumps(old))
    old["config"]["seed"] = 1
    assert decode(json.dumps(old)).setting != first.setting
    assert decode(json.dumps({**old, "config": first.config})).setting == first.setting, "whatever the code"


def test_what_is_committed_names_no_place_and_has_no_curve(record: Maker) -> None:
    made = record(0, 0.75)
    kept = lean(made)
    assert kept.curve == [] and "private" not in encode(kept).decode()
    assert (kept.digests, kept.selected, kept.metrics) == (made.digests, made.selected, made.metrics)
    assert made.curve and "paths" in made.config, "the record itself stays as it is"


# ------------------------------------------------------------------------------------------------------------ the file


def test_a_record_is_never_edited(tmp_path: Path, record: Maker) -> None:
    path = write_record(tmp_path, record(0, 0.75))
    before = path.read_bytes()
    with pytest.raises(RunError, match="force=true"):
        write_record(tmp_path, record(0, None))
    assert path.read_bytes() == before
    assert files(tmp_path) == ["record.json"]


def test_of_two_writers_one_wins(tmp_path: Path, record: Maker) -> None:
    def write(number: int) -> bool:
        try:
            write_record(tmp_path, replace(record(0, 0.75), parameters=number))
        except RunError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(write, range(32))) == 1
    assert files(tmp_path) == ["record.json"]
    read_record(tmp_path / "record.json")


@pytest.mark.parametrize("step", ["fsync", "link"])
def test_a_full_disk_leaves_nothing(tmp_path: Path, record: Maker, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    def full(*args: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, step, full)
    with pytest.raises(RunError, match="no space left") as caught:
        write_record(tmp_path, record(0, 0.75))
    assert str(tmp_path / "record.json") in str(caught.value)
    assert "paths.results=" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert files(tmp_path) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_disk_that_is_full_while_writing(tmp_path: Path, record: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    real = open
    monkeypatch.setattr(
        disk, "open", lambda path, mode: real(path, mode).close() or real("/dev/full", "wb"), raising=False
    )
    with pytest.raises(RunError, match="no space left"):
        write_record(tmp_path, record(0, 0.75))
    assert files(tmp_path) == []


def test_a_file_system_without_links(tmp_path: Path, record: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)
    read_record(write_record(tmp_path, record(0, 0.75)))
    assert files(tmp_path) == ["record.json"]
    with pytest.raises(RunError, match="force=true"):
        write_record(tmp_path, record(0, 0.75))


WRITER = """
import sys
from pathlib import Path
from msgspec.structs import replace
from poolbench.records.record import decode, write_record
folder = Path(sys.argv[1])
made = replace(decode(sys.stdin.read()), curve=[{"loss": i / 7} for i in range(3000)])
print("ready", flush=True)
for number in range(10**6):
    (folder / str(number)).mkdir()
    write_record(folder / str(number), made)
"""


def test_a_kill_while_writing_leaves_a_whole_record_or_none(tmp_path: Path, record: Maker) -> None:
    written = missing = 0
    for moment in range(4):
        folder = tmp_path / str(moment)
        folder.mkdir()
        job = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert job.stdin and job.stdout
        job.stdin.write(encode(record(0, 0.75)))
        job.stdin.close()
        job.stdout.readline()
        time.sleep(0.2 + 0.013 * moment)
        job.kill()
        job.wait()
        job.stdout.close()
        for attempt in folder.iterdir():
            if (attempt / "record.json").exists():
                assert len(read_record(attempt / "record.json").curve) == 3000
                written += 1
            else:
                missing += 1
            disk.remove_temporaries(attempt)
            assert files(attempt) in ([], ["record.json"])
    assert written
    assert missing <= 4, "only the last one of each process can be missing"


def test_what_cannot_be_read_is_one_line(tmp_path: Path, old: dict[str, Any]) -> None:
    path = tmp_path / "record.json"
    for text, said in ((json.dumps({**old, "schema": 99}), "99"), ("[" * 10**6, "record.json"), ("\x00", "malformed")):
        path.write_text(text)
        with pytest.raises(RunError, match=said) as caught:
            read_record(path)
        assert "\n" not in str(caught.value)
    with pytest.raises(RunError, match="No such file"):
        read_record(tmp_path / "nowhere.json")


def test_records_that_differ_in_seeds_alone_are_alike(record: Callable[..., Record]) -> None:
    one, other = record(0, 0.7), record(1, 0.8, fold=3)
    assert one.alike == other.alike != record(0, 0.7, "topk").alike != record(0, 0.7, batch_size=64).alike
    for seed, made in enumerate(drawn := [record(0, 0.7), record(1, 0.7)]):
        made.config["dataset"] = {"name": "csbm", "mu": 0.4, "seed": seed}
    assert drawn[0].alike == drawn[1].alike


def said_of(text: bytes, known: Known | None) -> str:
    try:
        decode(text, known)
    except ValueError as error:
        return str(error)
    return ""


def test_records_that_share_parts_are_what_each_is_alone() -> None:
    known, read = Known(), 0
    for path in sorted(SHIPPED.glob("*/*.jsonl")):
        for line in path.read_bytes().splitlines()[:20]:
            alone, shared = decode(line), decode(line, known)
            assert shared == alone and encode(shared) == encode(alone)
            read += 1
    assert read > 100
    first, second = (decode(encode(alone), known) for _ in range(2))
    assert first.config["model"] is second.config["model"] and first.provenance is second.provenance
    assert first.alike == second.alike


@pytest.mark.parametrize(
    "wrong",
    [
        {"config": []},
        {"config": {"model": 5}},
        {"config": {"seed": {"a": 1}}},
        {"config": {"dataset": 5}},
        {"config": {"lr": int("1" * 400)}},
        {"config": {"deep": json.loads("[" * 300 + "]" * 300)}},
        {"diagnostics": None},
        {"diagnostics": {"metric": 3}},
        {"diagnostics": {"sizes": json.loads("[" * 300 + "]" * 300)}},
        {"provenance": 1},
        {"provenance": {"git": None}},
        {"status": "lost"},
        {"no_such_field": 1},
        {"metrics": {"train": {}, "val": {}, "test": {"accuracy": "much"}}},
    ],
)
def test_what_is_wrong_is_said_alike(record: Maker, wrong: dict[str, Any]) -> None:
    sound = json.loads(encode(record(0, 0.7)))
    text, known = json.dumps({**sound, **wrong}).encode(), Known()
    assert said_of(text, None)
    decode(encode(record(0, 0.7)), known)
    assert said_of(text, known) == said_of(text, known) == said_of(text, None)


def test_one_text_in_two_places_is_looked_at_in_both(record: Maker) -> None:
    sound, known = json.loads(encode(record(0, 0.7))), Known()
    decode(json.dumps({**sound, "config": {"seed": 5, "copied": sound["provenance"]}}).encode(), known)
    again = json.dumps({**sound, "config": {"seed": 5, "model": 5}}).encode()
    assert said_of(again, known) == said_of(again, None) != ""
    copied = decode(json.dumps({**sound, "config": {"copied": sound["provenance"]}}).encode(), known)
    assert isinstance(copied.config["copied"], dict)


@pytest.mark.parametrize("cut", [b"{", b'"config": {"a": tru}', b'"config": {"a": "\xff"}'])
def test_what_is_cut_off_in_a_part_is_said_alike(record: Maker, cut: bytes) -> None:
    text = encode(record(0, 0.7)).replace(b'"config":{', cut + b',"x":{', 1)
    assert said_of(text, Known()) == said_of(text, None) != ""
