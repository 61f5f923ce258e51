"""What stands around the layers of a block, written out by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from poolbench.linalg import Ragged, Sparse
from poolbench.nn.block import Block, Logits


def graph() -> tuple[Tensor, Sparse]:
    torch.manual_seed(1)
    a = (torch.rand(8, 8) < 0.5).float().triu(1)
    row, col = (a + a.T).nonzero(as_tuple=True)
    return torch.randn(8, 5), Sparse.from_edges(row, col, None, Ragged.single(8), symmetric=True)


def block(widths: tuple[int, ...] = (5, 6, 6), **options: Any) -> Block:
    return Block("graphconv", widths, "elu", options.pop("norm", "none"), 0.0, **options)


def same(made: Tensor, want: Tensor) -> None:
    torch.testing.assert_close(made, want)


@pytest.mark.parametrize("norm_at", ["before", "after", "between", "block"])
def test_where_the_normalisation_stands(norm_at: str) -> None:
    x, a = graph()
    made = block(norm="batch", norm_at=norm_at)
    elu, norm = nn.functional.elu, nn.BatchNorm1d(6)  # as drawn, it has neither weight nor bias
    want = x
    for layer in made.layers:
        y = layer(want, a)
        want = {"before": lambda y: elu(norm(y)), "after": lambda y: norm(elu(y)),
                "between": lambda y: elu(norm(elu(y))), "block": elu}[norm_at](y)  # fmt: skip
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


def test_the_last_layer_of_a_block_may_be_linear() -> None:
    x, a = graph()
    made = block(norm="batch", norm_at="after", linear_last=True, combine="cat")
    first, second = made.layers
    y = nn.BatchNorm1d(6)(nn.functional.elu(first(x, a)))
    same(made(x, a), torch.cat([y, second(y, a)], -1))
    assert sum(isinstance(m, nn.BatchNorm1d) for m in made.modules()) == 1
    assert block((5,), linear_last=True)(x, a) is x, "no layer, none that is the last"


@pytest.mark.parametrize("combine", ["none", "cat"])
def test_logits_are_those_of_the_last_layer_or_of_all(combine: str) -> None:
    x, a = graph()
    settings: dict[str, Any] = dict(mp="gcn", activation="relu", norm="none", dropout=0.0, linear_last=True)
    made = Logits(5, 3, hidden=4, depth=2, combine=combine, **settings)
    first, second = made.block.layers
    h = first(x, a).relu()
    assert second.weight.weight.shape == (3, 4)
    same(made(x, a), made.linear(torch.cat([h, second(h, a)], -1)) if combine == "cat" else second(h, a))
    assert isinstance(made.linear, nn.Linear) == (combine == "cat")
    assert Logits(5, 3, hidden=4, depth=0, **settings)(x, a).shape == (8, 3), "of a level without layers: linear"
