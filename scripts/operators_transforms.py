"""What of torch goes together with each operator, found by trying: the table of docs/operators.md."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from poolbench.pool.base.src import GlobalPool

FEATURES, GRAPHS = 64, 3

HEAD = """
## What works with what

Found by trying, on (x, edge_index, edge_weight, batch) of three graphs with `batch_size=3`, where the numbers must be
those of a plain call; the operators of fixed size and the readouts are tested on several batches too.

* **compile**: `torch.compile(fullgraph=True, dynamic=True)`, forward and backward, for batches of any sizes.
  **export**: `torch.export` with any number of nodes and edges. A traced call takes each product's formula in
  torch's own terms: equal edges stay in several parts, S'X goes over tiles of 32 rows (at most 32 b rows more than
  there are), and gmt, settransformer and bnpool read back one number, the size of the largest graph, and pad to it.
  Give `batch_size`: it would be read back too. Indices are not checked, and `batch` must be sorted.
* **torch.func**: `torch.func.grad` over parameters, features and edge weights. **vmap**: `torch.vmap` over features
  [s, n, f] of one graph or batch, which stays outside. Several graphs are a batch, not a vmap: an edge_index or a
  matrix that is mapped over would be read, which torch refuses. *choice*: which nodes stay, or how many, depends on
  the features. **second derivative**: by autograd.
* **bfloat16**: `pool.bfloat16()` on features of that type. **ahead**: `pool.coarsen(a)`, once for a dataset.
* *size*: the number of pooled nodes stands in the data, and what follows depends on it, so there is no one graph of
  operations; without `fullgraph=True` these compile in pieces. Where the table says yes to such an operator, torch
  takes the size as an unknown number. *kernel*: torch's attention has one derivative on the CPU.
  *one n*: PyG's aggregation is exported for as many nodes as the example has, and compiled anew for each number.
"""


class _OnTensors(nn.Module):
    def __init__(self, operator: Any) -> None:
        super().__init__()
        self.operator = operator

    def forward(self, x: Tensor, index: Tensor, weight: Tensor, batch: Tensor) -> tuple[Tensor, ...]:
        if isinstance(self.operator, GlobalPool):
            return (self.operator(x, batch=batch, batch_size=GRAPHS),)
        out = self.operator(x, edge_index=index, edge_weight=weight, batch=batch, batch_size=GRAPHS)
        # Equal edges of a traced call stay in several parts: what each node hears is the same.
        heard = out.edge_weight.new_zeros(out.x.shape[0]).index_add(0, out.edge_index[1], out.edge_weight)
        return out.x, heard if self.operator.pooled_edges == "kept" else out.edge_weight, *out.losses.values()


def _graphs() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x, edge_index, edge_weight, batch of three graphs, undirected."""
    generator = torch.Generator().manual_seed(0)
    x, batch = torch.randn(12, FEATURES, generator=generator), torch.tensor([0] * 5 + [1] * 4 + [2] * 3)
    near = (torch.rand(12, 12, generator=generator) < 0.7).triu(1) & (batch == batch.unsqueeze(-1))
    weight = (torch.rand(12, 12, generator=generator) + 0.5) * near  # so that no scores tie
    index = (near | near.T).nonzero().T
    return x, index, (weight + weight.T)[tuple(index)], batch


def _number(made: tuple[Tensor, ...]) -> Tensor:
    return torch.stack([v.float().square().sum() for v in made]).sum()


def _from_seed(f: Callable[..., Any], *arguments: Tensor) -> Any:
    torch.manual_seed(0)
    return f(*arguments)


def _compile(module: nn.Module) -> None:
    torch._dynamo.reset()
    x, *rest = _graphs()
    x.requires_grad_()
    compiled = torch.compile(module, fullgraph=True, dynamic=True, backend="aot_eager")
    one, other = _from_seed(module, x, *rest), _from_seed(compiled, x, *rest)
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    derivatives = [torch.autograd.grad(_number(made), x)[0] for made in (one, other)]
    torch.testing.assert_close(*derivatives, rtol=1e-3, atol=1e-3)


def _export(module: nn.Module) -> None:
    n, e = torch.export.Dim("n", min=2), torch.export.Dim("e", min=2)
    program = torch.export.export(module, _graphs(), dynamic_shapes=({0: n}, {1: e}, {0: e}, {0: n}))
    made = [_from_seed(f, *_graphs()) for f in (module, program.module())]
    torch.testing.assert_close(*made, rtol=1e-4, atol=1e-4)


def _func(module: nn.Module) -> None:
    x, index, weight, batch = _graphs()

    def loss(parameters: dict[str, Tensor], x: Tensor, weight: Tensor) -> Tensor:
        return _number(torch.func.functional_call(module, parameters, (x, index, weight, batch)))

    torch.func.grad(loss, argnums=(0, 1, 2))({k: v.detach() for k, v in module.named_parameters()}, x, weight)


def _vmap(module: nn.Module) -> None:
    x, *rest = _graphs()
    several = torch.stack([x, x.flip(1)])
    made = _from_seed(torch.vmap(module, (0, None, None, None), randomness="same"), several, *rest)
    for one, *parts in zip(several, *made, strict=True):
        torch.testing.assert_close(tuple(parts), _from_seed(module, one, *rest), rtol=1e-4, atol=1e-4)


def _second(module: nn.Module) -> None:
    x, index, weight, batch = _graphs()
    x.requires_grad_()
    (first,) = torch.autograd.grad(_number(module(x, index, weight, batch)), x, create_graph=True)
    first.square().sum().backward()


def _bfloat16(module: nn.Module) -> None:
    x, index, weight, batch = _graphs()
    made = module.bfloat16()(x.bfloat16().requires_grad_(), index, weight, batch)
    _number(made).backward()


TRIALS: Mapping[str, Callable[[nn.Module], None]] = {
    "compile": _compile,
    "export": _export,
    "torch.func": _func,
    "vmap": _vmap,
    "second derivative": _second,
    "bfloat16": _bfloat16,
}


def answers(entry: Any) -> dict[str, str]:
    """Of an operator of the page, yes or no to each trial, a no with its reason."""
    row = {}
    for name, trial in TRIALS.items():
        operator = entry.make(FEATURES, 8.0)
        if isinstance(operator, nn.Module) and not isinstance(operator, GlobalPool):
            operator.return_selection = False
        module = _OnTensors(operator)
        module(*_graphs())
        try:
            trial(module)
        except Exception as error:  # whatever it is: it is what a user would meet
            row[name] = f"no: {_reason(entry, name, error)}"
        else:
            row[name] = "yes"
    row["ahead"] = "yes" if getattr(operator, "precomputable", False) else "no"
    return row


def _reason(entry: Any, trial: str, error: Exception) -> str:
    if isinstance(error, AssertionError):
        return "other numbers"
    if trial in ("compile", "export") and getattr(entry.cls, "size_depends_on_data", False):
        return "size"
    if trial == "vmap" and getattr(entry.cls, "size_depends_on_data", False):
        return "choice"
    if "scaled_dot_product" in str(error):
        return "kernel"
    if "Constraints violated (n)" in str(error):
        return "one n"
    return str(error).strip().splitlines()[0].split(". ")[0][:80].replace("|", "/")


def table(entries: list[Any]) -> str:
    """The section of the page."""
    lines = [HEAD, f"| operator | {' | '.join(TRIALS)} | ahead |", "| --- " * (len(TRIALS) + 2) + "|"]
    lines += [f"| {entry.name} | {' | '.join(answers(entry).values())} |" for entry in entries]
    return "\n".join(lines) + "\n"
