"""Surroundings that every test shares: its own cache and results, no W&B, one thread; and records to make tables of."""

from __future__ import annotations

import hashlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from poolbench.records.digests import chain
from poolbench.records.record import SCHEMA, Metrics, Provenance, Record, Seeds, Splits, Time

# `nohup ... &` starts the suite with interrupts ignored, and what a test starts would inherit that and never stop.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """`POOLBENCH_TESTS_UNTIL`, in seconds as of `date +%s`, is when the tests must have ended: a slow one whose time
    limit goes beyond it is skipped, so that a slow machine does those that fit, and says how many did not."""
    until = os.environ.get("POOLBENCH_TESTS_UNTIL")
    if until and item.get_closest_marker("slow"):
        own = item.get_closest_marker("timeout")
        limit = float(own.args[0] if own else item.config.getini("timeout"))
        if time.time() + limit > float(until):
            pytest.skip("no time was left for it")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """The order of sums must not depend on the machine."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What tests learn of their data is kept in a cache that goes with them, where none is named."""
    with pytest.MonkeyPatch.context() as patch:
        if not os.environ.get("POOLBENCH_DATA"):
            patch.setenv("POOLBENCH_DATA", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A results folder of the test's own, and a cache that lasts for the whole test session's folder."""
    monkeypatch.setenv("POOLBENCH_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("POOLBENCH_DATA", str(tmp_path / "cache"))
    monkeypatch.delenv("POOLBENCH_MIRROR", raising=False)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    return tmp_path / "results"


Maker = Callable[..., Record]


@pytest.fixture
def record() -> Maker:
    """Makes a record as a run leaves it; a score of None is a run that failed. Its id is that of its setting."""

    def make(
        seed: int,
        score: float | None,
        pool: str = "mincut",
        dataset: str = "MUTAG",
        *,
        protocol: str = "holdout",
        fold: int | None = None,
        split: str | None = None,
        sizes: tuple[int, int] = (80, 10),
        metric: tuple[str, str] | None = None,
        code: str = "abc",
        hardware: dict[str, Any] | None = None,
        epoch: float = 0.1,
        attempt: int = 1,
        **config: Any,
    ) -> Record:
        train, test = sizes
        options = {"names": {"pool": pool, "dataset": dataset, "model": "hierarchical", "protocol": protocol}}
        run = f"{pool}-{dataset}-{protocol}-{seed}-{fold}-{sorted(config.items())}"
        curve = [{"val/loss": 1.0 / (i + 1), "val/accuracy": 0.5 + 0.1 * i} for i in range(4)]
        return Record(
            schema=SCHEMA,
            id=hashlib.sha256(run.encode()).hexdigest()[:16],
            attempt=attempt,
            status="failed" if score is None else "done",
            reason="the loss is not a number" if score is None else None,
            task="graph-classification",
            config={
                **options,
                "dataset": {"name": dataset},
                "pool": {"_target_": f"poolbench.pool.{pool}"},
                "model": {"hidden": 64},
                "protocol": {"_target_": protocol},
                "seed": seed,
                "fold": fold,
                "split": {"seed": seed},
                "paths": {"results": "/somewhere/private"},
                "trainer": {"accelerator": "cpu"},
                **config,
            },
            splits=Splits(
                train=train, val=10, test=test, dataset="f" * 64, protocol=protocol, version=1, seed=seed, fold=fold,
                hash=split or f"{dataset}-{seed}-{fold}",
            ),
            metrics=Metrics(
                train={}, val={}, test={} if score is None else {(metric or ("accuracy",))[0]: score}
            ),
            selected_epoch=3,
            curve=curve,
            losses={},
            diagnostics={
                "nodes_per_level": [20.0, 10.0],
                "pooling": {"graphs": 10, "levels": [{"ratio": 0.5, "entropy": 0.1 * seed, "density": None}]},
                **({"metric": {"name": metric[0], "mode": metric[1]}} if metric else {}),
            },
            time=Time(epoch=epoch, epoch_cpu=epoch, total=10 * epoch),
            memory_peak=100_000_000,
            parameters=1234,
            seeds=Seeds(seed=seed, split=seed),
            provenance=Provenance(
                code=code, git="0123456789", dirty=False, packages={}, data={"fingerprint": "f" * 64},
                hardware=hardware or {"cpu": "Some CPU", "cores": 4, "cores_usable": 4, "gpus": []},
                split=split or f"{dataset}-{seed}-{fold}",
            ),
            digests=chain(curve),
            selected=curve[3],
        )  # fmt: skip

    return make
