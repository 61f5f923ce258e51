from __future__ import annotations

import pytest

from poolbench.errors import PoolBenchError, RunError, nearest, whole


def test_exit_codes() -> None:
    assert PoolBenchError.exit_code == 2 and RunError.exit_code == 1 and issubclass(RunError, PoolBenchError)


def test_nearest() -> None:
    names = ["PROTEINS", "PROTEINS_full", "MUTAG", "DD"]
    assert nearest("proteins", names) == " (did you mean PROTEINS, PROTEINS_full?)"
    assert nearest("MUTG", names) == " (did you mean MUTAG?)"
    assert nearest("zzz", names) == "" and nearest("", names) == "" and nearest("a", []) == ""


def test_whole_numbers() -> None:
    assert whole("k", 2.0) == 2 and type(whole("k", 2.0)) is int and whole("k", 0, 0) == 0
    for value in (0, -1, 1.5, True, None, "3", float("inf"), float("nan")):
        with pytest.raises(ValueError, match=f"k={value!r}: a whole number of at least 1 is expected"):
            whole("k", value)
