"""The command line of `python scripts/benchmark.py`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from poolbench.errors import PoolBenchError, nearest
from speed import coarsening, large, roofline, scaling, tables, trainer
from speed.harness import compare
from speed.peers import PEERS, installed
from speed.report import Report, base_setting, memory_limit
from speed.setting import POOLS

REAL = ["MUTAG", "PROTEINS", "NCI1", "DD", "COLLAB"]
GENERATED = ["random:nodes=100", "random:nodes=1000,graphs=128", "random:nodes=100,largest=5000"]
QUICK = ["MUTAG", "random:nodes=100,graphs=64"]


def parser() -> argparse.ArgumentParser:
    """The options, each with what it does."""
    made = argparse.ArgumentParser(
        prog="benchmark",
        description="Train the classifier GCN - operator - GCN - sum - linear with PoolBench and with every installed "
        "peer, epoch about in one run, each in a process of its own; the answers are compared before any time counts.",
    )
    kind = made.add_mutually_exclusive_group()
    kind.add_argument("--scaling", action="store_true", help="cost against nodes, edges, K, batch size, largest graph")
    kind.add_argument("--roofline", action="store_true", help="each operator beside what its products must cost here")
    kind.add_argument("--trainer", action="store_true", help="what the Trainer costs beyond the bare loop")
    kind.add_argument("--large", action="store_true", help="MinCut clustering of one graph of a million nodes")
    kind.add_argument("--coarsening", action="store_true", help="what is computed once a dataset, before training")
    made.add_argument("--pools", nargs="+", metavar="POOL", help=f"operators (default: all): {' '.join(POOLS)}")
    default = " ".join(REAL + GENERATED)
    made.add_argument("--datasets", nargs="+", metavar="NAME", help=f"TU names, planted, random: (default: {default})")
    made.add_argument("--peers", nargs="*", metavar="PEER",
                      help=f"some of {' '.join(PEERS)} (default: those installed)")  # fmt: skip
    made.add_argument("--batch-size", nargs="+", type=_positive, default=[32], metavar="N", help="graphs in a batch")
    made.add_argument("--epochs", type=_positive, help="epochs, or turns, that count (default 5; --quick 2; "
                      "--coarsening 1)")  # fmt: skip
    made.add_argument("--warmup", type=_positive, help="epochs before them (default 2; --quick 1)")
    made.add_argument("--steps", type=_positive, metavar="N", help="batches of an epoch (default: all; --quick 4)")
    made.add_argument("--graphs", type=_positive, metavar="N", help="graphs of a dataset, evenly spread over it "
                      f"(default: all; --coarsening --quick {coarsening.FEW})")  # fmt: skip
    made.add_argument("--hidden", type=_positive, default=64, help="width of the layers")
    made.add_argument("--ratio", type=float, default=0.5, help="nodes to keep; clusters by the mean graph")
    made.add_argument("--threads", type=_positive, default=1, help="threads of torch in each process")
    made.add_argument("--device", default="cpu", help="cpu, or cuda")
    made.add_argument("--memory", type=float, metavar="GB", help="the most that a contestant may hold (default: three "
                      "quarters of the machine)")  # fmt: skip
    made.add_argument("--limit", type=float, default=600.0, metavar="S", help="the longest that one epoch may take")
    made.add_argument("--quick", action="store_true", help="small data and few epochs: does everything run?")
    made.add_argument("--out", type=Path, default=Path("benchmark"), metavar="FOLDER", help="where results are written")
    made.add_argument("--write", type=Path, metavar="PAGE", help="also fill the section of this measurement in a page")
    return made


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text}: at least 1 is expected")
    return value


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line asks for; returns the exit code."""
    try:
        options = parser().parse_args(argv)
    except SystemExit as end:  # --help, or a wrong option: argparse has said why
        return int(end.code or 0)
    try:
        run(options)
    except PoolBenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("error: interrupted; what was measured is in --out", file=sys.stderr)
        return 130
    return 0


