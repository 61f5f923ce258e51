"""What a measurement leaves behind, and what it says of the machine that it ran on."""

from __future__ import annotations

import argparse
import json
import os
import time
from typing import Any

from poolbench.disk import put
from poolbench.errors import PoolBenchError
from poolbench.records.provenance import git_state, hardware, packages
from speed import tables
from speed.peers import peer_versions
from speed.setting import Setting


class Report:
    """Prints as it goes, and keeps `<out>/<name>.md` and `.json` up to date, so that an interrupt loses nothing."""

    def __init__(self, options: argparse.Namespace, name: str) -> None:
        self.folder, self.name, self.text = options.out, name, ""
        self.facts = machine(options)
        self.results: list[dict[str, Any]] = []

    def show(self, *parts: str) -> None:
        """Add paragraphs."""
        added = "\n\n".join(part for part in parts if part)
        print(added + "\n", flush=True)
        self.text += added + "\n\n"
        self._write()

    def keep(self, *results: dict[str, Any]) -> None:
        """Add results to the JSON file."""
        self.results += results
        self._write()

    def _write(self) -> None:
        whole = json.dumps({"kind": self.name, "machine": self.facts, "results": self.results}, indent=1, default=str)
        for ending, text in (("md", self.text), ("json", whole + "\n")):
            try:
                put(self.folder / f"{self.name}.{ending}", text.encode())
            except OSError as error:
                raise PoolBenchError(f"--out {self.folder}: {(error.strerror or str(error)).lower()}") from error


def machine(options: argparse.Namespace) -> dict[str, Any]:
    """What a table must say of the machine and the packages that it comes from."""
    found, commit = hardware(), git_state()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    gpus = ", ".join(found["gpus"])
    return {
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{found['cpu']}, {found['cores_usable']} cores, {tables.size(found['memory'])}"
        + (f", {gpus}" if gpus else ""),
        "threads": options.threads,
        "device": options.device,
        "load before": None if load is None else round(load, 2),
        "packages": ", ".join(f"{k} {v}" for k, v in {**packages(), **peer_versions()}.items() if v),
        "commit": f"{commit[0]}{' with changes' if commit[1] else ''}",
        "command": "python scripts/benchmark.py " + " ".join(_given(options)),
    }


def _given(options: argparse.Namespace) -> list[str]:
    """The options that matter to somebody who measures again."""
    words = []
    for name, value in vars(options).items():
        if name in ("out", "write") or value in (None, False):
            continue
        words.append(f"--{name.replace('_', '-')}")
        words += [] if value is True else [str(v) for v in (value if isinstance(value, list) else [value])]
    return words


def base_setting(options: argparse.Namespace) -> Setting:
    """What the options say that is the same for all configurations."""
    return Setting("poolbench", "none", "", hidden=options.hidden, ratio=options.ratio, steps=options.steps,
                   graphs=options.graphs, threads=options.threads, device=options.device)  # fmt: skip


def memory_limit(options: argparse.Namespace) -> int | None:
    """Bytes that a contestant may hold."""
    if options.memory is not None:
        return int(options.memory * 1e9)
    whole = hardware()["memory"]
    return None if whole is None or options.device != "cpu" else whole * 3 // 4
