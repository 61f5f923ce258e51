#!/usr/bin/env python3
"""Print what four readers of a dataset reach, for docs/datasets.yaml: the mean test accuracy over three seeds.

    python scripts/datasets_reach.py csbm only-nodes

set: an MLP on each node and a sum. structure: GIN without pooling that is not given the features. wl, paths: support
vector machines on the kernels of 1-WL and of shortest paths, which compare node labels. None: the reader refuses.
Records are left in the folder that `paths.results` says in POOLBENCH_REACH, else in a temporary one.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import tempfile
from collections.abc import Iterable, Sequence
from statistics import fmean

from poolbench.cli.door import composed, resolve
from poolbench.errors import PoolBenchError
from poolbench.jobs.run import run

SEEDS = range(3)
NETWORK = ("trainer.max_epochs=30", "optimizer.lr=0.002", "scheduler=cosine")
READERS = {
    "set": ("model=structure-free", "pool=globalsum", *NETWORK),
    "structure": ("pool=none", "model.levels=1", "model.hidden=32", "dataset.features=[constant]", *NETWORK),
    "wl": ("model=wl-svm", "pool=none"),
    "paths": ("model=sp-svm", "pool=none"),
}
"""What composes each reader."""


def reach(name: str, results: str, readers: Iterable[str] = READERS) -> dict[str, float | None]:
    """The mean test accuracy of each reader on a dataset; None where it does not take such a dataset."""
    return {reader: _mean(name, READERS[reader], results) for reader in readers}


def _mean(name: str, words: Sequence[str], results: str) -> float | None:
    found = []
    for seed in SEEDS:
        chosen = [f"dataset={name}", *words, f"seed={seed}", "logger=none", f"paths.results={results}"]
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                record = run(resolve(composed(chosen)))
        except PoolBenchError as error:
            print(f"{name}: {error}", file=sys.stderr)
            return None
        found.append(record.metrics.test["accuracy"])
    return round(fmean(found), 3)


def main(names: Sequence[str]) -> int:
    """Print a line for each dataset; returns the exit code."""
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            values = reach(name, os.environ.get("POOLBENCH_REACH", folder))
            print(f"{name}: {{" + ", ".join(f"{reader}: {value}" for reader, value in values.items()) + "}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
