"""The memory of a run: what its training step needs, whatever the process did before.

A process's resident memory tells of libraries, of the allocator's habits and of earlier runs in the same process. So on
the CPU tensors are counted: those that live through the training (packed store, model, the optimiser's state), and the
most that the allocator gives out in one step, from cutting the largest batch of the first epoch to the optimiser's
update, gradients and temporary tensors of single operations included. One more step is done for that at the very end,
when all numbers of the run are known. On CUDA the allocator keeps the same books by itself, over the whole training.
"""

from __future__ import annotations

import gc
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from torch.autograd.profiler import profile

from poolbench.learn.datamodule import GraphData
from poolbench.learn.learner import Learner
from poolbench.learn.tally import Tally

log = logging.getLogger(__name__)

#: The measures, as records name them in `diagnostics.memory`. Records without a name have that of the process.
TENSORS, ALLOCATOR = "tensors", "allocator"


def forget(device: torch.device) -> None:
    """Count the peak of a GPU from here on."""
    if device.type == "cuda":
        gc.collect()  # trainers of earlier runs, with all that they hold, stand in circles
        torch.cuda.reset_peak_memory_stats(device)


def of_device(device: torch.device) -> int | None:
    """Bytes: the most that CUDA's allocator held since `forget`; None where there is no such book-keeping."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None


def of_step(module: Learner, data: GraphData, seed: int) -> int | None:
    """Bytes of the tensors that are alive at the peak of a training step on the CPU; None where it cannot be counted.

    Trains `module` by that step: to be called when nobody needs its weights any more.

    Args:
        seed: of the step's draws; the global generator is left as it was.
    """
    optimizer = module.optimizer
    loader = data.loader("train", shuffle=True)
    sizes = data.store.host_sizes + data.store.host_entries
    largest = max(loader.order().split(loader.batch_size), key=lambda graphs: int(sizes[graphs].sum()))
    precision = data.trainer.precision_plugin  # type: ignore[union-attr]
    module.train()
    module.tally = Tally(module.target)

    def loss() -> Tensor | None:
        with precision.train_step_context():
            total = module.training_step(loader.batch(largest), 0)
        if total is not None:
            total.backward()
        return total

    optimizer.zero_grad(set_to_none=True)
    try:
        with torch.random.fork_rng(devices=()), _without_collector():
            torch.manual_seed(seed)
            held = bytes_of(data.store, list(module.parameters()), list(module.buffers()), optimizer.state)
            return held + most_allocated(lambda: optimizer.step(loss))  # type: ignore[arg-type]
    except Exception as error:  # it is none of the run's
        log.warning("peak memory is not known: %s: %s", type(error).__name__, error)
        return None


def most_allocated(work: Callable[[], Any]) -> int:
    """Bytes that the CPU's allocator gave out and did not get back yet, at the most, while `work()` ran."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # or torch's profiler writes lines of its own to the terminal
    with profile(profile_memory=True) as found:
        work()
    assert found.kineto_results is not None
    events = [(e.start_ns(), e.nbytes()) for e in found.kineto_results.events() if e.name() == "[memory]"]
    events.sort(key=lambda event: event[0])
    return max(accumulate((size for _, size in events), initial=0))


def bytes_of(*held: Any) -> int:
    """Bytes of the tensors in some objects of PoolBench, lists and mappings, all the way down, each counted once."""
    sizes: dict[tuple[int, int], int] = {}
    seen: set[int] = set()
    todo = [*held]
    while todo:
        value = todo.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Tensor):
            size = min(value.nbytes, value.untyped_storage().nbytes())
            sizes[value.data_ptr(), size] = size
        elif isinstance(value, Mapping):
            todo += value.values()
        elif isinstance(value, list | tuple):
            todo += value if not value or not isinstance(value[0], int) else ()  # sizes of graphs, a long list
        elif type(value).__module__.partition(".")[0] == __name__.partition(".")[0]:
            todo += vars(value).values()
    return sum(sizes.values())


@contextmanager
def _without_collector() -> Iterator[None]:
    """What stands in circles stays, of this step and of what was before: else a peak depends on when it goes."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
