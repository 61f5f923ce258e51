#!/usr/bin/env python3
"""Search what each operator of the leaderboard runs with, and write it as conf/tuned/DATASET/POOL.yaml.

    python scripts/tune_leaderboard.py --jobs 2          # what is missing; it may be stopped and started again
    python scripts/tune_leaderboard.py --plan            # how many runs are missing; nothing is done
    python scripts/tune_leaderboard.py --pools topk,sag --datasets PROTEINS trainer.max_epochs=60 paths.results=FOLDER

Each search is `experiment=leaderboard/tuning`: six trials on a hold-out whose test part is never looked at. Datasets
and operators are those that experiment=leaderboard/cv sweeps, unless they are named; words that follow are as train.py
takes them. Operators that return auxiliary losses have these weighed, too (search=leaderboard-losses). The exit code is
1 where all trials of a search failed: nothing is written of it, and the others are done.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from hydra.core.hydra_config import HydraConfig

from poolbench import conf_dir
from poolbench.cli.composing import Composer
from poolbench.cli.door import composed, resolve
from poolbench.cli.names import choices
from poolbench.config import Config
from poolbench.errors import PoolBenchError, RunError, nearest
from poolbench.jobs import tuning
from poolbench.jobs.search import Search
from poolbench.learn.build import STAND_IN, build_model
from poolbench.linalg import Ragged, Sparse

EXPERIMENT, SWEPT, SEARCH = "leaderboard/tuning", "leaderboard/cv", "leaderboard"


@dataclass(frozen=True)
class Tuning:
    """One search: of an operator on a dataset."""

    dataset: str
    pool: str
    config: Config

    @property
    def name(self) -> str:
        return f"{self.dataset}/{self.pool}"

    @cached_property
    def search(self) -> Search:
        """Raises `PoolBenchError` where it cannot be done."""
        return tuning.new_search(self.config, tuning.check(self.config))

    def missing(self) -> int:
        """Trials that are not done yet; nothing is written."""
        search = self.search
        return search.budget - (len(search.trials()) if (search.folder / "journal.log").exists() else 0)


def tunings(datasets: Sequence[str], pools: Sequence[str], words: Sequence[str]) -> list[Tuning]:
    """The searches, a dataset after the other.

    Args:
        datasets, pools: names; none: those of the leaderboard. words: further ones of the command line.

    Raises `PoolBenchError` for a name that is none, and for words that make no search.
    """
    composer = Composer()
    composed([f"experiment={SWEPT}"], composer)
    swept = HydraConfig.get().sweeper.params
    of = {"dataset": datasets or _split(swept["dataset"]), "pool": pools or _split(swept["pool"])}
    for group, names in of.items():
        for name in names:
            if name not in (known := choices(group)):
                raise PoolBenchError(f"--{group}s {name}: there is no such {group}{nearest(name, known)}")
    made, search = [], {pool: "" for pool in of["pool"]}
    for dataset in of["dataset"]:
        for pool in of["pool"]:
            chosen = [f"experiment={EXPERIMENT}", f"dataset={dataset}", f"pool={pool}"]
            if not search[pool]:
                plain = resolve(composed([*chosen, *words], composer))
                search[pool] = f"search={SEARCH}-losses" if has_losses(plain) else f"search={SEARCH}"
            config = resolve(composed([*chosen, search[pool], *words], composer))
            made.append(Tuning(dataset, pool, config))
    return made


def _split(text: str) -> list[str]:
    return [name for name in text.replace(" ", "").replace("\n", "").split(",") if name]


def has_losses(config: Config) -> bool:
    """Whether the operator of a configuration returns auxiliary losses, found by a call on eight nodes."""
    model = build_model(config.model, config.pool, STAND_IN, config.names.pool)
    node, next_one = torch.arange(8), torch.arange(8).roll(-1)
    nodes = Ragged.from_index(torch.zeros(8, dtype=torch.long))
    ring = Sparse.from_edges(torch.cat([node, next_one]), torch.cat([next_one, node]), None, nodes, symmetric=True)
    with torch.no_grad():
        return bool(model(torch.rand(8, STAND_IN.in_channels), ring).losses)


def plan(todo: Sequence[Tuning]) -> str:
    """How many runs are missing, by dataset and in all."""
    missing = {each.name: each.missing() for each in todo}
    of = {each.name: each.search.budget for each in todo}  # a grid of one's own may have fewer
    lines = []
    for dataset in dict.fromkeys(each.dataset for each in todo):
        names = [each.name for each in todo if each.dataset == dataset]
        lines.append(f"{dataset}: {sum(missing[n] for n in names)} of {sum(of[n] for n in names)} runs are missing")
    searches = sum(count > 0 for count in missing.values())
    return "\n".join([*lines, f"in all: {sum(missing.values())} of {sum(of.values())} runs, {searches} searches"])


def done(todo: Sequence[Tuning], jobs: int, folder: Path) -> list[str]:
    """Do the searches and write what they found; returns the names of those that found nothing."""
    failed = []
    for number, each in enumerate(todo, 1):
        print(f"search {number} of {len(todo)}: {each.name}", flush=True)
        try:
            search, trials = tuning.tune(each.config, jobs)
        except RunError as error:
            print(f"{each.name}: {error}; nothing is written", file=sys.stderr, flush=True)
            failed.append(each.name)
            continue
        path = tuning.write_found(folder / each.dataset, each.pool, tuning.tuned(search, trials))
        print(f"{tuning.summary(search, trials, 1)}\nwritten: {path}", flush=True)
    return failed


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the words say; returns the exit code."""
    parser = argparse.ArgumentParser(description="Tune the operators of the leaderboard, all alike.")
    parser.add_argument("--datasets", type=_split, default=[], help="names, with commas; else those of the leaderboard")
    parser.add_argument("--pools", type=_split, default=[], help="the same of operators")
    parser.add_argument("--jobs", type=int, default=1, help="trials of a search at a time")
    parser.add_argument("--plan", action="store_true", help="say how many runs are missing, and do nothing")
    parser.add_argument("--to", type=Path, default=conf_dir() / "tuned", help="the folder for what was found")
    parser.add_argument("words", nargs="*", help="such as trainer.max_epochs=60 or paths.results=FOLDER")
    given = parser.parse_intermixed_args(argv)
    try:
        todo = tunings(given.datasets, given.pools, given.words)
        if given.plan:
            print(plan(todo))
            return 0
        for each in todo:  # so that nothing begins where something must fail
            tuning.check(each.config, given.jobs)
        failed = done(todo, given.jobs, given.to)
    except PoolBenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    if failed:
        print(f"found nothing: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
