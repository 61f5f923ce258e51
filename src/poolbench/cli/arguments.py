"""Arguments of parts that are refused here because those who take them would say so late, or not by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml
from omegaconf import OmegaConf

from poolbench.cli.folders import files
from poolbench.errors import PoolBenchError

OF_TORCH = ("optimizer", "scheduler")
"""Groups whose classes are torch's, which names no argument: it compares, and Python says what it cannot."""
OURS = ("pool", "model", "dataset", "protocol", "logger", "perturb")
"""Groups whose classes say what each argument may be. A word in place of a number is refused before they are loaded."""
OPTIMISERS = "torch.optim."
A_LEVEL = ("ratio", "k")
"""Arguments of an operator that may be lists, one value a level."""


def check(config: Mapping[str, Any]) -> None:
    """Raise `PoolBenchError` for such an argument of a configuration's plain dictionaries."""
    for group in OF_TORCH:
        part: Any = config.get(group)
        for name, value in part.items() if isinstance(part, Mapping) else ():
            if name != "_target_" and not isinstance(value, bool | int | float):
                _check_kind(group, name, value)
                if group == "optimizer" and str(part.get("_target_")).startswith(OPTIMISERS) and _says(value):
                    raise PoolBenchError(f"{group}.{name}={value!r}: torch's optimisers take numbers, true and false")
    for group in OURS:
        part, names = config.get(group), config.get("names")
        if isinstance(part, Mapping) and isinstance(names, Mapping):
            _check_words(group, part, names.get(group))
    pool, model = config.get("pool"), config.get("model")
    if isinstance(pool, Mapping) and isinstance(model, Mapping):
        _check_levels(pool, model.get("levels"))


def _check_kind(group: str, name: str, value: Any) -> None:
    """An argument that is a number, or true or false, in each file of its group that has it is nothing else."""
    found = [OmegaConf.to_container(OmegaConf.load(path), resolve=False) for path in files(group).values()]
    kinds = {type(part[name]) for part in found if isinstance(part, dict) and name in part}
    if kinds and kinds <= {int, float}:
        raise PoolBenchError(f"{group}.{name}={value!r}: a number is expected")
    if kinds == {bool} and value is not None:
        raise PoolBenchError(f"{group}.{name}={value!r}: true or false is expected")


def _check_words(group: str, part: Mapping[str, Any], chosen: Any) -> None:
    """An argument that is a number in the file that was chosen is no word."""
    words = {name: value for name, value in part.items() if name != "_target_" and _says(value)}
    path = files(group).get(chosen) if words and isinstance(chosen, str) else None
    held: Any = yaml.load(path.read_bytes(), _Loader) if path is not None else None
    for name, value in words.items() if isinstance(held, dict) else ():
        if type(held.get(name)) in (int, float):
            raise PoolBenchError(f"{group}.{name}={value!r}: a number is expected")


_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _says(value: Any) -> bool:
    """Whether a value is a word, or a list with one."""
    return isinstance(value, str) or (isinstance(value, list) and any(isinstance(one, str) for one in value))


def _check_levels(pool: Mapping[str, Any], levels: Any) -> None:
    for name in A_LEVEL:
        value = pool.get(name)
        if isinstance(value, list) and isinstance(levels, int) and len(value) > levels >= 1:
            raise PoolBenchError(
                f"pool.{name}={value}: {len(value)} values for model.levels={levels}; a list has one a level, and its "
                "last is that of all levels that follow"
            )
