"""Protocols: how a dataset is split, which epoch counts, and which part is looked at when.

A split is a pure function of the labels, the protocol, its seed and the fold (`dealing`), or of an index file. No
library's generator is involved, so it is the same on every machine, whatever is installed there.

torch is loaded by what draws a split, so that a plan of runs need not wait for it to know their folds.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from poolbench.data.dealing import Parts, deal, held_out, members_by_class, stratified_folds, tensors
from poolbench.data.index_files import Fold, IndexFile, Selection
from poolbench.data.sources.folds import published_folds
from poolbench.errors import PoolBenchError

if TYPE_CHECKING:
    from torch import Tensor

    from poolbench.data.dataset import GraphDataset
    from poolbench.data.pairs import Comparison
    from poolbench.data.raw import RawGraphs
    from poolbench.data.splits import Split


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
        """Raise `PoolBenchError` for a fold that the protocol has not, or for none where it has some.

        An index file must give it, too. No data is looked at.
        """
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
        return tensors(deal(members_by_class(y), test, val, f"{self.name}-{self.version}/{self.seed}"))


class CrossValidation(Protocol):
    """Stratified cross-validation: the protocol `cv10`. Of ten folds f tests, f + 1 validates, eight train.

    Of each class every fold gets the same number of graphs to within one, and so does every fold of graphs in all.
    Its splits go by `cv10`, those of five folds by `cv5`. A repeat is another seed.

    Args:
        seed: which split.
        select: which epoch counts. fold_seeds: see `Protocol`.
        folds: how many.
        val: what validates: the `next` fold, the `previous` one, a fraction of the graphs outside fold f, or what the
            index `file` says.
        stratified: whether each part has its share of each class.
        folds_file: an index file (`index_files`), from which the folds are taken; None: they are drawn.
        data: the cache folder, in which index files are kept; None for POOLBENCH_DATA or the user's.

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
        folds_file: str | Path | None = None,
        data: str | Path | None = None,
    ) -> None:
        least = 3 if val in ("next", "previous") else 2
        if isinstance(folds, bool) or not isinstance(folds, int) or folds < least:
            raise PoolBenchError(f"{self.name}: folds={folds!r} must be a whole number, {least} or more")
        if isinstance(val, str) and val not in ("next", "previous", "file"):
            raise PoolBenchError(f"{self.name}: val={val!r} is none of next, previous, file, and no fraction")
        if not isinstance(val, str):
            _check_fraction(self.name, "val", val)
        if val == "file" and folds_file is None:
            raise PoolBenchError(f"{self.name}: val=file takes what an index file says: give folds_file")
        self.name = self.name.replace("10", str(folds))
        self.index_file = _index_file(folds_file, data)
        # Of what a file says nothing is drawn: one split has one hash.
        drawn = self.index_file is None or not isinstance(val, str)
        super().__init__(seed if drawn else 0, select, fold_seeds)
        self.folds, self.val, self.stratified = folds, val, _flag(self.name, "stratified", stratified)

    def files(self) -> list[Path]:
        return [] if self.index_file is None else [self.index_file.path]

    def check_fold(self, fold: int | None) -> None:
        super().check_fold(fold)
        _check_given(self.index_file, self.folds, fold, whole=self.val == "file")

    def parts(self, y: Tensor, fold: int | None, official: Parts | None) -> Parts:
        assert self.folds is not None and fold is not None
        key = f"{self.name}-{self.version}/{self.seed}"
        if self.index_file is None:
            dealt = stratified_folds(y, self.folds, key, self.name)
        else:
            given = self.index_file.folds(self.folds, y.numel())
            if self.val == "file":
                return _whole(given[fold], fold, self.index_file)
            dealt = [each.test for each in given]
        if not isinstance(self.val, str):
            return held_out(y, dealt, fold, Fraction(str(self.val)), key)
        held = (fold + (1 if self.val == "next" else -1)) % self.folds
        train = [graph for k, members in enumerate(dealt) if k not in (fold, held) for graph in members]
        return tensors({"train": train, "val": dealt[held], "test": dealt[fold]})


