"""`poolbench verify`: a sound record passes, and each way of being unsound is found in one line."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from configs import QUICK, results_in
from poolbench import cli
from poolbench.audit import verify as checks
from poolbench.audit.verify import verify
from poolbench.records.equivalence import EQUIVALENCE, Covered, Link, append
from poolbench.records.record import decode

Record = dict[str, Any]
"""As JSON has it."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A results folder with two runs of topk."""
    with results_in(tmp_path_factory.mktemp("made")) as folder:
        for seed in (0, 1):
            assert cli.train(["pool=topk", *QUICK, f"seed={seed}"]) == 0
        yield folder


@pytest.fixture
def records(made: Path) -> list[Record]:
    return [json.loads(path.read_text()) for path in sorted(made.glob("runs/*/1/record.json"))]


def written(path: Path, records: list[Record]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def identity(record: Record) -> str | None:
    return checks.identity(decode(json.dumps(record)))


def wrong(record: Record) -> list[str]:
    return list(checks.wrong(decode(json.dumps(record))))


def of_schema_1(record: Record) -> Record:
    """The record as it was written before the version of the code left its id."""
    old = {k: v for k, v in record.items() if k not in ("outcomes", "digests", "selected")} | {"schema": 1}
    return {**old, "id": identity(old)}


def test_what_runs_leave_is_sound(made: Path, records: list[Record], tmp_path: Path) -> None:
    assert verify(made).errors == [] and verify(made).count == 2
    assert [identity(record) for record in records] == [record["id"] for record in records]
    assert verify(written(tmp_path / "records.jsonl", records)).errors == []
    one = next(made.glob("runs/*/1/record.json"))
    assert verify(one).count == 1 and verify(one).errors == []
    lean = [{**record, "curve": []} for record in records]
    found = verify(written(tmp_path / "records.jsonl", lean))
    assert found.errors == []
    assert any(said.startswith("2 records without curves: their epochs cannot be checked") for said in found.unchecked)
    paths = {"data": str(made / "cache"), "mirror": None}
    assert verify(made, splits=True, paths=paths, strict=True).errors == [], "all of it can be checked"
    (line,) = verify(made, strict=True).errors
    assert line.startswith("unchecked: 2 records whose splits and labels were not looked at")


def changed(key: str, value: Any) -> Callable[[Record], None]:
    """Puts a value at a dotted key."""

    def change(record: Record) -> None:
        *path, last = key.split(".")
        for name in path:
            record = record[name]
        record[last] = value

    return change


def packed(data: bytes) -> str:
    return base64.b64encode(zlib.compress(data)).decode()


UNSOUND: dict[str, tuple[Callable[[Record], Any], str]] = {
    "another rate": (changed("config.optimizer.lr", 0.5), "does not follow from its configuration"),
    "another seed": (changed("config.seed", 7), "does not follow from its configuration"),
    "a digest": (changed("digests", "AAAAAAAAAAA="), "digests do not follow from its curve"),
    "digests cut off": (changed("digests", "AAAA"), "no whole number of digests"),
    "an epoch": (lambda r: r["curve"][0].update({"val/loss": 0.1}), "digests do not follow from its curve"),
    "no selected row": (changed("selected", None), "selected is missing"),
    "another selected row": (changed("selected.val/loss", 0.1), "selected is not the row of epoch"),
    "outcomes": (changed("outcomes.right", "nonsense"), "outcomes: "),
    "fewer outcomes": (lambda r: r["splits"].update({"test": 5}), "outcomes are of 4 graphs, and the test split has 5"),
    "wrong outcomes": (lambda r: r["outcomes"].update({"right": packed(b"\x00")}), "0 of 4 outcomes are right"),
    "another split": (changed("splits.hash", "0" * 64), "splits.hash and provenance.split differ"),
    "another dataset": (changed("splits.dataset", "0" * 64), "the split is of another dataset"),
    "better accuracy": (changed("metrics.test.accuracy", 0.99), "is no share of 4 graphs"),
    "accuracy over 1": (changed("metrics.test.accuracy", 1.25), "is no share of 4 graphs"),
    "a split without end": (changed("splits.train", 10**400), "is no share of 1"),
    "no tolerance": (changed("config.callbacks.tolerance", None), "config.callbacks.tolerance is None"),
    "a tolerance in words": (changed("config.callbacks.tolerance", "0"), "config.callbacks.tolerance is '0'"),
    "no callbacks": (lambda r: r["config"].pop("callbacks"), "config.callbacks.tolerance is None"),
    "null for callbacks": (changed("config.callbacks", None), "config.callbacks.tolerance is None"),
    "NaN": (changed("metrics.test.loss", "NaN"), "metrics.test.loss is nan"),
    "no test": (changed("metrics.test", {}), "has no test metrics"),
    "tested trial": (changed("config.evaluate_test", False), "evaluate_test is false"),
    "failed and tested": (lambda r: r.update(status="failed", reason="none"), "is failed and has test metrics"),
    "epoch": (changed("selected_epoch", 2), "none of its 2 epochs"),
    "split seed": (changed("splits.seed", 5), "splits.seed is 5"),
}


@pytest.mark.parametrize("case", UNSOUND)
def test_what_is_unsound_is_found(records: list[Record], case: str) -> None:
    change, said = UNSOUND[case]
    change(records[0])
    found = list(wrong(records[0]))
    assert any(said in line for line in found), found
    assert wrong(records[1]) == []


@pytest.mark.parametrize("case", ["a digest", "another selected row", "epoch"])
def test_the_selected_epoch_is_checked_where_the_curve_is_left_out(records: list[Record], case: str) -> None:
    change, _ = UNSOUND[case]
    changed("curve", [])(records[0])
    assert wrong(records[0]) == []
    change(records[0])
    assert any("selected" in line for line in wrong(records[0]))


@pytest.mark.parametrize("case", ["another rate", "better accuracy", "no test", "split seed", "epoch"])
def test_records_of_schema_1_are_checked_by_its_rules(records: list[Record], case: str) -> None:
    old = of_schema_1(records[0])
    assert wrong(old) == [] and wrong({**old, "curve": []}) == []
    change, said = UNSOUND[case]
    change(old)
    assert any(said in line for line in wrong(old))


def test_an_id_of_schema_1_is_made_as_it_was(records: list[Record]) -> None:
    """Of configuration, data, split, version of the code, and what was counted twice."""
    old = of_schema_1(records[0])
    config = {k: v for k, v in old["config"].items() if k not in
              ("logger", "force", "tags", "group", "job_type", "names", "debug", "notes")}  # fmt: skip
    config["trainer"] = {k: v for k, v in config["trainer"].items() if k not in
                         ("accelerator", "devices", "enable_progress_bar")}  # fmt: skip
    config["callbacks"] = {k: v for k, v in config["callbacks"].items() if k not in
                           ("pictures_every", "progress", "resume_every", "keep_weights")}  # fmt: skip
    what = {"config": config, "dataset": old["splits"]["dataset"], "split": old["splits"]["hash"],
            "code": old["provenance"]["code"], "precision": "32-true", "processes": 1, "threads": 1,
            "evaluate_test": True}  # fmt: skip
    whole = json.dumps(what, sort_keys=True, separators=(",", ":")).replace(".0,", ",").replace(".0}", "}")
    assert old["id"] == hashlib.sha256(whole.encode()).hexdigest()[:16]


def test_a_model_without_epochs_selects_none(records: list[Record]) -> None:
    changed("selected_epoch", None)(records[0])
    assert wrong(records[0]) == ["selected_epoch=None is none of its 2 epochs"]
    records[0].update(curve=[], digests=None, selected=None)
    assert wrong(records[0]) == ["is done, and lacks the digests of its epochs"]
    kernel = {"_target_": "poolbench.learn.kernel.WeisfeilerLehman", "iterations": [3], "C": [1.0]}
    records[0]["config"] |= {"model": kernel, "names": {**records[0]["config"]["names"], "model": "wl-svm"}}
    records[0]["id"] = identity(records[0])
    assert wrong(records[0]) == []


@pytest.mark.parametrize("text", ["{", "[]", "{}", "\x00", "\xff", '{"schema": 1}', "[" * 100_000, "null"])
def test_lines_that_are_no_record_are_named(records: list[Record], tmp_path: Path, text: str) -> None:
    path = written(tmp_path / "records.jsonl", records)
    path.write_bytes(path.read_bytes() + text.encode("latin-1") + b"\n")
    found = verify(path)
    (line,) = found.errors
    assert line.startswith(f"{path}:3: is no record: ") and "\n" not in line and found.count == 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (changed("schema", 99), "Invalid enum value 99 - at `$.schema`"),
        (changed("metrics", {"test": {}}), "missing required field `train` - at `$.metrics`"),
        (changed("metrics.test.loss", "low"), "Invalid enum value 'low' - at `$.metrics.test[...]`"),
        (changed("config.pool", None), "config lacks pool"),
        (changed("curve", "none"), "Expected `array`, got `str` - at `$.curve`"),
        (changed("status", "fine"), "Invalid enum value 'fine' - at `$.status`"),
        (changed("status", "failed"), "status 'failed' needs a reason"),
        (changed("id", "mine"), "`$.id`"),
        (changed("attempt", 0), "Expected `int` >= 1 - at `$.attempt`"),
        (changed("comment", "best"), "unknown field `comment`"),
        (changed("splits.train", None), "at `$.splits.train`"),
        (lambda record: record["provenance"].pop("hardware"), "missing required field `hardware`"),
        (changed("config.paths", {"results": "/home/me"}), "somebody's machine"),
    ],
)
def test_records_of_another_shape_are_named(
    records: list[Record], tmp_path: Path, change: Callable[[Record], Any], said: str
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


def test_attempts_by_other_code_may_differ_and_by_code_of_the_same_results_may_not(
    records: list[Record], tmp_path: Path
) -> None:
    other = copy.deepcopy(records[0])
    other["provenance"]["code"], other["metrics"]["test"]["loss"] = "0" * 16, 0.123
    home = written(tmp_path / "records" / "planted" / "holdout.jsonl", [records[0], other])
    assert verify(tmp_path).errors == []
    link = Link(old="0" * 16, new=records[0]["provenance"]["code"], kind="same", witnesses=(), machine="m",
                covers=Covered.of(records[0]["config"]), date="2026-01-01")  # fmt: skip
    append(tmp_path, link)
    (line,) = verify(tmp_path).errors
    assert line.startswith(f"{home}:2: ") and "an attempt at the same run on the same machine" in line
    (tmp_path / EQUIVALENCE).unlink()
    append(tmp_path, msgspec.structs.replace(link, kind="close"))
    assert verify(tmp_path).errors == []


def test_the_two_places_of_a_record_must_agree(records: list[Record], tmp_path: Path) -> None:
    record = records[0]
    folder = tmp_path / "runs" / record["id"] / "1"
    folder.mkdir(parents=True)
    (folder / "record.json").write_text(json.dumps(record))
    home = written(tmp_path / "records" / "planted" / "holdout.jsonl", [{**record, "curve": []}])
    found = verify(tmp_path)
    assert found.errors == [] and found.count == 1 and not any("without curves" in note for note in found.notes)
    written(home, [{**record, "curve": [], "parameters": 1}])
    (line,) = verify(tmp_path).errors
    assert "is not what the gathered record of run" in line

    moved = tmp_path / "runs" / ("0" * 16) / "1"
    moved.mkdir(parents=True)
    (folder / "record.json").rename(moved / "record.json")
    written(home, [{**record, "curve": []}])
    assert any("lies in the wrong folder" in line for line in verify(tmp_path).errors)


def test_a_gathered_record_must_stand_where_it_is_looked_for(records: list[Record], tmp_path: Path) -> None:
    lean = [{**record, "curve": []} for record in records]
    first = written(tmp_path / "records" / "planted" / "holdout.jsonl", lean[:1])
    wrongly = written(tmp_path / "records" / "MUTAG" / "holdout.jsonl", lean[1:])
    (line,) = verify(tmp_path).errors
    assert line == f"{wrongly}:1: is a record of planted under holdout: it stands in the wrong file"
    wrongly.rename(first.with_name("holdout-2.jsonl"))
    assert verify(tmp_path).errors == []
    written(first.with_name("holdout-2.jsonl"), lean)
    (line,) = verify(tmp_path).errors
    assert "which stands in " in line and first.name in line and "holdout-2.jsonl:1" in line


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    with path.open("wb") as file:
        file.truncate(2**40)
    assert verify(path).errors == [f"{path}: is no record: it is larger than 64 MiB"]


def test_a_split_that_its_protocol_does_not_draw_is_found(made: Path, records: list[Record], tmp_path: Path) -> None:
    forged = records[0]
    forged["splits"]["hash"] = forged["provenance"]["split"] = "2" * 64
    forged["id"] = identity(forged)
    path = written(tmp_path / "records.jsonl", records)
    assert verify(path).errors == [], "all but the split itself fits together"
    (line,) = verify(path, splits=True, paths={"data": str(made / "cache"), "mirror": None}).errors
    assert ":1: " in line and "its split is not what its protocol draws" in line


def test_outcomes_that_the_labels_contradict_are_found(made: Path, records: list[Record], tmp_path: Path) -> None:
    """All but the labels fits together: as many are right as the accuracy says, and others than the labels do."""
    (truth,) = zlib.decompress(base64.b64decode(records[0]["outcomes"]["right"]))  # of four graphs
    others = (byte << 4 for byte in range(16) if byte << 4 != truth)
    forged = next(byte for byte in others if byte.bit_count() == truth.bit_count())
    records[0]["outcomes"]["right"] = packed(bytes([forged]))
    path = written(tmp_path / "records.jsonl", records)
    assert verify(path).errors == []
    (line,) = verify(path, splits=True, paths={"data": str(made / "cache"), "mirror": None}).errors
    assert ":1: outcomes say of other answers" in line


def test_what_is_only_worth_knowing_is_a_note(records: list[Record], tmp_path: Path) -> None:
    old = of_schema_1(copy.deepcopy(records[1]))
    old["provenance"]["code"] = "0" * 16
    old["id"] = identity(old)
    records[0]["provenance"]["dirty"] = True
    found = verify(written(tmp_path / "records.jsonl", [records[0], old]))
    assert found.errors == []
    notes = "\n".join(found.notes)
    assert any(said.startswith("1 record without the answers to single graphs") for said in found.unchecked)
    assert "1 record of other versions" in notes and "several versions of the code in 1 cell (topk on planted" in notes
    assert found.written().endswith("2 records, no errors in what could be checked")


def test_a_record_that_names_no_version_of_the_code_is_wrong(records: list[Record]) -> None:
    unnamed = of_schema_1(records[0])
    del unnamed["provenance"]["code"]
    assert wrong({**unnamed, "id": "f" * 16}) == [
        "provenance.code is missing: it says which version of the code made it"]  # fmt: skip
    changed("provenance.code", "<b>")(records[1])
    assert wrong(records[1]) == ["provenance.code='<b>' is no version of the code"]


def test_exit_codes(made: Path, records: list[Record], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["verify", str(made)]) == 0
    assert "2 records, no errors" in capsys.readouterr().out
    changed("metrics.test.accuracy", 0.99)(records[0])
    assert cli.main(["verify", str(written(tmp_path / "theirs.jsonl", records))]) == 1
    said = capsys.readouterr().out
    assert f"{tmp_path / 'theirs.jsonl'}:1: metrics.test.accuracy=0.99" in said and "2 records, 2 errors" in said
    assert f"{tmp_path / 'theirs.jsonl'}:1: metrics.test.accuracy=0.99, and " in said
    assert cli.main(["verify", str(tmp_path / "nothing")]) == 2
    assert "holds no records" in capsys.readouterr().err
    assert cli.main(["verify", "--split"]) == 2
    assert "did you mean --splits" in capsys.readouterr().err


def test_the_committed_records_hold_together() -> None:
    committed = Path(__file__).parents[2] / "results"
    assert verify(committed).errors == [] and verify(committed / "archive").errors == []
