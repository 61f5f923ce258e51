"""What changed in configurations since the first records: keys that came, classes that moved.

A record holds the configuration as it was written. Two tables say what has changed since, so that a run from before is
the same run today: `canonical` is what is hashed and grouped by, and never changes for a run; `upgrade` is what is run
again. Nothing else in the package knows old names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any


@dataclass(frozen=True)
class Added:
    """A key that configurations did not have before.

    key: dotted, such as model.skip. neutral: the value with which a run is what it was without the key. since: the
    version of PoolBench that brought it. targets: the classes that have it, by today's names; empty: all of the group.
    """

    key: str
    neutral: Any
    since: str
    targets: tuple[str, ...] = ()


_SOFT = tuple(
    f"poolbench.pool.{name}" for name in ("mincut.MinCutPool", "justbalance.JustBalancePool", "dmon.DMoNPool",
                                          "asymcheegercut.AsymCheegerCutPool", "diffpool.DiffPool")
)  # fmt: skip
_HIERARCHICAL, _GLOBAL, _CLUSTERER, _AUTOENCODER, _UNET = (
    f"poolbench.nn.{name}" for name in ("hierarchical.Hierarchical", "flat.Global", "clusterer.Clusterer",
                                        "autoencoder.Autoencoder", "unet.UNet")
)  # fmt: skip
_GMT = ("poolbench.pool.readouts.aggregations.GraphMultisetTransformerPool",)
_MLP = (*(name for name in _SOFT if "diffpool" not in name), "poolbench.pool.hosc.HOSCPool")
_GATED = ("poolbench.pool.topk.TopKPool", "poolbench.pool.sag.SAGPool")


def _protocols(*names: str) -> tuple[str, ...]:
    return tuple(f"poolbench.data.protocols.{name}" for name in names)


ADDED: tuple[Added, ...] = (
    Added("pool.remove_self_loops", None, "0.1.0", _SOFT),
    Added("pool.degree_norm", None, "0.1.0", _SOFT),
    Added("pool.min_score", None, "0.1.0", _GATED),
    Added("pool.multiplier", 1.0, "0.1.0", _GATED),
    Added("pool.nonlinearity", "tanh", "0.1.0", _GATED),
    Added("protocol.select", "loss", "0.1.0", _protocols("Holdout", "CrossValidation", "Nested", "Nodes")),
    Added("protocol.fold_seeds", "shared", "0.1.0", _protocols("CrossValidation", "LegacyCrossValidation", "Nested")),
    Added("protocol.folds", 10, "0.1.0", _protocols("CrossValidation", "LegacyCrossValidation")),
    Added("protocol.val", "next", "0.1.0", _protocols("CrossValidation")),
    Added("protocol.stratified", True, "0.1.0", _protocols("Holdout", "CrossValidation")),
    Added("loss_ramp", 0, "0.1.0"),
    Added("callbacks.tolerance", 0.0, "0.1.0"),
    Added("callbacks.ties", "first", "0.1.0"),
    Added("k_from", "mean", "0.1.0"),
    Added("pool.mlp_dropout", 0.0, "0.1.0", _MLP),
    Added("model.norm_at", "before", "0.1.0", (_HIERARCHICAL, _GLOBAL)),
    Added("model.residual", "none", "0.1.0", (_HIERARCHICAL, _GLOBAL, _AUTOENCODER)),
    Added("model.combine", "none", "0.1.0", (_HIERARCHICAL,)),
    Added("model.jumping_over", "levels", "0.1.0", (_HIERARCHICAL,)),
    Added("model.node_layers", 0, "0.1.0", (_HIERARCHICAL, _GLOBAL, _AUTOENCODER)),
    Added("model.head_layers", 0, "0.1.0", (_AUTOENCODER,)),
    Added("model.head_dropout", None, "0.1.0", (_HIERARCHICAL, _GLOBAL, _UNET)),
    Added("model.initializer", None, "0.1.0", (_HIERARCHICAL, _GLOBAL, _CLUSTERER, _AUTOENCODER, _UNET)),
    Added("feature_scale", None, "0.1.0"),
    Added("protocol.folds_file", None, "0.1.0", _protocols("CrossValidation", "LegacyCrossValidation")),
    Added("pool.squared", False, "0.1.0", ("poolbench.pool.topk.TopKPool",)),
    Added("pool.gnn", None, "0.1.0", ("poolbench.pool.diffpool.DiffPool",)),
    Added("pool.keys", "linear", "0.1.0", _GMT),
    Added("model.readout.keys", "linear", "0.1.0", _GMT),
    Added("model.linear_last", False, "0.1.0", (_HIERARCHICAL,)),
    Added("callbacks.keep_weights", False, "0.1.0"),
)
"""Keys that came, oldest first. A key is never taken out of this table again."""

MOVED: dict[str, str] = {
    f"poolbench.{old}.{name}": f"poolbench.{new}.{name}"
    for old, new, names in (
        ("data", "data.sources", "archived bench_dataset code2 fetch files folds lrgb molecules nodegraph_names "
         "nodegraphs official ogb ogb_names tu tu_names unpickle zinc"),
        ("data", "data.generators", "multipartite plantednodes pointclouds stream synthetic"),
        ("pool", "pool.base", "codingtree door draws hostdense hostgraph layers matching mlppool pairscore partition "
         "partitionpool postprocess precomputed selection spectral src"),
        ("pool", "pool.readouts", "aggregations globalattention globalattnsum globalpool sortpool"),
        ("pool", "pool.peers", "peer pyg tgp"),
    )
    for name in names.split()
}  # fmt: skip
"""Modules and classes that moved: where they were, where they are. Chains are followed. A line is never taken out."""


def upgrade(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration as it is written today: classes where they are now, keys that came later at their neutral value.

    Args:
        config: as some version of PoolBench resolved it. Values are not looked at.
    """
    made = _renamed(dict(config), today)
    for added in ADDED:
        group, name = _group(made, added)
        if group is not None and name not in group:
            group[name] = added.neutral
    return made


