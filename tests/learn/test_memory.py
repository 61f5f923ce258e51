"""Peak memory is the run's own: to the byte the same whatever its process did before, and counted, not guessed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from poolbench.cli import main
from poolbench.learn import memory
from poolbench.learn.memory import bytes_of, most_allocated
from poolbench.linalg import Ragged
from poolbench.records.attempts import iter_records

RUN = ["dataset=planted", "logger=none", "callbacks.progress=none", "trainer.max_epochs=1"]
SMALL, MIDDLE = ("dataset.num_graphs=30", "pool=topk"), ("dataset.num_graphs=60", "pool=graclus")
LARGE = ("dataset.num_graphs=200", "model.hidden=128")


def peaks(results: Path, *runs: tuple[str, ...]) -> list[int]:
    """The peak memory of some runs, one after the other in this process."""
    measured = []
    for words in runs:
        assert main(["train", *RUN, *words, "force=true"]) == 0
        latest = max(iter_records(results), key=lambda found: found[0].stat().st_mtime_ns)[1]
        assert latest.diagnostics["memory"] == memory.TENSORS
        measured.append(latest.memory_peak)
    return measured


@pytest.mark.slow
def test_the_order_of_runs_in_a_process_has_no_effect(results: Path) -> None:
    (alone,) = peaks(results, MIDDLE)
    large, after_large = peaks(results, LARGE, MIDDLE)
    small, after_small = peaks(results, SMALL, MIDDLE)
    assert after_large == alone == after_small
    assert small < alone < large


def test_what_is_alive_at_the_peak_is_counted() -> None:
    def work() -> torch.Tensor:
        a = torch.zeros(1000)  # 4000 bytes
        b = torch.zeros(500)  # 2000
        a += b.sum()
        del b
        return a + torch.zeros(250)[0]  # 4000 + 4000 and 1000 for a moment

    assert most_allocated(work) == 9000
    assert most_allocated(work) == 9000
    assert most_allocated(lambda: None) == 0


def test_gradients_count_with_what_they_are_made_of() -> None:
    weight = torch.ones(1000, requires_grad=True)

    def work() -> None:
        weight.grad = None
        (weight * weight).sum().backward()

    assert most_allocated(work) >= 2 * 4000  # the square and its gradient, at the least
    assert weight.grad is not None


def test_a_tensor_that_several_hold_counts_once() -> None:
    x = torch.zeros(100)
    nodes = Ragged(torch.tensor([0, 2, 5]), [2, 3])
    assert bytes_of(x, [x, x.view(10, 10)], {"x": x}) == 400
    assert bytes_of(nodes) >= 3 * 8
    assert bytes_of([2, 3], "x", None) == 0


def test_a_measure_that_fails_is_none_of_the_run(
    results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*args: Any) -> int:
        raise RuntimeError("no profiler here")

    monkeypatch.setattr(memory, "most_allocated", fail)
    assert main(["train", *RUN, *SMALL]) == 0
    ((_, record),) = iter_records(results)
    assert record.done
    assert record.memory_peak is None
    assert "peak memory is not known: RuntimeError: no profiler here" in capsys.readouterr().out
