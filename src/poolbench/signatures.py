"""What a constructor's annotations say of its arguments, so that none asks by itself whether a number is one."""

from __future__ import annotations

import ast
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np

EXACT = 2**53
"""Up to here a float holds each whole number."""


class _Kind(NamedTuple):
    fits: Callable[[Any], bool]
    said: str
    several: str


def misfit(parameters: Mapping[str, inspect.Parameter], given: Mapping[str, Any]) -> str | None:
    """`NAME=VALUE: a number is expected` of the first argument that is not what its annotation says, or None.

    Annotations of numbers, words, flags, None, literals, and lists, mappings and unions of them are read; of any other
    nothing is known, and the constructor itself says what it takes. An argument's own default fits, annotated or not.
    """
    for name, value in given.items():
        if name not in parameters or value is parameters[name].default:
            continue
        kinds = _kinds_of(parameters[name].annotation)
        if kinds and not any(kind.fits(value) for kind in kinds):
            return f"{name}={value!r}: {_either([kind.said for kind in kinds])} is expected"
    return None


def _either(words: Sequence[str], nothing: str = "a tensor") -> str:
    said = [word for word in dict.fromkeys(filter(None, words)) if word.replace("whole ", "") not in words or
            "whole" not in word]  # fmt: skip
    return " or ".join(filter(None, (", ".join(said[:-1]), *said[-1:]))) or nothing


def _kinds_of(annotation: Any) -> tuple[_Kind, ...]:
    if annotation is inspect.Parameter.empty:
        return ()
    return _kinds(annotation if isinstance(annotation, str) else inspect.formatannotation(annotation))


@cache
def _kinds(text: str) -> tuple[_Kind, ...]:
    """What a value may be; nothing where part of it is not known."""
    try:
        return _read(ast.parse(text, mode="eval").body)
    except (SyntaxError, LookupError, ValueError):
        return ()


def _read(node: ast.expr) -> tuple[_Kind, ...]:
    """Raises KeyError for what is not known."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return (*_read(node.left), *_read(node.right))
    if isinstance(node, ast.Subscript):
        inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        return (_OF[ast.unparse(node.value).rpartition(".")[2]](inner),)
    return (_PLAIN[ast.unparse(node).rpartition(".")[2]],)


def _flag(value: Any) -> bool:
    return isinstance(value, bool | np.bool_)


def _real(value: Any) -> bool:
    # math.isnan would make a float of a whole number first, and of some there is none
    return isinstance(value, Real) and not _flag(value) and (isinstance(value, Integral) or not math.isnan(value))


def _whole(value: Any) -> bool:
    return _real(value) and (isinstance(value, Integral) or (abs(value) <= EXACT and value % 1 == 0))


_PLAIN = {
    "bool": _Kind(_flag, "True or False", "flags"),
    "int": _Kind(_whole, "a whole number", "whole numbers"),
    "float": _Kind(_real, "a number", "numbers"),
    "str": _Kind(lambda value: isinstance(value, str), "a word", "words"),
    "None": _Kind(lambda value: value is None, "None", "None"),
    "Any": _Kind(lambda value: True, "", "values"),
    # What it may be, layers know. Without one a layer has the weights that its memory held before.
    "Initializer": _Kind(lambda value: value is not None, "the name of an initialiser", "names"),
    # No configuration holds one: what it takes beside is what there is to say.
    "Tensor": _Kind(lambda value: any(cls.__name__ == "Tensor" for cls in type(value).__mro__), "", ""),
}


def _ordered(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return value.ndim > 0
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _list(inner: Sequence[ast.expr]) -> _Kind:
    kinds = _read(inner[0])

    def fits(value: Any) -> bool:
        if _ordered(value):
            return all(any(kind.fits(one) for kind in kinds) for one in value)
        # of what can be looked at but once nothing is looked at
        return hasattr(value, "__iter__") and not isinstance(value, str | bytes | Mapping | np.ndarray)

    return _Kind(fits, f"a list of {_each(kinds)}", "lists")


def _tuple(inner: Sequence[ast.expr]) -> _Kind:
    if isinstance(inner[-1], ast.Constant) and inner[-1].value is ...:
        return _list(inner)
    kinds = [_read(one) for one in inner]

    def fits(value: Any) -> bool:
        return _ordered(value) and len(value) == len(kinds) and all(
            any(kind.fits(one) for kind in each) for one, each in zip(value, kinds, strict=True)
        )  # fmt: skip

    return _Kind(fits, f"a list of {len(kinds)} {_each(kinds[0])}", "lists")


def _mapping(inner: Sequence[ast.expr]) -> _Kind:
    kinds = _read(inner[1])

    def fits(value: Any) -> bool:
        return isinstance(value, Mapping) and all(any(kind.fits(one) for kind in kinds) for one in value.values())

    return _Kind(fits, f"a mapping of names to {_each(kinds)}", "mappings")


def _literal(inner: Sequence[ast.expr]) -> _Kind:
    choices = [ast.literal_eval(one) for one in inner]
    words = _either([str(choice) for choice in choices])

    def fits(value: Any) -> bool:
        value = value.item() if isinstance(value, np.generic) else value
        return any(type(value) is type(one) and value == one for one in choices)

    return _Kind(fits, words, words)


def _each(kinds: Sequence[_Kind]) -> str:
    return _either([kind.several for kind in kinds], "tensors")


_OF: dict[str, Callable[[Sequence[ast.expr]], _Kind]] = {
    **dict.fromkeys(("Sequence", "Iterable", "list"), _list), "tuple": _tuple,
    **dict.fromkeys(("Mapping", "dict"), _mapping), "Literal": _literal,
}  # fmt: skip
