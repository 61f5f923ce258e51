"""Have a dataset ready before the runs that need it: on a login node, in an image, ahead of a sweep."""

from __future__ import annotations

from typing import Any

from poolbench.data.dataset import GraphDataset


def prepare(dataset: GraphDataset) -> dict[str, Any]:
    """Fetch and parse `dataset`, and return the facts to print about it.

    Raises `PoolBenchError` as `dataset.load` does.
    """
    raw = dataset.load()
    folder = dataset.folder
    return {
        "name": raw.name,
        **raw.stats(),
        "source": raw.provenance.get("kind"),
        "where": raw.provenance.get("where"),
        "sha256": raw.provenance.get("sha256"),
        "fingerprint": raw.fingerprint(),
        "path": None if folder is None else str(folder),
    }
