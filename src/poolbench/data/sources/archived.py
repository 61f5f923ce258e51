"""Datasets that come as one archive, are parsed once in blocks, and stay in the cache in that form."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from poolbench.data.blocks import GraphWriter, read_folder
from poolbench.data.cache import CacheNotWritable, cache_dir, kept, workspace
from poolbench.data.dataset import GraphDataset
from poolbench.data.raw import RawGraphs
from poolbench.data.sources import fetch
from poolbench.data.sources.unpack import unpack
from poolbench.errors import PoolBenchError

PARSED = "parsed-v1"
_MAIN = "raw"


class ArchivedDataset(GraphDataset):
    """Base of datasets with an archive of their own; nothing is touched until `load`.

    A subclass says which files there are and how they are parsed. Where the subfolder `raw` of `folder` is, all of
    them are.

    Args:
        name: the official name.
        folder: where it lies, relative to the cache.
        data: the cache folder; None for POOLBENCH_DATA or the user's cache folder.
        mirror: folder or base URL laid out as the official hosts are; None for POOLBENCH_MIRROR.
    """

    folder: Path
    #: The archive on the official host.
    url: str
    #: Its paths relative to a mirror, tried in this order.
    mirror_paths: Sequence[str]
    #: The files that `parse` reads, relative to `folder`.
    files: Sequence[str]
    #: The subfolder of `folder` that the archive's content goes to, with a slash.
    into: ClassVar[str] = ""
    #: Which further files to keep, as a pattern of the path below `folder`.
    kept: ClassVar[str] = "$^"

    def __init__(self, name: str, folder: str, data: str | Path | None = None, mirror: str | None = None) -> None:
        self.name = name
        self.cache = cache_dir(data)
        self.mirror = mirror
        self.folder = self.cache / folder

    def parse(self, folder: Path, origin: str, out: GraphWriter) -> None:
        """Read the files below `folder` and write all graphs; `origin` is what messages call where they came from.

        Raises `PoolBenchError` for a file that is malformed, or does not hold this dataset.
        """
        raise NotImplementedError

    def unpack(self, archive: fetch.Archive, target: Path, work: Path) -> None:
        """Put the files of the archive into the new folder `target`."""
        place = target / self.into
        place.parent.mkdir(parents=True, exist_ok=True)

        def wanted(path: str) -> bool:
            return self.into + path in self.files or bool(re.match(self.kept, self.into + path))

        unpack(archive, place, wanted, folders=True)

    def official_split(self, raw: RawGraphs) -> dict[str, Tensor] | None:
        parts = {"train": raw.train, "val": raw.val, "test": raw.test}
        return {key: part for key, part in parts.items() if part is not None} or None

    def load(self) -> RawGraphs:
        """The dataset's content: from the cache, a mirror, or the official host.

        The files are parsed once; the parsed form stays in the cache with its provenance. Processes that load the
        same dataset at the same time wait for the first one. The tensors of a large dataset are read-only maps of the
        files (see `blocks.IN_MEMORY`).

        Raises `PoolBenchError`: nobody has it, its archive or its files are damaged, the cache cannot be written to.
        """
        if parsed := self._parsed():
            return parsed
        try:
            with workspace(self.cache, f"{self.folder.parent.name}-{self.folder.name}") as work:
                if parsed := self._parsed():
                    return parsed
                self._make(work)
                return read_folder(self.folder / PARSED)[0]
        except CacheNotWritable:
            # A shared cache may be read-only and hold the files: they are then parsed by each process. What is
            # mapped stays readable after its folder is gone.
            if not self._present():
                raise
            with tempfile.TemporaryDirectory(prefix="poolbench-") as scratch:
                self._write(self.folder, Path(scratch) / PARSED, self._provenance(), str(self.folder))
                return read_folder(Path(scratch) / PARSED)[0]

    def _parsed(self) -> RawGraphs | None:
        """The parsed form, or None where there is none, it is damaged, or the files it was made from have changed."""
        found = kept(self.folder / PARSED, read_folder, "reading the dataset anew")
        if found is None:
            return None
        raw, facts = found
        return raw if not self._present() or facts["files"] == self._signature(self.folder) else None

    def _make(self, work: Path) -> None:
        """Find the files, fetch them into the cache where need be, and parse them; all in the workspace at first."""
        if self._present():
            self._write(self.folder, work / PARSED, self._provenance(), str(self.folder))
        else:
            archive = self._find(self.mirror_paths, self.url, work)
            files = work / "files"
            self.unpack(archive, files, work)
            if missing := [name for name in self.files if not (files / name).is_file()]:
                raise PoolBenchError(
                    f"archive {archive.origin} holds no {missing[0]}, so it is not {self.name}; "
                    "fetch it again, or rename it to the dataset that it holds"
                )
            self._write(files, work / PARSED, archive.provenance, archive.origin)
            (files / _MAIN / "provenance.json").write_text(json.dumps(archive.provenance), encoding="utf-8")
            # `raw` last: where it is, the dataset is whole.
            for part in sorted(files.iterdir(), key=lambda path: path.name == _MAIN):
                self._publish(part, work)
        self._publish(work / PARSED, work)

    def _publish(self, part: Path, work: Path) -> None:
        """Move into the dataset's folder, in the place of what is there."""
        target = self.folder / part.name
        if target.exists():
            target.rename(work / f"old-{part.name}")
        target.parent.mkdir(parents=True, exist_ok=True)
        part.rename(target)

    def _write(self, folder: Path, target: Path, provenance: dict[str, Any], origin: str) -> None:
        out = GraphWriter(target)
        self.parse(folder, origin, out)
        out.close(self.name, provenance, files=self._signature(folder))

    def _present(self) -> bool:
        """Whether the cache holds the files. Raises `PoolBenchError` where it holds only some of them."""
        missing = [name for name in self.files if not (self.folder / name).is_file()]
        if missing and (self.folder / _MAIN).exists():
            raise PoolBenchError(
                f"dataset {self.name}: {self.folder} lacks {missing[0]}; complete the files, or remove the folder"
            )
        return not missing

    def _signature(self, folder: Path) -> dict[str, list[int]]:
        """Size and time of each file: tells that somebody has put other files there."""
        stats = {name: (folder / name).stat() for name in self.files}
        return {name: [stat.st_size, stat.st_mtime_ns] for name, stat in stats.items()}

    def _provenance(self) -> dict[str, Any]:
        """What was noted when the files came, or what can be said of files that somebody put there."""
        return fetch.noted(self.folder / _MAIN) or {
            "kind": "cache",
            "where": self.folder.relative_to(self.cache).as_posix(),
            "sha256": None,
            "retrieved": fetch.now(),
            "files_sha256": fetch.files_sha256(self.folder, self.files),
        }

    def _find(self, mirror_paths: Sequence[str], url: str, work: Path) -> fetch.Archive:
        """A file that stands beside the dataset's folder or in it, else in the mirror, else on its host."""
        name = mirror_paths[0].rpartition("/")[2]
        if own := fetch.at_hand(self.folder.parent / name, self.folder / name):
            return own
        try:
            return fetch.fetch_archive(self.name, mirror_paths, url, work, self.mirror)
        except fetch.Absent as error:
            raise PoolBenchError(
                f"dataset {self.name} is not here: {error}. Three ways to supply it: put {name} into {self.folder}, "
                f"or its unpacked files into {self.folder / self.into}; set POOLBENCH_MIRROR to a folder or URL that "
                f"holds {mirror_paths[0]}; or go online (`poolbench prepare dataset={self.name}` on a connected "
                "machine, then copy the cache folder)"
            ) from error
