"""What is handed to an operator: an assignment or a selection in place of its own, factors of its losses, what becomes
of its pooled graph."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch_geometric.nn import dense_diff_pool, dense_mincut_pool

from poolbench.linalg import Ragged, Sparse
from poolbench.pool import (
    AsymCheegerCutPool,
    BNPool,
    DiffPool,
    DMoNPool,
    EigenPool,
    GraclusPool,
    HOSCPool,
    JustBalancePool,
    KMISPool,
    MinCutPool,
    NDPPool,
    NMFPool,
    RandomDensePool,
    SoftPool,
    SRCPool,
    TopKPool,
)
from poolbench.pool.ndp import kron_reduction

F64 = torch.float64
N, F, K = 8, 4, 3
SOFT: list[type[SoftPool]] = [
    MinCutPool, DiffPool, DMoNPool, HOSCPool, JustBalancePool, AsymCheegerCutPool, BNPool, RandomDensePool, NMFPool,
]  # fmt: skip


def graph(b: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    """x [b, n, f], a [b, n, n] and an assignment s [b, n, k]."""
    g = torch.Generator().manual_seed(2)
    hit = (torch.rand(b, N, N, generator=g) < 0.5).to(F64).triu(1)
    s = torch.rand(b, N, K, generator=g, dtype=F64)
    return torch.randn(b, N, F, generator=g, dtype=F64), hit + hit.mT, s / s.sum(-1, keepdim=True)


def close(ours: Any, theirs: Any) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)


def make(cls: type[SRCPool], **arguments: Any) -> Any:
    torch.manual_seed(0)
    return cls(K, return_selection=True, **arguments).double()


# -- a given S --------


@pytest.mark.parametrize("cls", SOFT)
def test_a_given_assignment_is_taken_as_it_is_in_both_layouts(cls: type[SoftPool]) -> None:
    pool = make(cls)
    x, a, s = graph()
    batch = pool(x, a, s=s)
    i = torch.arange(2).repeat_interleave(N)
    flat = pool(x.flatten(0, 1), torch.block_diag(*a), i, s=s.flatten(0, 1))
    assert torch.equal(batch.s.dense(), s)
    close(flat.x, batch.x.flatten(0, 1))
    close(flat.a, torch.block_diag(*batch.a))
    close(flat.losses, batch.losses)
    if cls is not DiffPool:  # whose features go through a filter first
        close(batch.x, s.mT @ x)


def test_losses_of_a_given_assignment_are_pygs() -> None:
    x, a, s = graph()
    out = make(MinCutPool)(x, a, s=s)
    pooled, adj, cut, ortho = dense_mincut_pool(x, a, s.log())
    close(out.x, pooled)
    close(out.a, adj)
    close(out.losses, {"cut": cut, "ortho": ortho})
    out = make(DiffPool)(x, a, s=s)
    _, _, _, entropy = dense_diff_pool(x, a, s.log())
    close(out.losses["entropy"], entropy)
    for g in range(2):
        alone = make(DiffPool)(x[g], a[g], s=s[g])
        close(alone.losses["link"], torch.linalg.matrix_norm(a[g] - s[g] @ s[g].T))


def test_a_gradient_flows_into_a_given_assignment_through_features_graph_and_losses() -> None:
    x, a, s = graph()
    s.requires_grad_()
    for cls in (MinCutPool, DMoNPool, HOSCPool, JustBalancePool, AsymCheegerCutPool):
        out = make(cls)(x, a, s=s)
        for value in (out.x.sum(), out.a.sum(), *out.losses.values()):
            (grad,) = torch.autograd.grad(value, s, retain_graph=True)
            assert grad.isfinite().all() and grad.any(), cls.__name__


def test_an_assignment_of_another_number_of_clusters_is_taken_too() -> None:
    x, a, s = graph()
    wide = torch.cat([0.5 * s, 0.5 * s], -1)
    out = make(MinCutPool)(x, a, s=wide)
    assert out.x.shape == (2, 2 * K, F)
    assert torch.equal(make(MinCutPool, k_per_graph=0.3)(x, a, s=s).s.dense(), s)


# -- select, reduce and connect from different operators --------


def test_nodes_to_keep_are_joined_as_the_operator_joins_them() -> None:
    x, a, _ = graph()
    kept = torch.tensor([5, 0, 3])
    out = NDPPool(return_selection=True)(x[0], a[0], s=kept)
    assert out.s.kept.tolist() == [0, 3, 5]
    from scipy.sparse import csr_array

    mask = torch.zeros(N, dtype=torch.bool).index_fill(0, kept, True)
    close(out.a, torch.from_numpy(kron_reduction(csr_array(a[0].numpy()), mask.numpy(), 0.01).toarray()))
    induced = TopKPool(0.5, in_channels=F).double()(x[0], a[0], s=kept)
    close(induced.x, x[0, [0, 3, 5]])
    close(induced.a, a[0][[0, 3, 5]][:, [0, 3, 5]])


def test_the_members_of_a_kmis_set_with_kron_reduction() -> None:
    x, a, _ = graph()
    members = KMISPool(scorer="degree", return_selection=True)(x[0], a[0]).s.centres
    out = NDPPool()(x[0], a[0], s=members)
    close(out.x, x[0, members])


def test_clusters_of_one_operator_are_merged_as_another_merges_them() -> None:
    x, a, _ = graph()
    s = GraclusPool(return_selection=True)(x[0], a[0]).s
    largest = GraclusPool(connect_red_op="max", degree_norm=True)
    close(largest(x[0], a[0], s=s).a, largest(x[0], a[0]).a)


def test_a_selection_serves_other_features() -> None:
    x, a, _ = graph()
    pool = make(DiffPool)
    s = pool(x, a).s
    close(pool(2 * x, a, s=s).x, 2 * pool(x, a).x)


def test_nodes_in_any_order_keep_their_rows_of_what_is_handed_in() -> None:
    x, a, s = graph()
    x, s, i = x.flatten(0, 1), s.flatten(0, 1), torch.arange(2).repeat_interleave(N)
    whole = torch.block_diag(*a)
    turned = torch.randperm(2 * N, generator=torch.Generator().manual_seed(0))
    place, mixed = turned.argsort(), (x[turned], whole[turned][:, turned], i[turned])
    soft, kept = make(MinCutPool), torch.tensor([3, 1, 12])
    one, other = soft(x, whole, i, s=s), soft(*mixed, s=s[turned])
    close(other.x, one.x)
    close(other.losses, one.losses)
    close(soft(*mixed, s=other.s).x, one.x)
    close(NDPPool()(*mixed, s=place[kept]).a, NDPPool()(x, whole, i, s=kept).a)
    for arguments, given in ((mixed, one.s), ((x, whole, i), other.s)):
        with pytest.raises(ValueError, match="s is of nodes in another order"):
            soft(*arguments, s=given)


@pytest.mark.parametrize(
    ("pool", "s", "error", "message"),
    [
        (MinCutPool(K), torch.rand(N + 1, K), ValueError, rf"s has the shape \[9, 3\]: an assignment \[{N}, k\]"),
        (MinCutPool(K), torch.tensor([0, 1]), TypeError, "MinCutPool pools by a DenseSelection"),
        (TopKPool(0.5), torch.tensor([0, N]), ValueError, "s names nodes to keep: each once, from 0 to 7"),
        (TopKPool(0.5), torch.tensor([1, 1]), ValueError, "each once"),
        (TopKPool(0.5), torch.tensor([[0], [1]]), ValueError, "s is torch.int64"),
        (NDPPool(), torch.rand(N, K), TypeError, "s is a DenseSelection: NDPPool pools by a KeptSelection"),
        (EigenPool(K), torch.rand(N, K), TypeError, "EigenPool pools by a EigenSelection"),
        (TopKPool(0.5), [0, 1], TypeError, "s is a list: a tensor or a selection"),
    ],
)  # fmt: skip
def test_what_cannot_be_pooled_by_is_refused(pool: SRCPool, s: Tensor, error: type[Exception], message: str) -> None:
    x, a, _ = graph()
    with pytest.raises(error, match=message):
        pool(x[0].float(), a[0].float(), s=s)


def test_a_selection_of_another_batch_or_beside_a_coarsening_is_refused() -> None:
    x, a, _ = graph()
    pool = GraclusPool(return_selection=True)
    s = pool(x[0, :5], a[0, :5, :5]).s
    with pytest.raises(ValueError, match="s is of 5 nodes in 1 graphs, the input has 8 nodes in 1 graphs"):
        pool(x[0], a[0], s=s)
    dense = make(MinCutPool)
    with pytest.raises(ValueError, match="in the other layout"):
        dense(x[:1], a[:1], s=dense(x[0], a[0]).s)
    row, col = a[0].nonzero(as_tuple=True)
    matrix = Sparse.from_edges(row, col, None, Ragged.single(N), symmetric=True)
    whole = pool(x[0], matrix)
    with pytest.raises(ValueError, match="s and coarsening both say"):
        pool(x[0], matrix, coarsening=pool.coarsen(matrix), s=whole.s)


# -- losses and the pooled graph --------


def test_factors_of_losses_by_name() -> None:
    x, a, s = graph()
    plain, scaled = (make(MinCutPool, loss_coeffs=c)(x, a, s=s).losses for c in (None, {"cut": 0.25}))
    close(scaled, {"cut": 0.25 * plain["cut"], "ortho": plain["ortho"]})
    penalty = {"kernel_regularizer": {"l2": 0.1}}
    one = make(DMoNPool, **penalty)(x, a)
    other = make(DMoNPool, **penalty, loss_coeffs={"regularization": 3.0, "collapse": 0.0})(x, a)
    close(other.losses["regularization"], 3.0 * one.losses["regularization"])
    assert other.losses["collapse"] == 0


def test_a_factor_of_a_loss_that_there_is_not_is_refused() -> None:
    x, a, _ = graph()
    with pytest.raises(ValueError, match="MinCutPool has no loss 'link', it has cut, ortho"):
        make(MinCutPool, loss_coeffs={"link": 1.0})(x, a)
    with pytest.raises(ValueError, match="NMFPool has no loss 'cut', it has none"):
        make(NMFPool, loss_coeffs={"cut": 1.0})(x, a)
    with pytest.raises(ValueError, match=r"loss_coeffs=2\.0"):
        make(MinCutPool, loss_coeffs=2.0)


@pytest.mark.parametrize("cls", SOFT)
@pytest.mark.parametrize("remove_self_loops", [False, True])
@pytest.mark.parametrize("degree_norm", [False, True])
def test_the_pooled_graph_is_as_it_is_asked_for(
    cls: type[SoftPool], remove_self_loops: bool, degree_norm: bool
) -> None:
    x, a, s = graph()
    out = make(cls, remove_self_loops=remove_self_loops, degree_norm=degree_norm)(x, a, s=s)
    m = s.mT @ a @ s
    if remove_self_loops:
        m = m - torch.diag_embed(m.diagonal(dim1=1, dim2=2))
    d = m.sum(-1).sqrt()
    close(out.a, m / (d.unsqueeze(-1) * d.unsqueeze(-2)) if degree_norm else m)


def test_what_the_authors_do_is_the_default() -> None:
    x, a, s = graph()
    for cls in SOFT:
        bare = cls in (DiffPool, DMoNPool, AsymCheegerCutPool)
        same = make(cls, remove_self_loops=not bare, degree_norm=not bare)
        close(make(cls)(x, a, s=s).a, same(x, a, s=s).a)
