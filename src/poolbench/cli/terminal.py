"""What is said in a terminal: errors in one line each, and what PoolBench logs."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO, cast

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


class _Lossy:
    """A stream whose reader may stop, and whose disk may be full: what cannot be written then is lost, and no work."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError:
            return self._lose(len(text))

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            self._lose()

    def _lose(self, count: int = 0) -> int:
        """Send what follows, and what Python still holds of it, nowhere."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)
        return count

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def lossy_output() -> Iterator[None]:
    """While a command runs: output that cannot be written is lost, letters that it lacks are numbers."""
    streams = sys.stdout, sys.stderr
    # Python has none where it was started with a closed one (`>&-`), whose number the next file that is opened takes.
    used = [open(os.devnull, "w", encoding="utf-8") if stream is None else stream for stream in streams]  # noqa: SIM115
    for stream in used:
        if hasattr(stream, "reconfigure") and (stream.encoding or "").lower().replace("-", "") != "utf8":
            stream.reconfigure(errors="backslashreplace")
    sys.stdout, sys.stderr = (cast(TextIO, _Lossy(stream)) for stream in used)
    try:
        yield
        sys.stdout.flush()
    finally:
        sys.stdout, sys.stderr = streams


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
