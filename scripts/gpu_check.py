#!/usr/bin/env python3
"""Does PoolBench do on this GPU what it does on the CPU, and at what speed? At most ten minutes on one card.

    python scripts/gpu_check.py                            # every check, every operator, on the GPU
    python scripts/gpu_check.py --device cpu               # the same on the CPU, less what only a GPU can show
    python scripts/gpu_check.py --only steps --pools topk mincut
    docker run --rm --gpus all poolbench python /opt/poolbench/scripts/gpu_check.py     # the image's CUDA path

A line a check; exit code 1 where one failed. --out FILE keeps all that was found as JSON.
"""

from __future__ import annotations

import argparse
import copy
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from poolbench.cli.door import composed, resolve
from poolbench.cli.folders import files
from poolbench.cli.names import PEERS
from poolbench.data.store import Batch
from poolbench.errors import PoolBenchError, nearest
from poolbench.learn.build import Parts
from poolbench.learn.datamodule import GraphData
from poolbench.learn.learner import Learner
from poolbench.learn.trainable import Trainable, packed_store
from poolbench.pool.base.src import GlobalPool, Operator
from speed.harness import compare
from speed.peers import installed
from speed.setting import Setting

ROOT = Path(__file__).resolve().parents[1]
WORDS = ["dataset=planted", "dataset.num_graphs=64", "model.hidden=32", "model.mp=gin", "logger=none", "batch_size=32"]
#: What the same step on the two devices may differ by, in float32, by the largest entry.
LOSS, GRADIENT = 1e-4, 2e-3
#: What a loss in bfloat16 may differ by.
HALF = 0.1
TIMED = ("topk", "mincut", "diffpool")
#: What makes a GPU wait, as torch names it: a number read back, or a tensor whose size stands in another one.
READ = ("_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "equal", "is_nonzero")

#: What is read back on the CPU alone, and in place of what.
ON_THE_CPU = {"asymcheegercut": "a filter of entries, where a GPU sorts all of them"}


@dataclass
class Found:
    """What a check came to. failed: each with what is wrong; notes: what is known and no fault; facts: numbers."""

    failed: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)


# ------------------------------------------------------------------------------------------------------------- a step


@dataclass
class Step:
    """One training step of a small classifier with an operator, as the trainer does it, on a device."""

    module: Learner
    batches: list[Batch]
    #: Whether it draws in a step.
    stochastic: bool
    #: Whether the number of pooled nodes hangs on the data, so that it must be read back.
    reads: bool

    @classmethod
    def of(cls, pool: str, device: str) -> Step:
        """With the weights that the CPU draws from the seed. Raises `PoolBenchError` for what cannot be built."""
        config = resolve(composed([*WORDS, f"pool={pool}", *_model(pool)]))
        parts = Parts.of(config)
        prepared = parts.prepared(None)
        made = Trainable.of(config, prepared)
        assert made.learner is not None
        module = made.learner(made.model, made.optimizer, config.loss_weights, prepared.target)
        data = GraphData(
            lambda at: packed_store(config, prepared, made.model, at), prepared.split, config.batch_size, 0
        )
        data._store = data._make_store(torch.device(device))
        operators = [m for m in made.model.modules() if isinstance(m, Operator)]
        sized = [m for m in operators if not isinstance(m, GlobalPool)]
        batches = list(data.loader("train"))[:2]
        draws, reads = any(m.stochastic for m in operators), any(m.size_depends_on_data for m in sized)
        return cls(module.to(device), batches, draws, reads)

    def run(self, autocast: bool = False) -> dict[str, Tensor]:
        """The loss and the gradients by name, from the same weights each time."""
        module, batch = copy.deepcopy(self.module), self.batches[0]
        torch.manual_seed(0)
        module.train()
        kind = batch.x.device.type
        with torch.autocast(kind, torch.bfloat16) if autocast else nullcontext():
            out = module(batch)
            loss, _ = module.task_loss(out, batch)
            total = loss + sum(out.losses.values())
        total.backward()
        found = {"loss": total.detach().float().cpu()}
        return found | {n: p.grad.detach().cpu() for n, p in module.named_parameters() if p.grad is not None}


def _model(pool: str) -> list[str]:
    text = files("pool")[pool].read_text(encoding="utf-8")
    return ["model=global"] if ".readouts." in text else []


def difference(one: Tensor, other: Tensor) -> float:
    """The largest, by the largest entry of the first, or of 1."""
    if one.shape != other.shape:
        return float("inf")
    gap = (one.double() - other.double()).abs()
    return float(gap.max() / one.double().abs().max().clamp(min=1.0)) if gap.numel() else 0.0


