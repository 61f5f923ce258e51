"""A trained model out of a record and the weights beside it, and what it predicts."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from poolbench.audit.encoding import encoded
from poolbench.audit.rerun import find
from poolbench.audit.trust import Trust
from poolbench.config import Config, read
from poolbench.data.dataset import GraphDataset
from poolbench.data.features import Features
from poolbench.data.prepared import Prepared
from poolbench.data.raw import RawGraphs
from poolbench.data.scaling import scaled_by
from poolbench.data.sources.own_graphs import raw_graphs
from poolbench.data.store import BatchLoader, GraphStore
from poolbench.errors import PoolBenchError, RunError, one_line
from poolbench.jobs.weights import Weights
from poolbench.learn.build import build_dataset, build_model, build_perturbation
from poolbench.learn.locate import build_protocol
from poolbench.linalg import RAW
from poolbench.nn.model import GraphModel
from poolbench.records.attempts import WEIGHTS, attempt_folders, run_folder
from poolbench.records.changes import upgrade
from poolbench.records.record import MEASURED, PARTS, RECORD, Record, read_record
from poolbench.records.version import installed_code
from poolbench.splitmix import mix

KEEP = "do it again with callbacks.keep_weights=true force=true"
ASKED = 0x7E57
"""What evaluations draw by, beside the seed of a run: as `learn.train` has it."""


def load(run: str | Path, trust: Trust, paths: Mapping[str, Any], results: Path = Path("results")) -> Trained:
    """The trained model of a run that was done with `callbacks.keep_weights=true`.

    Args:
        run: the folder of the run or of an attempt, its record.json, or its id in `results`. trust: what the record may
            ask for. paths: `data` and `mirror`.

    Raises `PoolBenchError` where there are no weights, where they do not fit, and for a record that asks for what is
    not done for one.
    """
    folder, record = _kept(run, results)
    trust.check(record.config)
    config = read({**upgrade(record.config), "paths": {**paths, "results": str(results)}, "logger": None})
    path = folder / WEIGHTS
    weights = Weights.read(path)
    if (weights.about.run, weights.about.attempt) != (record.id, record.attempt):
        raise PoolBenchError(f"{path} is of run {weights.about.run}, and lies beside the record of {record.id}")
    trust.check_size(config, weights.facts)
    with torch.random.fork_rng(devices=[]):
        model = build_model(config.model, config.pool, weights.facts, config.names.pool)
    if not isinstance(model, torch.nn.Module):
        raise PoolBenchError(f"run {record.id} is of a graph kernel, which has no weights")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # as in `Weights.read`
            model.load_state_dict(dict(weights.values))
    except RuntimeError as error:
        raise PoolBenchError(f"{path} does not fit the model of its record: {one_line(error)}") from error
    return Trained(record, config, model.eval(), weights)


def _kept(run: str | Path, results: Path) -> tuple[Path, Record]:
    """The folder and the record of the last attempt that is done and kept its weights."""
    place = Path(run)
    place = place.parent if place.is_file() else place if place.is_dir() else run_folder(results, str(run))
    folders = [place] if (place / RECORD).is_file() else attempt_folders(place)
    try:
        held = [(folder, read_record(folder / RECORD)) for folder in folders if (folder / RECORD).is_file()]
    except RunError as error:
        raise PoolBenchError(str(error)) from error
    kept = [(folder, record) for folder, record in held if record.done and (folder / WEIGHTS).is_file()]
    if kept:
        return kept[-1]
    last = held[-1][1] if held else find(str(run), results)
    why = "kept no weights" if last.done else f"is {last.status} and has no weights"
    raise PoolBenchError(f"run {last.id} {why}: {KEEP} (poolbench rerun {last.id} --command says how)")


@dataclass(frozen=True)
class Answers:
    """What a model says of graphs, or of their nodes: a row for each.

    graph, node: [m] int64, which one; node is its number within the graph, None where graphs are asked for. part: [m]
    of the split that the model was trained on; None for other graphs. y: [m] or [m, T] what is known; None where it is
    not. values: [m, C] probabilities of the classes (clusters), [m, T] of a yes to each question, or numbers.
    predicted: [m] the class or cluster; None where there are none.
    """

    graph: Tensor
    node: Tensor | None
    part: list[str] | None
    y: Tensor | None
    values: Tensor
    predicted: Tensor | None


@dataclass(frozen=True, repr=False)
class Trained:
    """A model with the weights of its run's selected epoch, in evaluation mode, on the CPU."""

    record: Record
    config: Config
    model: GraphModel
    weights: Weights

    def __repr__(self) -> str:
        names = self.config.names
        of = f"{names.pool} in {names.model} on {names.dataset}"
        return f"Trained(run {self.record.id}, attempt {self.record.attempt}: {of})"

    @property
    def note(self) -> str | None:
        """What is to be said where the installed code is another one than the record's."""
        then, now = self.weights.about.code, installed_code(self.record.config)
        if then == now:
            return None
        return (
            f"run {self.record.id} was done by version {then} of the code, and {now} is installed: answers may differ"
        )

    @cached_property
    def dataset(self) -> GraphDataset:
        """The dataset that the run was trained on; nothing is read yet."""
        return build_dataset(self.config.dataset, self.config.paths.data, self.config.paths.mirror)

    @property
    def asks(self) -> str:
        """What an answer is: `classes`, `binary`, `numbers`, or `clusters` of nodes.

        Raises `PoolBenchError` for a task that has no such answers.
        """
        task, kind = self.model.task, self.weights.about.kind
        if task == "clusters":
            return task
        if task not in ("graphs", "nodes") or kind not in ("classes", "binary", "numbers"):
            said = self.record.task if kind != "words" else "prediction of words"
            raise PoolBenchError(f"run {self.record.id} is a {said}: it has no answers to be predicted")
        return kind

    @property
    def of_nodes(self) -> bool:
        """Whether an answer is a node's, and not a graph's."""
        return self.weights.about.level == "nodes" or self.model.task == "clusters"

    def predict(self, graphs: Any) -> Tensor:
        """What the model says of graphs: [G, C] the probability of each class, [G, T] that of a yes to each question,
        or [G, T] numbers; of nodes, [N, ...] over all graphs.

        Args:
            graphs: a list of `torch_geometric.data.Data` or networkx graphs, with features as those of training.

        Raises `PoolBenchError` for other features, and for a category that no graph of training had.
        """
        return self.answers(raw_graphs("the graphs given", graphs)).values

    def answers(self, raw: RawGraphs) -> Answers:
        """The same of graphs that were read; they are taken as they are, whatever `perturb` did in training."""
        self.asks  # noqa: B018 (refuses)
        x, edges, weight = self._read(raw)
        by = self.weights.scaling
        if by is None and self.config.feature_scale is not None:
            raise PoolBenchError(
                f"run {self.record.id} kept its weights without what its features were scaled by: do it again with "
                "callbacks.keep_weights=true force=true"
            )
        store = self._store(raw, x, edges, weight, by)
        out = self._ask(store, torch.arange(raw.num_graphs), mix(self.config.seed, ASKED, PARTS.index("test")))
        return self._answers(raw, torch.arange(len(out)), out)

    def own_answers(self) -> Answers:
        """The same of the graphs that the run was trained, validated and tested on, in the batches and from the draws
        of the run's own evaluation: metrics of it are those of the record, to the bit on the same machine.

        Raises `PoolBenchError` where the data cannot be had, or is another one.
        """
        clusters = self.asks == "clusters"
        from poolbench.learn.trainable import drawn_by  # and with it Lightning

        paths, record = self.config.paths, self.record
        protocol = build_protocol(self.config.protocol, self.config.split.seed, paths.data, paths.mirror)
        data = Prepared.of(self.dataset, protocol, self.config.fold, build_perturbation(self.config.perturb),
                           self.config.feature_scale)  # fmt: skip
        if (data.fingerprint, data.split.hash) != (record.splits.dataset, record.splits.hash):
            raise PoolBenchError(
                f"dataset {self.config.dataset_name} has another content or split here than in run {record.id}; "
                "name the graphs to predict after the run"
            )
        raw, seed = data.raw, drawn_by(self.config, data)
        store, everything = self._store(raw, data.x, data.edges, data.weight), torch.arange(raw.num_graphs)
        if clusters:
            out = self._ask(store, everything, mix(seed, ASKED, len(PARTS)))
            rows, parts = torch.arange(len(out)), ["train"] * len(out)
            return self._answers(raw, rows, out, parts, raw.node_y)
        found: list[tuple[Tensor, str, Tensor]] = []
        for number, (name, chosen) in enumerate(_parts(data)):
            if chosen.numel():
                out = self._ask(store, everything if self.of_nodes else chosen, mix(seed, ASKED, number))
                found.append((chosen, name, out[chosen] if self.of_nodes else out))
        rows, order = torch.cat([chosen for chosen, _, _ in found]).sort()
        names = [name for chosen, name, _ in found for _ in range(len(chosen))]
        out = torch.cat([out for _, _, out in found])[order]
        return self._answers(raw, rows, out, [names[at] for at in order.tolist()], data.target.y)

    def _read(self, raw: RawGraphs) -> tuple[Features, Features | None, Tensor | None]:
        """Features of nodes and edges, and weights of edges, as the run's dataset makes them of graphs."""
        dataset = self.dataset
        try:
            return dataset.node_features(raw), dataset.edge_features(raw), dataset.edge_weight(raw)
        except PoolBenchError:
            raise
        except Exception as error:  # a dataset that knows its own files alone
            raise PoolBenchError(
                f"{raw.name}: these graphs have not what dataset {self.config.dataset_name} makes features of "
                f"({type(error).__name__}: {one_line(error)})"
            ) from error

    def _store(
        self, raw: RawGraphs, x: Features, edges: Features | None, weight: Tensor | None, by: Tensor | None = None
    ) -> GraphStore:
        """by: what scales node features that are not scaled yet."""
        about = self.weights.about
        nodes = encoded(x, about.x, raw.total_nodes, f"{raw.name}: x")
        nodes = nodes if by is None else scaled_by(nodes, by)
        held = None
        if about.edges is not None and self.model.takes_edges:
            held = encoded(edges, about.edges, raw.num_edges, f"{raw.name}: edge_attr")
        symmetric = raw.symmetric if weight is None else None
        y = torch.zeros(raw.num_graphs, dtype=torch.int64)
        return GraphStore(nodes, raw.num_nodes, raw.edge_index, y, weight, self.model.requirements() - {RAW}, "cpu",
                          held, symmetric=symmetric)  # fmt: skip

    @torch.no_grad()
    def _ask(self, store: GraphStore, graphs: Tensor, seed: int) -> Tensor:
        """Outputs of the model for some graphs, from the draws of a seed. The order of sums hangs on the threads, which
        are those of the run meanwhile."""
        threads = torch.get_num_threads()
        torch.set_num_threads(self.config.trainer.threads)
        try:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                self.model.eval()
                batches = BatchLoader(store, graphs, self.config.batch_size)
                return torch.cat([self.model(each.x, each.a, each.edges, each.coarsenings).y for each in batches])
        finally:
            torch.set_num_threads(threads)

    def _answers(
        self, raw: RawGraphs, rows: Tensor, out: Tensor, part: list[str] | None = None, y: Tensor | None = None
    ) -> Answers:
        """rows: the graphs or nodes that `out` has an output for. y: of all graphs or nodes."""
        asks, node, graph = self.asks, None, rows
        if self.of_nodes:
            of = torch.repeat_interleave(torch.arange(raw.num_graphs), raw.num_nodes)
            graph, start = of[rows], raw.num_nodes.cumsum(0) - raw.num_nodes
            node = rows - start[graph]
        predicted = out.argmax(-1) if asks in ("classes", "clusters") else None
        values = {"classes": lambda: out.softmax(-1), "binary": out.sigmoid}.get(asks, lambda: out)()
        return Answers(graph, node, part, None if y is None else y[rows], values, predicted)


def _parts(data: Prepared) -> Iterator[tuple[str, Tensor]]:
    """The parts of a split, in the order in which a run measures them, and what is in none."""
    for name in MEASURED:
        yield name, getattr(data.split, name)
    yield "", data.split.unused
