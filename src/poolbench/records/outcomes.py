"""What a run answered for each graph (node) that it was tested on, packed."""

from __future__ import annotations

import base64
import zlib
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

from poolbench.records.record import Outcomes

if TYPE_CHECKING:
    import numpy as np

MOST = 200_000
"""More values than this are not kept: a record would take megabytes."""


@dataclass(frozen=True)
class Answers:
    """Unpacked outcomes.

    graphs: [m] numbers of the graphs (nodes) in the dataset, ascending. predicted: [m] classes or clusters, or
    [m, width] values. right: [m] booleans; None where there are no classes.
    """

    graphs: np.ndarray
    predicted: np.ndarray
    right: np.ndarray | None


def pack(graphs: np.ndarray, predicted: np.ndarray, right: np.ndarray | None, total: int) -> Outcomes | None:
    """The outcomes of m graphs, None where they are more than `MOST` values.

    Args:
        graphs: [m] their numbers in the dataset, in any order. predicted: [m] classes or clusters (integers from 0), or
            [m, width] values (kept as float32). right: [m] whether the class is right, None where there are no classes.
            total: graphs of the dataset.
    """
    import numpy as np

    if predicted.size > MOST:
        return None
    order = np.argsort(graphs, kind="stable")
    mask = np.zeros(total, dtype=bool)
    mask[graphs] = True
    values = predicted[order]
    kind: Literal["u1", "u2", "u4", "f4"]
    if values.dtype.kind == "f":
        kind, width = "f4", values.shape[1] if values.ndim == 2 else 1
    else:
        largest = int(values.max()) if values.size else 0
        kind, width = ("u1" if largest < 1 << 8 else "u2" if largest < 1 << 16 else "u4"), 1
    return Outcomes(
        count=len(order),
        graphs=_text(np.packbits(mask).tobytes()),
        kind=kind,
        width=width,
        predicted=_text(values.astype(f"<{kind}").tobytes()),
        right=None if right is None else _text(np.packbits(right[order]).tobytes()),
    )


def unpack(outcomes: Outcomes) -> Answers:
    """The outcomes as arrays. Raises `ValueError` where they are not what they say they are."""
    import numpy as np

    count, size = outcomes.count, int(outcomes.kind[1])
    graphs, right = hits(outcomes)
    data = _data(outcomes.predicted)
    if len(data) != count * outcomes.width * size:
        raise ValueError(f"{len(data)} bytes of answers are no {count} x {outcomes.width} of {size} bytes")
    predicted = np.frombuffer(data, dtype=f"<{outcomes.kind}")
    if outcomes.kind == "f4":
        predicted = predicted.reshape(count, outcomes.width)
    return Answers(graphs, predicted, right)


def hits(outcomes: Outcomes) -> tuple[np.ndarray, np.ndarray | None]:
    """`Answers.graphs`, which is not to be written to, and `right` alone: a third of the work of `unpack`, which raises
    the same."""
    import numpy as np

    count, graphs = outcomes.count, _graphs(outcomes.graphs)
    if len(graphs) != count:
        raise ValueError(f"{len(graphs)} graphs are named, and {count} counted")
    if outcomes.right is None:
        return graphs, None
    data = _data(outcomes.right)
    if len(data) != -(-count // 8):
        raise ValueError(f"{len(data)} bytes are not the rights and wrongs of {count} graphs")
    return graphs, np.unpackbits(np.frombuffer(data, dtype=np.uint8), count=count).astype(bool)


@lru_cache(maxsize=1024)
def _graphs(text: str) -> np.ndarray:
    """The numbers of the graphs; operators that were trained alike are tested on the same ones."""
    import numpy as np

    found = np.flatnonzero(np.unpackbits(np.frombuffer(_data(text), dtype=np.uint8)))
    found.flags.writeable = False
    return found


def _text(data: bytes) -> str:
    return base64.b64encode(zlib.compress(data, 9)).decode()


def _data(text: str, most: int = 2 * MOST * 4) -> bytes:
    """The bytes behind packed text, `most` of them at the most."""
    try:
        reader = zlib.decompressobj()
        data = reader.decompress(base64.b64decode(text, validate=True), most)
    except zlib.error as error:
        raise ValueError(f"cannot be unpacked ({error})") from error
    if reader.unconsumed_tail or not reader.eof:
        raise ValueError(f"it is cut off, or more than {most} bytes")
    return data
