"""Surroundings that every test shares: its own cache and results, no W&B, one thread."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """The order of sums must not depend on the machine."""
    torch.set_num_threads(1)


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A results folder of the test's own, and a cache that lasts for the whole test session's folder."""
    monkeypatch.setenv("POOLBENCH_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("POOLBENCH_DATA", str(tmp_path / "cache"))
    monkeypatch.delenv("POOLBENCH_MIRROR", raising=False)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    return tmp_path / "results"
