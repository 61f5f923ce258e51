"""The configuration's types: what is read comes back as it was, and what is no such thing is refused in one line."""

from __future__ import annotations

import copy
import json
import math
import pickle
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import pytest
from omegaconf import OmegaConf

from configs import values
from poolbench.cli.composing import compose
from poolbench.cli.door import NO_CONFIGURATION
from poolbench.cli.folders import conf_dir
from poolbench.config import UNSET, Config, Part, has, hint, plain, read, replace, with_values
from poolbench.errors import PoolBenchError

CONF = conf_dir()
EXPERIMENTS = sorted(
    str(p.relative_to(CONF / "experiment").with_suffix("")) for p in (CONF / "experiment").rglob("*.yaml")
)
LARGE = 10**26


def composed(*words: str) -> dict[str, Any]:
    """What Hydra composes, as plain dictionaries, less what belongs to no run."""
    made: dict[str, Any] = OmegaConf.to_container(compose(words), resolve=True)  # type: ignore[assignment]
    return {key: value for key, value in made.items() if key not in NO_CONFIGURATION}


STEP = "torch.optim.lr_scheduler.StepLR"
SEARCH = {"sampler": "tpe", "trials": 3, "concurrency": 1, "prune": False, "space": {"optimizer.lr": [0.1]}}


def same(a: Any, b: Any) -> bool:
    """Equal, types of numbers and words for nothing included."""
    return json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)


# --------------------------------------------------------------------------------------------------- there and back


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_is_read_and_written_as_it_was_composed(experiment: str) -> None:
    made = composed(f"experiment={experiment}")
    assert same(plain(read(made)), made)


@pytest.mark.parametrize(
    "words",
    [
        ["trainer=debug"],
        ["trainer=ddp"],
        ["debug=default"],
        ["scheduler=plateau", "optimizer=sgd", "logger=tensorboard"],
        ["search=dense", "protocol=nested10"],
        [
            "+trainer.accumulate_grad_batches=2",
            "trainer.gradient_clip_val=1.0",
            "+trainer.gradient_clip_algorithm=value",
            "+trainer.max_steps=-1",
        ],
        ["loss_weights={cut: 1, ortho: 0.5}", "+job_type=sweep", "tags=[a,b]"],
        ["loss_weights=1", "callbacks.resume_every=0", "trainer.devices=[0,1]", "trainer.precision=bf16-mixed"],
    ],
)
def test_whatever_conf_offers_is_written_as_it_was_composed(words: Sequence[str]) -> None:
    made = composed(*words)
    assert same(plain(read(made)), made)


def test_a_configuration_shares_nothing_and_travels_between_processes() -> None:
    made = values(search=SEARCH)
    config = read(made)
    before = plain(config)
    made["pool"]["mlp_hidden"].append(9)
    made["search"]["space"]["optimizer.lr"].append(9)
    plain(config)["pool"]["mlp_hidden"].append(9)
    assert plain(config) == before
    again = pickle.loads(pickle.dumps(config))
    assert again == config and again.trainer.min_epochs is UNSET
    with pytest.raises(AttributeError):
        config.seed = 3  # type: ignore[misc]


def test_what_was_not_given_is_nowhere_and_what_was_is_there() -> None:
    assert "search" not in plain(read(values())) and "job_type" not in plain(read(values(job_type=None)))
    assert "min_epochs" not in plain(read(values()))["trainer"]
    assert plain(read(values(trainer__min_epochs=3)))["trainer"]["min_epochs"] == 3


def test_parts() -> None:
    config = read(values(scheduler={"_target_": None}))
    assert config.pool == Part("poolbench.pool.mincut.MinCutPool", config.pool.arguments)
    assert config.pool.arguments["mlp_hidden"] == [8] and "_target_" not in config.pool.arguments
    assert config.model.arguments["readout"] == {"_target_": "poolbench.pool.readouts.globalpool.GlobalSumPool"}
    assert config.scheduler is None and plain(config)["scheduler"] == {"_target_": None}
    assert read(values(scheduler=None)).scheduler is None
    assert Part.of("pool", {"_target_": "a.B", "x": 1}) == Part("a.B", {"x": 1})


def test_a_precision_has_one_name() -> None:
    for name, others in (("32-true", (32, "32")), ("16-mixed", (16, "16")), ("bf16-mixed", ("bf16",))):
        for other in (name, *others):
            assert plain(read(values(trainer__precision=other)))["trainer"]["precision"] == name


