"""Runs on folds of an index file: known by what it holds, checked and done again where it is kept."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from configs import QUICK
from poolbench import cli
from poolbench.audit.trust import Refused, Trust
from poolbench.data.cache import cache_dir
from poolbench.data.index_files import COLLECTION

FOLDS = [{"test": list(range(k, 40, 4))} for k in range(4)]


def test_a_run_is_known_by_the_file_s_content_and_checked_where_that_is_kept(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(FOLDS))
    words = ["pool=topk", *QUICK, "protocol=cv10", "protocol.folds=4", "fold=1"]
    assert cli.train([*words, f"protocol.folds_file={path}"]) == 0
    (file,) = results.glob("runs/*/1/record.json")
    record = json.loads(file.read_text())
    digits = hashlib.sha256(path.read_bytes()).hexdigest()
    assert record["config"]["protocol"]["folds_file"] == digits
    assert str(tmp_path) not in json.dumps(record["config"])
    assert (record["splits"]["protocol"], record["splits"]["seed"], record["splits"]["test"]) == ("cv4", 0, 10)
    assert record["seeds"] == {"seed": 0, "split": 0}

    capsys.readouterr()
    assert cli.train([*words, f"protocol.folds_file={path.rename(tmp_path / 'moved.json')}"]) == 0
    assert f"run {record['id']} is done" in capsys.readouterr().out
    assert cli.train(words) == 0, "without the file it is another run"
    assert len(list(results.glob("runs/*"))) == 2

    assert cli.main(["verify", str(file), "--splits", "--strict"]) == 0
    assert cli.main(["rerun", str(file)]) == 0
    said = capsys.readouterr().out
    assert "same: every number has the same bits" in said
    assert f"protocol.folds_file={digits}" in said, "the command says it too"

    (cache_dir() / COLLECTION / f"{digits}.json").unlink()
    assert cli.main(["verify", str(file), "--splits"]) == 0
    said = capsys.readouterr().out
    assert f"unchecked: the splits of 1 record: protocol.folds_file={digits}: no file with this SHA-256" in said
    assert cli.main(["verify", str(file), "--splits", "--strict"]) == 1
    capsys.readouterr()
    assert cli.main(["rerun", str(file)]) == 2
    said = capsys.readouterr().err
    assert "keeps it there" in said and said.count("\n") == 1


@pytest.mark.parametrize("given", ["/etc/passwd", "folds.json", f"../{64 * 'a'}", 63 * "a", 64 * "A", [64 * "a"]])
@pytest.mark.parametrize("protocol", ["CrossValidation", "LegacyCrossValidation", "Nested"])
def test_no_path_of_a_record_is_opened(given: object, protocol: str) -> None:
    target = f"poolbench.data.protocols.{protocol}"
    with pytest.raises(Refused, match="a record says nothing of places"):
        Trust().check({"protocol": {"_target_": target, "folds_file": given}}, runs=False)
    Trust().check({"protocol": {"_target_": target, "folds_file": 64 * "a"}}, runs=False)
