"""The console command `poolbench reproduce`: Hydra composes what `bench.reproduce` plans."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import open_dict
from omegaconf.errors import OmegaConfBaseException

from poolbench import cli
from poolbench.config import Config
from poolbench.errors import PoolBenchError


def reproduce(argv: Sequence[str]) -> int:
    """Reproduce a published table; returns the exit code."""
    from poolbench.papers import reproduce as reproduction

    try:
        results = Path(os.environ.get("POOLBENCH_RESULTS", "results"))
        return reproduction.main(argv, cli.conf_dir(), compose, results)
    except PoolBenchError as error:
        return cli._fail(str(error), error.exit_code, error)
    except KeyboardInterrupt:
        return cli._fail("interrupted; the same command goes on from where it was", 130)


def compose(overrides: Sequence[str], seeds: Sequence[int]) -> list[Config]:
    """The configuration of a command line, for each seed.

    Raises `PoolBenchError` for a command line that does not compose.
    """
    cli.register_datasets()
    try:
        with hydra.initialize_config_dir(str(cli.conf_dir()), version_base="1.3"):
            config = hydra.compose("train", overrides=list(overrides), return_hydra_config=True)
        HydraConfig.instance().set_config(config)  # names of what was chosen are interpolated from there
        with open_dict(config):
            del config["hydra"]
        made = []
        for seed in seeds:
            config.seed = seed
            made.append(cli.resolve(config))
        return made
    except (HydraException, OmegaConfBaseException) as error:
        raise PoolBenchError(f"{' '.join(overrides)}: {cli.explain(error, overrides)}") from error
