"""Operators that other installed packages offer to `pool=NAME`, by an entry point of the group `poolbench.pools`:

    [project.entry-points."poolbench.pools"]
    mypool = "my_package.pools:MyPool"          # a class, an SRCPool or a GlobalPool
    mypool-large = "my_package.pools:large.yaml" # a file beside my_package/pools.py, or in the folder my_package/pools

A file is one as in conf/pool. Nothing of such a package is imported to know what it offers.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import inspect
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

from poolbench.errors import one_line

GROUP = "poolbench.pools"


@dataclass(frozen=True)
class Plugin:
    """An operator of another package.

    name: what `pool=` calls it. package: name and version of who offers it. config: as a file of conf/pool has it.
    path: of that file, None where the entry point names a class. problem: why it cannot be used, None where it can.
    """

    name: str
    package: str
    config: dict[str, Any]
    path: Path | None = None
    problem: str | None = None

    @property
    def broken(self) -> str:
        """One line that says what is wrong."""
        return f"pool={self.name} of {self.package} cannot be used: {self.problem}"

    def about(self) -> str:
        """The first sentence of its file, or of its class, which is imported for that."""
        if self.path is not None:
            return first_sentence(self.path)
        module, _, name = self.config["_target_"].rpartition(".")
        try:
            text = inspect.getdoc(getattr(importlib.import_module(module), name)) or ""
        except Exception as error:  # whatever somebody else's code raises
            return f"cannot be imported ({type(error).__name__}: {error})"
        return " ".join(text.split("\n\n")[0].split()).split(". ")[0].rstrip(".")


def plugins(taken: Collection[str] = ()) -> list[Plugin]:
    """What the installed packages offer, sorted by name. Names in `taken` are refused, and so is a name given twice."""
    found: list[Plugin] = []
    known = {name: "PoolBench" for name in taken}
    for point in sorted(importlib.metadata.entry_points(group=GROUP), key=lambda p: (p.name, _package(p), p.value)):
        plugin = _read(point)
        if plugin.problem is None and point.name in known:
            plugin = Plugin(point.name, plugin.package, {}, problem=f"{known[point.name]} has an operator of this name")
        if plugin.problem is None:
            known[point.name] = plugin.package
        found.append(plugin)
    return found


@lru_cache(maxsize=8)
def offering(search: tuple[str, ...]) -> Mapping[str, str | None]:
    """The top-level modules that operators are offered from, each with the package that offers them.

    Their code is part of a run, as a user's own is.

    Args:
        search: `sys.path`, for which the answer holds.
    """
    points = importlib.metadata.entry_points(group=GROUP)
    return {p.value.partition(":")[0].partition(".")[0].strip(): p.dist.name if p.dist else None for p in points}


def first_sentence(path: Path) -> str:
    """What the first comment of a configuration file says first."""
    comment = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("# ")]
    return comment[0][2:].split(". ")[0].rstrip(".") if comment else ""


def _package(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else "an unnamed package"


def _read(point: EntryPoint) -> Plugin:
    """The entry point, with what is wrong with it as far as that can be told without importing."""
    package, (module, _, name) = _package(point), point.value.partition(":")
    module, name = module.strip(), name.strip()
    if not re.fullmatch(r"\w[\w-]*", point.name):
        return Plugin(point.name, package, {}, problem="a name has letters, digits, _ and - alone")
    if not name:
        return Plugin(point.name, package, {}, problem=f"{point.value} is neither module:Class nor package:file.yaml")
    try:
        place = _place(module)
        if not name.endswith((".yaml", ".yml")):
            return Plugin(point.name, package, {"_target_": f"{module}.{name}"})
        path = place / name
        return Plugin(point.name, package, _config(path), path)
    except (ImportError, ValueError, OSError) as error:
        return Plugin(point.name, package, {}, problem=str(error).splitlines()[0])


def _place(module: str) -> Path:
    """The folder in which a module of another package lies, its own folder where it is one."""
    top, *inner = module.split(".")
    spec = importlib.util.find_spec(top)
    if spec is None or not (spec.submodule_search_locations or spec.origin):
        raise ImportError(f"there is no module {top}")
    if not spec.submodule_search_locations:
        base = Path(str(spec.origin)).with_suffix("")
    else:
        base = Path(next(iter(spec.submodule_search_locations))).joinpath(*inner)
    if base.is_dir():
        return base
    if not any(base.parent.glob(f"{base.name}.*")):
        raise ImportError(f"there is no module {module}")
    return base.parent


def _config(path: Path) -> dict[str, Any]:
    """A file like those of conf/pool. Raises ValueError or OSError for one that is not."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        config = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    except (OmegaConfBaseException, YAMLError) as error:
        raise ValueError(f"{path}: {one_line(error)}") from error
    if not isinstance(config, dict) or not config.get("_target_"):
        raise ValueError(f"{path} has no _target_")
    return {str(key): value for key, value in config.items()}
