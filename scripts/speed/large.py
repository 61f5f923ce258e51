"""Clustering of one large planted-partition graph with MinCut: seconds a step and memory against edges."""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from poolbench.data.generators.plantednodes import PlantedNodes
from poolbench.data.store import GraphStore
from poolbench.errors import RunError
from poolbench.linalg import GCN as GCN_MATRIX
from poolbench.linalg import SYMMETRIC
from poolbench.nn.message_passing import GCN
from poolbench.pool.mincut import MinCutPool
from speed import tables
from speed.contestant import peak_memory, reset_peak, synchronise
from speed.harness import exponent, middle, workers
from speed.report import Report, base_setting, memory_limit
from speed.setting import Setting

NODES, DEGREE, CLUSTERS = 1_000_000, 20.0, 16
PARTS = (0.125, 0.25, 0.5, 1.0)
PREFIX = "planted-nodes:"


class Clustering:
    """GCN - MinCut on one graph of `planted-nodes:<nodes>`, trained on MinCut's losses, in a process of its own."""

    def __init__(self, setting: Setting) -> None:
        self.device = setting.device
        nodes = int(setting.dataset.removeprefix(PREFIX))
        dataset = PlantedNodes(num_nodes=nodes, degree=DEGREE, communities=setting.k or CLUSTERS, seed=setting.seed)
        raw = dataset.load()
        x = dataset.node_features(raw).values.float()
        self.edges = raw.num_edges // 2
        self.reading = peak_memory("cpu")
        reset_peak(self.device)
        start = time.perf_counter()
        views = (GCN_MATRIX, SYMMETRIC)
        none = torch.zeros(1, dtype=torch.int64)
        store = GraphStore(x, raw.num_nodes, raw.edge_index, none, connectivities=views, device=self.device)
        self.batch = store.batch(none)
        del store, raw, dataset, x  # the batch holds what training needs
        self.prepared = time.perf_counter() - start
        torch.manual_seed(setting.seed)
        self.conv = GCN(self.batch.x.shape[1], setting.hidden)
        self.pool = MinCutPool(setting.k or CLUSTERS, in_channels=setting.hidden)
        self.model = nn.ModuleList([self.conv, self.pool]).to(self.device)
        self.optimiser = torch.optim.Adam(self.model.parameters(), lr=1e-3, fused=True)

    def loss(self) -> Tensor:
        a = self.batch.a
        out = self.pool(self.conv(self.batch.x, a).relu(), a.view(self.pool.connectivity))
        return torch.stack(list(out.losses.values())).sum()

    def step(self) -> float:
        """Seconds of one step."""
        synchronise(self.device)
        start = time.perf_counter()
        self.loss().backward()
        self.optimiser.step()
        self.optimiser.zero_grad()
        synchronise(self.device)
        return time.perf_counter() - start

    def facts(self) -> dict[str, Any]:
        """Sizes, seconds of the preparation, and the most bytes held: while `reading` the graph, and from then on."""
        return {"nodes": self.batch.x.shape[0], "edges": self.edges, "prepared": self.prepared,
                "reading": self.reading, "memory": peak_memory(self.device)}  # fmt: skip


def measure(options: argparse.Namespace, report: Report) -> None:
    """A row a size, and the exponents against edges."""
    full = NODES // 100 if options.quick else NODES
    lines, edges, times, peaks = [], [], [], []
    for part in PARTS:
        setting = replace(base_setting(options), pool="mincut", dataset=f"{PREFIX}{int(full * part)}", k=CLUSTERS)
        try:
            with workers() as start:
                worker = start("large.Clustering", setting, memory_limit(options), options.limit)
                seconds = [worker.call("step") for _ in range(options.warmup + options.epochs)][options.warmup :]
                facts = worker.call("facts")
        except RunError as error:
            lines.append([setting.dataset, str(error), *[""] * 5])
            continue
        report.keep({"setting": setting.as_dict(), "seconds": seconds, **facts})
        step = middle(seconds) or 0.0
        edges.append(facts["edges"])
        times.append(step)
        peaks.append(facts["memory"])
        lines.append([f"{facts['nodes']:,}", f"{facts['edges']:,}", f"{facts['prepared']:.2f} s", f"{step:.3f} s",
                      f"{min(seconds):.3f} to {max(seconds):.3f}", tables.size(facts["memory"]),
                      tables.size(facts["reading"])])  # fmt: skip
    fitted = ["" if p is None else f"{p:.2f}" for p in (exponent(edges, times), exponent(edges, peaks))]
    lines.append(["exponent against edges", "", "", fitted[0], "", fitted[1], ""])
    head = ["nodes", "edges", "prepared once", "step", "spread", "peak of the process", "while the graph was made"]
    report.show(f"MinCut, K = {CLUSTERS}, hidden {options.hidden}", tables.table(head, lines))
