"""Training: the same seed gives the same bits, killed or not; what is selected, what is refused."""

from __future__ import annotations

import copy
import itertools
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from configs import small
from poolbench.audit import claims
from poolbench.config import Config
from poolbench.data.generators.synthetic import PlantedGraphs
from poolbench.data.prepared import Prepared
from poolbench.data.protocols import CrossValidation, Holdout, Protocol
from poolbench.errors import PoolBenchError, RunError
from poolbench.learn.build import STAND_IN, Parts, build_model, by_loss
from poolbench.learn.keeper import Selection
from poolbench.learn.outcome import Outcome
from poolbench.learn.train import train
from poolbench.learn.trainable import Trainable, data_facts
from poolbench.nn.model import GraphModel
from poolbench.pool.mincut import MinCutPool
from poolbench.pool.sag import SAGPool
from poolbench.pool.topk import TopKPool

RAW = PlantedGraphs(num_graphs=48)
SPLIT_SEED = 0


POOLS = {
    "mincut": {"_target_": "poolbench.pool.mincut.MinCutPool", "ratio": 0.5, "k": None, "mlp_hidden": [8]},
    "topk": {"_target_": "poolbench.pool.topk.TopKPool", "ratio": 0.5},
    "ndp": {"_target_": "poolbench.pool.ndp.NDPPool"},
    "nmf": {"_target_": "poolbench.pool.nmf.NMFPool", "ratio": 0.5, "k": None},
    "random-dense": {"_target_": "poolbench.pool.randompool.RandomDensePool", "ratio": 0.5, "k": None},
}
BASE: dict[str, Any] = {
    "scheduler": {"_target_": "torch.optim.lr_scheduler.CosineAnnealingLR", "T_max": 8},
    "trainer__max_epochs": 6,
    "callbacks__monitor": "val/loss",
    "callbacks__mode": "min",
    "seed": 3,
}
WARMUP = {"_target_": "poolbench.learn.schedules.WarmupCosine", "warmup": 4, "T_max": 12}
SCHEDULERS: dict[str, dict[str, Any]] = {
    "none": {"scheduler": {"_target_": None}},
    "cosine": {},
    "plateau": {"scheduler": {"_target_": "torch.optim.lr_scheduler.ReduceLROnPlateau", "patience": 0}},
    "step": {"scheduler": {"_target_": "torch.optim.lr_scheduler.StepLR", "step_size": 3}},
    "warmup-cosine": {"scheduler": WARMUP},
}


def config(name: str = "mincut", **changes: Any) -> Config:
    """A small configuration; `changes` are dotted keys with __ for the dot."""
    return small(**{"pool": POOLS[name], **BASE, **changes})


def run(made: Config, protocol: Protocol | None = None, fold: int | None = None, **kwargs: Any) -> Outcome:
    prepared = Prepared.of(RAW, protocol or Holdout(SPLIT_SEED, test=0.2, val=0.2), fold)
    return train(made, prepared, Trainable.of(made, prepared), **kwargs)


def bits(outcome: Outcome) -> Any:
    curve = [{k: v for k, v in row.items() if not k.startswith("time")} for row in outcome.curve]
    return outcome.metrics, outcome.selected_epoch, curve, outcome.losses, outcome.diagnostics


@pytest.mark.parametrize("pool", ["mincut", "topk", "random-dense"])
def test_the_same_seed_gives_the_same_bits_and_another_seed_others(pool: str) -> None:
    first = run(config(pool))
    torch.manual_seed(99)  # whatever was drawn before must not matter
    assert bits(run(config(pool))) == bits(first)
    assert bits(run(config(pool, seed=4))) != bits(first)


@pytest.mark.slow
@pytest.mark.timeout(1200)  # the compiler alone takes minutes where cores are shared
def test_a_compiled_model_trains_as_the_model_does() -> None:
    torch._dynamo.reset()
    changes = {"model__mp": "gin", "model__dropout": 0.0, "trainer__max_epochs": 2}
    plain, compiled = run(config(**changes)), run(config(**changes, trainer__compile=True))
    for one, other in zip(plain.curve, compiled.curve, strict=True):
        assert one["train/total_loss"] == pytest.approx(other["train/total_loss"], rel=1e-3)


class Killed(BaseException):
    pass


