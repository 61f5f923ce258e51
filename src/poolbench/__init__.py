"""PoolBench: the benchmark for graph pooling."""

from pathlib import Path as _Path

__version__ = "0.1.0"


def conf_dir() -> _Path:
    """PoolBench's own configuration folder: inside an installed package, or beside src/ in a checkout."""
    inside = _Path(__file__).parent / "conf"
    return inside if inside.is_dir() else _Path(__file__).parents[2] / "conf"
