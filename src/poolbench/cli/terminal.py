"""What is said in a terminal: errors in one line each, and what PoolBench logs."""

from __future__ import annotations

import logging
import os
import sys

from poolbench.errors import one_line, printable

#: Whether the traceback of an error is wanted, as Hydra's users ask for it.
TRACEBACKS = os.environ.get("HYDRA_FULL_ERROR") == "1"


def fail(message: str, code: int, error: BaseException | None = None) -> int:
    """Print one line, with HYDRA_FULL_ERROR=1 the traceback too; returns `code`."""
    print(f"error: {one_line(message)}", file=sys.stderr, flush=True)
    if error is not None and TRACEBACKS:
        import traceback

        traceback.print_exception(error)
    return code


def not_installed(error: ModuleNotFoundError) -> str:
    """What to do about a library that PoolBench needs and this Python lacks."""
    made = "bash scripts/demo.sh makes an environment, .venv/bin/python, and so does pip install ."
    return f"there is no module {error.name} in {sys.executable}: {made}"


def speak() -> None:
    """Let what PoolBench has to say (where a run lies, what a logger lost) reach the terminal, a line each."""
    logger = logging.getLogger("poolbench")
    if not logger.handlers:
        handler = _Terminal()
        handler.setFormatter(_Format())
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False


class _Terminal(logging.Handler):
    """Writes to what is standard output at the moment: a worker of a sweep holds back what each of its jobs says."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), flush=True)


class _Format(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        level = f"{record.levelname.lower()}: " if record.levelno > logging.INFO else ""
        return printable(level + record.getMessage())
