"""Trainable pieces of the operators, with Keras's initialisers, weight penalties and constraints under their names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Initializer = str | Callable[[Tensor], Any]
Regularizer = Mapping[str, float] | Callable[[Tensor], Tensor] | None
Constraint = str | Callable[[Tensor], Tensor] | None
Activation = str | Callable[[Tensor], Tensor] | None

# Weights are [out, in], so torch's fan-in and fan-out are Keras's. Keras draws its normal kernels from a normal
# truncated at two standard deviations, widened so that their variance is the nominal one.
_TRUNCATED = 0.87962566103423978


def _truncated_normal(scale: Callable[[float, float], float]) -> Callable[[Tensor], Tensor]:
    def fill(w: Tensor) -> Tensor:
        fan_in, fan_out = w.shape[-1], w.shape[0]
        std = scale(fan_in, fan_out) ** 0.5 / _TRUNCATED
        return nn.init.trunc_normal_(w, 0.0, std, -2 * std, 2 * std)

    return fill


def _uniform(scale: Callable[[float, float], float]) -> Callable[[Tensor], Tensor]:
    def fill(w: Tensor) -> Tensor:
        bound = (3 * scale(w.shape[-1], w.shape[0])) ** 0.5
        return nn.init.uniform_(w, -bound, bound)

    return fill


INITIALIZERS: dict[str, Callable[[Tensor], Any]] = {
    "glorot_uniform": _uniform(lambda i, o: 2 / (i + o)),
    "glorot_normal": _truncated_normal(lambda i, o: 2 / (i + o)),
    "he_uniform": _uniform(lambda i, o: 2 / i),
    "he_normal": _truncated_normal(lambda i, o: 2 / i),
    "lecun_uniform": _uniform(lambda i, o: 1 / i),
    "lecun_normal": _truncated_normal(lambda i, o: 1 / i),
    "orthogonal": nn.init.orthogonal_,
    "zeros": nn.init.zeros_,
    "ones": nn.init.ones_,
    "truncated_normal": lambda w: nn.init.trunc_normal_(w, 0.0, 0.05, -0.1, 0.1),
    "random_normal": lambda w: nn.init.normal_(w, 0.0, 0.05),
    "random_uniform": lambda w: nn.init.uniform_(w, -0.05, 0.05),
}
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "elu": F.elu,
    "selu": F.selu,
    "gelu": F.gelu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "softplus": F.softplus,
    "softsign": F.softsign,
    "swish": F.silu,
    "leaky_relu": lambda x: F.leaky_relu(x, 0.2),  # Keras's slope
    "exponential": torch.exp,
    "hard_sigmoid": lambda x: (0.2 * x + 0.5).clamp(0.0, 1.0),
    "linear": lambda x: x,
}
CONSTRAINTS: dict[str, Callable[[Tensor], Tensor]] = {
    # Norms run over a unit's incoming weights, axis 0 of a Keras kernel and the last axis here.
    "non_neg": lambda w: w.clamp(min=0.0),
    "unit_norm": lambda w: w / (w.norm(dim=-1, keepdim=True) + 1e-7),
    "max_norm": lambda w: w * w.norm(dim=-1, keepdim=True).clamp(max=2.0) / (w.norm(dim=-1, keepdim=True) + 1e-7),
}


def _look_up(value: Any, table: dict[str, Callable[..., Any]], what: str) -> Callable[..., Any] | None:
    if value is None or callable(value):
        return value
    if value not in table:
        raise ValueError(f"{what} {value!r} is not one of {', '.join(sorted(table))}, nor a function")
    return table[value]


def activation(value: Activation) -> Callable[[Tensor], Tensor]:
    """A Keras name, a function, or None for linear. Raises ValueError for an unknown name."""
    return _look_up(value, ACTIVATIONS, "activation") or ACTIVATIONS["linear"]


def _penalty_of(value: Regularizer) -> Callable[[Tensor], Tensor] | None:
    if value is None or callable(value):
        return value
    if not isinstance(value, Mapping) or not value or set(value) - {"l1", "l2"}:
        raise ValueError(f"regularizer {value!r}: give {{'l2': c}}, {{'l1': c}}, both, or a function of the weights")
    l1, l2 = float(value.get("l1", 0.0)), float(value.get("l2", 0.0))
    return lambda w: l1 * w.abs().sum() + l2 * w.square().sum()


class Linear(nn.LazyLinear):
    """y = x W' + b with W [out, in], `in_features` inferred at the first call where it is None."""

    cls_to_become = None  # type: ignore[assignment]  # it stays this class once its shape is known

    def __init__(
        self,
        in_features: int | None,
        out_features: int,
        bias: bool = True,
        *,
        kernel_initializer: Initializer = "glorot_uniform",
        bias_initializer: Initializer = "zeros",
        kernel_regularizer: Regularizer = None,
        bias_regularizer: Regularizer = None,
        kernel_constraint: Constraint = None,
        bias_constraint: Constraint = None,
    ) -> None:
        self._fill = (
            _look_up(kernel_initializer, INITIALIZERS, "kernel_initializer"),
            _look_up(bias_initializer, INITIALIZERS, "bias_initializer"),
        )
        self._penalties = (_penalty_of(kernel_regularizer), _penalty_of(bias_regularizer))
        self._constraints = (
            _look_up(kernel_constraint, CONSTRAINTS, "kernel_constraint"),
            _look_up(bias_constraint, CONSTRAINTS, "bias_constraint"),
        )
        super().__init__(out_features, bias=bias)
        if in_features is not None:
            self.initialize_parameters(torch.empty(0, in_features))
            self._infer_parameters(self, (torch.empty(0, in_features),))

    def reset_parameters(self) -> None:
        if not hasattr(self, "_parameters") or self.has_uninitialized_params() or self.in_features == 0:
            return
        with torch.no_grad():
            for fill, tensor in zip(self._fill, (self.weight, self.bias), strict=True):
                if fill is not None and tensor is not None:
                    fill(tensor)

    def penalty(self) -> Tensor | None:
        """Sum of the weight penalties, None where there are none."""
        terms = [f(w) for f, w in zip(self._penalties, (self.weight, self.bias), strict=True) if f and w is not None]
        return torch.stack(terms).sum() if terms else None

    @torch.no_grad()
    def apply_constraints(self) -> None:
        """Project the weights on their constraints."""
        for project, w in zip(self._constraints, (self.weight, self.bias), strict=True):
            if project is not None and w is not None:
                w.copy_(project(w))


