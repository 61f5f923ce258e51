"""Searches: the same trials by any number of processes, killed or not; and no trial sees the test split."""

from __future__ import annotations

import json
import math
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from configs import small
from poolbench import cli
from poolbench.cli import folders
from poolbench.cli.commands import tune
from poolbench.config import Config, plain, replace
from poolbench.data.store import GraphStore
from poolbench.errors import PoolBenchError, RunError, RunFailed
from poolbench.jobs.search import Search, account, dimensions, left_out, score, searched
from poolbench.records import attempts
from poolbench.records.record import Metrics, Provenance, Record, Seeds, Splits, Status, Time

SPACE = {"optimizer.lr": {"low": 1e-4, "high": 1e-1, "log": True}, "model.hidden": [8, 16, 32], "batch_size": [4, 8]}


def config(results: Path, space: Mapping[str, Any] | None = None, **search: Any) -> Config:
    return small(
        pool={"_target_": "poolbench.pool.topk.TopKPool", "ratio": 0.5},
        names__pool="topk",
        batch_size=4,
        paths__results=str(results),
        search={"sampler": "tpe", "trials": 16, "concurrency": 4, "prune": False,
                "space": dict(SPACE if space is None else space), **search},
    )  # fmt: skip


def chosen(made: Config) -> tuple[float, int, int]:
    """What a trial chose."""
    return made.optimizer.arguments["lr"], made.model.arguments["hidden"], made.batch_size


def value(made: Config) -> float:
    """The score of a stand-in run: a function of what the trial chose."""
    lr, hidden, batch_size = chosen(made)
    return abs(math.log10(lr) + 2.5) + hidden / 100 + batch_size / 1000


def answer(made: Config, score: float | None = None, status: Status = "done", reason: str | None = None) -> Record:
    """A record with what a search reads."""
    row = {"val/loss": value(made) if score is None else score}
    return Record(
        schema=2,
        id="-".join(map(str, chosen(made))),
        attempt=1,
        status=status,
        reason=reason,
        task=None,
        config=plain(made),
        splits=Splits(protocol="p", version=1, seed=0, fold=None, dataset="d", hash="h", train=1, val=1, test=1),
        metrics=Metrics(train={}, val={}, test={}),
        selected_epoch=0,
        curve=[row],
        losses={},
        diagnostics={"selection": {"monitor": "val/loss", "mode": "min"}},
        time=Time(epoch=None, epoch_cpu=None, total=None),
        memory_peak=None,
        parameters=None,
        seeds=Seeds(seed=0, split=0),
        provenance=Provenance(git=None, dirty=None, packages={}, hardware={}, data={}, split="h"),
        selected=row,
    )


def quick(made: Config, **_: Any) -> Record:
    assert made.evaluate_test is False and made.search is None
    return answer(made)


def trials_of(results: Path, run: Any = quick, code: str = "code", **search: Any) -> list[dict[str, Any]]:
    return account(Search(config(results, **search), run, code).finish())


# ----------------------------------------------------------------------------------------------------------- the trials


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_two_searches_try_the_same_and_another_seed_others(tmp_path: Path, sampler: str) -> None:
    first = trials_of(tmp_path / "a", sampler=sampler)
    assert len(first) == 16
    assert first == trials_of(tmp_path / "b", sampler=sampler)
    other = Search(replace(config(tmp_path / "c", sampler=sampler), seed=1), quick, "code")
    assert account(other.finish()) != first


def test_a_finished_search_does_nothing_and_a_longer_one_goes_on(tmp_path: Path) -> None:
    first = trials_of(tmp_path, trials=5)
    done: list[int] = []

    def counted(made: Config, **_: Any) -> Record:
        done.append(1)
        return answer(made)

    assert trials_of(tmp_path, counted, trials=5) == first and not done
    longer = trials_of(tmp_path, counted, trials=9)
    assert longer[:5] == first and len(longer) == 9 and len(done) == 4
    assert longer == trials_of(tmp_path / "at once", trials=9)
    assert trials_of(tmp_path, trials=5) == first, "a budget of 5 knows 5 of the 9"


def test_tpe_finds_a_better_value_than_chance(tmp_path: Path) -> None:
    best = [min(t["score"] for t in trials_of(tmp_path / s, sampler=s, trials=40)) for s in ("tpe", "random")]
    assert best[0] < best[1]


