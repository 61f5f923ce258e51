"""What a record may ask of the machine: a run or a dataset above these limits is done only where the user says so."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from typing import Any

from poolbench.data.sources.nodegraph_names import NODE_GRAPHS
from poolbench.data.sources.ogb_names import OGB_NAMES
from poolbench.data.sources.tu_names import TU_NAMES
from poolbench.records.changes import today
from poolbench.records.identity import processes
from poolbench.records.provenance import usable_cores

EPOCHS = 20_000
"""What the longest published recipe asks for."""
BATCH = 65_536
COPIES = 1000
"""Of each graph of a pair."""
WIDTH = 10_000
"""The largest whole number among the arguments of an operator or a model, such as a width or a number of clusters."""
LAYERS = 100
"""Of a model: levels, and layers of each; of an operator."""
COUNTED = ("levels", "depth", "head_layers", "node_layers")
"""The arguments of a model that count them; in a list `head_layers` are widths."""
LENGTH = 64
"""Of a list of arguments."""
PARAMETERS = 100_000_000
GRAPHS = 150_000
"""Of a dataset, by the lists of collections; one that is in no list may have any number."""
MADE = 100_000_000
"""Nodes, edges or numbers at nodes that a generator makes. A perturbation that adds edges refuses more by itself
(`perturb.MOST_EDGES`), whatever its arguments are."""
LARGE = 3000
"""For an argument of a generator that is not given: no default is above."""

DRAWN = "seed"
"""The name of an argument that is a number and no amount."""


def too_large(config: Mapping[str, Any], runs: bool) -> str | None:
    """What of a configuration is above a limit, in one line; None where nothing is.

    Args:
        config: as `changes.upgrade` makes it. runs: whether it is to be run; else only its dataset is split.
    """
    return next(chain(_data(config), _run(config) if runs else ()), None)


def _data(config: Mapping[str, Any]) -> Iterator[str]:
    dataset = config.get("dataset") or {}
    name, kind = dataset.get("name"), today(str(dataset.get("_target_"))).rpartition(".")[2]
    yield from _over("dataset.max_degree", dataset.get("max_degree"), WIDTH)
    if kind in _MADE:
        with contextlib.suppress(TypeError, ValueError, OverflowError):  # the constructor says what is wrong
            amount = _MADE[kind](lambda key: _amount(dataset.get(key, LARGE)))
            yield from _over(f"dataset: what {kind} makes", amount, MADE)
    elif kind in _LISTED:
        graphs = _LISTED[kind].get(str(name))
        if not graphs:
            yield f"dataset.name={name} is in no list of datasets, and may be of any size"
        else:
            yield from _over(f"dataset.name={name}: its graphs", graphs, GRAPHS)


def _run(config: Mapping[str, Any]) -> Iterator[str]:
    trainer = config.get("trainer") or {}
    yield from _over("trainer.max_epochs", trainer.get("max_epochs"), EPOCHS)
    yield from _over("batch_size", config.get("batch_size"), BATCH)
    yield from _over("protocol.copies", (config.get("protocol") or {}).get("copies"), COPIES)
    threads, cores = trainer.get("threads"), usable_cores()
    if isinstance(threads, int):
        yield from _over("trainer.threads for each of trainer.devices", threads * max(processes(trainer), 1), cores)
    model = config.get("model") or {}
    for key in COUNTED:
        value = model.get(key)
        for count in value if key == "depth" and isinstance(value, list | tuple) else [value]:
            yield from _over(f"model.{key}", count, LAYERS)
    for group in ("pool", "model"):
        for key, value in _numbers(group, config.get(group) or {}):
            own = group == "pool" and key.endswith("layers") and ".options." not in key  # PyG's may be widths
            yield from _over(key, value, LAYERS if own else WIDTH)


def parameters(count: int) -> str | None:
    """The same of the parameters of a model."""
    return next(_over("model: its parameters", count, PARAMETERS), None)


def _over(key: str, value: Any, most: int) -> Iterator[str]:
    if isinstance(value, int | float) and not isinstance(value, bool) and not value <= most:
        yield f"{key}={value:,.0f} is above {most:,}, the most that is done for a record"


def _numbers(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The amounts among arguments, by dotted key, and the lengths of lists."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if name != DRAWN:
                yield from _numbers(f"{key}.{name}", inner)
    elif isinstance(value, list | tuple):
        if len(value) > LENGTH:
            yield f"{key}: the length of the list", WIDTH * len(value)
        for inner in value:
            yield from _numbers(key, inner)
    elif isinstance(value, int):
        yield key, value


def _amount(value: Any) -> Any:
    """An argument to multiply with. Text is none, and a list times a whole number would be a longer list: both raise
    TypeError here or there."""
    if isinstance(value, str):
        raise TypeError("a number is expected")
    return float(value) if isinstance(value, int) else value


_Given = Callable[[str], Any]


def _planted(given: _Given) -> float:
    nodes = given("nodes")
    most = max(nodes) if isinstance(nodes, list | tuple) else nodes
    return max(most * most, given("num_graphs") * most * max(given("degree"), given("colours")))


def _planted_nodes(given: _Given) -> float:
    return given("num_nodes") * max(given("degree"), given("communities"), given("colours") or 0)


def _multipartite(given: _Given) -> float:
    around = given("clusters") * (given("largest") + 1) / 2
    return given("clusters") * given("graphs_per_class") * around * around


def _only(given: _Given) -> float:
    return 8 * given("num_graphs") * given("size") * max(given("degree"), 2)


def _csl(given: _Given) -> float:
    skips = given("skips")
    return 4 * given("nodes") * given("copies") * (len(skips) if isinstance(skips, list | tuple) else skips)


def _universe(given: _Given) -> float:
    nodes, degree = (max(range_) if isinstance(range_, list | tuple) else range_
                     for range_ in (given("nodes"), given("degree")))  # fmt: skip
    return given("num_graphs") * nodes * max(nodes, degree, given("width"))  # it looks at all pairs of nodes


_MADE: dict[str, Callable[[_Given], float]] = {
    "PlantedGraphs": _planted,
    "PlantedNodes": _planted_nodes,
    "Multipartite": _multipartite,
    "ContextualSBM": lambda given: given("num_graphs") * given("nodes") * max(given("degree"), 4),
    "OnlyFeatures": _only,
    "OnlyNodes": _only,
    "OnlyClusters": _only,
    "OnlyStructure": _only,
    "GoodMotif": lambda given: 200 * given("num_graphs"),
    "BA2Motif": lambda given: 2 * given("num_graphs") * (given("base_nodes") + 6),
    "CSL": _csl,
    "GraphUniverse": _universe,
    "BREC": lambda given: 230_000 * given("copies"),
    "Grid2d": lambda given: 8 * given("rows") * given("columns"),
    "Ring": lambda given: 2 * given("num_nodes"),
}
"""About how much a generator makes, by its arguments."""
_LISTED: dict[str, Mapping[str, int]] = {
    "TUDataset": {name: graphs for name, (graphs, _) in TU_NAMES.items()},
    "OGBDataset": {name: facts.graphs for name, facts in OGB_NAMES.items()},
    "NodeGraph": {name: facts.nodes for name, facts in NODE_GRAPHS.items()},
}
"""Graphs of each dataset of a collection, nodes where it is one graph."""
