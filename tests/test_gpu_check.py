"""scripts/gpu_check.py: its reduced form on the CPU, and that each of its checks can fail."""

import itertools
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

import gpu_check
from poolbench.pool.base.src import SRCPool
from poolbench.pool.mincut import MinCutPool
from poolbench.pool.topk import TopKPool

STEPS = ["--device", "cpu", "--only", "steps", "--pools"]


def test_three_operators_pass_on_the_cpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "found.json"
    assert gpu_check.main([*STEPS, "topk", "mincut", "globalavg", "random-dense", "--out", str(out)]) == 0
    facts = json.loads(out.read_text())["steps"]["facts"]
    assert facts["mincut"] == facts["globalavg"] == facts["random-dense"] == "never waits"
    assert facts["topk"].startswith("waits: ")  # how many nodes stay stands in the sizes of the graphs
    assert capsys.readouterr().out.splitlines()[1].startswith("ok     steps")


def test_numbers_that_are_not_the_cpus_fail(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = itertools.count()
    honest = gpu_check.Step.run

    def drifting(step: gpu_check.Step, autocast: bool = False) -> dict[str, Tensor]:
        drift = 0.01 * next(runs)
        return {name: value + drift for name, value in honest(step, autocast).items()}

    monkeypatch.setattr(gpu_check.Step, "run", drifting)
    assert gpu_check.main([*STEPS, "mincut"]) == 1
    said = capsys.readouterr().out
    assert "mincut: a second step gives other bits" in said and "differs from the CPU's by" in said


def test_a_step_that_waits_fails(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    honest = MinCutPool.assess

    def reading(self: MinCutPool, s: object, x: Tensor, a: object) -> None:
        assert x.sum().isfinite().item()
        honest(self, s, x, a)  # type: ignore[arg-type]

    monkeypatch.setattr(MinCutPool, "assess", reading)
    assert gpu_check.main([*STEPS, "mincut"]) == 1
    assert "mincut: a step waits for the device (_local_scalar_dense)" in capsys.readouterr().out


def test_an_operator_that_breaks_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(self: SRCPool, *args: object) -> None:
        raise RuntimeError("no kernel image is available\nsecond line")

    monkeypatch.setattr(TopKPool, "select", broken)
    assert gpu_check.main([*STEPS, "topk"]) == 1
    assert "failed: topk: no kernel image is available" in capsys.readouterr().out


def test_what_makes_a_gpu_wait_is_seen() -> None:
    v, mask = torch.arange(4.0), torch.tensor([True, False, True, False])
    for work in (lambda: v.sum().item(), lambda: v[mask], mask.nonzero, v.unique):
        with gpu_check.no_waiting("cpu") as names:
            work()
        assert names
    with gpu_check.no_waiting("cpu") as names:
        v[mask] = 0.0  # torch fills there
        v.cumsum(0).index_select(0, torch.tensor([1]))
    assert not names


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--device", "tpu"], "--device tpu: expected cuda"),
        (["--device", "cpu", "--pools", "tpk"], "did you mean topk?"),
        (["--device", "cpu", "--only", "step"], "did you mean steps?"),
    ],
)
def test_bad_options_are_one_line(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu_check.main(words) == 2
    err = capsys.readouterr().err
    assert said in err and len(err.splitlines()) == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="is about machines without a GPU")
def test_without_a_gpu_it_says_what_can_be_done(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu_check.main([]) == 2
    assert "--device cpu" in capsys.readouterr().err


@pytest.mark.slow
def test_all_of_it_passes_on_the_cpu(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu_check.main(["--device", "cpu"]) == 0, capsys.readouterr().out
