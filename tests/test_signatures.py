"""What annotations say of arguments: which values fit, and the line of one that does not."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from poolbench.signatures import misfit


class _Own(torch.Tensor):
    pass


def _said(annotation: Any, value: Any) -> str | None:
    parameter = inspect.Parameter("a", inspect.Parameter.KEYWORD_ONLY, annotation=annotation)
    return misfit({"a": parameter}, {"a": value})


@pytest.mark.parametrize(
    ("annotation", "values"),
    [
        (int, (3, -3, 3.0, np.int64(3), np.float32(3))),
        ("float", (3, 0.5, -math.inf, np.float32(0.5), np.int8(1))),
        ("bool", (True, np.True_)),
        ("str", ("a", "")),
        ("int | None", (None, 0)),
        ("float | torch.Tensor", (0.5, torch.tensor(0.5))),
        ("Sequence[int]", ([], [1], (1, 2), range(3), np.arange(3), torch.Size([2]), iter("a"))),
        ("Sequence[int] | int", (3, [3])),
        (Iterable[int], ([1],)),
        ("Mapping[str, float] | None", ({}, {"a": 1}, None)),
        ("tuple[float | torch.Tensor, float]", ((0.9, 0.99), [0.9, 1])),
        ("tuple[str, ...]", ((), ["a", "b", "c"])),
        ("tuple[int, int]", (torch.Size([1, 2]), np.array([1, 2]), OmegaConf.create([1, 2]))),
        ("Literal['rel', 'abs']", ("rel", np.str_("abs"))),
        ("Literal[1, 2]", (1, np.int64(2))),
        ("int", (10**400,)),
        ("torch.Tensor", (torch.ones(2), torch.nn.Parameter(torch.ones(2)), _Own([1.0]))),
        ("list[Tensor]", ([], [torch.ones(2)])),
        # nothing is known of these, or of a part of them
        ("str | Path", (Path("x"), 3)),
        ("Initializer | None", ("a", 3)),
        ("Mapping[str, Any]", ({"a": object()},)),
        ("Callable[[int], float]", (3, None)),
        ("no annotation at all", (3,)),
        (inspect.Parameter.empty, (3,)),
    ],
)
def test_what_fits(annotation: Any, values: Sequence[Any]) -> None:
    for value in values:
        assert _said(annotation, value) is None, value


@pytest.mark.parametrize(
    ("annotation", "value", "said"),
    [
        ("int", "a", "a='a': a whole number is expected"),
        ("int", 1.5, "a=1.5: a whole number is expected"),
        ("int", True, "a=True: a whole number is expected"),
        ("int", None, "a=None: a whole number is expected"),
        ("int", 1e30, "a=1e+30: a whole number is expected"),
        ("int", math.inf, "a=inf: a whole number is expected"),
        ("float", "0.5", "a='0.5': a number is expected"),
        ("float", math.nan, "a=nan: a number is expected"),
        ("float", [0.5], "a=[0.5]: a number is expected"),
        ("float | int", "a", "a='a': a number is expected"),
        ("int | Sequence[int]", [1, "a"], "a=[1, 'a']: a whole number or a list of whole numbers is expected"),
        ("bool", 1, "a=1: True or False is expected"),
        ("bool | None", "a", "a='a': True or False or None is expected"),
        ("str | Sequence[str]", 3, "a=3: a word or a list of words is expected"),
        ("Sequence[str]", "abc", "a='abc': a list of words is expected"),
        ("Sequence[int]", {"a": 1}, "a={'a': 1}: a list of whole numbers is expected"),
        ("Mapping[str, float]", {"a": "b"}, "a={'a': 'b'}: a mapping of names to numbers is expected"),
        ("Mapping[str, Any]", 3, "a=3: a mapping of names to values is expected"),
        ("tuple[float, float]", [0.9], "a=[0.9]: a list of 2 numbers is expected"),
        ("float | torch.Tensor", "a", "a='a': a number is expected"),
        (Literal["rel", "abs"], "x", "a='x': rel or abs is expected"),
        (float, "a", "a='a': a number is expected"),
        ("Initializer", None, "a=None: the name of an initialiser is expected"),
        ("torch.Tensor", np.ones(1), "a=array([1.]): a tensor is expected"),
        ("list[Tensor]", [0.5], "a=[0.5]: a list of tensors is expected"),
        ("Sequence[float]", np.array(3.0), "a=array(3.): a list of numbers is expected"),
        ("tuple[int, int]", "ab", "a='ab': a list of 2 whole numbers is expected"),
        (Mapping[str, int], [1], "a=[1]: a mapping of names to whole numbers is expected"),
    ],
)
def test_what_does_not(annotation: Any, value: Any, said: str) -> None:
    assert _said(annotation, value) == said


def test_a_default_fits_as_others_write_it() -> None:
    """`width: int = None` says that there may be none, and an entry `width: null` of a YAML gives it."""

    def init(width: int = None, bar: float = math.nan) -> None:  # type: ignore[assignment]  # noqa: RUF013
        pass

    parameters = dict(inspect.signature(init).parameters)
    assert misfit(parameters, {"width": None, "bar": parameters["bar"].default}) is None
    assert misfit(parameters, {"width": "a"}) == "width='a': a whole number is expected"


def test_an_argument_that_the_signature_has_not_is_none_of_this() -> None:
    assert misfit({}, {"a": 3}) is None
