"""The set-up scripts, the pins and the wheel.

The scripts run here against a stand-in for Python (a few lines of bash) that records what it is asked for, so that
every state of an environment, killed half-way included, is reached in a fraction of a second and without a network.
"""

import importlib.metadata
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import tomllib
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = "bash cat chmod cksum cp dirname find grep ls mkdir mv rm sleep sha256sum shasum tail timeout touch tr uname"
UNPINNED_EXTRAS = {"ray", "benchmark"}  # see the head of constraints.txt
FROM_TORCH = re.compile(r"(nvidia|cuda)-|triton$")

STAND_IN = """#!{bash}
# Answers for python3 and for .venv/bin/python.
case $* in
    *_base_executable*) printf '%s\\n%s\\n' "${{STAND_IN_VERSION-3.11}}" "$0" ;;
    *'sys.version_info'*) echo "${{STAND_IN_VERSION-3.11}}" ;;
    *'import venv'*) exit "${{STAND_IN_NO_VENV-0}}" ;;
    *fcntl.flock*) exec {python} "$@" ;;
    '-m venv'*)
        echo venv >>"$STAND_IN_LOG"
        mkdir -p "$3/bin" && cp "$0" "$3/bin/python" && touch "$3/pyvenv.cfg" ;;
    '-m pip index'*) echo "torch (${{STAND_IN_TORCH-2.15.0}})" ;;
    '-m pip'*)
        echo "$*" >>"$STAND_IN_LOG"
        case $* in *' -e '*) sleep "${{STAND_IN_SLEEP-0}}"; exit "${{STAND_IN_FAILS-0}}" ;; esac ;;
    *) printf '%s\\n' "$PWD" "${{POOLBENCH_MIRROR-}}" "$@" ;;
esac
"""


class Checkout:
    """A copy of the scripts in a folder of its own, and a PATH with nothing on it but what they may use."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "a checkout"
        self.log = folder / "asked"
        self.bin = folder / "bin"
        self.bin.mkdir()
        for name in COMMANDS.split():
            if path := shutil.which(name):
                (self.bin / name).symlink_to(path)
        shutil.copytree(ROOT / "scripts", self.root / "scripts")
        for name in ("pyproject.toml", "constraints.txt"):
            shutil.copy(ROOT / name, self.root)

    def add_python(self, name: str = "python3") -> None:
        path = self.bin / name
        path.write_text(STAND_IN.format(bash=shutil.which("bash"), python=shlex.quote(sys.executable)))
        path.chmod(0o755)

    def start(self, script: str, *arguments: str, cwd: Path | None = None, **environment: str) -> subprocess.Popen[str]:
        """Starts a script in a process group of its own."""
        return subprocess.Popen(
            [str(self.bin / "bash"), str(self.root / "scripts" / script), *arguments],
            cwd=cwd or self.root.parent,
            env={"PATH": str(self.bin), "STAND_IN_LOG": str(self.log), **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, script: str, *arguments: str, cwd: Path | None = None, **environment: str) -> tuple[int, str, str]:
        process = self.start(script, *arguments, cwd=cwd, **environment)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    def asked(self) -> list[str]:
        """What Python was asked for since the last call: `venv`, and the arguments of each pip."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return lines


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


@pytest.fixture
def ready(checkout: Checkout) -> Checkout:
    """A checkout in which demo.sh has run."""
    checkout.add_python()
    code, _, err = checkout.run("demo.sh")
    assert code == 0, err
    checkout.asked()
    return checkout


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# --- what is missing is said in one line ----------------------------------------------------------------------------


@pytest.mark.parametrize("script", ["demo.sh", "test.sh"])
def test_no_python(checkout: Checkout, script: str) -> None:
    code, out, err = checkout.run(script)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "no python3 (3.11, 3.12 or 3.13)" in err
    assert not (checkout.root / ".venv").exists()


