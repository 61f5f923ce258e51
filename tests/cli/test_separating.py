"""The sweeps of the separating tasks: how many runs they are, and that each of their values makes a configuration."""

from __future__ import annotations

import pytest
from hydra.core.hydra_config import HydraConfig

from poolbench.cli import sweeping, words
from poolbench.cli.composing import Composer
from poolbench.cli.door import composed, resolve
from poolbench.config import Config

RUNS = {"csbm": 450, "cexp": 90, "cexp_ratio": 50, "motif": 90, "own": 450, "brec": 40}


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_every_value_makes_a_configuration_of_the_rule(name: str) -> None:
    composer, read = Composer(), list[Config]()

    def job(line: list[str]) -> None:
        read.append(resolve(composed(line, composer)))

    sweeping.checked([f"experiment=separating/{name}"], composer, job)
    for config in read:
        if name == "brec":  # as the authors train
            assert (config.batch_size, config.trainer.max_epochs) == (16, 20)
            continue
        assert config.protocol.arguments["select"] == "last"
        assert config.scheduler is not None and config.scheduler.arguments["T_max"] == config.trainer.max_epochs
    composer.compose([f"experiment=separating/{name}"])
    params = HydraConfig.get().sweeper.params
    assert words.count(words.parsed([f"{key}={values}" for key, values in params.items()])) == RUNS[name]