@pytest.mark.parametrize("pool", ["mincut", "random-dense"])
@pytest.mark.parametrize("scheduler", ["cosine", "plateau", "warmup-cosine"])
def test_a_killed_run_ends_with_the_same_bits(pool: str, scheduler: str, tmp_path: Path) -> None:
    made = config(pool, **SCHEDULERS[scheduler])
    whole = run(made)
    resume = tmp_path / "resume.ckpt"
    starts: list[int] = []

    def die(epoch: int, row: dict[str, float]) -> None:
        if epoch in (2, 4) and starts[-1] <= epoch - 1:
            raise Killed

    for _ in range(2):
        with pytest.raises(Killed):
            run(made, resume=resume, identity="x", on_start=starts.append, on_epoch=die)
    last = run(made, resume=resume, identity="x", on_start=starts.append)
    assert starts == [0, 2, 4]
    assert bits(last) == bits(whole)


LIMITS: dict[str, dict[str, Any]] = {
    "min_epochs": {"trainer__min_epochs": 12, "callbacks__patience": 2, "trainer__max_epochs": 40},
    "min_steps": {"trainer__min_steps": 21, "callbacks__patience": 2, "trainer__max_epochs": 40},
    "max_steps": {"trainer__max_steps": 17, "trainer__max_epochs": 40},  # in mid-epoch: an epoch has two steps
    "accumulate": {"trainer__accumulate_grad_batches": 2, "trainer__max_epochs": 12},
    "accumulated steps": {"trainer__accumulate_grad_batches": 2, "trainer__max_steps": 15, "trainer__min_steps": 9,
                          "callbacks__patience": 2, "trainer__max_epochs": 40},
    "part of an epoch": {"trainer__limit_train_batches": 1, "trainer__min_steps": 9, "trainer__max_epochs": 12,
                         "callbacks__patience": 2},
}  # fmt: skip


def killed_at(made: Config, resume: Path, *epochs: int) -> Outcome:
    """What a run comes to that was killed after each of these epochs, which its checkpoint had not seen yet."""

    def die(epoch: int, row: dict[str, float]) -> None:
        if epoch in epochs and epoch not in deaths:
            deaths.append(epoch)
            raise Killed

    deaths: list[int] = []
    while True:
        try:
            return run(made, resume=resume, identity="x", on_epoch=die)
        except Killed:
            pass


@pytest.mark.parametrize("limits", ["min_epochs", "accumulated steps"])
def test_a_killed_run_with_limits_ends_with_the_same_bits(limits: str, tmp_path: Path) -> None:
    made = config(**SCHEDULERS["plateau"], **{"optimizer__lr": 0.05, **LIMITS[limits]})
    whole = run(made)
    assert bits(killed_at(made, tmp_path / "resume.ckpt", 2, len(whole.curve) - 1)) == bits(whole)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("limits", LIMITS)
def test_a_run_with_limits_may_be_killed_at_any_moment(limits: str, scheduler: str, tmp_path: Path) -> None:
    made = config(**SCHEDULERS[scheduler], **{"optimizer__lr": 0.05, **LIMITS[limits]})
    whole = run(made)
    for epoch in range(len(whole.curve)):
        assert bits(killed_at(made, tmp_path / f"{epoch}.ckpt", epoch)) == bits(whole), epoch
    assert bits(killed_at(made, tmp_path / "all.ckpt", *range(len(whole.curve)))) == bits(whole)