def canonical(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration as its run was first written: classes under their first names, keys at their neutral value left
    out. It is the same for a run whatever came to PoolBench since."""
    made = _renamed(dict(config), first)
    for added in ADDED:
        group, name = _group(made, added)
        if group is not None and name in group and _same(group[name], added.neutral):
            del group[name]
    return made


@cache
def today(target: str) -> str:
    """Where the class or module `target` is now."""
    return _followed(target, MOVED)


@cache
def first(target: str) -> str:
    """Where the class or module `target` was at first."""
    return _followed(today(target), {new: old for old, new in MOVED.items()})


def _followed(target: str, table: Mapping[str, str]) -> str:
    for _ in table:
        moved = _moved(target, table)
        if moved == target:
            break
        target = moved
    return target


def _moved(target: str, table: Mapping[str, str]) -> str:
    """The name with the longest of its beginnings that is in the table replaced."""
    parts = target.split(".")
    for end in range(min(len(parts), max(name.count(".") for name in table) + 1), 0, -1):
        if (found := table.get(".".join(parts[:end]))) is not None:
            return ".".join((found, *parts[end:]))
    return target


def _renamed(node: Any, name: Callable[[str], str]) -> Any:
    """A copy with every `_target_` renamed."""
    if isinstance(node, dict):
        made = {key: _renamed(value, name) if isinstance(value, _NESTED) else value for key, value in node.items()}
        if isinstance(target := made.get("_target_"), str):
            made["_target_"] = name(target)
        return made
    return [_renamed(value, name) for value in node] if isinstance(node, list | tuple) else node


_NESTED = (dict, list, tuple)


def _group(config: dict[str, Any], added: Added) -> tuple[dict[str, Any] | None, str]:
    """The mapping that an added key belongs into, None where this configuration has none; and its last name."""
    *path, name = added.key.split(".")
    node: Any = config
    for step in path:
        node = node.get(step) if isinstance(node, dict) else None
    if not isinstance(node, dict) or (added.targets and today(str(node.get("_target_"))) not in added.targets):
        return None, name
    return node, name


def _same(a: Any, b: Any) -> bool:
    return a == b and isinstance(a, bool) == isinstance(b, bool)
