"""What is known of data that was prepared before: its fingerprint and the hashes of its splits, without torch.

With the configuration they make the identity of a run, so one that was done is found at once. A small file for each
pair of a dataset and a protocol lies in the cache:

    <cache>/known/<16 digits>.json

It holds as long as the files that the data was read from, the code of dataset and protocol, and the libraries are what
they were. Else, and where the file is damaged, nothing is known: the data is loaded, and the file written anew.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from poolbench.config import Config
from poolbench.data.cache import cache_dir
from poolbench.disk import put
from poolbench.records.identity import canonical_json
from poolbench.records.provenance import package_version
from poolbench.records.version import code_version

if TYPE_CHECKING:
    from poolbench.data.dataset import GraphDataset
    from poolbench.data.prepared import Prepared
    from poolbench.data.protocols import Protocol

log = logging.getLogger(__name__)

FOLDER = "known"
PREPARES = "poolbench.data.prepared"
"""The module that brings dataset and protocol together."""
LIBRARIES = ("numpy", "scipy", "torch")
MANY = 1000
"""Files of a dataset that are looked at each time, at the most."""


class Known(Struct, frozen=True, forbid_unknown_fields=True):
    """What is known of a dataset under a protocol.

    code: digest of what made it (`_code`). files: size and time of change of each file that it was read from.
    fingerprint: of the dataset. folds: how many the protocol has, None for none. splits: hashes, by seed and fold.
    """

    code: str
    files: dict[str, tuple[int, int]]
    fingerprint: str
    folds: int | None
    splits: dict[str, str]

    def split(self, seed: int, fold: int | None) -> str | None:
        """The hash of a split, None where it is not known."""
        return self.splits.get(_key(seed, fold))


def recall(config: Config) -> Known | None:
    """What is known of a configuration's data; None where nothing is, or it need no longer be so."""
    try:
        digest, _, text = _path(config).read_bytes().partition(b"\n")
        found = msgspec.json.decode(text, type=Known)
        whole = digest.decode() == hashlib.sha256(text).hexdigest()
        same = found.code == _code(config) and found.files == _stamps(config, found.files)
        return found if whole and same else None
    except (OSError, ValueError):
        return None


def note(config: Config, dataset: GraphDataset, protocol: Protocol, prepared: Prepared) -> None:
    """Note what `prepared` shows, where it is not known yet and can be told from files. Never fails."""
    fingerprint, split = prepared.fingerprint, prepared.split.hash
    key = _key(config.split.seed, config.fold)
    before = recall(config)
    if before is not None and before.fingerprint == fingerprint:
        if before.splits.get(key) == split:
            return
        splits = {**before.splits, key: split}
    else:
        splits = {key: split}
    try:
        own = _files(dataset)
        if len(own) > MANY or not (own or dataset.generated):
            return
        files = _stamps(config, [*own, *(str(path.absolute()) for path in protocol.files())])
        text = msgspec.json.encode(Known(_code(config), files, fingerprint, protocol.folds, splits))
        path = _path(config)
        path.parent.mkdir(parents=True, exist_ok=True)
        put(path, f"{hashlib.sha256(text).hexdigest()}\n".encode() + text)
    except OSError as error:  # such as a cache that nobody may write to
        log.debug("what is known of %s is not kept: %s", dataset.name, error)


def _files(dataset: GraphDataset) -> list[str]:
    """The files of a dataset in the cache, hidden ones apart."""
    below = [] if dataset.folder is None else dataset.folder.absolute().rglob("*")
    return sorted(str(path) for path in below if path.is_file() and not path.name.startswith("."))


def _stamps(config: Config, files: Iterable[str]) -> dict[str, tuple[int, int]]:
    """Size and time of change of each file, by its path from the cache. Raises `OSError` where one is gone."""
    cache = cache_dir(config.paths.data).absolute()
    paths = [cache / file for file in files]
    stats = {str(path.relative_to(cache) if path.is_relative_to(cache) else path): path.stat() for path in paths}
    return {file: (stat.st_size, stat.st_mtime_ns) for file, stat in stats.items()}


def _path(config: Config) -> Path:
    parts = [config.dataset, config.protocol]
    # A relative path means another file in another folder.
    given = [value for part in parts for value in part.arguments.values() if isinstance(value, str)]
    files = [str(Path(value).absolute()) for value in given if Path(value).is_file()]
    what = canonical_json([files, *([part.target, part.arguments] for part in parts)])
    return cache_dir(config.paths.data) / FOLDER / f"{hashlib.sha256(what.encode()).hexdigest()[:16]}.json"


def _code(config: Config) -> str:
    """A digest of the code that reads the data and draws its splits, and of the libraries below it."""
    libraries = [f"{name} {package_version(name)}" for name in LIBRARIES]
    return " ".join([code_version([PREPARES, config.dataset.target, config.protocol.target]), *libraries])


def _key(seed: int, fold: int | None) -> str:
    return str(seed) if fold is None else f"{seed}/{fold}"
