"""`poolbench verify`: a sound record passes, and each way of being unsound is found in one line."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from poolbench import cli
from poolbench.audit.verify import identity, verify, wrong
from poolbench.records.record import iter_records

Record = dict[str, Any]
QUICK = ["dataset=planted", "dataset.num_graphs=40", "trainer.max_epochs=2", "model.hidden=8", "logger=none",
         "callbacks.progress=none"]  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A results folder with two runs of topk."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POOLBENCH_RESULTS", str(folder))
        patch.setenv("POOLBENCH_DATA", str(folder / "cache"))
        for seed in (0, 1):
            assert cli.train(["pool=topk", *QUICK, f"seed={seed}"]) == 0
        yield folder


@pytest.fixture
def records(made: Path) -> list[Record]:
    return [copy.deepcopy(record) for _, record in iter_records(made)]


def written(path: Path, records: list[Record]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_what_runs_leave_is_sound(made: Path, records: list[Record], tmp_path: Path) -> None:
    assert verify(made).errors == [] and verify(made).count == 2
    assert [identity(record) for record in records] == [record["id"] for record in records]
    assert verify(written(tmp_path / "records.jsonl", records)).errors == []
    one = next(made.glob("runs/*/1/record.json"))
    assert verify(one).count == 1 and verify(one).errors == []
    assert verify(made, splits=True, paths={"data": str(made / "cache"), "mirror": None}).errors == []


def changed(key: str, value: Any) -> Callable[[Record], None]:
    """Puts a value at a dotted key."""

    def change(record: Record) -> None:
        *path, last = key.split(".")
        for name in path:
            record = record[name]
        record[last] = value

    return change


UNSOUND = {
    "another rate": (changed("config.optimizer.lr", 0.5), "does not follow from its configuration"),
    "another seed": (changed("config.seed", 7), "does not follow from its configuration"),
    "another split": (changed("splits.hash", "0" * 64), "splits.hash and provenance.split differ"),
    "another dataset": (changed("splits.dataset", "0" * 64), "the split is of another dataset"),
    "better accuracy": (changed("metrics.test.accuracy", 0.99), "is no share of 4 graphs"),
    "accuracy over 1": (changed("metrics.test.accuracy", 1.25), "is no share of 4 graphs"),
    "NaN": (changed("metrics.test.loss", math.nan), "metrics.test.loss is nan"),
    "text": (changed("metrics.test.loss", "low"), "metrics.test.loss is low"),
    "no test": (changed("metrics.test", {}), "has no test metrics"),
    "tested trial": (changed("config.evaluate_test", False), "evaluate_test is false"),
    "failed and tested": (changed("status", "failed"), "is failed and has test metrics"),
    "no reason": (changed("status", "failed"), "no reason is given"),
    "status": (changed("status", "fine"), "status 'fine'"),
    "id": (changed("id", "mine"), "not 16 hexadecimal"),
    "attempt": (changed("attempt", 0), "below 1"),
    "epoch": (changed("selected_epoch", 2), "none of its 2 epochs"),
    "extra": (changed("comment", "best"), "unknown keys comment"),
    "sizes": (changed("splits.train", None), "three numbers are expected"),
    "split seed": (changed("splits.seed", 5), "splits.seed is 5"),
}


@pytest.mark.parametrize("case", UNSOUND)
def test_what_is_unsound_is_found(records: list[Record], case: str) -> None:
    change, said = UNSOUND[case]
    change(records[0])
    found = list(wrong(records[0]))
    assert any(said in line for line in found), found
    assert list(wrong(records[1])) == []


def test_a_model_without_epochs_selects_none(records: list[Record]) -> None:
    changed("selected_epoch", None)(records[0])
    assert list(wrong(records[0])) == ["selected_epoch=None is none of its 2 epochs"]
    changed("curve", [])(records[0])
    assert list(wrong(records[0])) == []


def test_provenance_must_be_there(records: list[Record]) -> None:
    del records[0]["provenance"]["hardware"]
    assert list(wrong(records[0])) == ["provenance lacks hardware"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "cannot be read"),
        ("[]", "is no record"),
        ("{}", "is no record"),
    ],
)
def test_lines_that_are_no_record_are_named(records: list[Record], tmp_path: Path, text: str, said: str) -> None:
    path = written(tmp_path / "records.jsonl", records)
    path.write_text(path.read_text() + text + "\n")
    (line,) = verify(path).errors
    assert line.startswith(f"{path}:3: ") and said in line


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (changed("schema", 99), "schema 99"),
        (changed("metrics", {"test": {}}), "train, val and test are expected"),
        (changed("config.pool", None), "config lacks pool"),
        (changed("curve", "none"), "curve is str"),
        (changed("config.paths", {"results": "/home/me"}), "somebody's machine"),
    ],
)
def test_records_of_another_shape_are_named(
    records: list[Record], tmp_path: Path, change: Callable[[Record], None], said: str
) -> None:
    change(records[1])
    (line,) = verify(written(tmp_path / "records.jsonl", records)).errors
    assert ":2: " in line and said in line


def test_records_that_do_not_go_together_are_found(made: Path, records: list[Record], tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    (line,) = verify(written(path, [*records, records[0]])).errors
    assert f"stands in {path}:1 already" in line

    other = copy.deepcopy(records[0])
    other["attempt"], other["metrics"]["test"]["loss"] = 2, 0.123
    (line,) = verify(written(path, [*records, other])).errors
    assert "an attempt at the same run on the same machine" in line

    content = copy.deepcopy(records[1])
    content["provenance"]["data"]["fingerprint"] = content["splits"]["dataset"] = "1" * 64
    content["id"] = identity(content)
    (line,) = verify(written(path, [records[0], content])).errors
    assert "one dataset with 2 contents" in line


def test_the_two_places_of_a_record_must_agree(records: list[Record], tmp_path: Path) -> None:
    record = records[0]
    folder = tmp_path / "runs" / record["id"] / "1"
    folder.mkdir(parents=True)
    (folder / "record.json").write_text(json.dumps(record))
    written(tmp_path / "records.jsonl", [{**record, "curve": []}])
    assert verify(tmp_path).errors == []
    written(tmp_path / "records.jsonl", [{**record, "curve": [], "parameters": 1}])
    (line,) = verify(tmp_path).errors
    assert "is not what records.jsonl says" in line

    moved = tmp_path / "runs" / ("0" * 16) / "1"
    moved.mkdir(parents=True)
    (folder / "record.json").rename(moved / "record.json")
    written(tmp_path / "records.jsonl", [{**record, "curve": []}])
    assert any("lies in the wrong folder" in line for line in verify(tmp_path).errors)


def test_a_split_that_its_protocol_does_not_draw_is_found(made: Path, records: list[Record], tmp_path: Path) -> None:
    forged = records[0]
    forged["splits"]["hash"] = forged["provenance"]["split"] = "2" * 64
    forged["id"] = identity(forged)
    path = written(tmp_path / "records.jsonl", records)
    assert verify(path).errors == [], "all but the split itself fits together"
    (line,) = verify(path, splits=True, paths={"data": str(made / "cache"), "mirror": None}).errors
    assert ":1: " in line and "its split is not what its protocol draws" in line


def test_what_is_only_worth_knowing_is_a_note(records: list[Record], tmp_path: Path) -> None:
    old, unnamed = copy.deepcopy(records)
    old["provenance"]["code"] = "0" * 16
    old["id"] = identity(old)
    del unnamed["provenance"]["code"]
    records[0]["provenance"]["dirty"] = True
    found = verify(written(tmp_path / "records.jsonl", [records[0], old, {**unnamed, "id": "f" * 16}]))
    assert found.errors == []
    notes = "\n".join(found.notes)
    assert "1 record name no version of the code" in notes.replace("1 records", "1 record")
    assert "1 record of other versions" in notes and "several versions of the code in 1 cells (topk on planted" in notes
    assert found.written().endswith("3 records, no errors")


def test_exit_codes(made: Path, records: list[Record], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["verify", str(made)]) == 0
    assert "2 records, no errors" in capsys.readouterr().out
    changed("metrics.test.accuracy", 0.99)(records[0])
    assert cli.main(["verify", str(written(tmp_path / "theirs.jsonl", records))]) == 1
    said = capsys.readouterr().out
    assert f"{tmp_path / 'theirs.jsonl'}:1: metrics.test.accuracy=0.99" in said and "2 records, 1 errors" in said
    assert cli.main(["verify", str(tmp_path / "nothing")]) == 2
    assert "holds no records" in capsys.readouterr().err
    assert cli.main(["verify", "--split"]) == 2
    assert "did you mean --splits" in capsys.readouterr().err


def test_the_committed_records_hold_together() -> None:
    committed = Path(__file__).parents[2] / "results" / "records.jsonl"
    assert verify(committed).errors == []
