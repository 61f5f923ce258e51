"""What stands around the layers of a block, written out by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from poolbench.linalg import Ragged, Sparse
from poolbench.nn.block import Block


def graph() -> tuple[Tensor, Sparse]:
    torch.manual_seed(1)
    a = (torch.rand(8, 8) < 0.5).float().triu(1)
    row, col = (a + a.T).nonzero(as_tuple=True)
    return torch.randn(8, 5), Sparse.from_edges(row, col, None, Ragged.single(8), symmetric=True)


def block(widths: tuple[int, ...] = (5, 6, 6), **options: Any) -> Block:
    return Block("graphconv", widths, "elu", options.pop("norm", "none"), 0.0, **options)


def same(made: Tensor, want: Tensor) -> None:
    torch.testing.assert_close(made, want)


@pytest.mark.parametrize("norm_at", ["before", "after", "block"])
def test_where_the_normalisation_stands(norm_at: str) -> None:
    x, a = graph()
    made = block(norm="batch", norm_at=norm_at)
    elu, norm = nn.functional.elu, nn.BatchNorm1d(6)  # as drawn, it has neither weight nor bias
    want = x
    for layer in made.layers:
        y = layer(want, a)
        want = {"before": lambda y: elu(norm(y)), "after": lambda y: norm(elu(y)), "block": elu}[norm_at](y)
    same(made(x, a), norm(want) if norm_at == "block" else want)
    assert sum(isinstance(m, nn.BatchNorm1d) for m in made.modules()) == (1 if norm_at == "block" else 2)


def test_what_a_layer_is_given_goes_with_what_it_gives() -> None:
    x, a = graph()
    elu = nn.functional.elu
    made = block(residual="sum")
    first, second = made.layers
    y = elu(first(x, a))  # of another width: alone
    same(made(x, a), y + elu(second(y, a)))

    made = block(residual="cat")
    first, second = made.layers
    y = torch.cat([x, elu(first(x, a))], -1)
    same(made(x, a), torch.cat([y, elu(second(y, a))], -1))
    assert made.widths == [11, 17] and made.channels == 17


@pytest.mark.parametrize("combine", ["none", "cat", "sum", "max"])
def test_what_a_block_hands_on(combine: str) -> None:
    x, a = graph()
    made = block(combine=combine)
    first = nn.functional.elu(made.layers[0](x, a))
    second = nn.functional.elu(made.layers[1](first, a))
    want = {"none": second, "cat": torch.cat([first, second], -1), "sum": first + second, "max": first.maximum(second)}
    same(made(x, a), want[combine])
    assert made.channels == want[combine].shape[-1]


def test_a_block_without_layers_hands_on_what_it_is_given() -> None:
    x, a = graph()
    made = block((5,), combine="cat", residual="cat")
    same(made(x, a), x)
    assert made.channels == 5 and not list(made.parameters()) and made.connectivities == set()


def test_layers_of_several_widths_are_not_added_up() -> None:
    with pytest.raises(ValueError, match=r"model\.combine=sum: parts of the widths 11, 17 go together as cat alone"):
        block(residual="cat", combine="sum")
