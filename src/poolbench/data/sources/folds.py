"""Folds that a paper's authors published, by name: from the cache, a mirror, or their repository."""

from __future__ import annotations

import shutil
from pathlib import Path

from poolbench.data.cache import cache_dir, workspace
from poolbench.data.sources import fetch
from poolbench.errors import PoolBenchError, nearest

COLLECTION = "splits/gnn-comparison"
"""In the cache, and on a mirror."""
HOST = (
    "https://raw.githubusercontent.com/diningphil/gnn-comparison/097d0a2c172149075e40ece474c30c222526dbcb/data_splits"
)
"""Of Errica et al., "A Fair Comparison of Graph Neural Networks for Graph Classification", ICLR 2020."""

_SOCIAL = ("COLLAB", "IMDB-BINARY", "IMDB-MULTI", "REDDIT-BINARY", "REDDIT-MULTI-5K")
PUBLISHED: dict[str, tuple[str, ...]] = {
    "CHEMICAL": ("DD", "ENZYMES", "NCI1", "PROTEINS_full"),
    "COLLABORATIVE_1": _SOCIAL,
    "COLLABORATIVE_DEGREE": _SOCIAL,
}
"""Datasets by folder: the social ones were cut anew for each choice of node features, a constant or the degree."""
_SAME_GRAPHS = {"PROTEINS": "PROTEINS_full"}
"""The same graphs, order and labels, under the name that the folds go by."""


def published_folds(name: str, data: str | Path | None = None, mirror: str | None = None) -> Path:
    """The JSON file of the folds `name`, such as CHEMICAL/ENZYMES.

    Args:
        data: the cache folder; None for POOLBENCH_DATA or the user's cache folder.
        mirror: folder or base URL laid out as the cache is; None for POOLBENCH_MIRROR.

    Raises `PoolBenchError` for a name that there is not, and where nobody has the file.
    """
    group, _, dataset = name.partition("/")
    known = [f"{folder}/{one}" for folder, datasets in PUBLISHED.items() for one in datasets]
    dataset = _SAME_GRAPHS.get(dataset, dataset)
    if f"{group}/{dataset}" not in known:
        raise PoolBenchError(f"protocol.folds={name} is unknown{nearest(name, known)}; there are {', '.join(known)}")
    file = f"{group}/{dataset}_splits.json"
    cache = cache_dir(data)
    path = cache / COLLECTION / file
    if path.is_file():
        return path
    with workspace(cache, f"folds-{group}-{dataset}") as work:
        if not path.is_file():  # another process may have been quicker
            try:
                found = fetch.fetch_archive(name, [f"{COLLECTION}/{file}"], f"{HOST}/{file}", work, mirror)
            except fetch.Absent as error:
                raise PoolBenchError(
                    f"the folds {name} are not here: {error}. Put {file} into {cache / COLLECTION}, set "
                    f"POOLBENCH_MIRROR to a folder or URL that holds {COLLECTION}/{file}, or go online"
                ) from error
            shutil.copyfile(found.path, work / "folds.json")
            path.parent.mkdir(parents=True, exist_ok=True)
            (work / "folds.json").rename(path)
    return path
