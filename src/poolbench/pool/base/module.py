"""Torch modules that know what they were made with, so that none of them writes a repr or draws its weights twice."""

from __future__ import annotations

import functools
import inspect
import reprlib
from collections.abc import Callable, Iterator
from dataclasses import is_dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.parameter import is_lazy

from poolbench.signatures import misfit


class Module(nn.Module):
    """A module that keeps the arguments that its constructor was called with.

    They are what `repr` shows (where they differ from their defaults), what `get_config` returns, and what
    `reset_parameters` makes new weights with; a subclass, however it is constructed, does nothing for that. An argument
    that is annotated as a number, a word, True or False, or a list of them must be one: else ValueError.
    """

    _given: tuple[tuple[Any, ...], dict[str, Any]]

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if "__init__" in vars(cls):
            cls.__init__ = _remembering(vars(cls)["__init__"])  # type: ignore[method-assign]

    def get_config(self) -> dict[str, Any]:
        """The arguments by name, those that were given: `type(p)(**p.get_config())` makes the same module anew."""
        return dict(self._given[1])

    def extra_repr(self) -> str:
        args, given = self._given
        known = parameters_of(type(self))
        shown = [_shown(value) for value in args]
        for name, value in given.items():
            # torch shows modules below
            if not isinstance(value, nn.Module) and not (name in known and _same(value, known[name].default)):
                shown.append(f"{name}={_shown(value)}")
        return ", ".join(shown)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw all weights anew, in place: those of a new module of the same arguments that is made now.

        A width that was inferred stays known; layers that inferred theirs are drawn after the others, and one that has
        not yet is left to its first call. Modules that were handed in are reset too, last. Raises RuntimeError where
        the weights are no longer those that the constructor makes.
        """
        args, given = self._given
        fresh = type(self)(*args, **given)
        _infer_alike(fresh, self)
        for module in _shared(fresh, set(self.modules())):
            _redraw(module)
        new = {**dict(fresh.named_parameters()), **dict(fresh.named_buffers())}
        old = {**dict(self.named_parameters()), **dict(self.named_buffers())}
        shapes = [{n: None if is_lazy(t) else t.shape for n, t in tensors.items()} for tensors in (new, old)]
        if shapes[0] != shapes[1]:
            strange = sorted(n for n in {*new, *old} if shapes[0].get(n, ()) != shapes[1].get(n, ()))
            raise RuntimeError(
                f"{type(self).__name__}.reset_parameters: its constructor does not make {', '.join(strange)} as it is "
                "now; reset the modules that were put in one by one"
            )
        for name, tensor in old.items():
            if not is_lazy(tensor):
                tensor.copy_(new[name])


def parameters_of(cls: type) -> dict[str, inspect.Parameter]:
    """What a constructor takes by name, arguments of its bases included that it passes on by **keywords."""
    found: dict[str, inspect.Parameter] = {}
    for base in cls.__mro__:
        if "__init__" not in vars(base) or base in (nn.Module, object):
            continue
        parameters = list(inspect.signature(vars(base)["__init__"]).parameters.values())[1:]
        found |= {p.name: p for p in parameters if p.kind in _BY_NAME and p.name not in found}
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return found


_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def _remembering(init: Callable[..., None]) -> Callable[..., None]:
    """A constructor that checks its arguments by their annotations and, of those that call one another, keeps what the
    outermost was given."""
    signature = inspect.signature(init)
    named = {p.name: p for p in signature.parameters.values() if p.kind in _BY_NAME}

    @functools.wraps(init)
    def __init__(self: Module, *args: Any, **kwargs: Any) -> None:
        hint = "" if "_given" in vars(self) or "in_channels" in kwargs else _no_width(type(self), args)
        try:
            start(self, *args, **kwargs)
        except (TypeError, ValueError) as error:
            if not hint:
                raise
            raise type(error)(f"{error}. {hint}") from error

    def start(self: Module, *args: Any, **kwargs: Any) -> None:
        try:
            bound = signature.bind(self, *args, **kwargs)
        except TypeError:  # the constructor says it in Python's usual words
            return init(self, *args, **kwargs)
        if (said := misfit(named, bound.arguments)) is not None:
            raise ValueError(said)
        if "_given" not in vars(self):
            # __dict__, as torch's own attributes come with its constructor
            vars(self)["_given"] = _by_name(bound)
        init(self, *args, **kwargs)

    return __init__


def _no_width(cls: type, args: tuple[Any, ...]) -> str:
    """What to say of a first argument that may be meant as a width, as PyTorch Geometric has it; '' of any other.

    Raises ValueError where it would be taken for a ratio, as the number of nodes to keep.
    """
    if not args or not isinstance(args[0], int) or isinstance(args[0], bool) or args[0] < 2:
        return ""
    known = parameters_of(cls)
    first, parameter = next(iter(known.items()))
    if "in_channels" not in known or first == "in_channels":
        return ""
    if first in ("k", "channels") and not (len(args) > 1 and isinstance(args[1], int)):
        return ""
    default = "..." if parameter.default is parameter.empty else repr(parameter.default)
    line = (
        f"The first argument of {cls.__name__} is {first}, and no width: widths are inferred, or given as in "
        f"{cls.__name__}({first}={default}, in_channels={args[0]})"
    )
    if first == "ratio":
        raise ValueError(f"{line}; to keep {args[0]} nodes of each graph write {cls.__name__}(ratio={args[0]})")
    return line


def _by_name(bound: inspect.BoundArguments) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments as keywords, all of them unless some can be given by position alone."""
    kinds = {name: bound.signature.parameters[name].kind for name in list(bound.arguments)[1:]}
    if any(kind not in (*_BY_NAME, inspect.Parameter.VAR_KEYWORD) for kind in kinds.values()):
        return bound.args[1:], dict(bound.kwargs)
    given: dict[str, Any] = {}
    for name, kind in kinds.items():
        given |= bound.arguments[name] if kind is inspect.Parameter.VAR_KEYWORD else {name: bound.arguments[name]}
    return (), given


