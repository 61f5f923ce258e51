"""Single graphs whose nodes have classes, for clustering: citation, co-purchase and co-author networks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from poolbench.data import target
from poolbench.data.features import Features, NodeFeatures
from poolbench.data.raw import RawGraphs
from poolbench.data.sources import unpickle
from poolbench.data.sources.files import FileDataset
from poolbench.data.sources.nodegraph_names import NODE_GRAPHS
from poolbench.data.sources.unsound import said
from poolbench.data.target import Target
from poolbench.errors import PoolBenchError, nearest

Array = np.ndarray[Any, np.dtype[Any]]

PLANETOID_PARTS = ("x", "tx", "allx", "y", "ty", "ally", "graph", "test.index")
VALIDATION = 500
"""Nodes of Planetoid's public split that are validated on."""
_MATRIX = ("data", "indices", "indptr", "shape")


class NodeGraph(FileDataset):
    """One undirected graph without self-loops; its nodes have a class (`raw.node_y`) and words or the like as features.

    Planetoid (Yang, Cohen & Salakhutdinov, ICML 2016, arXiv 1603.08861), CitationFull (Bojchevski & Günnemann, ICLR
    2018, arXiv 1707.03815), Amazon and Coauthor (Shchur et al., 2018, arXiv 1811.05868). Edges are taken in both
    directions, whatever the files hold, and weights are dropped.

    Args:
        name: one of `NODE_GRAPHS`.
        features, use_node_attr, max_degree, ...: see `NodeFeatures`; `auto` is what the files hold.
        binary: 1 for each positive number of the files, as PyTorch Geometric reads CitationFull, Amazon and Coauthor.
            False: as the files have them (binary for Cora and CiteSeer, tf-idf for PubMed).
        normalize: divide each row of x by the sum of its absolute values; zero rows stay. The MinCutPool and
            JustBalance experiments do this, those of DMoN do not.
        data: the cache folder; None for POOLBENCH_DATA or the user's cache folder.
        mirror: folder or base URL laid out as the official hosts are; None for POOLBENCH_MIRROR.

    Raises `PoolBenchError` for a name that there is not, and when loaded, for files that are missing or damaged.
    """

    def __init__(
        self,
        name: str,
        features: str | Sequence[str] = "auto",
        use_node_attr: bool = True,
        max_degree: int = 135,
        binary: bool = False,
        normalize: bool = False,
        data: str | Path | None = None,
        mirror: str | None = None,
    ) -> None:
        if name not in NODE_GRAPHS:
            raise PoolBenchError(f"there is no node graph {name!r}{nearest(str(name), NODE_GRAPHS)}")
        for key, value in (("binary", binary), ("normalize", normalize)):
            if not isinstance(value, bool):
                raise PoolBenchError(f"{key}={value!r} must be true or false")
        facts = NODE_GRAPHS[name]
        self.planetoid = facts.collection == "Planetoid"
        files = [f"{facts.file}.{part}" for part in PLANETOID_PARTS] if self.planetoid else [facts.file]
        super().__init__(name, facts.collection, {f: f"{facts.host}/{f}" for f in files}, facts.folder, data, mirror)
        self.features = NodeFeatures(features, use_node_attr=use_node_attr, max_degree=max_degree)
        self.binary, self.normalize = binary, normalize

    def target(self, raw: RawGraphs) -> Target:
        return target.nothing(raw)

    def official_node_split(self, raw: RawGraphs) -> dict[str, Tensor] | None:
        """Planetoid's: the labelled nodes of the files, the 500 after them, and the test nodes. None for the others."""
        folder = self._held()
        if not self.planetoid or folder is None:
            return None
        stem = folder / NODE_GRAPHS[self.name].file
        with open(f"{stem}.y", "rb") as file:
            labels = unpickle.load(file, file.name)
        labelled = len(labels) if isinstance(labels, np.ndarray) and labels.ndim else 0
        test = torch.from_numpy(_test_index(stem)).sort().values
        if not 0 < labelled <= int(test[0]) - VALIDATION or int(test[-1]) >= raw.total_nodes:
            raise PoolBenchError(
                f"{stem}.y has {labelled} nodes; these and {VALIDATION} more, to validate on, are expected before the "
                f"test nodes, {int(test[0])} to {int(test[-1])} of {raw.total_nodes}; fetch the files again"
            )
        return {"train": torch.arange(labelled), "val": torch.arange(labelled, labelled + VALIDATION), "test": test}

    def node_features(self, raw: RawGraphs) -> Features:
        x, names, vocabulary = super().node_features(raw)
        if self.normalize:
            x = x / x.abs().sum(dim=1, keepdim=True).clamp(min=torch.finfo(x.dtype).tiny)
        return Features(x, names, vocabulary)

    def parse(self, folder: Path) -> RawGraphs:
        facts = NODE_GRAPHS[self.name]
        path = folder / facts.file
        x, adjacency, y = read_planetoid(path, facts.nodes) if self.planetoid else read_npz(path)
        n = x.shape[0]
        if adjacency.shape != (n, n) or y.shape != (n,):
            raise PoolBenchError(
                f"dataset {self.name}: {path} has {n} rows of features, but {adjacency.shape[0]} nodes and "
                f"{y.size} classes; fetch it again"
            )
        # Features are made dense: what is larger than the dataset could be of any size.
        classes = int(y.max(initial=-1)) + 1
        if n > facts.nodes or x.shape[1] > facts.features or classes > facts.classes or y.min(initial=0) < 0:
            raise PoolBenchError(
                f"dataset {self.name}: {path} has {n} nodes with {x.shape[1]} features and classes from "
                f"{y.min(initial=0)} to {classes - 1}, but {self.name} has {facts.nodes}, {facts.features} and "
                f"{facts.classes}; fetch it again"
            )
        if self.binary:
            x = (x > 0).astype(np.float32)
        return RawGraphs(
            name=self.name,
            num_nodes=torch.tensor([n]),
            edge_index=undirected(adjacency),
            node_attributes=torch.from_numpy(x.astype(np.float32).toarray()),
            node_y=torch.from_numpy(np.ascontiguousarray(y, dtype=np.int64)),
        )


