"""What is forgotten does not count, lies elsewhere, and can be brought back with its bytes, whenever that is killed."""

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
from poolbench.records import forgetting, gathered
from poolbench.records.attempts import begin_attempt, iter_records, lease, next_attempt, run_folder
from poolbench.records.forgetting import bring_back, forget
from poolbench.records.forgotten import MARKS, Forgotten
from poolbench.records.gathered import add, find_done, found_records, gather
from poolbench.records.record import Record, write_record

Maker = Callable[..., Record]


@pytest.fixture
def made(record: Maker, tmp_path: Path) -> list[Record]:
    """Three runs of one attempt each, with a file beside the record; the last one failed."""
    records = [record(0, 0.7), record(1, 0.8), record(2, None)]
    for one in records:
        folder = next_attempt(tmp_path, one.id)
        write_record(folder, one)
        (folder / "metrics.csv").write_text(f"epoch\n{one.id}\n")
    return records


def state(results: Path) -> dict[str, bytes]:
    """All files but locks."""
    found = (path for path in results.rglob("*") if path.is_file() and not path.name.endswith(".lock"))
    return {path.relative_to(results).as_posix(): path.read_bytes() for path in found}


def counting(results: Path) -> list[tuple[str, int]]:
    return [(record.id, record.attempt) for record in found_records(results)]


def done(results: Path, record: Record) -> bool:
    return find_done(results, record.setting, record.config, lambda record: True) is not None


# ------------------------------------------------------------------------------------------------------------- folders


def test_a_run_is_moved_with_all_that_it_left_and_comes_back_as_it_was(made: list[Record], tmp_path: Path) -> None:
    before, one = state(tmp_path), made[0]
    (said,) = forget(tmp_path, [one.id], reason="wrong\nrate", command="poolbench forget it")
    aside = tmp_path / "forgotten" / one.id / "1"
    assert said == f"run {one.id}, attempt 1: moved from {run_folder(tmp_path, one.id) / '1'} to {aside}"
    moved = {f"forgotten/{one.id}/1/{name}" for name in ("metrics.csv", "record.json")}
    after = state(tmp_path)
    assert set(after) == {MARKS} | moved | {name for name in before if one.id not in name}
    assert all(after[name] == before[name.replace("forgotten", "runs")] for name in moved)
    (mark,) = Forgotten.read(tmp_path).marks.values()
    assert (mark.id, mark.run, mark.code, mark.attempt) == (one.id, one.id, "abc", 1)
    assert (mark.reason, mark.command, mark.folder) == ("wrong rate", "poolbench forget it", "1")
    assert counting(tmp_path) == sorted((record.id, 1) for record in made[1:]) and not done(tmp_path, one)
    (said,) = bring_back(tmp_path, [one.id])
    assert said.endswith(f"to {run_folder(tmp_path, one.id) / '1'}, and counts again")
    after = state(tmp_path)
    assert len(after.pop(MARKS).splitlines()) == 2 and after == before and done(tmp_path, one)
    assert not Forgotten.read(tmp_path).marks and Forgotten.read(tmp_path).notes() == []


def test_several_at_once_by_the_beginnings_of_their_ids(made: list[Record], tmp_path: Path) -> None:
    forget(tmp_path, [made[0].id[:6], made[2].id, made[2].id[:8]])
    assert counting(tmp_path) == [(made[1].id, 1)]
    assert len((tmp_path / MARKS).read_bytes().splitlines()) == 2
    assert Forgotten.read(tmp_path).notes() == [f"Forgotten, and left out: 2 attempts at 2 runs ({MARKS})."]


def test_one_attempt_of_several(made: list[Record], tmp_path: Path) -> None:
    one = made[0]
    write_record(next_attempt(tmp_path, one.id), replace(one, attempt=2))
    forget(tmp_path, [one.id], attempt=2)
    assert (one.id, 1) in counting(tmp_path) and (one.id, 2) not in counting(tmp_path)
    with pytest.raises(PoolBenchError, match=f"run {one.id} has no attempt 3 there: give --attempt one of 1"):
        forget(tmp_path, [one.id], attempt=3)
    forget(tmp_path, [one.id], attempt=1)
    bring_back(tmp_path, [one.id], attempt=2)
    assert (one.id, 2) in counting(tmp_path) and (one.id, 1) not in counting(tmp_path)


