"""CGIPool: two scores, and a loss that tells them apart, against the formulas written down graph by graph."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from poolbench.pool import CGIPool

F64 = torch.float64
BATCH = torch.tensor([0] * 6 + [1] * 4 + [3])  # graph 2 has no nodes, graph 3 has one


def graph() -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(5)
    hit = (torch.rand(11, 11, generator=g) < 0.5) & (BATCH[:, None] == BATCH) & ~torch.eye(11).bool()
    return torch.randn(11, 3, generator=g, dtype=F64), hit.nonzero().T


def pool(**arguments: Any) -> CGIPool:
    torch.manual_seed(0)
    return CGIPool(0.5, in_channels=3, return_selection=True, **arguments).double()


def naive(module: CGIPool, x: Tensor, index: Tensor) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    """H, p, q and, for each graph that has nodes, the loss."""
    a = torch.zeros(len(x), len(x), dtype=F64).index_put((index[1], index[0]), torch.ones((), dtype=F64))

    def conv(layer: Any, y: Tensor) -> Tensor:
        return y @ layer.root.weight.T + layer.root.bias + a @ y @ layer.neighbours.weight.T

    h = F.leaky_relu(conv(module.transform, x), 0.2)
    p, q = (conv(v.score, F.leaky_relu(conv(v.hidden, x), 0.2))[:, 0] for v in (module.positive, module.negative))
    losses = []
    for g in BATCH.unique():
        rows = g == BATCH
        r, d = h[rows].mean(0), []
        for v in (p[rows], q[rows]):
            gated = v.tanh()[:, None] * h[rows]
            u = gated[v.argmax()] if module.contrast == "one" else gated.mean(0)
            layer = module.discriminator
            hidden = F.leaky_relu(layer.hidden.weight @ torch.cat([u, r]) + layer.hidden.bias, 0.2)
            d.append(torch.sigmoid(layer.logit.weight @ hidden + layer.logit.bias)[0])
        losses.append(-(d[0].log() + (1 - d[1]).log()) / 2)
    return h, p, q, losses


@pytest.mark.parametrize("contrast", ["one", "all"])
def test_scores_features_and_loss_are_the_formulas(contrast: str) -> None:
    module, (x, index) = pool(contrast=contrast), graph()
    h, p, q, losses = naive(module, x, index)
    out = module(x, index, BATCH)
    torch.testing.assert_close(out.score, p - q)
    best = [(p - q)[g == BATCH].argsort(descending=True)[:k] for g, k in ((0, 3), (1, 2), (3, 1))]
    kept = torch.cat([(g == BATCH).nonzero()[:, 0][b] for g, b in zip((0, 1, 3), best, strict=True)]).sort().values
    assert out.perm.tolist() == kept.tolist()
    torch.testing.assert_close(out.x, ((p - q).tanh()[:, None] * h)[kept])
    torch.testing.assert_close(out.losses, {"discrimination": torch.stack(losses).mean()})


def test_the_loss_is_finite_where_the_discriminator_is_sure() -> None:
    module, (x, index) = pool(), graph()
    with torch.no_grad():
        module.discriminator.logit.bias.fill_(1e4)
    loss = module(x, index, BATCH).losses["discrimination"]
    assert loss.isfinite() and loss > 1e3  # of -ln(1 - sigmoid(1e4))


def test_weights_of_edges_are_carried_along_unseen() -> None:
    module, (x, index) = pool(), graph()
    weight = torch.arange(1.0, index.shape[1] + 1, dtype=F64)
    out, plain = module(x, index, BATCH, edge_weight=weight), module(x, index, BATCH)
    assert torch.equal(out.x, plain.x)
    assert torch.equal(out.losses["discrimination"], plain.losses["discrimination"])
    ends = list(map(tuple, index.T.tolist()))
    assert out.edge_weight.tolist() == [weight[ends.index(tuple(e))] for e in out.perm[out.edge_index].T.tolist()]


def test_a_choice_of_others_is_of_the_transformed_features() -> None:
    module, (x, index) = pool(), graph()
    out = module(x, index, BATCH, s=torch.tensor([0, 7]))
    torch.testing.assert_close(out.x, naive(module, x, index)[0][[0, 7]])
    assert out.losses == {}


def test_its_own_choice_handed_in_again_is_of_the_weights_and_features_of_today() -> None:
    module, (x, index) = pool(), graph()
    s = module(x, index, BATCH).s
    with torch.no_grad():
        for p in module.parameters():
            p.mul_(2)
    again, copied = module(x, index, BATCH, s=s), module(x.clone(), index, BATCH, s=s)
    assert torch.equal(again.x, copied.x)


def test_contrasts_have_names() -> None:
    with pytest.raises(ValueError, match="contrast='both' is not one of one, all"):
        CGIPool(contrast="both")
