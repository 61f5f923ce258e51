"""Sweeps from the command line: what is swept, what is refused, and what the exit code and the books say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl

from poolbench import cli
from poolbench.cli.names import choices
from poolbench.jobs import sweep

QUICK = ["dataset=planted", "dataset.num_graphs=40", "trainer.max_epochs=1", "model.hidden=8", "logger=none",
         "callbacks.progress=none"]  # fmt: skip


def swept(*arguments: str, results: Path) -> tuple[int, sweep.Sweep]:
    """Exit code and books of a sweep in this process."""
    code = cli.train(["-m", *QUICK, *arguments])
    return code, sweep.read(sweep.find(results))


def test_a_grid(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, books = swept("pool=topk,nopool", "seed=range(2)", results=results)
    assert code == 0 and books.counts == {"done": 4} and books.at_once == 1
    assert [job.text for job in books.jobs][1:3] == ["[2] pool=topk seed=1", "[3] pool=none seed=0"]
    said = capsys.readouterr().out
    assert "sweep of 4 jobs, 1 at once" in said and said.splitlines()[-1] == "4 of 4: 4 done"
    (folder,) = results.glob("sweeps/*")
    made = [json.loads(path.read_text()) for path in results.glob("runs/*/1/record.json")]
    assert {r["config"]["group"] for r in made} == {f"sweep-{folder.name}"}
    assert {r["id"] for r in made} == {id for job in books.jobs for id in job.runs}
    assert cli.main(["status"]) == 0 and cli.main(["status", str(folder)]) == 0
    assert capsys.readouterr().out.splitlines() == [f"sweep {folder}", "4 of 4: 4 done"] * 2
    for wrong in (["status", "nowhere"], ["status", "a", "b"], ["status", "--all"]):
        assert cli.main(wrong) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_a_glob_over_pools_refuses_what_does_not_go_with_the_model(results: Path) -> None:
    pools = [name for name in choices("pool") if name.startswith("global")]
    code, books = swept("pool=glob([global*,topk])", results=results)
    assert code == 2 and books.counts == {"refused": len(pools), "done": 1}
    assert all("add model=global" in (job.reason or "") for job in books.of("refused"))


def test_an_experiment_can_hold_a_sweep(results: Path, tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(
        "# @package _global_\nhydra:\n  sweeper:\n    params:\n      pool: topk,none\n      seed: 3,4\n"
    )
    code = cli.train(["--config-dir", str(tmp_path), "-m", "experiment=mine", *QUICK])
    books = sweep.read(sweep.find(results))
    assert code == 0 and books.counts == {"done": 4}
    assert books.jobs[3].text == "[4] pool=none seed=4"


def test_batches_of_jobs_are_one_sweep(results: Path) -> None:
    code, books = swept("pool=topk,globalsum,none", "hydra.sweeper.max_batch_size=1", results=results)
    assert code == 2 and [job.state for job in books.jobs] == ["done", "refused", "done"]
    assert len(list(results.glob("sweeps/*"))) == 1


def test_each_job_is_composed_before_the_first_begins_and_not_by_hydra(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in {
        "experiment/a": "batch_size: 16", "debug/c": "batch_size: 8", "debug/d": "batch_size: 8", "own/c": "seed: 1",
        "experiment/b": "defaults: [{/own@_global_: \"${debug}\"}]",
    }.items():  # fmt: skip
        path = tmp_path / f"{name}.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"# @package _global_\n{text}\n")
    monkeypatch.setattr(ConfigLoaderImpl, "load_sweep_config", None)
    mine = ["--config-dir", str(tmp_path), "-m", *QUICK]
    assert cli.train([*mine, "experiment=a,b", "debug=c,d"]) == 2  # each of the four goes with the other's first
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "[4] experiment=b debug=d: " in said and "own=d is unknown" in said, said
    assert not list(results.glob("sweeps/*/jobs.json")) and not list(results.glob("runs/*"))
    assert cli.train([*mine, "experiment=a,b", "debug=c"]) == 0


def test_a_job_knows_its_number_the_time_of_the_sweep_and_its_words(results: Path, tmp_path: Path) -> None:
    tags = "tags=['n${hydra:job.num}','${now:%Y-%m-%d_%H-%M-%S}']"
    assert swept("seed=3,4", tags, results=results)[0] == 0
    made = [json.loads(path.read_text())["config"] for path in results.glob("runs/*/1/record.json")]
    assert {config["seed"]: config["tags"][0] for config in made} == {3: "n0", 4: "n1"}
    (folder,) = results.glob("sweeps/*")
    assert {config["tags"][1] for config in made} == {folder.name}
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("# @package _global_\ntags: ['${hydra:job.override_dirname}']\n")
    assert swept("seed=5,6", "--config-dir", str(tmp_path), "experiment=mine", results=results)[0] == 0
    made = [json.loads(path.read_text())["config"] for path in results.glob("runs/*/1/record.json")]
    assert [f"seed={config['seed']}" in config["tags"][0] for config in made if config["seed"] > 4] == [True, True]


def test_data_that_cannot_be_had_fails_its_job_and_no_other(
    results: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from poolbench.data.sources import tu

    monkeypatch.setattr(tu, "HOST", "http://127.0.0.1:9/x")
    monkeypatch.setenv("POOLBENCH_MIRROR", str(results / "gone"))
    code = cli.train(["-m", "dataset=ENZYMES,planted", *QUICK[2:]])
    books = sweep.read(sweep.find(results))
    assert code == 1 and [job.state for job in books.jobs] == ["failed", "done"]
    assert "POOLBENCH_MIRROR" in (books.jobs[0].reason or "")
    assert capsys.readouterr().err.count("\n") == 1


def test_results_that_cannot_be_written_are_failures(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results.mkdir()
    (results / "runs").write_text("a file where the runs should be")
    code, books = swept("pool=topk,none", results=results)
    assert code == 1 and books.counts == {"failed": 2}
    assert capsys.readouterr().err.count("paths.results=") == 2
    results.joinpath("sweeps").rename(results / "other")
    (results / "sweeps").write_text("a file where the sweeps should be")
    for words in ([], ["hydra.sweep.dir=/proc/nowhere"]):
        assert cli.train(["-m", *QUICK, "pool=topk,none", *words]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and "hydra.sweep.dir=/" in said and "cannot be written" in said


@pytest.mark.parametrize(
    ("command", "arguments", "expected"),
    [
        ("train", ["hydra/launcher=basic"], "none of PoolBench's"),
        ("train", ["hydra/launcher=local", "hydra.launcher.n_jobs=0"], "n_jobs=0"),
        ("train", ["hydra/launcher=locall"], "locall"),
        ("train", ["trainer=ddp"], "does not go with -m"),
        ("tune", ["search=default"], "does not go with -m"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(
    command: str, arguments: list[str], expected: str, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([command, "-m", "pool=topk", *QUICK, *arguments]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and expected in said, said
    assert not list(results.glob("runs/*"))


def test_data_is_prepared_by_the_dozen(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["prepare", "-m", "dataset=planted,ring"]) == 0
    assert capsys.readouterr().out.count("fingerprint") == 2


@pytest.mark.slow
def test_joblib_is_another_name_for_local(results: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code, books = swept("pool=topk,globalsum", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", results=results)
    assert code == 2 and books.counts == {"done": 1, "refused": 1} and books.at_once == 2
    assert "[1] pool=topk       test accuracy 0." in capfd.readouterr().out
