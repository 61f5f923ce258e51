"""Where a result comes from: the code's commit, the packages, the machine.

None of this is part of a run's identity; all of it stands in the run's record. Nothing here may fail or wait: a missing
git, an unreadable `/proc` or a broken package is written as None.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from poolbench.plugins import offering

PACKAGE_ROOT = Path(__file__).resolve().parent.parent

PACKAGES = (
    "torch",
    "torch-geometric",
    "torch-geometric-pool",
    "pytorch-lightning",
    "torchmetrics",
    "numpy",
    "scipy",
    "scikit-learn",
    "hydra-core",
    "omegaconf",
    "wandb",
    "ogb",
    "grakel",
)
"""The installed packages on which a result may depend."""

COMMIT_VARIABLE = "POOLBENCH_GIT_COMMIT"
"""Names the commit where there is no git checkout (a container image); `-dirty` at its end says that it was changed."""

GIT_TIMEOUT = 2.0


def provenance(*, data: Any = None, split: Any = None) -> dict[str, Any]:
    """The record's `provenance`: `{git, dirty, packages, hardware, data, split}`.

    Args:
        data: what identifies the dataset (fingerprint, archive hash).
        split: what identifies the split.
    """
    commit, dirty = git_state()
    return dict(git=commit, dirty=dirty, packages=packages(), hardware=hardware(), data=data, split=split)


# ---------------------------------------------------------------------------------------------------------------- git


def git_state(package: Path = PACKAGE_ROOT) -> tuple[str | None, bool | None]:
    """The commit of the checkout that `package` is the source of, and whether tracked files were changed since.

    (None, None) outside a checkout: without git, or where the package is installed into an environment that merely
    lies inside somebody's repository.
    """
    named = os.environ.get(COMMIT_VARIABLE, "").strip()
    if named:
        return named.removesuffix("-dirty"), named.endswith("-dirty")
    lines = _git(package, "rev-parse", "HEAD", "--show-toplevel")
    if not lines or len(lines) != 2 or Path(lines[1]).resolve() / "src" / package.name != package:
        return None, None
    changed = _git(package, "status", "--porcelain", "--untracked-files=no", "--", lines[1])
    return lines[0], None if changed is None else bool(changed)


def _git(folder: Path, *arguments: str) -> list[str] | None:
    """The lines that git prints, or None where it fails, is missing or takes too long."""
    # A status may otherwise wait for, or take, the lock of an index that somebody is working with.
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"}
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            timeout=GIT_TIMEOUT,
            env=environment,
            stdin=subprocess.DEVNULL,
            check=True,
        )
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return done.stdout.splitlines()


# ----------------------------------------------------------------------------------------------- packages and machine


@lru_cache(maxsize=1)
def _packages() -> Mapping[str, str | None]:
    return {"python": platform.python_version(), "poolbench": package_version("poolbench")} | {
        name: package_version(name) for name in PACKAGES
    }


def packages() -> dict[str, str | None]:
    """Version of each package that matters, by name, of those that offer operators too; None: it is not installed."""
    offered = {name for name in offering(tuple(sys.path)).values() if name}
    return dict(_packages()) | {name: package_version(name) for name in sorted(offered)}


def package_version(name: str) -> str | None:
    """The version of an installed package, None where it is not installed."""
    try:
        return importlib.metadata.version(name)
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return None


@lru_cache(maxsize=1)
def _machine() -> Mapping[str, Any]:
    return {
        "platform": platform.platform(),
        "cpu": cpu_model(),
        "cpu_generation": cpu_generation(),
        "cores": os.cpu_count(),
        "cores_usable": usable_cores(),
        "memory": _memory(),
        "gpus": _gpus(),
    }


def hardware() -> dict[str, Any]:
    """The machine: platform, name and generation of the CPU, cores (all and usable by this process), memory in bytes,
    names of the GPUs."""
    return {**_machine(), "gpus": list(_machine()["gpus"])}


def cpu_model() -> str | None:
    """The name of the processor."""
    names = _cpuinfo()
    return names.get("model name") or names.get("hardware") or platform.processor() or platform.machine() or None


def cpu_generation() -> str | None:
    """Vendor, family and model of the processor, such as `AuthenticAMD 26/2`; None where the system does not say.

    One name may stand for several generations (virtual machines hide it), and libraries of linear algebra choose their
    kernels by the generation: eigenvectors on the host then differ in their last bits.
    """
    names = _cpuinfo()
    parts = [names.get(key) for key in ("vendor_id", "cpu family", "model")]
    return "{} {}/{}".format(*parts) if all(parts) else None


@lru_cache(maxsize=1)
def _cpuinfo() -> Mapping[str, str]:
    """What Linux says of the processors; empty elsewhere."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return {}
    fields = (line.partition(":") for line in text.splitlines())
    return {key.strip().lower(): value.strip() for key, _, value in fields}


def usable_cores() -> int:
    """The cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except (AttributeError, OSError):  # macOS
        return os.cpu_count() or 1


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def _gpus() -> list[str]:
    try:
        import torch

        if not torch.cuda.is_available():
            return []
        return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    except (ImportError, RuntimeError, AssertionError):
        return []
