"""Files that are there whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from poolbench.errors import RunError


def cannot_write(path: Path, error: OSError) -> RunError:
    """The error for a file that cannot be written: one line that names the path, what is wrong and what to do."""
    remedy = "make it writable or choose another folder with paths.results="
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        remedy = "free some space or choose another folder with paths.results=, and start again"
    return RunError(f"cannot write {path}: {(error.strerror or str(error)).lower()}; {remedy}")


Content = bytes | Callable[[BinaryIO], Any]
"""What a file is to hold: bytes, or a function that writes them into an open file."""


def _write_temporary(path: Path, content: Content) -> Path:
    """`content` on disk beside `path`, under a temporary name; nothing is left behind on failure."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}-{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "xb") as file:
            _ = file.write(content) if isinstance(content, bytes) else content(file)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


def put(path: Path, content: Content) -> None:
    """Write the file `path`, and the folders above it, in one step, over what was there: readers see all of it or none.

    Raises `OSError`, with nothing left behind.
    """
    temporary = _write_temporary(path, content)
    try:
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def create(path: Path, data: bytes) -> None:
    """Create `path` with `data` in one step; FileExistsError where it exists, `OSError` where it cannot be written."""
    if path.exists():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    temporary = _write_temporary(path, data)
    try:
        _publish(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _publish(temporary: Path, path: Path) -> None:
    try:
        # Unlike a rename, a link never replaces what another process wrote in the meantime.
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK):
            raise
        # A file system without hard links (some network and FAT drives).
        os.replace(temporary, path)


def _sync_folder(folder: Path) -> None:
    """Make a new name in `folder` survive a power cut, where the system lets a folder be synchronised."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def remove_temporaries(folder: Path) -> None:
    """Delete what a process that was killed while writing left in `folder`."""
    for path in Path(folder).glob(".*.tmp"):
        with contextlib.suppress(OSError):
            path.unlink()


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all, with the folders above it. Raises `RunError` where that cannot be done."""
    try:
        put(path, text.encode())
    except OSError as error:
        raise RunError(f"cannot write {path}: {(error.strerror or str(error)).lower()}") from error
