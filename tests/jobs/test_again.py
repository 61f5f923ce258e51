"""A run that is done is not done again: whatever moved, came to the configuration, or was shown to be the same."""

from __future__ import annotations

import csv
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from poolbench import cli
from poolbench.records import changes, version
from poolbench.records.attempts import iter_records
from poolbench.records.changes import ADDED, MOVED, Added
from poolbench.records.equivalence import EQUIVALENCE, Covered, Kind, Link, append
from poolbench.records.gathered import files
from poolbench.records.record import Record, read_record

QUICK = ["dataset=planted", "dataset.num_graphs=40", "trainer.max_epochs=2", "model.hidden=8", "logger=none",
         "callbacks.progress=none", "pool=topk"]  # fmt: skip

BEFORE = """
from poolbench.data.protocols import Holdout
from poolbench.nn.hierarchical import Hierarchical


class Model(Hierarchical):
    pass


class Protocol(Holdout):
    pass
"""
MOVED_ONLY = BEFORE.replace("class Model", "# A comment that was not there.\n\n\nclass Model")
AFTER = """
from poolbench.data.protocols import Holdout
from poolbench.nn.hierarchical import Hierarchical


class Model(Hierarchical):
    def __init__(self, *args, skip=False, **options):
        super().__init__(*args, **options)
        self.skip = skip


class Protocol(Holdout):
    def __init__(self, *args, repeats=1, **options):
        super().__init__(*args, **options)
        self.repeats = repeats
"""


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for code of the user's own; what was imported or remembered of it does not outlive a test."""
    folder = tmp_path / "own"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    yield folder
    for name in ("own_before", "own_after"):
        sys.modules.pop(name, None)
    forget()


def forget() -> None:
    """Let what is in the tables and in the files be looked at anew."""
    changes.today.cache_clear()
    changes.first.cache_clear()
    version._code.cache_clear()


def train(module: str, *words: str) -> int:
    targets = [f"model._target_={module}.Model", f"protocol._target_={module}.Protocol"]
    return cli.train([*QUICK, *targets, *words])


def move(own: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """own_before is called own_after from now on, and says `text`."""
    (own / "own_before.py").unlink()
    (own / "own_after.py").write_text(text)
    monkeypatch.setattr(changes, "MOVED", {**MOVED, "own_before": "own_after"})
    forget()


def runs(results: Path) -> dict[tuple[str, str], Record]:
    return {(path.parent.parent.name, path.parent.name): record for path, record in iter_records(results)}


def rows(results: Path, capsys: pytest.CaptureFixture[str], *words: str) -> list[tuple[str, str]]:
    """Pool and number of runs of each row of a report."""
    capsys.readouterr()
    assert cli.main(["report", str(results), "--format", "csv", *words]) == 0
    return [(row["pool"], row["runs"]) for row in csv.DictReader(capsys.readouterr().out.splitlines())]


def test_what_moved_and_was_commented_is_not_done_again(
    own: Path, results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (own / "own_before.py").write_text(BEFORE)
    assert train("own_before") == 0
    ((id, _),) = runs(results)
    move(own, MOVED_ONLY, monkeypatch)
    capsys.readouterr()
    assert train("own_after") == 0
    assert f"run {id} is done" in capsys.readouterr().out
    assert train("own_after", "seed=1") == 0
    capsys.readouterr()
    assert rows(results, capsys) == [("topk", "2")], "one row for both"
    assert cli.main(["rerun", id, "--trust", "own_after"]) == 0, "and it can be done again where it is now"
    assert "same: every number has the same bits" in capsys.readouterr().out
    assert cli.main(["verify", str(results)]) == 0


def link(results: Path, old: Record, new: Record, kind: Kind = "same") -> None:
    made = Link(old=str(old.code), new=str(new.code), kind=kind, covers=Covered.of(old.config), witnesses=(),
                machine="any", date="2026-01-01")  # fmt: skip
    (results / EQUIVALENCE).unlink(missing_ok=True)
    append(results, made)


def test_keys_that_came_change_no_identity_and_linked_code_does_nothing_again(
    own: Path, results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (own / "own_before.py").write_text(BEFORE)
    assert train("own_before") == 0
    move(own, AFTER, monkeypatch)
    monkeypatch.setattr(changes, "ADDED", (*ADDED, Added("model.skip", False, "9", ("own_after.Model",)),
                                           Added("protocol.repeats", 1, "9", ("own_after.Protocol",))))  # fmt: skip
    keys = ["+model.skip=false", "+protocol.repeats=1"]
    assert train("own_after", *keys) == 0
    (id, _), (other, _) = found = runs(results)
    assert id == other, "another attempt at the same run: the code is another"
    old, new = found.values()
    assert old.code != new.code and old.metrics == new.metrics and old.digests == new.digests
    assert rows(results, capsys, "--all-code") == [("topk", "1")] * 2, "two versions, a row each"

    link(results, old, new)
    assert rows(results, capsys, "--all-code") == [("topk", "1")], "one row, counted once"
    shutil.rmtree(results / "runs" / id / "2")
    assert train("own_after", *keys) == 0
    assert f"run {id} is done" in capsys.readouterr().out
    assert rows(results, capsys) == [("topk", "1")]
    assert train("own_after", *keys, "model.skip=true") == 0
    assert len({id for id, _ in runs(results)}) == 2, "with another value it is another run"

    link(results, old, new, "close")
    assert train("own_after", *keys) == 0
    assert (results / "runs" / id / "2" / "record.json").is_file(), "close is not the same: it is done again"


def test_a_gathered_record_is_enough(own: Path, results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In a fresh clone there are no folders of runs."""
    (own / "own_before.py").write_text(BEFORE)
    assert train("own_before") == 0 and train("own_before", "evaluate_test=false") == 0
    assert cli.main(["report", str(results), "--gather"]) == 0
    shutil.rmtree(results / "runs")
    capsys.readouterr()
    (path,) = files(results)
    for words in ([], ["evaluate_test=false"]):
        assert train("own_before", *words) == 0
        assert f"is done: topk-planted-s0: {'val' if words else 'test'} accuracy" in capsys.readouterr().out
    assert not list(results.glob("runs/*/*/")) and path.is_file()
    assert train("own_before", "force=true") == 0
    (again,) = results.glob("runs/*/*/record.json")
    assert read_record(again).metrics.test and again.parent.name == "2", "the gathered one was the first attempt"


def test_another_version_does_not_go_on_from_a_checkpoint(
    own: Path, results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from poolbench.records import attempts

    (own / "own_before.py").write_text(BEFORE)
    note, epochs = attempts.note_epoch, iter(range(9))

    def killed(folder: Path) -> None:
        note(folder)
        if next(epochs):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(attempts, "note_epoch", killed)
        assert train("own_before", "callbacks.resume_every=0", "trainer.max_epochs=3") == 130
    (checkpoint,) = results.glob("runs/*/1/resume.ckpt")
    move(own, AFTER, monkeypatch)
    assert train("own_after", "callbacks.resume_every=0", "trainer.max_epochs=3") == 0
    assert "goes on from epoch" not in capsys.readouterr().out
    ((_, attempt),) = runs(results)
    assert attempt == "2" and checkpoint.is_file()
