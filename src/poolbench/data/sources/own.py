"""Graphs of one's own: what a function returns, or what lies in the data folder (docs/own_data.md)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from poolbench.data import target
from poolbench.data.cache import cache_dir
from poolbench.data.dataset import GraphDataset
from poolbench.data.features import Features, NodeFeatures, edge_features
from poolbench.data.raw import RawGraphs
from poolbench.data.sources import fetch
from poolbench.data.sources.own_csv import TABLES, read_tables
from poolbench.data.sources.own_graphs import raw_graphs
from poolbench.data.target import Target
from poolbench.errors import PoolBenchError, one_line
from poolbench.records.record import PARTS

COLLECTION = "own"


class OwnGraphs(GraphDataset):
    """Base of datasets that a function makes: a subclass overrides `graphs`, and that is all.

    Of a node `x`, of an edge `edge_attr`: whole numbers are categories (one-hot), others are values. `y`: a whole
    number is a class, anything else is one or several numbers to regress (mean squared error); without `y` only the
    losses of the pool are learnt from. Self-loops are dropped, and edges that are there twice.

    Args:
        name: what people call it. Content that changes needs a new name: a run is known by it.
        features, use_node_attr, max_degree: see `NodeFeatures`.
    """

    def __init__(
        self, name: str, features: str | Sequence[str] = "auto", use_node_attr: bool = True, max_degree: int = 135
    ) -> None:
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][\w.+-]*", name):
            raise PoolBenchError(f"dataset.name={name!r} is no name: letters, digits and . + - _ are expected")
        self.name = name
        self.features = NodeFeatures(features, use_node_attr=use_node_attr, max_degree=max_degree)

    def graphs(self) -> Any:
        """A list of graphs, each a `torch_geometric.data.Data` or a networkx graph; or (list, split), where a split
        is a mapping from `train`, `val` and `test` to the numbers of graphs."""
        raise NotImplementedError

    def provenance(self) -> dict[str, Any]:
        """Where the content comes from."""
        return {"kind": "own", "where": f"{type(self).__module__}.{type(self).__qualname__}", "sha256": None}

    def load(self) -> RawGraphs:
        """The content. Raises `PoolBenchError`, in one line that names the graph and what is wrong with it."""
        try:
            given = self.graphs()
        except PoolBenchError:
            raise
        except Exception as error:  # whatever somebody's own code raises
            raise PoolBenchError(
                f"dataset {self.name}: its graphs cannot be made ({type(error).__name__}: {one_line(error)})"
            ) from error
        return raw_graphs(self.name, given).with_provenance(**self.provenance())

    def edge_features(self, raw: RawGraphs) -> Features | None:
        return edge_features(raw)

    def target(self, raw: RawGraphs) -> Target:
        return target.nothing(raw) if raw.y is None and raw.targets is None else target.natural(raw)

    def official_split(self, raw: RawGraphs) -> dict[str, Tensor] | None:
        parts = {part: graphs for part in PARTS if (graphs := getattr(raw, part)) is not None}
        return parts or None


class OwnFiles(OwnGraphs):
    """A dataset in the data folder: `own/NAME.pt`, or the tables `own/NAME/nodes.csv`, `edges.csv` and `graphs.csv`.

    The `.pt` is what `torch.save` wrote of what `graphs` returns, with `Data` as graphs. It is read with
    `weights_only`, so that no file runs code.

    Args:
        name, features, use_node_attr, max_degree: see `OwnGraphs`.
        data: the data folder; None for POOLBENCH_DATA or the user's cache folder.

    Raises `PoolBenchError` where neither is there, or one is not what is expected.
    """

    folder: Path

    def __init__(
        self,
        name: str,
        features: str | Sequence[str] = "auto",
        use_node_attr: bool = True,
        max_degree: int = 135,
        data: str | Path | None = None,
    ) -> None:
        super().__init__(name, features, use_node_attr, max_degree)
        self.folder = cache_dir(data) / COLLECTION

    def graphs(self) -> Any:
        file, tables = self.folder / f"{self.name}.pt", self.folder / self.name
        if file.is_file() and tables.is_dir():
            raise PoolBenchError(f"dataset {self.name}: there are both {file} and {tables}; remove one of them")
        if file.is_file():
            return _read(file)
        if tables.is_dir():
            return read_tables(tables)
        raise PoolBenchError(
            f"dataset {self.name} is not here: put it into {file}, or into {', '.join(TABLES)} of {tables}; "
            "docs/own_data.md says how"
        )

    def provenance(self) -> dict[str, Any]:
        if (file := self.folder / f"{self.name}.pt").is_file():
            return {"kind": "own", "where": f"{COLLECTION}/{file.name}", "sha256": fetch.file_sha256(file)}
        hashes = fetch.files_sha256(self.folder / self.name, TABLES)
        return {"kind": "own", "where": f"{COLLECTION}/{self.name}", "sha256": None, "files_sha256": hashes}


def _read(file: Path) -> Any:
    from torch_geometric.data import Data  # takes long to import, and only such a file needs it
    from torch_geometric.data.data import DataEdgeAttr, DataTensorAttr
    from torch_geometric.data.storage import GlobalStorage

    try:
        with torch.serialization.safe_globals([Data, DataEdgeAttr, DataTensorAttr, GlobalStorage]):
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises half a dozen types for a file that is not its own
        raise PoolBenchError(
            f"{file} is not read ({type(error).__name__}: {one_line(error)}); "
            "save a list of Data that hold tensors and numbers alone"
        ) from error
