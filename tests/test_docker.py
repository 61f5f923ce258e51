"""What the image promises: no root, no secret, everything pinned, packages before source. Nothing is built here."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
DOCKERFILE = ROOT / "docker" / "Dockerfile"
ENTRYPOINT = ROOT / "docker" / "entrypoint.sh"
HASHES = ROOT / "docker" / "hashes"
HOW = "scripts/image_hashes.py writes docker/hashes anew; cpu.txt says where its hashes stand"
FROM_TORCH = re.compile(r"(nvidia|cuda)-|triton$")


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


def project() -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return found


def test_the_base_is_an_argument_pinned_by_tag_and_digest() -> None:
    names = [name for name, _ in instructions()]
    assert names[:2] == ["ARG", "FROM"] and names.count("FROM") == 1
    assert re.fullmatch(r"BASE_IMAGE=python:3\.11\.\d+-slim-bookworm@sha256:[0-9a-f]{64}", of("ARG")[0])
    assert of("FROM") == ["${BASE_IMAGE}"]


def pins(name: str) -> dict[str, str]:
    """The version of each package of a list of hashes, every one of which has one at least."""
    text = (HASHES / f"{name}.txt").read_text().replace("\\\n", " ")
    found = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            package, *hashes = line.split()
            assert hashes and all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", each) for each in hashes), line
            found[canonicalize_name(package.partition("==")[0])] = package.partition("==")[2]
    return found


def constraints() -> dict[str, str]:
    lines = (line.partition(";")[0] for line in (ROOT / "constraints.txt").read_text().splitlines())
    return {name: version.strip() for name, _, version in (line.partition("==") for line in lines) if version}


def test_every_package_is_held_to_a_hash_and_nothing_else_is_installed() -> None:
    installs = [part for rest in of("RUN") for part in re.split("&&|;", rest) if "pip install" in part]
    assert len(installs) == 4
    for install in installs[:3]:
        assert re.search(r"--no-deps --require-hashes .*-r \"?docker/hashes/", install), install
    assert "--no-index --no-deps --no-build-isolation -e ." in installs[3]


def test_the_hashes_are_of_the_constraints_versions() -> None:
    pinned = constraints()
    names = sorted(path.stem for path in HASHES.iterdir())
    assert names == ["base", "cpu", "cu130", "ray", "submitit", "tensorboard", "test", "tools"]
    for name in names:
        for package, version in pins(name).items():
            expected = pinned.get(package)
            if expected is None:
                assert name == "cu130" and FROM_TORCH.match(package), package
            else:
                assert version == expected + ("+cpu" if name == "cpu" else ""), f"{package} of {name}: {HOW}"
    assert pins("cpu").keys() == {"torch"} and "torch" in pins("cu130")


@pytest.mark.skipif(sys.version_info[:2] != (3, 11) or sys.platform != "linux", reason="the image has 3.11 on Linux")
@pytest.mark.parametrize("extra", ["", "test", "tensorboard"])
def test_nothing_that_is_needed_lacks_a_hash(extra: str) -> None:
    found = set()
    todo = {Requirement(line) for line in project()["dependencies"]}
    todo |= {Requirement(line) for line in project()["optional-dependencies"].get(extra, ())}
    while todo:
        need = todo.pop()
        name = canonicalize_name(need.name)
        if name not in found and not FROM_TORCH.match(name):
            found.add(name)
            further = (Requirement(line) for line in metadata.requires(name) or ())
            todo |= {one for one in further if one.marker is None or one.marker.evaluate({"extra": ""})}
    lists = ("tools", "base", "cpu", *filter(None, [extra]))
    assert found <= set().union(*map(pins, lists)), HOW


def test_packages_come_before_the_source_and_what_changes_last_comes_last() -> None:
    order = [
        place("COPY", "docker/hashes"), place("RUN", "tools.txt"), place("RUN", "${CUDA}.txt"),
        place("RUN", "${list}.txt"), place("COPY", ". ."), place("RUN", "-e ."), place("RUN", "useradd"),
        place("ARG", "POOLBENCH_COMMIT"), place("USER", ""),
    ]  # fmt: skip
    assert order == sorted(order)
    assert all("--mount=type=cache,target=/root/.cache/pip" in rest for rest in of("RUN")[1:4])


def test_the_user_is_not_root_and_owns_data_and_results_alone() -> None:
    assert of("USER") == ["${UID}:${GID}"] and {"UID=1000", "GID=1000"} <= set(of("ARG"))
    after = [name for name, _ in instructions()[place("USER", "") + 1 :]]
    assert after == ["ENTRYPOINT", "CMD"]
    assert of("VOLUME") == ['["/data", "/results"]']
    assert '-o "${UID}" -g "${GID}" /data /results' in of("RUN")[-1]
    assert not any("chown" in rest for _, rest in instructions())
    assert "find / -xdev -type f -perm /6000 -exec chmod a-s {} +" in of("RUN")[0]


def test_arguments_of_the_build_are_no_code() -> None:
    for rest in of("RUN"):
        assert not re.search(r"python3? -c|\beval\b|\bsh -c", rest), rest


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
             "results/published/README.md", "scripts/reproduce.py", "constraints.txt", "README.md",
             "docker/hashes/base.txt", ".pre-commit-config.yaml"]  # fmt: skip
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
        (["train", "tags=[$(id)]", "a b", "; id", "*"], "poolbench train tags=[$(id)] a b ; id *"),
        (["echo", "$HOME", "`id`"], "$HOME `id`"),
    ],
)
def test_the_verbs_of_the_entrypoint(words: list[str], said: str, fake: dict[str, str]) -> None:
    done = subprocess.run([ENTRYPOINT, *words], env=fake, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == said


def test_a_command_is_one_word_and_no_line_of_a_shell(fake: dict[str, str]) -> None:
    done = subprocess.run([ENTRYPOINT, "echo hello; id"], env=fake, capture_output=True, text=True, check=False)
    assert done.returncode == 127 and not done.stdout


def test_compose_gives_no_rights_and_bounds_what_a_container_takes() -> None:
    for service in yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())["services"].values():
        assert service["cap_drop"] == ["ALL"] and service["security_opt"] == ["no-new-privileges:true"]
        assert service["read_only"] is True and service["tmpfs"] == ["/tmp"]
        assert service["pids_limit"] == 4096 and service["mem_limit"] == "${MEMORY:-8g}"
        assert service["cpuset"] == "${CPUS:-0-1}"
        assert not {"privileged", "cap_add", "network_mode", "pid", "ipc", "user"} & set(service)


def test_compose_reserves_a_gpu_for_the_service_that_wants_one() -> None:
    services = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())["services"]
    assert "deploy" not in services["poolbench"]
    (device,) = services["gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"] and services["gpu"]["build"]["args"]["CUDA"] == "${CUDA:-cu130}"
    for service in services.values():
        assert service["build"]["dockerfile"] == "docker/Dockerfile" and service["read_only"] is True
        assert [volume.rpartition(":")[2] for volume in service["volumes"]] == ["/data", "/results"]
