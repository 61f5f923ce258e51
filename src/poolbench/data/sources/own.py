"""Graphs of one's own: what a function returns, or what lies in the data folder (docs/own_data.md)."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
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
from poolbench.data.sources.own_graphs import raw_graphs
from poolbench.data.sources.own_ogb import is_ogb, ogb_files, read_ogb
from poolbench.data.sources.own_tables import CSV, STEMS, read_tables, tables_in
from poolbench.data.target import Target
from poolbench.errors import PoolBenchError, nearest, one_line
from poolbench.loading import loading
from poolbench.records.record import PARTS

COLLECTION = "own"


class OwnGraphs(GraphDataset):
    """Base of datasets of one's own: a subclass overrides `graphs`, and what else of `GraphDataset` is to be otherwise.

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
        except (Exception, SystemExit) as error:  # whatever somebody's own code raises
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


class FromFunction(OwnGraphs):
    """A dataset that a function of a module on the Python path makes.

    Args:
        function: `_target_`, the function as module.function, and the arguments that it is called with. It returns what
            `graphs` does.
        name, features, use_node_attr, max_degree: see `OwnGraphs`.

    Raises `PoolBenchError` where there is no such function, or it does not take these arguments.
    """

    def __init__(
        self,
        function: Mapping[str, Any],
        name: str,
        features: str | Sequence[str] = "auto",
        use_node_attr: bool = True,
        max_degree: int = 135,
    ) -> None:
        super().__init__(name, features, use_node_attr, max_degree)
        self.place = str(function.get("_target_"))
        self.arguments = {key: value for key, value in function.items() if key != "_target_"}
        self.function = _function(self.place)
        _check_arguments(self.place, self.function, self.arguments)

    def graphs(self) -> Any:
        return self.function(**self.arguments)

    def provenance(self) -> dict[str, Any]:
        return {"kind": "own", "where": self.place, "sha256": None}


def _function(target: str) -> Callable[..., Any]:
    module, _, name = target.rpartition(".")
    try:
        with loading():
            found: Callable[..., Any] = getattr(importlib.import_module(module), name)
    except (Exception, SystemExit) as error:  # whatever somebody else's module raises
        raise PoolBenchError(
            f"dataset: the function {target} cannot be imported ({type(error).__name__}: {one_line(error)}); "
            "give module.function of a module on the Python path"
        ) from error
    if not callable(found):
        raise PoolBenchError(f"dataset: {target} is no function but {type(found).__name__}")
    return found


def _check_arguments(target: str, function: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):  # one of C, which says itself what it takes
        return
    takes = [name for name, one in parameters.items() if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)]
    needed = [name for name, one in parameters.items() if one.default is one.empty
              and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD) and name not in arguments]  # fmt: skip
    if needed:
        raise PoolBenchError(f"dataset: {target} needs {', '.join(needed)}: add +dataset.{needed[0]}=VALUE")
    if not any(one.kind is one.VAR_KEYWORD for one in parameters.values()):
        for name in arguments:
            if name not in takes:
                hint = nearest(name, takes) or f"; it takes {', '.join(takes) or 'none'}"
                said = f"dataset.{name} is no argument of the function {target}{hint}"
                raise PoolBenchError(f"{said}; a function alone is dataset={target}")


class OwnFiles(OwnGraphs):
    """A dataset in the data folder: `own/NAME.pt`, or in `own/NAME/` tables or a folder laid out as those of OGB.

    The tables are `nodes`, `edges` and `graphs`, as `.csv` or `.parquet` (`own_tables`); what OGB has is in `own_ogb`.
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
        file, folder = self.folder / f"{self.name}.pt", self.folder / self.name
        if file.is_file() and folder.is_dir():
            raise PoolBenchError(f"dataset {self.name}: there are both {file} and {folder}; remove one of them")
        if file.is_file():
            return _read(file)
        tables = tables_in(folder)
        if tables and is_ogb(folder):
            raise PoolBenchError(f"{folder} holds both tables and the folder raw of an OGB dataset; remove one of them")
        if is_ogb(folder):
            return read_ogb(folder)
        if tables:
            return read_tables(folder)
        raise PoolBenchError(
            f"dataset {self.name} is not here: put it into {file}, or into {', '.join(s + CSV for s in STEMS)} of "
            f"{folder}; docs/own_data.md says how"
        )

    def provenance(self) -> dict[str, Any]:
        if (file := self.folder / f"{self.name}.pt").is_file():
            return {"kind": "own", "where": f"{COLLECTION}/{file.name}", "sha256": fetch.file_sha256(file)}
        folder = self.folder / self.name
        hashes = fetch.files_sha256(folder, ogb_files(folder) if is_ogb(folder) else tables_in(folder))
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