@pytest.mark.parametrize(
    ("least", "epochs"),
    [
        ({"trainer__min_epochs": 4}, 5),  # better in the fourth, and once more: patience is counted from there
        ({"trainer__min_epochs": 8}, 8),  # none was better for long: it ends there
        ({"trainer__min_steps": 15}, 8),  # two steps an epoch: the eighth has the fifteenth
        ({}, 2),
    ],
)
def test_nothing_stops_before_the_least_epochs_and_a_run_that_improves_goes_on(
    least: dict[str, int], epochs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = iter([1.0, 2.0, 0.9, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1])
    monkeypatch.setattr(Selection, "score", lambda self, row: next(values))
    assert len(run(config(callbacks__patience=1, trainer__max_epochs=10, **least)).curve) == epochs


def test_a_checkpoint_of_another_run_or_a_damaged_one_is_not_used(tmp_path: Path) -> None:
    resume = tmp_path / "resume.ckpt"
    run(config(), resume=resume, identity="x")
    assert resume.exists()
    starts: list[int] = []
    run(config(), resume=resume, identity="y", on_start=starts.append)
    resume.write_bytes(resume.read_bytes()[:100])
    run(config(), resume=resume, identity="x", on_start=starts.append)
    assert starts == [0, 0]


def test_a_finished_training_is_not_trained_again(tmp_path: Path) -> None:
    resume = tmp_path / "resume.ckpt"
    first = run(config(), resume=resume, identity="x")
    epochs: list[int] = []
    again = run(config(), resume=resume, identity="x", on_epoch=lambda epoch, row: epochs.append(epoch))
    assert epochs == []
    assert bits(again) == bits(first)


def test_early_stopping_and_selection() -> None:
    outcome = run(config(callbacks__patience=2, trainer__max_epochs=200, optimizer__lr=0.05))
    losses = [row["val/loss"] for row in outcome.curve]
    best = min(range(len(losses)), key=losses.__getitem__)
    assert outcome.selected_epoch == best
    assert len(losses) == best + 1 + 2 < 200
    assert outcome.metrics["val"]["loss"] == pytest.approx(losses[best], rel=1e-6)
    assert outcome.metrics["val"]["accuracy"] == outcome.curve[best]["val/accuracy"]


def test_where_the_last_epoch_counts_nothing_stops_early_and_validation_is_in_the_curve() -> None:
    made = config(callbacks__patience=2, trainer__max_epochs=40, optimizer__lr=0.05, callbacks__monitor="auto",
                  callbacks__mode="auto", scheduler={**BASE["scheduler"], "T_max": 40})  # fmt: skip
    seen: list[float] = []
    outcome = run(made, Holdout(SPLIT_SEED, test=0.2, val=0.2, select="last"), watch=lambda epoch, v: seen.append(v))
    losses = [row["val/loss"] for row in outcome.curve]
    assert len(losses) == 40 and outcome.selected_epoch == 39
    assert min(losses) < losses[-1], "another epoch would be chosen by validation"
    assert outcome.metrics["val"]["accuracy"] == outcome.curve[-1]["val/accuracy"]
    assert not any("test" in name for row in outcome.curve for name in row)
    assert outcome.diagnostics["selection"] == {"monitor": "val/loss", "mode": "last"}
    assert seen == losses, "a search goes by validation, not by training"
    rates = [row["lr"] for row in outcome.curve]
    assert rates[-1] == pytest.approx(0.05 * (1 - math.cos(math.pi / 40)) / 2), "0 is reached with the last epoch"
    assert all(a > b for a, b in itertools.pairwise(rates))


def test_all_rules_train_to_the_same_curve() -> None:
    made = config(callbacks__monitor="auto", callbacks__mode="auto")
    runs = [run(made, Holdout(SPLIT_SEED, test=0.2, val=0.2, select=select)) for select in ("loss", "metric", "last")]
    assert bits(runs[0])[2] == bits(runs[1])[2] == bits(runs[2])[2]
    assert [one.diagnostics["selection"] for one in runs] == [
        {"monitor": "val/loss", "mode": "min"}, {"monitor": "val/accuracy", "mode": "max"},
        {"monitor": "val/loss", "mode": "last"},
    ]  # fmt: skip


def test_folds_begin_with_weights_of_their_own_where_it_is_said() -> None:
    def weights(fold_seeds: str, fold: int, seed: int = 3) -> torch.Tensor:
        made = config(seed=seed)
        prepared = Prepared.of(RAW, CrossValidation(SPLIT_SEED, fold_seeds=fold_seeds), fold)
        return torch.cat([p.detach().flatten() for p in Trainable.of(made, prepared).model.parameters()])

    same = weights("shared", 0)
    assert torch.equal(weights("shared", 1), same)
    own = [weights("own", 0), weights("own", 1), weights("own", 0, seed=4), same]
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(own, 2))
    assert torch.equal(weights("own", 1), own[1])


def test_accuracy_is_over_graphs() -> None:
    outcome = run(config())  # batches of 16, the last one smaller
    split = Holdout(SPLIT_SEED, test=0.2, val=0.2).split(RAW.load().class_labels(), RAW.load().fingerprint())
    assert split.train.numel() % 16
    for part in ("train", "val", "test"):
        graphs = getattr(split, part).numel()
        hits = outcome.metrics[part]["accuracy"] * graphs
        assert hits == pytest.approx(round(hits)), part