class Reading(TorchDispatchMode):
    """Names of the operations inside the block that would make a GPU wait."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        masked = name in ("index", "index_put_") and any(
            v.dtype == torch.bool for v in args[1] if isinstance(v, Tensor)
        )
        if name == "index_put_" and args[2].numel() == 1:  # torch fills in place of it
            masked = False
        if name in READ or masked:
            self.names.append(name)
        return func(*args, **(kwargs or {}))


@contextmanager
def no_waiting(device: str) -> Iterator[list[str]]:
    """What inside the block makes the device wait: on CUDA an error of torch's, elsewhere names in the list."""
    if not device.startswith("cuda"):
        with Reading() as reading:
            yield reading.names
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield []
    finally:
        torch.cuda.set_sync_debug_mode("default")


# ------------------------------------------------------------------------------------------------------------- checks


def steps(options: argparse.Namespace) -> Found:
    """A training step of every operator: the CPU's numbers, the same bits twice, bfloat16, and no waiting."""
    found, device = Found(), options.device
    worst = 0.0
    for pool in options.pools:
        try:
            here, there = Step.of(pool, "cpu"), Step.of(pool, device)
            want, got, again = here.run(), there.run(), there.run()
            if any(not torch.equal(v, again[n]) for n, v in got.items()):
                found.failed.append(f"{pool}: a second step gives other bits")
            if there.stochastic and device != "cpu":
                found.notes.append(f"{pool}: draws on the device, not compared with the CPU")
            else:
                gaps = {n: difference(v, got[n]) for n, v in want.items()}
                wrong = {n: g for n, g in gaps.items() if not g <= (LOSS if n == "loss" else GRADIENT)}
                worst = max(worst, *gaps.values())
                if wrong or set(want) != set(got):
                    name = max(wrong, key=lambda n: wrong[n], default="")
                    found.failed.append(f"{pool}: {name} differs from the CPU's by {wrong.get(name, 1.0):.1e}")
            half = there.run(autocast=True)
            if not all(v.isfinite().all() for v in half.values()):
                found.failed.append(f"{pool}: bfloat16 gives numbers that are not finite")
            elif not there.stochastic and not difference(got["loss"], half["loss"]) <= HALF:
                found.notes.append(f"{pool}: the loss in bfloat16 is {half['loss']:.3g}, in float32 {got['loss']:.3g}")
            found.facts[pool] = _waits(there, device, found, pool)
        except PoolBenchError as error:
            found.failed.append(f"{pool}: {error}")
        except RuntimeError as error:
            found.failed.append(f"{pool}: {str(error).strip().splitlines()[0]}")
    found.facts["largest difference"] = worst
    return found


def _waits(step: Step, device: str, found: Found, pool: str) -> str:
    """Whether a training step waits for the device; it must not where sizes are known."""
    module, batch = step.module, step.batches[1]
    module.train()

    def work() -> None:
        out = module(batch)
        (module.task_loss(out, batch)[0] + sum(out.losses.values())).backward()

    torch.manual_seed(0)
    module(step.batches[0])  # what is made at the first call
    reason, names = "", []
    try:
        with no_waiting(device) as names:
            work()
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0]
    reason = reason or ", ".join(sorted(set(names)))
    if reason and device == "cpu" and pool in ON_THE_CPU:
        found.notes.append(f"{pool}: reads back on the CPU alone: {ON_THE_CPU[pool]}")
    elif reason and not step.reads:
        found.failed.append(f"{pool}: a step waits for the device ({reason})")
    return f"waits: {reason}" if reason else "never waits"


def epochs(options: argparse.Namespace) -> Found:
    """Epochs of three operators beside PyG's, in turn, and their memory."""
    found, small = Found(), options.device == "cpu"
    data = "random:nodes=100,graphs=64" if small else "random:nodes=100,graphs=2048"
    for pool in TIMED:
        setting = Setting("poolbench", pool, data, batch_size=32 if small else 256, device=options.device,
                          steps=2 if small else None)  # fmt: skip
        rows, _ = compare(setting, [name for name in installed() if name == "pyg"], 2 if small else 5, 1, limit=120.0)
        for row in rows:
            where = f"{pool}, {row.name}"
            if row.failure:
                found.failed.append(f"{where}: {row.failure}")
                continue
            found.facts[where] = {"seconds": median(row.seconds), "MiB": (row.memory or 0) / 2**20}
            if row.ratios:
                found.facts[where]["times PoolBench's"] = median(row.ratios)
    return found


