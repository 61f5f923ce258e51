"""Tuned values: an experiment picks them up, words win over them, and what is not there is said."""

from __future__ import annotations

import itertools
import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest
from hydra.core.hydra_config import HydraConfig

from poolbench.audit.rerun import command
from poolbench.cli import folders
from poolbench.cli.composing import Composer
from poolbench.cli.door import composed, resolve, say_untuned, tuned
from poolbench.cli.names import choices
from poolbench.cli.words import parsed
from poolbench.config import plain, read
from poolbench.errors import PoolBenchError

CV = ["experiment=leaderboard/cv", "fold=0"]
OWN = 2e-3  # of network=leaderboard
FROM_ONE_PLACE = ("leaderboard/cv", "leaderboard/molbbbp",
                  *(f"separating/{name}" for name in ("cexp", "csbm", "motif", "own")))  # fmt: skip
"""The experiments that sweep the operators of leaderboard/operators."""
FILE = """# @package _global_
tuned: {{sampler: quasi, trials: 6, chosen: {{optimizer: {{lr: {lr}}}, pool: {{ratio: 0.25}}}}}}
optimizer: {{lr: {lr}}}
pool: {{ratio: 0.25}}
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for dataset, lr in (("MUTAG", 0.0077), ("PTC_MR", 0.0055)):
        (tmp_path / "tuned" / dataset).mkdir(parents=True)
        (tmp_path / "tuned" / dataset / "topk.yaml").write_text(FILE.format(lr=lr))
    monkeypatch.setenv(folders.VARIABLE, str(tmp_path))
    return tmp_path


def test_each_job_of_a_sweep_over_both_gets_its_own_values() -> None:
    composer, found = Composer(), {}
    for dataset, pool in itertools.product(("MUTAG", "PTC_MR", "NCI109"), ("topk", "sag")):
        config = resolve(composed([*CV, f"dataset={dataset}", f"pool={pool}"], composer))
        found[dataset, pool] = config.optimizer.arguments["lr"], config.pool.arguments["ratio"], tuned()
    assert found["MUTAG", "topk"] == (0.0077, 0.25, "MUTAG/topk")
    assert found["PTC_MR", "topk"] == (0.0055, 0.25, "PTC_MR/topk")
    for missing in (("MUTAG", "sag"), ("PTC_MR", "sag"), ("NCI109", "topk"), ("NCI109", "sag")):
        assert found[missing] == (OWN, 0.5, "/".join(missing))


def test_words_win_and_tuned_values_can_be_left_away_or_chosen() -> None:
    def lr(*words: str) -> float:
        return resolve(composed(words)).optimizer.arguments["lr"]

    mutag = [*CV, "dataset=MUTAG", "pool=topk"]
    assert lr(*mutag, "optimizer.lr=0.5") == 0.5
    assert lr(*mutag, "~tuned") == OWN
    assert lr(*mutag, "tuned=PTC_MR/topk") == 0.0055
    assert lr("dataset=MUTAG", "pool=topk", "tuned=MUTAG/topk") == 0.0077, "of any experiment, or none"
    assert lr("experiment=leaderboard/molbbbp", "dataset=MUTAG", "pool=topk") == OWN, "no other experiment takes them"


def test_a_run_says_what_of_it_was_tuned_and_no_more_of_it() -> None:
    def said(*words: str) -> dict[str, object] | None:
        config = resolve(composed([*CV, "dataset=MUTAG", "pool=topk", *words]))
        made = plain(config).get("tuned")
        assert read(plain(config)) == config
        return made

    how = {"sampler": "quasi", "trials": 6}
    assert said() == {**how, "chosen": {"optimizer": {"lr": 0.0077}, "pool": {"ratio": 0.25}}}
    assert said("optimizer.lr=0.5") == {**how, "chosen": {"pool": {"ratio": 0.25}}}
    assert said("pool.ratio=0.25") == said()
    assert said("optimizer.lr=0.5", "pool.ratio=0.1") is None
    assert said("~tuned") is None


def test_the_command_of_a_tuned_run_makes_it_again() -> None:
    def compose(words: list[str]) -> dict[str, object]:
        return plain(resolve(composed(words)))

    wanted = compose([*CV, "dataset=MUTAG", "pool=topk"])
    said = command(SimpleNamespace(config=wanted), compose)  # type: ignore[arg-type]
    assert said is not None
    made = compose(shlex.split(said)[2:])
    apart = ("paths", "group", "tags", "callbacks", "logger")
    assert {k: v for k, v in made.items() if k not in apart} == {k: v for k, v in wanted.items() if k not in apart}


def test_what_is_not_there_is_said_or_refused(capsys: pytest.CaptureFixture[str]) -> None:
    say_untuned(["MUTAG/topk", None, "MUTAG/sag", "MUTAG/sag"])
    said = capsys.readouterr().err
    assert said == "no values were tuned for MUTAG/sag: the experiment's own are taken\n"
    say_untuned(["MUTAG/topk", None])
    assert capsys.readouterr().err == ""
    with pytest.raises(PoolBenchError, match=r"tuned=MUTAG/top: no values were tuned for MUTAG/top \(did you mean"):
        parsed(["tuned=MUTAG/top"])


def test_what_is_tuned_is_what_is_run() -> None:
    words = ["dataset=MUTAG", "pool=sag"]
    one, other = (plain(resolve(composed([f"experiment={name}", *words])))
                  for name in ("leaderboard/tuning", "leaderboard/cv"))  # fmt: skip
    assert (one["seed"], one["evaluate_test"], other["seed"], other["evaluate_test"]) == (1000, False, 0, True)
    assert one["protocol"]["select"] == other["protocol"]["select"] == "last"
    for key in ("seed", "split", "evaluate_test", "protocol", "search", "names"):
        one.pop(key, None), other.pop(key, None)
    assert one == other


def test_readouts_are_ranked_in_the_network_of_the_leaderboard() -> None:
    """In as many layers: before and after a pool, or all before the readout."""
    words = ["dataset=MUTAG", "fold=0"]
    other, one = (plain(resolve(composed([f"experiment=leaderboard/{name}", *words]))) for name in ("cv", "readouts"))
    assert one["model"].pop("depth") == 2 * other["model"].pop("depth")
    shared = one["model"].keys() & other["model"].keys() - {"_target_"}
    assert {"hidden", "norm", "mp", "head_layers"} <= shared
    assert {key: one["model"][key] for key in shared} == {key: other["model"][key] for key in shared}
    for key in ("batch_size", "optimizer", "scheduler", "trainer", "protocol", "dataset", "callbacks"):
        assert one[key] == other[key], key


def test_operators_of_the_leaderboard_stand_in_one_place() -> None:
    """What sweeps all of them sweeps the same; with GCN there is one control less."""
    names = swept("leaderboard/operators")
    assert len(names) == len(set(names)) == 18 and set(names) <= set(choices("pool"))
    for experiment in FROM_ONE_PLACE:
        assert swept(experiment) == names, experiment
    assert swept("leaderboard/gcn") == [name for name in names if name != "none-normalised"]


def test_a_sweep_of_the_leaderboard_is_as_far_with_every_operator() -> None:
    """The operator changes from job to job: it is the last axis."""
    for experiment in (*FROM_ONE_PLACE, "leaderboard/gcn", "leaderboard/levels"):
        composed([f"experiment={experiment}"])
        assert list(HydraConfig.get().sweeper.params)[-1] == "pool", experiment
    composed(["experiment=leaderboard/ratio"])
    assert list(HydraConfig.get().sweeper.params)[-2:] == ["pool", "pool.ratio"]


def swept(experiment: str) -> list[str]:
    """The operators that an experiment sweeps."""
    composed([f"experiment={experiment}"])
    return [name.strip() for name in HydraConfig.get().sweeper.params["pool"].split(",")]
