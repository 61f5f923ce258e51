"""A run that was done is found at once: without torch, and with the same answer as by the way through the data."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from poolbench.cli import main
from poolbench.data import known

WORDS = ["train", "dataset=planted", "dataset.num_graphs=40", "trainer.max_epochs=1", "model.hidden=8", "logger=none",
         "callbacks.progress=none"]  # fmt: skip
HEAVY = ("torch", "pytorch_lightning", "scipy", "pandas", "optuna")
ASK = f"""
import sys
from poolbench.cli import main
code = main(sys.argv[1:])
assert not (found := {{*{HEAVY}}} & {{*sys.modules}}), found
sys.exit(code)
"""


def ask(*words: str) -> str:
    """What a process of its own says, which may load nothing that is heavy."""
    done = subprocess.run([sys.executable, "-c", ASK, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_run_that_was_done_is_found_without_torch(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(WORDS) == 0
    ended = capsys.readouterr().out.splitlines()
    (path,) = results.glob("runs/*/1/record.json")
    assert ask(*WORDS).splitlines() == [
        f"run {path.parts[-3]} is done: {ended[0]}",
        f"record: {path}   (force=true makes another attempt)",
    ]


def test_all_folds_are_found_with_their_summary(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folds = [*WORDS, "protocol=cv10"]
    assert main(folds) == 0
    summary = capsys.readouterr().out.splitlines()[-1]
    assert summary.startswith("cv10, seed 0: test accuracy")
    known_folder(results).rename(results / "forgotten")
    assert main(folds) == 0
    through_the_data = capsys.readouterr().out
    assert through_the_data.count("is done") == 10 and through_the_data.splitlines()[-1] == summary
    assert main(folds) == 0
    assert capsys.readouterr().out == through_the_data
    assert ask(*WORDS, "protocol=cv10", "fold=3").count("is done") == 1


def test_what_is_not_done_is_done_and_a_lost_record_is_not_made_up(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in ([], ["seed=1", "split.seed=0"], ["pool=topk"], ["force=true"]):
        assert main([*WORDS, *words]) == 0
        assert "is done" not in capsys.readouterr().out
    (attempt,) = results.glob("runs/*/2")
    for path in attempt.parent.glob("*/record.json"):
        path.unlink()
    assert main(WORDS) == 0
    assert "is done" not in capsys.readouterr().out


def test_a_wrong_note_costs_time_and_no_right_answer(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(WORDS) == 0
    (path,) = known_folder(results).iterdir()
    right = path.read_bytes()
    _, text = right.split(b"\n")
    found = known.msgspec.json.decode(text, type=known.Known)
    wrong = known.msgspec.json.encode(known.msgspec.structs.replace(found, fingerprint="f" * 64))
    path.write_bytes(known.hashlib.sha256(wrong).hexdigest().encode() + b"\n" + wrong)
    capsys.readouterr()
    assert main(WORDS) == 0
    assert "is done" in capsys.readouterr().out
    assert path.read_bytes() == right


def test_a_value_out_of_range_is_refused_without_torch(results: Path) -> None:
    done = subprocess.run([sys.executable, "-c", ASK, *WORDS, "callbacks.patience=0"], capture_output=True, text=True,
                          check=False)  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: callbacks.patience=0: a whole number of at least 1 is expected\n"


def test_what_a_constructor_refuses_is_refused_without_lightning(results: Path) -> None:
    code = ASK.replace(f"{{*{HEAVY}}}", "{'pytorch_lightning'}")
    done = subprocess.run([sys.executable, "-c", code, *WORDS, "pool=topk", "pool.ratio=-1"], capture_output=True,
                          text=True, check=False)  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: pool.ratio=-1") and done.stderr.count("\n") == 1


def known_folder(results: Path) -> Path:
    return results.parent / "cache" / known.FOLDER