class AssignmentMLP(nn.Module):
    """Logits of an assignment: [.., f] -> [.., k], hidden layers of the widths `hidden`, each with its bias."""

    def __init__(
        self,
        k: int,
        hidden: Sequence[int] | int | None = None,
        hidden_activation: Activation = "relu",
        in_channels: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        widths = [hidden] if isinstance(hidden, int) else list(hidden or [])
        if any(w < 1 for w in widths):
            raise ValueError(f"mlp_hidden={widths}: widths are whole numbers of at least 1")
        self.activation = activation(hidden_activation)
        inputs: list[int | None] = [in_channels, *widths]
        self.layers = nn.ModuleList(Linear(n, m, **options) for n, m in zip(inputs, [*widths, k], strict=True))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = self.activation(layer(x))
        return self.layers[-1](x)


class SquareLinear(Linear):
    """A linear layer as wide as its input."""

    def __init__(self, in_features: int | None, **options: Any) -> None:
        super().__init__(in_features, in_features or 0, **options)

    def initialize_parameters(self, x: Tensor) -> None:
        self.out_features = x.shape[-1]
        super().initialize_parameters(x)


def not_half(x: Tensor) -> Tensor:
    """x, in float32 where it is in a half type: many scores would tie there."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def row_softmax(x: Tensor) -> Tensor:
    """Softmax over the last axis, in float32 under autocast on every device (the CPU's own would stay in bf16)."""
    return x.softmax(-1, dtype=torch.float32 if torch.is_autocast_enabled(x.device.type) else None)


def root(x: Tensor) -> Tensor:
    """sqrt(max(x, 0)) with the gradient 0 where x <= 0; a NaN stays one."""
    positive = ~(x <= 0)
    return torch.where(positive, x, 1.0).sqrt() * positive


def penalised(module: nn.Module) -> list[Linear]:
    """The layers of a module that have a weight penalty."""
    return [m for m in module.modules() if isinstance(m, Linear) and any(m._penalties)]


def apply_constraints(module: nn.Module) -> None:
    """Project the weights of all layers of a module on their constraints."""
    for m in module.modules():
        if isinstance(m, Linear):
            m.apply_constraints()
