#!/usr/bin/env python3
"""Print which network of the sweep `experiment=leaderboard/network` validates best, over datasets and controls alike.

    python scripts/choose_network.py [RESULTS]

A network is what the sweep varies of the model and the training. Of each, the mean validation accuracy of the last
epoch by dataset, the mean over datasets, and the mean time of a run, a dataset counting as much as any other; a network
that lacks a run of the others is not ranked, and named with what it reached where it has all. Chosen is the fastest of
those within half a point of the best: nearer ones cannot be told apart, and the leaderboard pays for each.
"""

from __future__ import annotations

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


def chosen(records: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Networks, best first, with a column a dataset, `mean`, `seconds`, `runs`; and what was left out, a line each.

    Raises `PoolBenchError` where there are no runs of the sweep.
    """
    own = records[(records["seed"] == SEED) & ~records["evaluate_test"].astype(bool) & (records["status"] == "done")]
    own = own.drop_duplicates([*KEYS, *UNIT])
    if own.empty:
        raise PoolBenchError("no runs yet: python train.py -m experiment=leaderboard/network")
    every = own[UNIT].drop_duplicates().groupby("names.dataset").size()
    made, said = [], []
    for network, runs in own.groupby(KEYS):
        name = ", ".join(f"{key.rpartition('.')[2]}={_word(value)}" for key, value in zip(KEYS, network, strict=True))
        by_dataset = runs.groupby("names.dataset")[[SCORE, TIME]].mean()
        if lacking := int(every.sum()) - len(runs):
            whole = runs.groupby("names.dataset").size().reindex(every.index) == every
            reached = [f", {each} {by_dataset.loc[each, SCORE]:.4f}" for each in whole.index[whole]]
            said.append(f"{name}: {lacking} of {every.sum()} runs are missing, not ranked{''.join(reached)}")
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


def choice(found: pd.DataFrame) -> str:
    """The fastest network of those whose mean lies within `NEAR` of the best's."""
    near = found[found["mean"] >= found["mean"].max() - NEAR]
    return str(near.loc[near["seconds"].idxmin(), "network"])


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        if len(words) > 1:
            raise PoolBenchError(f"{words[1]}: give one results folder")
        found, said = chosen(frame(Path(words[0] if words else "results")))
    except PoolBenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(found.to_string(index=False, float_format="{:.4f}".format))
    for line in said:
        print(line)
    print(f"chosen: {choice(found)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
