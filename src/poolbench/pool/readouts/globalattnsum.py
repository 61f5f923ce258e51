"""GlobalAttnSumPool: Li, Tarlow, Brockschmidt, Zemel, "Gated Graph Sequence Neural Networks", ICLR 2016,
arXiv 1511.05493; the simplest form of its attention, one weight a node."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from poolbench.linalg import Nodes
from poolbench.pool.base.layers import Constraint, Initializer, Linear, Regularizer
from poolbench.pool.base.src import GlobalPool


class GlobalAttnSumPool(GlobalPool):
    """The mean of the node features of each graph, weighted by a softmax over its nodes: [b, f].

        alpha = softmax_u(x_u . a)  over the nodes u of a graph,     out = sum_u alpha_u x_u

    Masked nodes get no weight; a graph without nodes gives zeros. Cost O(n f). No losses.

    Args:
        attn_kernel_initializer, attn_kernel_regularizer, attn_kernel_constraint: of a [f] (no bias), under Keras's
            names (`poolbench.pool.base.layers`).
        in_channels: f, inferred at the first call where it is None.
    """

    def __init__(
        self,
        attn_kernel_initializer: Initializer = "glorot_uniform",
        attn_kernel_regularizer: Regularizer = None,
        attn_kernel_constraint: Constraint = None,
        in_channels: int | None = None,
        **unknown: Any,
    ) -> None:
        super().__init__(**unknown)
        self.attention_layer = Linear(
            in_channels,
            1,
            bias=False,
            kernel_initializer=attn_kernel_initializer,
            kernel_regularizer=attn_kernel_regularizer,
            kernel_constraint=attn_kernel_constraint,
        )

    def readout(self, x: Tensor, nodes: Nodes) -> Tensor:
        score = self.attention_layer(x)
        # Padding set to the graph's largest score, 0: left as it is, its exponential can overflow in the gradient.
        score = nodes.zero_padding(score - nodes.expand(nodes.max(score.detach())))
        return nodes.sum(nodes.softmax(score) * x)