def _same(value: Any, default: Any) -> bool:
    plain = isinstance(value, bool | int | float | str | tuple)
    return value is default or (plain and type(value) is type(default) and bool(value == default))


_short = reprlib.Repr()
_short.maxlist = _short.maxtuple = _short.maxdict = 12
_short.maxstring = _short.maxother = 80


def _shown(value: Any) -> str:
    """An argument in a few words."""
    if isinstance(value, Tensor):
        return f"Tensor {list(value.shape)}"
    if isinstance(value, functools.partial):
        value = value.func
    if inspect.isroutine(value) or isinstance(value, type):
        return value.__name__
    text = _short.repr(value)
    return type(value).__name__ if is_dataclass(value) or text.startswith("<") or "\n" in text else text


def _infer_alike(fresh: nn.Module, owner: nn.Module) -> None:
    """Tell the layers of `fresh` that wait for their width the one that the same layer of `owner` has inferred."""
    own = dict(owner.named_modules())
    for name, module in fresh.named_modules():
        layer: Any = module
        if isinstance(module, LazyModuleMixin) and layer.has_uninitialized_params() and name in own:
            weight = next(own[name].parameters(recurse=False), None)
            if weight is not None and not is_lazy(weight):
                layer._infer_parameters(layer, (torch.empty(0, weight.shape[-1]),))


def _shared(module: nn.Module, others: set[nn.Module]) -> Iterator[nn.Module]:
    """The modules below `module` that are among `others`, the topmost of each branch."""
    for child in module.children():
        if child in others:
            yield child
        else:
            yield from _shared(child, others)


def _redraw(module: nn.Module) -> None:
    """Reset a module of any library. Raises RuntimeError where it has weights and does not say how."""
    if callable(reset := getattr(module, "reset_parameters", None)):
        reset()
    elif next(module.parameters(recurse=False), None) is not None:
        raise RuntimeError(f"{type(module).__name__} has weights and no reset_parameters: give it one")
    else:
        for child in module.children():
            _redraw(child)
