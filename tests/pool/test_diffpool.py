"""DiffPool with an assignment network of its own: PyG's dense_diff_pool by graph, every form of a graph, bad input."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.nn import GCNConv, dense_diff_pool

from poolbench.linalg import Matrix
from poolbench.pool import DiffPool

F64 = torch.float64
SIZES, F, F0, K = [7, 1, 5, 2], 4, 5, 3
OF = torch.repeat_interleave(torch.tensor(SIZES))


class Hears(nn.Module):
    """A X W + b, of a matrix, in both layouts."""

    def __init__(self, n: int, k: int) -> None:
        super().__init__()
        self.linear = nn.Linear(n, k)

    def forward(self, x: Tensor, a: Matrix) -> Tensor:
        return a.matmul(self.linear(x))


def graphs() -> tuple[Tensor, Tensor, Tensor]:
    """x and x0 of the nodes, and the weighted edges of a batch as a matrix."""
    g = torch.Generator().manual_seed(3)
    a = torch.rand(15, 15, generator=g, dtype=F64) * ((torch.rand(15, 15, generator=g) < 0.6) & (OF[:, None] == OF))
    a = (a + a.T).fill_diagonal_(0.0)
    return torch.randn(15, F, generator=g, dtype=F64), torch.randn(15, F0, generator=g, dtype=F64), a


def pool(**arguments: object) -> DiffPool:
    torch.manual_seed(0)
    return DiffPool(K, in_channels=F, return_selection=True, **arguments).double()  # type: ignore[arg-type]


def close(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)


def test_by_graph_it_is_pygs_dense_diff_pool() -> None:
    """S = softmax(gnn(X0, A)), X' = S'X, A' = S'AS and the losses of S."""
    (x, x0, a), made = graphs(), pool(gnn=Hears, x0_channels=F0, activation="tanh")
    assert {name.split(".")[0] for name, _ in made.named_parameters()} == {"gnn"} and made.out_channels(F) == F
    out = made(x, a, OF, x0=x0)
    logits = a @ made.gnn.linear(x0)
    close(out.s.dense(), logits.softmax(-1))
    entropy, link = [], []
    for graph in range(len(SIZES)):
        own = graph == OF
        theirs, pooled, norm, loss = dense_diff_pool(x[own][None], a[own][:, own][None], logits[own][None])
        close(out.x[out.i == graph], theirs[0].tanh())
        close(out.a[out.i == graph][:, out.i == graph], pooled[0])
        link.append(norm * int(own.sum()) ** 2)  # PyG divides by the entries
        entropy.append(loss)
    close(out.losses["link"], torch.stack(link).mean())
    torch.testing.assert_close(out.losses["entropy"], torch.stack(entropy).mean(), rtol=1e-5, atol=1e-5)


def test_x0_goes_with_the_nodes_in_every_form() -> None:
    (x, x0, a), made = graphs(), pool(gnn=Hears, x0_channels=F0)
    out = made(x, a, OF, x0=x0)
    order = torch.randperm(15, generator=torch.Generator().manual_seed(1))
    close(made(x[order], a[order][:, order], OF[order], x0=x0[order]).x, out.x)
    mask = torch.arange(9) < torch.tensor(SIZES)[:, None]

    def padded(v: Tensor) -> Tensor:
        return torch.full((len(SIZES), 9, v.shape[1]), torch.nan, dtype=F64).masked_scatter(mask[..., None], v)

    blocks = torch.zeros(len(SIZES), 9, 9, dtype=F64)
    for graph, n in enumerate(SIZES):
        blocks[graph, :n, :n] = a[graph == OF][:, graph == OF]
    close(made(padded(x), blocks, mask=mask, x0=padded(x0)).x.flatten(0, 1), out.x)
    alone = made(x[:7], a[:7, :7], x0=x0[:7])
    close(alone.x, out.x[:K])
    handed = made(x, a, OF, s=out.s)
    close(handed.x, out.x)


@pytest.mark.parametrize("gnn", [Hears, GCNConv])
def test_a_network_of_anybody_in_both_layouts(gnn: type[nn.Module]) -> None:
    (x, _, a), made = graphs(), pool(gnn=gnn)
    out, mask = made(x, a, OF), torch.arange(7) < torch.tensor(SIZES)[:, None]
    wide = torch.zeros(len(SIZES), 7, F, dtype=F64).masked_scatter(mask[..., None], x)
    blocks = torch.zeros(len(SIZES), 7, 7, dtype=F64)
    for graph, n in enumerate(SIZES):
        blocks[graph, :n, :n] = a[graph == OF][:, graph == OF]
    inside = made(wide, blocks, mask=mask)
    close(inside.x.flatten(0, 1), out.x)
    close(inside.losses["link"], out.losses["link"])
    for grad in torch.autograd.grad(inside.x.sum() + inside.losses["entropy"], list(made.gnn.parameters())):
        assert grad.isfinite().all() and (grad != 0).any()


def test_what_cannot_be_is_said_in_one_line() -> None:
    x, x0, a = graphs()
    with pytest.raises(ValueError, match=r"gnn gives \[15, 4\]: 3 numbers for each node"):
        pool(gnn=Hears(F, 4))(x, a, OF)
    with pytest.raises(ValueError, match=r"x0 is \[2, 5\]: a row for each of the nodes of x \[15, 4\]"):
        pool(gnn=Hears, x0_channels=F0)(x, a, OF, x0=x0[:2])
    with pytest.raises(ValueError, match="x0 is what gnn makes an assignment of"):
        pool()(x, a, OF, x0=x0)
    with pytest.raises(ValueError, match="channels=5: with gnn"):
        pool(gnn=Hears, channels=5)
    with pytest.raises(TypeError, match="gnn='level': a module"):
        pool(gnn="level")
    with pytest.raises(ValueError, match="needs in_channels"):
        DiffPool(K, gnn=Hears)
