"""`poolbench equivalent`: records of another version of the code are linked to this one by runs that tell the same."""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from poolbench import cli
from poolbench.audit import equivalence, oldcode, showing
from poolbench.audit.equivalence import equivalent
from poolbench.errors import PoolBenchError
from poolbench.pool.topk import TopKPool
from poolbench.records.attempts import iter_records
from poolbench.records.digests import SIZE, unpack
from poolbench.records.equivalence import EQUIVALENCE, Link, Links
from poolbench.records.gathered import add, found_records
from poolbench.records.record import Record, write_record
from poolbench.records.version import installed_code

OLD = "0" * 16
QUICK = ["dataset=planted", "dataset.num_graphs=40", "trainer.max_epochs=4", "model.hidden=8", "scheduler=cosine",
         "logger=none", "callbacks.progress=none"]  # fmt: skip


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> list[Record]:
    """Records of two operators, two seeds each, with their curves."""
    results = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POOLBENCH_RESULTS", str(results))
        patch.setenv("POOLBENCH_DATA", str(cache))
        patch.delenv("POOLBENCH_MIRROR", raising=False)
        for seed in (0, 1):
            for pool in ("topk", "mincut"):
                assert cli.train([*QUICK, f"pool={pool}", f"seed={seed}"]) == 0
    return [record for _, record in iter_records(results)]


@pytest.fixture
def shown(cache: Path, results: Path) -> Any:
    """The command, for the results folder of the test."""
    return partial(equivalent, results, paths={"data": str(cache), "mirror": None})


def aged(record: Record, code: str = OLD, **changes: Any) -> Record:
    """A record as another version of the code would have left it."""
    provenance = msgspec.structs.replace(record.provenance, code=code)
    return msgspec.structs.replace(record, provenance=provenance, **changes)


def first_schema(record: Record) -> Record:
    """Without what only schema 2 has."""
    return aged(record, schema=1, digests=None, selected=None, outcomes=None)


def of_pool(records: list[Record], pool: str) -> list[Record]:
    return [record for record in records if record.config["names"]["pool"] == pool]


def links(results: Path) -> dict[str, Link]:
    """The links by the name of the operator."""
    return {link.covers.pool.rpartition(".")[2]: link for link in Links.read(results).links}


