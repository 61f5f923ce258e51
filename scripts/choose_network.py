#!/usr/bin/env python3
"""Print which network of the sweep `experiment=leaderboard/network` validates best, over datasets and controls alike.

    python scripts/choose_network.py [RESULTS] [--folds 3]

A network is what the sweep varies of the model and the training. Of each, the mean validation accuracy of the last
epoch by dataset, the mean over datasets, and the mean time of a run, a dataset counting as much as any other; a network
that lacks a run that two others have is not ranked, and named with what it reached where it has all. More folds rank
fewer networks, those that have them.

A network is good enough where `none` reaches what GIN of Errica et al. (ICLR 2020) does, less a point, on each dataset
of which it has all ten folds. Of those it is the fastest within half a point of the best: nearer ones cannot be told
apart, and the leaderboard pays for each.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from poolbench.errors import PoolBenchError
from poolbench.records.frame import frame

SEED = 1000
KEYS = ["model.depth", "model.hidden", "model.norm", "trainer.max_epochs"]
UNIT = ["names.dataset", "names.pool", "fold"]
SCORE, TIME = "val/accuracy", "time/total"
NEAR = 0.005  # fixed before the runs
GIN = {"ENZYMES": 0.596, "NCI1": 0.800, "PROTEINS": 0.733, "IMDB-BINARY": 0.712}  # their table 3, of the test parts


def of_sweep(records: pd.DataFrame) -> pd.DataFrame:
    """Its runs that are done. Raises `PoolBenchError` where there are none."""
    own = records[(records["seed"] == SEED) & (records["names.protocol"] == "cv10") & (records["status"] == "done")]
    own = own[~own["evaluate_test"].astype(bool)].drop_duplicates([*KEYS, *UNIT])
    if own.empty:
        raise PoolBenchError("no runs yet: python train.py -m experiment=leaderboard/network")
    return own


def reached(records: pd.DataFrame) -> pd.DataFrame:
    """What `none` reaches in ten folds, a row a network and dataset that has them, beside what is wanted."""
    own = of_sweep(records)
    own = own[(own["names.pool"] == "none") & own["names.dataset"].isin(GIN)]
    rows = []
    for (*network, dataset), runs in own.groupby([*KEYS, "names.dataset"]):
        if len(runs) == 10:
            rows.append({"network": _named(network), "dataset": dataset, "mean": runs[SCORE].mean(),
                         "error": runs[SCORE].sem(), "wanted": GIN[dataset]})  # fmt: skip
    return pd.DataFrame(rows, columns=["network", "dataset", "mean", "error", "wanted"])


def _named(network: Sequence[object]) -> str:
    return ", ".join(f"{key.rpartition('.')[2]}={_word(value)}" for key, value in zip(KEYS, network, strict=True))


def chosen(records: pd.DataFrame, folds: int = 3) -> tuple[pd.DataFrame, list[str]]:
    """Networks, best first, with a column a dataset, `mean`, `seconds`, `runs`; and what was left out, a line each.

    Raises `PoolBenchError` where there are no runs of the sweep.
    """
    own = of_sweep(records)
    own = own[(own["fold"] < folds) & (own.groupby(UNIT)[SCORE].transform("size") > 1)]
    if own.empty:
        raise PoolBenchError("no run was made in two networks: python train.py -m experiment=leaderboard/network")
    every = own[UNIT].drop_duplicates().groupby("names.dataset").size()
    made, said = [], []
    for network, runs in own.groupby(KEYS):
        name = _named(network)
        by_dataset = runs.groupby("names.dataset")[[SCORE, TIME]].mean()
        if lacking := int(every.sum()) - len(runs):
            whole = runs.groupby("names.dataset").size().reindex(every.index) == every
            parts = [f", {each} {by_dataset.loc[each, SCORE]:.4f}" for each in whole.index[whole]]
            said.append(f"{name}: {lacking} of {every.sum()} runs are missing, not ranked{''.join(parts)}")
            continue
        mean = by_dataset.mean()
        made.append(
            {"network": name, **by_dataset[SCORE], "mean": mean[SCORE], "seconds": mean[TIME], "runs": len(runs)}
        )
    if not made:
        raise PoolBenchError(f"no network has all runs yet: {said[0]}")
    return pd.DataFrame(made).sort_values("mean", ascending=False, ignore_index=True), said


def _word(value: object) -> str:
    """Whole numbers as they are, which a column that lacks some holds as others."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def choice(found: pd.DataFrame, none: pd.DataFrame) -> str:
    """The fastest of the good networks whose mean lies within `NEAR` of the best of them.

    Args:
        found: see `chosen`. none: see `reached`.

    Raises `PoolBenchError` where no network is good enough.
    """
    good = found[~found["network"].isin(none.loc[none["mean"] < none["wanted"], "network"])]
    if good.empty:
        raise PoolBenchError("no network is good enough: none lacks what is wanted on a dataset")
    near = good[good["mean"] >= good["mean"].max() - NEAR]
    return str(near.loc[near["seconds"].idxmin(), "network"])


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; returns the exit code."""
    parser = argparse.ArgumentParser(description="Which network of experiment=leaderboard/network validates best?")
    parser.add_argument("results", type=Path, nargs="?", default=Path("results"), help="a results folder")
    parser.add_argument("--folds", type=int, default=3, help="how many folds of each dataset count")
    given = parser.parse_args(argv)
    try:
        records = frame(given.results)
        (found, said), none = chosen(records, given.folds), reached(records)
        best = choice(found, none)
    except PoolBenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(found.to_string(index=False, float_format="{:.4f}".format))
    for line in said:
        print(line)
    if len(none):
        print("none in ten folds:")
        print(none.to_string(index=False, float_format="{:.3f}".format))
    print(f"chosen: {best}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
