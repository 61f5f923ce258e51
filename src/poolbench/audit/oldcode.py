"""A version of the code that is not installed, run here: from a worktree of the commit that records name."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from poolbench.audit import ALLOW_LARGE, TRUST
from poolbench.audit.trust import Trust
from poolbench.config import Paths
from poolbench.disk import create
from poolbench.errors import RunError
from poolbench.records.attempts import iter_records
from poolbench.records.provenance import PACKAGE_ROOT, cpu_generation, cpu_model, hardware, package_version
from poolbench.records.record import Record, encode

PACKAGES = ("torch", "numpy")
"""The packages that compute: on their versions the bits of a result depend, and on the machine."""


NO_MESSAGE = "no message"


@cache
def _here() -> dict[str, str | None]:
    return {
        "cpu": cpu_model(),
        "platform": platform.platform(),
        **{name: package_version(name) for name in PACKAGES},
    }


def elsewhere(record: Record) -> bool:
    """Whether a record was made on another kind of machine than this one, or by other packages: rounding differs."""
    then = record.provenance.hardware | record.provenance.packages
    if then.get("cpu_generation", cpu_generation()) != cpu_generation():  # records from before do not say it
        return True
    if any(_computes(then.get(fact)) != _computes(mine) for fact, mine in _here().items()):
        return True
    on_cpu = (record.config.get("trainer") or {}).get("accelerator") == "cpu"
    return not on_cpu and then.get("gpus") != hardware()["gpus"]


def _computes(fact: object) -> object:
    """A fact without what computes nothing: the release of a Linux kernel."""
    return re.sub(r"^Linux-.*-(\w+-with-)", r"Linux-\1", fact) if isinstance(fact, str) else fact


def machine() -> str:
    """This machine, and what computes on it."""
    cpu, system, *versions = _here().values()
    packages = (f"{name} {version}" for name, version in zip(PACKAGES, versions, strict=True))
    return ", ".join(map(str, (cpu, *hardware()["gpus"], system, *packages)))


@contextlib.contextmanager
def worktrees(commits: Iterable[str], repository: Path | None = None) -> Iterator[dict[str, Path | str]]:
    """Worktrees of those commits, while they are needed: the folder of each, or why there is none.

    Args:
        repository: that the commits are looked for in; None: the checkout that the package is the source of.
    """
    home = repository or PACKAGE_ROOT.parent.parent
    with tempfile.TemporaryDirectory(prefix="poolbench-commits-") as made:
        found: dict[str, Path | str] = {}
        try:
            for commit in sorted(set(commits)):
                found[commit] = _added(home, commit, Path(made) / str(len(found)))
            yield found
        finally:
            for folder in found.values():
                if isinstance(folder, Path):
                    _git(home, "worktree", "remove", "--force", str(folder))


def _added(home: Path, commit: str, folder: Path) -> Path | str:
    # A record may say anything here, such as an option of git.
    if not re.fullmatch("[0-9a-f]{7,64}", commit):
        return f"its commit is not known ({commit})"
    # Nor is what somebody proposes to be run because a record names it: a fetched branch lies in the repository, too.
    if _git(home, "merge-base", "--is-ancestor", commit, "HEAD") == NO_MESSAGE:
        return f"commit {commit[:12]} is no part of the history of {home}, and so is not run"
    said = _git(home, "worktree", "add", "--detach", "--quiet", str(folder), commit)
    return folder if said is None else f"commit {commit[:12]} cannot be had from the repository {home} ({said})"


def _git(home: Path, *arguments: str) -> str | None:
    """What git says to be wrong; None where nothing is."""
    try:
        done = subprocess.run(["git", "-C", str(home), *arguments], capture_output=True, text=True, check=False)
    except OSError as error:
        return f"git: {error.strerror}"
    return None if done.returncode == 0 else (done.stderr.strip().splitlines() or [NO_MESSAGE])[-1]


def run_old(record: Record, tree: Path, paths: Paths, out: Path, trust: Trust) -> None:
    """Do a record's run again, to its end, with the code in a worktree and this interpreter; what it leaves lies in the
    results folder `out`.

    Args:
        paths: whose `data` and `mirror` are taken. trust: by which the record was checked, as the old code may not.

    Raises `RunError` where no record came of it.
    """
    out.mkdir(parents=True, exist_ok=True)
    file = out / "then.json"
    create(file, encode(record))
    code = "import sys; from poolbench.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "rerun", str(file), "--out", str(out)]
    done = subprocess.run(command, env=_environment(tree, paths, trust), capture_output=True, text=True, check=False)
    if not any(True for _ in iter_records(out)):
        said = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise RunError(f"the old code came to no record: {said}")


def _environment(tree: Path, paths: Paths, trust: Trust) -> dict[str, str]:
    path = os.pathsep.join(filter(None, (str(tree / "src"), os.environ.get("PYTHONPATH"))))
    named = {"POOLBENCH_DATA": paths.data, "POOLBENCH_MIRROR": paths.mirror,
             TRUST: " ".join(trust.packages) or None, ALLOW_LARGE: "1" if trust.large else None}  # fmt: skip
    kept = {name: value for name, value in os.environ.items() if name not in named}
    return kept | {name: str(value) for name, value in named.items() if value is not None} | {"PYTHONPATH": path}
