"""From a part of a configuration to its class, and to an object of it; whatever is impossible is said in one line.

Nothing here loads torch: only a class does that needs it.
"""

from __future__ import annotations

import importlib
import inspect
from typing import TYPE_CHECKING, Any

from poolbench.config import Part
from poolbench.errors import PoolBenchError
from poolbench.loading import loading

if TYPE_CHECKING:
    from poolbench.data.protocols import Protocol


def locate(key: str, part: Part) -> type[Any]:
    """The class of a part. Raises `PoolBenchError` naming `key`, where the part stands in the configuration."""
    module, _, name = part.target.rpartition(".")
    try:
        with loading():
            return getattr(importlib.import_module(module), name)
    except (ModuleNotFoundError, AttributeError, ValueError) as error:
        raise PoolBenchError(
            f"{key}._target_={part.target} cannot be imported ({error}); "
            "give module.Class of a module on the Python path"
        ) from error
    except Exception as error:  # whatever somebody else's module raises
        kind = "" if isinstance(error, ImportError) else f"{type(error).__name__}: "
        raise PoolBenchError(f"{key}._target_={part.target} cannot be imported: {kind}{first_line(error)}") from error


def construct(key: str, cls: type[Any], *args: Any, **kwargs: Any) -> Any:
    """cls(*args, **kwargs), with a refusal as one line that names the part of the configuration."""
    try:
        return cls(*args, **kwargs)
    except PoolBenchError:
        raise
    except (TypeError, ValueError) as error:
        raise PoolBenchError(f"{key}: {first_line(error)}") from error


def first_line(error: BaseException) -> str:
    """What an error says, in one line."""
    return (str(error) or type(error).__name__).splitlines()[0]


def build_protocol(part: Part, seed: int, data: str | None = None, mirror: str | None = None) -> Protocol:
    """The object that draws the split. data, mirror: where published folds are found; None for the environment's."""
    cls = locate("protocol", part)
    return construct("protocol", cls, seed=seed, **places(cls, data, mirror), **part.arguments)


def places(cls: type[Any], data: str | None, mirror: str | None) -> dict[str, str]:
    """The folders that the constructor of `cls` asks for."""
    takes = inspect.signature(cls).parameters
    return {k: v for k, v in {"data": data, "mirror": mirror}.items() if v is not None and k in takes}