def trainer(options: argparse.Namespace) -> Found:
    """`train.py` from nothing to a record on this device."""
    found = Found()
    kind = "cpu" if options.device == "cpu" else "gpu"
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(ROOT / "train.py"), "dataset=planted", "dataset.num_graphs=64", "pool=mincut",
                   f"trainer={kind}", "trainer.max_epochs=2", "logger=none", "callbacks.progress=none",
                   f"paths.results={folder}"]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        records = list(Path(folder).glob("runs/*/*/record.json"))
        if done.returncode or len(records) != 1:
            last = (done.stderr.strip().splitlines() or ["no word"])[-1]
            found.failed.append(f"train.py trainer={kind} ended with {done.returncode}: {last}")
        else:
            record = json.loads(records[0].read_text(encoding="utf-8"))
            found.facts["status"] = record["status"]
            found.facts["seconds an epoch"] = record["time"]["epoch"]
            if record["status"] != "done":
                found.failed.append(f"the record says {record['status']}")
    return found


def tests(options: argparse.Namespace) -> Found:
    """The tests that need a GPU."""
    found = Found()
    if options.device == "cpu" or not (ROOT / "tests").is_dir():
        found.notes.append("left out: they need a GPU and a checkout")
        return found
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", str(ROOT / "tests")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, cwd=ROOT)
    last = (done.stdout.strip().splitlines() or ["no word"])[-1]
    found.facts["pytest"] = last
    if done.returncode:
        found.failed.append(last)
    return found


CHECKS: dict[str, Callable[[argparse.Namespace], Found]] = {
    "steps": steps,
    "trainer": trainer,
    "tests": tests,
    "epochs": epochs,
}


# --------------------------------------------------------------------------------------------------------------- main


def machine(device: str) -> dict[str, Any]:
    """What is checked, on what."""
    facts: dict[str, Any] = {"device": device, "torch": torch.__version__, "cuda": torch.version.cuda}
    if device.startswith("cuda"):
        card = torch.cuda.get_device_properties(device)
        facts |= {"card": card.name, "capability": f"{card.major}.{card.minor}", "GiB": card.total_memory / 2**30}
    return facts


def parser() -> argparse.ArgumentParser:
    """The options, each with what it does."""
    made = argparse.ArgumentParser(prog="gpu_check", description=(__doc__ or "").splitlines()[0])
    made.add_argument("--device", default="cuda", help="cuda, cuda:1, or cpu (default: cuda)")
    made.add_argument("--pools", nargs="+", metavar="POOL", help="operators of steps (default: all)")
    made.add_argument("--only", nargs="+", metavar="CHECK", help=f"some of {' '.join(CHECKS)}")
    made.add_argument("--out", type=Path, metavar="FILE", help="write what was found as JSON")
    return made


def settle(options: argparse.Namespace) -> None:
    """Refuse what cannot be, and fill in what is left out. Raises `PoolBenchError`."""
    if options.device != "cpu":
        if not options.device.startswith("cuda"):
            raise PoolBenchError(f"--device {options.device}: expected cuda, cuda:N or cpu")
        if not torch.cuda.is_available():
            raise PoolBenchError("torch sees no CUDA device here; --device cpu does what can be done without one")
        number = options.device.partition(":")[2] or "0"
        if not number.isdecimal() or int(number) >= torch.cuda.device_count():
            raise PoolBenchError(f"--device {options.device}: there are {torch.cuda.device_count()} CUDA devices")
    known = [name for name in files("pool") if not name.startswith(PEERS)]
    for given, names, what in ((options.pools, known, "--pools"), (options.only, CHECKS, "--only")):
        for name in given or ():
            if name not in names:
                raise PoolBenchError(f"{what} {name}: unknown{nearest(name, names)}; there are {', '.join(names)}")
    options.pools, options.only = options.pools or known, options.only or list(CHECKS)


def main(argv: Sequence[str] | None = None) -> int:
    """Check, and print a line each; returns the exit code."""
    try:
        options = parser().parse_args(argv)
        settle(options)
    except SystemExit as end:  # --help, or a wrong option: argparse has said why
        return int(end.code or 0)
    except PoolBenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.set_num_threads(1)
    kept: dict[str, Any] = {"machine": machine(options.device)}
    print(", ".join(f"{name} {value}" for name, value in kept["machine"].items() if value is not None))
    good = True
    for name in options.only:
        start = time.perf_counter()
        found = CHECKS[name](options)
        seconds = time.perf_counter() - start
        good &= not found.failed
        print(f"{'ok' if not found.failed else 'FAILED':7}{name} ({seconds:.0f} s)")
        for line in (*(f"  failed: {line}" for line in found.failed), *(f"  note: {line}" for line in found.notes)):
            print(line)
        for key, value in found.facts.items():
            print(f"  {key}: {_short(value)}")
        kept[name] = {**vars(found), "seconds": seconds}
    if options.out is not None:
        options.out.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    return 0 if good else 1


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{_short(v)} {k}" for k, v in value.items())
    return f"{value:.3g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(main())
