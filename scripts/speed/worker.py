"""A process that holds one contestant, or one other measurement, and does what it is told: `python -m ... worker`.

Requests and replies are JSON lines on standard input and output; whatever a library prints goes to standard error.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import sys
from typing import Any

from poolbench.errors import PoolBenchError


def make(target: str, threads: int, memory: int | None, setting: dict[str, Any]) -> Any:
    """The object `speed.<module>.<class>` for a setting, in a process with so many threads.

    memory: bytes that the process may hold: a contestant that would need more fails and leaves the machine alone.
    """
    if memory is not None and sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    import torch

    from speed.setting import Setting

    torch.set_num_threads(threads)
    module, _, name = target.partition(".")
    return getattr(importlib.import_module(f"speed.{module}"), name)(Setting(**setting))


def serve(requests: Any, replies: Any) -> None:
    """The first request makes the object, the others call its methods."""
    served: Any = None
    for line in requests:
        request = json.loads(line)
        try:
            if served is None:
                served, result = make(**request), None
            else:
                result = getattr(served, request["call"])(**request["args"])
            reply = {"result": result}
        except Exception as error:
            text = (str(error) or "no message").strip().splitlines()[0]
            known = isinstance(error, PoolBenchError)
            reply = {"error": text if known else f"{type(error).__name__}: {text}", "known": known}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


def main() -> None:
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    serve(sys.stdin, replies)


if __name__ == "__main__":
    main()
