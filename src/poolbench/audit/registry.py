"""What the names of a configuration group stand for: the classes and arguments that files of conf/ have.

Files are read as YAML; nothing that they name is imported.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import yaml

from poolbench import conf_dir
from poolbench.errors import PoolBenchError, one_line
from poolbench.plugins import plugins

GROUPS = ("pool", "model", "dataset", "protocol", "optimizer", "scheduler", "logger", "perturb")
"""The groups whose files name a class."""
PEERS = "peers/"
"""The folder of operators of other libraries, which a name leaves out."""

File = Mapping[str, Any]
"""As a file has it: `_target_` and arguments."""


@dataclass(frozen=True)
class Registry:
    """The files of each group by name, of PoolBench, of configuration folders and of installed plugins."""

    files: Mapping[str, Mapping[str, File]]

    @classmethod
    def of(cls, folders: Sequence[Path] = ()) -> Registry:
        """That of PoolBench's own folder, which goes first, and of further ones.

        Raises `PoolBenchError` for a file that is no YAML.
        """
        return _read((conf_dir(), *folders), tuple(sys.path))

    def targets(self, group: str) -> frozenset[str]:
        """The classes that a group has."""
        return self._targets[group]

    @cached_property
    def layers(self) -> frozenset[str]:
        """The classes that operators have within, such as `gnn`."""
        arguments = (value for file in self.files["pool"].values() for value in file.values())
        return frozenset(str(value["_target_"]) for value in arguments
                         if isinstance(value, Mapping) and "_target_" in value)  # fmt: skip

    @cached_property
    def _targets(self) -> dict[str, frozenset[str]]:
        return {group: frozenset(str(file["_target_"]) for file in files.values())
                for group, files in self.files.items()}  # fmt: skip


@cache
def _read(folders: tuple[Path, ...], search: tuple[str, ...]) -> Registry:
    # search: `sys.path`, by which plugins are found.
    found: dict[str, dict[str, File]] = {}
    for group in GROUPS:
        files: dict[str, File] = {}
        for folder in folders:
            for name, file in _files(folder / group):
                files.setdefault(name, file)
        found[group] = {name: file for name, file in files.items() if file.get("_target_")}
    taken = set(found["pool"])
    found["pool"] |= {each.name: each.config for each in plugins(taken) if not each.problem}
    return Registry(found)


def _files(place: Path) -> Iterator[tuple[str, File]]:
    for path in sorted(place.rglob("*.yaml")):
        name = path.relative_to(place).with_suffix("").as_posix()
        yield name.removeprefix(PEERS), _with_defaults(path, place)


def _with_defaults(path: Path, place: Path) -> dict[str, Any]:
    """A file, over the files of its group that it begins with."""
    try:
        read = yaml.load(path.read_bytes(), _Loader) or {}
    except (yaml.YAMLError, OSError, ValueError) as error:
        raise PoolBenchError(f"{path} cannot be read: {one_line(error)}") from error
    made: dict[str, Any] = {}
    for base in read.pop("defaults", ()) if isinstance(read, dict) else ():
        below = place / f"{base}.yaml"
        if base != "_self_" and below.is_file() and below != path:
            made |= _with_defaults(below, place)
    return made | (read if isinstance(read, dict) else {})


_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