def test_the_test_split_can_be_left_alone() -> None:
    assert set(run(config(evaluate_test=False)).metrics) == {"train", "val"}


def test_a_loss_that_is_not_a_number_stops_the_run_with_the_reason() -> None:
    with pytest.raises(RunError, match=r"became (nan|inf) in epoch \d+.*smaller optimizer.lr"):
        run(config(optimizer={"_target_": "torch.optim.SGD", "lr": 1e30}))


def test_auxiliary_losses_reach_the_optimiser_with_their_weights() -> None:
    plain, weighted = run(config(loss_weights=0.0)), run(config(loss_weights=10.0))
    assert plain.curve[0]["train/total_loss"] == pytest.approx(plain.curve[0]["train/loss"])
    row = weighted.curve[0]
    total = row["train/loss"] + 10 * (row["train/loss_cut_1"] + row["train/loss_ortho_1"])
    assert row["train/total_loss"] == pytest.approx(total, rel=1e-5)
    assert sum(weighted.losses.values()) < sum(plain.losses.values())
    some = by_loss(
        "loss_weights", {"cut": 0.5}, {"cut_1": torch.ones(()), "ortho_1": torch.ones(()), "cut_2": torch.ones(())}, 1.0
    )
    assert some == {"cut_1": 0.5, "ortho_1": 1.0, "cut_2": 0.5}
    with pytest.raises(PoolBenchError, match=r"loss_weights.ctu.*did you mean cut"):
        by_loss("loss_weights", {"ctu": 1.0}, {"cut_1": torch.ones(())}, 1.0)


def test_weights_of_auxiliary_losses_rise_where_it_is_said(tmp_path: Path) -> None:
    made = config(loss_weights={"cut": 2.0}, loss_ramp={"cut": 4}, callbacks__monitor="val/total_loss")
    outcome = run(made)
    for part in ("train", "val"):
        rises = []
        for row in outcome.curve:
            of_cut = row[f"{part}/total_loss"] - row[f"{part}/loss"] - row[f"{part}/loss_ortho_1"]
            rises.append(of_cut / row[f"{part}/loss_cut_1"])
        assert rises == pytest.approx([1 - math.cos(math.pi * e / 4) for e in range(4)] + [2.0, 2.0], abs=1e-4)
    assert bits(killed_at(made, tmp_path / "resume.ckpt", 2, 4)) == bits(outcome)


def test_a_ramp_that_is_over_at_once_is_none() -> None:
    assert bits(run(config(loss_ramp={"cut": 0}))) == bits(run(config()))


def test_constraints_hold_after_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    made = config("topk", pool__kernel_constraint="unit_norm")
    norms: list[float] = []
    original = TopKPool.apply_constraints

    def watched(self: TopKPool) -> None:
        original(self)
        norms.append(float(self.projection.weight.detach().norm()))

    monkeypatch.setattr(TopKPool, "apply_constraints", watched)
    run(made)
    assert norms and all(norm == pytest.approx(1.0, abs=1e-5) for norm in norms)


def test_selection_takes_the_first_of_equals_and_counts_the_rest() -> None:
    model = torch.nn.Linear(1, 1)
    selection = Selection("val/accuracy", "max", patience=2)
    for epoch, value in enumerate([0.5, 0.7, 0.7, 0.6]):
        selection.update(epoch, {"val/accuracy": value}, model)
    assert (selection.epoch, selection.stale, selection.exhausted) == (1, 2, True)
    with pytest.raises(RunError, match="val/f1 is not measured"):
        Selection("val/f1").update(0, {"val/loss": 1.0}, model)


@pytest.mark.parametrize(
    ("rule", "selected", "stale"),
    [
        ({}, 3, 2),
        ({"ties": "last"}, 5, 0),
        ({"tolerance": 0.25}, 0, 5),  # the fourth is better by just that
        ({"tolerance": 0.25, "ties": "last"}, 3, 2),
        ({"tolerance": 0.2}, 3, 2),
    ],
)
@pytest.mark.parametrize("mode", ["min", "max"])
def test_how_much_better_an_epoch_must_be(rule: dict[str, Any], selected: int, stale: int, mode: str) -> None:
    selection = Selection("val/x", mode, 9, **rule)
    curve = [{"val/x": value if mode == "min" else -value} for value in (1.0, 1.0, 1.25, 0.75, 0.875, 0.75)]
    for epoch, row in enumerate(curve):
        selection.update(epoch, row, torch.nn.Linear(1, 1))
    assert (selection.epoch, selection.stale) == (selected, stale)
    assert claims._best(curve, "val/x", mode, selection.tolerance, selection.ties) == selected, "verify knows the rule"


