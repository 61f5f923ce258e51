"""The commands: their help, what is wrong in one line, how they end, what they load, and how they are completed."""

from __future__ import annotations

import ast
import importlib
import os
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from poolbench import cli
from poolbench.cli.door import composed
from poolbench.cli.folders import conf_dir
from poolbench.cli.group import commands
from poolbench.cli.table import COMMANDS

ROOT = Path(__file__).parents[2]
MAIN = "import sys; from poolbench.cli import main; sys.exit(main(sys.argv[1:]))"
COMPOSING = ("train", "prepare", "tune", "wandb-sweep")


def python(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False,
                          env={**os.environ, **env})  # fmt: skip


def the_help(name: str, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert cli.main([name, "--help"]) == 0
    return capsys.readouterr().out


def examples(text: str) -> list[list[str]]:
    """The words of each example in a help, without what the shell does with the output."""
    lines = text.partition("Examples:")[2].partition("\n\n")[0].splitlines()
    found = [shlex.split(line.partition(">")[0]) for line in lines if line.strip()]
    assert found and all(words[0] == "poolbench" for words in found)
    return [words[1:] for words in found]


# ----------------------------------------------------------------------------------------------------------------- help


def test_the_table_and_the_folder_hold_the_same_commands() -> None:
    folder = ROOT / "src" / "poolbench" / "cli" / "commands"
    files = {path.stem.replace("_", "-") for path in folder.glob("*.py")} - {"--init--"}
    assert files == set(COMMANDS)
    for name in COMMANDS:
        command = importlib.import_module(f"poolbench.cli.commands.{name.replace('-', '_')}").command
        assert isinstance(command, click.Command)


def test_the_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    for asked in ([], ["help"], ["-h"], ["--help"]):
        assert cli.main(asked) == 0
        said = capsys.readouterr().out
        assert said.startswith("Usage: poolbench") and all(f"\n  {name} " in said for name in COMMANDS)
    assert cli.main(["--version"]) == 0 and capsys.readouterr().out.startswith("poolbench ")


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_a_help_with_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    said = the_help(name, capsys)
    assert said.startswith(f"Usage: poolbench {name} ")
    command = commands.get_command(click.Context(commands), name)
    assert command is not None and (command.help or "").strip()
    for param in command.params:
        if isinstance(param, click.Option) and not param.hidden:
            assert param.help and param.opts[-1] in said
    assert all(words[0] == name for words in examples(said))


@pytest.mark.parametrize("name", COMPOSING)
def test_examples_with_hydras_words_compose(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "own" / "pool").mkdir(parents=True)
    (tmp_path / "own" / "pool" / "myclusters.yaml").write_text("_target_: my_clusters.MyClusters\n")
    monkeypatch.chdir(tmp_path)
    for words in examples(the_help(name, capsys)):
        single = [word.partition(",")[0].replace("range(10)", "3") for word in words if word != "-m"]
        assert cli.main([*single, "--cfg", "job"]) == 0
        (dataset,) = (word.removeprefix("dataset=") for word in single if word.startswith("dataset="))
        assert f"\n  name: {dataset}\n" in capsys.readouterr().out


def test_examples_about_records_work(
    results: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With a sweep of two small runs, and two that differ in the graphs and the ratio, in place of what they name."""
    monkeypatch.chdir(tmp_path)
    small = ["dataset=planted", "dataset.num_graphs=40", "trainer.max_epochs=1", "model.hidden=8", "logger=none"]
    assert cli.main(["train", "-m", "pool=mincut,topk", *small]) == 0
    (sweep,), (run, _) = results.glob("sweeps/*"), sorted(path.name for path in results.glob("runs/*"))
    for other in ("perturb=graph", "pool.ratio=0.25"):
        assert cli.main(["train", "pool=topk", other, *small]) == 0
    named = {
        "theirs.jsonl": f"{results}/runs/{run}/1/record.json",
        "results/sweeps/2026-03-01_12-00-00": str(sweep),
        "0123456789abcdef": run,
        "dataset=PROTEINS": small[0],
        "dataset=MUTAG": small[0],
        "pool=mine": "pool=mincut",
        "URL@": "https://example.org/mine@",
        "COMMIT": "0123456789" * 4,
        "submissions/mine": "repo/submissions/mine",
    }
    (tmp_path / "reference").mkdir()
    done = 0
    for name in ("submit", "report", "verify", "rerun", "equivalent", "status", "list"):
        for words in examples(the_help(name, capsys)):
            for example, actual in named.items():
                words = [word.replace(example, actual) for word in words]
            assert cli.main(words) == 0, (words, capsys.readouterr())
            done += 1
    assert done == 21
    assert "| mincut |" in (tmp_path / "summary.md").read_text()
    for words in examples(the_help("sync", capsys)):
        assert cli.main(words) == 2 and "no offline run" in capsys.readouterr().err


def test_examples_of_reproduce_are_tables_that_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    (listing, *others) = examples(the_help("reproduce", capsys))
    assert cli.main(listing) == 0
    known = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert others and all(words[1] in known for words in others)


# --------------------------------------------------------------------------------------------------------- wrong words


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["reprot"], "poolbench has no command 'reprot' (did you mean report?); see poolbench --help"),
        (["reprot", "--help"], "poolbench has no command 'reprot' (did you mean report?)"),
        (["trian"], "(did you mean train?)"),
        (["--hepl"], "no option --hepl (did you mean --help?)"),
        (["train", "-p", "optimizer"], "--package says what --cfg prints: add --cfg job"),
        (["report", "--fromat", "md"], "poolbench report has no option --fromat (did you mean --format?); see poolb"),
        (["train", "--mulitrun"], "poolbench train has no option --mulitrun (did you mean --multirun?)"),
        (["train", "--trainer.max_epochs", "3"], "(values are set as KEY=VALUE, without dashes)"),
        (["train", "--cfg", "jbo"], "'jbo' is none of job, hydra, all (did you mean job?)"),
        (["list"], "missing argument 'KIND'"),
        (["list", "pool"], "did you mean pools"),
        (["list", "pools", "no-such", "word"], "none of the pools says no-such word"),
        (["list", "pools", "mincutt"], "(did you mean mincut"),
        (["reproduce", "a/b", "--seeds", "0"], "0 is not in the range"),
        (["prepare", "--config-dir", "nowhere"], "'nowhere' does not exist"),
        (["tune", "-m", "pool=topk"], "does not go with -m"),
        (["tune", "pool=topk", "workers=none"], "workers=none"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_line(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str], results: Path
) -> None:
    assert cli.main(words) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and said in error
    assert not results.exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train", "pool=topk", "seed=0,1,2"], "seed=0,1,2 means several runs: add -m"),
        (["pool=topk,mincut"], "pool=topk,mincut means several runs: add -m"),
        (["train", "seed=range(3)"], "seed=range(3) means several runs: add -m"),
        (["prepare", "dataset=MUTAG,PROTEINS"], "add -m"),
        (["tune", "pool=topk,mincut"], "this command takes one value"),
    ],
)
def test_several_values_want_a_sweep(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


# -------------------------------------------------------------------------------------------------------- Hydra's words


def printed(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert cli.main(words) == 0
    return capsys.readouterr().out


def test_hydras_words_and_options_go_through_wherever_they_stand(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["pool=topk", "--cfg", "job", "-p", "optimizer", "optimizer.lr=0.5"]
    said = printed(["train", *words], capsys)
    assert "lr: 0.5" in said and "seed" not in said
    assert printed(words, capsys) == printed([*words[1:], words[0]], capsys) == said, "train may be left out"
    assert "batch_size" not in printed(["train", "-c", "job", "~batch_size"], capsys)
    assert "cut: 1" in printed(["train", "-c", "job", "loss_weights={cut: 1}"], capsys)
    assert "\n  levels_too: 3" in printed(["train", "--cfg=job", "+model.levels_too=3"], capsys)
    assert "ratio: 0.5" in printed(["train", "pool=topk", "--cfg", "job", "--resolve"], capsys)
    apart = python("-c", MAIN, "train", "pool=topk", "--info", "searchpath")  # it has Hydra log from then on
    assert apart.returncode == 0 and str(conf_dir()) in apart.stdout
    assert printed(["train", "--version"], capsys).startswith("Hydra")


def test_names_are_found_whatever_their_case(capsys: pytest.CaptureFixture[str]) -> None:
    said = printed(["dataset=proteins", "pool=Top-K", "model=Global", "--cfg", "job"], capsys)
    assert "name: PROTEINS" in said and "TopKPool" in said
    swept = composed(["pool=MINCUT", "dataset=mutag", "experiment=Leaderboard/CV"])
    assert swept.dataset.name == "MUTAG" and swept.pool._target_.endswith("MinCutPool")
    with pytest.raises(Exception, match="dataset=Proteinss is unknown"):
        composed(["dataset=Proteinss"])


def test_a_list_can_be_asked_for_words(capsys: pytest.CaptureFixture[str]) -> None:
    everything = printed(["list", "pools"], capsys).splitlines()
    some = printed(["list", "pools", "TopK"], capsys).splitlines()
    assert 0 < len(some) < len(everything) and set(some) < set(everything)
    assert all("topk" in line.lower() for line in some)
    for kind, name in (("pools", "mincut"), ("models", "unet"), ("datasets", "PROTEINS"), ("protocols", "cv10")):
        lines = printed(["list", kind], capsys).splitlines()
        assert any(line.split()[0] == name for line in lines)
        assert all(len(line.split()) > 1 for line in lines), "every choice says what it is"


# ------------------------------------------------------------------------------------------------------- how it ends


@pytest.mark.parametrize("words", [("-c", MAIN, "train", "--help"), ("train.py", "--help"),
                                   ("-c", MAIN, "list", "datasets"), ("-c", MAIN, "--help")])  # fmt: skip
@pytest.mark.parametrize("lines", [0, 1])
def test_a_reader_who_stops_is_no_error(words: tuple[str, ...], lines: int) -> None:
    process = subprocess.Popen([sys.executable, *["-u"] * lines, *words], cwd=ROOT, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE)  # fmt: skip
    assert process.stdout is not None and process.stderr is not None
    for _ in range(lines):
        process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b"" and process.wait() == 0
    process.stderr.close()


def test_outside_of_the_environment_one_line_says_how_to_make_it() -> None:
    bare = python("-I", "-S", "train.py", "pool=mincut")  # no site-packages
    assert bare.returncode == 2 and bare.stderr.count("\n") == 1
    assert "no module poolbench" in bare.stderr and "bash scripts/demo.sh" in bare.stderr


@pytest.mark.parametrize("missing", ["click", "hydra", "torch"])
def test_a_library_that_is_missing_is_one_line(missing: str, results: Path, tmp_path: Path) -> None:
    code = (f"import sys; sys.modules[{missing!r}] = None; from poolbench.cli import train; "
            "sys.exit(train(['dataset=planted', 'logger=none']))")  # fmt: skip
    done = python("-c", code)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert missing in done.stderr and "bash scripts/demo.sh" in done.stderr


# ------------------------------------------------------------------------------------------------------ what is loaded


def loaded(*words: str) -> set[str]:
    """The top-level packages that a command line imports."""
    report = python("-X", "importtime", "-c", MAIN, *words).stderr
    lines = [line.rpartition("|")[2].strip() for line in report.splitlines() if line.startswith("import time:")]
    return {name.partition(".")[0] for name in lines}


def test_a_command_loads_what_it_needs_alone() -> None:
    assert not {"hydra", "omegaconf", "torch", "numpy"} & loaded("--help")
    assert not {"hydra", "omegaconf", "torch"} & loaded("report", "--help")
    assert not {"hydra", "omegaconf", "torch"} & loaded("status")
    assert not {"hydra", "torch"} & loaded("list", "pools")
    assert "torch" not in loaded("train", "--help") | loaded("pool=mincutt") | loaded("train", "pool=topk,mincut")


def test_no_file_of_the_room_but_the_door_imports_the_table_or_the_group() -> None:
    room = ROOT / "src" / "poolbench" / "cli"
    for path in room.rglob("*.py"):
        tree = ast.parse(path.read_text())
        named = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        if path.name == "group.py":
            assert "poolbench.cli.table" in named
        elif path != room / "__init__.py":
            assert not {"poolbench.cli.table", "poolbench.cli.group"} & named, path


def test_the_operators_import_torch_and_nothing_heavy_beside_it() -> None:
    code = (
        "import sys; from poolbench.pool import MinCutPool, TopKPool;"
        "print([m for m in ('pytorch_lightning', 'hydra', 'wandb', 'ogb', 'omegaconf', 'torch_geometric')"
        " if m in sys.modules])"
    )
    done = python("-c", code)
    assert done.stdout.strip() == "[]", done.stderr


# ---------------------------------------------------------------------------------------------------------- completion


def completed(words: str, shell: str = "bash") -> set[str]:
    """What a shell is offered for the last of its words."""
    parts = words.split("|")
    done = python("-c", MAIN, _POOLBENCH_COMPLETE=f"{shell}_complete", COMP_WORDS="\n".join(parts),
                  COMP_CWORD=str(len(parts) - 1) if shell == "bash" else parts[-1])  # fmt: skip
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    return {line.partition(",")[2] for line in lines} if shell in ("bash", "fish") else set(lines)


def test_names_are_completed() -> None:
    assert completed("poolbench|st") == {"status"}
    assert completed("poolbench|report|--al") == {"--all-code"}
    assert completed("poolbench|list|mod") == {"models"}
    assert completed("poolbench|train|pool|=|topk,minc") == {"topk,mincut"}, "bash takes pool=x for three words"
    assert {"topk"} == completed("poolbench|train|model=global|pool|=|to")
    assert "mincut" in completed("poolbench|tune|pool|=")
    assert completed("poolbench|pool|=|minc") == {"mincut"}, "without a command they are train's"
    assert "dataset=PROTEINS" in completed("poolbench|pool=topk|dataset=prot", "fish")
    assert completed("poolbench|pool=to", "fish") == {"pool=topk"}
    assert "pool=topk" in completed("poolbench|train|pool=to", "fish"), "other shells for one"
    assert "dataset=PROTEINS" in completed("poolbench|train|dataset=prot", "fish")
