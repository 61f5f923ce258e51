"""The encoder: a sum of embeddings for categories, a linear layer for numbers."""

from __future__ import annotations

import torch

from poolbench.nn.encoder import Channels, Encoder


def test_categories_are_embedded_column_by_column_and_summed() -> None:
    torch.manual_seed(0)
    encoder = Encoder(Channels(3, (4, 2, 5)), 6)
    assert encoder.table.shape == (11, 6)
    x = torch.stack([torch.randint(size, (7,)) for size in (4, 2, 5)], 1)
    tables = encoder.table.split([4, 2, 5])
    wanted = torch.stack([sum(table[int(c)] for table, c in zip(tables, row, strict=True)) for row in x])  # type: ignore[misc]
    torch.testing.assert_close(encoder(x), wanted)

    encoder(x[:1]).sum().backward()
    used = encoder.table.grad.abs().sum(1).nonzero().squeeze(1).tolist()  # type: ignore[union-attr]
    assert used == [int(x[0, 0]), 4 + int(x[0, 1]), 6 + int(x[0, 2])], "one row a column is learnt from"


def test_numbers_go_through_a_linear_layer() -> None:
    encoder, x = Encoder(Channels(3), 5), torch.randn(4, 3)
    assert encoder.linear is not None
    torch.testing.assert_close(encoder(x), x @ encoder.linear.weight.T + encoder.linear.bias)


def test_no_rows_at_all() -> None:
    assert Encoder(Channels(2, (3, 3)), 5)(torch.zeros(0, 2, dtype=torch.int64)).shape == (0, 5)