@pytest.mark.parametrize("devices", [1, -1, 1024, [3], [0, 1], "auto", "2", "-1", "0,1", "0,"])
def test_devices(devices: Any) -> None:
    assert read(values(trainer__devices=devices)).trainer.devices == devices


def test_no_torch_is_needed() -> None:
    code = "import sys, poolbench.config; print([m for m in ('torch', 'hydra', 'omegaconf') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# ----------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("batch_size", 0, "batch_size=0: a whole number of at least 1 is expected"),
        ("batch_size", True, "batch_size=True: a whole number of at least 1 is expected"),
        ("batch_size", 8.0, "batch_size=8.0: a whole number of at least 1 is expected"),
        ("batch_size", "8", "batch_size='8': a whole number of at least 1 is expected"),
        ("batch_size", LARGE, f"batch_size={LARGE}: a whole number from 1 to 100000000 is expected"),
        ("seed", -1, "seed=-1: a whole number of at least 0 is expected"),
        ("seed", -LARGE, f"seed={-LARGE}: a whole number of at least 0 is expected"),
        ("seed", math.nan, "seed=nan: a whole number of at least 0 is expected"),
        ("seed", None, "seed=None: a whole number of at least 0 is expected"),
        ("split__seed", -1, "split.seed=-1: a whole number of at least 0 is expected"),
        ("fold", -1, "fold=-1: a whole number of at least 0 or null is expected"),
        ("fold", False, "fold=False: a whole number of at least 0 or null is expected"),
        ("loss_weights", -1.0, "loss_weights=-1.0: a number of at least 0 or a mapping is expected"),
        ("loss_weights", math.nan, "loss_weights=nan: a number of at least 0 or a mapping is expected"),
        ("loss_weights", math.inf, f"loss_weights=inf: a number from 0 to {2**53} or a mapping is expected"),
        ("loss_weights", {"cut": "much"}, "loss_weights.cut='much': a number of at least 0 is expected"),
        ("loss_weights", {"cut": True}, "loss_weights.cut=True: a number of at least 0 is expected"),
        ("evaluate_test", 1, "evaluate_test=1: true or false is expected"),
        ("group", 5, "group=5: a word or null is expected"),
        ("tags", "a", "tags='a': a list of words is expected"),
        ("tags", [1], "tags=[1]: a list of words is expected"),
        ("trainer__max_epochs", 0, "trainer.max_epochs=0: a whole number of at least 1 is expected"),
        ("trainer__threads", 0, "trainer.threads=0: a whole number of at least 1 is expected"),
        ("trainer__accelerator", "gpuu", "trainer.accelerator='gpuu' is not one of auto, cpu, cuda, gpu, mps"),
        ("trainer__precision", 31, "trainer.precision=31 is not one of 32-true, bf16-mixed, 16-mixed, 32, bf16, 16"),
        ("trainer__precision", "64-true", "trainer.precision='64-true' is not one of 32-true, bf16-mixed, 16-mixed"),
        ("trainer__threads", 100_000, "trainer.threads=100000: a whole number from 1 to 1024 is expected"),
        ("trainer__strategy", "nosuch", "trainer.strategy='nosuch' is not one of auto, ddp, ddp_spawn"),
        ("trainer__devices", 0, "trainer.devices=0: how many (1 or more; -1: all there are), or a list of which"),
        ("trainer__devices", 1025, "trainer.devices=1025: a whole number from -1 to 1024"),
        ("trainer__devices", [], "trainer.devices=[]: how many"),
        ("trainer__devices", [0, 0], "trainer.devices=[0, 0]: how many"),
        ("trainer__devices", "0", "trainer.devices='0': how many"),
        ("trainer__devices", "all", "trainer.devices='all': how many"),
        ("trainer__max_steps", 0, "trainer.max_steps=0: a whole number of at least 1, or -1 for no bound, is expected"),
        ("trainer__min_epochs", 4, "trainer.min_epochs=4 is more than trainer.max_epochs=3"),
        ("trainer__gradient_clip_algorithm", "norm", "trainer.gradient_clip_algorithm goes with trainer.gradient_clip"),
        ("trainer__num_nodes", 2, "trainer.num_nodes is no key of the configuration"),
        ("trainer__benchmark", True, "trainer.benchmark is no key of the configuration"),
        ("trainer__deterministic", "wran", "trainer.deterministic='wran': true, false or warn is expected"),
        ("trainer__devices", 1.5, "trainer.devices=1.5: a whole number of at least -1, a list of numbers or a word is"),
        ("trainer__gradient_clip_val", -1, "trainer.gradient_clip_val=-1: a number of at least 0 or null is expected"),
        (
            "trainer__limit_train_batches",
            1.5,
            "a whole number of at least 1 or a number between 0 and 1 is expected",
        ),
        ("trainer__limit_train_batches", 0, "a whole number of at least 1 or a number between 0 and 1 is expected"),
        ("trainer__limit_train_batches", 1.0, "a whole number of at least 1 or a number between 0 and 1"),
        ("trainer__max_epoch", 5, "trainer.max_epoch is no key of the configuration (did you mean trainer.max_epochs"),
        ("trainer__limit_val_batches", 3, "trainer.limit_val_batches is no key of the configuration"),
        ("trainer__check_val_every_n_epoch", 3, "trainer.check_val_every_n_epoch is no key of the configuration"),
        ("trainer__val_check_interval", 3, "trainer.val_check_interval is no key of the configuration"),
        ("trainer", "cpu", "trainer='cpu': a mapping is expected"),
        ("callbacks__patience", 0, "callbacks.patience=0: a whole number of at least 1 is expected"),
        ("callbacks__resume_every", math.nan, "callbacks.resume_every=nan: a number of at least 0 is expected"),
        ("callbacks__pictures_every", -1, "callbacks.pictures_every=-1: a whole number of at least 0 is expected"),
        ("callbacks__tolerance", -1e-6, "callbacks.tolerance=-1e-06: a number of at least 0 is expected"),
        ("callbacks__ties", "any", "callbacks.ties='any' is not one of first, last"),
        ("loss_ramp", -1, "loss_ramp=-1: a whole number of at least 0 or a mapping is expected"),
        ("loss_ramp", {"kl": 0.5}, "loss_ramp.kl=0.5: a whole number of at least 0 is expected"),
        ("k_from", "median", "k_from='median': mean, largest or a number between 0 and 1 is expected"),
        ("k_from", 1.0, "k_from=1.0: mean, largest or a number between 0 and 1 is expected"),
        ("feature_scale", "minmax", "feature_scale='minmax': standard, range or null is expected"),
        ("callbacks__mode", "most", "callbacks.mode='most' is not one of auto, min, max"),
        ("callbacks__progress", "dots", "callbacks.progress='dots' is not one of auto, bar, lines, none"),
        ("callbacks__monitor", "val/f1", "callbacks.monitor=val/f1: say whether more is better: callbacks.mode=min"),
        ("callbacks__monitor", "loss", "callbacks.monitor=loss: auto or a number of the curve, such as val/loss"),
        ("paths__results", "s3://bucket/x", "paths.results=s3://bucket/x: a folder of this machine is expected"),
        ("paths__results", "", "paths.results=: a folder of this machine is expected"),
        ("paths__data", "http://x", "paths.data=http://x: a folder of this machine is expected"),
        ("seeed", 1, "seeed is no key of the configuration (did you mean seed?)"),
        ("pool", None, "pool=None: a mapping with a _target_ is expected"),
        ("pool", {"ratio": 0.5}, "pool has no _target_: give the class as module.Class"),
        ("pool___target_", 3, "pool has no _target_: give the class as module.Class"),
        ("pool__ratio", math.nan, "pool.ratio=nan: a number is expected"),
        ("optimizer__lr", LARGE, f"optimizer.lr={LARGE}: a whole number of at most {2**53} is expected"),
        ("model__hidden", 65_537, "model.hidden=65537: a whole number of at most 65536 is expected"),
        ("model__hidden", [8, 65_537], "model.hidden=65537: a whole number of at most 65536 is expected"),
        ("model__levels", 1001, "model.levels=1001: a whole number of at most 1000 is expected"),
        ("model__head_layers", 1001, "model.head_layers=1001: a whole number of at most 1000 is expected"),
        ("model__readout__encoders", 1001, "model.readout.encoders=1001: a whole number of at most 1000 is expected"),
        ("pool__k", [4, 10**6], "pool.k=1000000: a whole number of at most 65536 is expected"),
        ("pool__gnn", {"_target_": "a.B", "heads": 10**6}, "pool.gnn.heads=1000000: a whole number of at most 65536"),
        ("protocol__folds", 10**6, "protocol.folds=1000000: a whole number of at most 65536 is expected"),
        ("scheduler", {"_target_": STEP, "step_size": 0}, "scheduler.step_size=0: a whole number of at least 1 is"),
        ("scheduler", {"_target_": STEP, "patience": -1}, "scheduler.patience=-1: a whole number of at least 0 is"),
        ("scheduler", {"_target_": STEP, "T_max": "a"}, "scheduler.T_max='a': a whole number of at least 1 is"),
        ("trainer__max_epochs", 10**7, "trainer.max_epochs=10000000: a whole number from 1 to 1000000 is expected"),
        ("callbacks__mode", "max", "callbacks.mode=max says nothing without callbacks.monitor"),
        ("loss_weights", {}, "loss_weights={} names no loss"),
        ("loss_ramp", {}, "loss_ramp={} names no loss"),
        ("model__hidden", {1, 2}, "model.hidden={1, 2}: a number, a word, true, false, null, a list or a mapping"),
        ("scheduler", {"_target_": None, "gamma": 1}, "scheduler has no _target_: give the class as module.Class"),
        ("search", {**SEARCH, "sampler": "tpee"}, "search.sampler='tpee' is not one of tpe, random, grid, quasi"),
        ("search", {**SEARCH, "trials": 0}, "search.trials=0: a whole number of at least 1 is expected"),
        ("search", {**SEARCH, "space": [1]}, "search.space=[1]: a mapping is expected"),
    ],
)
def test_what_is_no_such_thing_is_refused_in_one_line(key: str, value: Any, said: str) -> None:
    with pytest.raises(PoolBenchError) as refusal:
        read(values(**{key: value}))
    assert said in str(refusal.value) and "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("pool", "pool is missing: a mapping with a _target_ is expected"),
        ("trainer", "trainer is missing: a mapping is expected"),
        ("trainer.threads", "trainer.threads is missing: a whole number of at least 1 is expected"),
        ("callbacks.mode", "callbacks.mode is missing: auto, min or max is expected"),
    ],
)
def test_what_is_missing_is_said(key: str, said: str) -> None:
    made = values()
    outer, _, inner = key.partition(".")
    del (made[outer] if inner else made)[inner or outer]
    with pytest.raises(PoolBenchError) as refusal:
        read(made)
    assert str(refusal.value) == said


