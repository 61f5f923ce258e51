"""The names that `GROUP=NAME` takes, and what each of them is: files, named datasets, operators of other packages."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from poolbench.cli import own
from poolbench.cli.folders import conf_dir, files, files_of, further, groups
from poolbench.data.sources.nodegraph_names import NODE_GRAPHS
from poolbench.data.sources.ogb_names import OGB_NAMES
from poolbench.data.sources.tu_names import TU_NAMES
from poolbench.errors import PoolBenchError
from poolbench.plugins import Plugin, first_sentence, plugins

#: Other names that the operators go by.
ALIASES = {
    "acc": "asymcheegercut",
    "avg": "globalavg",
    "diff": "diffpool",
    "identity": "none",
    "jb": "justbalance",
    "lap": "lapool",
    "max": "globalmax",
    "mean": "globalavg",
    "min": "globalmin",
    "mul": "globalmul",
    "nopool": "none",
    "random": "random-sparse",
    "sagpool": "sag",
    "std": "globalstd",
    "sum": "globalsum",
    "top-k": "topk",
    "var": "globalvar",
}
#: Datasets that are known by name, and the file of the group that makes them.
NAMED = dict.fromkeys(TU_NAMES, "tu") | dict.fromkeys(NODE_GRAPHS, "nodegraph") | dict.fromkeys(OGB_NAMES, "ogb")
#: Where in the group pool the operators of other libraries lie; `pool=NAME` knows them by their bare names.
PEERS = "peers/"


def choices(group: str) -> list[str]:
    """The names of a configuration group."""
    names = set(pools() if group == "pool" else files(group))
    if group == "dataset":
        names |= set(named_datasets())
        names |= {name for name in own.lying() if name.lower() not in {known.lower() for known in names}}
    if group == "pool":
        names |= {plugin.name for plugin in offered() if not plugin.problem}
    return sorted(names, key=str.lower)


def pools() -> dict[str, str]:
    """The operators that have a file, and its name in the group."""
    return {name.removeprefix(PEERS): name for name in files("pool")}


def named_datasets() -> dict[str, str]:
    """Every dataset without a file of its own, and the file that it goes by."""
    with_file = files("dataset")
    return {name: file for name, file in NAMED.items() if name not in with_file}


def offered() -> list[Plugin]:
    """The operators that other packages offer, those that cannot be used too."""
    return plugins({*pools(), *ALIASES})


def about(group: str, name: str) -> str:
    """What a choice is, in one sentence."""
    path = files(group).get(pools().get(name, name) if group == "pool" else name)
    if path is not None:
        return first_sentence(path)
    if group == "pool":
        (plugin,) = (plugin for plugin in offered() if plugin.name == name and not plugin.problem)
        return f"{plugin.package}: {plugin.about()}"
    if name not in NAMED:
        return f"Of your own: {' and '.join(map(str, own.lying()[name].values()))}"
    if name in NODE_GRAPHS:
        graph = NODE_GRAPHS[name]
        return f"{graph.collection}: one graph of {graph.nodes} nodes, {graph.classes} classes of nodes"
    if name in OGB_NAMES:
        of = OGB_NAMES[name]
        return f"OGB: {of.graphs} graphs, {of.tasks} task{'s'[: of.tasks > 1]} ({of.kind}), {of.metric}"
    graphs, classes = TU_NAMES[name]
    return f"TU: {graphs or '?'} graphs, {classes or 'real-valued'} {'classes' if classes else 'targets'}"


def some(known: Sequence[str]) -> str:
    """What to say where nothing is near: the choices, where they are few."""
    if not known:
        return ""
    return f"; there are {', '.join(known)}" if len(known) < 40 else "; poolbench list prints the choices"


def canonical(word: str) -> str:
    """`pool=top-k` as `pool=topk` and `dataset=proteins` as `dataset=PROTEINS`; any other word as it is."""
    group, equals, value = word.partition("=")
    if not equals or group not in groups():
        return word
    known = choices(group)
    return f"{group}=" + ",".join(_name(name, known, ALIASES if group == "pool" else {}) for name in value.split(","))


def _name(name: str, known: Collection[str], aliases: dict[str, str]) -> str:
    if name in known:
        return name
    alike = [other for other in known if other.lower() == name.lower()]
    return aliases.get(name.lower(), alike[0] if len(alike) == 1 else name)


def refuse_taken() -> None:
    """Raise `PoolBenchError` for a file in a folder of one's own that has a name of PoolBench's."""
    named = {"pool": {*ALIASES, *(name.removeprefix(PEERS) for name in files_of(conf_dir(), "pool"))}, "dataset": NAMED}
    for folder in further():
        for group in groups(conf_dir()):
            taken = {*files_of(conf_dir(), group), *named.get(group, ())}
            for name, path in files_of(folder, group).items():
                if name in taken:
                    raise PoolBenchError(f"{path}: PoolBench has a {group} of this name: give the file another one")
