"""Spektral's side of the benchmark: its layers in batch mode, and a compiled TensorFlow step."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from scipy.sparse import csr_matrix
from spektral.data.utils import to_batch
from spektral.layers import DiffPool, GCNConv, GraphMasking, JustBalancePool, MinCutPool
from torch import Tensor, as_tensor

from poolbench.linalg import GCN, RAW, Connectivity, Ragged, Sparse
from speed.contestant import Contestant
from speed.forms import build_operator
from speed.phases import Stopwatch
from speed.setting import Setting
from speed.work import Work

LAYERS = {"mincut": MinCutPool, "diffpool": DiffPool, "justbalance": JustBalancePool}


class Held(NamedTuple):
    """Graphs as lists: features, the matrix of the graph convolution, that of the operator, classes."""

    x: list[Any]
    gcn: list[Any]
    pool: list[Any]
    y: Any


class Classifier(tf.keras.Model):
    """GCN - operator - GCN - sum - linear on zero-padded batches, padding masked."""

    def __init__(self, pool: str, k: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.mask, self.conv1, self.conv2 = GraphMasking(), GCNConv(hidden, "relu"), GCNConv(hidden, "relu")
        self.pool = LAYERS[pool](k) if pool in LAYERS else None
        self.head = tf.keras.layers.Dense(classes)

    def call(self, inputs: Any) -> tuple[Any, Any]:
        x, gcn, a = inputs
        x = self.conv1([self.mask(x), gcn])
        if self.pool is not None:
            x, a = self.pool([x, a])
            # The layer takes a matrix that was normalised before; PoolBench and PyG normalise the pooled graph inside.
            gcn = a + tf.eye(tf.shape(a)[-1])
            root = tf.sqrt(tf.reduce_sum(gcn, -1, keepdims=True))
            gcn = gcn / root / tf.linalg.matrix_transpose(root)
        pooled = x
        return self.head(tf.reduce_sum(self.conv2([x, gcn]), 1)), pooled


class Spektral(Contestant):
    """Spektral with Keras's Adam; batches are padded as its BatchLoader does."""

    def __init__(self, setting: Setting) -> None:
        tf.config.threading.set_intra_op_parallelism_threads(setting.threads)
        tf.config.threading.set_inter_op_parallelism_threads(setting.threads)
        if setting.device == "cpu":
            tf.config.set_visible_devices([], "GPU")
        super().__init__(setting)

    def build(self, start: dict[str, Tensor]) -> None:
        s = self.setting
        self.model = Classifier(s.pool, self.k, s.hidden, self.work.classes)
        self.model([np.zeros((1, 2, self.work.x.shape[1] + 1), "f4"), *np.zeros((2, 1, 2, 2), "f4")])
        for name, variable in self._variables().items():
            value = start[name].numpy()
            variable.assign(value.T if value.ndim == 2 else value)
        self.optimiser = tf.keras.optimizers.Adam(1e-3)
        shapes = [(None, None, self.work.x.shape[1] + 1), (None, None, None), (None, None, None)]
        signature = [*(tf.TensorSpec(shape, tf.float32) for shape in shapes), tf.TensorSpec((None,), tf.int64)]
        self._step = tf.function(self._train, input_signature=signature)

    def _variables(self) -> dict[str, Any]:
        model, pool = self.model, self.model.pool
        named: dict[str, Any] = {}
        if isinstance(pool, DiffPool):
            named = {"pool.embedding": pool.kernel_emb, "pool.assignment": pool.kernel_pool}
        elif pool is not None:
            named = dict(zip(("pool.weight", "pool.bias"), pool.mlp.weights, strict=True))
        for name, layer in (("conv1", model.conv1), ("conv2", model.conv2), ("head", model.head)):
            named |= dict(zip((f"{name}.weight", f"{name}.bias"), layer.weights, strict=True))
        return named

    def _losses(self) -> Any:
        return tf.add_n([tf.reduce_mean(loss) for loss in self.model.losses] or [tf.constant(0.0)])

    def _train(self, x: Any, gcn: Any, a: Any, y: Any) -> None:
        with tf.GradientTape() as tape:
            scores, _ = self.model([x, gcn, a])
            task = tf.nn.sparse_softmax_cross_entropy_with_logits(y, scores)
            loss = tf.reduce_mean(task) + self._losses()
        weights = self.model.trainable_variables
        self.optimiser.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))

    def hold(self, graphs: Work) -> Held:
        s, ptr = self.setting, graphs.ptr
        whole = Sparse.from_edges(graphs.edge_index[0], graphs.edge_index[1], None, Ragged(ptr))
        view: Connectivity = RAW
        if s.pool != "none":
            view = build_operator(s.pool, "", self.k, s.ratio, s.hidden)[0].connectivity
        x = [part.numpy() for part in graphs.x.split(graphs.num_nodes.tolist())]
        return Held(x, _matrices(whole, GCN, ptr), _matrices(whole, view, ptr), graphs.y.numpy())

    def run(self, order: list[Tensor], stopwatch: Stopwatch) -> None:
        for graphs in order:
            with stopwatch("batching"):
                batch = self._batch(self.data, graphs)
            with stopwatch("pool"):  # a compiled step shows no parts
                self._step(*batch)

    def _batch(self, data: Held, graphs: Tensor) -> tuple[Any, Any, Any, Any]:
        chosen = graphs.tolist()
        x, gcn = to_batch([data.x[g] for g in chosen], [data.gcn[g] for g in chosen], mask=True)
        a = gcn
        if self.setting.pool != "none":
            (a,) = to_batch(a_list=[data.pool[g] for g in chosen])
        x, gcn, a = (tf.constant(part, tf.float32) for part in (x, gcn, a))
        return x, gcn, a, tf.constant(data.y[chosen], tf.int64)

    def answer(self, data: Held, graphs: Tensor) -> tuple[Tensor, Tensor, float]:
        x, gcn, a, _ = self._batch(data, graphs)
        y, pooled = self.model([x, gcn, a])
        return as_tensor(y.numpy()), as_tensor(tf.reduce_sum(pooled, 1).numpy()), float(self._losses())


def _matrices(whole: Sparse, view: Connectivity, ptr: Tensor) -> list[Any]:
    """The block of each graph, in SciPy's CSR."""
    a = whole.view(view).sparse()
    n = a.nodes.num_rows
    made = csr_matrix((a.weights.numpy(), a.col.numpy(), a.crow.numpy()), (n, n))
    bounds = ptr.tolist()
    return [made[start:end, start:end] for start, end in pairwise(bounds)]
