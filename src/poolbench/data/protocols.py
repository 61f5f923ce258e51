"""Protocols: how a dataset is split, which epoch counts, and which part is looked at when.

A split is a pure function of the labels, the protocol, its seed and the fold. Shuffling orders graphs by a SHA-256 of
(seed, graph): no library's generator is involved, so it is the same on every machine, whatever is installed there.

torch is loaded by what draws a split, so that a plan of runs need not wait for it to know their folds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import msgspec
from msgspec import Meta, Struct

from poolbench.data.sources.folds import published_folds
from poolbench.errors import PoolBenchError, one_line

if TYPE_CHECKING:
    from torch import Tensor

    from poolbench.data.dataset import GraphDataset
    from poolbench.data.pairs import Comparison
    from poolbench.data.raw import RawGraphs
    from poolbench.data.splits import Split

Parts = dict[str, "Tensor"]


class Protocol:
    """Base of the protocols. One overrides `parts`, and states the class attributes where they differ.

    Args:
        seed: which split.
        select: which epoch counts, one of `selects`; None: as the class says. With `last` nothing stops a run early.
        fold_seeds: `shared`: all folds of a seed begin with the same weights and draw alike; `own`: each has its own.

    Raises `PoolBenchError` for what is none of that.
    """

    name: str
    #: Rises when the same arguments draw other splits.
    version: ClassVar[int] = 1
    #: How many folds there are; None where a seed makes a single split.
    folds: int | None = None
    #: Which epoch counts: the best by `loss`, the best by the target's `metric`, or the `last`.
    select: str = "loss"
    #: Whether each part has its share of each class.
    stratified: bool = True
    #: What `select` may be.
    selects: ClassVar[tuple[str, ...]] = ("loss", "metric", "last")
    #: The part that decides on it: `val`; `train` where nothing is held out; `test` in what old papers did.
    validates: ClassVar[str] = "val"
    #: What is split: `graphs`, or the `nodes` of all graphs.
    level: ClassVar[str] = "graphs"

    def __init__(self, seed: int = 0, select: str | None = None, fold_seeds: str = "shared") -> None:
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            raise PoolBenchError(f"{self.name}: seed={seed!r} must be a whole number, 0 or more")
        if select is not None and select not in self.selects:
            raise PoolBenchError(f"{self.name}: select={select!r} is none of {', '.join(self.selects)}")
        if fold_seeds not in ("shared", "own"):
            raise PoolBenchError(f"{self.name}: fold_seeds={fold_seeds!r} is neither shared nor own")
        self.seed, self.select, self.fold_seeds = seed, select or self.select, fold_seeds

    def parts(self, y: Tensor, fold: int | None, official: Parts | None) -> Parts:
        """`train`, `val` and `test` for graphs of the classes y [G]."""
        raise NotImplementedError

    def order(self, dataset: GraphDataset, raw: RawGraphs) -> Tensor | None:
        """[G] what graphs are ordered by, of a protocol that splits them by it (`parts_by`); None of any other."""
        return None

    def parts_by(self, order: Tensor, y: Tensor) -> Parts:
        """`parts`, of a protocol that splits graphs by their `order` [G]."""
        raise NotImplementedError

    def comparison(self, dataset: GraphDataset, raw: RawGraphs) -> Comparison | None:
        """The pairs of graphs that are compared, and how, of a protocol that does that; None of any other."""
        return None

    def files(self) -> list[Path]:
        """The files that the splits are read from."""
        return []

    def seeds(self, seed: int) -> tuple[int, ...]:
        """The seeds of the runs that a fold consists of, for a configuration with this one."""
        return (seed,)

    def check_fold(self, fold: int | None) -> None:
        """Raise `PoolBenchError` for a fold that the protocol has not, or for none where it has some."""
        if self.folds is None and fold is not None:
            raise PoolBenchError(f"fold={fold}: protocol {self.name} has no folds; leave fold out")
        if self.folds is not None and (isinstance(fold, bool) or not isinstance(fold, int)
                                       or not 0 <= fold < self.folds):  # fmt: skip
            raise PoolBenchError(f"fold={fold!r}: protocol {self.name} has the folds 0 to {self.folds - 1}")

    def split(
        self,
        y: Tensor,
        fingerprint: str,
        fold: int | None = None,
        official: Parts | None = None,
        order: Tensor | None = None,
    ) -> Split:
        """Split graphs of the dataset with that fingerprint.

        Args:
            y: [G] int64, what the parts keep in proportion (`Target.strata`).
            fold: which fold, None where the protocol has none.
            official: the parts that the dataset's authors fixed, where they did.
            order: what `order` says of the dataset.

        Raises `PoolBenchError`: labels that are no classes, too few graphs, no such fold.
        """
        import torch

        from poolbench.data.splits import Split

        if y.dim() != 1 or y.is_floating_point() or y.is_complex():
            raise PoolBenchError(f"{self.name}: expected one class a graph, got {y.dtype} of shape {tuple(y.shape)}")
        self.check_fold(fold)
        y = y if self.stratified else torch.zeros_like(y)
        found = self.parts(y, fold, official) if order is None else self.parts_by(order, y)
        parts = {name: part.to(torch.int64).sort().values for name, part in found.items()}
        return Split(self.name, self.version, self.drawn_by(official), fold, **parts, fingerprint=fingerprint)

    def drawn_by(self, official: Parts | None) -> int:
        """The seed that drew the split; 0 where it was not drawn, so that one split has one hash."""
        return self.seed


class Holdout(Protocol):
    """One stratified split, 80/10/10 unless told otherwise: the protocol `holdout`.

    Of each class each part gets its share to within less than one graph (largest remainder, what rounding left to
    one class being made up for in the next), and no part is empty. A class with a single graph goes to training.

    Args:
        seed: which split.
        test, val: fractions of the graphs; training gets the rest.
        select: which epoch counts. stratified: whether each part has its share of each class.

    Raises `PoolBenchError` for fractions that leave a part without graphs, or a negative seed.
    """

    name = "holdout"

    def __init__(
        self, seed: int = 0, test: float = 0.1, val: float = 0.1, select: str = "loss", stratified: bool = True
    ) -> None:
        _check_fractions(self.name, test, val)
        super().__init__(seed, select)
        self.test, self.val, self.stratified = test, val, _flag(self.name, "stratified", stratified)

    def parts(self, y: Tensor, fold: int | None, official: Parts | None) -> Parts:
        if y.numel() < 3:
            raise PoolBenchError(f"holdout: {y.numel()} graph(s) cannot be split in three parts; at least 3 are needed")
        test, val = Fraction(str(self.test)), Fraction(str(self.val))
        return _tensors(_deal(_members_by_class(y), test, val, f"{self.name}-{self.version}/{self.seed}"))


class CrossValidation(Protocol):
    """Stratified cross-validation: the protocol `cv10`. Of ten folds f tests, f + 1 validates, eight train.

    Of each class every fold gets the same number of graphs to within one, and so does every fold of graphs in all.
    Its splits go by `cv10`, those of five folds by `cv5`. A repeat is another seed.

    Args:
        seed: which split.
        select: which epoch counts. fold_seeds: see `Protocol`.
        folds: how many.
        val: what validates: the `next` fold, the `previous` one, or a fraction of the graphs outside fold f.
        stratified: whether each part has its share of each class.

    Raises `PoolBenchError` for too few folds, and where `val` is none of that.
    """

    name = "cv10"

    def __init__(
        self,
        seed: int = 0,
        select: str = "loss",
        fold_seeds: str = "shared",
        folds: int = 10,
        val: str | float = "next",
        stratified: bool = True,
    ) -> None:
        least = 3 if isinstance(val, str) else 2
        if isinstance(folds, bool) or not isinstance(folds, int) or folds < least:
            raise PoolBenchError(f"{self.name}: folds={folds!r} must be a whole number, {least} or more")
        if val not in ("next", "previous"):
            if isinstance(val, str):
                raise PoolBenchError(f"{self.name}: val={val!r} is neither next nor previous, nor a fraction")
            _check_fraction(self.name, "val", val)
        self.name = self.name.replace("10", str(folds))
        super().__init__(seed, select, fold_seeds)
        self.folds, self.val, self.stratified = folds, val, _flag(self.name, "stratified", stratified)

    def parts(self, y: Tensor, fold: int | None, official: Parts | None) -> Parts:
        assert self.folds is not None and fold is not None
        key = f"{self.name}-{self.version}/{self.seed}"
        dealt = _folds(y, self.folds, key, self.name)
        if not isinstance(self.val, str):
            return _inner(y, dealt, fold, Fraction(str(self.val)), key)
        held = (fold + (1 if self.val == "next" else -1)) % self.folds
        train = [graph for k, members in enumerate(dealt) if k not in (fold, held) for graph in members]
        return _tensors({"train": train, "val": dealt[held], "test": dealt[fold]})


class Nested(Protocol):
    """Nested ten-fold cross-validation (Errica et al., ICLR 2020, arXiv 1912.09893): the protocol `nested10`.

    The graphs outside fold f are split 90/10: hyper-parameters are searched on that, and the chosen ones trained
    again, so that no trial sees fold f. The published folds are used where `folds` names them, such as
    CHEMICAL/ENZYMES (`poolbench.data.sources.folds`), or `folds_file` is the path of a JSON (a list of
    `{"test": [...], "model_selection": [{"train": [...], "validation": [...]}]}`); else stratified ones are drawn.

    Args:
        seed: which split, where none is given.
        folds_file: path of published folds, None to draw. folds: their name.
        runs: training runs with the chosen hyper-parameters, a fold.
        data, mirror: where named folds are found, as datasets are.
        select: which epoch counts. fold_seeds: see `Protocol`.
    """

    name = "nested10"
    folds = 10

    def __init__(
        self,
        seed: int = 0,
        folds_file: str | Path | None = None,
        runs: int = 3,
        folds: str | None = None,
        data: str | Path | None = None,
        mirror: str | None = None,
        select: str = "loss",
        fold_seeds: str = "shared",
    ) -> None:
        super().__init__(seed if folds_file is None and folds is None else 0, select, fold_seeds)
        if folds_file is not None and folds is not None:
            raise PoolBenchError("nested10: folds and folds_file are two ways to say one thing; give one of them")
        if isinstance(runs, bool) or not isinstance(runs, int) or runs < 1:
            raise PoolBenchError(f"nested10: runs={runs!r} must be a whole number, 1 or more")
        self.folds_file, self.runs = None if folds_file is None else Path(folds_file), runs
        self.named_folds, self.data, self.mirror = folds, data, mirror

    def seeds(self, seed: int) -> tuple[int, ...]:
        return tuple(range(seed * self.runs, (seed + 1) * self.runs))

    def files(self) -> list[Path]:
        if self.named_folds is not None:
            return [published_folds(self.named_folds, self.data, self.mirror)]
        return [] if self.folds_file is None else [self.folds_file]

    def parts(self, y: Tensor, fold: int | None, official: Parts | None) -> Parts:
        assert self.folds is not None and fold is not None
        if given := self.files():
            return published_fold(given[0], fold, y.numel())
        key = f"{self.name}-{self.version}/{self.seed}"
        return _inner(y, _folds(y, self.folds, key, self.name), fold, Fraction(1, 10), key)


_Graphs = list[Annotated[int, Meta(ge=0, le=2**53)]]


class _Selection(Struct):
    train: _Graphs
    validation: _Graphs


class _Fold(Struct):
    """A published fold, as far as it is read."""

    test: _Graphs
    model_selection: list[_Selection]


def published_fold(path: Path, fold: int, num_graphs: int) -> Parts:
    """One fold of a JSON file in the form that Errica et al. published. `PoolBenchError` where it does not fit."""
    import torch

    try:
        entry = msgspec.json.decode(path.read_bytes(), type=list[_Fold])[fold]
        inner = entry.model_selection[0]
        parts = {"train": inner.train, "val": inner.validation, "test": entry.test}
        tensors = {name: torch.tensor(part, dtype=torch.int64) for name, part in parts.items()}
    except (OSError, msgspec.DecodeError, ValueError, IndexError, RecursionError) as error:
        raise PoolBenchError(
            f"protocol.folds_file={path} cannot be read ({one_line(error)}); expected a list of folds "
            '{"test": [...], "model_selection": [{"train": [...], "validation": [...]}]}'
        ) from error
    named = sum(part.numel() for part in tensors.values())
    if named != num_graphs:
        raise PoolBenchError(f"protocol.folds_file={path} names {named} graphs, and the dataset has {num_graphs}")
    return tensors


class Official(Protocol):
    """The split that the dataset's authors fixed, selected by the official metric: the protocol `ogb`.

    Args:
        seed: has no influence on the split.
        select: which epoch counts; `metric` is the official one.
    """

    name = "ogb"

    def __init__(self, seed: int = 0, select: str = "metric") -> None:
        super().__init__(0, select)

    def parts(self, y: Tensor, fold: int | None, official: Parts | None) -> Parts:
        if official is None:
            raise PoolBenchError("protocol=ogb: this dataset has no official split; use protocol=holdout or cv10")
        return dict(official)


class Transductive(Protocol):
    """All graphs are trained on, none is held out: the protocols `cluster` (labels are for the final metrics alone; the
    last epoch counts) and `fit` (reconstruction; the epoch with the smallest training loss counts).

    Args:
        seed: has no influence on the split.
        select: `last` or `loss`.
    """

    name = "cluster"
    selects = ("loss", "last")
    validates = "train"

    def __init__(self, seed: int = 0, select: str = "last") -> None:
        super().__init__(0, select)

    def parts(self, y: Tensor, fold: int | None, official: Parts | None) -> Parts:
        import torch

        none = torch.zeros(0, dtype=torch.int64)
        return {"train": torch.arange(y.numel()), "val": none, "test": none}


class Nodes(Protocol):
    """Nodes are classified in a graph that is seen whole: the protocol `nodes`.

    The nodes that the dataset's authors fixed (Planetoid's public split), or a stratified hold-out by `split.seed`.

    Args:
        seed: which split, where one is drawn. official: take the fixed one where there is one.
        test, val: fractions of the nodes; training gets the rest.
        select: which epoch counts.
    """

    name = "nodes"
    level = "nodes"

    def __init__(
        self, seed: int = 0, official: bool = True, test: float = 0.2, val: float = 0.2, select: str = "loss"
    ) -> None:
        _check_fractions(self.name, test, val)
        super().__init__(seed, select)
        self.official, self.test, self.val = official, test, val

    def drawn_by(self, official: Parts | None) -> int:
        return self.seed if official is None or not self.official else 0

    def parts(self, y: Tensor, fold: int | None, official: Parts | None) -> Parts:
        if official is None or not self.official:
            test, val = Fraction(str(self.test)), Fraction(str(self.val))
            return _tensors(_deal(_members_by_class(y), test, val, f"{self.name}-{self.version}/{self.seed}"))
        import torch

        free = torch.ones(y.numel(), dtype=torch.bool)
        for part in official.values():
            free[part] = False
        return {**official, "unused": free.nonzero().squeeze(1)}


class LegacyCrossValidation(CrossValidation):
    """Ten folds, and the epoch is chosen on the fold that is reported: the protocol `legacy-cv10`.

    What DiffPool's and GIN's authors did. Its accuracy is optimistic: it is here to reproduce old tables and stands in
    no table beside another protocol.

    Args:
        seed: which split.
        select: which epoch counts; `metric` is the best test accuracy of any epoch. fold_seeds: see `Protocol`.
        folds: how many.
    """

    name = "legacy-cv10"
    validates = "test"

    def __init__(self, seed: int = 0, select: str = "metric", fold_seeds: str = "shared", folds: int = 10) -> None:
        super().__init__(seed, select, fold_seeds, folds)

    def parts(self, y: Tensor, fold: int | None, official: Parts | None) -> Parts:
        import torch

        parts = super().parts(y, fold, official)
        return {**parts, "train": torch.cat([parts["train"], parts["val"]]), "val": parts["val"][:0]}


def shuffled(indices: list[int], key: str) -> list[int]:
    """`indices` in an order that depends on nothing but themselves and `key`."""
    return sorted(indices, key=lambda index: hashlib.sha256(f"{key}/{index}".encode()).digest())


def _flag(name: str, key: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise PoolBenchError(f"{name}: {key}={value!r} is neither true nor false")
    return value


def _check_fraction(name: str, key: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1:
        raise PoolBenchError(f"{name}: {key}={value!r} must be a fraction between 0 and 1, such as 0.1")


def _check_fractions(name: str, test: float, val: float) -> None:
    """Refuse what is no pair of fractions that leave something to train on."""
    _check_fraction(name, "test", test)
    _check_fraction(name, "val", val)
    if Fraction(str(test)) + Fraction(str(val)) >= 1:
        raise PoolBenchError(f"{name}: test={test} and val={val} leave nothing to train on; their sum must be < 1")


def _tensors(parts: dict[str, list[int]]) -> Parts:
    import torch

    return {name: torch.tensor(sorted(graphs), dtype=torch.int64) for name, graphs in parts.items()}


def _deal(members: Sequence[list[int]], test: Fraction, val: Fraction, key: str) -> dict[str, list[int]]:
    """The graphs of each class in the three parts, shuffled by `key`."""
    from poolbench.data.splits import PARTS

    counts = _allocate([len(of_class) for of_class in members], test, val)
    parts: dict[str, list[int]] = {part: [] for part in PARTS}
    for of_class, (for_train, for_val, _) in zip(members, counts, strict=True):
        order = shuffled(of_class, key)
        parts["train"] += order[:for_train]
        parts["val"] += order[for_train : for_train + for_val]
        parts["test"] += order[for_train + for_val :]
    return parts


def _folds(y: Tensor, count: int, key: str, name: str) -> list[list[int]]:
    """Stratified folds: the graphs, class by class and each class shuffled, are dealt out in turn."""
    if y.numel() < count:
        raise PoolBenchError(f"{name}: {y.numel()} graphs do not fill {count} folds")
    dealt: list[list[int]] = [[] for _ in range(count)]
    place = 0
    for of_class in _members_by_class(y):
        for graph in shuffled(of_class, key):
            dealt[place % count].append(graph)
            place += 1
    return dealt


def _inner(y: Tensor, dealt: Sequence[list[int]], fold: int, val: Fraction, key: str) -> Parts:
    """Fold `fold` tests; of the graphs outside it a stratified share validates."""
    import torch

    rest = torch.tensor(sorted(graph for k, graphs in enumerate(dealt) if k != fold for graph in graphs))
    members = [[int(rest[j]) for j in own] for own in _members_by_class(y[rest])]
    inner = _deal(members, Fraction(0), val, f"{key}/{fold}")
    return _tensors({"train": inner["train"], "val": inner["val"], "test": dealt[fold]})


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
    return _fill_empty_parts(table, [part for part in (1, 2) if shares[part]])


def _fill_empty_parts(table: list[list[int]], wanted: list[int]) -> list[list[int]]:
    """In very small sets rounding may leave a wanted part empty: it then takes one of the largest training class."""
    for part in wanted:
        if sum(row[part] for row in table) == 0:
            donor = max(table, key=lambda row: row[0])
            donor[0], donor[part] = donor[0] - 1, donor[part] + 1
    return table