def test_python_out_of_range(checkout: Checkout) -> None:
    checkout.add_python()
    code, _, err = checkout.run("demo.sh", STAND_IN_VERSION="3.14")
    assert (code, err.count("\n")) == (2, 1)
    assert "python3 is 3.14" in err


def test_no_venv_module(checkout: Checkout) -> None:
    checkout.add_python()
    code, _, err = checkout.run("demo.sh", STAND_IN_NO_VENV="1")
    assert (code, err.count("\n")) == (2, 1)
    assert "python3-venv" in err


def test_named_python_is_missing(checkout: Checkout) -> None:
    checkout.add_python()
    code, _, err = checkout.run("demo.sh", POOLBENCH_PYTHON="no/such/python")
    assert (code, err.count("\n")) == (2, 1)
    assert "POOLBENCH_PYTHON" in err


def test_somebody_elses_venv_is_left_alone(checkout: Checkout) -> None:
    checkout.add_python()
    (checkout.root / ".venv").mkdir()
    (checkout.root / ".venv" / "pyvenv.cfg").touch()
    code, _, err = checkout.run("demo.sh")
    assert (code, err.count("\n")) == (2, 1)
    assert (checkout.root / ".venv" / "pyvenv.cfg").exists()


# --- a later start does what is left to do, and no more -------------------------------------------------------------


def test_first_start_installs_and_trains(checkout: Checkout) -> None:
    checkout.add_python("python3.12")  # a python3 is not needed
    code, out, _ = checkout.run("demo.sh", STAND_IN_VERSION="3.12")
    assert code == 0
    assert out.split("\n")[2:-1] == ["train.py", "pool=mincut", "dataset=MUTAG"]
    created, pip, project = checkout.asked()
    assert created == "venv"
    assert "install pip==" in pip
    assert "install -e . " in project
    assert "-c constraints.txt" in project


def test_demo_needs_no_grakel_on_python_313(checkout: Checkout) -> None:
    checkout.add_python()
    _, out, _ = checkout.run("demo.sh", STAND_IN_VERSION="3.13")
    assert out.split("\n")[2:-1] == ["train.py", "pool=mincut", "dataset=planted"]


def test_second_start_installs_nothing(ready: Checkout) -> None:
    start = time.monotonic()
    code, out, err = ready.run("demo.sh", "seed=range(3)", "a=b c")
    assert time.monotonic() - start < 3
    assert (code, err, ready.asked()) == (0, "", [])
    assert out.split("\n")[2:-1] == ["train.py", "seed=range(3)", "a=b c"]


def test_test_tools_are_added_once(ready: Checkout) -> None:
    _, out, _ = ready.run("test.sh")
    assert out.split("\n")[2:-1] == ["-m", "pytest", "-q", "-n", "2", "-m", "not slow"]
    assert [".[test,dev]" in line for line in ready.asked()] == [False, True]  # pip itself, then the project
    _, out, _ = ready.run("test.sh", "-k", "linalg")
    assert out.split("\n")[2:-1] == ["-m", "pytest", "-k", "linalg"]
    ready.run("demo.sh")
    assert ready.asked() == []


@pytest.mark.parametrize("name", ["constraints.txt", "pyproject.toml"])
def test_changed_pins_are_installed_in_place(ready: Checkout, name: str) -> None:
    with (ready.root / name).open("a") as file:
        file.write("# changed\n")
    ready.run("demo.sh")
    asked = ready.asked()
    assert any("-e ." in line for line in asked)
    assert "venv" not in asked
    ready.run("demo.sh")
    assert ready.asked() == []


def test_moved_checkout_is_built_anew(ready: Checkout) -> None:
    ready.root = ready.root.rename(ready.root.with_name("moved"))
    ready.run("demo.sh")
    assert "venv" in ready.asked()