def test_patience_begins_anew_with_an_equal_epoch_where_ties_are_won_by_the_last() -> None:
    still = {
        "optimizer": {"_target_": "torch.optim.SGD", "lr": 0.0},
        "callbacks__patience": 2,
        "trainer__max_epochs": 7,
    }
    first, last = run(config(**still)), run(config(**still, callbacks__ties="last"))
    assert (len(first.curve), first.selected_epoch) == (3, 0)
    assert (len(last.curve), last.selected_epoch) == (7, 6)


def test_the_loss_with_the_operators_may_select() -> None:
    weights = {"cut": 0.5, "ortho": 2.0}
    outcome = run(config(callbacks__monitor="val/total_loss", loss_weights=weights, trainer__max_epochs=8))
    plain = run(config(loss_weights=weights, trainer__max_epochs=8))
    totals = [row["val/loss"] + 0.5 * row["val/loss_cut_1"] + 2 * row["val/loss_ortho_1"] for row in outcome.curve]
    assert [row["val/total_loss"] for row in outcome.curve] == pytest.approx(totals, rel=1e-12)
    assert outcome.selected_epoch == min(range(8), key=totals.__getitem__)
    assert not any("val/total_loss" in row for row in plain.curve), "curves of before have no such number"
    assert [row["val/loss"] for row in plain.curve] == [row["val/loss"] for row in outcome.curve]


def test_the_rate_warms_up_and_comes_to_nothing() -> None:
    outcome = run(config(scheduler=WARMUP, trainer__max_epochs=12))
    rates = [row["lr"] / 0.01 for row in outcome.curve]
    down = [(1 + math.cos(math.pi * n / 8)) / 2 for n in range(8)]
    assert rates == pytest.approx([0.25, 0.5, 0.75, 1.0, *down])


def test_a_warm_up_longer_than_the_training_never_comes_down() -> None:
    outcome = run(config(scheduler={**WARMUP, "warmup": 4, "T_max": 3}, trainer__max_epochs=3))
    assert [row["lr"] for row in outcome.curve] == pytest.approx([0.0025, 0.005, 0.0075])


@pytest.mark.parametrize(("k_from", "k"), [("mean", 9), ("largest", 20), (0.5, 6), (0.75, 8), (0.999, 20)])
def test_k_is_a_share_of_the_size_that_is_said(k_from: str | float, k: int) -> None:
    made = config(pool={**POOLS["mincut"], "ratio": 0.5}, k_from=k_from)
    prepared = Prepared.of(RAW, Holdout(SPLIT_SEED, test=0.2, val=0.2), None)
    sizes = torch.tensor([10] * 10 + [12] * 9 + [16] * 4 + [40] * 6)[: prepared.split.train.numel()]
    raw = copy.copy(prepared.raw)
    object.__setattr__(
        raw, "num_nodes", torch.full_like(raw.num_nodes, 1000).index_copy(0, prepared.split.train, sizes)
    )
    facts = data_facts(replace(prepared, raw=raw), made.k_from)
    (pool,) = (m for m in build_model(made.model, made.pool, facts).modules() if isinstance(m, MinCutPool))
    assert pool.k == k