def test_other_code_and_other_spaces_are_other_searches(tmp_path: Path) -> None:
    keys = {
        Search(config(tmp_path), quick, "code").key,
        Search(config(tmp_path), quick, "other").key,
        Search(config(tmp_path, {"batch_size": [4]}), quick, "code").key,
        Search(config(tmp_path, sampler="random"), quick, "code").key,
    }
    assert len(keys) == 4
    moved = replace(config(tmp_path / "elsewhere", trials=99), tags=["a"])
    assert Search(moved, quick, "code").key in keys


def test_a_grid_has_each_point_once_in_an_order_of_its_own(tmp_path: Path) -> None:
    space = {"optimizer.lr": [0.1, 0.01, 0.001], "model.hidden": [8, 16]}
    points = [tuple(t["values"].values()) for t in trials_of(tmp_path, sampler="grid", space=space)]
    assert len(points) == 6 and set(points) == {(lr, h) for lr in space["optimizer.lr"] for h in (8, 16)}
    assert points != sorted(points)
    assert len(trials_of(tmp_path / "few", sampler="grid", space=space, trials=4)) == 4


def test_quasi_random_points_are_the_operators_own_and_those_of_any_length(tmp_path: Path) -> None:
    def points(folder: str, **changes: Any) -> list[Any]:
        made = replace(config(tmp_path / folder, sampler="quasi", trials=6), **changes)
        return [trial["values"] for trial in account(Search(made, quick, "code").finish())]

    first = points("a")
    assert first == points("b") and first == [t["values"] for t in trials_of(tmp_path / "c", sampler="quasi")][:6]
    other, topk = small(), config(tmp_path).pool
    of_others = [
        points("pool", pool=replace(topk, arguments={"ratio": 0.25})),
        points("dataset", dataset=replace(other.dataset, arguments={"num_graphs": 47})),
        points("seed", seed=1),
    ]
    for found in (first, *of_others):  # the boxes of the first two keys: 2 of the learning rate times 3 of the width
        boxes = {(point["optimizer.lr"] < 10**-2.5, point["model.hidden"]) for point in found}
        assert len(boxes) == 6
    assert len({str(found) for found in (first, *of_others)}) == 4


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize("sampler", ["tpe", "grid", "quasi"])
def test_a_search_that_is_killed_again_and_again_is_the_search_that_was_not(tmp_path: Path, sampler: str) -> None:
    space = {"optimizer.lr": [0.1, 0.01, 0.001], "model.hidden": [8, 16]} if sampler == "grid" else SPACE
    whole = trials_of(tmp_path / "whole", sampler=sampler, space=space)
    rng = random.Random(0)

    def mortal(made: Config, **_: Any) -> dict[str, Any]:
        if rng.random() < 0.5:
            raise Killed
        return answer(made)

    deaths = 0
    while True:
        try:
            again = trials_of(tmp_path / "again", mortal, sampler=sampler, space=space)
        except Killed:
            deaths += 1
        else:
            break
    assert deaths and again == whole


