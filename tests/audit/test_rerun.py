"""`poolbench rerun`: the command that makes a run again, and the verdict on what it came to."""

from __future__ import annotations

import copy
import math
import shlex
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from configs import QUICK
from poolbench import cli
from poolbench.audit.rerun import compare, differences, find
from poolbench.errors import PoolBenchError
from poolbench.records.attempts import iter_records
from poolbench.records.equivalence import Covered, Link, Links
from poolbench.records.gathered import add
from poolbench.records.record import Record, encode
from poolbench.records.version import installed_code


def the_record(results: Path) -> Record:
    (record,) = (r for _, r in iter_records(results))
    return record


@pytest.mark.parametrize(
    "words",
    [
        ["pool=topk", "pool.ratio=0.3"],
        [
            "pool=mincut",
            "pool.mlp_hidden=[8,4]",
            "loss_weights={cut: 0.5}",
            "model.readout=globalmax",
            "model.levels=1",
        ],
        ["pool=none", "optimizer=adamw", "scheduler=cosine", "split.seed=3", "protocol=cv10", "fold=2"],
        ["pool=none", "pool._target_=poolbench.pool.topk.TopKPool", "+pool.ratio=0.5", "protocol.test=0.2"],
    ],
)
def test_a_run_is_made_again_bit_by_bit_from_its_record_and_by_its_command(
    results: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.train([*QUICK, *words]) == 0
    record = the_record(results)
    capsys.readouterr()
    assert cli.main(["rerun", record.id]) == 0
    said = capsys.readouterr().out
    assert said.splitlines()[-1] == "same: every number has the same bits"
    assert "code:" not in said and "packages:" not in said
    assert the_record(results) == record, "it was done elsewhere"

    (line,) = (line for line in said.splitlines() if line.startswith("command: "))
    command = shlex.split(line.removeprefix("command: "))
    assert command[:2] == ["poolbench", "train"]
    assert cli.main(command[1:]) == 0
    assert f"run {record.id} is done" in capsys.readouterr().out, "the command means the same run"


def test_a_file_and_a_folder_can_be_given(results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.train([*QUICK, "pool=topk"]) == 0
    (path,) = results.glob("runs/*/1/record.json")
    assert cli.main(["rerun", str(path), "--out", str(tmp_path / "again")]) == 0
    again = the_record(tmp_path / "again")
    assert again.id == the_record(results).id
    capsys.readouterr()
    assert cli.main(["rerun", str(path), "--command"]) == 0
    assert capsys.readouterr().out.startswith("command: poolbench train pool=topk")


def test_what_is_not_the_same_is_said(results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.train([*QUICK, "pool=topk"]) == 0
    record = the_record(results)
    path = tmp_path / "theirs.json"
    record.metrics.test["loss"] += 1e-12
    path.write_bytes(encode(record))
    capsys.readouterr()
    assert cli.main(["rerun", str(path)]) == 1
    assert "differs: test.loss" in capsys.readouterr().out

    record.provenance = replace(record.provenance, code="0" * 16, hardware={"cpu": "another", "gpus": []})
    path.write_bytes(encode(record))
    assert cli.main(["rerun", str(path)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[1].startswith("code: the record was made by version 0000000000000000")
    assert said[2].startswith("machine: another")
    assert said[-1].startswith("same within 0.03")


def test_failures_are_compared_too(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.train([*QUICK, "pool=topk", "optimizer.lr=1e30"]) == 1
    record = the_record(results)
    assert record.status == "failed"
    capsys.readouterr()
    assert cli.main(["rerun", record.id]) == 0
    assert "same: every number" in capsys.readouterr().out


def test_a_pruned_run_cannot_be_made_alone(results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.train([*QUICK, "pool=topk"]) == 0
    path = tmp_path / "pruned.json"
    path.write_bytes(encode(replace(the_record(results), status="pruned", reason="worse than the median")))
    assert cli.main(["rerun", str(path)]) == 2
    assert "was pruned" in capsys.readouterr().err


def test_runs_are_found_by_id_and_what_is_not_there_is_said(results: Path, tmp_path: Path) -> None:
    assert cli.train([*QUICK, "pool=topk"]) == 0
    record = the_record(results)
    assert find(record.id, results) == record
    gathered = tmp_path / "gathered"
    add([record], gathered)
    assert find(record.id, gathered).metrics == record.metrics
    old = replace(record, schema=1, id="1" * 16, outcomes=None, digests=None, selected=None)
    add([old], tmp_path / "old")
    for id in (old.id, record.id):
        assert find(id, tmp_path / "old").id == old.id, "by its own id, and by that of its setting"
    with pytest.raises(PoolBenchError, match="did you mean " + record.id):
        find(record.id[:-1] + "x", results)


def test_arguments_that_make_no_sense(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, said in ((["rerun"], "missing argument 'RECORD|ID'"), (["rerun", "a", "b"], "extra argument (b)"),
                        (["rerun", "a", "--outt=b"], "did you mean --out"),
                        (["rerun", "a", "--out"], "'--out' requires an argument")):  # fmt: skip
        assert cli.main(words) == 2
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1


def test_the_verdict(record: Any) -> None:
    old = record(0, 0.75)
    assert compare(old, copy.deepcopy(old), exact=True).same
    new = copy.deepcopy(old)
    new.curve[1]["val/loss"] += 1e-15
    verdict = compare(old, new, exact=True)
    assert not verdict.same and "val/loss in epoch 2" in verdict.lines[0]
    assert compare(old, new, exact=False).same
    new.curve = []
    assert not compare(old, new, exact=True).same
    lean = replace(old, curve=[])
    assert compare(lean, old, exact=True).same
    changed = replace(old, curve=new.curve, digests="AAAA" + (old.digests or "")[4:])
    verdict = compare(lean, changed, exact=True)
    assert not verdict.same and verdict.lines[0].startswith("differs: digest of epoch 1 ")
    assert compare(replace(lean, digests=None), changed, exact=True).same, "what schema 1 lost cannot differ"

    for other, same in ((0.77, True), (0.70, False), (math.nan, False)):
        near = record(0, other)
        assert compare(old, near, exact=False).same is same
        assert not compare(old, near, exact=True).same
    split = copy.deepcopy(old)
    split.splits.hash = "other"
    assert "nothing can be compared" in compare(old, split, exact=False).lines[0]
    assert "done then, failed now" in compare(old, record(0, None), exact=False).lines[0]


def test_memory_and_cores_are_not_what_bits_depend_on(record: Any) -> None:
    from poolbench.records.provenance import provenance

    made, here = record(0, 0.5), provenance()
    made.provenance.packages, made.provenance.code = here["packages"], installed_code(made.config)
    made.provenance.hardware = {**here["hardware"], "memory": 1, "cores": 1}
    assert differences(made, here) == []
    del made.provenance.hardware["cpu_generation"]  # as in records from before
    assert differences(made, here) == []
    made.provenance.hardware["cpu_generation"] = "Vendor 1/3"
    (line,) = differences(made, here)
    assert line.startswith("machine: ") and ", Vendor 1/3, " in line
    made.provenance.hardware = here["hardware"]
    made.provenance.packages = {**here["packages"], "torch": "1.0"}
    (line,) = differences(made, here)
    assert line.startswith("packages: torch 1.0")


def test_linked_code_is_no_difference(record: Any) -> None:
    from poolbench.records.provenance import provenance

    made, here = record(0, 0.5, code="old"), provenance()
    made.provenance.packages, made.provenance.hardware = here["packages"], here["hardware"]
    assert len(differences(made, here)) == 1
    link = Link(old="old", new=installed_code(made.config), kind="same", covers=Covered.of(made.config), witnesses=(),
                machine="m", date="2026-01-01")  # fmt: skip
    assert differences(made, here, Links([link])) == []
    assert len(differences(made, here, Links([replace(link, kind="close")]))) == 1