def test_a_number_is_never_given_twice(made: list[Record], tmp_path: Path) -> None:
    """An attempt of the number of a forgotten one would be taken for that one."""
    one = made[0]
    forget(tmp_path, [one.id])
    last = gathered.attempts(tmp_path, one.id, one.config)
    assert last == 1 and begin_attempt(tmp_path, one.id, "abc", after=last).number == 2
    write_record(run_folder(tmp_path, one.id) / "2", replace(one, attempt=2))
    assert done(tmp_path, one)
    bring_back(tmp_path, [one.id])
    assert [number for id, number in counting(tmp_path) if id == one.id] == [1, 2]


def test_an_attempt_without_a_record_is_begun_anew(made: list[Record], tmp_path: Path) -> None:
    begun = begin_attempt(tmp_path, "a" * 16, "abc")
    (begun.folder / "resume.ckpt").write_bytes(b"weights")
    forget(tmp_path, ["a" * 16])
    assert (tmp_path / "forgotten" / ("a" * 16) / "1" / "resume.ckpt").read_bytes() == b"weights"
    last = gathered.attempts(tmp_path, "a" * 16, made[0].config)
    assert begin_attempt(tmp_path, "a" * 16, "abc", after=last).checkpoint is None


def test_nothing_is_written_over(made: list[Record], tmp_path: Path) -> None:
    one = made[0]
    other = tmp_path / "forgotten" / one.id / "1"
    other.mkdir(parents=True)
    (other / "record.json").write_text("somebody else's")
    forget(tmp_path, [one.id])
    assert (other / "record.json").read_text() == "somebody else's"
    assert (tmp_path / "forgotten" / one.id / "1-2" / "record.json").is_file()
    place = run_folder(tmp_path, one.id) / "1"
    place.mkdir(parents=True)
    before = state(tmp_path)
    with pytest.raises(PoolBenchError, match=f"{place} is there already, and so .*1-2 cannot go back"):
        bring_back(tmp_path, [one.id])
    assert state(tmp_path) == before
    place.rmdir()
    bring_back(tmp_path, [one.id])
    assert done(tmp_path, one)


# ------------------------------------------------------------------------------------------------------------ gathered


def test_a_gathered_record_stays_in_its_line_and_does_not_count(record: Maker, tmp_path: Path) -> None:
    one, other = record(0, 0.7), record(1, 0.8)
    (path,) = add([one, other], tmp_path)
    before = path.read_bytes()
    assert forget(tmp_path, [one.id]) == [f"run {one.id}, attempt 1: stays in {path}, and does not count"]
    assert counting(tmp_path) == [(other.id, 1)] and not done(tmp_path, one) and done(tmp_path, other)
    assert add([one], tmp_path) == [] and path.read_bytes() == before, "it is there, and is not added again"
    assert bring_back(tmp_path, [one.id]) == [f"run {one.id}, attempt 1: counts again, in {path}"]
    assert done(tmp_path, one) and path.read_bytes() == before
    assert not (tmp_path / "runs").exists() and not (tmp_path / "forgotten").exists()


def test_what_is_in_both_places_is_set_aside_in_both(made: list[Record], tmp_path: Path) -> None:
    add(gather(tmp_path), tmp_path)
    assert len(forget(tmp_path, [made[0].id])) == 2
    assert len(counting(tmp_path)) == 2 and not done(tmp_path, made[0])
    add(gather(tmp_path), tmp_path)
    bring_back(tmp_path, [made[0].id])
    assert len(counting(tmp_path)) == 3


