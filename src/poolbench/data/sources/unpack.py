"""Unpacking of archives that strangers made: nothing outside the target, no links, no bombs."""

from __future__ import annotations

import re
import stat
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from poolbench.data.sources import zips
from poolbench.data.sources.fetch import Archive
from poolbench.data.sources.unsound import said
from poolbench.errors import PoolBenchError

_MAX_MEMBERS, _LONGEST_NAME, _LONGEST_PATH = 10_000, 200, 1000
# Text of digits packs about 30 times with LZMA. Small archives may pack better than that by chance.
_MAX_RATIO, _RATIO_FREE, _MAX_BYTES = 200, 1 << 28, 1 << 36
_DRIVE = re.compile("[A-Za-z]:")  # C:file is absolute too, on Windows


def unpack(archive: Archive, target: Path, wanted: Callable[[str], bool], folders: bool = False) -> list[str]:
    """Unpack the members whose file name is `wanted` into the new folder `target`, without their folders.

    With `folders`, a member's name is its path less the archive's top folder, and it is unpacked there.

    Raises `PoolBenchError` for an archive that is corrupt, that would write outside the target, holds links, or would
    grow to an implausible size. `OSError` of the disk passes through. A target of a failed call is incomplete: unpack
    inside a `workspace` and rename.
    """
    target.mkdir()
    try:
        with zips.opened(archive.path) as held:
            members = held.infolist()
            _refuse_dangerous(archive, members)
            # zipfile's is_dir looks at a name's last character, and fails where there is none.
            chosen = [m for m in members if m.filename and not m.is_dir() and wanted(_member_name(m, folders))]
            for member in chosen:
                place = target / _member_name(member, folders)
                place.parent.mkdir(parents=True, exist_ok=True)
                with open(place, "xb") as file:
                    _copy(zips.blocks(held, member), file)
    except (FileExistsError, NotADirectoryError) as error:
        twice = said(Path(error.filename).name)
        raise PoolBenchError(f"archive {archive.origin} holds {twice} twice; fetch it again") from error
    except zips.Damaged as error:
        raise PoolBenchError(
            f"archive {archive.origin} is corrupt or cannot be read ({error}); nothing was kept, fetch it again"
        ) from error
    return [_member_name(member, folders) for member in chosen]


def _member_name(member: zipfile.ZipInfo, folders: bool) -> str:
    parts = PurePosixPath(member.filename).parts
    return "/".join(parts[1:] if folders else parts[-1:])


def _copy(blocks: Iterable[bytes], file: BinaryIO) -> None:
    for block in blocks:
        file.write(block)


def _refuse_dangerous(archive: Archive, members: list[zipfile.ZipInfo]) -> None:
    """Everything is looked at before anything is written, also the members that nobody wants."""
    for member in members:
        # orig_filename: zipfile itself cuts names at NUL and turns the system's separator into '/'
        path = PurePosixPath(member.orig_filename.replace("\\", "/"))
        name = said(repr(member.orig_filename))
        if len(str(path).encode()) > _LONGEST_PATH or any(len(part.encode()) > _LONGEST_NAME for part in path.parts):
            raise PoolBenchError(f"archive {archive.origin} holds {name}, a name that is too long; fetch it again")
        if path.is_absolute() or ".." in path.parts or _DRIVE.match(str(path)):
            raise PoolBenchError(
                f"archive {archive.origin} holds {name}, which would be written outside its folder; "
                "it is refused, fetch it from a source that you trust"
            )
        if stat.S_ISLNK(member.external_attr >> 16):
            raise PoolBenchError(f"archive {archive.origin} holds the link {name}; a dataset has none, it is refused")
    unpacked = sum(member.file_size for member in members)
    packed = max(archive.path.stat().st_size, 1)
    if len(members) > _MAX_MEMBERS or unpacked > _MAX_BYTES or unpacked > max(_RATIO_FREE, _MAX_RATIO * packed):
        raise PoolBenchError(
            f"archive {archive.origin} ({packed} bytes) would unpack to {unpacked} bytes in {len(members)} files, "
            "which no dataset does; it is refused"
        )
