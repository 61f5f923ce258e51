"""The tally: means over graphs, whatever the sizes of the batches."""

from __future__ import annotations

import math

import pytest
import torch

from poolbench.data.store import Batch, GraphStore
from poolbench.data.target import Target
from poolbench.learn.tally import Tally
from poolbench.nn.model import ModelOutput

Y = torch.tensor([0, 1, 1, 0, 1, 0, 0])
LOGITS = torch.randn(7, 2, generator=torch.Generator().manual_seed(0))
LOSS = torch.nn.functional.cross_entropy(LOGITS, Y, reduction="none")
CUT = torch.arange(7.0).square()


def batch(y: torch.Tensor) -> Batch:
    b = len(y)
    store = GraphStore(torch.zeros(b, 1), torch.ones(b, dtype=torch.int64), torch.zeros(2, 0, dtype=torch.int64), y)
    return store.batch(torch.arange(b))


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("training", [True, False])
def test_means_are_over_graphs(size: int, training: bool) -> None:
    tally = Tally(Target("classes", Y, 2, "accuracy"))
    for graphs in torch.arange(7).split(size):
        out = ModelOutput(LOGITS[graphs], {"cut_1": CUT[graphs].mean()}, [])
        task = LOSS[graphs].mean()
        tally.add(out, batch(Y[graphs]), task, len(graphs), task + 2 * CUT[graphs].mean() if training else None)
    found = tally.means()
    wanted = {"loss": LOSS.mean(), "accuracy": (LOGITS.argmax(1) == Y).float().mean(), "loss_cut_1": CUT.mean()}
    if training:
        wanted["total_loss"] = (LOSS + 2 * CUT).mean()
    assert found == {name: pytest.approx(float(value), rel=1e-6) for name, value in wanted.items()}
    assert tally.means() == {}, "what was read is forgotten"


def test_a_batch_weighs_as_much_as_it_has_answers() -> None:
    y = torch.tensor([[1.0], [math.nan], [math.nan], [0.0], [1.0]])
    tally = Tally(Target("numbers", y, 1, "mae", "min", "l1"))
    for first, last, loss, answers in ((0, 3, 4.0, 1), (3, 5, 1.0, 2)):
        tally.add(ModelOutput(torch.zeros(last - first, 1), {}, []), batch(y[first:last]), torch.tensor(loss), answers)
    found = tally.means()
    assert found["loss"] == pytest.approx((4.0 * 1 + 1.0 * 2) / 3)
    assert found["mae"] == pytest.approx(2 / 3)


def test_a_batch_without_any_answer_adds_nothing() -> None:
    y = torch.tensor([[math.nan], [2.0]])
    tally = Tally(Target("numbers", y, 1, "mae", "min", "l1"))
    tally.add(ModelOutput(torch.zeros(1, 1), {}, []), batch(y[:1]), torch.tensor(0.0), 0)
    tally.add(ModelOutput(torch.zeros(1, 1), {}, []), batch(y[1:]), torch.tensor(2.0), 1)
    assert tally.means() == {"loss": 2.0, "mae": 2.0, "rmse": 2.0}


def test_shares_of_several_processes_are_added_up() -> None:
    tally = Tally(Target("classes", Y, 2, "accuracy"))
    tally.add(ModelOutput(LOGITS, {}, []), batch(Y), LOSS.mean(), 7, LOSS.mean())
    seen: list[int] = []

    def twice(values: torch.Tensor) -> torch.Tensor:
        seen.append(values.numel())
        return 2 * values

    found = tally.means(twice)
    assert seen == [5]  # task loss, total loss, answers, hits, graphs
    assert found["loss"] == pytest.approx(float(LOSS.mean()), rel=1e-6)


def test_an_evaluator_sees_what_the_target_says_it_does() -> None:
    references = torch.arange(7) * 10
    target = Target("classes", Y, 2, "pairs", evaluate=lambda y, said: {"pairs": float((y * said).sum())},
                    references=references, choose=lambda out: out.argmax(-1))  # fmt: skip
    tally = Tally(target)
    tally.add(ModelOutput(LOGITS, {}, []), batch(Y), LOSS.mean(), 7)
    assert tally.means()["pairs"] == float((references * LOGITS.argmax(1)).sum())
