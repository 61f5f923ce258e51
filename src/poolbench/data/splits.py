"""Splits as data: which graph is trained on, validated on, tested on, with the hash that names it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from poolbench.disk import put
from poolbench.errors import PoolBenchError
from poolbench.records.record import PARTS

NAMES = (*PARTS, "unused", "id_test")
"""Where a graph may be. The order is that of hashes: what came later is left out where it is empty."""


@dataclass(frozen=True, eq=False)
class Split:
    """The graphs of a dataset (or the nodes of its graphs, for protocols of nodes) in three parts, each in exactly one.

    Args:
        protocol: the name of the protocol that drew it, such as `holdout`.
        version: the version of that protocol; another version may draw other splits.
        seed: the split's seed (not that of the training).
        fold: the fold, or None where the protocol has none.
        train, val, test: int64 indices of graphs, sorted.
        unused: indices that are in no part: nodes whose class is never looked at.
        id_test: where `test` is another domain than `train` and `val`: indices of that domain, tested on beside.
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
    unused: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))
    id_test: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))

    def __post_init__(self) -> None:
        together = torch.cat([getattr(self, name) for name in NAMES])
        if not torch.equal(together.sort().values, torch.arange(together.numel())):
            raise PoolBenchError(
                f"split {self.protocol} (seed {self.seed}): each graph must be in exactly one of train, val and test"
            )

    @property
    def num_graphs(self) -> int:
        return sum(self.sizes.values())

    @property
    def sizes(self) -> dict[str, int]:
        """How many are in each part, and in none."""
        return {name: getattr(self, name).numel() for name in NAMES}

    @cached_property
    def hash(self) -> str:
        """SHA-256 (hex) over everything above."""
        return hashlib.sha256(json.dumps(self.as_dict(), sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def as_dict(self) -> dict[str, Any]:
        """The split in types that JSON knows, without its hash."""
        indices = {part: getattr(self, part).tolist() for part in PARTS}
        indices |= {name: getattr(self, name).tolist() for name in NAMES[len(PARTS) :] if getattr(self, name).numel()}
        facts = {"protocol": self.protocol, "version": self.version, "seed": self.seed, "fold": self.fold}
        return {**facts, "dataset": self.fingerprint, **indices}

    def save(self, path: Path | str) -> None:
        """Write as JSON, whole or not at all."""
        text = json.dumps({**self.as_dict(), "hash": self.hash})
        put(Path(path), text.encode())

    @classmethod
    def load(cls, path: Path | str, fingerprint: str, num_graphs: int) -> Split:
        """Read a split for the dataset with this fingerprint and size.

        Raises `PoolBenchError` where the file is no split, was changed by hand, or is of another dataset.
        """
        try:
            held = json.loads(Path(path).read_text(encoding="utf-8"))
            parts: dict[str, Any] = {part: torch.tensor(held[part], dtype=torch.int64) for part in PARTS}
            for name in NAMES[len(PARTS) :]:
                if name in held:
                    parts[name] = torch.tensor(held[name], dtype=torch.int64)
            facts: dict[str, Any] = {key: held[key] for key in ("protocol", "version", "seed", "fold")}
            split = cls(**facts, **parts, fingerprint=held["dataset"])
            stated = held["hash"]
        except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:  # RuntimeError: torch's, or nesting
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
