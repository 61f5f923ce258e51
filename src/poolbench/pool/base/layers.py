"""Trainable pieces of the operators, with Keras's initialisers, weight penalties and constraints under their names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from poolbench.linalg.plain import lasting

Initializer = str | Callable[[Tensor], Any]
Regularizer = Mapping[str, float] | Callable[[Tensor], Tensor] | None
Constraint = str | Callable[[Tensor], Tensor] | None
Activation = str | Callable[[Tensor], Tensor] | None

# Weights are [out, in], so torch's fan-in and fan-out are Keras's. Keras draws its normal kernels from a normal
# truncated at two standard deviations, widened so that their variance is the nominal one.
_TRUNCATED = 0.87962566103423978


# Everything below is a function of this module or a `partial` of one, so that a module that holds it can be pickled.


def _glorot(fan_in: float, fan_out: float) -> float:
    return 2 / (fan_in + fan_out)


def _he(fan_in: float, fan_out: float) -> float:
    return 2 / fan_in


def _lecun(fan_in: float, fan_out: float) -> float:
    return 1 / fan_in


def _truncated_normal(w: Tensor, variance: Callable[[float, float], float]) -> Tensor:
    std = variance(w.shape[-1], w.shape[0]) ** 0.5 / _TRUNCATED
    return nn.init.trunc_normal_(w, 0.0, std, -2 * std, 2 * std)


def _uniform(w: Tensor, variance: Callable[[float, float], float]) -> Tensor:
    bound = (3 * variance(w.shape[-1], w.shape[0])) ** 0.5
    return nn.init.uniform_(w, -bound, bound)


def _hard_sigmoid(x: Tensor) -> Tensor:
    return (0.2 * x + 0.5).clamp(0.0, 1.0)


def _linear(x: Tensor) -> Tensor:
    return x


# Norms run over a unit's incoming weights, axis 0 of a Keras kernel and the last axis here.


def _non_neg(w: Tensor) -> Tensor:
    return w.clamp(min=0.0)


def _unit_norm(w: Tensor) -> Tensor:
    return w / (w.norm(dim=-1, keepdim=True) + 1e-7)


def _max_norm(w: Tensor) -> Tensor:
    return w * w.norm(dim=-1, keepdim=True).clamp(max=2.0) / (w.norm(dim=-1, keepdim=True) + 1e-7)


def _weight_penalty(w: Tensor, l1: float, l2: float) -> Tensor:
    return l1 * w.abs().sum() + l2 * w.square().sum()


INITIALIZERS: dict[str, Callable[[Tensor], Any]] = {
    "glorot_uniform": partial(_uniform, variance=_glorot),
    "glorot_normal": partial(_truncated_normal, variance=_glorot),
    "he_uniform": partial(_uniform, variance=_he),
    "he_normal": partial(_truncated_normal, variance=_he),
    "lecun_uniform": partial(_uniform, variance=_lecun),
    "lecun_normal": partial(_truncated_normal, variance=_lecun),
    "orthogonal": nn.init.orthogonal_,
    "zeros": nn.init.zeros_,
    "ones": nn.init.ones_,
    "truncated_normal": partial(nn.init.trunc_normal_, mean=0.0, std=0.05, a=-0.1, b=0.1),
    "random_normal": partial(nn.init.normal_, mean=0.0, std=0.05),
    "random_uniform": partial(nn.init.uniform_, a=-0.05, b=0.05),
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
    "leaky_relu": partial(F.leaky_relu, negative_slope=0.2),  # Keras's slope
    "exponential": torch.exp,
    "hard_sigmoid": _hard_sigmoid,
    "linear": _linear,
}
CONSTRAINTS: dict[str, Callable[[Tensor], Tensor]] = {
    "non_neg": _non_neg,
    "unit_norm": _unit_norm,
    "max_norm": _max_norm,
}


def _look_up(value: Any, table: dict[str, Callable[..., Any]], what: str) -> Callable[..., Any] | None:
    if value is None or callable(value):
        return value
    if not isinstance(value, str) or value not in table:
        raise ValueError(f"{what} {value!r} is not one of {', '.join(sorted(table))}, nor a function")
    return table[value]


def activation(value: Activation) -> Callable[[Tensor], Tensor]:
    """A Keras name, a function, or None for linear. Raises ValueError for an unknown name."""
    return _look_up(value, ACTIVATIONS, "activation") or ACTIVATIONS["linear"]


def _penalty_of(value: Regularizer) -> Callable[[Tensor], Tensor] | None:
    if value is None or callable(value):
        return value
    numbers = isinstance(value, Mapping) and all(isinstance(c, int | float) for c in value.values())
    if not isinstance(value, Mapping) or not numbers or not value or set(value) - {"l1", "l2"}:
        raise ValueError(f"regularizer {value!r}: give {{'l2': c}}, {{'l1': c}}, both, or a function of the weights")
    l1, l2 = float(value.get("l1", 0.0)), float(value.get("l2", 0.0))
    return partial(_weight_penalty, l1=l1, l2=l2)


class Unsized(UninitializedParameter):
    """A parameter whose shape is not known yet. Unlike torch's it is pickled with its type, may become bfloat16, and is
    trained even where it got its shape under `torch.inference_mode`."""

    _allowed_methods: ClassVar[list[Any]] = [
        *UninitializedParameter._allowed_methods,  # type: ignore[attr-defined]
        torch.Tensor.bfloat16,
    ]

    def materialize(self, *args: Any, **keywords: Any) -> None:
        lasting(lambda: super(Unsized, self).materialize(*args, **keywords))

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return type(self), (self.requires_grad, self.data.device, self.data.dtype)


class Linear(nn.LazyLinear):
    """y = x W' + b with W [out, in], `in_features` inferred at the first call where it is None.

    Where x is in float32 and the layer in a half type, it computes in float32: see `as_wide`.
    """

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
        self.weight = Unsized()
        if bias:
            self.bias = Unsized()
        if in_features is not None:
            self.initialize_parameters(torch.empty(0, in_features))
            self._infer_parameters(self, (torch.empty(0, in_features),))

    def forward(self, x: Tensor) -> Tensor:
        bias = None if self.bias is None else as_wide(self.bias, x)
        return F.linear(x, as_wide(self.weight, x), bias)

    def reset_parameters(self) -> None:
        if not hasattr(self, "_parameters") or self.has_uninitialized_params():
            return
        with torch.no_grad():
            for fill, tensor in zip(self._fill, (self.weight, self.bias), strict=True):
                if fill is not None and tensor is not None and tensor.numel():  # torch makes it of no width at first
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


def check_dropout(dropout: float, name: str = "dropout") -> None:
    """Raise ValueError for no probability below 1."""
    if not 0.0 <= dropout < 1.0:
        raise ValueError(f"{name}={dropout!r}: a probability, at least 0 and below 1")


class SquareLinear(Linear):
    """A linear layer as wide as its input."""

    def __init__(self, in_features: int | None, **options: Any) -> None:
        super().__init__(in_features, in_features or 0, **options)

    def initialize_parameters(self, x: Tensor) -> None:
        self.out_features = x.shape[-1]
        super().initialize_parameters(x)


HALF = (torch.float16, torch.bfloat16)


def not_half(x: Tensor) -> Tensor:
    """x, in float32 where it is in a half type: many scores would tie there."""
    return x.float() if x.dtype in HALF else x


def as_wide(weight: Tensor, x: Tensor) -> Tensor:
    """A weight, in float32 where it is in a half type and x, as `not_half` gives it, is in float32."""
    return weight.float() if weight.dtype in HALF and x.dtype == torch.float32 else weight


def row_softmax(x: Tensor) -> Tensor:
    """Softmax over the last axis, in float32 under autocast on every device (the CPU's own would stay in bf16)."""
    return x.softmax(-1, dtype=torch.float32 if torch.is_autocast_enabled(x.device.type) else None)


def root(x: Tensor) -> Tensor:
    """sqrt(max(x, 0)) with the gradient 0 where x <= 0; a NaN stays one."""
    positive = ~(x <= 0)
    return torch.where(positive, x, 1.0).sqrt() * positive


def penalised(module: nn.Module) -> list[Linear]:
    """The layers of a module that have a weight penalty, each once."""
    found: dict[Linear, None] = {}
    _penalised(module, found)
    return list(found)


def _penalised(module: nn.Module, found: dict[Linear, None]) -> None:
    # every call of an operator comes here, and `modules()`, which makes names, takes ten times as long
    if isinstance(module, Linear) and any(module._penalties):
        found[module] = None
    for child in module._modules.values():
        if child is not None:
            _penalised(child, found)


def apply_constraints(module: nn.Module) -> None:
    """Project the weights of all layers of a module on their constraints."""
    for m in module.modules():
        if isinstance(m, Linear):
            m.apply_constraints()
