"""GlobalAttentionPool: Li, Tarlow, Brockschmidt, Zemel, "Gated Graph Sequence Neural Networks", ICLR 2016,
arXiv 1511.05493."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from poolbench.errors import whole
from poolbench.linalg import Nodes
from poolbench.pool.base.layers import Constraint, Initializer, Linear, Regularizer
from poolbench.pool.base.src import GlobalPool


class GlobalAttentionPool(GlobalPool):
    """A gated sum over the nodes of each graph: [b, channels].

        out = sum_u sigmoid(W_a x_u + b_a) * (W_f x_u + b_f)        (eq. 7, without its two tanh)

    As documented: neither the features nor the sum go through the tanh of the paper. Masked nodes take no part (their
    biases would); a graph without nodes gives zeros. Cost O(n f channels). No losses.

    Args:
        channels: width of the result.
        kernel_initializer, bias_initializer, kernel_regularizer, bias_regularizer, kernel_constraint,
            bias_constraint: of both layers, each its own draw, under Keras's names (`poolbench.pool.base.layers`).
        in_channels: f, inferred at the first call where it is None.
    """

    def __init__(
        self,
        channels: int,
        kernel_initializer: Initializer = "glorot_uniform",
        bias_initializer: Initializer = "zeros",
        kernel_regularizer: Regularizer = None,
        bias_regularizer: Regularizer = None,
        kernel_constraint: Constraint = None,
        bias_constraint: Constraint = None,
        in_channels: int | None = None,
        **unknown: Any,
    ) -> None:
        super().__init__(**unknown)
        self.channels = whole("channels", channels)
        options: dict[str, Any] = {
            "kernel_initializer": kernel_initializer,
            "bias_initializer": bias_initializer,
            "kernel_regularizer": kernel_regularizer,
            "bias_regularizer": bias_regularizer,
            "kernel_constraint": kernel_constraint,
            "bias_constraint": bias_constraint,
        }
        self.features_layer = Linear(in_channels, self.channels, **options)
        self.attention_layer = Linear(in_channels, self.channels, **options)

    def out_channels(self, in_channels: int) -> int:
        return self.channels

    def readout(self, x: Tensor, nodes: Nodes) -> Tensor:
        return nodes.sum(self.attention_layer(x).sigmoid() * self.features_layer(x))
