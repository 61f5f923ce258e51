"""How long runs take, by the records of such runs: of this machine where there are any, else of another."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from poolbench.config import Config, plain
from poolbench.records import provenance
from poolbench.records.changes import canonical
from poolbench.records.identity import canonical_json
from poolbench.records.record import Record


@dataclass(frozen=True)
class Taken:
    """Seconds, the median of records, and the machine whose records say so; None: this one."""

    seconds: float
    machine: str | None


class Clock:
    """What records say of the time that an epoch and a run take.

    Args:
        records: any. Of epochs those of the same pool, model, dataset and size of batches count; of runs see `kinds`.
    """

    def __init__(self, records: Iterable[Record]) -> None:
        self._epochs = _Times()
        self._runs = _Times()
        for record in records:
            known, machine = canonical(record.config), hardware(record)
            if record.time.epoch:
                self._epochs.add(_work(known), machine, record.time.epoch)
            if record.time.total and record.done:
                for kind in _kinds(known):
                    self._runs.add(kind, machine, record.time.total)

    def epoch(self, config: Config) -> Taken | None:
        """An epoch of a run; None where no record says it."""
        return self._epochs.of(_work(canonical(plain(config))), config)

    def run(self, kind: str, config: Config) -> Taken | None:
        """A run of a kind, one of those of `config`; None where no record says it."""
        return self._runs.of(kind, config)


class _Times:
    """Seconds by what took them and by machine."""

    def __init__(self) -> None:
        self._seconds: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))

    def add(self, what: str, machine: str, seconds: float) -> None:
        self._seconds[what][machine].append(seconds)

    def of(self, what: str, config: Config) -> Taken | None:
        """Of other machines it is the one with the most records."""
        known = self._seconds.get(what)
        if not known:
            return None
        here = _machine(config)
        machine = here if here in known else max(sorted(known), key=lambda name: len(known[name]))
        return Taken(median(known[machine]), None if machine == here else machine)


def kinds(config: Config) -> tuple[str, str]:
    """Of what kinds a run is, the closest first, 16 digits each: runs of the same dataset, pool and model; of the same
    dataset. All are as long: under the same protocol, with the same limit and patience."""
    return _kinds(canonical(plain(config)))


def _kinds(known: Mapping[str, Any]) -> tuple[str, str]:
    trainer, search = _part(known, "trainer"), _part(known, "search")
    long = [
        *(trainer.get(key) for key in ("max_epochs", "limit_train_batches")),
        _part(known, "callbacks").get("patience"),
        known.get("protocol"),
        known.get("fold") is None,  # all folds in one, where there are folds
        None if search.get("chosen") else search.get("trials"),
    ]
    parts = ("dataset", "batch_size", "pool", "model")
    return _digest([*(known.get(key) for key in parts), *long]), _digest([known.get("dataset"), *long])


def _digest(what: Any) -> str:
    return hashlib.sha256(canonical_json(what).encode()).hexdigest()[:16]


def _work(known: Mapping[str, Any]) -> str:
    """What the time of an epoch hangs on, roughly."""
    share = _part(known, "trainer").get("limit_train_batches")
    return _digest([*(known.get(key) for key in ("pool", "model", "dataset", "batch_size")), share])


def _part(config: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """A part of a configuration; nothing where a record from elsewhere has something else there."""
    found = config.get(key)
    return found if isinstance(found, Mapping) else {}


# ------------------------------------------------------------------------------------------------------------- machines


def _machine(config: Config) -> str:
    """The name of what this machine would compute a configuration on; torch is asked where that may be a GPU."""
    values = plain(config)
    if config.trainer.accelerator == "cpu":
        return hardware_name({"cpu": provenance.cpu_model(), "cores_usable": provenance.usable_cores()}, values)
    return hardware_name(provenance.hardware(), values)


def hardware(record: Record) -> str:
    """The name of what a run was computed on."""
    return hardware_name(record.provenance.hardware, record.config)


def hardware_name(machine: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """The name of what a configuration is computed on: the GPU, or the CPU with its cores.

    Args:
        machine: as in `provenance.hardware`.
    """
    gpus = machine.get("gpus") or []
    if gpus and _part(config, "trainer").get("accelerator") != "cpu":
        return f"{len(gpus)} x {gpus[0]}" if len(gpus) > 1 else str(gpus[0])
    cpu, cores = machine.get("cpu") or "unknown CPU", machine.get("cores_usable") or machine.get("cores")
    return f"{cpu}, {cores} cores" if cores else cpu
