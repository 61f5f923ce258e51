"""Graphs dealt out in parts and folds: by class, and shuffled by a SHA-256 of (seed, graph), the same on every machine.

torch is loaded by what makes tensors, so that a plan of runs need not wait for it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

from poolbench.errors import PoolBenchError
from poolbench.records.record import PARTS

if TYPE_CHECKING:
    from torch import Tensor

Parts = dict[str, "Tensor"]
"""By name the int64 indices of what is in each part."""


def shuffled(indices: list[int], key: str) -> list[int]:
    """`indices` in an order that depends on nothing but themselves and `key`."""
    return sorted(indices, key=lambda index: hashlib.sha256(f"{key}/{index}".encode()).digest())


def tensors(parts: dict[str, list[int]]) -> Parts:
    """int64 tensors of lists, sorted."""
    import torch

    return {name: torch.tensor(sorted(graphs), dtype=torch.int64) for name, graphs in parts.items()}


def deal(members: Sequence[list[int]], test: Fraction, val: Fraction, key: str) -> dict[str, list[int]]:
    """The graphs of each class in the three parts, shuffled by `key`."""
    counts = _allocate([len(of_class) for of_class in members], test, val)
    parts: dict[str, list[int]] = {part: [] for part in PARTS}
    for of_class, (for_train, for_val, _) in zip(members, counts, strict=True):
        order = shuffled(of_class, key)
        parts["train"] += order[:for_train]
        parts["val"] += order[for_train : for_train + for_val]
        parts["test"] += order[for_train + for_val :]
    return parts


def stratified_folds(y: Tensor, count: int, key: str, name: str) -> list[list[int]]:
    """`count` folds of graphs of the classes y [G]: class by class, each shuffled by `key`, they are dealt out in turn.

    Raises `PoolBenchError`, with the `name` of the protocol, for fewer graphs than folds.
    """
    if y.numel() < count:
        raise PoolBenchError(f"{name}: {y.numel()} graphs do not fill {count} folds")
    dealt: list[list[int]] = [[] for _ in range(count)]
    place = 0
    for of_class in members_by_class(y):
        for graph in shuffled(of_class, key):
            dealt[place % count].append(graph)
            place += 1
    return dealt


def held_out(y: Tensor, dealt: Sequence[list[int]], fold: int, val: Fraction, key: str) -> Parts:
    """Fold `fold` tests; of the graphs outside it a stratified share validates."""
    import torch

    rest = torch.tensor(sorted(graph for k, graphs in enumerate(dealt) if k != fold for graph in graphs))
    members = [[int(rest[j]) for j in own] for own in members_by_class(y[rest])]
    inner = deal(members, Fraction(0), val, f"{key}/{fold}")
    return tensors({"train": inner["train"], "val": inner["val"], "test": dealt[fold]})


def members_by_class(y: Tensor) -> list[list[int]]:
    """Of each class that occurs in y [G], in ascending order, its graphs."""
    members: dict[int, list[int]] = {}
    for index, label in enumerate(y.tolist()):
        members.setdefault(label, []).append(index)
    return [members[label] for label in sorted(members)]


def _allocate(sizes: list[int], test: Fraction, val: Fraction) -> list[list[int]]:
    """How many graphs of each class go to (train, val, test), in exact arithmetic.

    Each number is its quota rounded down or up. Which ones are rounded up is decided by what the part is owed over
    the classes so far, so that rounding does not add up over many classes.
    """
    shares = (1 - test - val, val, test)
    owed = [Fraction(0)] * 3
    table = []
    for size in sizes:
        quota = [size * share for share in shares]
        row = [int(q) for q in quota]
        owed = [debt + q - got for debt, q, got in zip(owed, quota, row, strict=True)]
        if row[0] == 0:  # a class unseen in training cannot be learned, so training comes first
            row[0], owed[0] = 1, owed[0] - 1
        can_grow = [part for part in range(3) if row[part] < quota[part]]
        for part in sorted(can_grow, key=lambda p: (-owed[p], p))[: size - sum(row)]:
            row[part], owed[part] = row[part] + 1, owed[part] - 1
        table.append(row)
    return _fill_empty_parts(table, [part for part in (1, 2) if shares[part]])


def _fill_empty_parts(table: list[list[int]], wanted: list[int]) -> list[list[int]]:
    """In very small sets rounding may leave a wanted part empty: it then takes one of the largest training class."""
    for part in wanted:
        if sum(row[part] for row in table) == 0:
            donor = max(table, key=lambda row: row[0])
            donor[0], donor[part] = donor[0] - 1, donor[part] + 1
    return table
