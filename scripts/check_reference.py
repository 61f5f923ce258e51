#!/usr/bin/env python3
"""Run poolbench's operators on recorded answers of other libraries, to the last digit that the recordings hold.

    python scripts/check_reference.py FOLDER [FOLDER ...] [--operators mincut,topk]

A folder holds index.json and one .npz file a case, in the format of Spektral's, Torch Geometric Pool's (tgp), PyTorch
Geometric's (pyg) or authors' own recordings; the index says which. Of each case the weights are loaded, and outputs,
losses and gradients compared. There is a line for each array that fails (case, array, largest difference), one for each
case that poolbench answers otherwise by decision (case, the decision's number), and at the end `N passed, M failed`,
with `K outside` for cases of operators, or with arguments, that poolbench does not have.

Exit code: 0 all passed, 1 something failed, 2 the command itself was wrong.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from poolbench.errors import nearest
from reference import peers, spektral
from reference.cases import BadCase, read_index
from reference.compare import Result, Tolerance

#: Names of the field -> names in the folders, less endings such as Pool, Pooling and _u.
ALIASES = {"acc": "asymcheegercut", "jb": "justbalance", "lap": "la", "lapool": "la", "nopool": "no", "none": "no"}


def operator_name(name: str) -> str:
    """One spelling for MinCutPool, mincut, mincut_u and MinCutPooling."""
    name = name.lower()
    name = ALIASES.get(name.removesuffix("_u"), name.removesuffix("_u"))
    return ALIASES.get(name, name).removesuffix("pooling").removesuffix("pool")


def checker(index: dict[str, Any], folder: Path) -> tuple[Callable[[dict[str, Any]], Result], str]:
    """What checks a case of this folder, and the key under which its cases name their operator."""
    if "spektral" in index:
        return lambda entry: spektral.check(folder, entry), "layer"
    library = {"tgp": "tgp", "torch_geometric": "pyg", "authors": "authors"}.get(str(index.get("library")))
    if library is None:
        raise BadCase(f"{folder / 'index.json'}: made by neither Spektral, tgp, torch_geometric nor authors' code")
    tolerance = Tolerance(**index["tolerance"])
    return lambda entry: peers.check(library, folder, entry, tolerance), "operator"


def unused_files(index: dict[str, Any], folder: Path) -> list[Result]:
    """A failure for each .npz file that no case names: a case lost from the index must not pass unseen."""
    named = {entry.get("file") for entry in index["cases"] if isinstance(entry, dict)}
    lost = sorted(path.name for path in folder.glob("*.npz") if path.name not in named)
    return [Result(name, failures=["file: no case of index.json names it"]) for name in lost]


def report(result: Result) -> None:
    """The lines of one case."""
    for failure in result.failures:
        print(f"FAIL {result.name} {failure}")
    if result.passed:
        for number in result.deviations:
            print(f"deviation {result.name}: decision {number}")


def summary(results: list[Result]) -> str:
    """N passed, M failed[, K outside (reasons)]"""
    passed, failed = sum(r.passed for r in results), sum(bool(r.failures) for r in results)
    reasons = Counter(r.outside for r in results if r.outside)
    line = f"{passed} passed, {failed} failed"
    if reasons:
        line += f", {reasons.total()} outside ({'; '.join(f'{n} {why}' for why, n in reasons.most_common())})"
    return line


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--operators", metavar="A,B", help="only the cases of these operators")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float32)

    wanted = {operator_name(n) for n in args.operators.split(",") if n} if args.operators else None
    results: list[Result] = []
    seen: set[str] = set()
    left_out = 0
    try:
        indices = [(folder, read_index(folder)) for folder in args.folders]
        checks = [(*checker(index, folder), index, folder) for folder, index in indices]
    except BadCase as error:
        print(error, file=sys.stderr)
        return 2
    for check, key, index, folder in checks:
        found = unused_files(index, folder) if wanted is None else []
        for entry in index["cases"]:
            name = operator_name(str(entry.get(key, "")))
            seen.add(name)
            if wanted is not None and name not in wanted:
                left_out += 1
                continue
            found.append(check(entry))
        for result in found:
            report(result)
        results += found
        if len(checks) > 1:
            print(f"{folder.name}: {summary(found)}")
    if wanted is not None:
        for name in sorted(wanted - seen):
            print(f"no case of an operator {name!r}{nearest(name, seen)}", file=sys.stderr)
        if wanted - seen:
            return 2
        print(f"narrowed to {', '.join(sorted(wanted))}: {left_out} cases not run")
    print(summary(results))
    return 1 if any(r.failures for r in results) or not results else 0


if __name__ == "__main__":
    sys.exit(main())
