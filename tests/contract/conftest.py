"""The registry under one contract: a test that asks for `pool`, `readout` or `operator` runs once for each YAML file of
conf/pool that holds one, so that an operator added later is tested with no test edited."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
pytest.register_assert_rewrite("poolbench.contract")  # so that a failed check says what was compared


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    from registry import REGISTRY

    chosen = {
        "operator": REGISTRY,
        "pool": [r for r in REGISTRY if not r.is_readout],
        "readout": [r for r in REGISTRY if r.is_readout],
    }
    for name, entries in chosen.items():
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, entries, ids=lambda r: r.name)
