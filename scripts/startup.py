#!/usr/bin/env python3
"""How long PoolBench takes from Enter to an answer: whole processes, medians over several starts.

python scripts/startup.py                             # all of it: some minutes
python scripts/startup.py --only done --runs 9        # one question
python scripts/startup.py --write docs/startup.md     # into the page, below its heading "Measured"
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shlex
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path
from statistics import median

from poolbench.records.provenance import git_state, hardware

ROOT = Path(__file__).resolve().parents[1]
HEADING = "## Measured"
TRAIN = (sys.executable, str(ROOT / "train.py"))
POOLBENCH = (sys.executable, "-c", "import sys; from poolbench.cli import main; sys.exit(main())")
RUN = ("dataset=MUTAG", "trainer.max_epochs=1", "callbacks.progress=lines")

LIBRARIES = {
    "torch": "",
    "pytorch_lightning": "",
    "torch._dynamo": "Lightning (`lightning_fabric.wrappers`)",
    "scipy.signal": "torchmetrics, for Lightning (`lightning_fabric.utilities.imports`)",
    "torchmetrics.functional": "Lightning, with matplotlib",
    "sklearn": "",
    "pandas": "",
    "torch_geometric": "",
}
"""What a run may load that is large, and who asks for it where that is not PoolBench."""


@dataclass(frozen=True)
class Question:
    """A command line and the answer that is waited for.

    code: what it exits with. until: the line of its output that is the answer; None: the process's end.
    """

    name: str
    program: tuple[str, ...]
    words: tuple[str, ...]
    wanted: str = ""
    code: int = 0
    until: str | None = None

    @property
    def shown(self) -> str:
        return shlex.join(["python train.py" if self.program is TRAIN else "poolbench", *self.words]).replace("'", "")


def questions(records: Path, out: Path) -> list[Question]:
    """All questions. records: a results folder with many records. out: a folder for a page."""
    return [
        Question("help", TRAIN, ("--help",)),
        Question("name", TRAIN, ("pool=mincuts", *RUN), "2 s", 2),
        Question("value", TRAIN, ("callbacks.patience=0", *RUN), "2 s", 2),
        Question("constructor", TRAIN, ("pool=topk", "pool.ratio=-1", *RUN), "5 s", 2),
        Question("epoch", TRAIN, ("logger=none", "force=true", *RUN), until=r"epoch +1 "),
        Question("run", TRAIN, ("logger=none", "force=true", *RUN)),
        Question("wandb", TRAIN, ("logger=wandb", "logger.mode=offline", "force=true", *RUN)),
        Question("done", TRAIN, ("logger=none", *RUN), "1.5 s", until=None),
        Question("table", POOLBENCH, ("report", str(records), "dataset=MUTAG"), "1.5 s"),
        Question("page", POOLBENCH, ("report", str(records), "--out", str(out)), "5 s"),
        Question("plan", POOLBENCH, ("reproduce", "hansen2023_tvgnn/classification", "--plan"), "3 s"),
        Question("verify", POOLBENCH, ("verify", str(records)), "3 s"),
    ]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [question.name for question in questions(Path(), Path())]
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="some of the questions")
    parser.add_argument("--runs", type=int, default=5, help="starts of each, after one that does not count (5)")
    parser.add_argument("--records", type=Path, default=ROOT / "results", help="the results folder that is reported on")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="replace what stands below the page's heading")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        surroundings = {**os.environ, "POOLBENCH_DATA": f"{folder}/data", "POOLBENCH_RESULTS": f"{folder}/results",
                        "OMP_NUM_THREADS": "1"}  # fmt: skip
        asked = [q for q in questions(options.records, Path(folder) / "page") if q.name in options.only]
        if any(question.name == "done" for question in asked):
            ask(Question("", TRAIN, ("logger=none", *RUN)), folder, surroundings)
        lines = [heading(options.runs), "", "| answer | seconds | least, most | wanted | command |",
                 "| --- | ---: | ---: | ---: | --- |"]  # fmt: skip
        for question in asked:
            ask(question, folder, surroundings)  # files are in the system's memory from here on
            taken = [ask(question, folder, surroundings) for _ in range(options.runs)]
            found = f"{median(taken):.2f} | {min(taken):.2f}, {max(taken):.2f}"
            command = question.shown.replace(folder, "FOLDER").replace(str(options.records), options.records.name)
            lines.append(f"| {question.name} | {found} | {question.wanted or '–'} | `{command}` |")
            print(lines[-1], flush=True)
        lines += ["", *imports(surroundings)]
    if options.write:
        write(options.write, lines)
    else:
        print("\n".join(lines))
    return 0


def ask(question: Question, folder: str, surroundings: dict[str, str]) -> float:
    """Seconds from the start of the process to its answer. Raises SystemExit where it ends otherwise than it should."""
    started = time.perf_counter()
    process = subprocess.Popen([*question.program, *question.words], cwd=folder, env=surroundings, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT)  # fmt: skip
    assert process.stdout is not None
    answered, said = None, []
    for line in process.stdout:
        said.append(line)
        if question.until and answered is None and re.match(question.until, line):
            answered = time.perf_counter() - started
    code = process.wait()
    if code != question.code or (question.until and answered is None):
        raise SystemExit(f"{question.shown}: exit code {code}, {question.code} was expected\n{''.join(said)}")
    return answered or time.perf_counter() - started


def heading(runs: int) -> str:
    """On what, with what and under which load."""
    machine, git = hardware(), git_state()
    load = f", load {os.getloadavg()[0]:.1f} at the start" if hasattr(os, "getloadavg") else ""
    commit = f"{str(git[0])[:8]}{' + changes' if git[1] else ''}" if git[0] else "unknown"
    return (
        f"{date.today()}, commit {commit}, {machine['cpu']}, {machine['cores_usable']} cores{load}; "
        f"Python {platform.python_version()}, torch {version('torch')}, Lightning {version('pytorch-lightning')}. "
        f"Median of {runs} starts."
    )


def imports(surroundings: dict[str, str]) -> list[str]:
    """A table of what the first epoch loads: cumulative milliseconds, by `python -X importtime`."""
    command = [sys.executable, "-X", "importtime", "-c", "import torch; import poolbench.learn.train"]
    said = subprocess.run(command, env=surroundings, capture_output=True, text=True, check=True).stderr
    found = {name: int(spent) for spent, name in re.findall(r"\| +(\d+) \| +(\S+)$", said, re.MULTILINE)}
    own = sum(int(spent) for spent in re.findall(r"^import time: +(\d+) \| +\d+ \| +poolbench\S*$", said, re.MULTILINE))
    lines = ["What it loads on the way to the first epoch, in milliseconds, with all that each loads in turn:",
             "", "| library | ms | asked for by |", "| --- | ---: | --- |"]  # fmt: skip
    for library, asked_by in LIBRARIES.items():
        spent = f"{found[library] / 1000:.0f}" if library in found else "not loaded"
        lines.append(f"| {library} | {spent} | {asked_by if library in found else ''} |")
    return [*lines, f"| poolbench itself | {own / 1000:.0f} | |"]


def write(page: Path, lines: list[str]) -> None:
    """Put the lines below the page's heading, in place of what stands there."""
    above, found, _ = page.read_text().partition(f"{HEADING}\n")
    if not found:
        raise SystemExit(f"{page} has no heading {HEADING!r}")
    page.write_text(f"{above}{HEADING}\n\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(main())
