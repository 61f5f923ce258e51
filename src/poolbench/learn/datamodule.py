"""The data module: a packed store and its three parts, batches cut on the training device."""

from __future__ import annotations

from collections.abc import Callable

import pytorch_lightning as pl
import torch

from poolbench.data.splits import Split
from poolbench.data.store import Batch, BatchLoader, GraphStore
from poolbench.splitmix import mix


class GraphData(pl.LightningDataModule):
    """Batches of the three parts of a split.

    Args:
        store: makes the store on a device.
        split: which graph is trained, validated and tested on.
        batch_size: graphs in a batch. seed: of the order of the training batches.
        validates: the part that is evaluated after each epoch; `train` where nothing is.
        level: what the split splits, `graphs` or the `nodes` of all of them.
    """

    def __init__(
        self,
        store: Callable[[torch.device], GraphStore],
        split: Split,
        batch_size: int,
        seed: int,
        validates: str = "val",
        level: str = "graphs",
    ) -> None:
        super().__init__()
        self.validates, self.level = validates, level
        self._make_store, self.split, self.batch_size, self.seed = store, split, batch_size, seed
        self._store: GraphStore | None = None

    @property
    def store(self) -> GraphStore:
        if self._store is None:
            device = self.trainer.strategy.root_device if self.trainer is not None else torch.device("cpu")
            self._store = self._make_store(device)
        return self._store

    def loader(self, part: str, shuffle: bool = False) -> BatchLoader:
        """This process's batches of `train`, `val` or `test`."""
        rank, world = (self.trainer.global_rank, self.trainer.world_size) if self.trainer is not None else (0, 1)
        seed = mix(self.seed, 0x0BDE5) if shuffle else None
        return BatchLoader(self.store, self.graphs(part), self.batch_size, seed, rank, world, self._mask(part))

    def whole(self, part: str) -> BatchLoader:
        """The batches of a part for one process that evaluates it alone: each process of a distributed run evaluates
        all of it, as a metric such as ROC-AUC is no mean over shares."""
        return BatchLoader(self.store, self.graphs(part), self.batch_size, mask=self._mask(part))

    def graphs(self, part: str) -> torch.Tensor:
        """The graphs of a part; all of them where nodes are split."""
        return getattr(self.split, part) if self.level == "graphs" else torch.arange(len(self.store))

    def _mask(self, part: str) -> torch.Tensor | None:
        if self.level == "graphs":
            return None
        mask = torch.zeros(self.store.x.shape[0], dtype=torch.bool)
        mask[getattr(self.split, part)] = True
        return mask.to(self.store.device)

    def train_dataloader(self) -> BatchLoader:
        return self.loader("train", shuffle=True)

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        return batch  # the store cut it there
