"""The console command `poolbench`: the door to Hydra, and in `commands/` one file a command. Hydra stops here.

Nothing is imported before it is needed: `table` names the commands, `group` loads the module of the one that is called,
and that loads Hydra, torch or neither.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from poolbench.cli.terminal import fail, not_installed


def main(argv: Sequence[str] | None = None) -> int:
    """The console command; returns the exit code."""
    given = sys.argv[1:] if argv is None else list(argv)
    if sys.getfilesystemencoding() != "utf-8" and given == sys.argv[1:]:
        # In another locale Python reads words and names of files as other letters: a run would be another one there.
        os.environ["PYTHONUTF8"] = "1"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    try:
        from poolbench.cli.group import run
    except ModuleNotFoundError as error:
        return fail(not_installed(error), 2, error)
    return run(given)


def train(argv: Sequence[str]) -> int:
    """`poolbench train`, as `train.py` has it; returns the exit code."""
    return main(["train", *argv])
