"""LaPool: Noutahi, Beaini, Horwood, Giguère, Tossou, "Towards Interpretable Sparse Graph Representation Learning with
Laplacian Pooling", 2019, arXiv 1905.11577."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from poolbench.linalg import Matrix, Ragged, Sparse
from poolbench.linalg.products import expand, offsets, pointers, rows, segment_sum
from poolbench.pool.base.hostgraph import to_numpy
from poolbench.pool.base.layers import not_half
from poolbench.pool.base.selection import OverlapSelection
from poolbench.pool.base.src import SRCPool

ASSIGNMENTS = ("sparsemax", "softmax")
LEADERS = ("gt", "ge")
WORD = 64  # leaders whose breadth-first searches run side by side, one a bit


class LaPool(SRCPool):
    r"""Nodes that differ from their neighbours more than these do lead; the others are shared out among the leaders.

        v_u  = || (L X)_u ||_2,   L = D - A
        u leads where v_u > v_w for every neighbour w
        S_u  = sparsemax over the leaders l of u's graph of  beta_ul cos(x_u, x_l);   a leader's row is one-hot
        beta = 1 / (length of the shortest path from u to l), 0 where there is none;  1 with shortest_path_reg=False
        X'   = S'X,   A' = S'AS        (diagonal kept, not normalised)

    No parameters, no losses. The gradient flows through the cosines and through X and A; which nodes lead, and beta,
    are constants for it. The pooled graphs differ in size, so A' is a sparse (disjoint) matrix.

    Decisions, where sources differ:

    * As in the paper and Spektral's document, beta goes into the sparsemax and a leader is strictly above its
      neighbours. Spektral's code takes a softmax of the cosines, times beta (`assignment="softmax"`: rows need not
      sum to 1), and lets ties lead (`leaders="ge"`). A node whose neighbours tie it does not lead; a graph in which
      nobody is strictly above all neighbours uses `ge`, so that no graph vanishes.
    * Paths count hops; `weighted_paths=True` takes the edge weights as lengths, as Spektral's code does. Both ignore
      the direction of edges. A leader in another component takes part in the sparsemax with beta cos = 0.
    * Neighbours are the heads of a node's own entries in A; self-loops and stored zeros are none. A node without
      neighbours leads. Values of v that differ by rounding alone (64 units in the last place) are equal.
    * The cosine is guarded: 0, with gradient 0, where one of the two feature vectors is zero (Spektral: NaN).
    * The authors' own code differs in more: L = I - D^-1 A by default, leaders whose neighbours all lead are dropped,
      the diagonal of A' is removed, X' goes through a dense layer.

    Cost O(E f + sum_g n_g k_g (f + k_g)) time, O(E f + sum_g n_g k_g) memory, where graph g has n_g nodes and k_g
    leaders. The k_g^2 is for A' (less where S is sparse); nothing is padded to the largest graph. Hop counts take
    O(E ceil(k / 64)) for each level of the breadth-first search; weighted paths are computed on the host, by
    Dijkstra's algorithm, in O(k_g (E_g + n_g log n_g)).

    Args:
        shortest_path_reg: weigh the cosines by inverse path lengths.
        return_selection: also return S.
        assignment: "sparsemax" or "softmax".
        leaders: "gt" or "ge".
        weighted_paths: edge weights are lengths. Raises ValueError for a negative one.
    """

    def __init__(
        self,
        shortest_path_reg: bool = True,
        return_selection: bool = False,
        assignment: str = "sparsemax",
        leaders: str = "gt",
        weighted_paths: bool = False,
        **unknown: Any,
    ) -> None:
        super().__init__(return_selection=return_selection, **unknown)
        if assignment not in ASSIGNMENTS:
            raise ValueError(f"assignment={assignment!r}: one of {', '.join(ASSIGNMENTS)}")
        if leaders not in LEADERS:
            raise ValueError(f"leaders={leaders!r}: one of {', '.join(LEADERS)}")
        self.shortest_path_reg = shortest_path_reg
        self.assignment = assignment
        self.leaders = leaders
        self.weighted_paths = weighted_paths

    def select(self, x: Tensor, a: Matrix, i: Tensor | None) -> OverlapSelection:
        a = a.sparse()
        edges = a.filter((a.row != a.col) & (a.weights.detach() != 0))
        with torch.autocast(x.device.type, enabled=False):
            x = not_half(x)
            pairs = Pairs.of(leading_nodes(x.detach(), edges, strict=self.leaders == "gt"), a.nodes)
            cosine = pairs.cosine(x)
            beta = self._beta(edges, pairs, cosine.dtype)
            if self.assignment == "softmax":
                weight = pairs.rows.softmax(cosine)
                weight = weight if beta is None else weight * beta
                keep = None if beta is None else beta > 0
            else:
                weight = sparsemax(cosine if beta is None else cosine * beta, pairs.rows)
                keep = weight.detach() != 0
        return pairs.selection(weight, keep)

    @torch.no_grad()
    def _beta(self, edges: Sparse, pairs: Pairs, dtype: torch.dtype) -> Tensor | None:
        if not self.shortest_path_reg:
            return None
        length = path_lengths(edges, pairs) if self.weighted_paths else hop_counts(edges, pairs)
        return length.to(dtype).reciprocal()  # 1 / inf = 0


@torch.no_grad()
def leading_nodes(x: Tensor, edges: Sparse, strict: bool) -> Tensor:
    """The nodes with v_u > v_w (`strict`) or v_u >= v_w for every entry (u, w) of `edges`, in increasing order.

    A graph without a strict leader uses >=. `edges` has no self-loops.
    """
    nodes, row, col = edges.nodes, edges.row, edges.col
    # Summed over differences: exactly 0 on constant features, where D X - A X would leave rounding to be compared.
    difference = x.index_select(0, row) - x.index_select(0, col)
    if edges.value is not None:
        difference = difference * edges.value.to(x.dtype).unsqueeze(-1)
    v = torch.linalg.vector_norm(segment_sum(difference, edges.crow, row), dim=-1)
    near = 1.0 + 64 * torch.finfo(v.dtype).eps

    def unbeaten(beaten: Tensor) -> Tensor:
        return torch.ones(v.numel(), dtype=torch.bool, device=v.device).index_fill(0, row[beaten], False)

    own, other = v.index_select(0, row), v.index_select(0, col)
    leads = unbeaten(other > own * near)
    if strict:
        above = unbeaten(other * near >= own)
        has_one = torch.zeros(nodes.num_graphs, dtype=torch.bool, device=v.device)
        has_one = has_one.index_fill(0, nodes.index[above], True)
        leads = torch.where(has_one[nodes.index], above, leads)
    return leads.nonzero(as_tuple=True)[0]


@dataclass(frozen=True)
class Pairs:
    """Every pair (follower, leader of its graph), follower by follower: p = sum_g (n_g - k_g) k_g of them.

    leaders, followers: node numbers, increasing: [k], [n - k].
    nodes, pooled: the nodes and the leaders of each graph.
    rows: which pairs belong to which follower.
    number: the leader of each pair, counted from 0 in its graph: [p].
    counts: (followers, leaders) of each graph, on the host.
    """

    leaders: Tensor
    followers: Tensor
    nodes: Ragged
    pooled: Ragged
    rows: Ragged
    number: Tensor
    counts: list[tuple[int, int]]

    @classmethod
    def of(cls, leaders: Tensor, nodes: Ragged) -> Pairs:
        follows = torch.ones(nodes.num_rows, dtype=torch.bool, device=leaders.device).index_fill(0, leaders, False)
        (followers,) = follows.nonzero(as_tuple=True)
        pooled = Ragged.from_index(nodes.index[leaders], nodes.num_graphs)
        counts = [(n - k, k) for n, k in zip(nodes.host_sizes, pooled.host_sizes, strict=True)]
        ptr = offsets(pooled.sizes[nodes.index[followers]])
        index = rows(ptr, sum(m * k for m, k in counts))
        number = torch.arange(index.numel(), device=index.device) - ptr.index_select(0, index)
        return cls(leaders, followers, nodes, pooled, Ragged(ptr, index=index), number, counts)

    @property
    def graph(self) -> Tensor:
        """Graph of each follower: [n - k]."""
        return self.nodes.index[self.followers]

    def cosine(self, x: Tensor) -> Tensor:
        """cos(x_u, x_l) of each pair, 0 where a vector is zero: [p]. One product a graph."""
        square = x.square().sum(-1, keepdim=True)
        zero = square == 0
        x = x * square.masked_fill(zero, 1.0).rsqrt().masked_fill(zero, 0.0)
        left = x.index_select(0, self.followers).split([m for m, _ in self.counts])
        right = x.index_select(0, self.leaders).split([k for _, k in self.counts])
        blocks = [(u @ w.T).reshape(-1) for u, w in zip(left, right, strict=True) if u.numel() and w.numel()]
        return torch.cat(blocks) if blocks else x.new_zeros(self.number.numel())

    def selection(self, weight: Tensor, keep: Tensor | None) -> OverlapSelection:
        """S from the weights of the pairs, those in `keep` alone, and a 1 for each leader."""
        row, cluster = self.rows.index, self.number
        if keep is not None:
            (kept,) = keep.nonzero(as_tuple=True)
            row, cluster, weight = row[kept], cluster[kept], weight.index_select(0, kept)
        cluster = cluster + self.pooled.ptr[self.graph].index_select(0, row)
        own = torch.arange(self.leaders.numel(), device=cluster.device)
        node = torch.cat([self.followers[row], self.leaders])
        cluster = torch.cat([cluster, own])
        weight = torch.cat([weight, weight.new_ones(own.numel())])
        order = torch.argsort(cluster * self.nodes.num_rows + node)
        return OverlapSelection(node[order], cluster[order], weight.index_select(0, order), self.nodes, self.pooled)


def sparsemax(z: Tensor, rows: Ragged) -> Tensor:
    """The Euclidean projection of the entries of each row on the simplex: [p] -> [p], sums of 1, most entries 0.

    p = max(z - tau, 0) with the tau for which a row sums to 1 (Martins & Astudillo, ICML 2016, arXiv 1602.02068).
    Found by Michelot's iteration (JOTA 1986), which drops what lies below the present tau until nothing does: a few
    sums over entries that grow fewer, where a sort of ragged rows would be two. Differentiable in z; NaN stays NaN.
    """
    count = rows.num_graphs
    z = z - rows.expand(rows.max(z.detach()))
    with torch.no_grad():
        entry, index, ptr = z.detach(), rows.index, rows.ptr
        support = torch.arange(z.numel(), device=z.device)
        while True:
            tau = (segment_sum(entry, ptr, index) - 1) / ptr.diff()
            (stays,) = (~(entry <= tau.index_select(0, index))).nonzero(as_tuple=True)
            if stays.numel() == support.numel():
                break
            entry, index, support = (v.index_select(0, stays) for v in (entry, index, support))
            ptr = pointers(index, count)
    inside = z.index_select(0, support)
    tau = (segment_sum(inside, ptr, index) - 1) / ptr.diff().clamp(min=1)
    return torch.zeros_like(z).index_copy(0, support, inside - expand(tau, ptr, index))


@torch.no_grad()
def hop_counts(edges: Sparse, pairs: Pairs) -> Tensor:
    """Hops between the two nodes of each pair, direction ignored, inf where there is no path: [p] float.

    Breadth-first search from all leaders of all graphs at once: a node holds one bit a leader, and a level ORs the
    words of its neighbours. A graph with more than 64 leaders stands there in copies, one for each 64.
    """
    nodes, pooled, device = pairs.nodes, pairs.pooled, pairs.number.device
    copies = (pooled.sizes + WORD - 1) // WORD
    graph = torch.repeat_interleave(copies)
    start = offsets(nodes.sizes[graph])  # first row of each copy
    first = offsets(copies)  # first copy of each graph
    total = int(start[-1])
    copy = rows(start, total)
    node = torch.arange(total, device=device) - start[copy] + nodes.ptr[graph[copy]]
    neighbours = _Neighbours(edges, node)

    def place(graph: Tensor, node: Tensor, number: Tensor) -> Tensor:
        """Row of a node in the copy of its graph that holds leader `number`."""
        return start[first[graph] + number // WORD] + node - nodes.ptr[graph]

    leader_number = pooled.numbers
    one = torch.ones_like(leader_number)
    reached = torch.zeros(total, dtype=torch.int64, device=device)
    reached[place(pooled.index, pairs.leaders, leader_number)] = one << leader_number % WORD

    # Levels that a bit has waited, added up in binary: digits[j] holds the bits worth 2 ** j of every counter.
    digits: list[Tensor] = []
    while True:
        carry = ~reached
        for j, digit in enumerate(digits):
            digits[j], carry = digit ^ carry, digit & carry
        if not digits or bool(carry.any()):
            digits.append(carry)
        wider = reached | neighbours.any_of(reached)
        if torch.equal(wider, reached):
            break
        reached = wider

    follower = pairs.rows.index
    at = place(pairs.graph, pairs.followers, torch.zeros_like(pairs.followers)).index_select(0, follower)
    at += (pairs.number // WORD) * nodes.sizes[pairs.graph].index_select(0, follower)
    bit = pairs.number % WORD
    hops = torch.zeros(at.numel(), dtype=torch.int64, device=device)
    for j, digit in enumerate(digits):
        hops.add_((digit.index_select(0, at) >> bit) & 1, alpha=1 << j)
    return hops.to(torch.get_default_dtype()).masked_fill(((reached.index_select(0, at) >> bit) & 1) == 0, torch.inf)


class _Neighbours:
    """The undirected neighbours of each row, where row r stands for node[r] in a copy of its graph."""

    def __init__(self, edges: Sparse, node: Tensor) -> None:
        crow, col = edges.crow, edges.col
        if not edges.symmetric:
            row = torch.cat([edges.row, col])
            crow, order = pointers(row, edges.nodes.num_rows), torch.argsort(row)
            col = torch.cat([col, edges.row])[order]
        degree = crow.diff()[node]
        ptr = offsets(degree)
        row = rows(ptr, int(ptr[-1]))
        entry = torch.arange(row.numel(), device=col.device)
        self.col = col[entry + (crow[:-1][node] - ptr[:-1])[row]] - node[row] + row
        (self.rows,) = degree.nonzero(as_tuple=True)
        self.heads = ptr[:-1][self.rows]
        last = (ptr[1:] - 1)[row]
        most = int(degree.max()) if degree.numel() else 0
        self.jumps = [torch.minimum(entry + (1 << j), last) for j in range(max(0, most - 1).bit_length())]

    def any_of(self, word: Tensor) -> Tensor:
        """The OR of the words of each row's neighbours: windows of 1, 2, 4 ... entries, which may overlap."""
        window = word.index_select(0, self.col)
        for jump in self.jumps:
            window = window | window.index_select(0, jump)
        return torch.zeros_like(word).index_copy(0, self.rows, window.index_select(0, self.heads))