class Nested(Protocol):
    """Nested ten-fold cross-validation (Errica et al., ICLR 2020, arXiv 1912.09893): the protocol `nested10`.

    The graphs outside fold f are split 90/10: hyper-parameters are searched on that, and the chosen ones trained
    again, so that no trial sees fold f. The published folds are used where `folds` names them, such as
    CHEMICAL/ENZYMES (`poolbench.data.sources.folds`), or `folds_file` gives an index file; else stratified ones are
    drawn.

    Args:
        seed: which split, where none is given.
        folds_file: an index file (`index_files`), None to draw. folds: the name of published folds.
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
        self.index_file, self.runs = _index_file(folds_file, data), runs
        self.named_folds, self.data, self.mirror = folds, data, mirror

    def seeds(self, seed: int) -> tuple[int, ...]:
        return tuple(range(seed * self.runs, (seed + 1) * self.runs))

    def files(self) -> list[Path]:
        given = self._given()
        return [] if given is None else [given.path]

    def check_fold(self, fold: int | None) -> None:
        super().check_fold(fold)
        _check_given(self.index_file, self.folds, fold, whole=True)

    def _given(self) -> IndexFile | None:
        if self.named_folds is not None and self.index_file is None:
            self.index_file = IndexFile(str(published_folds(self.named_folds, self.data, self.mirror)))
        return self.index_file

    def parts(self, y: Tensor, fold: int | None, official: Parts | None) -> Parts:
        assert self.folds is not None and fold is not None
        if given := self._given():
            return _whole(given.folds(self.folds, y.numel())[fold], fold, given)
        key = f"{self.name}-{self.version}/{self.seed}"
        return held_out(y, stratified_folds(y, self.folds, key, self.name), fold, Fraction(1, 10), key)


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
            return tensors(deal(members_by_class(y), test, val, f"{self.name}-{self.version}/{self.seed}"))
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
        folds: how many. folds_file, data: see `CrossValidation`.
    """

    name = "legacy-cv10"
    validates = "test"

    def __init__(
        self,
        seed: int = 0,
        select: str = "metric",
        fold_seeds: str = "shared",
        folds: int = 10,
        folds_file: str | Path | None = None,
        data: str | Path | None = None,
    ) -> None:
        super().__init__(seed, select, fold_seeds, folds, folds_file=folds_file, data=data)

    def parts(self, y: Tensor, fold: int | None, official: Parts | None) -> Parts:
        import torch

        parts = super().parts(y, fold, official)
        return {**parts, "train": torch.cat([parts["train"], parts["val"]]), "val": parts["val"][:0]}


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


def _index_file(given: str | Path | None, data: str | Path | None) -> IndexFile | None:
    return None if given is None else IndexFile(str(given), data)


def _check_given(file: IndexFile | None, folds: int | None, fold: int | None, whole: bool) -> None:
    """Raise `PoolBenchError` where an index file does not give a fold. whole: the file says what validates, too."""
    if file is not None:
        assert folds is not None and fold is not None
        given = file.folds(folds)[fold]
        if whole:
            _selection(given, fold, file)


def _whole(fold: Fold, number: int, file: IndexFile) -> Parts:
    """All parts of a fold of an index file."""
    inner = _selection(fold, number, file)
    return tensors({"train": inner.train, "val": inner.validation, "test": fold.test})


def _selection(fold: Fold, number: int, file: IndexFile) -> Selection:
    """How a fold of an index file divides the graphs outside it."""
    if not fold.model_selection:
        raise PoolBenchError(
            f"protocol.folds_file={file.given}: fold {number} has no model_selection, which says what is trained and "
            "validated on"
        )
    return fold.model_selection[0]
