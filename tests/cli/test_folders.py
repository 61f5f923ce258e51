"""Configuration folders of one's own: the option and the variable, for every command that composes, and who wins."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from poolbench import cli
from poolbench.cli import folders
from poolbench.cli.commands import reproduce, tune
from poolbench.cli.door import composed
from poolbench.errors import PoolBenchError

ROOT = Path(__file__).parents[2]
QUICK = ["dataset=planted", "dataset.num_graphs=24", "trainer.max_epochs=1", "model.hidden=8", "logger=none",
         "callbacks.progress=none"]  # fmt: skip
POOL = """
from poolbench.pool import SRCPool


class Every(SRCPool):
    def __init__(self, step=2, **keywords):
        super().__init__(**keywords)
        self.step = step

    def select(self, x, a, i):
        return list(range(0, x.shape[0], self.step))
"""
FILES = {
    "one/pool/stride.yaml": "# Every (mine): every second node.\n_target_: own_every.Every\nstep: 2\n",
    "one/experiment/mine/wide.yaml": "# @package _global_\ndefaults:\n  - override /pool: stride\nmodel: {hidden: 9}\n",
    "two/pool/stride.yaml": "# Every (another's): every third node.\n_target_: own_every.Every\nstep: 3\n",
    "two/pool/rms.yaml": "# Readout (mine): the mean.\n_target_: poolbench.pool.readouts.globalpool.GlobalAvgPool\n",
    "two/dataset/mine.yaml": "# My graphs.\ndefaults: [planted]\nnum_graphs: 24\n",
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder: the module of an operator, and two configuration folders."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "own_every.py").write_text(POOL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(folders.VARIABLE, raising=False)
    yield tmp_path
    sys.modules.pop("own_every", None)


def printed(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert cli.main(words) == 0
    return capsys.readouterr().out


def config(words: list[str], capsys: pytest.CaptureFixture[str]) -> dict:
    made: dict = yaml.safe_load(printed([*words, "--cfg", "job"], capsys))
    return made


def test_the_option_may_stand_anywhere_and_more_than_once(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (
        ["--config-dir", "one", "train", "pool=stride", "dataset=mine", "-cd", "two"],
        ["prepare", "--config-dir=one", "pool=stride", "--config-dir=two", "dataset=mine"],
        ["tune", "--config-dir", "one", "-cd", "two", "pool=stride", "dataset=mine"],
        ["wandb-sweep", "pool=stride", "dataset=mine", "--config-dir", str(here / "one"), "-cd", "two"],
    ):
        made = config(words, capsys)
        assert made["pool"]["step"] == 2 and made["dataset"]["num_graphs"] == 24, words
    assert config(["-cd", "two", "pool=stride"], capsys)["pool"]["step"] == 3, "train may be left out"
    assert config(["train", "experiment=mine/wide", "-cd", "one"], capsys)["model"]["hidden"] == 9
    assert folders.VARIABLE not in os.environ, "a command leaves nothing behind"


def test_of_several_the_first_wins_and_the_variables_come_last(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert config(["train", "pool=stride", "-cd", "two", "-cd", "one"], capsys)["pool"]["step"] == 3
    monkeypatch.setenv(folders.VARIABLE, os.pathsep.join(["one", "two"]))
    assert config(["train", "pool=stride"], capsys)["pool"]["step"] == 2
    assert config(["train", "pool=stride", "-cd", "two"], capsys)["pool"]["step"] == 3
    assert composed(["pool=rms", "dataset=mine"]).dataset.num_graphs == 24
    assert os.environ[folders.VARIABLE] == os.pathsep.join(["one", "two"])
    monkeypatch.setenv(folders.VARIABLE, "gone")
    assert cli.main(["list", "pools"]) == 2
    assert f"POOLBENCH_CONFIG: there is no folder {here / 'gone'}" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["pool/topk", "pool/pyg_topk", "pool/top-k", "dataset/PROTEINS", "dataset/planted",
                                  "trainer/cpu", "experiment/lee2019_sagpool/classification"])  # fmt: skip
def test_a_name_of_poolbench_is_not_given_away(name: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = here / "one" / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("_target_: own_every.Every\n")
    for words in (["pool=none", "--cfg", "job", "-cd", "one"], ["list", "pools", "-cd", "one"]):
        assert cli.main(words) == 2
        error = capsys.readouterr().err
        assert f"{path}: PoolBench has a {name.partition('/')[0]} of this name" in error and error.count("\n") == 1
    assert cli.main(["list", "pools"]) == 0


def test_poolbenchs_own_folder_may_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert config(["pool=topk", "-cd", str(folders.conf_dir())], capsys)["pool"]["ratio"] == 0.5


def test_lists_hints_and_readouts_know_what_lies_there(
    here: Path, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = printed(["list", "pools", "-cd", "one", "-cd", "two"], capsys).splitlines()
    assert [" ".join(line.split()) for line in lines if "mine" in line] == [
        "rms Readout (mine): the mean", "stride Every (mine): every second node"]  # fmt: skip
    assert "mine" in printed(["list", "datasets", "-cd", "two"], capsys)
    assert "my graphs" in printed(["list", "datasets", "my", "graphs", "-cd", "two"], capsys).lower()
    for words, said in ((["pool=strid"], "did you mean stride"),
                        (["pool=topk", "model.readout=rmss"], "did you mean rms"),
                        (["experiment=mine/wyde"], "did you mean mine/wide"),
                        (["pool=stride", "pool.stepp=1"], "did you mean pool.step")):  # fmt: skip
        assert cli.train([*words, "-cd", "one", "-cd", "two", "logger=none"]) == 2
        assert said in capsys.readouterr().err
    said = printed(["train", "--help", "pool=stride", "-cd", "one"], capsys)
    assert "stride" in said.partition("pool:")[2].partition("protocol:")[0] and "step: 2" in said


def test_it_trains_and_sweeps_with_code_of_the_current_folder(here: Path, results: Path) -> None:
    assert cli.train(["-m", "pool=stride,topk", "model.readout=rms", *QUICK, "-cd", "one", "--config-dir", "two"]) == 0
    records = [json.loads(path.read_text()) for path in results.glob("runs/*/*/record.json")]
    assert {r["config"]["names"]["pool"] for r in records} == {"stride", "topk"}
    assert all(r["config"]["model"]["readout"]["_target_"].endswith("GlobalAvgPool") for r in records)
    assert str(here) not in sys.path


def test_rerun_says_a_command_that_finds_the_folder(
    here: Path, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.train(["pool=stride", "pool.step=4", *QUICK, "-cd", "one"]) == 0
    (run,) = (path.name for path in results.glob("runs/*"))
    said = printed(["rerun", run, "--command", "--config-dir", "one"], capsys)
    words = shlex.split(said.removeprefix("command: "))[1:]
    assert words[:4] == ["train", "--config-dir", "one", "pool=stride"]
    assert f"run {run} is done" in printed(words, capsys)


def test_what_a_search_leaves_names_the_folder(
    here: Path, results: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = yaml.safe_load(printed(["wandb-sweep", "pool=stride", "dataset=planted", "--config-dir", "one"], capsys))
    assert made["command"][1:5] == ["poolbench", "train", "--config-dir", "one"]
    monkeypatch.setenv(folders.VARIABLE, "one")
    assert tune.experiment_home(results)[1] == "python train.py --config-dir one"


def test_reproduce_takes_recipes_and_experiments_from_there(
    here: Path, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = here / "one" / "reproduce" / "mine" / "table.yaml"
    recipe.parent.mkdir(parents=True)
    recipe.write_text("# My table\nexperiment: mine/wide\nseeds: 1\nmetrics: {}\ndatasets: {planted: }\n"
                      "rows: [{method: Every}]\n")  # fmt: skip
    assert "mine/table" in printed(["reproduce", "--list", "-cd", "one"], capsys)
    assert "mine/table: 1 run, 1 to do" in printed(
        ["reproduce", "-cd", "one", "mine/table", "--plan", "trainer=cpu"], capsys
    )
    assert cli.main(["reproduce", "mine/table", "--plan"]) == 2
    assert "there is no recipe for mine/table" in capsys.readouterr().err
    with pytest.raises(PoolBenchError, match="pool=stride is unknown"):
        reproduce.composer()(["pool=stride"], [0])


def test_the_contract_tests_see_the_same_folders(here: Path) -> None:
    code = "from registry import REGISTRY; print([(r.name, r.args.get('step')) for r in REGISTRY][-2:], len(REGISTRY))"
    places = os.pathsep.join([str(here), str(ROOT / "src"), str(ROOT / "tests" / "contract")])
    environment = {**os.environ, "PYTHONPATH": places}
    counts = []
    for named in ("", os.pathsep.join(["one", "two"])):
        done = subprocess.run([sys.executable, "-c", code], env={**environment, folders.VARIABLE: named}, check=True,
                              capture_output=True, text=True)  # fmt: skip
        said, _, count = done.stdout.strip().rpartition(" ")
        counts.append(int(count))
    assert said == "[('stride', 2), ('rms', None)]" and counts[1] == counts[0] + 2
