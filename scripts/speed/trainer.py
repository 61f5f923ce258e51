"""What the Trainer costs: an epoch inside Lightning, with metrics, curve and checkpoints, less the bare loop."""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from statistics import median

import torch

from poolbench.config import Callbacks, Config, Names, Part, Paths, Split, Trainer
from poolbench.data.generators.synthetic import PlantedGraphs
from poolbench.data.prepared import Prepared
from poolbench.data.protocols import Holdout
from poolbench.data.sources.tu import TUDataset
from poolbench.data.store import GraphStore
from poolbench.errors import PoolBenchError, RunError
from poolbench.learn.build import build_model, build_optimizer
from poolbench.learn.datamodule import GraphData
from poolbench.learn.learner import learner_for
from poolbench.learn.loggers import Loggers, RunInfo
from poolbench.learn.train import train
from poolbench.learn.trainable import Trainable, data_facts
from poolbench.linalg import RAW
from poolbench.splitmix import mix
from speed import tables, work
from speed.contestant import synchronise
from speed.forms import FORMS
from speed.harness import workers
from speed.report import Report, base_setting, memory_limit
from speed.setting import Setting

#: Promised: the most that the Trainer adds to a step, and to an epoch beyond its steps, in milliseconds.
STEP, EPOCH = 0.6, 5.0


