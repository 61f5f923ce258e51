"""What the image promises: no root, no secret, everything pinned, packages before source. Nothing is built here."""

from __future__ import annotations

import re
import shlex
import subprocess
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
DOCKERFILE = ROOT / "docker" / "Dockerfile"
ENTRYPOINT = ROOT / "docker" / "entrypoint.sh"


def instructions() -> list[tuple[str, str]]:
    """The instructions of the Dockerfile in order, continued lines joined, comments left out."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in joined.splitlines() if line)]


def of(word: str) -> list[str]:
    return [rest for name, rest in instructions() if name == word]


def place(word: str, text: str) -> int:
    """Where the first such instruction that holds `text` stands."""
    return next(i for i, (name, rest) in enumerate(instructions()) if name == word and text in rest)


def environment() -> dict[str, str]:
    pairs = (pair.partition("=") for rest in of("ENV") for pair in shlex.split(rest))
    return {name: value for name, _, value in pairs}


def test_the_base_is_an_argument_pinned_by_tag_and_digest() -> None:
    names = [name for name, _ in instructions()]
    assert names[:2] == ["ARG", "FROM"] and names.count("FROM") == 1
    assert re.fullmatch(r"BASE_IMAGE=python:3\.11\.\d+-slim-bookworm@sha256:[0-9a-f]{64}", of("ARG")[0])
    assert of("FROM") == ["${BASE_IMAGE}"]


def test_every_package_is_held_to_the_constraints() -> None:
    installs = [part for rest in of("RUN") for part in rest.split("&&") if "pip install" in part]
    assert len(installs) == 4
    for install in installs:
        assert "-c constraints.txt" in install or "constraints.txt)" in install, install
    assert any("\"$(grep '^torch==' constraints.txt)+${CUDA}\"" in install for install in installs)
    assert (ROOT / "constraints.txt").read_text().count("\ntorch==") == 1


def test_packages_come_before_the_source_and_what_changes_last_comes_last() -> None:
    order = [
        place("COPY", "constraints.txt pyproject.toml"), place("RUN", "torch=="), place("RUN", "requirements.txt"),
        place("COPY", ". ."), place("RUN", "-e ."), place("RUN", "useradd"), place("ARG", "POOLBENCH_COMMIT"),
        place("USER", ""),
    ]  # fmt: skip
    assert order == sorted(order)
    assert all("--mount=type=cache,target=/root/.cache/pip" in rest for rest in of("RUN")[1:3])


def test_the_user_is_not_root_and_owns_data_and_results_alone() -> None:
    assert of("USER") == ["poolbench"] and {"UID=1000", "GID=1000"} <= set(of("ARG"))
    after = [name for name, _ in instructions()[place("USER", "") + 1 :]]
    assert after == ["ENTRYPOINT", "CMD"]
    assert of("VOLUME") == ['["/data", "/results"]']
    assert '-o "${UID}" -g "${GID}" /data /results' in of("RUN")[-1]
    assert not any("chown" in rest for _, rest in instructions())


def test_no_secret_and_wandb_offline() -> None:
    assert environment()["WANDB_MODE"] == "offline"
    for name, rest in instructions():
        assert not re.search(r"(API_?KEY|TOKEN|PASSWORD|SECRET)", rest, re.IGNORECASE), (name, rest)
    compose = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())
    for service in compose["services"].values():
        assert service["environment"]["WANDB_API_KEY"] == "${WANDB_API_KEY:-}"  # of the host, when it runs
        assert "WANDB_API_KEY" not in service["build"]["args"]


def test_the_commit_is_in_records_and_on_the_image() -> None:
    from poolbench.records.provenance import COMMIT_VARIABLE

    assert environment()[COMMIT_VARIABLE] == "${POOLBENCH_COMMIT}"
    assert 'org.opencontainers.image.revision="${POOLBENCH_COMMIT}"' in of("LABEL")[0]
    assert environment()["POOLBENCH_DATA"] == "/data" and environment()["POOLBENCH_RESULTS"] == "/results"


def test_process_one_is_an_init_that_starts_the_entrypoint() -> None:
    assert of("ENTRYPOINT") == ['["tini", "--", "/opt/poolbench/docker/entrypoint.sh"]']
    assert ENTRYPOINT.stat().st_mode & 0o111 == 0o111


def ignored(path: str) -> bool:
    """Whether .dockerignore keeps a path out: the last rule that matches it or a folder above it decides."""
    verdict = False
    for rule in (ROOT / ".dockerignore").read_text().splitlines():
        if not rule or rule.startswith("#"):
            continue
        pattern, out = rule.removeprefix("!"), not rule.startswith("!")
        parts = path.split("/")
        prefixes = ["/".join(parts[: n + 1]) for n in range(len(parts))]
        deep = pattern.startswith("**/") and any(fnmatch(part, pattern[3:]) for part in parts)
        if deep or any(fnmatch(prefix, pattern) for prefix in prefixes):
            verdict = out
    return verdict


@pytest.mark.parametrize("path", [".git/config", ".venv/bin/python", ".env", "results/runs/a/1/record.json", "wandb/x",
                                  "src/poolbench/cli/__pycache__/door.cpython-311.pyc",
                                  "results/records/MUTAG/cv10.jsonl",
                                  ".netrc"])  # fmt: skip
def test_what_stays_out_of_the_image(path: str) -> None:
    assert ignored(path)


def test_what_the_image_is_made_of_is_there() -> None:
    names = ["src/poolbench/cli/door.py", "conf/train.yaml", "tests/test_docker.py", "docker/entrypoint.sh", "train.py",
             "results/published/README.md", "scripts/reproduce.py", "constraints.txt", "README.md"]  # fmt: skip
    for name in names:
        assert not ignored(name) and (ROOT / name).is_file(), name


@pytest.fixture
def fake(tmp_path: Path) -> dict[str, str]:
    """An environment whose `poolbench` and `python` say how they were called."""
    for name in ("poolbench", "python"):
        path = tmp_path / name
        path.write_text(f'#!/bin/sh\necho {name} "$@"\n')
        path.chmod(0o755)
    return {"PATH": f"{tmp_path}:/usr/bin:/bin"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train", "pool=mincut", "seed=range(2)"], "poolbench train pool=mincut seed=range(2)"),
        (["prepare", "dataset=MUTAG"], "poolbench prepare dataset=MUTAG"),
        (["reproduce", "a/b", "--quick"], "poolbench reproduce a/b --quick"),
        (["report", "/results"], "poolbench report /results"),
        ([], "poolbench --help"),
        (["echo", "hello"], "hello"),
    ],
)
def test_the_verbs_of_the_entrypoint(words: list[str], said: str, fake: dict[str, str]) -> None:
    done = subprocess.run([ENTRYPOINT, *words], env=fake, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == said


def test_compose_reserves_a_gpu_for_the_service_that_wants_one() -> None:
    services = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())["services"]
    assert "deploy" not in services["poolbench"]
    (device,) = services["gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"] and services["gpu"]["build"]["args"]["CUDA"] == "${CUDA:-cu130}"
    for service in services.values():
        assert service["build"]["dockerfile"] == "docker/Dockerfile" and service["read_only"] is True
        assert [volume.rpartition(":")[2] for volume in service["volumes"]] == ["/data", "/results"]
