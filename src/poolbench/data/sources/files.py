"""Datasets of a few files that are used as they come: no archive to unpack, and quick to parse."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from poolbench.data.cache import cache_dir, workspace
from poolbench.data.dataset import GraphDataset
from poolbench.data.raw import RawGraphs
from poolbench.data.sources import fetch
from poolbench.errors import PoolBenchError


class FileDataset(GraphDataset):
    """Base of datasets whose files are fetched one by one and parsed at each `load`; a subclass says how to parse.

    Args:
        name: of the dataset, for people.
        collection: the folder of the cache and of a mirror that the files lie in.
        addresses: for each file its address on the official host.
        folder: where the cache keeps the files, relative to the cache; they lie in it or in `raw` below it.
        data: the cache folder; None for POOLBENCH_DATA or the user's cache folder.
        mirror: folder or base URL laid out as the official hosts are; None for POOLBENCH_MIRROR.
    """

    folder: Path

    def __init__(
        self,
        name: str,
        collection: str,
        addresses: Mapping[str, str],
        folder: str,
        data: str | Path | None = None,
        mirror: str | None = None,
    ) -> None:
        self.name, self.collection, self.addresses = name, collection, dict(addresses)
        self.cache = cache_dir(data)
        self.mirror = mirror
        self.folder = self.cache / folder

    def parse(self, folder: Path) -> RawGraphs:
        """The content of the files in `folder`. Raises `PoolBenchError` where they are damaged."""
        raise NotImplementedError

    def load(self) -> RawGraphs:
        """The dataset's content: from the cache, else a mirror, or the official host.

        Raises `PoolBenchError`: nobody has the files, they are damaged, or the cache cannot be written to.
        """
        if folder := self._held():
            return self._parse(folder)
        with workspace(self.cache, self.folder.relative_to(self.cache).as_posix().replace("/", "-")) as work:
            if folder := self._held():
                return self._parse(folder)  # another process was quicker
            return self._fetch(work)

    def _parse(self, folder: Path) -> RawGraphs:
        return self.parse(folder).with_provenance(**self._provenance(folder))

    def _held(self) -> Path | None:
        """The folder in the cache that holds all files, if any: `raw`, where PyG keeps them too, or the one above."""
        folders = (self.folder / "raw", self.folder)
        return next((f for f in folders if all((f / file).is_file() for file in self.addresses)), None)

    def _fetch(self, work: Path) -> RawGraphs:
        """Fetch and parse in the workspace: only what is sound moves to its place, all files at once."""
        target = work / "raw"
        target.mkdir()
        facts: dict[str, Any] = {}
        for file, address in self.addresses.items():
            part = work / f"{file}.part"
            part.mkdir()
            archive = self._one(file, address, part)
            shutil.copyfile(archive.path, target / file)
            facts = archive.provenance
        facts = {**facts, "where": _folder_of(facts["where"], len(self.addresses)), **_sha256(target, self.addresses)}
        raw = self.parse(target).with_provenance(**facts)
        (target / "provenance.json").write_text(json.dumps(facts), encoding="utf-8")
        if (self.folder / "raw").exists():
            raise PoolBenchError(
                f"{self.folder / 'raw'} exists and does not hold {', '.join(self.addresses)}; remove it"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        target.rename(self.folder / "raw")
        return raw

    def _one(self, file: str, address: str, work: Path) -> fetch.Archive:
        try:
            return fetch.fetch_archive(self.name, [f"{self.collection}/{file}", file], address, work, self.mirror)
        except fetch.Absent as error:
            files = next(iter(self.addresses)) if len(self.addresses) == 1 else f"its {len(self.addresses)} files"
            raise PoolBenchError(
                f"dataset {self.name} is not here: {error}. Three ways to supply it: put {files} into {self.folder}; "
                f"set POOLBENCH_MIRROR to a folder or URL that holds {self.collection}/{file}; or go online "
                f"(`poolbench prepare dataset={self.name}` on a connected machine, then copy the cache folder)"
            ) from error

    def _provenance(self, folder: Path) -> dict[str, Any]:
        """What was noted when the files came, or what can be said of files that somebody put there."""
        if facts := fetch.noted(folder):
            return facts
        where = folder.relative_to(self.cache).as_posix()
        return {"kind": "cache", "where": where, "retrieved": fetch.now(), **_sha256(folder, self.addresses)}


def _folder_of(where: str, files: int) -> str:
    """The address of the only file, or that of the folder which holds them all."""
    return where if files == 1 else where.rpartition("/")[0]


def _sha256(folder: Path, files: Mapping[str, str]) -> dict[str, Any]:
    """SHA-256 of the only file, or over the names and hashes of all."""
    names = sorted(files)
    if len(names) == 1:
        return {"sha256": fetch.file_sha256(folder / names[0])}
    return {"sha256": None, "files_sha256": fetch.files_sha256(folder, names)}