def test_keys_that_do_not_go_together() -> None:
    with pytest.raises(PoolBenchError, match=r"trainer\.min_steps=9 is more than trainer\.max_steps=8"):
        read(values(trainer__min_steps=9, trainer__max_steps=8))
    assert read(values(trainer__min_steps=9, trainer__max_steps=-1)).trainer.min_steps == 9
    with pytest.raises(PoolBenchError, match="does not go with a search"):
        read(values(search=SEARCH, trainer__strategy="ddp"))
    with pytest.raises(PoolBenchError, match="does not go with a search"):
        replace(read(values(trainer__strategy="ddp")), search=read(values(search=SEARCH)).search)
    assert read(values(callbacks__monitor="val/f1", callbacks__mode="max")).callbacks.monitor == "val/f1"


# ------------------------------------------------------------------------------------------------------ other values


def test_values_are_put_where_they_belong_and_nowhere_else() -> None:
    config = read(values())
    before = copy.deepcopy(plain(config))
    changed = with_values(config, {"optimizer.lr": 1.0, "trainer.max_epochs": 2, "pool.mlp_hidden": [4, 4]})
    assert isinstance(changed, Config) and plain(config) == before
    assert changed.optimizer.arguments["lr"] == 1.0 and changed.trainer.max_epochs == 2
    assert with_values(changed, {key: 0 for key in ()}) == changed
    for wrong, said in (
        ({"optimizer.beta": 1.0}, "optimizer.beta is no key of the configuration"),
        ({"optimizer.lrr": 1.0}, r"did you mean optimizer\.lr\?"),
        ({"optimiser.lr": 1.0}, r"did you mean optimizer\?"),
        ({"optimizer.lr.x": 1.0}, "optimizer.lr.x is no key"),
        ({"batch_size": 0}, "batch_size=0"),
    ):
        with pytest.raises(PoolBenchError, match=said):
            with_values(config, wrong)


def test_dotted_keys() -> None:
    made = values()
    assert has(made, "pool.ratio") and has(made, "pool") and not has(made, "pool.ratoi")
    assert not has(made, "pool.ratio.x")
    assert hint(made, "pool.ratoi") == " (did you mean pool.ratio?)" and hint(made, "pool.zzz") == ""
