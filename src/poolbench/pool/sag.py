"""SAGPool: Lee, Lee, Kang, "Self-Attention Graph Pooling", ICML 2019, arXiv 1904.08082."""

from __future__ import annotations

from torch import Tensor

from poolbench.linalg import GCN, Matrix
from poolbench.pool.topk import GatedPool


class SAGPool(GatedPool):
    """Keeps the nodes that a graph convolution with one output scores highest.

        y = D^-1/2 (A + I) D^-1/2 X w        D the row sums of A + I, w [f] without bias   (eq. 3)

    An edge's weight takes part in y. The nodes are ranked by y itself (the paper ranks by tanh(y): the same order),
    the returned score is y, and the pooled nodes stay in input order (the authors' code sorts them by score and adds
    a bias to y). Cost O(n f + E + n log n). No losses. The arguments are those of `GatedPool`; with `gnn` the score is
    that of another layer. PyTorch Geometric's default is a GraphConv, and its layers never see the weights of edges.
    """

    def project(self, x: Tensor, a: Matrix) -> Tensor:
        return a.view(GCN).matmul(self.projection(x).squeeze(-1))