class Pair:
    """The same model, data and order in the Trainer and in a bare loop, in one process, turn by turn."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        dataset = PlantedGraphs() if setting.dataset == "planted" else TUDataset(setting.dataset)
        self.prepared = Prepared.of(dataset, Holdout(setting.seed), None)

    def config(self, epochs: int, every: float) -> Config:
        """A configuration: one level, as the benchmark's classifier has it, and conf/'s other choices."""
        s = self.setting
        model = {"mp": "gcn", "levels": 1, "hidden": s.hidden, "head_layers": 1,
                 "readout": {"_target_": "poolbench.pool.readouts.globalpool.GlobalSumPool"}}  # fmt: skip
        return Config(
            seed=s.seed,
            split=Split(s.seed),
            fold=None,
            batch_size=s.batch_size,
            loss_weights=1.0,
            loss_ramp=0,
            k_from="mean",
            feature_scale=None,
            evaluate_test=False,
            force=False,
            group=None,
            tags=[],
            names=Names(s.pool, "hierarchical", s.dataset, "holdout"),
            pool=Part(FORMS[s.pool][""].target, {"ratio": s.ratio} if s.pool != "none" else {}),
            model=Part("poolbench.nn.hierarchical.Hierarchical", model),
            protocol=Part("poolbench.data.protocols.Holdout", {}),
            dataset=Part("poolbench.data.sources.tu.TUDataset", {"name": s.dataset}),
            optimizer=Part("torch.optim.Adam", {"lr": 1e-3, "fused": True}),
            scheduler=None,
            trainer=Trainer(
                accelerator="gpu" if s.device.startswith("cuda") else "cpu",
                devices=1,
                strategy="auto",
                precision="32-true",
                max_epochs=epochs,
                gradient_clip_val=None,
                deterministic=True,
                threads=s.threads,
                compile=False,
            ),
            callbacks=Callbacks("auto", "auto", 10**6, 0.0, "first", every, "none", 0, False),
            logger=None,
            paths=Paths("results", None, None),
        )

    def trainer(self, epochs: int, every: float) -> dict[str, list[float]]:
        """Seconds of each epoch but the first inside the Trainer: in all, and of its training steps.

        every: seconds between two resume checkpoints at the least; 0 writes one each epoch.
        """
        config, ends, steps = self.config(epochs, every), [], []
        with tempfile.TemporaryDirectory() as name:
            logger = Loggers(RunInfo("benchmark", 0, Path(name)))

            def each(epoch: int, row: dict[str, float]) -> None:
                logger.log(epoch, row)
                ends.append(time.perf_counter())
                steps.append(row["time"])

            try:
                train(config, self.prepared, Trainable.of(config, self.prepared), resume=Path(name) / "resume.pt",
                      identity="benchmark", on_epoch=each)  # fmt: skip
            finally:
                logger.finish()
        return {"whole": [b - a for a, b in pairwise(ends)], "steps": steps[1:]}

    def bare(self, epochs: int) -> dict[str, list[float]]:
        """The same in a bare loop: forward, loss, backward, optimiser; and one pass over the validation graphs."""
        config, seed = self.config(epochs, 0.0), self.setting.seed
        prepared, raw = self.prepared, self.prepared.raw
        torch.manual_seed(mix(seed, 0))
        model = build_model(config.model, config.pool, data_facts(prepared, config.k_from)).to(self.setting.device)
        optimiser = build_optimizer(config.optimizer, model.parameters())
        module = learner_for(model, prepared.target)(model, optimiser, 1.0, prepared.target)

        def store(device: torch.device) -> GraphStore:
            views = model.requirements() - {RAW}
            return GraphStore(prepared.x.values, raw.num_nodes, raw.edge_index, prepared.target.y, None, views,
                              self.setting.device)  # fmt: skip

        data = GraphData(store, prepared.split, self.setting.batch_size, seed, prepared.validates)
        training, validation = data.loader("train", shuffle=True), data.loader(prepared.validates)
        whole, steps = [], []
        for epoch in range(epochs):
            training.epoch = epoch
            torch.manual_seed(mix(seed, 1 + epoch))
            start = self._now()
            for batch in training:
                out = module(batch)
                total, _ = module.task_loss(out, batch)
                for value in out.losses.values():
                    total = total + value
                total.backward()
                optimiser.step()
                optimiser.zero_grad()
            trained = self._now()
            module.eval()
            with torch.no_grad():
                for batch in validation:
                    module.task_loss(module(batch), batch)
            module.train()
            whole.append(self._now() - start)
            steps.append(trained - start)
        return {"whole": whole[1:], "steps": steps[1:]}

    def facts(self) -> dict[str, int]:
        graphs = self.prepared.split.train.numel()
        return {"training graphs": graphs, "steps": -(-graphs // self.setting.batch_size)}

    def _now(self) -> float:
        synchronise(self.setting.device)
        return time.perf_counter()


def measure(options: argparse.Namespace, report: Report) -> None:
    """A row a dataset, batch size and operator: milliseconds that the Trainer adds to a step and to an epoch."""
    lines = []
    datasets = [name for name in options.datasets if not name.startswith(work.GENERATED)]
    if not datasets:
        raise PoolBenchError("--trainer --datasets: a TU dataset or planted is expected: the Trainer loads it by name")
    for dataset in datasets:
        for size in options.batch_size:
            for pool in options.pools:
                setting = replace(base_setting(options), pool=pool, dataset=dataset, batch_size=size)
                lines.append(_line(setting, options, report))
    head = ["run", "steps", "bare step, ms", "Trainer's step, ms", "a step more", "an epoch more", "with a checkpoint"]
    promise = f"Promised: at most {STEP} ms a step and {EPOCH} ms an epoch (a checkpoint is written every 5 s at most)."
    report.show(tables.table(head, lines), promise)


def _line(setting: Setting, options: argparse.Namespace, report: Report) -> list[str]:
    name = f"{setting.pool}, {setting.dataset}, batches of {setting.batch_size}"
    turns = {"bare": ("bare", {}), "Trainer": ("trainer", {"every": 5.0}), "checkpoint": ("trainer", {"every": 0.0})}
    times: dict[str, dict[str, list[float]]] = {turn: {"whole": [], "steps": []} for turn in turns}
    epochs = 1 + max(2, options.epochs)
    try:
        with workers() as start:
            pair = start("trainer.Pair", setting, memory_limit(options), options.limit)
            facts = pair.call("facts")
            for _ in range(3):
                for turn, (method, args) in turns.items():
                    for key, values in pair.call(method, epochs=epochs, **args).items():
                        times[turn][key] += values
    except RunError as error:
        return [name, str(error), *[""] * 5]
    report.keep({"setting": setting.as_dict(), "facts": facts, "times": times})
    step = {turn: 1e3 * median(values["steps"]) / facts["steps"] for turn, values in times.items()}
    rest = {turn: 1e3 * median(w - s for w, s in zip(values["whole"], values["steps"], strict=True))
            for turn, values in times.items()}  # fmt: skip
    return [
        name,
        str(facts["steps"]),
        f"{step['bare']:.3f}",
        f"{step['Trainer']:.3f}",
        f"{step['Trainer'] - step['bare']:+.3f} ms",
        f"{rest['Trainer'] - rest['bare']:+.2f} ms",
        f"{rest['checkpoint'] - rest['bare']:+.2f} ms",
    ]
