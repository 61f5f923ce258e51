"""Index files of ten folds that a paper's authors published, by name: from the cache, a mirror, or their repository."""

from __future__ import annotations

import shutil
from pathlib import Path

from poolbench.data.cache import cache_dir, workspace
from poolbench.data.sources import fetch
from poolbench.errors import PoolBenchError, nearest

COLLECTION = "splits/dgcnn-10fold_idx"
"""In the cache, and on a mirror."""
HOST = "https://raw.githubusercontent.com/JinheonBaek/GMT/a178b590b158b21423ac0dbc3fcf1b41a94fc52a/datasets"
"""Of Baek, Kang, Hwang, ICLR 2021; the folds of Zhang, Cui, Neumann, Chen, "An End-to-End Deep Learning Architecture
for Graph Classification", AAAI 2018."""
FOLDS = 10
PUBLISHED = ("COLLAB", "DD", "ENZYMES", "IMDB-BINARY", "IMDB-MULTI", "NCI1", "PROTEINS")
"""Datasets of which graphs stand there in the order of the TU files; those of MUTAG do not."""


def test_graphs(name: str, data: str | Path | None = None, mirror: str | None = None) -> list[list[int]]:
    """The graphs that each of the ten folds tests, counted from 0. Graphs may be in none: what ten does not divide.

    Args:
        name: of the dataset. data: the cache folder; None for POOLBENCH_DATA or the user's cache folder.
        mirror: folder or base URL laid out as the cache is; None for POOLBENCH_MIRROR.

    Raises `PoolBenchError` for a dataset that has none, where nobody has the files, and for what are no such files.
    """
    if name not in PUBLISHED:
        raise PoolBenchError(f"protocol.published={name} is unknown{nearest(name, PUBLISHED)}; there are "
                             f"{', '.join(PUBLISHED)}")  # fmt: skip
    folder = cache_dir(data) / COLLECTION / name
    if not folder.is_dir():
        with workspace(cache_dir(data), f"index-folds-{name}") as work:
            if not folder.is_dir():  # another process may have been quicker
                _fetch(name, folder, work, mirror)
    return [_read(folder / _file(fold)) for fold in range(FOLDS)]


def _file(fold: int) -> str:
    return f"test_idx-{fold + 1}.txt"


def _fetch(name: str, folder: Path, work: Path, mirror: str | None) -> None:
    """All ten files, or none."""
    made = work / "folds"
    made.mkdir()
    for fold in range(FOLDS):
        file = f"{name}/{_file(fold)}"
        host = f"{HOST}/{name}/10fold_idx/{_file(fold)}"
        try:
            found = fetch.fetch_archive(f"{name}, fold {fold}", [f"{COLLECTION}/{file}"], host, work, mirror)
        except fetch.Absent as error:
            raise PoolBenchError(
                f"the folds of {name} are not here: {error}. Put the files {_file(0)} to {_file(FOLDS - 1)} into "
                f"{folder}, set POOLBENCH_MIRROR to a folder or URL that holds {COLLECTION}/{name}, or go online"
            ) from error
        shutil.copyfile(found.path, made / _file(fold))
        _read(made / _file(fold))
    folder.parent.mkdir(parents=True, exist_ok=True)
    made.rename(folder)


def _read(path: Path) -> list[int]:
    try:
        graphs = [int(line) for line in path.read_text(encoding="ascii").split()]
    except (OSError, ValueError) as error:
        raise PoolBenchError(f"{path} cannot be read ({error}); one number of a graph a line is expected") from error
    if not graphs or min(graphs) < 0 or len(set(graphs)) < len(graphs):
        raise PoolBenchError(f"{path} is no fold: numbers of graphs from 0 on, each once, are expected")
    return graphs