def test_workers_share_the_trials_and_change_nothing(tmp_path: Path) -> None:
    alone = trials_of(tmp_path / "alone")
    ran: list[str] = []
    at_once, most = 0, 0
    lock = threading.Lock()

    def slow(made: Config, **_: Any) -> dict[str, Any]:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
            ran.append(answer(made).id)
        time.sleep(0.01 + random.random() / 20)
        with lock:
            at_once -= 1
        return answer(made)

    found: list[list[dict[str, Any]]] = []
    workers = [threading.Thread(target=lambda: found.append(trials_of(tmp_path / "many", slow))) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert found == [alone] * 4
    assert sorted(ran) == sorted(t["run"] for t in alone), "each trial was done once"
    assert most > 1


def test_a_failed_trial_counts_and_teaches_nothing(tmp_path: Path) -> None:
    def fragile(made: Config, **_: Any) -> Record:
        if chosen(made)[1] == 32:
            raise RunFailed("the loss is not a number", answer(made).id)
        return answer(made)

    trials = trials_of(tmp_path, fragile)
    failed = [t for t in trials if t["status"] == "failed"]
    assert len(trials) == 16 and failed
    assert all(t["values"]["model.hidden"] == 32 and t["score"] is None and t["run"] for t in failed)
    assert trials_of(tmp_path, quick) == trials, "a failure is not tried again: the budget was spent"


def test_a_score_that_is_no_number_is_a_failure(tmp_path: Path) -> None:
    trials = trials_of(tmp_path, lambda made, **_: answer(made, math.nan if chosen(made)[1] == 8 else None))
    assert {t["status"] for t in trials if t["values"]["model.hidden"] == 8} == {"failed"}


def test_what_is_no_failure_of_the_run_ends_the_search_and_the_trial_stays(tmp_path: Path) -> None:
    def full_disk(made: Config, **_: Any) -> dict[str, Any]:
        raise RunError("cannot write: no space left")

    with pytest.raises(RunError, match="no space left"):
        trials_of(tmp_path, full_disk)
    assert trials_of(tmp_path) == trials_of(tmp_path / "other")


def test_a_search_in_which_all_failed_says_so(tmp_path: Path) -> None:
    def broken(made: Config, **_: Any) -> dict[str, Any]:
        raise RunFailed("out of memory", "0")

    with pytest.raises(RunError, match="all 3 trials failed"):
        trials_of(tmp_path, broken, trials=3)


def test_pruning_is_decided_by_the_same_trials_killed_or_not(tmp_path: Path) -> None:
    rng = random.Random(1)
    begun: dict[str, int] = {}

    def epochs(made: Config, watch: Any, mortal: bool) -> Record:
        """A run of 20 epochs that goes on from where it was killed, and tells `watch` of those before."""
        id = answer(made).id
        for epoch in range(20):
            try:
                watch(epoch, value(made) + 1 / (epoch + 1))
            except Exception as pruned:
                assert epoch >= 10
                return answer(made, status="pruned", reason=str(pruned))
            if mortal and epoch > begun.get(id, -1) and rng.random() < 0.05:
                begun[id] = epoch
                raise Killed
        return answer(made)

    def run(mortal: bool) -> Any:
        return lambda made, watch, **_: epochs(made, watch, mortal)

    whole = trials_of(tmp_path / "whole", run(False), prune=True)
    statuses = [t["status"] for t in whole]
    assert statuses[:8] == ["done"] * 8, "none is pruned before 5 are known to it"
    assert "pruned" in statuses
    deaths = 0
    while True:
        try:
            again = trials_of(tmp_path / "again", run(True), prune=True)
        except Killed:
            deaths += 1
        else:
            break
    assert deaths and again == whole


def test_what_is_scored_is_what_selects_epochs(tmp_path: Path) -> None:
    curve = [{"val/auc": 0.5, "train/loss": 0.0, "train/total_loss": -3.0}]

    def scored(monitor: str, mode: str) -> float:
        chosen = {"selection": {"monitor": monitor, "mode": mode}}
        return score(replace(made, curve=curve, selected=curve[0], diagnostics=chosen))

    made = answer(config(tmp_path))
    kernel = replace(made, selected_epoch=None, curve=[], selected=None,
                     metrics=Metrics(train={}, val={"accuracy": 0.75}, test={}),
                     diagnostics={"selection": {"monitor": "val/accuracy", "mode": "max"}})  # fmt: skip
    assert score(kernel) == -0.75, "a kernel has no epochs"
    assert scored("val/auc", "max") == -0.5
    assert scored("train/loss", "last") == -3.0, "clusterings have no loss but the operator's"
    assert scored("val/auc", "last") == 0.5, "what is held out is what a search goes by"


def test_by_metric_a_search_goes_by_the_metric_of_what_is_held_out(tmp_path: Path) -> None:
    def run(made: Config, **_: Any) -> Record:
        found = quick(made)
        row = {**found.selected, "val/accuracy": 0.25 + value(made) / 1e4}  # type: ignore[dict-item]
        diagnostics = found.diagnostics | {"metric": {"name": "accuracy", "mode": "max"}}
        return replace(found, curve=[row], selected=row, diagnostics=diagnostics)

    found = {by: Search(config(tmp_path / str(by), sampler="random", by=by), run, "code") for by in (None, "metric")}
    trials = {by: search.finish() for by, search in found.items()}
    best = {by: found[by].best(trials[by]).number for by in found}
    losses = [trial.value for trial in trials[None]]
    assert best[None] == losses.index(min(losses)) and best["metric"] == losses.index(max(losses))
    assert [trial.value for trial in trials["metric"]] == pytest.approx([-0.25 - loss / 1e4 for loss in losses])
    with pytest.raises(RunError, match="val/accuracy is nan"):  # nothing was held out that has it
        Search(config(tmp_path / "none", by="metric"), lambda made, **_: replace(
            quick(made), diagnostics={"metric": {"name": "accuracy", "mode": "max"}}), "code").finish()  # fmt: skip


# ------------------------------------------------------------------------------------------------------------ the space


def test_an_optional_key_is_left_out_where_it_is_missing(tmp_path: Path) -> None:
    space = {"pool.ratio": {"values": [0.25, 0.5], "optional": True}, "pool.k": {"low": 2, "high": 9, "optional": True}}
    made = config(tmp_path, {**SPACE, "pool": {name.partition(".")[2]: said for name, said in space.items()}})
    assert set(dimensions(made)) == {*SPACE, "pool.ratio"} and left_out(made) == ["pool.k"]
    assert set(searched(made.search.space, plain(made))) == set(dimensions(made))  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ({}, "space is empty"),
        ({"pool.k": [2]}, r"pool\.k is no key.*pool=topk takes none; optional: true"),
        ({"pool.ratoi": [0.5]}, r"did you mean pool\.ratio"),
        ({"modle.hidden": [8]}, r"modle\.hidden is no key.*did you mean model"),
        ({"seed": [0, 1]}, "chooses hyper-parameters"),
        ({"split.seed": [0, 1]}, "chooses hyper-parameters"),
        ({"paths.results": ["a"]}, "chooses hyper-parameters"),
        ({"batch_size": []}, "a list of values"),
        ({"batch_size": 4}, "a list of values"),
        ({"batch_size": {"low": 4}}, "a list of values"),
        ({"batch_size": {"low": 8, "high": 4}}, "low"),
        ({"batch_size": {"low": 4, "high": 8, "stop": 2}}, "a list of values"),
        ({"optimizer.lr": {"low": 0.0, "high": 1.0, "log": True}}, "low"),
        ({"optimizer.lr": {"low": "1", "high": "2"}}, "a list of values"),
    ],
)
def test_a_space_that_makes_no_sense_is_refused_in_one_line(tmp_path: Path, space: dict[str, Any], said: str) -> None:
    with pytest.raises(PoolBenchError, match=said) as refused:
        Search(config(tmp_path, space), quick, "code")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("search", "said"),
    [({"trials": 0}, "search.trials=0"), ({"concurrency": 0.5}, "search.concurrency"), ({"sampler": "tpee"}, "tpe"),
     ({"sampler": "grid"}, "a list of values"), ({"by": "loss"}, "metric"),
     ({"by": "metric", "prune": True}, "prune")],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(tmp_path: Path, search: dict[str, Any], said: str) -> None:
    with pytest.raises(PoolBenchError, match=said):
        Search(config(tmp_path, **search), quick, "code")


