"""The cache folder, and how something enters it: by one process at a time, whole or not at all.

Everything that is fetched or computed passes through a workspace that belongs to one process (a file lock, which dies
with its process) and reaches its place by one rename. A cut download, a full disk or a killed process therefore never
leaves anything that would later be taken for a dataset.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from filelock import FileLock, Timeout

from poolbench.errors import PoolBenchError

log = logging.getLogger(__name__)

Held = TypeVar("Held")

LOCK_TIMEOUT = 3600.0
"""Seconds to wait for another process that prepares the same dataset."""


class CacheNotWritable(PoolBenchError):
    """The cache folder cannot be written to. Whoever finds the data there already need not care."""


def cache_dir(folder: str | os.PathLike[str] | None = None) -> Path:
    """`folder`, else POOLBENCH_DATA, else `poolbench` in the user's cache folder (XDG_CACHE_HOME is honoured).

    Raises `PoolBenchError` for the home folder of a user that there is not.
    """
    if chosen := folder or os.environ.get("POOLBENCH_DATA"):
        try:
            return Path(chosen).expanduser()
        except RuntimeError as error:
            raise PoolBenchError(f"cache folder {chosen}: {error}; set POOLBENCH_DATA to one that there is") from error
    home = os.environ.get("XDG_CACHE_HOME", "")
    # The specification of XDG says that a relative path in the variable is to be ignored.
    base = Path(home) if os.path.isabs(home) else Path("~/.cache").expanduser()
    return base / "poolbench"


def kept(path: Path, read: Callable[[Path], Held], anew: str) -> Held | None:
    """What `read` makes of `path` in the cache; None where there is nothing, or it is damaged (`anew` is then logged).

    Raises `PoolBenchError` where it cannot be read.
    """
    try:
        return read(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise PoolBenchError(f"{path} cannot be read ({error.strerror}); make it readable or remove it") from error
    except PoolBenchError as error:
        log.warning("%s; %s", error, anew)
        return None


@contextmanager
def workspace(cache: Path, key: str) -> Iterator[Path]:
    """An empty folder inside `cache` that no other process has for the same `key`; gone afterwards.

    Being inside the cache it is on the same disk, so that a finished folder moves to its place by one rename.

    Raises `CacheNotWritable`, or `PoolBenchError` for a full disk or a lock that is held for an hour.
    """
    folder = cache / ".partial" / key
    with writing(cache):
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.with_name(f"{key}.lock"))
        try:
            _acquire(lock, key)
        except Timeout as error:
            raise PoolBenchError(
                f"dataset {key}: another process has been preparing it for {LOCK_TIMEOUT:g} s; "
                f"end that process, or set POOLBENCH_DATA to another folder than {cache}"
            ) from error
        try:
            shutil.rmtree(folder, ignore_errors=True)  # what a killed process left: nobody else can hold it now
            folder.mkdir()
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            lock.release()


def _acquire(lock: FileLock, key: str) -> None:
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.info("waiting for another process that prepares %s", key)
        lock.acquire(timeout=LOCK_TIMEOUT)


@contextmanager
def writing(cache: Path) -> Iterator[None]:
    """Turn what a disk refuses into one line that names the cache folder and what to do."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise PoolBenchError(
                f"cache folder {cache}: {reason}; free some space, or set POOLBENCH_DATA to a folder on another disk"
            ) from error
        raise CacheNotWritable(
            f"cache folder {cache} cannot be written to ({reason}); set POOLBENCH_DATA to one that can be"
        ) from error
