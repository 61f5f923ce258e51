"""The version of the code that a run consists of: an attribute of an attempt, no part of what the run is.

`code_version` hashes the code that can change a result: the syntax trees, without comments and docstrings, of the
modules that the run imports. Of an import only counts what a name stands for, by the name that it was first known
under (`changes.MOVED`), so that a module can move. Nothing is imported here: imports are read from the source, so that
the answer costs milliseconds and is known before torch is loaded.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.machinery import PathFinder
from importlib.util import cache_from_source
from pathlib import Path
from typing import Any

import msgspec

from poolbench.disk import put
from poolbench.plugins import offering
from poolbench.records.changes import first, today
from poolbench.records.provenance import package_version

PACKAGE = "poolbench"
PACKAGE_ROOT = Path(__file__).resolve().parent.parent
FLOORS = ("linalg", "pool", "nn", "data", "learn")
"""The parts of the package that can change a result. The rooms above only keep books."""

ENTRY = ("poolbench.learn.train",)
"""Modules that every run imports, beside the classes that its configuration names."""

EXECUTION_MODULES = tuple(
    f"poolbench.learn.{name}" for name in ("diagnostics", "loggers", "memory", "pictures", "progress")
)
"""Modules of those floors that report on a run and cannot change it."""

MOST_PARTS = 64
"""Of a dotted name that is looked up."""

PEERS = {"poolbench.pool.peers.pyg": "torch-geometric", "poolbench.pool.peers.tgp": "torch-geometric-pool"}
"""Modules whose operators are the code of another library, and the package whose version stands for that code."""


# -------------------------------------------------------------------------------------------- modules and their files


@dataclass(frozen=True)
class Module:
    """A source file and the dotted name under which it is imported.

    `root` is the folder from which the dotted name counts: the package's parent, or an entry of `sys.path`.
    """

    name: str
    path: Path
    root: Path

    @property
    def package(self) -> str:
        """The package against which this module's relative imports are resolved."""
        return self.name if self.path.name == "__init__.py" else self.name.rpartition(".")[0]


