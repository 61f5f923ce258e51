"""PoolBench's side of the benchmark."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager

from torch import Tensor, nn

from poolbench.data.store import Batch, GraphStore
from poolbench.linalg import GCN as GCN_MATRIX
from poolbench.linalg import RAW, Dense
from poolbench.nn.message_passing import GCN
from poolbench.pool import hosc, maxcut
from poolbench.pool.base.mlppool import MLPPool
from poolbench.pool.base.selection import DenseSelection
from poolbench.pool.base.src import SRCPool
from poolbench.pool.bnpool import BNPool
from poolbench.pool.diffpool import DiffPool
from poolbench.pool.readouts.globalpool import GlobalSumPool
from speed.ahead import coarsened
from speed.chance import without_draws
from speed.contestant import Output, TorchContestant
from speed.forms import FORMS, build_operator
from speed.phases import Timer
from speed.work import Work


class Classifier(nn.Module):
    """GCN - operator - GCN - sum - linear."""

    def __init__(self, features: int, hidden: int, classes: int, pool: SRCPool) -> None:
        super().__init__()
        self.conv1, self.pool = GCN(features, hidden), pool
        self.conv2 = GCN(pool.out_channels(hidden), hidden)
        self.readout, self.head = GlobalSumPool(), nn.Linear(hidden, classes)

    def forward(self, batch: Batch) -> Output:
        x = self.conv1(batch.x, batch.a).relu_()
        coarsening = batch.coarsenings[0] if batch.coarsenings else None
        out = self.pool(x, batch.a.view(self.pool.connectivity), coarsening=coarsening)
        x = self.conv2(out.x, out.a).relu_()
        y = self.head(self.readout(x, out.a.nodes))
        graph = out.a.nodes.index if out.x.ndim == 2 else None
        return Output(y, list(out.losses.values()), out.x, graph)


class PoolBench(TorchContestant):
    """PoolBench as its models use it: a packed store; views, and what can be precomputed, computed once a dataset."""

    model: Classifier

    def make(self, features: int, classes: int) -> tuple[nn.Module, dict[str, nn.Parameter]]:
        s = self.setting
        pool, named = build_operator(s.pool, s.form, self.k, s.ratio, s.hidden)
        model = Classifier(features, s.hidden, classes, pool)
        for name, layer in (("conv1", model.conv1), ("conv2", model.conv2)):
            named |= {f"{name}.weight": layer.weight.get_parameter("weight"), f"{name}.bias": layer.bias}
        return model, named | {f"head.{name}": weight for name, weight in model.head.named_parameters()}

    def hold(self, graphs: Work) -> GraphStore:
        s, pool = self.setting, self.model.pool
        form, views = FORMS[s.pool][s.form], {GCN_MATRIX, pool.connectivity} - {RAW}
        ahead = coarsened(form, pool, graphs, graphs is self.work) if form.ahead and pool.precomputable else None
        return GraphStore(graphs.x, graphs.num_nodes, graphs.edge_index, graphs.y, connectivities=views,
                          device=s.device, coarsenings=ahead)  # fmt: skip

    def without_chance(self) -> AbstractContextManager[None]:
        return without_draws()

    def batches(self, data: GraphStore, order: list[Tensor]) -> Iterable[Batch]:
        return data.batches(order)

    def instrument(self, timer: Timer) -> None:
        instrument(self.model, timer)


def instrument(model: Classifier, timer: Timer) -> None:
    """Book the parts of a step. Of an operator's own `select` and `connect`, what is not in its base is its losses."""
    for layer, phase in ((model.conv1, "message passing"), (model.conv2, "message passing"),
                         (model.readout, "readout"), (model.head, "readout")):  # fmt: skip
        timer.wrap(layer, "forward", phase)
    pool = model.pool
    has_base = isinstance(pool, MLPPool)
    own_select = has_base and type(pool).select is not MLPPool.select
    timer.wrap(pool, "select", "losses" if own_select else "select")
    timer.wrap(pool, "restore", "select")
    timer.wrap(pool, "reduce", "reduce")
    timer.wrap(pool, "connect", "losses" if has_base or isinstance(pool, DiffPool) else "connect")
    for owner, method, phase in (
        (MLPPool, "select", "select"),
        (MLPPool, "connect", "connect"),
        (DenseSelection, "connect", "connect"),
        (Dense, "without_diagonal", "connect"),
        (Dense, "normalize", "connect"),
        (hosc, "post_process", "connect"),
        (maxcut, "cut", "losses"),
        *((BNPool, method, "losses") for method in ("_quality", "_sampled", "_divergence", "_prior")),
    ):
        if owner is not Dense or has_base:  # elsewhere these are called in phases of their own
            timer.wrap(owner, method, phase)
