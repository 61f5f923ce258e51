"""Lightning modules: one base for what every task shares, and a few lines for each task."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, ClassVar

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor

from poolbench.data.prepared import Prepared
from poolbench.data.raw import RawGraphs
from poolbench.data.store import Batch
from poolbench.data.target import Target, nothing
from poolbench.errors import PoolBenchError
from poolbench.learn import clustering
from poolbench.learn.build import by_loss
from poolbench.learn.structure import signals
from poolbench.learn.tally import Answers, Tally
from poolbench.nn.model import GraphModel, ModelOutput
from poolbench.nn.spectral import Spectral
from poolbench.pool.base.src import Operator
from poolbench.records.record import PAIRED


class Learner(pl.LightningModule):
    """Base of the tasks: the task's loss plus the pool's auxiliary losses with their weights.

    Args:
        model: (x, a, edges) -> `ModelOutput`.
        optimizer: built by `learn.build`; the scheduler is stepped by `Keeper`, once an epoch.
        weights: one number for all auxiliary losses, or a mapping by name.
        target: what is to be predicted.
        ramp: epochs in which these weights rise from 0: one number for all, or a mapping by name.
    """

    #: The name that records carry.
    task: ClassVar[str]
    #: The metric that counts where the graphs carry no labels, and whether more is better.
    metric: ClassVar[tuple[str, str]] = ("loss", "min")

    def __init__(
        self,
        model: GraphModel,
        optimizer: torch.optim.Optimizer,
        weights: float | Mapping[str, float],
        target: Target,
        ramp: int | Mapping[str, int] = 0,
    ) -> None:
        super().__init__()
        self.model, self.optimizer, self.weights, self.target, self.ramp = model, optimizer, weights, target, ramp
        self.epoch = 0
        self._by_name: dict[str, float] | None = None
        self.tally = Tally(target)
        self._constrained = [m for m in model.modules() if isinstance(m, Operator)]

    @classmethod
    def check(cls, prepared: Prepared) -> None:
        """Raise `PoolBenchError` for data that this task cannot be done on."""

    @classmethod
    def adapt(cls, prepared: Prepared, model: GraphModel) -> Prepared:
        """The data as this task looks at it."""
        return prepared

    def task_loss(self, out: ModelOutput, batch: Batch) -> tuple[Tensor, Tensor | int]:
        """The loss, a mean over answers, and how many answers it is a mean over."""
        raise NotImplementedError

    def judge(self, raw: RawGraphs, batches: Iterable[Batch]) -> tuple[dict[str, float], Tensor | None]:
        """What only the trained model can be asked, with labels that training never saw; nothing for most tasks.

        Returns metrics, and the cluster of each node [N] where there are clusters.
        """
        return {}, None

    def forward(self, batch: Batch) -> ModelOutput:
        return self.model(batch.x, batch.a, batch.edges, batch.coarsenings)

    def training_step(self, batch: Batch, index: int) -> Tensor | None:
        out = self(batch)
        task, answers = self.task_loss(out, batch)
        if self._by_name is None:
            self._by_name = self._weighted(out.losses)
        total = task
        for name, value in out.losses.items():
            weight = self._by_name[name]
            if weight:
                total = total + value if weight == 1.0 else torch.add(total, value, alpha=weight)
        self.tally.add(out, batch, task, answers, total)
        return total if total.requires_grad else None  # a clustering that nothing trains is a control

    def evaluate(self, batch: Batch, tally: Tally) -> None:
        """One batch of an evaluation, added to `tally`."""
        out = self(batch)
        tally.add(out, batch, *self.task_loss(out, batch))

    def begin(self, epoch: int) -> None:
        """Train with the weights of the auxiliary losses that an epoch has."""
        self.epoch, self._by_name = epoch, None

    def _weighted(self, losses: Mapping[str, Tensor]) -> dict[str, float]:
        weights = by_loss("loss_weights", self.weights, losses, 1.0)
        for name, epochs in by_loss("loss_ramp", self.ramp, losses, 0).items():
            if self.epoch < epochs:
                weights[name] *= (1 - math.cos(math.pi * self.epoch / epochs)) / 2
        return weights

    def total(self, values: Mapping[str, float]) -> float:
        """The loss that is minimised, of the means that an evaluation came to after training began."""
        assert self._by_name is not None
        return values["loss"] + sum(weight * values[f"loss_{name}"] for name, weight in self._by_name.items())

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        for module in self._constrained:
            module.apply_constraints()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.optimizer


class GraphClassification(Learner):
    """One class a graph, several yes/no questions (those without an answer count for nothing), or a sequence of words:
    cross-entropy."""

    task = "graph-classification"

    def task_loss(self, out: ModelOutput, batch: Batch) -> tuple[Tensor, Tensor | int]:
        y = batch.y
        if self.target.kind == "classes":
            return F.cross_entropy(out.y, y), y.shape[0]
        if self.target.kind == "words":
            return F.cross_entropy(out.y.reshape(y.numel(), -1), y.reshape(-1)), y.shape[0]
        known = ~torch.isnan(y)
        each = F.binary_cross_entropy_with_logits(out.y, torch.where(known, y, 0.0), reduction="none")
        return _mean_of_known(each, known)


class GraphRegression(Learner):
    """Numbers a graph: the mean squared or absolute error, values that are not known left out."""

    task = "graph-regression"

    def task_loss(self, out: ModelOutput, batch: Batch) -> tuple[Tensor, Tensor | int]:
        known = ~torch.isnan(batch.y)
        difference = out.y - torch.where(known, batch.y, 0.0)
        return _mean_of_known(difference.abs() if self.target.loss == "l1" else difference.square(), known)


class NodeClassification(Learner):
    """One class a node, those without one (-1) left out: cross-entropy."""

    task = "node-classification"

    def task_loss(self, out: ModelOutput, batch: Batch) -> tuple[Tensor, Tensor | int]:
        known = batch.y >= 0
        return _mean_of_known(F.cross_entropy(out.y, batch.y, ignore_index=-1, reduction="none"), known)


class PairComparison(Learner):
    """The embeddings of the two graphs of a pair, side by side in a batch: max(0, cos), so that they part."""

    task = PAIRED
    metric = ("pairs", "max")

    def task_loss(self, out: ModelOutput, batch: Batch) -> tuple[Tensor, Tensor | int]:
        a, b = out.y[0::2], out.y[1::2]
        return F.cosine_embedding_loss(a, b, a.new_full((1,), -1.0)), a.shape[0]


class Unlabelled(Learner):
    """Base of the tasks that look at no labels of graphs, whether there are any or not."""

    @classmethod
    def adapt(cls, prepared: Prepared, model: GraphModel) -> Prepared:
        return replace(prepared, target=nothing(prepared.raw))


class NodeClustering(Unlabelled):
    """Clusters of nodes from the operator's own losses; y of the output is the assignment [n, k].

    Classes of nodes touch nothing but `judge`, once, after training.
    """

    task = "node-clustering"
    metric = ("nmi", "max")

    @classmethod
    def check(cls, prepared: Prepared) -> None:
        if prepared.split.val.numel() or prepared.split.test.numel():
            raise PoolBenchError("clusters are judged on the graphs that they were learnt from: add protocol=cluster")

    def task_loss(self, out: ModelOutput, batch: Batch) -> tuple[Tensor, Tensor | int]:
        return out.y.new_zeros(()), batch.num_graphs

    def judge(self, raw: RawGraphs, batches: Iterable[Batch]) -> tuple[dict[str, float], Tensor | None]:
        assignment = torch.cat([self(batch).y.detach().cpu() for batch in batches])
        cluster = assignment.argmax(-1)
        found = clustering.by_itself(cluster, raw.edge_index, assignment.shape[1])
        if raw.node_y is not None:
            found = {**clustering.against_classes(cluster, raw.node_y), **found}
        return found, cluster


class Reconstruction(Unlabelled):
    """The node features again, after pooling and lifting: the mean squared error over nodes and features."""

    task = "reconstruction"

    def task_loss(self, out: ModelOutput, batch: Batch) -> tuple[Tensor, Tensor | int]:
        return F.mse_loss(out.y, batch.x.to(out.y.dtype)), batch.x.shape[0]


class StructurePreservation(Unlabelled):
    """The quadratic form of the Laplacian after pooling: |x' L x - x'_p L_p x_p|, the mean over signals and graphs.

    Grattarola et al., TNNLS 2022, arXiv 2110.05292, section "preserving structure".
    """

    task = "structure-preservation"

    @classmethod
    def adapt(cls, prepared: Prepared, model: GraphModel) -> Prepared:
        assert isinstance(model, Spectral)
        x = signals(prepared.raw, prepared.x, prepared.weight, model.eigenvectors)
        return replace(super().adapt(prepared, model), x=x)

    def task_loss(self, out: ModelOutput, batch: Batch) -> tuple[Tensor, Tensor | int]:
        return out.y.abs().mean(), batch.num_graphs


def _mean_of_known(each: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    count = known.sum()
    return (each * known).sum() / count.clamp(min=1), count


def learner_for(model: GraphModel, target: Target, level: str = "graphs") -> type[Learner]:
    """The task that a model and a dataset's labels make. Raises `PoolBenchError` where they do not go together.

    Args:
        level: what has the labels, `graphs` or `nodes` (`Protocol.level`).
    """
    if target.kind == "pairs":
        if model.task != "graphs":
            raise PoolBenchError("protocol=brec compares embeddings of graphs: add model=hierarchical or model=global")
        return PairComparison
    if (model.task == "nodes") != (level == "nodes"):
        raise PoolBenchError(
            "an answer a node takes both protocol=nodes and a model for it, such as model=unet model.nodes=true"
        )
    if model.task == "clusters":
        return NodeClustering
    if model.task == "reconstruction":
        return Reconstruction
    if model.task == "structure":
        return StructurePreservation
    if target.kind == "none":
        raise PoolBenchError(
            "this dataset's graphs carry no labels: add model=clusterer protocol=cluster, "
            "or model=autoencoder protocol=fit"
        )
    if level == "nodes":
        return NodeClassification
    return GraphRegression if target.kind == "numbers" else GraphClassification


@torch.no_grad()
def evaluate(module: Learner, batches: Iterable[Batch], seed: int, answers: Answers | None = None) -> dict[str, float]:
    """Metrics of a trained module over some batches, in evaluation mode, draws seeded. Plain, outside the Trainer.

    Args:
        answers: filled in with what is predicted, where it is given.
    """
    torch.manual_seed(seed)
    was_training, tally = module.training, Tally(module.target, answers)
    module.eval()
    for batch in batches:
        module.evaluate(batch, tally)
    module.train(was_training)
    return tally.means()
