"""Short digests of the epochs of a run: what is left of a curve where the curve is left out.

The digest of an epoch is that of its row and of the digest before it, so that two runs with the same digest at an epoch
were the same up to it.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence

from poolbench.records.identity import canonical_json

SIZE = 4
"""Bytes of a digest: two different rows have the same one in 4 billion."""
CLOCKS = ("time", "time_cpu")
"""What no two runs share."""


def chain(curve: Sequence[Mapping[str, float]]) -> str:
    """The digests of the rows of a curve, packed: base64 of `SIZE` bytes each."""
    digests, last = bytearray(), b""
    for row in curve:
        last = follow(last, row)
        digests += last
    return base64.b64encode(digests).decode()


def follow(before: bytes, row: Mapping[str, float]) -> bytes:
    """The digest of an epoch: of its row and the digest before it, which is empty for the first."""
    text = canonical_json({name: value for name, value in row.items() if name not in CLOCKS})
    return hashlib.blake2b(before + text.encode(), digest_size=SIZE).digest()


def unpack(digests: str) -> list[bytes]:
    """The digest of each epoch. Raises `ValueError` for text that is none."""
    data = base64.b64decode(digests, validate=True)
    if len(data) % SIZE:
        raise ValueError(f"{len(data)} bytes are no whole number of digests of {SIZE} bytes")
    return [data[at : at + SIZE] for at in range(0, len(data), SIZE)]


def count(digests: str) -> int:
    """How many epochs they are of; they are not looked at."""
    return len(digests) * 3 // 4 // SIZE


def first_difference(a: str, b: str) -> int | None:
    """The first epoch (from 0) of those that both have in which two runs differ; None where there is none."""
    pairs = enumerate(zip(unpack(a), unpack(b), strict=False))
    return next((epoch for epoch, (one, other) in pairs if one != other), None)
