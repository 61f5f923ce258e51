"""Have a dataset ready before the runs that need it: on a login node, in an image, ahead of a sweep."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from poolbench.data.raw import RawGraphs


class Dataset(Protocol):
    """What every dataset of `poolbench.data` is: a name, and its content when asked."""

    name: str

    def load(self) -> RawGraphs: ...


def prepare(dataset: Dataset) -> dict[str, Any]:
    """Fetch and parse `dataset`, and return the facts to print about it.

    Raises `PoolBenchError` as `dataset.load` does.
    """
    raw = dataset.load()
    folder: Path | None = getattr(dataset, "folder", None)
    return {
        "name": raw.name,
        **raw.stats(),
        "source": raw.provenance.get("kind"),
        "where": raw.provenance.get("where"),
        "sha256": raw.provenance.get("sha256"),
        "fingerprint": raw.fingerprint(),
        "path": None if folder is None else str(folder),
    }
