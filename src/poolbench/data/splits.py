"""Splits as data: which graph is trained on, validated on, tested on, with the hash that names it.

A split is a pure function of the labels, the protocol and its seed. Shuffling orders graphs by a SHA-256 of (seed,
graph): no library's generator is involved, so it is the same on every machine and in every version of everything.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from poolbench.data.raw import write_atomically
from poolbench.errors import PoolBenchError

PARTS = ("train", "val", "test")


@dataclass(frozen=True, eq=False)
class Split:
    """The graphs of a dataset in three parts, each graph in exactly one.

    Args:
        protocol: the name of the protocol that drew it, such as `holdout`.
        version: the version of that protocol; another version may draw other splits.
        seed: the split's seed (not that of the training).
        fold: the fold, or None where the protocol has none.
        train, val, test: int64 indices of graphs, sorted.
        fingerprint: the dataset's (`RawGraphs.fingerprint()`); a split means nothing for another dataset.

    Raises `PoolBenchError` where a graph is missing or stands in two parts.
    """

    protocol: str
    version: int
    seed: int
    fold: int | None
    train: Tensor
    val: Tensor
    test: Tensor
    fingerprint: str

    def __post_init__(self) -> None:
        together = torch.cat([self.train, self.val, self.test])
        if not torch.equal(together.sort().values, torch.arange(together.numel())):
            raise PoolBenchError(
                f"split {self.protocol} (seed {self.seed}): each graph must be in exactly one of train, val and test"
            )

    @property
    def num_graphs(self) -> int:
        return self.train.numel() + self.val.numel() + self.test.numel()

    @cached_property
    def hash(self) -> str:
        """SHA-256 (hex) over everything above."""
        return hashlib.sha256(json.dumps(self.as_dict(), sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def as_dict(self) -> dict[str, Any]:
        """The split in types that JSON knows, without its hash."""
        indices = {part: getattr(self, part).tolist() for part in PARTS}
        facts = {"protocol": self.protocol, "version": self.version, "seed": self.seed, "fold": self.fold}
        return {**facts, "dataset": self.fingerprint, **indices}

    def save(self, path: Path | str) -> None:
        """Write as JSON, whole or not at all."""
        text = json.dumps({**self.as_dict(), "hash": self.hash})
        write_atomically(Path(path), lambda file: file.write(text.encode()))

    @classmethod
    def load(cls, path: Path | str, fingerprint: str, num_graphs: int) -> Split:
        """Read a split for the dataset with this fingerprint and size.

        Raises `PoolBenchError` where the file is no split, was changed by hand, or is of another dataset.
        """
        try:
            held = json.loads(Path(path).read_text())
            parts: dict[str, Any] = {part: torch.tensor(held[part], dtype=torch.int64) for part in PARTS}
            facts: dict[str, Any] = {key: held[key] for key in ("protocol", "version", "seed", "fold")}
            split = cls(**facts, **parts, fingerprint=held["dataset"])
            stated = held["hash"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise PoolBenchError(
                f"split file {path} cannot be read ({error}); expected what Split.save wrote"
            ) from error
        if split.hash != stated:
            raise PoolBenchError(f"split file {path} was changed after it was written: its hash does not match")
        if split.num_graphs != num_graphs:
            raise PoolBenchError(f"split file {path} is for {split.num_graphs} graphs, the dataset has {num_graphs}")
        if split.fingerprint != fingerprint:
            raise PoolBenchError(f"split file {path} is of another dataset: fingerprints differ")
        return split


class Holdout:
    """One stratified split, 80/10/10 unless told otherwise: the protocol `holdout`.

    Of each class each part gets its share to within less than one graph (largest remainder, what rounding left to
    one class being made up for in the next), and no part is empty. A class with a single graph goes to training.

    Args:
        seed: which split.
        test, val: fractions of the graphs; training gets the rest.

    Raises `PoolBenchError` for fractions that leave a part without graphs, or a negative seed.
    """

    name = "holdout"
    version = 1

    def __init__(self, seed: int = 0, test: float = 0.1, val: float = 0.1) -> None:
        for key, value in (("test", test), ("val", val)):
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1:
                raise PoolBenchError(f"holdout: {key}={value!r} must be a fraction between 0 and 1, such as 0.1")
        if Fraction(str(test)) + Fraction(str(val)) >= 1:
            raise PoolBenchError(f"holdout: test={test} and val={val} leave nothing to train on; their sum must be < 1")
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            raise PoolBenchError(f"holdout: seed={seed!r} must be a whole number, 0 or more")
        self.seed, self.test, self.val = seed, test, val

    def split(self, y: Tensor, fingerprint: str) -> Split:
        """Split graphs with classes `y` ([G] int64) of the dataset with that fingerprint.

        Raises `PoolBenchError` for fewer than three graphs, or labels that are no classes.
        """
        if y.dim() != 1 or y.is_floating_point() or y.is_complex():
            raise PoolBenchError(f"holdout: expected one class a graph, got {y.dtype} of shape {tuple(y.shape)}")
        if y.numel() < 3:
            raise PoolBenchError(f"holdout: {y.numel()} graph(s) cannot be split in three parts; at least 3 are needed")
        members = _members_by_class(y)
        counts = _allocate([len(of_class) for of_class in members], Fraction(str(self.test)), Fraction(str(self.val)))
        parts: dict[str, list[int]] = {part: [] for part in PARTS}
        for of_class, (train, val, _) in zip(members, counts, strict=True):
            order = shuffled(of_class, f"{self.name}-{self.version}/{self.seed}")
            parts["train"] += order[:train]
            parts["val"] += order[train : train + val]
            parts["test"] += order[train + val :]
        indices = {part: torch.tensor(sorted(graphs), dtype=torch.int64) for part, graphs in parts.items()}
        return Split(self.name, self.version, self.seed, None, **indices, fingerprint=fingerprint)


def shuffled(indices: list[int], key: str) -> list[int]:
    """`indices` in an order that depends on nothing but themselves and `key`."""
    return sorted(indices, key=lambda index: hashlib.sha256(f"{key}/{index}".encode()).digest())


def _members_by_class(y: Tensor) -> list[list[int]]:
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
    return _fill_empty_parts(table)


def _fill_empty_parts(table: list[list[int]]) -> list[list[int]]:
    """In very small sets rounding may leave val or test empty: it then takes a graph of the largest training class."""
    for part in (1, 2):
        if sum(row[part] for row in table) == 0:
            donor = max(table, key=lambda row: row[0])
            donor[0], donor[part] = donor[0] - 1, donor[part] + 1
    return table