def test_steps_and_ranges_are_kept_to(tmp_path: Path) -> None:
    space = {"model.hidden": {"low": 8, "high": 32, "step": 8}, "optimizer.lr": {"low": 0.1, "high": 0.3, "step": 0.1},
             "batch_size": [4]}  # fmt: skip
    trials = trials_of(tmp_path, space=space, sampler="random", trials=30)
    assert {t["values"]["model.hidden"] for t in trials} == {8, 16, 24, 32}
    assert {round(t["values"]["optimizer.lr"], 6) for t in trials} == {0.1, 0.2, 0.3}


# -------------------------------------------------------------------------------------------------- real runs: nested10


NESTED = ["dataset=planted", "dataset.num_graphs=40", "trainer.max_epochs=2", "logger=none", "callbacks.progress=none",
          "protocol=nested10", "search=default", "search.trials=3", "search.concurrency=2", "fold=4"]  # fmt: skip


def outcomes(results: Path) -> dict[str, Any]:
    """What all runs of a results folder came to, time and memory apart."""
    found = {}
    for path, r in attempts.iter_records(results):
        curve = [{k: v for k, v in row.items() if not k.startswith("time")} for row in r.curve]
        told = r.diagnostics.get("search")
        key = (r.id, path.parent.name)
        found[key] = (r.status, r.metrics, r.selected_epoch, curve, told, r.digests, r.outcomes)
    return found


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[set[int]]]:
    """The graphs that were made into batches, by attempt."""
    graphs: list[set[int]] = []
    cut, begin = GraphStore._cut, attempts.begin_attempt

    def spied_cut(self: GraphStore, parts: Sequence[torch.Tensor]) -> Any:
        graphs[-1] |= {graph for part in parts for graph in part.tolist()}
        return cut(self, parts)

    def spied_begin(*args: Any, **kwargs: Any) -> Any:
        graphs.append(set())
        return begin(*args, **kwargs)

    monkeypatch.setattr(GraphStore, "_cut", spied_cut)
    monkeypatch.setattr(attempts, "begin_attempt", spied_begin)
    yield graphs


