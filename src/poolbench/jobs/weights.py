"""The weights of a run's selected epoch, and what its model was told of the data: a file beside the record, with which
the model is built and asked without the training data."""

from __future__ import annotations

import io
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
import torch
from msgspec import Meta, Struct
from torch import Tensor

from poolbench.data.prepared import Prepared
from poolbench.disk import cannot_write, put
from poolbench.errors import PoolBenchError, one_line
from poolbench.nn.encoder import Channels
from poolbench.nn.model import DataFacts
from poolbench.records.attempts import WEIGHTS

FORMAT = 1
"""Version of the file; one of another version is not read."""


Count = Annotated[int, Meta(ge=0)]
Some = Annotated[int, Meta(ge=1)]


class Columns(Struct, frozen=True, forbid_unknown_fields=True):
    """Features of nodes or edges as a model was trained on them.

    names: of the columns. vocabulary: how many categories each has; None where they are numbers.
    """

    names: list[str]
    vocabulary: list[Some] | None

    def channels(self) -> Channels:
        return Channels(len(self.names), None if self.vocabulary is None else tuple(self.vocabulary))


class About(Struct, frozen=True, forbid_unknown_fields=True):
    """Whose weights they are, and what is to be known to use them.

    run, attempt, code: of the record. x, edges: the features. outputs: width of the answer. kind: of the target
    (`data.target.KINDS`). level: what has an answer, `graphs` or `nodes`. mean_nodes, classes: see `DataFacts`.
    """

    run: str
    attempt: int
    code: str
    x: Columns
    edges: Columns | None
    outputs: Count
    kind: str
    level: str
    mean_nodes: Annotated[float, Meta(ge=0)]
    classes: Some | None


@dataclass(frozen=True)
class Weights:
    """The content of the file. sizes: [G] int64, of the training graphs. values: the model's `state_dict`.
    scaling: [2, F], by what node features are scaled, or None."""

    about: About
    sizes: Tensor
    values: Mapping[str, Tensor]
    scaling: Tensor | None = None

    @classmethod
    def of(
        cls, run: str, attempt: int, code: str, prepared: Prepared, facts: DataFacts, values: Mapping[str, Tensor]
    ) -> Weights:
        """Those of an attempt. facts: what its model was built for."""
        x, edges, target = prepared.x, prepared.edges, prepared.target
        about = About(run, attempt, code, _columns(x.names, x.vocabulary),
                      None if edges is None else _columns(edges.names, edges.vocabulary),
                      facts.out_channels, target.kind, prepared.level, facts.mean_nodes, facts.classes)  # fmt: skip
        return cls(about, torch.tensor(list(facts.sizes), dtype=torch.int64), values, prepared.scaling)

    @property
    def facts(self) -> DataFacts:
        """What the model was told of its data."""
        about = self.about
        x = about.x.channels()
        return DataFacts(x.count, about.outputs, about.mean_nodes, x.vocabulary,
                         None if about.edges is None else about.edges.channels(), about.classes,
                         self.sizes.tolist())  # fmt: skip

    def write(self, folder: Path) -> Path:
        """Into a folder, whole or not at all. Raises `RunError` where it cannot be written."""
        content = io.BytesIO()  # torch.save into a file makes a RuntimeError of a full disk
        about = msgspec.json.encode(self.about).decode()
        held = {"format": FORMAT, "about": about, "sizes": self.sizes, "weights": dict(self.values)}
        torch.save(held if self.scaling is None else held | {"scaling": self.scaling}, content)
        path = folder / WEIGHTS
        try:
            put(path, lambda file: file.write(content.getbuffer()))
        except OSError as error:
            raise cannot_write(path, error) from error
        return path

    @classmethod
    def read(cls, path: Path) -> Weights:
        """Read with `weights_only`: no file runs code. Raises `PoolBenchError` for a file that is no such one."""
        try:
            _check_stored(path)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what torch thinks of a stranger's file is no line of ours
                held: Any = torch.load(path, map_location="cpu", weights_only=True)
            if not isinstance(held, dict):
                raise ValueError("it is no mapping")
            if held["format"] != FORMAT:
                raise ValueError(f"format {held['format']}, expected {FORMAT}")
            about = msgspec.json.decode(held["about"], type=About)
            made = cls(about, held["sizes"], held["weights"], held.get("scaling"))
            if not isinstance(made.sizes, Tensor) or made.sizes.dtype != torch.int64 or made.sizes.dim() != 1:
                raise ValueError("sizes are no whole numbers")
            if made.sizes.nbytes > made.sizes.untyped_storage().nbytes():  # one number, stretched to any length
                raise ValueError("sizes are more than the file holds")
            if not all(isinstance(name, str) and isinstance(w, Tensor) for name, w in made.values.items()):
                raise ValueError("the weights are no tensors by name")
            if (by := made.scaling) is not None and not (
                isinstance(by, Tensor) and by.dtype == torch.float64 and by.shape == (2, len(about.x.names))
            ):
                raise ValueError("the scaling is no two numbers a feature")
        except Exception as error:  # torch.load raises half a dozen types for a file that is not its own
            raise PoolBenchError(
                f"{path} holds no weights of this version of PoolBench ({type(error).__name__}: {one_line(error)}); "
                "do the run again with callbacks.keep_weights=true force=true"
            ) from error
        return made


def _check_stored(path: Path) -> None:
    """Raise ValueError for a file that would take more memory than it has bytes: torch.save packs nothing."""
    with zipfile.ZipFile(path) as held:
        if any(member.compress_type != zipfile.ZIP_STORED for member in held.infolist()):
            raise ValueError("it is packed")


def _columns(names: list[str], vocabulary: tuple[int, ...] | None) -> Columns:
    return Columns(names, None if vocabulary is None else list(vocabulary))
