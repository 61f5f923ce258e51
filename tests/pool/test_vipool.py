"""VIPool: scores by an estimate of mutual information. What draws no random numbers is that of each graph alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from poolbench.linalg import Ragged
from poolbench.pool import VIPool

F64 = torch.float64
SIZES = (6, 1, 9, 4)


class Turned(VIPool):
    """p(i) is the next node of the same graph."""

    def permutation(self, nodes: Ragged) -> Tensor:
        last = nodes.numbers == nodes.expand(nodes.sizes) - 1
        return torch.arange(nodes.num_rows) + torch.where(last, 1 - nodes.expand(nodes.sizes), 1)


def made(cls: type[VIPool] = VIPool, **arguments: Any) -> VIPool:
    torch.manual_seed(0)
    pool = cls(in_channels=4, return_selection=True, **arguments).double()
    with torch.no_grad():
        for p in pool.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return pool


def graphs() -> tuple[list[Tensor], list[Tensor]]:
    g = torch.Generator().manual_seed(1)
    xs = [torch.randn(n, 4, generator=g, dtype=F64) for n in SIZES]
    upper = [(torch.rand(n, n, generator=g) < 0.5).triu(1).to(F64) for n in SIZES]
    return xs, [u + u.T for u in upper]


def batch(pool: VIPool) -> Any:
    xs, adjacencies = graphs()
    return pool(torch.cat(xs), torch.block_diag(*adjacencies), torch.arange(4).repeat_interleave(torch.tensor(SIZES)))


def test_scores_and_loss_are_those_of_the_formula() -> None:
    pool = made(Turned, ratio=0.6).eval()
    xs, adjacencies = graphs()
    out, losses, scores = batch(pool), [], []
    b = pool.affinity.weight.view(4, 4)
    for x, a in zip(xs, adjacencies, strict=True):
        h = torch.nn.functional.prelu(x @ pool.embedding.weight.T + pool.embedding.bias, pool.slope)
        c = (a @ h @ pool.around.weight.T + pool.around.bias).sigmoid()
        pairs, others = ((u @ b * c).sum(-1) + pool.affinity.bias for u in (h, h.roll(-1, 0)))
        bce = torch.nn.functional.binary_cross_entropy_with_logits
        target = torch.cat([torch.ones(len(x)), torch.zeros(len(x))]).double()
        losses.append(bce(torch.cat([pairs, others]), target))
        scores.append(pairs)
    torch.testing.assert_close(out.score, torch.cat(scores))
    torch.testing.assert_close(out.losses["mutual_information"], torch.stack(losses).mean())
    assert out.sizes.tolist() == [4, 1, 6, 3]
    torch.testing.assert_close(out.x, (torch.cat(xs) * out.score.sigmoid().unsqueeze(-1))[out.perm])
    kept = [set(y.topk(k).indices.tolist()) for y, k in zip(scores, out.sizes.tolist(), strict=True)]
    start = torch.tensor([0, 6, 7, 16])[out.batch]
    assert [set((out.perm - start)[out.batch == g].tolist()) for g in range(4)] == kept


def test_a_graph_is_pooled_alone_as_in_a_batch() -> None:
    pool = made().eval()
    together = batch(pool)
    alone = [pool(x, a) for x, a in zip(*graphs(), strict=True)]
    torch.testing.assert_close(together.x, torch.cat([out.x for out in alone]))
    torch.testing.assert_close(together.a, torch.block_diag(*[out.a for out in alone]))
    torch.testing.assert_close(together.score, torch.cat([out.score for out in alone]))


def test_permuting_the_nodes_permutes_what_is_kept() -> None:
    pool = made().eval()
    (x, *_), (a, *_) = graphs()
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    one, other = pool(x, a), pool(x[order], a[order][:, order])
    assert sorted(order[other.perm].tolist()) == one.perm.tolist()
    torch.testing.assert_close(one.score[order], other.score)


def test_negatives_are_nodes_of_the_same_graph_each_once_and_others_each_time() -> None:
    pool, nodes = made(), Ragged(torch.tensor([0, 40, 40, 41, 60]))
    first, second = pool.permutation(nodes), pool.permutation(nodes)
    assert first.sort().values.tolist() == list(range(60))
    assert torch.equal(nodes.index[first], nodes.index)
    assert not torch.equal(first, second)
    assert not torch.equal(first, first.sort().values)


def test_a_single_node_is_its_own_negative() -> None:
    pool = made().eval()
    out = pool(torch.randn(1, 4, dtype=F64), torch.zeros(1, 1, dtype=F64))
    y = out.score
    torch.testing.assert_close(
        out.losses["mutual_information"], ((torch.nn.functional.softplus(-y) + torch.nn.functional.softplus(y)) / 2)[0]
    )


def test_dropout_is_for_training_and_for_neighbourhoods_alone() -> None:
    pool = made(dropout=0.9)
    assert not torch.equal(batch(pool).score, batch(pool).score)
    pool.eval()
    assert torch.equal(batch(pool).score, batch(pool).score)
    bare = made(dropout=0.0).train()
    assert torch.equal(batch(bare).score, batch(pool).score)
    x, none = graphs()[0][0], torch.zeros(6, 6, dtype=F64)  # without edges there is nothing to drop
    assert torch.equal(pool.train()(x, none).score, pool.eval()(x, none).score)


@pytest.mark.parametrize("wrong", [{"dropout": 1.0}, {"dropout": -0.1}, {"ratio": 0.0}, {"ratio": 1.5}])
def test_arguments_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"^{next(iter(wrong))}=[^\n]*$"):
        VIPool(**wrong)
