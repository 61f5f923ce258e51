"""A search space as the file that `wandb sweep` takes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import yaml

from poolbench.config import Config
from poolbench.jobs.search import dimensions
from poolbench.jobs.tuning import check, monitored

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

METHODS = {"tpe": "bayes", "random": "random", "grid": "grid", "quasi": "random"}


def sweep(config: Config, words: Sequence[str]) -> str:
    """The file that `wandb sweep` takes, for the search space of a configuration.

    Args:
        config: with its `search`. words: of the command line, the search's apart.

    Raises `PoolBenchError` for a configuration that cannot be searched.
    """
    search, logger = config.search, config.logger
    assert search is not None
    space = dimensions(config)
    name, mode = monitored(config, check(config))
    known = (logger.arguments if logger else {}).get("project", "poolbench")
    made = {
        "name": f"{config.names.pool}-{config.dataset_name}",
        "project": os.environ.get("WANDB_PROJECT") or known,
        "method": METHODS[search.sampler],
        "metric": {"name": name, "goal": {"min": "minimize", "max": "maximize"}[mode]},
        "run_cap": search.trials,
        "parameters": {key: _parameter(found) for key, found in space.items()},
        "command": ["${env}", "poolbench", "train", *words, "evaluate_test=false", "${args_no_hyphens}"],
    }
    if search.prune:
        made["early_terminate"] = {"type": "hyperband", "min_iter": 10}
    said = "# W&B has no quasi-random points: these are drawn at random\n" if search.sampler == "quasi" else ""
    return said + yaml.safe_dump(made, sort_keys=False)


def _parameter(found: BaseDistribution) -> dict[str, Any]:
    """A dimension in W&B's terms."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(found, CategoricalDistribution):
        return {"values": list(found.choices)}
    assert isinstance(found, FloatDistribution | IntDistribution)
    bounds = {"min": found.low, "max": found.high}
    whole = isinstance(found, IntDistribution)
    if found.log:
        return {"distribution": "q_log_uniform_values", **bounds, "q": 1} if whole else {
            "distribution": "log_uniform_values", **bounds}  # fmt: skip
    if found.step not in (None, 1):
        return {"distribution": "q_uniform", **bounds, "q": found.step}
    return {"distribution": "int_uniform" if whole else "uniform", **bounds}