def undirected(adjacency: sp.spmatrix) -> Tensor:
    """edge_index [2, E] of a matrix and its transpose, sorted, without self-loops and without repetition."""
    both = (adjacency != 0) + (adjacency != 0).T
    both.setdiag(False)
    both.eliminate_zeros()
    coo = both.tocsr().sorted_indices().tocoo()
    return torch.from_numpy(np.stack([coo.row, coo.col]).astype(np.int64))


def read_planetoid(stem: Path, nodes: int) -> tuple[sp.csr_matrix, sp.csr_matrix, Array]:
    """Features [N, F], adjacency [N, N] and classes [N] of the files STEM.x, STEM.tx, ..., as Planetoid has them.

    The test nodes stand in the order of STEM.test.index. CiteSeer's file leaves out 15 nodes among them: they have no
    edges, no words, and class 0, as in PyTorch Geometric.

    Raises `PoolBenchError` for a file that is no pickle of what is expected, or more than `nodes` nodes.
    """
    held: dict[str, Any] = {}
    for part in PLANETOID_PARTS[:-1]:
        with open(f"{stem}.{part}", "rb") as file:
            held[part] = unpickle.load(file, file.name)
    test = _test_index(stem)
    try:
        x, tx = (_typed(held, part, sp.csr_matrix) for part in ("allx", "tx"))
        y, ty = (_typed(held, part, np.ndarray) for part in ("ally", "ty"))
        n = max(int(test.max()) + 1, x.shape[0])
        if n > nodes or test.min() < x.shape[0] or len(test) != tx.shape[0]:
            raise ValueError(
                f"{len(test)} test nodes from {test.min()} to {test.max()}, with {tx.shape[0]} rows of features, "
                f"after {x.shape[0]} others of {nodes}"
            )
        # Row `place[k]` of the stacked rows is node k; nodes that nobody lists point at a row of zeros.
        place = np.full(n, x.shape[0] + test.size)
        place[: x.shape[0]] = np.arange(x.shape[0])
        place[test] = x.shape[0] + np.arange(test.size)
        if (y.shape[0], *ty.shape) != (x.shape[0], tx.shape[0], y.shape[1]):
            raise ValueError(f"classes of the shapes {y.shape} and {ty.shape}")
        x = sp.vstack([x, tx, sp.csr_matrix((1, x.shape[1]))]).tocsr()[place]
        y = np.concatenate([y, ty, np.zeros((1, y.shape[1]))])[place].argmax(axis=1)
        row, col = _ends(_typed(held, "graph", dict), n, Path(f"{stem}.graph").stat().st_size)
        adjacency = sp.csr_matrix((np.ones(len(row), dtype=bool), (row, col)), shape=(n, n))
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise PoolBenchError(f"{stem}.* are no Planetoid files ({said(error)}); fetch them again") from error
    return x, adjacency, y


