"""Zip archives that strangers made, read with one kind of error whatever their bytes happen to mean."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from poolbench.data.sources.unsound import said

_BLOCK = 1 << 20
_DICTIONARY = 1 << 26
"""Bytes of the largest dictionary of LZMA, which its reader makes room for; 8 MiB are usual, 64 the most that is."""


class Damaged(Exception):
    """An archive that cannot be read; says why, on one line."""


@contextmanager
def opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """The archive `path`, its list of members read. Raises `Damaged`."""
    try:
        held = zipfile.ZipFile(path)
    except Exception as error:  # among them UnicodeDecodeError, of a name that says it is UTF-8
        raise Damaged(said(error)) from error
    with held:
        yield held


def blocks(held: zipfile.ZipFile, member: zipfile.ZipInfo) -> Iterator[bytes]:
    """The content of a member, piece by piece; never more than the size that the archive declares. Raises `Damaged`."""
    try:
        if member.compress_type == zipfile.ZIP_LZMA and (size := _dictionary(held, member)) > _DICTIONARY:
            raise ValueError(f"LZMA with a dictionary of {size} bytes")
        with held.open(member) as source:  # zipfile stops at the declared size and checks the CRC
            while block := source.read(_BLOCK):
                yield block
    except Exception as error:  # each way to pack has its own: of bzip2 it is OSError, as if the disk were at fault
        raise Damaged(said(error) if str(error) else "it ends too early") from error


def _dictionary(held: zipfile.ZipFile, member: zipfile.ZipInfo) -> int:
    """The size that stands before a member packed by LZMA (APPNOTE.TXT 4.3.7 and 5.8.8): version, size, properties."""
    with open(str(held.filename), "rb") as file:
        file.seek(member.header_offset + 26)
        name, extra = struct.unpack("<HH", file.read(4))
        file.seek(name + extra, 1)
        return int.from_bytes(file.read(9)[5:], "little")
