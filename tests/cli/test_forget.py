"""`poolbench forget` beside the other commands: what they leave out, count, name and do again."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from poolbench import cli
from poolbench.cli.commands import forget
from poolbench.records.attempts import lease
from poolbench.records.forgotten import MARKS
from poolbench.report.wandb_tools import offline_runs

SMALL = ["dataset=planted", "dataset.num_graphs=40", "trainer.max_epochs=1", "model.hidden=8", "logger=none",
         "callbacks.progress=none"]  # fmt: skip
SWEEP = ["train", "-m", "pool=topk", "seed=0,1", *SMALL]


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A results folder with a sweep of two runs, gathered."""
    folder = tmp_path_factory.mktemp("swept")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POOLBENCH_RESULTS", str(folder / "results"))
        patch.setenv("POOLBENCH_DATA", str(folder / "cache"))
        assert cli.main(SWEEP) == 0
        assert cli.main(["report", "--gather"]) == 0
        yield folder


@pytest.fixture
def folder(swept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same for one test, and in use."""
    shutil.copytree(swept / "results", tmp_path / "results")
    monkeypatch.setenv("POOLBENCH_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("POOLBENCH_DATA", str(swept / "cache"))
    return tmp_path / "results"


def ids(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("runs/*"))


def says(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    """What a command prints, with its errors."""
    capsys.readouterr()
    assert cli.main(list(words)) == code
    said = capsys.readouterr()
    return said.out + said.err


def test_it_says_what_it_did_and_the_command_that_undoes_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = ids(folder)[0]
    *_, gathered, last = says(
        capsys, "forget", one, "--reason", "wrong rate", "--attempt", "1", str(folder)
    ).splitlines()
    assert gathered.endswith("records/planted/holdout.jsonl, and does not count")
    assert last == f"nothing was deleted; to bring back: poolbench forget --undo {one} --attempt 1 {folder}"
    noted = json.loads((folder / MARKS).read_text())
    assert (noted["reason"], noted["command"]) == ("wrong rate", f"poolbench forget {one} --attempt 1")
    assert str(folder) not in (folder / MARKS).read_text(), "where files lie is nobody's"
    says(capsys, *shlex.split(last.partition("poolbench ")[2]))
    assert "Forgotten" not in says(capsys, "report") and (folder / "runs" / one / "1" / "record.json").is_file()


def test_the_examples_of_its_help_work(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = (forget.command.help or "").partition("Examples:")[2].split("\n")
    examples = [shlex.split(line.replace("0123456789abcdef", ids(folder)[0])) for line in lines if line.strip()]
    assert len(examples) == 3
    says(capsys, *examples[0][1:])
    says(capsys, *examples[2][1:])
    says(capsys, *examples[1][1:])


def test_other_commands_leave_it_out_and_count_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = ids(folder)[0]
    note = f"Forgotten, and left out: 1 attempt at 1 run ({MARKS})."
    before = says(capsys, "report", "--format", "csv")
    says(capsys, "forget", one)
    assert note in says(capsys, "report")
    assert before != says(capsys, "report", "--format", "csv")
    says(capsys, "report", "--out", str(folder / "page"))
    assert note in (folder / "page" / "index.html").read_text()
    assert note in says(capsys, "reproduce", "hansen2023_tvgnn/classification", "--only", "MUTAG", "--plan")
    said = says(capsys, "status")
    assert "\n1 of 2: 1 done, 1 to go" in said and "\n1 job to go again, as runs were forgotten\n" in said
    said = says(capsys, "verify")
    assert f"note: {note}\nnote: 1 record of them here (1 done), and not checked\n" in said and "1 record, no" in said
    said = says(capsys, "rerun", one, "--command", code=2)
    assert f"run {one} is forgotten: poolbench forget --undo {one} brings it back" in said


def test_it_is_done_again_when_it_is_asked_for(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = ids(folder)
    says(capsys, "forget", one)
    said = says(capsys, *SWEEP)
    assert "1 done before, 1 to go" in said
    assert [path.name for path in (folder / "runs" / other).iterdir() if path.is_dir()] == ["1"]
    assert [path.name for path in (folder / "runs" / one).iterdir() if path.is_dir()] == ["2"]
    assert "2 of 2: 2 done" in says(capsys, "status") and "to go again" not in says(capsys, "status")
    assert "no errors" in says(capsys, "verify")
    says(capsys, "report", "--gather")
    shutil.rmtree(folder / "runs")
    assert f"run {one} is done" in says(capsys, "train", "pool=topk", "seed=0", *SMALL) + says(
        capsys, "train", "pool=topk", "seed=1", *SMALL
    )


def test_verify_names_broken_lines_and_what_is_not_here(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = ids(folder)[0]
    shutil.rmtree(folder / "records")
    says(capsys, "forget", one)
    shutil.rmtree(folder / "forgotten")
    assert f"note: 1 attempt in {MARKS} of which nothing lies here, such as 1 of run {one}\n" in says(capsys, "verify")
    assert says(capsys, "forget", "--undo", one) == f"run {one}, attempt 1: counts again; nothing of it lies here\n"
    with open(folder / MARKS, "a") as file:
        file.write("{}\n")
    assert f"{MARKS}, line 3: not a forgotten attempt" in says(capsys, "verify", code=1)


def test_a_mistaken_record_is_not_checked_once_it_is_forgotten(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = ids(folder)[0]
    shutil.rmtree(folder / "runs")
    path = folder / "records" / "planted" / "holdout.jsonl"
    path.write_text(path.read_text().replace('"selected_epoch":0', '"selected_epoch":7', 1))
    assert "selected_epoch=7" in says(capsys, "verify", code=1)
    says(capsys, "forget", one)
    assert "no errors" in says(capsys, "verify")


def test_offline_runs_of_what_is_forgotten_are_not_uploaded(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = ids(folder)[0]
    made = folder / "runs" / one / "1" / "wandb" / "offline-run-1"
    made.mkdir(parents=True)
    assert offline_runs(folder) == [made]
    says(capsys, "forget", one)
    assert offline_runs(folder) == [] and len(offline_runs(folder / "forgotten")) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "poolbench forget: missing argument 'ID... [FOLDER]'; see poolbench forget --help"),
        (["results"], "give the IDs of runs, and at most one results folder"),
        (["abc", "results", "runs"], "give the IDs of runs, and at most one results folder"),
        (["abc", "./nowhere"], "there is no results folder nowhere; give one, or set POOLBENCH_RESULTS"),
        (["abc", "--attempt", "0"], "0 is not in the range x>=1"),
        (["abc", "--undo", "--reason", "x"], "--reason says why runs are forgotten: leave it out with --undo"),
        (["abc", "--undu"], "no option --undu (did you mean --undo?)"),
        (["zzz"], "holds no run zzz; give its id, or the beginning of it"),
    ],
)
def test_bad_lines(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: list[str], said: str
) -> None:
    monkeypatch.chdir(folder.parent)
    (folder.parent / "runs").mkdir()
    error = says(capsys, "forget", *words, code=2)
    assert said in error and error.count("\n") == 1
    assert not (folder / MARKS).exists()


def test_a_run_in_use_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with lease(folder, ids(folder)[0]):
        said = says(capsys, "forget", ids(folder)[0], code=2)
    assert said == f"error: run {ids(folder)[0]} is being done by another process: stop that, or wait for it\n"