def test_an_old_record_goes_by_its_id_and_by_its_run(record: Maker, tmp_path: Path) -> None:
    """Schema 1 had an id for each version of the code."""
    new = record(0, 0.7)
    old = [replace(new, schema=1, id=id * 16, digests=None, selected=None, provenance=replace(new.provenance, code=id))
           for id in "ab"]  # fmt: skip
    run = old[0].setting
    add(old, tmp_path)
    forget(tmp_path, ["a" * 16])
    assert counting(tmp_path) == [("b" * 16, 1)] and done(tmp_path, old[0])
    forget(tmp_path, [run])
    assert counting(tmp_path) == [] and not done(tmp_path, old[0])
    assert Forgotten.read(tmp_path).notes() == [f"Forgotten, and left out: 2 attempts at 1 run ({MARKS})."]
    with pytest.raises(PoolBenchError, match="holds no records but forgotten ones; poolbench forget --undo ID"):
        gather(tmp_path)
    bring_back(tmp_path, [run[:9]])
    assert len(counting(tmp_path)) == 2


# ------------------------------------------------------------------------------------------------ killed, held, refused


class Killed(BaseException):
    pass


def kill(*args: Any) -> None:
    raise Killed


@pytest.mark.parametrize("moved", [0, 1])
def test_killed_before_or_between_moves_all_are_forgotten_and_the_same_command_moves_the_rest(
    made: list[Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moved: int
) -> None:
    names, move, left = [record.id for record in made[:2]], forgetting._move, [moved]

    def dies(source: Path, target: Path) -> None:
        if not left[0]:
            raise Killed
        left[0] -= 1
        move(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(forgetting, "_move", dies)
        with pytest.raises(Killed):
            forget(tmp_path, names)
    assert len(list(tmp_path.glob("forgotten/*/1"))) == moved
    assert counting(tmp_path) == [(made[2].id, 1)] and len(list(iter_records(tmp_path))) == 1
    for record in made[:2]:
        assert not done(tmp_path, record)
        last = gathered.attempts(tmp_path, record.id, record.config)
        assert begin_attempt(tmp_path, record.id, "abc", after=last).number == 2
    forget(tmp_path, names[moved:], attempt=1)
    assert len(list(tmp_path.glob("forgotten/*/1"))) == 2 and len(Forgotten.read(tmp_path).marks) == 2
    bring_back(tmp_path, names)
    assert len(counting(tmp_path)) == 3


def test_killed_before_it_is_noted_nothing_has_happened(
    made: list[Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = state(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", kill)
        with pytest.raises(Killed):
            forget(tmp_path, [made[0].id])
    assert state(tmp_path) == before and len(counting(tmp_path)) == 3


def test_killed_on_the_way_back_it_is_forgotten_until_the_command_is_given_again(
    made: list[Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget(tmp_path, [made[0].id])
    with monkeypatch.context() as patch:
        patch.setattr(forgetting, "append", kill)
        with pytest.raises(Killed):
            bring_back(tmp_path, [made[0].id])
    assert (run_folder(tmp_path, made[0].id) / "1").is_dir() and not done(tmp_path, made[0])
    bring_back(tmp_path, [made[0].id])
    assert done(tmp_path, made[0])


def test_a_run_that_is_being_done_is_left_alone(made: list[Record], tmp_path: Path) -> None:
    before = state(tmp_path)
    with lease(tmp_path, made[1].id), pytest.raises(PoolBenchError, match=f"run {made[1].id} is being done by another"):
        forget(tmp_path, [made[0].id, made[1].id])
    assert state(tmp_path) == before, "the other one neither"
    forget(tmp_path, [made[1].id])
    with lease(tmp_path, made[1].id), pytest.raises(PoolBenchError, match="being done by another"):
        bring_back(tmp_path, [made[1].id])


def test_of_two_who_forget_at_once_one_does(made: list[Record], tmp_path: Path) -> None:
    def one(number: int) -> str:
        try:
            return forget(tmp_path, [made[0].id, made[number].id])[-1]
        except PoolBenchError as error:
            return str(error)

    with ThreadPoolExecutor(2) as pool:
        said = sorted(pool.map(one, (1, 2)), key=lambda text: "was forgotten on" in text)
    assert f"run {made[0].id} was forgotten on" in said[1] and "moved from" in said[0]
    assert len((tmp_path / MARKS).read_bytes().splitlines()) == 2


def test_a_folder_that_cannot_be_moved_stays_and_does_not_count(
    made: list[Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as where forgotten/ is a link to another disk."""

    def another_disk(self: Path, target: Path) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", another_disk)
        with pytest.raises(RunError, match=r"cannot move .*: invalid cross-device link; .*forgotten\.jsonl"):
            forget(tmp_path, [made[0].id])
    assert (run_folder(tmp_path, made[0].id) / "1" / "record.json").is_file() and not done(tmp_path, made[0])
    assert "moved from" in forget(tmp_path, [made[0].id])[0]


def test_what_cannot_be_meant_is_refused_in_one_line_and_changes_nothing(made: list[Record], tmp_path: Path) -> None:
    for id in ("dddd" + 12 * "0", "dddd" + 12 * "1"):
        next_attempt(tmp_path, id)
    one = made[0].id
    wrong = one[:-1] + ("0" if one[-1] != "0" else "1")
    before = state(tmp_path)
    for name, said in (
        (wrong, rf"holds no run {wrong} \(did you mean {one}\?\); give its id, or the beginning of it"),
        ("dddd", r"dddd is the beginning of 2 runs \(dddd000000000000, dddd111111111111\): give more of it"),
        ("", "holds no run"),
        ("../runs", "holds no run"),
    ):
        with pytest.raises(PoolBenchError, match=said) as raised:
            forget(tmp_path, [one, name])
        assert raised.value.exit_code == 2 and "\n" not in str(raised.value)
    with pytest.raises(PoolBenchError, match=f"has forgotten no run {one}"):
        bring_back(tmp_path, [one])
    assert state(tmp_path) == before
    forget(tmp_path, [one], reason="too few epochs")
    with pytest.raises(PoolBenchError, match=rf"was forgotten on .* \(too few epochs\): poolbench forget --undo {one}"):
        forget(tmp_path, [one])
    with pytest.raises(PoolBenchError, match=r"there is no results folder .*nowhere"):
        forget(tmp_path / "nowhere", [one])


# ------------------------------------------------------------------------------------------------------------ its lines


@pytest.mark.parametrize(
    "field", [{"id": "../../x"}, {"folder": "../../1"}, {"attempt": 0}, {"more": 1}, {"run": None}]
)
def test_a_line_that_is_no_mark_is_named_and_left_out(
    made: list[Record], tmp_path: Path, field: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    forget(tmp_path, [made[0].id])
    path = tmp_path / MARKS
    (mark,) = Forgotten.read(tmp_path).marks.values()
    bad = {name: getattr(mark, name) for name in mark.__struct_fields__} | field
    good = path.read_bytes()
    path.write_bytes(gathered.msgspec.json.encode(bad) + b"\n" + good + b"\xff{\n" + good.rstrip(b"\n"))
    found = Forgotten.read(tmp_path)
    assert list(found.marks) == [mark.key]
    assert [said.partition(": not a forgotten attempt (")[0] for said in found.broken] == [
        f"{path}, line 1", f"{path}, line 3"]  # fmt: skip
    assert f"{found.broken[0]}: it is left out" in caplog.messages
    forget(tmp_path, [made[1].id])
    assert len(Forgotten.read(tmp_path).marks) == 2, "a last line without its end is ended first"


def test_a_line_that_is_no_mark_costs_one_warning_a_process(
    made: list[Record], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    forget(tmp_path, [made[0].id])
    with (tmp_path / MARKS).open("a") as file:
        file.write('{"id": 1}\n')
    for _ in range(3):
        assert len(Forgotten.read(tmp_path).broken) == 1
        assert {record.id for record in found_records(tmp_path)} == {record.id for record in made[1:]}
    assert caplog.text.count("line 2: not a forgotten attempt") == 1