def _file_of(dotted: str, root: Path) -> Path | None:
    """The source file of the module `dotted` under `root`, or None where there is none."""
    base = root.joinpath(*dotted.split("."))
    for path in (base.with_name(base.name + ".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


def _root_of(top: str) -> Path | None:
    """The folder that holds the top-level module `top`, or None for built-in, compiled and installed libraries.

    Libraries are left out: their versions stand in the record's provenance, and a library's patch release must not
    make every record of a benchmark stale. A package that offers operators to PoolBench is none of them.
    """
    if top == PACKAGE:
        return PACKAGE_ROOT.parent
    search = tuple(sys.path)
    return None if top in sys.stdlib_module_names else _find_root(top, search, top in offering(search))


@lru_cache(maxsize=256)
def _find_root(top: str, search: tuple[str, ...], installed: bool) -> Path | None:
    spec = PathFinder.find_spec(top, list(search))
    places = list(spec.submodule_search_locations or ()) if spec else []
    if spec and spec.origin and spec.origin.endswith(".py"):
        places.insert(0, spec.origin)
    if not places:
        return None
    place = Path(places[0]).resolve()
    if not installed and {"site-packages", "dist-packages"} & set(place.parts):
        return None
    root = place.parent
    return root.parent if place.name == "__init__.py" else root


def _module(dotted: str) -> Module | None:
    """The module `dotted`, if it is ours or the user's own."""
    root = _root_of(dotted.partition(".")[0])
    path = _file_of(dotted, root) if root else None
    return Module(dotted, path, root) if root and path else None


# ------------------------------------------------------------------------------------------------------- syntax trees


@dataclass(frozen=True)
class Source:
    """What one file says, without its comments and docstrings."""

    digest: str
    """Empty where it says nothing."""
    defines: frozenset[str]
    """Names bound at the top level by a class, a function, an assignment or an import."""
    declares: frozenset[str]
    """Those of them that a class or a function binds."""
    imports: tuple[tuple[str, int, tuple[str, ...]], ...]
    """(module, relative level, names); no names for `import module`."""
    attributes: frozenset[tuple[str, str]]
    """(alias, attribute) wherever an attribute of a plain name is taken."""
    aliases: tuple[tuple[str, str, int, str], ...]
    """(alias, module, relative level, name or '') for each import, to know what an alias stands for."""


_SOURCES: dict[Path, tuple[tuple[int, int], Source]] = {}


def _stamp(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_mtime_ns, stat.st_size


def _source(path: Path) -> Source:
    """The parsed file, kept until its time or size changes."""
    stamp = _stamp(path)
    known = _SOURCES.get(path)
    if known is None or known[0] != stamp:
        known = (stamp, _kept(path))
        _SOURCES[path] = known
    return known[1]


def _kept(path: Path) -> Source:
    """What a file says: as it lies beside Python's own compiled form of it, else parsed, and laid there.

    To parse all files takes a third of a second, longer than many an answer. By its digest a kept one is of the same
    bytes, read by the same `_parse` under the same Python.
    """
    code, place = path.read_bytes(), Path(cache_from_source(path)).with_suffix(".source.json")
    digest = hashlib.sha256(_reader() + code).hexdigest().encode()
    with contextlib.suppress(OSError, msgspec.DecodeError):
        before, _, text = place.read_bytes().partition(b"\n")
        if before == digest:
            return msgspec.json.decode(text, type=Source)
    source = _parse(code)
    if not sys.dont_write_bytecode:
        with contextlib.suppress(OSError):  # such as a folder that nobody may write to
            put(place, digest + b"\n" + msgspec.json.encode(source))
    return source


@cache
def _reader() -> bytes:
    """The code that parses."""
    return Path(__file__).read_bytes()


def _parse(code: bytes) -> Source:
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError):
        # The import itself will say what is wrong; until then the bytes stand for the file.
        empty: frozenset[str] = frozenset()
        return Source(hashlib.sha256(code).hexdigest(), empty, empty, (), frozenset(), ())
    reader = _Reader()
    reader.read(tree)
    imports, aliases = _imports(reader.imports)
    text = " ".join(reader.text)
    return Source(
        digest="" if text in ("(Module )", "(Module body [ ] )") else hashlib.sha256(text.encode()).hexdigest(),
        defines=frozenset(_defined(tree.body)),
        declares=frozenset(n.name for n in tree.body if isinstance(n, _DEFINITIONS)),
        imports=imports,
        attributes=frozenset(reader.attributes),
        aliases=aliases,
    )


_DEFINITIONS = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
_WITH_DOCSTRINGS = (*_DEFINITIONS, ast.Module)


class _Reader:
    """One walk over a syntax tree: its text for the hash, its imports, and the attributes of plain names.

    `ast.dump` would not do: it writes fields that only newer Pythons have (`type_params`), and so gives one code two
    hashes. Here what is empty is left out, and so is what follows from the place (`ctx`).
    """

    def __init__(self) -> None:
        self.text: list[str] = []
        self.imports: list[ast.Import | ast.ImportFrom] = []
        self.attributes: set[tuple[str, str]] = set()
        self._never_runs = False

    def read(self, node: ast.AST) -> None:
        self._note(node)
        if isinstance(node, ast.Import | ast.ImportFrom):
            return  # what it binds is part of the version by its meaning (`_meanings`)
        write = self.text.append
        write(f"({type(node).__name__}")
        for name in node._fields:
            value = getattr(node, name, None)
            if value is None or value == [] or name in ("ctx", "kind"):
                continue
            write(name)
            if isinstance(value, list):
                self._read_list(node, name, value)
            elif isinstance(value, ast.AST):
                self.read(value)
            else:
                write(repr(value))
        write(")")

    def _read_list(self, node: ast.AST, name: str, values: list[Any]) -> None:
        documented = name == "body" and isinstance(node, _WITH_DOCSTRINGS)
        outer = self._never_runs
        self._never_runs |= name == "body" and isinstance(node, ast.If) and _is_type_checking(node.test)
        self.text.append("[")
        for value in values:
            if not isinstance(value, ast.AST):
                self.text.append(repr(value))
            elif not (documented and _is_text(value)):
                self.read(value)
        self.text.append("]")
        self._never_runs = outer

    def _note(self, node: ast.AST) -> None:
        if self._never_runs:
            return
        if isinstance(node, ast.Import | ast.ImportFrom):
            self.imports.append(node)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            self.attributes.add((node.value.id, node.attr))


def _is_type_checking(test: ast.expr) -> bool:
    """The test of `if TYPE_CHECKING:`, whose imports never run."""
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )


def _is_text(node: ast.AST) -> bool:
    """A docstring, or a string that stands under an attribute to document it."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


Imports = tuple[tuple[str, int, tuple[str, ...]], ...]
Aliases = tuple[tuple[str, str, int, str], ...]


def _imports(nodes: Iterable[ast.Import | ast.ImportFrom]) -> tuple[Imports, Aliases]:
    """The import statements, and what their aliases stand for."""
    imports: list[tuple[str, int, tuple[str, ...]]] = []
    aliases: list[tuple[str, str, int, str]] = []
    for node in nodes:
        if isinstance(node, ast.Import):
            for a in node.names:
                imports.append((a.name, 0, ()))
                top = a.name.partition(".")[0]
                aliases.append((a.asname or top, a.name if a.asname else top, 0, ""))
        else:
            imports.append((node.module or "", node.level, tuple(a.name for a in node.names)))
            aliases += [(a.asname or a.name, node.module or "", node.level, a.name) for a in node.names]
    return tuple(imports), tuple(aliases)


def _defined(body: Iterable[ast.stmt]) -> Iterator[str]:
    for node in body:
        if isinstance(node, _DEFINITIONS):
            yield node.name
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from (a.asname or a.name.partition(".")[0] for a in node.names)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (t.id for t in targets if isinstance(t, ast.Name))


# --------------------------------------------------------------------------------------------------- what is imported


def _absolute(module: Module, name: str, level: int) -> str:
    """The absolute dotted name of `from <level dots><name> import ...` inside `module`."""
    if not level:
        return name
    parts = module.package.split(".")
    parts = parts[: len(parts) - level + 1]
    return ".".join(parts + ([name] if name else []))


def _from(package: str, name: str) -> Iterator[Module]:
    """The modules behind `from package import name`.

    A submodule, or the package itself where it binds the name. Failing both, the package is lazy (it has a
    module-level `__getattr__`) and the file of the package that defines `class name` or `def name` is meant.
    """
    if sub := _module(f"{package}.{name}"):
        yield sub
    base = _module(package)
    if base is None:
        return
    yield base
    if sub or base.path.name != "__init__.py" or name == "*":
        return
    source = _source(base.path)
    if name in source.defines or "__getattr__" not in source.declares:
        return
    for path in sorted(base.path.parent.rglob("*.py")):
        if path.name != "__init__.py" and name in _source(path).declares:
            inner = ".".join(path.relative_to(base.path.parent).with_suffix("").parts)
            yield Module(f"{package}.{inner}", path, base.root)


def _imported_by(module: Module) -> Iterator[Module]:
    source = _source(module.path)
    for name, level, names in source.imports:
        dotted = _absolute(module, name, level)
        if names:
            for each in names:
                yield from _from(dotted, each)
        elif found := _module(dotted):
            yield found
    yield from _used_by_attribute(module, source)


def _used_by_attribute(module: Module, source: Source) -> Iterator[Module]:
    """`from poolbench import pool` and then `pool.MinCutPool`: the import is behind an attribute."""
    packages: dict[str, str] = {}
    for alias, name, level, member in source.aliases:
        dotted = ".".join(filter(None, (_absolute(module, name, level), member)))
        if (found := _module(dotted)) and found.path.name == "__init__.py":
            packages[alias] = dotted
    for alias, attribute in source.attributes:
        if alias in packages:
            yield from _from(packages[alias], attribute)


def _parents(module: Module) -> Iterator[Module]:
    """The packages around `module`, whose `__init__` runs before it."""
    parts = module.name.split(".")
    for i in range(1, len(parts)):
        if found := _module(".".join(parts[:i])):
            yield found


def _target_modules(target: str) -> Iterator[Module]:
    """The modules behind a dotted `_target_`: the longest prefix that is a module, and its lazily imported member."""
    parts = target.split(".")
    # A record may say anything, such as the path of a file, or a name of 100,000 parts.
    if len(parts) > MOST_PARTS or not all(part.isidentifier() for part in parts):
        return
    for i in range(len(parts), 0, -1):
        if found := _module(".".join(parts[:i])):
            yield found
            if i < len(parts):
                yield from _from(found.name, parts[i])
            return


def _counts(module: Module) -> bool:
    """Whether a change in `module` can change a result."""
    parts = module.name.split(".")
    if parts[0] != PACKAGE:
        return True
    return len(parts) > 1 and parts[1] in FLOORS and module.name not in EXECUTION_MODULES


def imported_modules(targets: Iterable[str]) -> dict[str, Module]:
    """The modules, by dotted name, that a run of `targets` imports from this package's floors or from user code.

    Args:
        targets: dotted names of classes, functions or modules, such as `poolbench.pool.mincut.MinCutPool`.
    """
    return {name: read.module for name, read in sorted(_imported(targets).items())}


def _imported(targets: Iterable[str]) -> dict[str, _Read]:
    todo = [m for target in targets for m in _target_modules(target)]
    seen: dict[str, _Read] = {}
    while todo:
        module = todo.pop()
        if module.name not in seen and _counts(module):
            read = seen[module.name] = _read(module)
            todo += read.needs
    return seen


@dataclass(frozen=True)
class _Read:
    """What is worked out of a module once, as versions share most modules.

    stamp: of its file. needs: the packages around it and what it imports. line: what it adds to a version; empty where
    it says nothing, as the `__init__` of many a folder.
    """

    module: Module
    stamp: tuple[int, int]
    needs: tuple[Module, ...]
    line: str


_READ: dict[tuple[Module, tuple[str, ...]], _Read] = {}


def _read(module: Module) -> _Read:
    """What a module is, kept until its file changes."""
    key, stamp = (module, tuple(sys.path)), _stamp(module.path)
    known = _READ.get(key)
    if known is None or known.stamp != stamp:
        # User code imports this package, and this package never user code; beyond one's own folder begins the library
        # of somebody else.
        imported = (m for m in _imported_by(module) if m.root in (module.root, PACKAGE_ROOT.parent))
        known = _READ[key] = _Read(module, stamp, (*_parents(module), *imported), _line(module))
    return known


def code_version(targets: Iterable[str]) -> str:
    """The hash of the code that a run of `targets` consists of, 16 hexadecimal digits.

    Comments, docstrings and formatting do not count, nor does any module that the run does not import. Modules of
    installed libraries do not count either: their versions stand in the record. An operator that is the code of a peer
    counts with the peer's version.

    Args:
        targets: dotted names of classes, functions or modules: every `_target_` of the configuration, and the
            modules that the job imports by itself. Code of the user's own is hashed with what it imports from the
            same folder.
    """
    modules = _imported(targets)
    lines = sorted(read.line for read in modules.values() if read.line)
    lines += [f"{package} {package_version(package)}" for name, package in PEERS.items() if name in modules]
    text = "\n".join(lines)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _line(module: Module) -> str:
    source = _source(module.path)
    return f"{first(module.name)} {source.digest} {_meanings(module, source)}" if source.digest else ""


def _meanings(module: Module, source: Source) -> str:
    """What the names that a module imports stand for."""
    found = set()
    for alias, name, level, member in source.aliases:
        meant = ".".join(filter(None, (_absolute(module, name, level), member)))
        found.add(f"{alias}={first(meant)}")
    return " ".join(sorted(found))


_NESTED = (dict, list, tuple)


def config_targets(config: Any) -> list[str]:
    """Every `_target_` anywhere in a configuration of plain dictionaries and lists, sorted, each once."""
    found: set[str] = set()

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            target = node.get("_target_")
            if isinstance(target, str):
                found.add(target)
        for value in node.values() if isinstance(node, dict) else node:
            if isinstance(value, _NESTED):
                walk(value)

    walk(config)
    return sorted(found)


def installed_code(config: Mapping[str, Any]) -> str:
    """The version of the installed code for a configuration."""
    return _code((*ENTRY, *map(today, config_targets(config))))


@cache
def _code(targets: tuple[str, ...]) -> str:
    return code_version(targets)