def test_removed_interpreter_is_replaced(ready: Checkout) -> None:
    python = ready.root / ".venv" / "bin" / "python"
    python.unlink()
    python.symlink_to("gone")
    assert ready.run("demo.sh")[0] == 0
    assert "venv" in ready.asked()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_interrupted_install_is_begun_anew(checkout: Checkout, number: signal.Signals) -> None:
    checkout.add_python()
    process = checkout.start("demo.sh", STAND_IN_SLEEP="60")
    wait_for(lambda: checkout.log.exists() and " -e " in checkout.log.read_text())
    os.killpg(process.pid, number)
    process.communicate(timeout=30)
    assert process.returncode != 0
    half = checkout.root / ".venv" / "half-written"
    half.touch()
    checkout.asked()
    assert checkout.run("demo.sh")[0] == 0
    assert "venv" in checkout.asked()
    assert not half.exists()


def test_failed_install_shows_the_log_and_is_begun_anew(checkout: Checkout) -> None:
    checkout.add_python()
    code, out, err = checkout.run("demo.sh", STAND_IN_FAILS="1")
    assert (code, out) == (1, "")
    assert "install.log" in err
    checkout.asked()
    assert checkout.run("demo.sh")[0] == 0
    assert "venv" in checkout.asked()


def test_concurrent_starts_install_once(checkout: Checkout) -> None:
    checkout.add_python()
    processes = [checkout.start("demo.sh", STAND_IN_SLEEP="1") for _ in range(3)]
    for process in processes:
        process.communicate(timeout=60)
        assert process.returncode == 0
    assert checkout.asked().count("venv") == 1


# --- settings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"), [("data here", "{cwd}/data here"), ("/data", "/data"), ("file:///data", "file:///data")]
)
def test_relative_mirror_is_that_of_the_callers_folder(
    ready: Checkout, tmp_path: Path, value: str, expected: str
) -> None:
    _, out, _ = ready.run("demo.sh", cwd=tmp_path, POOLBENCH_MIRROR=value)
    assert out.split("\n")[:2] == [str(ready.root), expected.format(cwd=tmp_path)]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere pip's own index has CPU builds of torch")
def test_cpu_build_of_torch_is_taken_where_there_is_one(checkout: Checkout) -> None:
    checkout.add_python()
    pin = pins()["torch"].removeprefix("==")
    _, _, err = checkout.run("demo.sh", STAND_IN_TORCH=f"{pin}+cpu")
    assert any(f"torch=={pin}+cpu" in line for line in checkout.asked())
    assert "CUDA" not in err


def test_torch_index_is_an_option(checkout: Checkout) -> None:
    checkout.add_python()
    index = "https://torch.invalid/whl"
    _, _, err = checkout.run("demo.sh", POOLBENCH_TORCH_INDEX=index)
    assert any(f"--index-url {index} torch==" in line for line in checkout.asked())
    assert "CUDA" not in err
    checkout.run("demo.sh")  # not asked for: what is there will do
    assert checkout.asked() == []
    checkout.run("demo.sh", POOLBENCH_TORCH_INDEX="default")
    assert "venv" in checkout.asked()


# --- pins -----------------------------------------------------------------------------------------------------------


def pins() -> dict[str, str]:
    """The version of each package in constraints.txt, markers aside."""
    found = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            requirement = Requirement(line)
            found[canonicalize_name(requirement.name)] = str(requirement.specifier)
    return found


def declared() -> list[Requirement]:
    """All requirements of pyproject.toml that constraints.txt promises to pin."""
    tables = tomllib.loads((ROOT / "pyproject.toml").read_text())
    lines = tables["project"]["dependencies"] + tables["build-system"]["requires"]
    for extra, requirements in tables["project"]["optional-dependencies"].items():
        if extra not in UNPINNED_EXTRAS:
            lines += requirements
    return [Requirement(line) for line in lines]


def test_every_declared_dependency_is_pinned_within_its_bounds() -> None:
    found = pins()
    for requirement in declared():
        pin = found[canonicalize_name(requirement.name)]
        assert re.fullmatch(r"==[0-9][0-9a-z.]*", pin), f"{requirement.name} {pin}"
        assert requirement.specifier.contains(pin.removeprefix("=="), prereleases=True), requirement


