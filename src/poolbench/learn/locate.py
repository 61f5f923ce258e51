"""From a part of a configuration to its class, and to an object of it; whatever is impossible is said in one line.

Nothing here loads torch: only a class does that needs it.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from poolbench.config import Part
from poolbench.errors import PoolBenchError
from poolbench.loading import loading
from poolbench.signatures import misfit

if TYPE_CHECKING:
    from poolbench.data.protocols import Protocol


SLIPS = (TypeError, ValueError, LookupError, ArithmeticError, AttributeError)
"""What Python says of an argument that is no such thing."""


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
    """cls(*args, **kwargs), with a refusal as one line that names the part of the configuration, and the argument."""
    return named({f"{key}.{name}": value for name, value in kwargs.items()}, cls, lambda given: cls(
        *args, **{name.removeprefix(f"{key}."): value for name, value in given.items()}
    ), annotated=key)  # fmt: skip


def named(given: Mapping[str, Any], cls: type[Any], make: Callable[[Mapping[str, Any]], Any], annotated: str) -> Any:
    """make(given), and what a constructor refuses as one line that names the argument, the class and what it said.

    Args:
        given: arguments by dotted key; `make` takes fewer of them, too. annotated: the key of the part that `cls` is.
    """
    own = {key.removeprefix(f"{annotated}."): value for key, value in given.items() if key.startswith(f"{annotated}.")}
    if (said := misfit(_parameters(cls), own)) is not None:
        raise PoolBenchError(f"{annotated}.{said} by {cls.__name__}")
    try:
        return make(given)
    except PoolBenchError:
        raise
    except Exception as error:  # classes of other libraries do not look at what they are given: Python does
        kind = "" if isinstance(error, TypeError | ValueError) else f"{type(error).__name__}: "
        text = kind + first_line(error)
        for key, value in given.items():
            if text.startswith((f"{key}=", f"{key}:")):
                raise PoolBenchError(text) from error
            if text.startswith((name := key.rpartition(".")[2]) + f"={value!r}"):
                raise PoolBenchError(key.removesuffix(name) + text) from error
        whose = _culprit(given, make) if isinstance(error, SLIPS) else None
        raise PoolBenchError(f"{whose or annotated}: {cls.__name__}: {text}") from error


def _culprit(given: Mapping[str, Any], make: Callable[[Mapping[str, Any]], Any]) -> str | None:
    """The first argument, as KEY=VALUE, without which nothing is refused."""
    for key in given:
        with contextlib.suppress(Exception):
            make({other: value for other, value in given.items() if other != key})
            return f"{key}={given[key]!r}"
    return None


def _parameters(cls: type[Any]) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(cls).parameters
    except (TypeError, ValueError):  # one of Python's own, or of C
        return {}


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
