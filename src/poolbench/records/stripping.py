"""A record as it is handed to strangers: without names of the machine, the user, the W&B account, folders, addresses.

What a run is (its identity) and what it came to are left as they are, so that a stripped record is checked as it was
before.
"""

from __future__ import annotations

import getpass
import re
import socket
from collections.abc import Callable, Collection, Mapping
from typing import Any

import msgspec

from poolbench.records.reasons import placeless
from poolbench.records.record import Record, lean

HARDWARE = ("platform", "cpu", "cpu_generation", "cores", "cores_usable", "memory", "gpus")
"""What is kept of a machine: what a rerun compares, and what costs are measured with."""
NEUTRAL: Mapping[str, Any] = {"logger": {"_target_": None}, "group": None, "tags": []}
"""Keys of the configuration that name a W&B account or what a user calls things, with the value in their place."""
LEFT_OUT = ("paths", "job_type", "notes", "hydra", "debug")
"""Keys of that kind that a record need not have."""

_ADDRESS = re.compile(r"\b[A-Za-z][A-Za-z0-9+.-]{0,30}://[^\s'\"/]*(?:/[^\s'\"/]+(?=/))*/?")


def stripped(record: Record, words: Collection[str] = ()) -> Record:
    """The record without what is private; none of its keys that make a run's identity changes.

    Args:
        words: that name the machine and its user (`local_words`); they are taken out of free text.
    """
    record = lean(record)
    config = {key: NEUTRAL.get(key, value) for key, value in record.config.items() if key not in LEFT_OUT}
    provenance = record.provenance
    hardware = {key: provenance.hardware[key] for key in HARDWARE if key in provenance.hardware}
    official = provenance.data.get("kind") == "host"  # a public address, the same for all
    return msgspec.structs.replace(
        record,
        config=config,
        reason=None if record.reason is None else _without(_placeless(record.reason), words),
        diagnostics=_placeless(record.diagnostics),
        provenance=msgspec.structs.replace(
            provenance,
            hardware=_without(hardware, words),
            data=provenance.data if official else _placeless(provenance.data),
        ),
    )


def local_words() -> frozenset[str]:
    """The names of this machine and of who uses it."""
    host = socket.gethostname()
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        user = ""
    return frozenset(word for word in (host, host.partition(".")[0], user) if len(word) > 1)


def _placeless(value: Any) -> Any:
    """Without folders and hosts, wherever text stands; of each the last name is left, as in .../graphs.zip."""
    return _mapped(value, lambda text: placeless(_ADDRESS.sub(".../", text)))


def _without(value: Any, words: Collection[str]) -> Any:
    named = "|".join(map(re.escape, sorted(words, key=len, reverse=True)))
    return _mapped(value, lambda text: re.sub(rf"(?<!\w)(?:{named})(?!\w)", "...", text)) if named else value


def _mapped(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {key: _mapped(inner, change) for key, inner in value.items()}
    return [_mapped(inner, change) for inner in value] if isinstance(value, list) else value
