"""What is built and read for a run, and how often; what it prints at its end."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from configs import small
from poolbench.config import plain, read, replace
from poolbench.data.generators.synthetic import PlantedGraphs
from poolbench.errors import PoolBenchError
from poolbench.jobs.attempt import table
from poolbench.jobs.run import run
from poolbench.nn.hierarchical import Hierarchical
from poolbench.records.attempts import iter_records
from poolbench.records.identity import run_identity
from poolbench.records.record import Metrics, Record, Time

Maker = Callable[..., Record]


@pytest.fixture
def count(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often the dataset was read, and models were built."""
    counts: Counter[str] = Counter()
    for cls, name in ((PlantedGraphs, "load"), (Hierarchical, "__init__")):
        original = getattr(cls, name)

        def counted(self: Any, *args: Any, original: Any = original, name: str = name, **options: Any) -> Any:
            counts[name] += 1
            return original(self, *args, **options)

        monkeypatch.setattr(cls, name, counted)
    return counts


def test_all_folds_read_the_data_once_and_each_builds_one_model(tmp_path: Path, count: Counter[str]) -> None:
    config = small(protocol={"_target_": "poolbench.data.protocols.CrossValidation"}, trainer__max_epochs=1,
                   paths__results=str(tmp_path), dataset__num_graphs=30)  # fmt: skip
    run(config)
    assert count == {"load": 1, "__init__": 1 + 10}, "one model is tried before data is touched"
    alone = run(replace(config, fold=3, paths=replace(config.paths, results=str(tmp_path / "alone"))))
    among = run(replace(config, fold=3))
    assert (among.id, among.metrics) == (alone.id, alone.metrics)


def test_a_run_that_is_done_builds_nothing(tmp_path: Path, count: Counter[str]) -> None:
    config = small(trainer__max_epochs=1, paths__results=str(tmp_path))
    first = run(config)
    count.clear()
    assert run(config) == first and not count


def test_what_does_not_go_with_the_data_leaves_nothing_behind(tmp_path: Path) -> None:
    config = small(
        model={"_target_": "poolbench.nn.clusterer.Clusterer"}, pool__k=3, paths__results=str(tmp_path / "results")
    )
    with pytest.raises(PoolBenchError, match="add protocol=cluster"):
        run(config)
    assert not (tmp_path / "results").exists()


def test_a_job_is_known_without_torch() -> None:
    heavy = "('torch', 'pytorch_lightning', 'hydra')"
    code = f"import sys, poolbench.jobs.run; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.fixture
def made(record: Maker) -> Record:
    found = record(0, None)
    found.metrics = Metrics(train={"loss": 0.5, "accuracy": 0.75}, val={}, test={"loss": 0.25, "accuracy": 0.875})
    found.diagnostics = {"metric": {"name": "accuracy", "mode": "max"}}
    found.curve, found.selected_epoch = [{}] * 9, 6
    found.time = Time(epoch=0.125, epoch_cpu=None, total=2.0)
    return found


def test_the_table_has_the_metric_first_and_the_cost_last(made: Record) -> None:
    assert table("mincut-MUTAG-s0", made).splitlines() == [
        "mincut-MUTAG-s0: test accuracy 0.8750",
        "          accuracy      loss",
        "train       0.7500    0.5000",
        "test        0.8750    0.2500",
        "selected epoch 7 of 9, 125 ms an epoch, 2.0 s in all, 1,234 parameters",
    ]


def test_what_is_not_trained_by_epochs_has_none_in_its_table(made: Record) -> None:
    made.curve, made.selected_epoch, made.parameters = [], None, 0
    made.time = Time(epoch=None, epoch_cpu=None, total=2.0)
    assert table("mincut-MUTAG-s0", made).splitlines()[-1] == "2.0 s in all, 0 parameters"


def test_a_shift_is_measured_on_both_sides_and_no_test_graph_is_looked_at_unasked(tmp_path: Path) -> None:
    config = small(protocol={"_target_": "poolbench.data.shift.Shift"}, trainer__max_epochs=1,
                   paths__results=str(tmp_path), dataset__num_graphs=60)  # fmt: skip
    made = run(config)
    assert made.splits.id_test == 3 and set(made.metrics.parts()) == {"train", "val", "test", "id_test"}
    ((_, kept),) = iter_records(tmp_path)
    assert kept.metrics == made.metrics
    unasked = run(replace(config, evaluate_test=False))
    assert not unasked.metrics.id_test and not unasked.metrics.test and unasked.metrics.val


def test_a_perturbation_makes_another_run_of_the_same_split(tmp_path: Path) -> None:
    config = small(trainer__max_epochs=1, paths__results=str(tmp_path), dataset__num_graphs=30)
    assert "perturb" not in plain(config), "a run without one is what it was before there were any"
    parts = {f"{at}-{share}": {"_target_": "poolbench.data.perturb.DropEdges", "share": share, "at": at}
             for at in ("both", "test") for share in (0.2, 0.9)}  # fmt: skip
    made = {name: run(read({**plain(config), "perturb": part})) for name, part in parts.items()}
    made["none"] = run(read({**plain(config), "perturb": {"_target_": None}}))
    assert made["none"].id == run(config).id
    assert len({record.id for record in made.values()}) == 5
    assert len({(record.splits.hash, record.splits.dataset) for record in made.values()}) == 1
    losses = {name: (record.metrics.train["loss"], record.metrics.test["loss"]) for name, record in made.items()}
    assert losses["test-0.9"][0] == losses["none"][0] != losses["both-0.9"][0]
    assert len({test for _, test in losses.values()}) == 5


def test_scaled_features_make_another_run_of_the_same_split(tmp_path: Path) -> None:
    config = small(trainer__max_epochs=1, paths__results=str(tmp_path), dataset__num_graphs=30)
    made = {scale: run(read({**plain(config), "feature_scale": scale})) for scale in (None, "standard", "range")}
    before = {key: value for key, value in made[None].config.items() if key != "feature_scale"}
    splits = made[None].splits
    assert run_identity(before, dataset=splits.dataset, split=splits.hash) == made[None].id, (
        "a run of before is the same"
    )
    assert len({record.id for record in made.values()}) == 3
    assert len({(record.splits.hash, record.splits.dataset) for record in made.values()}) == 1
    assert len({record.metrics.train["loss"] for record in made.values()}) == 3