@torch.no_grad()
def path_lengths(edges: Sparse, pairs: Pairs) -> Tensor:
    """Length of the shortest path between the two nodes of each pair, edge weights as lengths: [p] float.

    Direction is ignored; inf where there is no path. Raises ValueError for a negative weight.
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import dijkstra

    if bool((edges.weights < 0).any()):
        raise ValueError("weighted_paths=True takes edge weights as lengths: they must not be negative")
    ptr, crow = pairs.nodes.ptr.tolist(), to_numpy(edges.crow)
    col, weight = to_numpy(edges.col), to_numpy(edges.weights.double())
    followers, leaders = pairs.followers.cpu(), to_numpy(pairs.leaders)
    blocks, f, k = [], 0, 0
    for g, (m, c) in enumerate(pairs.counts):
        lo, hi = ptr[g], ptr[g + 1]
        if m and c:
            own = slice(int(crow[lo]), int(crow[hi]))
            pattern = (col[own] - lo, crow[lo : hi + 1] - crow[lo])
            graph = csr_array((weight[own], *pattern), shape=(hi - lo, hi - lo))
            length = torch.from_numpy(dijkstra(graph, directed=False, indices=leaders[k : k + c] - lo))
            blocks.append(length[:, followers[f : f + m] - lo].T.reshape(-1))
        f, k = f + m, k + c
    out = torch.cat(blocks) if blocks else torch.zeros(0, dtype=torch.float64)
    return out.to(device=pairs.number.device)
