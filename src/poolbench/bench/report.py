"""From records to a table: mean test accuracy a pool and a dataset, with its interval, failures in sight."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import fmean, variance
from typing import Any

from poolbench.bench.identity import EXECUTION_KEYS, canonical_json, without
from poolbench.bench.record import iter_records
from poolbench.data.raw import write_atomically
from poolbench.errors import PoolBenchError, RunError

GATHERED = "records.jsonl"

Record = Mapping[str, Any]


def gather(results: Path) -> list[dict[str, Any]]:
    """All records of a results folder: those of its runs, and those of its records.jsonl that are not among them.

    Raises `PoolBenchError` where there are none.
    """
    found = {(r["id"], r["attempt"]): dict(r) for r in _read_gathered(results / GATHERED)}
    found |= {(r["id"], r["attempt"]): _lean(r) for _, r in iter_records(results)}
    if not found:
        raise PoolBenchError(f"{results} holds no records; train first, or give paths.results=FOLDER")
    return [found[key] for key in sorted(found)]


def _lean(record: dict[str, Any]) -> dict[str, Any]:
    """A record as it is committed: without its curve, nine tenths of it, and where files lay on somebody's machine."""
    return {**record, "curve": [], "config": {k: v for k, v in record["config"].items() if k != "paths"}}


def _read_gathered(path: Path) -> Iterable[Record]:
    if not path.is_file():
        return
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            yield json.loads(line)
        except ValueError as error:
            raise PoolBenchError(f"{path}, line {number}: not a record ({error}); remove the line") from error


def write_gathered(records: Iterable[Record], path: Path) -> None:
    """Write records as one JSON line each, whole or not at all."""
    text = "".join(json.dumps(r, sort_keys=True) + "\n" for r in records)
    try:
        write_atomically(path, lambda file: file.write(text.encode()))
    except OSError as error:
        raise RunError(f"cannot write {path}: {(error.strerror or str(error)).lower()}") from error


def summarise(values: list[float], test_over_train: float) -> tuple[float, float | None]:
    """Mean, and half the width of its 95 % interval over resampled splits.

    Resampled training sets overlap, so the plain variance of the mean is too small: it is widened by the ratio of
    test to training graphs (Nadeau & Bengio, Machine Learning 52, 2003, eq. 9). None for a single value.
    """
    n = len(values)
    if n < 2:
        return fmean(values), None
    from scipy.stats import t

    spread = (1 / n + test_over_train) * variance(values)
    return fmean(values), float(t.ppf(0.975, n - 1)) * math.sqrt(spread)


def table(records: Iterable[Record], metric: str = "accuracy") -> str:
    """A Markdown table: a row a setting (pool, model, protocol), a column a dataset.

    Records of one cell differ in their seeds alone. Settings that differ in anything else are rows of their own, and
    so are other versions of the code; the latest attempt of a run counts.
    """
    latest: dict[str, Record] = {}
    for record in records:
        if record["id"] not in latest or record["attempt"] > latest[record["id"]]["attempt"]:
            latest[record["id"]] = record
    cells: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in latest.values():
        cells[(_setting(record), _dataset(record))].append(record)
    datasets = sorted({dataset for _, dataset in cells})
    settings = sorted({setting for setting, _ in cells})
    names = _names(settings, cells)
    lines = ["| " + " | ".join(["pool", *datasets]) + " |", "| --- |" + " ---: |" * len(datasets)]
    for setting in sorted(settings, key=lambda s: names[s]):
        row = [_cell(cells.get((setting, dataset), []), metric) for dataset in datasets]
        lines.append("| " + " | ".join([names[setting], *row]) + " |")
    return "\n".join(lines)


def _cell(records: list[Record], metric: str) -> str:
    if not records:
        return ""
    done = [r for r in records if r["status"] == "done" and metric in r["metrics"]["test"]]
    failed = len(records) - len(done)
    lost = f"; {failed} failed" if failed else ""
    if not done:
        return f"{failed} failed"
    sizes = done[0]["splits"]
    mean, half = summarise([r["metrics"]["test"][metric] for r in done], sizes["test"] / sizes["train"])
    return f"{mean:.3f}" + (f" ± {half:.3f}" if half is not None else "") + f" (n = {len(done)}{lost})"


def _setting(record: Record) -> str:
    """All that distinguishes rows: the configuration less dataset and seeds, and the version of the code."""
    config = without(record["config"], [*EXECUTION_KEYS, "dataset", "seed", "split"])
    config["names"] = {"pool": record["config"]["names"]["pool"]}
    return canonical_json({"config": config, "code": record["provenance"].get("code")})


def _dataset(record: Record) -> str:
    return str(record["config"]["dataset"].get("name") or record["config"]["names"]["dataset"])


def _names(settings: list[str], cells: Mapping[tuple[str, str], list[Record]]) -> dict[str, str]:
    """The pool's name for each setting; where several settings share it, numbered, so that none hides another."""
    pools: dict[str, list[str]] = defaultdict(list)
    for setting in settings:
        pools[json.loads(setting)["config"]["names"]["pool"]].append(setting)
    names = {}
    for pool, ones in pools.items():
        for number, setting in enumerate(sorted(ones), 1):
            names[setting] = pool if len(ones) == 1 else f"{pool} (setting {number} of {len(ones)})"
    return names
