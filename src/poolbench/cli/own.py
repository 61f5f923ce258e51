"""Datasets of one's own by name: what lies in the data folder, and functions of one's own (docs/own_data.md)."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from poolbench.cli.folders import files
from poolbench.errors import PoolBenchError

NAME = re.compile(r"[A-Za-z0-9][\w.+-]*")
"""Of a dataset, as the classes behind it have it."""
_CHOSEN = re.compile(r"\bdataset: *(.+)")
"""What an experiment chooses, for itself or as an axis."""
FUNCTION = "poolbench.data.sources.own.FromFunction"
OWN_KEYS = ("name", "features", "use_node_attr", "max_degree")
"""Its arguments beside the function."""


def lying(data: str | None = None) -> dict[str, dict[str, Path]]:
    """What is in the data folder: names of datasets, each with where it lies, by the file of the group that reads it.

    Args:
        data: the data folder; None for that of the environment.
    """
    from poolbench.data.cache import cache_dir

    try:
        cache = cache_dir(data)
        own = [path for path in _within(cache / "own") if path.suffix == ".pt" or path.is_dir()]
        tu = [path for path in _within(cache / "TUDataset") if _is_tu(path)]
    except (PoolBenchError, OSError):  # whoever reads the data says what is wrong with the folder
        return {}
    found: dict[str, dict[str, Path]] = {}
    for file, paths in (("own", own), ("tu", tu)):
        for path in paths:
            name = path.name.removesuffix(".pt") if file == "own" else path.name
            if NAME.fullmatch(name):
                found.setdefault(name, {})[file] = path
    return found


def _within(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _is_tu(folder: Path) -> bool:
    return any((place / f"{folder.name}_A.txt").is_file() for place in (folder, folder / "raw"))


def asked(words: Sequence[str]) -> list[str]:
    """The datasets that the words of a command line name, and the experiments that they name."""
    given = [word.lstrip("+").partition("=") for word in words]
    named = [value for key, _, value in given if key == "dataset"]
    if experiments := {name for key, _, value in given if key == "experiment" for name in value.strip("[]").split(",")}:
        texts = [path.read_text(errors="replace") for name, path in files("experiment").items() if name in experiments]
        named += [value for text in texts for value in _CHOSEN.findall(text)]
    return [name for value in named for name in NAME.findall(value)]


def data_folder(words: Sequence[str]) -> str | None:
    """The data folder that the words of a command line name; None where they name none."""
    found = [word.partition("=")[2].strip("'\"") for word in words if word.startswith("paths.data=")]
    return found[-1] if found and found[-1] not in ("", "null") else None


def nodes(words: Sequence[str], known: Sequence[str]) -> dict[str, dict[str, Any]]:
    """What `dataset=NAME` stands for, by name: of what lies in the data folder, and of functions that the words name.

    Args:
        known: names that are taken, in whichever case.

    Raises `PoolBenchError` for a name that the words ask for and that lies in two places.
    """
    here, taken, names = lying(data_folder(words)), {name.lower() for name in known}, asked(words)
    made: dict[str, dict[str, Any]] = {}
    for name, places in here.items():
        if name.lower() in taken:
            continue
        if len(places) == 1:
            made[name] = {"defaults": [*places], "name": name}
        elif name in names:
            raise PoolBenchError(
                f"dataset={name} lies in two places, {' and '.join(map(str, places.values()))}: say "
                f"{' or '.join(f'dataset={file} dataset.name={name}' for file in places)}"
            )
    for name in names:
        if name.lower() not in taken and name not in here and _is_of_a_module(name):
            made[name] = {"defaults": ["own"], "_target_": name, "name": name}
    return made


def _is_of_a_module(name: str) -> bool:
    """Whether a name can be that of a function; its module is looked for and not imported."""
    parts = name.split(".")
    if len(parts) < 2 or not all(part.isidentifier() for part in parts):
        return False
    try:
        return PathFinder.find_spec(parts[0]) is not None
    except (ImportError, ValueError):
        return False


def with_function(part: Mapping[str, Any]) -> Mapping[str, Any]:
    """The dataset of a configuration; where its `_target_` is a function, the class that calls it in its place.

    Keys beside those of the class are the function's arguments. Nothing is imported: words may come from a record.
    """
    target = part.get("_target_")
    if not isinstance(target, str) or target.startswith("poolbench.") or not _is_function(target):
        return part
    arguments = {key: value for key, value in part.items() if key not in OWN_KEYS}
    if isinstance(given := arguments.get("function"), Mapping):  # as a record has them
        arguments = {**{key: value for key, value in arguments.items() if key != "function"}, **given}
    return {
        "_target_": FUNCTION,
        "function": arguments,
        **{key: part[key] for key in OWN_KEYS if key in part},
    }


def _is_function(target: str) -> bool:
    """Whether the source says that a name is a function; where it does not, whether it is written as one."""
    module, _, name = target.rpartition(".")
    for node in _body(module):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
            return isinstance(node, ast.FunctionDef)
    return name[:1].islower()


def _body(module: str) -> list[ast.stmt]:
    """The statements of a module of Python; none where it is not found."""
    places: Sequence[str] | None = None
    origin = None
    try:
        parts = module.split(".")
        for k in range(len(parts)):
            spec = PathFinder.find_spec(".".join(parts[: k + 1]), places)
            if spec is None:
                return []
            places, origin = spec.submodule_search_locations, spec.origin
        return ast.parse(Path(str(origin)).read_bytes()).body if str(origin).endswith(".py") else []
    except (ImportError, OSError, SyntaxError, ValueError):
        return []