def _test_index(stem: Path) -> Array:
    """[n] int64, the test nodes in the order of the file, each once."""
    try:
        text = Path(f"{stem}.test.index").read_text(encoding="ascii")
        test = np.array([int(word) for word in text.split()], dtype=np.int64)
        if not test.size or len(np.unique(test)) < len(test) or test.min() < 0:
            raise ValueError("no nodes, or one of them twice")
    except (ValueError, OverflowError) as error:
        raise PoolBenchError(f"{stem}.test.index is no list of nodes ({said(error)}); fetch it again") from error
    return test


def _typed(held: dict[str, Any], part: str, kind: type) -> Any:
    if not isinstance(held[part], kind):
        raise TypeError(f"{part} is no {kind.__name__}")
    return held[part]


def _ends(graph: dict[Any, Any], n: int, size: int) -> tuple[Array, Array]:
    """Row and column of each edge of the dictionary node -> [nodes] in a file of `size` bytes."""
    lists = list(graph.values())
    # One list may stand in the file once and be meant by many nodes.
    if not all(isinstance(ends, list) for ends in lists) or sum(map(len, lists)) > size:
        raise ValueError("the graph is no dictionary of lists")
    ends = [end for ends in lists for end in ends]
    if not all(isinstance(node, int) and 0 <= node < n for node in (*graph, *ends)):
        raise ValueError(f"the graph names something that is no node from 0 to {n - 1}")
    return np.repeat(np.array(list(graph), dtype=np.int64), [len(ends) for ends in lists]), np.array(ends, np.int64)


def read_npz(path: Path) -> tuple[sp.csr_matrix, sp.csr_matrix, Array]:
    """Features [N, F], adjacency [N, N] and classes [N] of an npz file with two CSR matrices, `attr` and `adj`.

    Raises `PoolBenchError` where the file is damaged or holds no such matrices.
    """
    names = [f"{matrix}_{part}" for matrix in ("attr", "adj") for part in _MATRIX]
    held = unpickle.load_npz(path, (*names, "labels"))
    if held["labels"].dtype.kind not in "iu":
        raise PoolBenchError(f"{path}: labels are no whole numbers; fetch it again")
    return _csr(path, held, "attr"), _csr(path, held, "adj"), held["labels"]


def _csr(path: Path, held: dict[str, Array], name: str) -> sp.csr_matrix:
    try:
        return unpickle.csr(*(held[f"{name}_{part}"] for part in _MATRIX))
    except (TypeError, ValueError, OverflowError) as error:
        raise PoolBenchError(f"{path}: {name} is no matrix ({said(error)}); fetch it again") from error
