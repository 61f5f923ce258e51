"""What a run trains: a model for its data, with optimiser and scheduler; and the store that batches are cut from."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from poolbench.config import Config
from poolbench.data.coarsen import PackedCoarsenings, Recipe, coarsen_dataset
from poolbench.data.paired import pair_of
from poolbench.data.prepared import Prepared
from poolbench.data.store import GraphStore
from poolbench.data.target import Target
from poolbench.learn import metrics
from poolbench.learn.build import build_model, build_optimizer, build_scheduler, check_monitor
from poolbench.learn.learner import Learner, learner_for
from poolbench.learn.trainer import build_trainer
from poolbench.linalg import RAW, Dense, Sparse
from poolbench.linalg.coarsening import Coarsening
from poolbench.nn.encoder import Channels
from poolbench.nn.model import DataFacts
from poolbench.pool.base.src import SRCPool
from poolbench.records.provenance import usable_cores
from poolbench.records.version import code_version
from poolbench.splitmix import mix


def set_threads(threads: int) -> None:
    """Threads of torch: the order of sums depends on it, so it is a part of a run's identity."""
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)


def drawn_by(config: Config, prepared: Prepared) -> int:
    """What a run draws its weights, batches and all else by: its seed, or another one in each fold."""
    fold = prepared.split.fold
    return config.seed if fold is None or prepared.fold_seeds == "shared" else mix(config.seed, 0xF01D, fold)


@dataclass(frozen=True)
class Trainable:
    """A model for its data, and what trains it. learner: the task; None for a graph kernel, which has no epochs."""

    model: Any
    learner: type[Learner] | None
    optimizer: torch.optim.Optimizer
    scheduler: Any | None

    @classmethod
    def of(cls, config: Config, prepared: Prepared) -> Trainable:
        """Build it; the weights are drawn by `drawn_by`.

        Of a protocol that compares pairs, what is built for the first one: each gets a model of its own.

        Raises `PoolBenchError` where model, protocol and data do not go together, and for what Lightning refuses.
        """
        if prepared.comparison is not None:
            prepared = pair_of(prepared, 0)
        set_threads(config.trainer.threads)
        build_trainer(config.trainer, [])
        torch.manual_seed(mix(drawn_by(config, prepared), 0))
        model: Any = build_model(config.model, config.pool, data_facts(prepared, config.k_from), config.names.pool)
        learner, parameters = None, []
        if model.task == "kernel":
            model.check(prepared)
        else:
            learner, parameters = learner_for(model, prepared.target, prepared.level), list(model.parameters())
            learner.check(prepared)
            _check_monitor(config.callbacks.monitor, learner.adapt(prepared, model).target)
        # An operator that stands alone may have no parameters, and nothing is trained.
        optimizer = build_optimizer(config.optimizer, parameters or [torch.nn.Parameter(torch.zeros(0))])
        return cls(model, learner, optimizer, build_scheduler(config.scheduler, optimizer))


def _check_monitor(monitor: str, target: Target) -> None:
    """Refuse a number that no epoch measures; auxiliary losses are the model's, and were looked at with it."""
    part, _, name = monitor.partition("/")
    if name.startswith("loss_"):
        return
    if part == "train":  # sums alone
        check_monitor(monitor, ["loss", "total_loss", *(["accuracy"] if target.kind == "classes" else [])])
    else:
        check_monitor(monitor, ["loss", "total_loss", *metrics.names(target)])


def packed_store(config: Config, prepared: Prepared, model: Any, device: torch.device, keep: bool = True) -> GraphStore:
    """The packed graphs with what the model asks of them. keep: in the cache, what was computed of them ahead."""
    raw, views = prepared.raw, model.requirements() - {RAW}
    edges = None if prepared.edges is None or not model.takes_edges else prepared.edges.values
    symmetric = raw.symmetric if prepared.weight is None else None
    pools = model.precomputed()
    coarsenings = None
    if pools:  # kept in the cache under the operator's code
        code = code_version([config.pool.target]) if keep else None
        coarsenings = coarsened(pools, prepared, code, config.paths.data)
    return GraphStore(prepared.x.values, raw.num_nodes, raw.edge_index, prepared.target.y, prepared.weight, views,
                      device, edges, prepared.level == "nodes", symmetric, coarsenings)  # fmt: skip


def data_facts(prepared: Prepared, k_from: Literal["mean", "largest"] | float) -> DataFacts:
    """What a model is told of the data. k_from: the size of graphs of which a ratio makes k, see `Config`."""
    raw, x, edges = prepared.raw, prepared.x, prepared.edges
    sizes = raw.num_nodes[prepared.train_graphs].double()
    size = sizes.mean() if k_from == "mean" else sizes.quantile(1.0 if k_from == "largest" else k_from)
    classes = None if raw.node_y is None else int(raw.node_y.max()) + 1
    return DataFacts(
        in_channels=x.values.shape[1],
        out_channels=prepared.target.outputs,
        mean_nodes=float(size),
        vocabulary=x.vocabulary,
        edges=None if edges is None else Channels(edges.values.shape[1], edges.vocabulary),
        classes=classes,
        sizes=raw.num_nodes[prepared.train_graphs].tolist(),
    )


def settings(pool: SRCPool) -> dict[str, Any]:
    """By what a pool's coarsenings are kept: its attributes that are one value each, the arguments among them."""
    plain = (bool, int, float, str, type(None))
    return {name: v for name, v in vars(pool).items() if isinstance(v, plain) and name != "training"}


def coarsened(
    pools: Sequence[SRCPool], prepared: Prepared, code: str | None, data: str | Path | None
) -> PackedCoarsenings:
    """What the pools make of the dataset's graphs, computed once and kept in the cache under `code`; None: not kept."""
    raw, weight = prepared.raw, prepared.weight
    recipe = None if code is None else _recipe(pools, prepared, code)
    steps = [partial(_coarsen, pool, level == 0) for level, pool in enumerate(pools)]
    symmetric = raw.symmetric if weight is None else False
    return coarsen_dataset(raw.num_nodes, raw.edge_index, steps, recipe, weight, symmetric, usable_cores(), data)


def _recipe(pools: Sequence[SRCPool], prepared: Prepared, code: str) -> Recipe:
    """By what these coarsenings are kept."""
    arguments, dataset = [settings(pool) for pool in pools], prepared.raw.fingerprint()
    if prepared.weight is not None:
        dataset = hashlib.sha256(dataset.encode() + prepared.weight.numpy().tobytes()).hexdigest()
    return Recipe(type(pools[0]).__name__, {"levels": arguments, "matrix": str(pools[0].connectivity)}, code, dataset)


def _coarsen(pool: SRCPool, first: bool, a: Sparse | Dense) -> Coarsening:
    view = a.view(pool.connectivity) if first else a
    assert isinstance(view, Sparse | Dense)
    return pool.coarsen(view)