def test_mixed_precision_trains() -> None:
    outcome = run(config(trainer__precision="bf16-mixed"))
    assert math.isfinite(outcome.metrics["test"]["loss"])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("batch_size", 0),
        ("seed", -1),
        ("trainer__max_epochs", 0),
        ("trainer__threads", 0),
        ("callbacks__patience", 0),
        ("loss_weights", -1.0),
        ("loss_weights", {"cut": "much"}),
        ("optimizer", {"_target_": "torch.optim.Adam", "lr": -1}),
        ("optimizer", {"_target_": "torch.optim.Adamm"}),
        ("optimizer", {"_target_": "torch.optim.Adam", "rate": 1}),
        ("pool__ratio", 0),
        ("pool__ratio", 1.5),
        ("pool__k", 0),
        ("pool__k", 2.5),
        (
            "pool",
            {"_target_": "poolbench.pool.sag.SAGPool", "ratio": 0.5, "gnn": {"_target_": "torch_geometric.nn.No"}},
        ),
        (
            "pool",
            {"_target_": "poolbench.pool.sag.SAGPool", "ratio": 0.5, "gnn": {"_target_": "torch.nn.Linear", "a": 1}},
        ),
        ("model__dropout", 1.0),
        ("trainer__precision", "31"),
        ("trainer__precision", "16-mixed"),
        ("trainer__devices", 999),
        ("scheduler", {"_target_": "torch.optim.lr_scheduler.StepLR", "step_size": 0}),
        ("scheduler", {"_target_": "torch.optim.lr_scheduler.StepLR", "step_size": 50, "gamma": "half"}),
        ("scheduler", {"_target_": "torch.optim.lr_scheduler.CosineAnnealingLR", "T_max": 0}),
        ("scheduler", {"_target_": "torch.optim.lr_scheduler.ReduceLROnPlateau", "patience": "long"}),
        ("model___target_", "torch.nn.Linear"),
        ("model__readout", None),
        ("logger", {"_target_": "os.getcwd"}),
        ("logger", {"_target_": "poolbench.learn.loggers.WandbLogger", "tags": 3}),
        ("loss_weights", {"nope": 1.0}),
        ("loss_ramp", {"nope": 3}),
        ("callbacks__monitor", "test/loss"),
        ("protocol__select", "last"),  # the epoch is monitored
        ("protocol__select", "best"),
        ("callbacks__monitor", "val/loss_nope_1"),
        ("scheduler", {"_target_": "torch.optim.lr_scheduler.StepLR"}),
        ("scheduler", {**WARMUP, "warmup": 0}),
        ("scheduler", {**WARMUP, "warmup": 2.5}),
        ("scheduler", {**WARMUP, "T_max": 0}),
        ("pool", {"_target_": "poolbench.pool.readouts.globalpool.GlobalSumPool"}),
        ("pool", {"_target_": "torch.nn.Linear"}),
        ("model__readout", {"_target_": "poolbench.pool.nopool.NoPool"}),
        ("dataset__num_graphs", 1),
        ("protocol", {"_target_": "poolbench.data.splits.Holdout", "test": 2}),
    ],
)
def test_impossible_configurations_are_refused_before_data_is_touched(key: str, value: Any) -> None:
    Parts.of(config())
    with pytest.raises(PoolBenchError) as refusal:
        Parts.of(config(**{key: value}))
    assert "\n" not in str(refusal.value)


def test_a_part_within_an_operator_is_made_for_each_level() -> None:
    gnn = {"_target_": "torch_geometric.nn.GATConv", "heads": 2, "concat": False}
    made = config(pool={"_target_": "poolbench.pool.sag.SAGPool", "ratio": 0.5, "gnn": gnn}, model__levels=2)
    model = build_model(made.model, made.pool, STAND_IN)
    layers = [module.gnn for module in model.modules() if isinstance(module, SAGPool)]
    assert [(layer.in_channels, layer.heads) for layer in layers] == [(8, 2), (8, 2)]
    assert math.isfinite(run(made).metrics["test"]["loss"])


@pytest.mark.parametrize("monitor", ["val/nothing", "val/rocauc", "train/f1"])
def test_a_monitor_that_is_not_measured_is_refused_before_training(monitor: str) -> None:
    with pytest.raises(PoolBenchError, match=f"callbacks.monitor={monitor} is not measured"):
        run(config(callbacks__monitor=monitor), on_start=lambda epoch: pytest.fail("it was trained"))


@pytest.mark.parametrize(
    "monitor", ["val/loss", "val/total_loss", "val/accuracy", "val/loss_cut_1", "train/total_loss", "train/accuracy"]
)
def test_what_is_measured_may_be_monitored(monitor: str) -> None:
    made = config(callbacks__monitor=monitor, trainer__max_epochs=1, loss_weights={"cut": 0.5})
    Parts.of(made)
    assert monitor in run(made).curve[0]


@pytest.mark.parametrize("name", ["ndp", "nmf"])
def test_what_is_computed_once_a_dataset_trains_to_the_same_bits(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = config(name, model__levels=2, trainer__max_epochs=2, paths__data=str(tmp_path))
    ahead = run(made)
    assert list(tmp_path.glob("coarsened/*.pt"))
    monkeypatch.setattr(GraphModel, "precomputed", lambda self: [])
    assert bits(run(made)) == bits(ahead)
