"""A submission on disk: records of one operator that somebody hands in to a repository of results.

    submissions/NAME/metadata.yaml                      what it is of, whose it is, under which licence
    submissions/NAME/records/<dataset>/<protocol>.jsonl   its records, gathered and stripped

It comes from strangers. Names and sizes are looked at before anything is read, links are not followed, nothing else may
lie there, and the metadata is a small flat file.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import yaml

from poolbench.audit.registry import Registry
from poolbench.errors import PoolBenchError, nearest, one_line, printable
from poolbench.records.gathered import FOLDER

SUBMISSIONS = "submissions"
METADATA = "metadata.yaml"
SCHEMA = 1

LARGEST_METADATA = 16 << 10
"""Bytes of the metadata that are read."""
LARGEST_FILE = 4 << 20
"""Bytes of a file of records: one is gone on with in another after 1 MiB, and a record takes two at the most."""
DEEPEST = 5
"""So many lists and mappings may stand in each other there, one of them the whole stream."""
MOST_BYTES = 256 << 20
"""Of all files together."""
MOST_FILES = 1000
"""Files and folders."""
SHOWN = 20
"""So many things that do not belong there are named."""

_NAME = r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}"
_WORD = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}"
_LICENCE = r"[A-Za-z0-9][A-Za-z0-9.+-]{1,63}"
RULES = {
    "name": (_NAME, "a name of letters, digits, _ and - (64 at most)"),
    "operator": (_NAME, "the name of an operator, of letters, digits, _ and -"),
    "class": (r"[A-Za-z_]\w*(\.[A-Za-z_]\w*){1,9}", "the class of the operator, as module.Class"),
    "code": (
        r"https://[\w.-]+(:\d+)?/[\w./~+-]+@[0-9a-f]{40}([0-9a-f]{24})?",
        "https://HOST/PATH@COMMIT with the whole hash of a commit",
    ),
    "licence": (
        rf"{_LICENCE}( (AND|OR|WITH) {_LICENCE}){{0,5}}",
        "the SPDX identifier of the licence of the code, such as MIT",
    ),
}
"""The texts of the metadata, and what each may be."""
MOST_AUTHORS, LONGEST_AUTHOR = 100, 200


@dataclass(frozen=True)
class Metadata:
    """What a submission is of.

    operator: what its records call it. target: its class. code: address and commit. licence: of the code, by SPDX.
    """

    name: str
    operator: str
    target: str
    code: str
    licence: str
    authors: tuple[str, ...]

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Metadata:
        """Those of a mapping. Raises `PoolBenchError` that names the key that is missing, unknown or wrong."""
        for key in values:
            if key not in (*RULES, "authors", "schema"):
                raise PoolBenchError(f"{printable(key)[:80]} is no key{nearest(str(key)[:80], [*RULES, 'authors'])}")
        if values.get("schema") != SCHEMA:
            raise PoolBenchError(f"schema={_shown(values.get('schema'))}: {SCHEMA} is expected")
        for key in (*RULES, "authors"):
            check(key, values.get(key))
        authors = values["authors"]
        texts = {key: values[key] for key in RULES if key != "class"}
        return cls(target=values["class"], authors=tuple(authors), **texts)

    @classmethod
    def read(cls, folder: Path) -> Metadata:
        """Those in the folder of a submission. Raises `PoolBenchError` in one line that names the file."""
        path = folder / METADATA
        try:
            made = cls.of(_read_yaml(path))
        except PoolBenchError as error:
            raise PoolBenchError(f"{path}: {error}") from error
        if made.name != folder.name:
            raise PoolBenchError(f"{path}: name={made.name}, and the folder is called {printable(folder.name)}")
        return made

    def written(self) -> bytes:
        """As the file has them."""
        values = asdict(self)
        values |= {"schema": SCHEMA, "class": values.pop("target"), "authors": list(self.authors)}
        order = ("schema", *RULES, "authors")
        return yaml.safe_dump({key: values[key] for key in order}, sort_keys=False, allow_unicode=True).encode()

    @property
    def package(self) -> str | None:
        """The package that the class comes from; None: PoolBench."""
        top = self.target.partition(".")[0]
        return None if top == "poolbench" else top

    def declared(self, registry: Registry) -> Registry:
        """A registry that knows the operator by its name and class too, for what builds no operator: of a class in it
        nothing is imported."""
        pools = registry.files["pool"]
        if self.package is None or self.operator in pools:
            return registry
        return Registry({**registry.files, "pool": {**pools, self.operator: {"_target_": self.target}}})


def check(key: str, value: Any) -> None:
    """Raise `PoolBenchError` where a key of the metadata has no such value; None: it is missing."""
    if key == "authors":
        sound = isinstance(value, list) and 0 < len(value) <= MOST_AUTHORS and all(map(_is_author, value))
        expected = "a list of names"
    else:
        pattern, expected = RULES[key]
        sound = isinstance(value, str) and re.fullmatch(pattern, value, re.ASCII) is not None
    if not sound:
        said = "is missing" if value is None else f"= {_shown(value)}"
        raise PoolBenchError(f"{key} {said}: {expected} is expected".replace(" = ", "=", 1))


def _is_author(name: Any) -> bool:
    return isinstance(name, str) and name.isprintable() and 0 < len(name.strip()) <= LONGEST_AUTHOR


def _shown(value: Any) -> str:
    return printable(repr(value) if isinstance(value, str | int | float | None) else type(value).__name__)[:80]


def _read_yaml(path: Path) -> Mapping[str, Any]:
    with open(path, "rb") as file:
        text = file.read(LARGEST_METADATA + 1)
    if len(text) > LARGEST_METADATA:
        raise PoolBenchError(f"it is larger than {LARGEST_METADATA >> 10} KiB")
    try:
        _check_tokens(text)
        values = yaml.load(text, yaml.SafeLoader)
    except (yaml.YAMLError, ValueError) as error:
        raise PoolBenchError(f"it is no YAML: {one_line(error)[:200]}") from error
    if not isinstance(values, dict):
        raise PoolBenchError("a mapping of keys is expected")
    return values


def _check_tokens(text: bytes) -> None:
    """Refuse what a flat file does not need, before it is made: an alias repeats what stands elsewhere, so that a few
    lines of them are terabytes; what stands deep in each other takes a stack, and the square of its length to read."""
    depth = 0
    for token in yaml.scan(text, yaml.SafeLoader):
        if isinstance(token, yaml.AliasToken | yaml.AnchorToken | yaml.TagToken):
            raise PoolBenchError("anchors, aliases and tags are not read")
        depth += type(token).__name__.endswith("StartToken") - type(token).__name__.endswith("EndToken")
        if depth > DEEPEST:
            raise PoolBenchError(f"more than {DEEPEST} lists and mappings stand in each other")


# ------------------------------------------------------------------------------------------------------------ the files


def problems(folder: Path) -> list[str]:
    """What of a folder does not belong to a submission, a line each; nothing of it is read. Empty: it may be read.

    Raises `PoolBenchError` where there is no folder.
    """
    if folder.is_symlink() or not folder.is_dir():
        raise PoolBenchError(f"{folder} is no folder of a submission; {SUBMISSIONS}/NAME is expected")
    if not re.fullmatch(_NAME, folder.name, re.ASCII):
        return [f"{printable(folder)}: {RULES['name'][1]} is expected"]
    found = list(_strange(folder))
    if not (folder / METADATA).exists():
        found.append(f"{folder / METADATA} is missing")
    if not found and not any((folder / FOLDER).glob("*/*.jsonl")):
        found.append(f"{folder / FOLDER} holds no records")
    more = [f"{folder}: and {len(found) - SHOWN} more such"] if len(found) > SHOWN else []
    return [*found[:SHOWN], *more]


def _strange(folder: Path) -> Iterator[str]:
    size = 0
    for number, (path, facts) in enumerate(_walked(folder), 1):
        kind, inner = stat.S_IFMT(facts.st_mode), path.relative_to(folder).parts
        shown = printable(path)
        if kind == stat.S_IFLNK:
            yield f"{shown}: is a link, which is not followed"
        elif not _belongs(inner, kind):
            yield f"{shown}: does not belong to a submission: {METADATA} and {FOLDER}/DATASET/PROTOCOL.jsonl do"
        elif kind == stat.S_IFREG:
            size += facts.st_size
            most = LARGEST_METADATA if len(inner) == 1 else LARGEST_FILE
            if facts.st_size > most:
                yield f"{shown}: is larger than {most >> 10} KiB"
        if size > MOST_BYTES or number > MOST_FILES:
            yield f"{folder}: holds more than {MOST_FILES} files or {MOST_BYTES >> 20} MiB"
            return


def _belongs(inner: tuple[str, ...], kind: int) -> bool:
    """Whether something of that kind may lie there. inner: the names from the submission's folder on."""
    if kind == stat.S_IFDIR:
        return inner == (FOLDER,) or (len(inner) == 2 and inner[0] == FOLDER and _is_word(inner[1]))
    if kind != stat.S_IFREG:
        return False
    return inner == (METADATA,) or (
        len(inner) == 3 and inner[0] == FOLDER and _is_word(inner[1]) and inner[2].endswith(".jsonl")
        and _is_word(inner[2])
    )  # fmt: skip


def _is_word(name: str) -> bool:
    return re.fullmatch(_WORD, name, re.ASCII) is not None


def _walked(folder: Path) -> Iterator[tuple[Path, Any]]:
    """All that lies below a folder, three levels deep: no submission is deeper, and what is goes by its folder."""
    todo = [(folder, 1)]
    while todo:
        place, depth = todo.pop()
        for path in sorted(islice(place.iterdir(), MOST_FILES + 1)):
            facts = path.lstat()
            yield path, facts
            if stat.S_ISDIR(facts.st_mode) and depth < 3:
                todo.append((path, depth + 1))
