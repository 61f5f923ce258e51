#!/usr/bin/env python3
"""Write docker/hashes: every package that the image installs, by version and hash, for x86_64 and aarch64.

    python scripts/image_hashes.py

After a change of constraints.txt or pyproject.toml. Needs a package index, Linux on x86_64, the Python and the pip of
the image (3.11 and the pin). Nothing is installed: pip says what it would take, and the index the hash.

cpu.txt is written by hand: PyTorch's own index, which has those builds, is no place to look for what the others need.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
HASHES, CONSTRAINTS = ROOT / "docker" / "hashes", ROOT / "constraints.txt"

INDEX = "https://pypi.org/simple"
MACHINES = ("x86_64", "aarch64")
GLIBC = 36
"""Of the image's Debian: 2.36. What it can run has this number or a lower one."""
TOOLS = ("pip", "setuptools", "hatchling", "editables")
"""What source packages and PoolBench itself are built with, installed before them."""
EXTRAS = ("test", "tensorboard", "submitit", "ray")

HEAD = """# {what}
# Written by scripts/image_hashes.py: the file for each machine that pip takes with constraints.txt.
"""

Pin = tuple[str, str]
"""Name and version."""


def asked(words: Sequence[str]) -> list[dict[str, Any]]:
    """What `pip install` of these words would take: of each package its metadata and where it comes from."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        pip = [sys.executable, "-m", "pip", "install", "--isolated", "--index-url", INDEX, "--dry-run", "--quiet"]
        subprocess.run(
            [*pip, "--ignore-installed", "--target", folder, "--report", str(report), *words], check=True, cwd=ROOT
        )
        found: list[dict[str, Any]] = json.loads(report.read_bytes())["install"]
    return found


def closure(requirements: Iterable[str]) -> set[Pin]:
    """These and all that they need, in the versions of constraints.txt."""
    return {pin(one) for one in asked(["-c", str(CONSTRAINTS), *requirements])}


def pin(one: dict[str, Any]) -> Pin:
    return canonicalize_name(one["metadata"]["name"]), one["metadata"]["version"]


def hashes(pins: Iterable[Pin]) -> dict[Pin, list[str]]:
    """The hash of the file that each machine takes of each package, once where it is the same."""
    words = [f"{name}=={version}" for name, version in pins]
    found: dict[Pin, list[str]] = {}
    for machine in MACHINES:
        tags = [*(f"manylinux_2_{n}_{machine}" for n in range(GLIBC, 4, -1)), f"manylinux2014_{machine}", "any"]
        options = [word for tag in tags for word in ("--platform", tag)]
        for one in asked([*options, "--python-version", "3.11", "--no-deps", *words]):
            digest = one["download_info"]["archive_info"]["hashes"]["sha256"]
            if digest not in (digests := found.setdefault(pin(one), [])):
                digests.append(digest)
    return found


def write(name: str, what: str, pins: Iterable[Pin], known: dict[Pin, list[str]]) -> None:
    lines = [
        " \\\n    ".join([f"{name}=={version}", *(f"--hash=sha256:{digest}" for digest in known[name, version])])
        for name, version in sorted(pins)
    ]
    (HASHES / f"{name}.txt").write_text(HEAD.format(what=what) + "\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    ours = {canonicalize_name(Requirement(line).name) for line in CONSTRAINTS.read_text(encoding="utf-8").splitlines()
            if line and not line.startswith("#")}  # fmt: skip
    tools = closure(TOOLS)
    all_of_base = closure(project["dependencies"])
    torch = {pin for pin in all_of_base if pin[0] == "torch" or pin[0] not in ours}
    base = all_of_base - torch - tools
    extras = {name: closure(project["optional-dependencies"][name]) - base - tools - torch for name in EXTRAS}
    known = hashes(set().union(tools, all_of_base, *extras.values()))
    write("tools", "What packages are built with.", tools, known)
    write("base", "What PoolBench needs, torch apart.", base, known)
    write("cu130", "torch as the index has it, built for CUDA 13.0, and CUDA itself.", torch, known)
    for name, pins in extras.items():
        write(name, f"The extra {name}.", pins, known)


if __name__ == "__main__":
    main()
