"""What a run *is*, apart from where and how it is executed, and from the version of the code that does it."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from poolbench.records.changes import canonical

EXECUTION_KEYS = (
    "paths",
    "logger",
    "hydra",
    "force",
    "tags",
    "notes",
    "debug",
    "group",
    "job_type",
    "names",
    "trainer.accelerator",
    "trainer.devices",
    "trainer.enable_progress_bar",
    "callbacks.keep_weights",
    "callbacks.pictures_every",
    "callbacks.progress",
    "callbacks.resume_every",
)
"""Dotted names in the configuration that say where and how a run is executed, and so are no part of what it is."""


def run_identity(config: Mapping[str, Any], *, dataset: str, split: str) -> str:
    """The identity of a run, 16 hexadecimal digits: its configuration, data, split and number of processes.

    Args:
        config: the resolved configuration as plain dictionaries and lists, of any version of PoolBench.
            `EXECUTION_KEYS` are left out, but for the number of processes, on which the order of sums depends.
        dataset: fingerprint of the parsed dataset. split: hash of the split.
    """
    what = {
        "config": canonical(without(config, EXECUTION_KEYS)),
        "dataset": dataset,
        "split": split,
        "processes": processes(config.get("trainer") or {}),
    }
    return hashlib.sha256(canonical_json(what).encode()).hexdigest()[:16]


def processes(trainer: Mapping[str, Any]) -> int:
    """How many processes share a batch."""
    devices = trainer.get("devices", 1)
    if isinstance(devices, str):  # "2" is how many, "0,1" and "2," say which, as Lightning reads them
        named = [word for word in devices.split(",") if word.strip()]
        devices = int(devices.strip()[:9]) if devices.strip().isdecimal() else len(named) if "," in devices else 1
    return len(devices) if isinstance(devices, list) else devices if isinstance(devices, int) else 1


def without(config: Mapping[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    """A copy of `config` without the entries at the dotted names `keys`."""
    direct, deeper = _by_depth(tuple(keys))
    out = {}
    for key, value in config.items():
        if key in direct:
            continue
        out[key] = without(value, deeper[key]) if key in deeper and isinstance(value, Mapping) else value
    return out


@lru_cache(maxsize=256)
def _by_depth(keys: tuple[str, ...]) -> tuple[frozenset[str], dict[str, tuple[str, ...]]]:
    """Names without a dot, and what follows the first dot of the others."""
    deeper: dict[str, tuple[str, ...]] = {}
    for key in keys:
        head, dot, rest = key.partition(".")
        if dot:
            deeper[head] = (*deeper.get(head, ()), rest)
    return frozenset(key for key in keys if "." not in key), deeper


def canonical_json(value: Any) -> str:
    """One text for one value: sorted keys, no spaces, numbers in their shortest form (1 for 1.0, 0 for -0.0)."""
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


_AS_IT_IS = frozenset((type(None), bool, int, str))


def _plain(value: Any) -> Any:
    """`value` out of JSON's types alone, numbers that compare equal written alike."""
    if type(value) in _AS_IT_IS or isinstance(value, bool | str | int):
        return value
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, dict | Mapping):
        return {str(k): v if type(v) in _AS_IT_IS else _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, set | frozenset):
        return sorted((_plain(v) for v in value), key=canonical_json)
    return str(value)


def _number(value: float) -> int | float | str:
    """`lr=1` and `lr=1.0` are one run; NaN and infinity, which JSON lacks, are words."""
    if not math.isfinite(value):
        return str(value)
    return int(value) if value.is_integer() and abs(value) < 2**53 else value
