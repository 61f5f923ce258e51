"""The words of a sweep, looked at before the first job: how many there are, and whether each value can be taken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Override
from omegaconf import OmegaConf

from poolbench.cli import words as spoken
from poolbench.cli.composing import Composer
from poolbench.cli.folders import groups
from poolbench.errors import PoolBenchError


def checked(words: Sequence[str], composer: Composer, read: Any) -> list[str]:
    """The words of a sweep as Hydra's sweeper is to be told them.

    Every value of every axis is tried once, beside the first values of the others; what is refused for other reasons
    than itself is a matter of its job.

    Args:
        read: makes a configuration of words, or raises `PoolBenchError`.

    Raises `PoolBenchError` for a value that no job could have, and says which choice lacks a key.
    """
    given = spoken.parsed(words)
    all_words = [*_params(given, composer), *given]
    spoken.count(all_words)
    last = {word.get_key_element(): word for word in all_words}  # of two words on a key, as Hydra's sweeper does
    axes = {key: spoken.elements(word) for key, word in last.items() if word.is_sweep_override()}
    fixed = [str(word.input_line) for word in last.values() if not word.is_sweep_override()]
    first = {key: values[0] for key, values in axes.items()}
    tried: set[tuple[str, ...]] = set()
    if not axes:
        _try({}, fixed, read)
    for key, values in axes.items():
        for value in values:
            job = (*{**first, key: value}.values(), *fixed)
            if job not in tried:
                tried.add(job)
                _try({**first, key: value}, job, read)
    swept = {key for key in axes if key in groups()}
    return [_of_each_job(word, swept) for word in given]


def _params(given: Sequence[Override], composer: Composer) -> list[Override]:
    """The axes that an experiment brings (hydra.sweeper.params) and the words leave as they are."""
    composer.compose([str(word.input_line) for word in given if word.key_or_group == "experiment"
                      and not word.is_sweep_override()])  # fmt: skip
    known: Any = HydraConfig.instance().cfg
    params: Mapping[str, Any] = OmegaConf.select(known, "hydra.sweeper.params") or {}
    said = {word.key_or_group for word in given}
    return spoken.parsed([f"{key}={value}" for key, value in params.items() if key not in said])


def _try(chosen: Mapping[str, str], job: Sequence[str], read: Any) -> None:
    try:
        read(job)
    except PoolBenchError as error:
        text = str(error)
        whose = [word for key, word in chosen.items() if f"{key}." in text and word not in text and key in groups()]
        raise PoolBenchError(": ".join([*whose, text])) from error


def _of_each_job(word: Override, swept: Set[str]) -> str:
    """A key of a group that is swept as an axis of one value: so Hydra asks the jobs' configurations for it alone."""
    said, group = str(word.input_line), word.key_or_group.partition(".")[0]
    if group not in swept or group == word.key_or_group or word.is_sweep_override() or word.is_delete():
        return said
    key, _, value = said.partition("=")
    return f"{key}=choice({value})"
