"""Provenance says what it knows, fast, and fails at nothing."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from poolbench.records import provenance
from poolbench.records.provenance import git_state, hardware, packages

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


@pytest.fixture(autouse=True)
def no_named_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(provenance.COMMIT_VARIABLE, raising=False)


def git(folder: Path, *arguments: str) -> str:
    me = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    return subprocess.run(
        ["git", "-C", folder, *me, *arguments], check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with a package in src/."""
    package = tmp_path.resolve() / "src" / "poolbench"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("x = 1\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    return package


@needs_git
def test_commit_and_changes_of_the_checkout(checkout: Path) -> None:
    assert git_state(checkout) == (git(checkout, "rev-parse", "HEAD"), False)
    (checkout / "notes.txt").write_text("untracked files are nobody's code")
    assert git_state(checkout)[1] is False
    (checkout / "__init__.py").write_text("x = 2\n")
    assert git_state(checkout)[1] is True


@needs_git
def test_an_environment_inside_a_repository_is_not_its_code(checkout: Path) -> None:
    installed = checkout.parents[1] / ".venv" / "site-packages" / "poolbench"
    installed.mkdir(parents=True)
    assert git_state(installed) == (None, None)


@needs_git
def test_a_repository_without_commits(tmp_path: Path) -> None:
    package = tmp_path / "src" / "poolbench"
    package.mkdir(parents=True)
    git(tmp_path, "init", "-q")
    assert git_state(package) == (None, None)


def test_outside_git(tmp_path: Path) -> None:
    assert git_state(tmp_path) == (None, None)


def test_without_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_state() == (None, None)


def test_a_git_that_hangs_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "git").write_text("#!/bin/sh\nexec sleep 30\n")
    (tmp_path / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(provenance, "GIT_TIMEOUT", 0.2)
    start = time.monotonic()
    assert git_state() == (None, None)
    assert time.monotonic() - start < 15


@pytest.mark.parametrize(("named", "state"), [("abc", ("abc", False)), ("abc-dirty", ("abc", True))])
def test_an_image_names_its_commit(monkeypatch: pytest.MonkeyPatch, named: str, state: tuple[str, bool]) -> None:
    monkeypatch.setenv(provenance.COMMIT_VARIABLE, named)
    assert git_state() == state


def test_packages_name_their_versions() -> None:
    found = packages()
    assert found["torch"]
    assert found["python"].count(".") == 2
    assert set(provenance.PACKAGES) <= set(found)
    assert provenance.package_version("no-such-package-at-all") is None


def test_hardware() -> None:
    found = hardware()
    assert found["cores"] >= found["cores_usable"] >= 1
    assert found["memory"] > 2**28
    assert found["cpu"]
    assert found["cpu_generation"] is None or re.fullmatch(r"\S+ \d+/\d+", found["cpu_generation"])
    assert isinstance(found["gpus"], list)


def test_provenance_has_the_keys_of_the_record(monkeypatch: pytest.MonkeyPatch) -> None:
    found = provenance.provenance(data={"fingerprint": "d"}, split="s")
    assert list(found) == ["git", "dirty", "packages", "hardware", "data", "split"]
    assert (found["data"], found["split"]) == ({"fingerprint": "d"}, "s")
    calls = []
    ask = provenance._git
    monkeypatch.setattr(provenance, "_git", lambda *words: calls.append(words) or ask(*words))
    provenance.provenance()
    assert len(calls) <= 2, "each costs a process"
