"""Libraries are loaded without the collector of garbage, which is at work again afterwards."""

from __future__ import annotations

import gc
import sys
from types import ModuleType

import pytest

from poolbench.loading import MANY, loading


def test_the_collector_rests_and_works_again() -> None:
    with loading():
        assert not gc.isenabled()
        with loading():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()


def test_the_collector_works_again_after_an_import_that_fails() -> None:
    with pytest.raises(ModuleNotFoundError), loading():
        raise ModuleNotFoundError("no such library")
    assert gc.isenabled()


def test_who_had_switched_the_collector_off_finds_it_off() -> None:
    gc.disable()
    try:
        with loading():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_a_large_library_is_not_looked_at_again_and_a_small_one_is(monkeypatch: pytest.MonkeyPatch) -> None:
    gc.unfreeze()
    try:
        with loading():
            monkeypatch.setitem(sys.modules, "a_module", ModuleType("a_module"))
        assert not gc.get_freeze_count()
        with loading():
            for i in range(MANY + 1):
                monkeypatch.setitem(sys.modules, f"module_{i}", ModuleType(f"module_{i}"))
        assert gc.get_freeze_count()
    finally:
        gc.unfreeze()
