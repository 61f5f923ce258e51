"""Ten folds as a paper's authors published them, of which a few graphs may be tested by none (`protocol=published`)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from poolbench.data.dealing import Parts, tensors
from poolbench.data.protocols import Protocol
from poolbench.data.sources.index_folds import FOLDS, PUBLISHED, test_graphs
from poolbench.errors import PoolBenchError, nearest

if TYPE_CHECKING:
    from torch import Tensor

VAL = {"next": 1, "previous": -1}


class PublishedFolds(Protocol):
    """The ten folds of Zhang et al. (AAAI 2018), which many papers on pooling share: the protocol `published`.

    Fold f tests, another one validates, all other graphs train. They are not stratified, and where ten does not divide
    the number of graphs, the rest is trained on in all folds.

    Args:
        seed: has no influence on the folds.
        published: the dataset that they are of.
        val: which fold validates: next or previous.
        select: which epoch counts. fold_seeds: see `Protocol`.
        data, mirror: where they are found, as datasets are.

    Raises `PoolBenchError` for a dataset of which there are none, and another `val`; when they split, where they cannot
    be had or are those of another number of graphs.
    """

    name = "published"
    folds = FOLDS
    stratified = False

    def __init__(
        self,
        published: str,
        seed: int = 0,
        val: str = "previous",
        select: str = "loss",
        fold_seeds: str = "shared",
        data: str | Path | None = None,
        mirror: str | None = None,
    ) -> None:
        super().__init__(seed, select, fold_seeds)
        if published not in PUBLISHED:
            raise PoolBenchError(f"published: published={published!r} is unknown{nearest(str(published), PUBLISHED)}; "
                                 f"there are {', '.join(PUBLISHED)}")  # fmt: skip
        if val not in VAL:
            raise PoolBenchError(f"published: val={val!r} is neither next nor previous")
        self.published, self.val, self.data, self.mirror = published, val, data, mirror

    def parts(self, y: Tensor, fold: int | None, official: Parts | None) -> Parts:
        assert fold is not None
        tested = test_graphs(self.published, self.data, self.mirror)
        named = [graph for graphs in tested for graph in graphs]
        if len(set(named)) < len(named) or max(named) >= y.numel() or y.numel() - len(named) >= FOLDS:
            raise PoolBenchError(f"published: the folds of {self.published} name {len(set(named))} graphs up to number "
                                 f"{max(named)}, and this dataset has {y.numel()}: they are not of it")  # fmt: skip
        held = (fold + VAL[self.val]) % FOLDS
        out = {*tested[fold], *tested[held]}
        train = [graph for graph in range(y.numel()) if graph not in out]
        return tensors({"train": train, "val": tested[held], "test": tested[fold]})

    def drawn_by(self, official: Parts | None) -> int:
        return 0
