"""The committed tables against an operator, computed once more from the records with nothing of the package."""

from __future__ import annotations

import base64
import csv
import json
import re
import zlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import t as student

RESULTS = Path(__file__).parents[2] / "results"
Training = tuple[str, int]


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


TABLES = [
    path for path in sorted(RESULTS.rglob("*against-*.csv"))
    if "archive" not in path.parts and not path.stem.endswith(("-over", "-statements"))
    and any(row["by"] == "graphs" for row in read(path))
]  # fmt: skip

QUERIES = {"cv10": {"dataset.deduplicate": {"True"}, "split.seed": {"0", "1"}}}
"""By protocol what docs/results.md asks for and a row does not name, as records hold other runs of its datasets too."""


@cache
def runs() -> Mapping[tuple[str, str, str], list[dict[str, Any]]]:
    """Finished runs with answers to single graphs, by protocol, dataset and pool."""
    found = defaultdict(list)
    for path in sorted((RESULTS / "records").rglob("*.jsonl")):
        for line in path.read_text().splitlines():
            one = json.loads(line)
            if one["status"] == "done" and one.get("outcomes") and one["config"]["evaluate_test"]:
                names = one["config"]["names"]
                found[one["splits"]["protocol"], names["dataset"], names["pool"]].append(one)
    return found


def said(text: str) -> Iterator[tuple[list[str], str]]:
    for part in filter(None, re.split("[, ]+", text)):
        key, _, value = part.partition("=")
        yield key.split("."), value


def has(config: Any, keys: list[str], value: str) -> bool:
    for key in keys:
        config = config.get(key, {})
    return str(config) == value or (isinstance(config, int | float) and float(config) == float(value))


def chosen(row: Mapping[str, str], pool: str, setting: str) -> dict[Training, dict[str, Any]]:
    """The runs of a cell by training."""
    name, _, dial = row["dataset"].removesuffix(")").partition(" (")
    query = QUERIES.get(row["protocol"].partition(" ")[0], {})
    made: dict[Training, dict[str, Any]] = {}
    for one in runs()[row["protocol"].partition(" ")[0], name, pool]:
        config = one["config"]
        alike = [has(config["dataset"], *part) for part in said(dial)]
        alike += [has(config, *part) for part in said(setting)]
        alike += [any(has(config, key.split("."), one) for one in values) for key, values in query.items()]
        if all(alike):
            training = (one["splits"]["hash"], config["seed"])
            assert training not in made, "the table does not say which of two runs it is of"
            made[training] = one
    return made


def answers(one: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    bits = (zlib.decompress(base64.b64decode(one["outcomes"][part])) for part in ("graphs", "right"))
    mask, right = (np.unpackbits(np.frombuffer(part, dtype=np.uint8)) for part in bits)
    return np.flatnonzero(mask), right[: one["outcomes"]["count"]].astype(float)


def variances(row: Mapping[str, str]) -> tuple[float, float]:
    """Of the mean difference of a row, by graph and what trainings add; its counts and its mean are checked."""
    theirs, ours = chosen(row, row["against"], ""), chosen(row, row["pool"], row["setting"])
    graph, training, d = [], [], []
    for number, key in enumerate(theirs.keys() & ours.keys()):
        (g, a), (same, b) = answers(ours[key]), answers(theirs[key])
        assert (g == same).all()
        graph += [f"{ours[key]['splits']['dataset']} {n}" for n in g]
        training += [number] * len(g)
        d += list(a - b)
    graphs, trainings = (np.unique(part, return_inverse=True)[1] for part in (graph, training))
    m, n_g, n_t = len(d), graphs.max() + 1, trainings.max() + 1
    assert (m, n_g, n_t) == tuple(int(row[key]) for key in ("observations", "graphs", "trainings"))
    assert np.mean(d) == pytest.approx(float(row["difference"]), abs=1e-12)
    r = (np.array(d) - np.mean(d)) / m
    by_graph = (np.bincount(graphs, r) ** 2).sum() * n_g / (n_g - 1)
    by_training = (np.bincount(trainings, r) ** 2).sum() * n_t / (n_t - 1)
    return by_graph, by_training - (r**2).sum() * m / (m - 1)


@pytest.mark.parametrize("path", TABLES, ids=lambda path: str(path.relative_to(RESULTS)))
def test_differences_and_errors_are_those_of_the_records(path: Path) -> None:
    families = defaultdict(list)
    for row in read(path):
        if row["by"] == "graphs":
            families[row["dataset"], row["model"], row["against"]].append(row)
    for rows in families.values():
        parts = [variances(row) for row in rows]
        known = [part for part, row in zip(parts, rows, strict=True) if row["error"]]
        shares = sorted(extra / by_graph for by_graph, extra in known)
        share = max(0.0, shares[(len(shares) - 1) // 2]) if shares else 0.0
        for row, (by_graph, extra) in zip(rows, parts, strict=True):
            if not row["error"]:
                continue
            error = np.sqrt(by_graph + max(share * by_graph, extra))
            assert error == pytest.approx(float(row["error"]), rel=1e-9)
            own, beyond = (student.ppf(q, float(row["freedom"])) for q in (0.975, 0.8))
            d = float(row["difference"])
            assert (float(row["low"]), float(row["high"])) == pytest.approx((d - own * error, d + own * error))
            assert float(row["detectable"]) == pytest.approx((own + beyond) * error)


@pytest.mark.parametrize("path", TABLES, ids=lambda path: str(path.relative_to(RESULTS)))
def test_verdicts_are_those_of_the_intervals(path: Path) -> None:
    for row in read(path):
        if row["joint_low"]:
            low, high = float(row["joint_low"]), float(row["joint_high"])
            shown = "better" if low > 0 else "worse" if high < 0 else None
            assert row["verdict"] == shown if shown else row["verdict"] in ("equivalent", "undecided")
