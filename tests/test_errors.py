from __future__ import annotations

from poolbench.errors import PoolBenchError, RunError, nearest


def test_exit_codes() -> None:
    assert PoolBenchError.exit_code == 2 and RunError.exit_code == 1 and issubclass(RunError, PoolBenchError)


def test_nearest() -> None:
    names = ["PROTEINS", "PROTEINS_full", "MUTAG", "DD"]
    assert nearest("proteins", names) == " (did you mean PROTEINS, PROTEINS_full?)"
    assert nearest("MUTG", names) == " (did you mean MUTAG?)"
    assert nearest("zzz", names) == "" and nearest("", names) == "" and nearest("a", []) == ""
