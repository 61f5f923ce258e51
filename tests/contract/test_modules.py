"""Operators are well-behaved torch modules: what `poolbench.contract.modules` does not hold each of them to."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from typing import Any

import pytest
import torch
from registry import REGISTRY
from torch import nn

from poolbench.contract.modules import state
from poolbench.pool import MinCutPool, SRCPool, TopKPool


def test_a_repr_in_the_style_of_torch() -> None:
    assert repr(TopKPool(0.4)).startswith("TopKPool(\n  ratio=0.4\n  (projection): Linear(")
    assert repr(TopKPool(0.4, True)).startswith("TopKPool(\n  ratio=0.4, return_selection=True\n")
    assert MinCutPool(3, [16], kernel_initializer=nn.init.ones_).extra_repr() == (
        "k=3, mlp_hidden=[16], kernel_initializer=ones_"
    )


class Stranger(SRCPool):
    """With a constructor of its own, which hands some arguments on."""

    def __init__(self, share: float, *names: str, score: nn.Module | None = None, **keywords: Any) -> None:
        super().__init__(return_selection=True, **keywords)
        self.share, self.names, self.score = share, names, score
        self.start = nn.Parameter(torch.rand(3))


class Plain(SRCPool):
    """Without one."""


def test_the_operators_of_strangers() -> None:
    assert repr(Plain()) == "Plain()"
    assert repr(Plain(True)) == repr(Plain(return_selection=True)) == "Plain(return_selection=True)"
    pool = Stranger(0.5, "a", "b", score=nn.Linear(2, 1))
    assert repr(pool).startswith("Stranger(\n  0.5, 'a', 'b'\n  (score): Linear(")
    assert repr(copy.deepcopy(pool)) == repr(pickle.loads(pickle.dumps(pool))) == repr(pool)
    assert Stranger(0.5).get_config() == {"share": 0.5}
    before, score = state(pool), pool.score.weight.clone()
    torch.manual_seed(3)
    pool.reset_parameters()
    torch.manual_seed(3)
    assert torch.equal(pool.start, torch.rand(3))
    assert not torch.equal(pool.score.weight, score)  # what was handed in is reset too
    assert state(pool).keys() == before.keys()
    pool.start = nn.Parameter(torch.zeros(5))
    with pytest.raises(RuntimeError, match="start"):
        pool.reset_parameters()


def test_the_package_can_be_listed_without_the_libraries_of_peers() -> None:
    code = (
        "import inspect, sys; sys.modules['tgp'] = None\n"
        "import poolbench.pool; from poolbench.pool import *\n"
        "print(*(name for name, _ in inspect.getmembers(poolbench.pool) if name in globals()))"
    )
    names = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {r.cls.__name__ for r in REGISTRY if r.cls.__module__.startswith("poolbench.pool.")} <= {*names}
