"""One file from a web server, whole or not at all."""

from __future__ import annotations

import hashlib
import http.client
import urllib.parse
from pathlib import Path
from typing import TYPE_CHECKING

from poolbench.errors import PoolBenchError, one_line

if TYPE_CHECKING:
    import requests

CONNECT_TIMEOUT = 10.0
"""Seconds for a host to answer at all."""
READ_TIMEOUT = 30.0
"""Seconds without a single byte after which a download counts as stuck."""

_BLOCK = 1 << 20
# The file as it lies there: a server that packs on the way sends other bytes than those that were announced.
_HEADERS = {"User-Agent": "poolbench", "Accept-Encoding": "identity"}


class NotThere(PoolBenchError):
    """The server answered, and does not have the file."""


class Unreachable(PoolBenchError):
    """The server did not answer, or refused."""


def public(url: str) -> str:
    """`url` without user name, password and query, which belong in no record and no message."""
    parts = urllib.parse.urlsplit(url)
    if not parts.netloc:
        return url
    return urllib.parse.urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def download(url: str, target: Path, limit: int | None = None) -> str:
    """Stream `url` to `target` and return its SHA-256 (hex). Proxies and certificates as `requests` finds them.

    `user:password@` in `url` is told to its host alone, never to another that a redirect leads to.

    Raises `PoolBenchError` where the file is not there, the host does not answer in time, or fewer bytes came than
    were announced; then no `target` is left. `OSError` of the disk passes through.
    """
    import requests  # a tenth of a second, which whoever has the data already need not wait

    bare, login = _login(url)
    try:
        response = requests.get(
            bare, auth=login, headers=_HEADERS, stream=True, timeout=(CONNECT_TIMEOUT, READ_TIMEOUT)
        )
    except ValueError as error:  # the library's own message may hold a login or a query
        raise PoolBenchError(
            f"{public(url)} cannot be fetched: it, where it leads to, or the proxy's is no http(s) address"
        ) from error
    except requests.RequestException as error:
        raise Unreachable(_plain(error)) from error
    with response:
        if not 200 <= response.status_code < 300:
            kind = NotThere if response.status_code in (404, 410) else Unreachable
            raise kind(f"{public(url)} answered {response.status_code} {response.reason}")
        try:
            return _stream(public(url), response, target, limit)
        except BaseException:
            target.unlink(missing_ok=True)
            raise


def _login(url: str) -> tuple[str, tuple[str, str] | None]:
    """`url` without what stands before its host, and that: each character a byte, as `requests` writes Latin-1."""
    parts = urllib.parse.urlsplit(url)
    login, _, host = parts.netloc.rpartition("@")
    user, _, password = (urllib.parse.unquote_to_bytes(part).decode("latin-1") for part in login.partition(":"))
    return parts._replace(netloc=host).geturl(), (user, password) if login else None


def _stream(name: str, response: requests.Response, target: Path, limit: int | None) -> str:
    import urllib3

    announced = response.headers.get("Content-Length", "")
    of = f" of {announced}" if announced else ""
    digest, got = hashlib.sha256(), 0
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
            if limit is not None and got > limit:
                raise Unreachable(f"{name} is larger than {limit} bytes")
            file.write(block)


def _plain(error: BaseException) -> str:
    """What the system said below the library's exceptions, in a few words, on one line."""
    below: BaseException | None = error
    while below is not None:
        if isinstance(below, TimeoutError):
            return "no answer in time"
        if isinstance(below, OSError) and below.strerror:
            return below.strerror
        below = below.__cause__ or below.__context__
    return one_line(error) or type(error).__name__
