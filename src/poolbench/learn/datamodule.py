"""The data module: a packed store and its three parts, batches cut on the training device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch

from poolbench.data.dataset import GraphDataset
from poolbench.data.features import Features
from poolbench.data.protocols import Protocol
from poolbench.data.raw import RawGraphs
from poolbench.data.splits import Split
from poolbench.data.store import Batch, BatchLoader, GraphStore, mix
from poolbench.data.target import Target


@dataclass(frozen=True)
class Prepared:
    """A dataset and a protocol, worked out: all that a run needs to know of them.

    raw: the content. x: node features. edges, weight: features and weights of the edges, or None. target: what is to
    be predicted. split: which graph is trained, validated and tested on. select, validates: see `Protocol`.
    """

    raw: RawGraphs
    x: Features
    edges: Features | None
    weight: torch.Tensor | None
    target: Target
    split: Split
    select: str
    validates: str

    @classmethod
    def of(cls, dataset: GraphDataset, protocol: Protocol, fold: int | None) -> Prepared:
        """Load the dataset and split it. Raises `PoolBenchError` where either cannot be done."""
        raw = dataset.load()
        target = dataset.target(raw)
        split = protocol.split(target.strata, raw.fingerprint(), fold, dataset.official_split(raw))
        return cls(raw, dataset.node_features(raw), dataset.edge_features(raw), dataset.edge_weight(raw), target,
                   split, protocol.select, protocol.validates)  # fmt: skip


class GraphData(pl.LightningDataModule):
    """Batches of the three parts of a split.

    Args:
        store: makes the store on a device.
        split: which graph is trained, validated and tested on.
        batch_size: graphs in a batch. seed: of the order of the training batches.
        validates: the part that is evaluated after each epoch; `train` where nothing is.
    """

    def __init__(
        self,
        store: Callable[[torch.device], GraphStore],
        split: Split,
        batch_size: int,
        seed: int,
        validates: str = "val",
    ) -> None:
        super().__init__()
        self.validates = validates
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
        return BatchLoader(self.store, getattr(self.split, part), self.batch_size, seed, rank, world)

    def whole(self, part: str) -> BatchLoader:
        """The batches of a part for one process that evaluates it alone."""
        return BatchLoader(self.store, getattr(self.split, part), self.batch_size)

    def train_dataloader(self) -> BatchLoader:
        return self.loader("train", shuffle=True)

    def val_dataloader(self) -> BatchLoader | list[BatchLoader]:
        # Every process of a distributed run evaluates all of it: a metric such as ROC-AUC is no mean over shares.
        return [] if self.validates == "train" else self.whole(self.validates)

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        return batch  # the store cut it there

    def teardown(self, stage: str) -> None:
        pass

    def state_dict(self) -> dict[str, Any]:
        return {}
