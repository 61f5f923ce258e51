"""Configuration folders: PoolBench's own, and those that POOLBENCH_CONFIG lists as PATH does; --config-dir adds to it.

Each is laid out as conf/ (pool/NAME.yaml, dataset/NAME.yaml, experiment/PAPER/NAME.yaml). PoolBench's names are its
own: a file that claims one is refused. Of the other folders the first that has a name wins.
"""

from __future__ import annotations

import os
from pathlib import Path

from poolbench import conf_dir
from poolbench.errors import PoolBenchError

VARIABLE = "POOLBENCH_CONFIG"


def further() -> list[Path]:
    """The folders beside it, each once, in the order in which they are searched.

    Raises `PoolBenchError` for one that is not there.
    """
    named = [Path(name).absolute() for name in os.environ.get(VARIABLE, "").split(os.pathsep) if name]
    for folder in named:
        if not folder.is_dir():
            raise PoolBenchError(f"{VARIABLE}: there is no folder {folder}")
    own = conf_dir().resolve()
    return [folder for folder in dict.fromkeys(named) if folder.resolve() != own]


def words() -> list[str]:
    """The words of a command line that make another command see the same folders."""
    return [word for folder in further() for word in ("--config-dir", os.path.relpath(folder))]


def files(group: str) -> dict[str, Path]:
    """The file of each name of a group; folders inside it are in front, as in peers/pyg_topk."""
    found: dict[str, Path] = {}
    for folder in (conf_dir(), *further()):
        for name, path in files_of(folder, group).items():
            found.setdefault(name, path)
    return found


def files_of(folder: Path, group: str) -> dict[str, Path]:
    """The same of one configuration folder."""
    place = folder / group
    return {path.relative_to(place).with_suffix("").as_posix(): path for path in sorted(place.rglob("*.yaml"))}


def groups(*folders: Path) -> list[str]:
    """The groups, such as pool and dataset, that a folder has files of; of all folders where none is given."""
    return sorted({p.name for folder in folders or (conf_dir(), *further()) for p in folder.iterdir() if p.is_dir()})
