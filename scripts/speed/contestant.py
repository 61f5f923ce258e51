"""What the contestants share: the loop over an epoch, its clock, and the answers that they must agree on."""

from __future__ import annotations

import ctypes
import gc
import resource
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from poolbench.nn.model import clusters
from speed import work
from speed.phases import Stopwatch, Timer, untimed
from speed.setting import Setting, weight_shapes, weights
from speed.work import Work

Answers = dict[str, Any]

#: Graphs on which outputs are compared, and how many of them also one at a time.
CHECKED, SINGLE = 16, 4


class Contestant(ABC):
    """One implementation of the classifier GCN - operator - GCN - sum - linear, and of its training.

    Constructed in a process of its own; `epoch`, `phases`, `answers` and `memory` are what the harness calls.
    """

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.work = work.load(setting.dataset, setting.graphs)
        self.k = setting.k or clusters(self.work.mean_nodes, [setting.ratio])
        shapes = weight_shapes(setting.pool, self.work.x.shape[1], setting.hidden, self.work.classes, self.k)
        start = weights(shapes, setting.seed)
        self.build(start)
        self._load_libraries()
        reset_peak(setting.device)
        self._start = peak_memory(setting.device)
        self.build(start)
        self.data = self.hold(self.work)
        reset_peak(setting.device)  # what the preparation of the data took is not training

    def _load_libraries(self) -> None:
        """Train a step on two graphs: what libraries load at their first use is no memory of the method."""
        self.data = self.hold(self.work.take(torch.arange(min(2, self.work.num_nodes.numel()))))
        self.run([torch.arange(self.work.num_nodes.numel())[:2]], untimed)
        del self.data

    @abstractmethod
    def build(self, start: dict[str, Tensor]) -> None:
        """Make the model and its optimiser, with these weights."""

    @abstractmethod
    def hold(self, graphs: Work) -> Any:
        """The graphs as this library holds a dataset, with what it computes once a dataset."""

    @abstractmethod
    def run(self, order: list[Tensor], stopwatch: Stopwatch) -> None:
        """Train on the batches of `order`."""

    @abstractmethod
    def answer(self, data: Any, graphs: Tensor) -> tuple[Tensor, Tensor, float]:
        """(y [b, classes], sum of the pooled features of each graph [b, hidden], sum of the auxiliary losses)."""

    def without_chance(self) -> AbstractContextManager[None]:
        """What the operator draws is the same for everybody inside this block; see `chance`. Here nothing is drawn."""
        return nullcontext()

    def synchronise(self) -> None:
        synchronise(self.setting.device)

    def order(self, epoch: int) -> list[Tensor]:
        s = self.setting
        return work.batches(self.work.num_nodes.numel(), s.batch_size, s.seed, epoch, s.steps)

    def epoch(self, number: int) -> dict[str, float]:
        """Train one epoch: wall and CPU seconds, and the number of steps."""
        order = self.order(number)
        gc.collect()
        self.synchronise()
        wall, cpu = time.perf_counter(), time.process_time()
        self.run(order, untimed)
        self.synchronise()
        return {"seconds": time.perf_counter() - wall, "cpu": time.process_time() - cpu, "steps": len(order)}

    def phases(self, number: int) -> dict[str, float]:
        """Seconds of an epoch by phase, measured with a stopwatch that itself takes time."""
        timer = Timer(self.synchronise)
        self.instrument(timer)
        try:
            self.run(self.order(number), timer)
        finally:
            timer.unwrap()
        return dict(timer.seconds)

    def instrument(self, timer: Timer) -> None:
        """Wrap what belongs to a phase of its own; here nothing does."""
        return

    def memory(self) -> int:
        """Bytes: the most that training held, less what the process held with the graphs loaded."""
        return max(0, peak_memory(self.setting.device) - self._start)

    def facts(self) -> dict[str, float]:
        return {**self.work.facts(), "k": self.k}

    def answers(self) -> Answers:
        """What must be the same for everybody with the starting weights; call it before any epoch."""
        chosen = self.order(0)[0][:CHECKED].sort().values
        graphs = self.work.take(chosen).jittered(self.setting.seed)
        with self.without_chance():
            data, count = self.hold(graphs), graphs.num_nodes.numel()
            y, pooled, loss = self.answer(data, torch.arange(count))
            single = [self.answer(data, torch.tensor([g]))[2] for g in range(min(SINGLE, count))]
        return {"y": y.tolist(), "pooled": pooled.tolist(), "losses": [loss], "losses of single graphs": single}


class Output(NamedTuple):
    """y [b, classes]; losses: the auxiliary ones; x: pooled features, [b, k, f], or [n, f] with `graph` [n]."""

    y: Tensor
    losses: list[Tensor]
    x: Tensor
    graph: Tensor | None = None


class TorchContestant(Contestant):
    """A contestant whose model is a torch module `self.model`: batch -> `Output`."""

    model: nn.Module

    def build(self, start: dict[str, Tensor]) -> None:
        self.model, named = self.make(self.work.x.shape[1], self.work.classes)
        self.model.to(self.setting.device)
        if set(named) != set(start):
            raise ValueError(f"weights differ: {sorted(set(named) ^ set(start))}")
        with torch.no_grad():
            for name, value in start.items():
                named[name].copy_(value.reshape(named[name].shape))
        self.optimiser = torch.optim.Adam(self.model.parameters(), lr=1e-3, fused=True)

    @abstractmethod
    def make(self, features: int, classes: int) -> tuple[nn.Module, dict[str, nn.Parameter]]:
        """The model, and its parameters under the names of `setting.weight_shapes`."""

    @abstractmethod
    def batches(self, data: Any, order: list[Tensor]) -> Iterable[Any]:
        """Cut the batches, and bring them to the device."""

    def labels(self, batch: Any) -> Tensor:
        return batch.y

    def run(self, order: list[Tensor], stopwatch: Stopwatch) -> None:
        batches = iter(self.batches(self.data, order))
        while True:
            with stopwatch("batching"):
                batch = next(batches, None)
            if batch is None:
                return
            with stopwatch("other forward"):
                out = self.model(batch)
            with stopwatch("losses"):
                loss = F.cross_entropy(out.y, self.labels(batch))
                for term in out.losses:
                    loss = loss + term
            with stopwatch("backward"):
                loss.backward()
            with stopwatch("optimiser"):
                self.optimiser.step()
                self.optimiser.zero_grad()

    @torch.no_grad()
    def answer(self, data: Any, graphs: Tensor) -> tuple[Tensor, Tensor, float]:
        (batch,) = self.batches(data, [graphs])
        out = self.model(batch)
        if out.graph is None:
            pooled = out.x.sum(1)
        else:
            pooled = out.x.new_zeros(graphs.numel(), out.x.shape[1]).index_add(0, out.graph, out.x)
        return out.y, pooled, float(sum(out.losses))


def synchronise(device: str) -> None:
    """Wait for the device."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def peak_memory(device: str) -> int:
    """Bytes: the most held since `reset_peak`; of the device where it is one, else of this process."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    if status.exists():  # this program's own peak; that of getrusage can be inherited from the parent
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def reset_peak(device: str) -> None:
    """Forget peaks so far, and give back what loading the data left behind; where the system cannot, peaks stay."""
    gc.collect()
    if device.startswith("cuda"):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    elif sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
        try:
            Path("/proc/self/clear_refs").write_text("5")
        except OSError:
            return
