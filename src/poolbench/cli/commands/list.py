"""`poolbench list`: what there is to choose from."""

from __future__ import annotations

import importlib.util

import click

from poolbench.cli.names import about, choices, offered, refuse_taken
from poolbench.cli.options import Choice, config_dir
from poolbench.errors import PoolBenchError, nearest

GROUPS = {"pools": "pool", "models": "model", "datasets": "dataset", "protocols": "protocol",
          "perturbations": "perturb"}  # fmt: skip
#: How to get the libraries whose operators PoolBench knows and does not bring. torch-scatter is compiled against the
#: torch that is there, which pip hides from a build unless it is told not to.
INSTALL = {
    "tgp": "pip install -U setuptools wheel; pip install --no-build-isolation torch-scatter torch-geometric-pool"
}


@click.command
@click.argument("kind", type=Choice(list(GROUPS)), metavar="KIND")
@click.argument("words", nargs=-1, metavar="[WORD]...")
@config_dir
def command(kind: str, words: tuple[str, ...]) -> None:
    """Print the pools, models, datasets, protocols or perturbations that there are, each with a sentence.

    KIND is one of these words. With WORDs only lines are printed in which all of them stand.

    \b
    Examples:
      poolbench list pools
      poolbench list pools readout attention
      poolbench list datasets ogbg
    """
    refuse_taken()
    group = GROUPS[kind]
    names = choices(group)
    missing = [peer for peer in INSTALL if group == "pool" and importlib.util.find_spec(peer) is None]
    names = [name for name in names if not name.startswith(tuple(f"{peer}_" for peer in missing))]
    width = max(map(len, names))
    lines = [f"{name:<{width}}  {about(group, name)}".rstrip() for name in names]
    lines += [f"{peer}_*: operators of {peer}, which is not installed: {INSTALL[peer]}" for peer in missing]
    lines += [plugin.broken for plugin in (offered() if group == "pool" else ()) if plugin.problem]
    shown = [line for line in lines if all(word.lower() in line.lower() for word in words)]
    if not shown:
        raise PoolBenchError(f"none of the {kind} says {' '.join(words)}{nearest(words[0], names)}")
    print("\n".join(shown))
