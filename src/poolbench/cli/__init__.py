"""The console command `poolbench`: the door to Hydra, and in `commands/` one file a command. Hydra stops here.

Nothing is imported before it is needed: `table` names the commands, `group` loads the module of the one that is called,
and that loads Hydra, torch or neither.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from poolbench.cli.terminal import fail, not_installed


def main(argv: Sequence[str] | None = None) -> int:
    """The console command; returns the exit code."""
    try:
        from poolbench.cli.group import run
    except ModuleNotFoundError as error:
        return fail(not_installed(error), 2, error)
    return run(list(sys.argv[1:] if argv is None else argv))


def train(argv: Sequence[str]) -> int:
    """`poolbench train`, as `train.py` has it; returns the exit code."""
    return main(["train", *argv])