def test_other_versions_are_linked_by_the_first_epochs_of_their_witnesses(
    made: list[Record], results: Path, shown: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    add(map(aged, made), results)
    assert shown(epochs=2) == 0
    said = capsys.readouterr().out
    assert "linked, same by 2 witnesses: the first 2 epochs" in said
    assert "4 of 4 records count as made by the installed code" in said
    found = links(results)
    assert set(found) == {"TopKPool", "MinCutPool"}
    for link in found.values():
        assert (link.old, link.kind, link.both) == (OLD, "same", False)
        assert all((witness.epochs, witness.end) == (2, False) for witness in link.witnesses)
    current = Links.read(results)
    assert all(current.of(record, installed_code(record.config)) == "same" for record in found_records(results))
    assert not list(results.glob("runs/*")), "witnesses are run elsewhere"

    written = (results / EQUIVALENCE).read_bytes()
    capsys.readouterr()
    assert shown() == 0
    assert "0 records of 4 are of other versions" in capsys.readouterr().out
    assert (results / EQUIVALENCE).read_bytes() == written


def test_records_of_the_first_schema_are_compared_at_the_end(
    made: list[Record], results: Path, shown: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    add(map(first_schema, made), results)
    assert shown(["pool=topk"]) == 0
    assert "2 witnesses: the numbers at the end" in capsys.readouterr().out
    (link,) = links(results).values()
    assert link.covers.pool == "poolbench.pool.topk.TopKPool", "nothing else was asked for"
    assert {(witness.epochs, witness.end) for witness in link.witnesses} == {(None, True)}
    assert {witness.id for witness in link.witnesses} == {record.id for record in of_pool(made, "topk")}


def test_an_operator_with_a_changed_constant_falls_out_alone(
    made: list[Record], results: Path, shown: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    add(map(aged, made), results)
    for record in map(aged, of_pool(made, "topk")):  # one whose curve is still there: the number can be named
        folder = results / "runs" / record.id / "1"
        folder.mkdir(parents=True)
        write_record(folder, record)
    monkeypatch.setattr(TopKPool, "gate", lambda self, y: 1.001 * torch.tanh(y))
    assert shown() == 1
    said = capsys.readouterr().out
    assert re.search(r"TopKPool.*: differ, run \w{16} \(planted\): epoch 1: train/loss [\d.]+ then, [\d.]+ now", said)
    assert re.search(r"differ +1 +2\n", said) and re.search(r"linked +1 +2\n", said)
    assert "2 of 4 records count as made by the installed code" in said
    assert set(links(results)) == {"MinCutPool"}


def test_without_a_curve_the_epoch_is_named(
    made: list[Record], results: Path, shown: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    (one, *_) = of_pool(made, "topk")
    *firsts, last = unpack(str(one.digests))
    wrong = base64.b64encode(b"".join([*firsts, bytes(SIZE)])).decode()
    add([aged(one, digests=wrong)], results)
    assert shown(epochs=2) == 0, "the first epochs are the same"
    (results / EQUIVALENCE).unlink()
    capsys.readouterr()
    assert shown(epochs=0) == 1
    assert f"epoch 4: digest {'00' * SIZE} then, {last.hex()} now" in capsys.readouterr().out

    (results / "records").rename(results / "other")
    add([aged(one, digests="no digests")], results)
    assert shown() == 1
    assert "failed, " in (said := capsys.readouterr().out) and "its digests cannot be read" in said


def test_a_witness_that_fails_links_nothing_and_stops_nobody(
    made: list[Record], results: Path, shown: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = [aged(one, config={**one.config, "dataset": {**one.config["dataset"], "num_graphs": -1}})
            for one in of_pool(made, "topk")]  # fmt: skip
    add([*gone, *map(aged, of_pool(made, "mincut"))], results)
    assert shown() == 1
    said = capsys.readouterr()
    assert re.search(r"TopKPool.*: failed, run \w{16} \(planted\): .*num_graphs", said.out)
    assert "Traceback" not in said.out + said.err
    assert re.search(r"failed +1 +2\n", said.out)
    assert set(links(results)) == {"MinCutPool"}


def test_a_run_that_was_done_and_fails_now_differs(
    made: list[Record], results: Path, shown: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    add(map(aged, of_pool(made, "topk")), results)

    def broken(self: Any, *args: Any, **kwargs: Any) -> None:
        raise ValueError("no scores")

    monkeypatch.setattr(TopKPool, "select", broken)
    assert shown() == 1
    assert "differ, run" in (said := capsys.readouterr().out) and "done then, failed now: ValueError: no scores" in said
    assert not links(results)


def test_failed_and_pruned_records_are_no_witnesses(
    made: list[Record], results: Path, shown: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = of_pool(made, "topk")
    bad = {"status": "failed", "reason": "out of memory"}
    add([aged(one), aged(other, **bad), *(aged(r, **bad) for r in of_pool(made, "mincut"))], results)
    assert shown() == 0
    assert "not shown, none of its records is done" in capsys.readouterr().out
    (link,) = links(results).values()
    assert [witness.id for witness in link.witnesses] == [one.id]


def test_what_was_shown_stays_when_it_is_interrupted(
    made: list[Record], results: Path, shown: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    add(map(aged, made), results)
    done: list[str] = []
    again = showing._again

    def until_interrupted(config: Any, **options: Any) -> Any:
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(str(config))
        return again(config, **options)

    with monkeypatch.context() as patch:
        patch.setattr(showing, "_again", until_interrupted)
        with pytest.raises(KeyboardInterrupt):
            shown()
    assert len(links(results)) == 1
    first = (results / EQUIVALENCE).read_bytes()
    capsys.readouterr()
    assert shown() == 0
    assert "in 1 group; 2 witnesses" in capsys.readouterr().out, "the rest alone"
    assert (results / EQUIVALENCE).read_bytes().startswith(first) and len(links(results)) == 2


@pytest.mark.parametrize(("loss", "graphs", "kind"), [(5e-4, 1, "close"), (5e-4, 2, None), (2e-3, 0, None)])
def test_close_versions_are_linked_where_that_is_asked_for(
    made: list[Record], results: Path, shown: Any, loss: float, graphs: int, kind: str | None,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    one, _ = of_pool(made, "mincut")
    test = dict(one.metrics.test)
    test["loss"] += loss
    test["accuracy"] += graphs / one.splits.test * (1 if test["accuracy"] < 0.5 else -1)
    metrics = msgspec.structs.replace(one.metrics, test=test)
    add([first_schema(msgspec.structs.replace(one, metrics=metrics))], results)
    assert shown() == 1
    assert ("no more than --close allows" in capsys.readouterr().out) == (kind is not None)
    assert not links(results)
    assert shown(close=True) == (0 if kind else 1)
    assert [link.kind for link in links(results).values()] == ([kind] if kind else [])
    if kind:
        assert "0 records of 1" not in capsys.readouterr().out
        assert shown(close=True, plan=True) == 0
        assert "0 records of 1 are of other versions" in capsys.readouterr().out


def test_the_plan_runs_nothing(
    made: list[Record], results: Path, shown: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def taking(seconds: float, record: Record) -> Record:
        return aged(record, time=msgspec.structs.replace(record.time, total=seconds), digests=None)

    slow, fast = (partial(taking, seconds) for seconds in (80.0, 1.0))
    add([*map(slow, of_pool(made, "topk")), *map(fast, of_pool(made, "mincut"))], results)
    monkeypatch.setattr(equivalence, "show", None)
    assert shown(plan=True, jobs=2) == 0
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 3
    assert "MinCutPool, " in said[0] and "2 records, 2 witnesses" in said[0]
    assert said[1].endswith("2 records, 1 witness, 80 s; all take longer than 60 s: these are the cheapest")
    assert said[2].startswith("4 records of 4 are of other versions of the code, in 2 groups; 3 witnesses, 82 s")
    assert not (results / EQUIVALENCE).exists()


def test_bad_input_is_one_line(made: list[Record], results: Path, shown: Any) -> None:
    add(map(aged, made), results)
    for options, said in ({"cost": 0.0}, "cost=0.0"), ({"epochs": -1}, "epochs=-1"), ({"jobs": 0}, "n_jobs=0"):
        with pytest.raises(PoolBenchError, match=said):
            shown(**options)
    with pytest.raises(PoolBenchError, match="no record has pool=mincutt"):
        shown(["pool=mincutt"])
    (results / EQUIVALENCE).write_text("{}\n")
    with pytest.raises(PoolBenchError, match="line 1: not a link"):
        shown()


@pytest.mark.slow
def test_witnesses_are_run_by_several_processes(made: list[Record], results: Path, shown: Any) -> None:
    add(map(aged, made), results)
    assert shown(jobs=2) == 0
    assert len(links(results)) == 2


# ------------------------------------------------------------------------------------------------------- other machines


@pytest.fixture
def elsewhere(made: list[Record]) -> list[Record]:
    """Records of the first schema from another machine, whose numbers differ by rounding."""
    (one, _) = of_pool(made, "topk")
    metrics = msgspec.structs.replace(one.metrics, test={**one.metrics.test, "loss": one.metrics.test["loss"] + 1e-7})
    record = msgspec.structs.replace(first_schema(one), metrics=metrics)
    provenance = msgspec.structs.replace(
        record.provenance, git="c" * 40, hardware={**record.provenance.hardware, "cpu": "Another CPU"}
    )
    return [msgspec.structs.replace(record, provenance=provenance)]


def test_on_another_machine_the_old_version_is_run_first(
    made: list[Record], elsewhere: list[Record], results: Path, shown: Any, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    add(elsewhere, results)
    ran: list[Path] = []

    def old(record: Record, tree: Path, paths: Any, out: Path, trust: Any) -> None:
        """What the old code would have come to here."""
        ran.append(tree)
        folder = out / "runs" / record.id / "1"
        folder.mkdir(parents=True)
        (mine,) = (one for one in made if one.id == record.id)
        write_record(folder, aged(mine))

    monkeypatch.setattr(showing, "run_old", old)
    monkeypatch.setattr(oldcode, "_added", lambda home, commit, folder: folder / commit)
    assert shown() == 0
    assert "the old version is run here, too, from a worktree of cccccccccccc" in capsys.readouterr().out
    assert [tree.name for tree in ran] == ["c" * 40]
    (link,) = links(results).values()
    assert link.both and link.old == OLD


@pytest.mark.parametrize(
    ("there", "other"),
    [
        ("Linux-6.1.0-13-amd64-x86_64-with-glibc2.36", False),
        ("Linux-5.15.0-x86_64-with-glibc2.36", False),
        ("Linux-6.1.0-13-amd64-x86_64-with-glibc2.31", True),
        ("Linux-6.1.0-aarch64-with-glibc2.36", True),
        ("macOS-14.4-arm64-arm-64bit", True),
    ],
)
def test_a_kernels_release_makes_no_other_machine(
    made: list[Record], there: str, other: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    (record, _) = of_pool(made, "topk")
    here = {**oldcode._here(), "platform": "Linux-6.12.9-x86_64-with-glibc2.36"}
    monkeypatch.setattr(oldcode, "_here", lambda: here)
    hardware = {**record.provenance.hardware, "platform": there}
    provenance = msgspec.structs.replace(record.provenance, hardware=hardware)
    assert oldcode.elsewhere(msgspec.structs.replace(record, provenance=provenance)) is other


@pytest.mark.parametrize(
    ("there", "other"),
    [({}, False), ({"cpu_generation": "Vendor 1/2"}, False), ({"cpu_generation": "Vendor 1/3"}, True)],
)
def test_another_generation_of_one_processor_is_another_machine(
    made: list[Record], there: dict[str, str], other: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records from before do not say it: their processor's name counts alone."""
    (record, _) = of_pool(made, "topk")
    monkeypatch.setattr(oldcode, "cpu_generation", lambda: "Vendor 1/2")
    hardware = {key: value for key, value in record.provenance.hardware.items() if key != "cpu_generation"}
    provenance = msgspec.structs.replace(record.provenance, hardware=hardware | there)
    assert oldcode.elsewhere(msgspec.structs.replace(record, provenance=provenance)) is other


def test_a_commit_that_is_not_there_shows_nothing(
    elsewhere: list[Record], results: Path, shown: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add(elsewhere, results)
    assert shown(repository=tmp_path) == 1
    said = capsys.readouterr().out
    assert "not shown, the old version has to be run here, and commit cccccccccccc cannot be had" in said

    (record,) = elsewhere
    (results / "records").rename(results / "other")
    add([msgspec.structs.replace(record, provenance=msgspec.structs.replace(record.provenance, git="--lock"))], results)
    assert shown() == 1
    assert "and its commit is not known (--lock)" in capsys.readouterr().out
    assert not links(results)


def test_a_commit_that_is_no_part_of_the_history_is_not_run(tmp_path: Path) -> None:
    """Such as a branch of somebody else's, which was fetched to be looked at."""
    home = tmp_path / "repository"
    home.mkdir()
    (home / "file").write_text("mine")
    mine = committed(home)
    git = ["git", "-C", str(home), "-c", "user.name=n", "-c", "user.email=e"]
    for words in (["checkout", "-q", "-b", "theirs"], ["commit", "-q", "--allow-empty", "-m", "theirs"]):
        subprocess.run([*git, *words], check=True)
    theirs = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    subprocess.run([*git, "checkout", "-q", "-"], check=True)
    with oldcode.worktrees([mine, theirs], home) as trees:
        assert (trees[mine] / "file").is_file()  # type: ignore[operator]
        assert trees[theirs] == f"commit {theirs[:12]} is no part of the history of {home}, and so is not run"


@pytest.mark.slow
def test_the_old_code_is_run_from_its_commit(
    made: list[Record], results: Path, shown: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkout = oldcode.PACKAGE_ROOT.parent.parent
    home = tmp_path / "repository"
    for part in ("src", "conf"):
        shutil.copytree(checkout / part, home / part, ignore=shutil.ignore_patterns("__pycache__"))
    operator = home / "src/poolbench/pool/topk.py"
    operator.write_text(operator.read_text() + "\nCAME_LATER = 1\n")  # so that it is another version
    commit = committed(home)
    (one, _) = of_pool(made, "topk")
    code = "import json, sys; from poolbench.records.version import installed_code as code; "
    code += "print(code(json.load(sys.stdin)))"
    done = subprocess.run([oldcode.sys.executable, "-c", code], input=msgspec.json.encode(one.config), check=True,
                          capture_output=True, env={**os.environ, "PYTHONPATH": str(home / "src")})  # fmt: skip
    record = aged(one, code=done.stdout.decode().strip())
    assert record.code != one.code
    add([msgspec.structs.replace(record, provenance=msgspec.structs.replace(record.provenance, git=commit))], results)
    assert shown(old_code=True, repository=home) == 0
    assert commit[:12] in capsys.readouterr().out
    (link,) = links(results).values()
    assert link.both and link.old == record.code
    trees = subprocess.run(["git", "-C", str(home), "worktree", "list"], capture_output=True, text=True, check=True)
    assert len(trees.stdout.splitlines()) == 1, "worktrees are taken away again"


def committed(home: Path) -> str:
    """The commit of a new repository that holds what lies in `home`."""
    git = ["git", "-C", str(home), "-c", "user.name=n", "-c", "user.email=e"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "old"]):
        subprocess.run([*git, *words], check=True)
    return subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