def test_every_installed_dependency_is_pinned() -> None:
    """Walks what is installed, from our requirements down: nothing may come in at a version that is left open."""
    found = pins()
    if importlib.metadata.version("torch").split("+")[0] != found["torch"].removeprefix("=="):
        pytest.skip("not the pinned environment")
    seen: set[tuple[str, str]] = set()
    todo = declared()
    while todo:
        requirement = todo.pop()
        name = canonicalize_name(requirement.name)
        if FROM_TORCH.match(name) or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        assert name in found
        try:
            below = [Requirement(line) for line in importlib.metadata.requires(name) or []]
        except importlib.metadata.PackageNotFoundError:
            continue  # an extra, or a build tool, that is not installed here
        for extra in {"", *requirement.extras}:
            if (name, extra) not in seen:
                seen.add((name, extra))
                todo += [
                    Requirement(str(each).partition(";")[0])
                    for each in below
                    if not each.marker or each.marker.evaluate({"extra": extra})
                ]


def test_pre_commit_has_the_pinned_ruff() -> None:
    versions = set(re.findall(r"ruff(==[\d.]+)", (ROOT / ".pre-commit-config.yaml").read_text()))
    assert versions == {pins()["ruff"]}


# --- the wheel ------------------------------------------------------------------------------------------------------


def build(source: Path, target: str, folder: Path) -> Path:
    pytest.importorskip("hatchling")
    command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(folder)]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    return next(folder.glob("*.whl" if target == "wheel" else "*.tar.gz"))


def sources() -> set[str]:
    """The files that a wheel must hold, by their names in it."""
    names = {f"poolbench/{path.relative_to(ROOT / 'src/poolbench')}" for path in ROOT.glob("src/poolbench/**/*.py")}
    names |= {f"poolbench/{path.relative_to(ROOT / 'src/poolbench')}" for path in ROOT.glob("src/poolbench/**/*.html")}
    names |= {f"{path.relative_to(ROOT / 'src')}" for path in ROOT.glob("src/poolbench/audit/skeleton/*")}
    names |= {f"{path.relative_to(ROOT / 'src')}" for path in ROOT.glob("src/hydra_plugins/*.py")}
    return names | {f"poolbench/conf/{path.relative_to(ROOT / 'conf')}" for path in ROOT.glob("conf/**/*.yaml")}


def test_wheel_carries_code_and_conf(tmp_path: Path) -> None:
    with zipfile.ZipFile(build(ROOT, "wheel", tmp_path)) as wheel:
        names = set(wheel.namelist())
    assert sources() <= names
    assert {name.split("/")[0] for name in names} == {"poolbench", "hydra_plugins", "poolbench-0.1.0.dist-info"}


def test_sdist_builds_the_same_wheel(tmp_path: Path) -> None:
    with tarfile.open(build(ROOT, "sdist", tmp_path)) as archive:
        archive.extractall(tmp_path / "sdist", filter="data")
    (source,) = (tmp_path / "sdist").iterdir()
    with zipfile.ZipFile(build(source, "wheel", tmp_path)) as wheel:
        assert sources() <= set(wheel.namelist())


@pytest.mark.slow
def test_installed_wheel_has_its_conf(tmp_path: Path) -> None:
    wheel = build(ROOT, "wheel", tmp_path)
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", "--no-index", wheel], check=True, cwd=tmp_path)
    code = (
        "import importlib.util, pathlib;"
        "package = pathlib.Path(importlib.util.find_spec('poolbench').origin).parent;"
        "print((package / 'conf' / 'train.yaml').is_file())"
    )
    result = subprocess.run([python, "-c", code], check=True, cwd=tmp_path, capture_output=True, text=True)
    assert result.stdout == "True\n"
    assert (tmp_path / "venv" / "bin" / "poolbench").is_file()
