"""The linear score of pairs, in two parts."""

from __future__ import annotations

import torch

from poolbench.pool.base.pairscore import PairScore


def test_it_is_a_linear_layer_on_both_nodes() -> None:
    torch.manual_seed(0)
    score = PairScore(4, bias_initializer="random_normal")
    x, y = torch.randn(6, 4), torch.randn(6, 4)
    first, second = score(x, y)
    want = torch.cat([x.repeat_interleave(6, 0), y.repeat(6, 1)], 1) @ score.weight.squeeze(0) + score.bias
    torch.testing.assert_close((first.unsqueeze(1) + second).reshape(-1), want)


def test_its_width_is_inferred() -> None:
    x, inferred = torch.randn(6, 4), PairScore(None)
    torch.manual_seed(0)
    found = inferred(x, x)
    torch.manual_seed(0)
    assert inferred.weight.shape == (1, 8)
    torch.testing.assert_close(found, PairScore(4)(x, x))
