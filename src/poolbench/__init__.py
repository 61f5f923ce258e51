"""PoolBench: the benchmark for graph pooling."""

from collections.abc import Sequence as _Sequence
from os import environ as _environ
from pathlib import Path as _Path
from typing import TYPE_CHECKING as _CHECKING

if _CHECKING:
    from poolbench.audit.trained import Trained as _Trained

__version__ = "0.1.0"


def conf_dir() -> _Path:
    """PoolBench's own configuration folder: inside an installed package, or beside src/ in a checkout."""
    inside = _Path(__file__).parent / "conf"
    return inside if inside.is_dir() else _Path(__file__).parents[2] / "conf"


def load(run: str | _Path, trust: _Sequence[str] = ()) -> "_Trained":
    """The trained model of a run that was done with `callbacks.keep_weights=true`: `load("results/runs/ID")`.

    Args:
        run: the folder of the run or of an attempt, or its record.json.
        trust: packages whose classes the record may name, such as that of an operator of your own; their code is run.
            POOLBENCH_TRUST and POOLBENCH_ALLOW_LARGE mean what they mean to commands (docs/security.md).

    Raises `PoolBenchError` where there are no weights, where they do not fit, and for a record that asks for what is
    not done for one. Warns where the installed code is not that of the record.
    """
    import warnings

    from poolbench.audit import ALLOW_LARGE, TRUST
    from poolbench.audit.trained import load as load_trained
    from poolbench.audit.trust import Trust

    paths = {"data": _environ.get("POOLBENCH_DATA"), "mirror": _environ.get("POOLBENCH_MIRROR")}
    packages = (*trust, *_environ.get(TRUST, "").split())
    large = _environ.get(ALLOW_LARGE, "").lower() in ("1", "true", "t", "yes", "y", "on")  # as click reads it
    made = load_trained(run, Trust(packages=packages, large=large), paths)
    if note := made.note:
        warnings.warn(note, stacklevel=2)
    return made
