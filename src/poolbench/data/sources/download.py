"""One file from a web server, whole or not at all."""

from __future__ import annotations

import hashlib
import http.client
import math
import os
import queue
import re
import threading
import time
import urllib.parse
from pathlib import Path
from typing import TYPE_CHECKING

from poolbench.data.sources.unsound import said
from poolbench.errors import PoolBenchError

if TYPE_CHECKING:
    import requests

CONNECT_TIMEOUT = 10.0
"""Seconds for a host to answer at all."""
READ_TIMEOUT = 30.0
"""Seconds without a single byte after which a download counts as stuck."""
ANSWER_TIMEOUT = 60.0
"""Seconds for all that a host says before the file itself."""
GRACE, SLOWEST = 60.0, 4096
"""After so many seconds a download must have come at this many bytes a second."""

LIMITS = {"POOLBENCH_DOWNLOAD_GIB": 8.0, "POOLBENCH_DOWNLOAD_HOURS": 6.0}
"""How large a file may be and how long it may take, by the variables that say otherwise: the largest official archive
has 3 GiB."""

_BLOCK = 1 << 20
# The file as it lies there: a server that packs on the way sends other bytes than those that were announced.
_HEADERS = {"User-Agent": "poolbench", "Accept-Encoding": "identity"}


class NotThere(PoolBenchError):
    """The server answered, and does not have the file."""


class Unreachable(PoolBenchError):
    """The server did not answer, or refused."""


def public(url: str) -> str:
    """`url` without user name, password and query, which belong in no record and no message."""
    try:
        parts = urllib.parse.urlsplit(url)
    except ValueError:  # such as a bracket that is not closed
        return said(re.sub("//[^/]*@", "//", url).partition("?")[0])
    if not parts.netloc:
        return said(url, most=1000)
    return urllib.parse.urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def download(url: str, target: Path, limit: int | None = None) -> str:
    """Stream `url` to `target` and return its SHA-256 (hex). Proxies and certificates as `requests` finds them.

    `user:password@` in `url` is told to its host alone, never to another that a redirect leads to. `limit`: bytes that
    the file has, where that is known.

    Raises `PoolBenchError` where the file is not there, the host does not answer in time, fewer bytes came than were
    announced, more than `limit` or than `LIMITS` allow, or too slowly; then no `target` is left. `OSError` of the disk
    passes through.
    """
    most, hours = (_limit(variable) for variable in LIMITS)
    bare, login = _login(url)
    response = _answer(url, bare, login)
    with response:
        if not 200 <= response.status_code < 300:
            kind = NotThere if response.status_code in (404, 410) else Unreachable
            raise kind(f"{public(url)} answered {response.status_code} {said(response.reason)}")
        try:
            return _stream(public(url), response, target, limit, int(most * 2**30), hours * 3600)
        except BaseException:
            target.unlink(missing_ok=True)
            raise


def _limit(variable: str) -> float:
    text = os.environ.get(variable, "")
    try:
        value = float(text or LIMITS[variable])
        if not 0 < value < math.inf:
            raise ValueError
        return value
    except ValueError:
        raise PoolBenchError(
            f"{variable}={said(text)} is no number above 0; give one, or unset it for {LIMITS[variable]:g}"
        ) from None


def _answer(url: str, bare: str, login: tuple[str, str] | None) -> requests.Response:
    """What the server answers, but for the file itself.

    It is waited for outside of the thread that reads it: each byte of it may come in time, and the whole never.
    """
    import requests  # a tenth of a second, which whoever has the data already need not wait

    answers: queue.SimpleQueue[requests.Response | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(
                requests.get(bare, auth=login, headers=_HEADERS, stream=True, timeout=(CONNECT_TIMEOUT, READ_TIMEOUT))
            )
        except Exception as error:
            answers.put(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=ANSWER_TIMEOUT)
    except queue.Empty:
        raise Unreachable("no answer in time") from None
    if isinstance(answer, requests.Response):
        return answer
    if isinstance(answer, ValueError):  # the library's own message may hold a login or a query
        raise PoolBenchError(
            f"{public(url)} cannot be fetched: it, where it leads to, or the proxy's is no http(s) address"
        ) from answer
    if isinstance(answer, requests.RequestException):
        raise Unreachable(_plain(answer)) from answer
    raise answer


def _login(url: str) -> tuple[str, tuple[str, str] | None]:
    """`url` without what stands before its host, and that: each character a byte, as `requests` writes Latin-1."""
    parts = urllib.parse.urlsplit(url)
    login, _, host = parts.netloc.rpartition("@")
    user, _, password = (urllib.parse.unquote_to_bytes(part).decode("latin-1") for part in login.partition(":"))
    return parts._replace(netloc=host).geturl(), (user, password) if login else None


def _stream(name: str, response: requests.Response, target: Path, limit: int | None, most: int, seconds: float) -> str:
    import urllib3

    announced = response.headers.get("Content-Length", "")
    of = f" of {said(announced)}" if announced else ""
    digest, got, start = hashlib.sha256(), 0, time.monotonic()
    _refuse_large(name, int(announced) if announced.isdecimal() and len(announced) < 20 else 0, limit, most)
    with open(target, "wb") as file:
        while True:
            try:
                # read1 returns what is there: a slow link is not stuck, only one that sends nothing at all
                block = response.raw.read1(_BLOCK, decode_content=False)
            except urllib3.exceptions.HTTPError as error:
                cut = isinstance(error.__cause__, http.client.IncompleteRead)
                how = f"was cut short: {got}{of} bytes" if cut else f"broke off after {got}{of} bytes ({_plain(error)})"
                raise PoolBenchError(f"download of {name} {how}; nothing was kept, try again") from error
            if not block:
                return digest.hexdigest()
            digest.update(block)
            got += len(block)
            _refuse_large(name, got, limit, most)
            taken = time.monotonic() - start
            if taken > GRACE and got < SLOWEST * taken:
                raise Unreachable(f"{name} came too slowly: {got}{of} bytes in {taken:.0f} s")
            if taken > seconds:
                raise Unreachable(
                    f"{name} took more than {seconds / 3600:g} h for {got}{of} bytes; "
                    "set POOLBENCH_DOWNLOAD_HOURS to allow more"
                )
            file.write(block)


def _refuse_large(name: str, size: int, limit: int | None, most: int) -> None:
    if limit is not None and size > limit:
        raise Unreachable(f"{name} is larger than {limit} bytes, which it should have")
    if size > most:
        raise Unreachable(f"{name} is larger than {most / 2**30:g} GiB; set POOLBENCH_DOWNLOAD_GIB to allow more")


def _plain(error: BaseException) -> str:
    """What the system said below the library's exceptions, in a few words, on one line."""
    below: BaseException | None = error
    while below is not None:
        if isinstance(below, TimeoutError):
            return "no answer in time"
        if isinstance(below, OSError) and below.strerror:
            return below.strerror
        below = below.__cause__ or below.__context__
    return said(error)