def test_nested_trials_see_no_test_graph_and_every_operator_has_as_many(results: Path, seen: list[set[int]]) -> None:
    budgets = {}
    for pool in ("mincut", "none"):
        before = len(seen)
        assert cli.train([f"pool={pool}", *NESTED]) == 0
        made = [r for _, r in attempts.iter_records(results) if r.config["names"]["pool"] == pool]
        final = sorted((r for r in made if "search" in r.config), key=lambda r: r.seeds.seed)
        trials = {r.id: r for r in made if "search" not in r.config}
        assert [r.seeds.seed for r in final] == [0, 1, 2] and len({r.splits.hash for r in made}) == 1
        told = final[0].diagnostics["search"]
        budgets[pool] = told["budget"]
        assert len(told["trials"]) == told["budget"] == 3 and told["epochs"] == 2
        assert {t["run"] for t in told["trials"]} == set(trials)
        assert all(r.diagnostics["search"] == told for r in final)
        assert all(r.metrics.test == {} and r.config["evaluate_test"] is False for r in trials.values())
        assert all(r.outcomes is None for r in trials.values()) and all(r.outcomes for r in final)
        assert all(r.config["job_type"] == "trial" for r in trials.values())
        best = min(told["trials"], key=lambda t: t["score"])
        assert final[0].config["search"]["chosen"] == best["values"]
        assert all(r.config["optimizer"]["lr"] == best["values"]["optimizer.lr"] for r in final)
        everything = set(range(40))
        unseen = [everything - graphs for graphs in seen[before:]]
        assert len(unseen) == len(trials) + 3
        assert len({frozenset(graphs) for graphs in unseen[:-3]}) == 1 and len(unseen[0]) == 4, "the test fold"
        assert unseen[-3:] == [set()] * 3, "which the final runs are tested on"
    assert budgets == {"mincut": 3, "none": 3}