def run(options: argparse.Namespace) -> None:
    """Measure and write. Raises `PoolBenchError` for impossible options."""
    settle(options)
    name, measure = _kind(options)
    report = Report(options, name)
    report.show(tables.machine(report.facts))
    measure(options, report)
    if options.write is not None:
        tables.write_section(options.write, report.name, report.text)
        print(f"written into {options.write}")


def settle(options: argparse.Namespace) -> None:
    """Fill in what depends on other options, and refuse what cannot be."""
    quick = options.quick
    options.epochs = options.epochs or (1 if options.coarsening else 2 if quick else 5)
    options.warmup = options.warmup or (1 if quick else 2)
    options.steps = options.steps or (4 if quick else None)
    options.graphs = options.graphs or (coarsening.FEW if quick and options.coarsening else None)
    options.datasets = options.datasets or (QUICK if quick else default_datasets(options))
    options.pools = options.pools or default_pools(options)
    options.peers = installed() if options.peers is None else options.peers
    for given, known, what in ((options.pools, POOLS, "--pools"), (options.peers, PEERS, "--peers")):
        for name in given:
            if name not in known:
                raise PoolBenchError(f"{what} {name}: unknown{nearest(name, known)}; there are {', '.join(known)}")
    for peer in options.peers:
        if peer not in installed():
            raise PoolBenchError(
                f"--peers {peer}: the package {PEERS[peer][0]} is not installed; see docs/benchmarks.md"
            )
    if not 0.0 < options.ratio <= 1.0:
        raise PoolBenchError(f"--ratio {options.ratio}: a share of the nodes in (0, 1] is expected")
    if options.device.startswith("cuda"):
        if not torch.cuda.is_available():
            raise PoolBenchError(f"--device {options.device}: torch sees no CUDA device here; use --device cpu")
    elif options.device != "cpu":
        raise PoolBenchError(f"--device {options.device}: expected cpu or cuda")


def default_datasets(options: argparse.Namespace) -> list[str]:
    """All, or those whose coarsening takes long."""
    return coarsening.DATASETS if options.coarsening else REAL + GENERATED


def default_pools(options: argparse.Namespace) -> list[str]:
    """All that the kind of measurement knows, or two."""
    if options.coarsening:
        return list(coarsening.FORMS)
    if options.quick or options.scaling:
        return ["mincut", "topk"]
    if options.roofline:
        return list(roofline.POOLS)
    return ["mincut"] if options.trainer else list(POOLS)


Measure = Callable[[argparse.Namespace, Report], None]


def _kind(options: argparse.Namespace) -> tuple[str, Measure]:
    kinds: dict[str, Measure] = {"scaling": scaling.measure, "roofline": roofline.measure, "trainer": trainer.measure,
                                 "large": large.measure, "coarsening": coarsening.measure}  # fmt: skip
    chosen = [name for name in kinds if getattr(options, name)]
    return (chosen[0], kinds[chosen[0]]) if chosen else ("epochs", measure_epochs)


def measure_epochs(options: argparse.Namespace, report: Report) -> None:
    """Epochs of every operator on every dataset, against every peer."""
    for dataset in options.datasets:
        for size in options.batch_size:
            for pool in options.pools:
                setting = replace(base_setting(options), pool=pool, dataset=dataset, batch_size=size)
                rows, facts = compare(setting, options.peers, options.epochs, options.warmup, memory_limit(options),
                                      options.limit)  # fmt: skip
                report.keep(*({**row.as_dict(), "facts": facts} for row in rows))
                report.show(f"#### {pool}, {dataset}, batches of {size}", tables.facts(facts), tables.epochs(rows),
                            tables.phases(rows))  # fmt: skip
    if options.peers:
        report.show("#### The fastest peer of each, its time by PoolBench's", tables.fastest(report.results))
