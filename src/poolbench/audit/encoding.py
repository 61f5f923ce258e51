"""Features of other graphs in the columns that a model was trained on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import torch
from torch import Tensor

from poolbench.data.features import Features
from poolbench.errors import PoolBenchError
from poolbench.jobs.weights import Columns

SHOWN = 4
"""Names that a message lists at the most."""


def encoded(found: Features | None, trained: Columns, rows: int, what: str) -> Tensor:
    """[rows, columns] features as the model knows them.

    A column of a category (`label0=3`, `degree=4`) that is absent is zero: no node of these graphs has it.

    Args:
        found: of these graphs, None where they have none. trained: those of training. rows: how many nodes or edges.
        what: whose they are, for messages.

    Raises `PoolBenchError` where these graphs have other features, or a category that no graph of training had.
    """
    if found is None:
        found = Features(torch.zeros(rows, 0), [])
    if trained.vocabulary is not None or found.vocabulary is not None:
        return _categories(found, trained, what)
    if found.names == trained.names:
        return found.values
    place = {key: column for column, key in enumerate(_keys(trained.names))}
    others = _kinds(found.names) if rows else _kinds(trained.names)
    if others != _kinds(trained.names):
        raise _apart(found.names, trained, what)
    made = torch.zeros(rows, len(trained.names))
    for column, (name, count) in enumerate(_keys(found.names)):
        at = place.get((name, count), place.get((name.replace("degree=", "degree>="), count)))
        if at is not None:
            made[:, at] = found.values[:, column]
        elif "=" not in name:
            raise _apart(found.names, trained, what)
        elif bool(found.values[:, column].any()):
            raise PoolBenchError(f"{what}: there is {name} here, and was in no graph that the run was trained with")
    if any("=" not in name and name not in found.names for name in trained.names) and rows:
        raise _apart(found.names, trained, what)
    return made


def _categories(found: Features, trained: Columns, what: str) -> Tensor:
    """Columns of whole numbers, which the model embeds."""
    if found.names != trained.names or found.vocabulary is None or trained.vocabulary is None:
        raise _apart(found.names, trained, what)
    for column, (name, most) in enumerate(zip(trained.names, trained.vocabulary, strict=True)):
        values = found.values[:, column]
        if values.numel() and not 0 <= int(values.min()) <= int(values.max()) < most:
            raise PoolBenchError(f"{what}: {name} is {int(values.max())}, and the run knows categories 0 to {most - 1}")
    return found.values


def _keys(names: Iterable[str]) -> list[tuple[str, int]]:
    """Each name with how often it stood before: degrees and binned degrees have names in common."""
    seen: Counter[str] = Counter()
    keys = []
    for name in names:
        keys.append((name, seen[name]))
        seen[name] += 1
    return keys


def _kinds(names: Iterable[str]) -> list[str]:
    """What the columns tell, each kind once: label0 of label0=1 and label0=2."""
    return list(dict.fromkeys(name.partition("=")[0].rstrip(">") for name in names))


def _apart(names: Iterable[str], trained: Columns, what: str) -> PoolBenchError:
    return PoolBenchError(
        f"{what}: the run was trained with {_listed(trained.names)}, and these graphs have {_listed(names)}"
    )


def _listed(names: Iterable[str]) -> str:
    kinds = _kinds(names)
    return ", ".join(kinds[:SHOWN]) + (f" and {len(kinds) - SHOWN} more" if len(kinds) > SHOWN else "") or "none"