def test_nested_cross_validation_that_is_interrupted_ends_in_the_same_records(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tmp_path / "whole"
    assert cli.train(["pool=topk", *NESTED, f"paths.results={whole}"]) == 0
    note, epochs = attempts.note_epoch, 0

    def mortal(folder: Path) -> None:
        nonlocal epochs
        note(folder)
        epochs += 1
        if epochs in (1, 4, 8):
            raise KeyboardInterrupt

    monkeypatch.setattr(attempts, "note_epoch", mortal)
    codes = [cli.train(["pool=topk", *NESTED, "callbacks.resume_every=0"]) for _ in range(4)]
    assert codes == [130, 130, 130, 0]
    assert outcomes(results) == outcomes(whole) and len(outcomes(whole)) == 6


def test_nested_cross_validation_takes_no_pruning(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.train(["pool=topk", *NESTED, "search.prune=true"]) == 2
    assert "leave search.prune=true out" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------------- poolbench tune


TUNE = ["tune", "pool=topk", "dataset=planted", "dataset.num_graphs=40", "trainer.max_epochs=2", "logger=none",
        "callbacks.progress=none"]  # fmt: skip


def test_tune_ends_in_an_experiment_that_works(
    results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home = results / "conf" / "experiment", "poolbench train --config-dir " + str(results / "conf")
    monkeypatch.setattr(tune, "experiment_home", lambda _: home)
    assert cli.main([*TUNE, "trials=3", "model.levels=1", "optimizer=adamw"]) == 0
    said = capsys.readouterr().out
    (path,) = home[0].glob("tuned_topk_planted_*.yaml")
    assert f"{home[1]} experiment={path.stem}" in said and "3 trials (3 done)" in said
    trials = {r.id: r for _, r in attempts.iter_records(results)}
    best = min(trials.values(), key=score)
    assert f"run {best.id}" in path.read_text() and "no trial saw the test split" in path.read_text()

    quiet = ["logger=none", "callbacks.progress=none"]
    assert cli.main(["train", "--config-dir", str(home[0].parent), f"experiment={path.stem}", *quiet]) == 0
    (made,) = (r for _, r in attempts.iter_records(results) if r.id not in trials)
    assert made.config["evaluate_test"] and "accuracy" in made.metrics.test
    assert made.metrics.val == best.metrics.val, "the same bits as the trial's"
    assert cli.main([*TUNE, "trials=3", "model.levels=1", "optimizer=adamw"]) == 0, "it may be written again"

    path.write_text("# made by hand\n")
    assert cli.main([*TUNE, "trials=3", "model.levels=1", "optimizer=adamw"]) == 2
    assert "was not written by poolbench tune" in capsys.readouterr().err


def test_experiments_lie_beside_the_others_in_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tune.experiment_home(tmp_path) == (folders.conf_dir() / "experiment", "python train.py")
    monkeypatch.setattr(folders, "conf_dir", lambda: tmp_path / "site-packages" / "poolbench" / "conf")
    folder, command = tune.experiment_home(tmp_path)
    assert folder == tmp_path / "conf" / "experiment" and "--config-dir" in command


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["workers=0"], "workers=0"),
        (["workers=x"], "workers=x"),
        (["workers=9"], "search.concurrency=4"),
        (["trials=0"], "search.trials=0"),
        (["search=none-such"], "search=none-such is unknown"),
        (["protocol=cv10"], "give fold="),
        (["protocol=legacy-cv10", "fold=0"], "chooses by the test split"),
        (["pool=globalavg", "model=global", "search.space.pool.ratio.optional=false"], "takes none"),
        (["~optimizer.fused"], "cannot be written"),
    ],
)
def test_tune_refuses_in_one_line(
    results: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*TUNE, "trials=1", *words]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_what_an_operator_lacks_is_left_out_and_said(
    results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tune, "experiment_home", lambda _: (results / "conf", "python train.py"))
    assert cli.main([*TUNE, "pool=none", "trials=1"]) == 0
    assert "pool.ratio is left out: none" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_workers_that_are_killed_again_and_again_end_in_the_same_study(results: Path, tmp_path: Path) -> None:
    words = [*TUNE, "trials=8", "workers=2", "callbacks.resume_every=0", "trainer.max_epochs=12"]
    here = ("import sys\nfrom poolbench import cli\nfrom poolbench.cli.commands import tune\nfrom pathlib import Path\n"
            "tune.experiment_home = lambda r: (r / 'conf', 'x')\n"
            "if __name__ == '__main__':\n    sys.exit(cli.main(sys.argv[1:]))\n")  # fmt: skip
    script = tmp_path / "main.py"
    script.write_text(here)

    def start(folder: Path) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "POOLBENCH_RESULTS": str(folder), "OMP_NUM_THREADS": "1"}
        return subprocess.Popen([sys.executable, str(script), *words], env=environment, stdout=subprocess.DEVNULL,
                                start_new_session=True)  # fmt: skip

    assert start(tmp_path / "whole").wait() == 0
    rng = random.Random(0)
    for _ in range(4):
        process = start(results)
        time.sleep(6 + 6 * rng.random())
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)  # the helper finds itself alone, and stops after its trial
            process.wait()
    assert start(results).wait() == 0

    def study(folder: Path) -> list[str]:
        (key,) = (p.name for p in (folder / "searches").iterdir())
        lines = [json.loads(line) for line in (folder / "searches" / key / "journal.log").read_text().splitlines()]
        assert sum(line["op_code"] == 4 for line in lines) == 8, "eight trials were made"
        done = outcomes(folder)
        assert len({id for id, _ in done}) <= 8
        return sorted(str((id, values[:3])) for (id, _), values in done.items() if values[0] == "done")

    assert study(results) == study(tmp_path / "whole")
