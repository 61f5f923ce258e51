"""SortPool, SortConvPool and the two attentions: exact values, dense formulas, modes, gradients, edge cases."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from poolbench.linalg import Ragged
from poolbench.pool import GlobalAttentionPool, GlobalAttnSumPool, SortConvPool, SortPool

F64 = torch.float64
SIZES = [5, 1, 0, 9, 3]


def readouts() -> list[Any]:
    torch.manual_seed(0)
    sortconv = SortConvPool(6, 4, 3, in_channels=3).double()
    torch.nn.init.uniform_(sortconv.convolution.bias)  # windows of zero rows alone are not at the kink of relu then
    return [
        SortPool(4),
        SortPool(4, flatten=True),
        SortPool(20),
        GlobalAttentionPool(6, bias_initializer="random_normal", in_channels=3).double(),
        GlobalAttnSumPool(in_channels=3).double(),
        sortconv,
    ]


every_readout = pytest.mark.parametrize("pool", readouts(), ids=lambda p: type(p).__name__)


def batch() -> tuple[Tensor, Tensor]:
    """Features and graph ids of five graphs, one without nodes."""
    x = torch.randn(sum(SIZES), 3, dtype=F64, generator=torch.Generator().manual_seed(1))
    return x, torch.repeat_interleave(torch.tensor(SIZES))


def padded(x: Tensor, filling: float = 0.0) -> tuple[Tensor, Tensor]:
    width = max(SIZES) + 2
    mask = torch.arange(width) < torch.tensor(SIZES)[:, None]
    return torch.full((len(SIZES), width, 3), filling, dtype=x.dtype).masked_scatter(mask[..., None], x), mask


@every_readout
def test_disjoint_batch_single_and_mixed_agree(pool: Any) -> None:
    x, i = batch()
    out = pool(x, i)
    assert out.shape[0] == len(SIZES)
    assert not out[2].any()  # a graph without nodes
    torch.testing.assert_close(pool((x, i)), out)
    torch.testing.assert_close(pool(x, i[:, None]), out)
    torch.testing.assert_close(pool(x, Ragged(torch.tensor([0, *SIZES]).cumsum(0), SIZES)), out)
    for g, own in enumerate(x.split(SIZES)):
        if len(own):
            torch.testing.assert_close(pool(own), out[g : g + 1])
            torch.testing.assert_close(pool(own[None]), out[g : g + 1])
    for filling in (0.0, 50.0, -50.0, torch.nan):
        xb, mask = padded(x, filling)
        torch.testing.assert_close(pool(xb, mask=mask), out)
        torch.testing.assert_close(pool(xb, mask=mask[..., None]), out)
    equal = x[:18].reshape(3, 6, 3)  # mixed mode: one graph, several signals
    torch.testing.assert_close(pool(equal), torch.cat([pool(signal) for signal in equal]))
    if out.ndim == 2:
        assert out.shape[1] == pool.out_channels(3)


@every_readout
def test_permuting_the_nodes_changes_nothing(pool: Any) -> None:
    x, _ = batch()
    torch.testing.assert_close(pool(x[torch.randperm(len(x))]), pool(x))


@every_readout
def test_gradients(pool: Any) -> None:
    x, i = batch()
    x = x.requires_grad_()
    weights = {name: w.detach().clone().requires_grad_() for name, w in pool.named_parameters()}

    def run(x: Tensor, *values: Tensor) -> Tensor:
        return torch.func.functional_call(pool, dict(zip(weights, values, strict=True)), (x, i))

    assert gradcheck(run, (x, *weights.values()))
    xb, mask = padded(x.detach())
    xb = xb.requires_grad_()
    pool(xb, mask=mask).square().sum().backward()
    pool(x, i).square().sum().backward()
    torch.testing.assert_close(xb.grad[mask], x.grad)
    assert not xb.grad[~mask].any()


@every_readout
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_and_half_inputs_are_finite(pool: Any, dtype: torch.dtype) -> None:
    x, i = batch()
    pool, x = pool.float(), x.float().requires_grad_()
    for args, kwargs in (((x, i), {}), ((padded(x)[0],), {"mask": padded(x)[1]})):
        with torch.autocast("cpu", dtype=dtype):
            out = pool(*args, **kwargs)
            out.float().square().sum().backward()
        assert torch.isfinite(out).all()
    assert torch.isfinite(x.grad).all()
    assert torch.isfinite(pool.to(dtype)(x.to(dtype), i)).all()
    pool.double()


@every_readout
def test_no_nodes_at_all(pool: Any) -> None:
    nothing = torch.zeros(0, 3, dtype=F64)
    assert pool(nothing, torch.zeros(0, dtype=torch.int64)).shape[0] == 0
    out = pool(nothing, Ragged(torch.zeros(3, dtype=torch.int64), [0, 0]))
    assert out.shape[0] == 2
    assert not out.any()


# ---- SortPool -------------------------------------------------------------------------------------


def test_sortpool_by_hand() -> None:
    x = torch.tensor([[1.0, -2], [2, 5], [3, -1], [4, 5], [5, -7]])
    top = [[2, 5], [4, 5], [3, -1]]  # of equal keys the lower node first
    assert SortPool(3)(x).tolist() == [top]
    assert SortPool(7)(x).tolist() == [[*top, [1, -2], [5, -7], [0, 0], [0, 0]]]  # zeros after negative keys
    assert SortPool(3, flatten=True)(x).tolist() == [[2, 5, 4, 5, 3, -1]]
    # A larger graph in the batch pushes nothing out: the smaller one has negative keys alone.
    small = torch.tensor([[1.0, -2], [3, -1]])
    out = SortPool(3)(torch.cat([small, x]), torch.tensor([0, 0, 1, 1, 1, 1, 1]))
    assert out.tolist() == [[[3, -1], [1, -2], [0, 0]], top]


def test_sortpool_is_a_stable_sort() -> None:
    x = torch.randint(-2, 3, (400, 3), generator=torch.Generator().manual_seed(0)).double()
    x[:, 0] = torch.arange(400)
    i = torch.randint(0, 20, (400,), generator=torch.Generator().manual_seed(1)).sort().values
    out = SortPool(9)(x, i)
    for g in range(20):
        own = x[i == g]
        expected = torch.tensor(sorted(own.tolist(), key=lambda row: -row[-1])[:9], dtype=F64)
        torch.testing.assert_close(out[g, : len(expected)], expected)
        assert not out[g, len(expected) :].any()


@pytest.mark.parametrize("k", [0, -3, 0.6, True])
def test_sortpool_refuses(k: Any) -> None:
    with pytest.raises(ValueError, match=rf"^k={k}: a whole number (of at least 1 )?is expected"):
        SortPool(k)


def test_sortpool_widths() -> None:
    assert SortPool(4.0).k == 4
    assert SortPool(4).out_channels(3) == 3
    assert SortPool(4, flatten=True).out_channels(3) == 12


# ---- SortConvPool ---------------------------------------------------------------------------------


def test_sortconv_is_a_convolution_over_the_sorted_nodes() -> None:
    x, i = batch()
    pool = SortConvPool(6, 4, 3, in_channels=3).double()
    weight = pool.convolution.weight.reshape(4, 3, 3)
    conv = torch.nn.functional.conv1d(SortPool(6)(x, i).mT, weight, pool.convolution.bias)
    expected = conv.relu().flatten(1) * (torch.tensor(SIZES) > 0)[:, None]
    assert expected.count_nonzero() > 20
    torch.testing.assert_close(pool(x, i), expected)
    assert pool.out_channels(3) == 16 == SortConvPool(6, 4, 3).out_channels(3)


def test_sortconv_of_few_nodes_reads_them_at_once() -> None:
    pool = SortConvPool(3, 4, 5, in_channels=3).double()
    rows = SortPool(3)(*batch())[0]
    torch.testing.assert_close(pool(*batch())[0], pool.convolution(rows.T.flatten()).relu())
    with pytest.raises(ValueError, match="channels=0: a whole number of at least 1"):
        SortConvPool(9, 0)


# ---- attention ------------------------------------------------------------------------------------


def test_global_attention_by_hand() -> None:
    pool = GlobalAttentionPool(1, kernel_initializer="ones", bias_initializer="ones")
    x = torch.tensor([[1.0, 1], [-2, 1], [0, 0]])
    # W x + b = 3, 0, 1: sum of sigmoid(z) z.
    expected = torch.tensor([[3 / (1 + torch.e**-3) + 1 / (1 + torch.e**-1)]])
    torch.testing.assert_close(pool(x), expected)


def test_global_attention_is_its_formula() -> None:
    x, i = batch()
    pool = readouts()[3]
    gate, features = pool.attention_layer, pool.features_layer
    rows = torch.sigmoid(x @ gate.weight.T + gate.bias) * (x @ features.weight.T + features.bias)
    torch.testing.assert_close(pool(x, i), torch.stack([part.sum(0) for part in rows.split(SIZES)]))


def test_attention_sum_by_hand() -> None:
    pool = GlobalAttnSumPool(attn_kernel_initializer="ones")
    x = torch.tensor([[0.0, 0], [torch.tensor(3.0).log(), 0]])
    torch.testing.assert_close(pool(x), torch.tensor([[0.75 * torch.tensor(3.0).log(), 0]]))


def test_attention_sum_is_its_formula() -> None:
    x, i = batch()
    pool = readouts()[4]
    parts = [(p @ pool.attention_layer.weight.T).softmax(0).T @ p for p in x.split(SIZES)]
    torch.testing.assert_close(pool(x, i), torch.cat(parts))


def test_attention_sum_of_large_scores_is_finite() -> None:
    # Far below 0, so that the zero rows of the padding would overflow if they took part.
    pool = GlobalAttnSumPool(attn_kernel_initializer="ones")
    x = torch.full((1, 4, 3), -1000.0)
    x[:, 2:] = 0.0
    x[:, 1] -= 1e6
    x = x.requires_grad_()
    out = pool(x, mask=torch.tensor([[True, True, False, False]]))
    out.sum().backward()
    torch.testing.assert_close(out, torch.full((1, 3), -1000.0))
    assert torch.isfinite(x.grad).all()
    assert torch.isfinite(pool.attention_layer.weight.grad).all()


def test_parameters() -> None:
    torch.manual_seed(0)
    given, inferred = GlobalAttentionPool(4, in_channels=4), GlobalAttentionPool(4)
    assert not torch.equal(given.features_layer.weight, given.attention_layer.weight)  # its own draw each
    inferred(torch.randn(5, 4))
    assert not torch.equal(inferred.features_layer.weight, inferred.attention_layer.weight)
    inferred.load_state_dict(given.state_dict())
    x = torch.randn(5, 4)
    assert torch.equal(inferred(x), given(x))
    assert given.out_channels(4) == 4
    assert GlobalAttnSumPool(in_channels=4).attention_layer.weight.shape == (1, 4)


def test_regularisers_and_constraints() -> None:
    pool = GlobalAttentionPool(
        2, kernel_regularizer={"l2": 0.5}, bias_regularizer={"l1": 2.0}, bias_initializer="ones", in_channels=3
    )
    kernels = pool.features_layer.weight.square().sum() + pool.attention_layer.weight.square().sum()
    torch.testing.assert_close(pool.penalty(), 0.5 * kernels + 8.0)
    options = {"attn_kernel_regularizer": {"l2": 2.0}, "attn_kernel_constraint": "unit_norm"}
    attention = GlobalAttnSumPool(**options, in_channels=3)
    torch.testing.assert_close(attention.penalty(), 2 * attention.attention_layer.weight.square().sum())
    attention.apply_constraints()
    torch.testing.assert_close(attention.attention_layer.weight.norm(), torch.tensor(1.0))


def test_unknown_arguments_name_the_nearest() -> None:
    with pytest.raises(TypeError, match="attn_kernel_initializer"):
        GlobalAttnSumPool(attn_kernel_initialiser="zeros")
    with pytest.raises(TypeError, match="channels"):
        GlobalAttentionPool(3, chanels=3)
    with pytest.raises(TypeError, match="flatten"):
        SortPool(3, flaten=True)
    with pytest.raises(ValueError, match="at least 1"):
        GlobalAttentionPool(0)
