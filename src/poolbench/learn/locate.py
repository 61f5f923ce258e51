"""From a part of a configuration to its class, and to an object of it; whatever is impossible is said in one line.

Nothing here loads torch: only a class does that needs it.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from poolbench.config import Part
from poolbench.errors import PoolBenchError, nearest
from poolbench.loading import loading
from poolbench.signatures import misfit

if TYPE_CHECKING:
    from poolbench.data.protocols import Protocol


SLIPS = (TypeError, ValueError, LookupError, ArithmeticError, AttributeError)
"""What Python says of an argument that is no such thing."""
FEW = 2
"""Arguments that are named where it may be any of them."""


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
    except (Exception, SystemExit) as error:  # whatever somebody else's module raises; a script of theirs may end here
        kind = "" if isinstance(error, ImportError) else f"{type(error).__name__}: "
        raise PoolBenchError(f"{key}._target_={part.target} cannot be imported: {kind}{first_line(error)}") from error


def construct(key: str, cls: type[Any], /, *args: Any, **kwargs: Any) -> Any:
    """cls(*args, **kwargs), with a refusal as one line that names the part of the configuration, and the argument."""

    def make(given: Mapping[str, Any]) -> Any:
        return cls(*args, **{name.removeprefix(f"{key}."): value for name, value in given.items()})

    return named({key: cls}, {f"{key}.{name}": value for name, value in kwargs.items()}, make)


def named(classes: Mapping[str, type[Any]], given: Mapping[str, Any], make: Callable[[Mapping[str, Any]], Any]) -> Any:
    """make(given), and what a constructor refuses as one line that names the argument, the class and what it said.

    Args:
        classes: of the parts, by key, the outermost first. given: their arguments by dotted key. make: takes fewer of
            them, too, so that the one is found without which nothing is refused.
    """
    outermost, cls = next(iter(classes.items()))
    own = {name.removeprefix(f"{outermost}."): value for name, value in given.items()}
    if (said := misfit(_parameters(cls), own)) is not None:
        raise PoolBenchError(f"{outermost}.{said} by {cls.__name__}")
    for key in given:
        _check_taken(key, classes)
    try:
        return make(given)
    except PoolBenchError:
        raise
    except (Exception, SystemExit) as error:  # classes of others do not look at what they are given: Python does
        text = _said(error)
        for key, value in given.items():
            name = key.rpartition(".")[2]
            if text.startswith((f"{key}=", f"{key}:", f"{name}={value!r}")):
                said = text if text.startswith(key) else key.removesuffix(name) + text
                raise PoolBenchError(said.replace(repr(value), _written(value))) from error
        found = _culprits(given, make, text) if isinstance(error, SLIPS) else []
        part = found[0].rpartition(".")[0] if found else outermost
        whose = " or ".join(f"{key}={_written(given[key])}" for key in found) or outermost
        raise PoolBenchError(f"{whose}: {classes.get(part, cls).__name__}: {text}") from error


def _check_taken(key: str, classes: Mapping[str, type[Any]]) -> None:
    """Refuse an argument that its part does not take, as a person writes it into a file of their own."""
    part, _, name = key.rpartition(".")
    takes = _parameters(classes[part]) if part in classes else {}
    if not takes or name in takes or any(one.kind is one.VAR_KEYWORD for one in takes.values()):
        return
    hint = nearest(name, takes) or f"; it takes {', '.join(takes)}"
    raise PoolBenchError(f"{key} is no argument of {classes[part].__name__}{hint}")


def _culprits(given: Mapping[str, Any], make: Callable[[Mapping[str, Any]], Any], said: str) -> list[str]:
    """The first argument without which nothing is refused; else those without which something else is, if few."""
    other = []
    for key in given:
        try:
            make({name: value for name, value in given.items() if name != key})
            return [key]
        except Exception as error:
            if _said(error) != said:
                other.append(key)
    return other if len(other) <= FEW else []


def _written(value: Any) -> str:
    """An argument as a configuration has it: a class with arguments filled in is a mapping there."""
    if isinstance(value, functools.partial):
        return repr({"_target_": f"{value.func.__module__}.{value.func.__qualname__}", **value.keywords})
    return repr(value)


def _said(error: BaseException) -> str:
    kind = "" if isinstance(error, TypeError | ValueError) else f"{type(error).__name__}: "
    return kind + first_line(error)


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
    if "seed" in part.arguments:
        raise PoolBenchError(f"protocol.seed={part.arguments['seed']!r}: split.seed says it")
    return construct("protocol", cls, seed=seed, **places("protocol", part, cls, data, mirror), **part.arguments)


def places(key: str, part: Part, cls: type[Any], data: str | None, mirror: str | None) -> dict[str, str]:
    """The folders that the constructor of `cls`, the class of `part`, asks for.

    Raises `PoolBenchError` where the part says them itself, and names `key`, where that stands.
    """
    for name in ("data", "mirror"):
        if name in part.arguments:
            raise PoolBenchError(f"{key}.{name}={part.arguments[name]!r}: paths.{name} says where data lies")
    takes = inspect.signature(cls).parameters
    return {k: v for k, v in {"data": data, "mirror": mirror}.items() if v is not None and k in takes}
