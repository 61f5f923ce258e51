#!/usr/bin/env python3
"""Write docs/datasets.md, a row for each dataset of conf/dataset, and docs/datasets/NAME.png where one can be had.

    python scripts/datasets_page.py            # the page and the pictures (minutes; needs POOLBENCH_MIRROR)
    python scripts/datasets_page.py --check    # exit code 1 where page, pictures or facts are not as they should be

What is known of the datasets stands in docs/datasets.yaml: official figures, and for those with `measured: true` what
this code makes of the files. The check measures again what can be had without the network: generated datasets always,
those of the mirror where POOLBENCH_MIRROR is set, but for those marked `slow`.
"""

from __future__ import annotations

import argparse
import os
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf

from datasets_pictures import draw
from datasets_reach import READERS
from poolbench.cli.door import composed
from poolbench.cli.folders import conf_dir
from poolbench.cli.names import choices
from poolbench.config import Part
from poolbench.data import refinement, twins
from poolbench.data.dataset import GraphDataset
from poolbench.data.raw import RawGraphs
from poolbench.data.sources.nodegraph_names import NODE_GRAPHS
from poolbench.data.sources.ogb_names import OGB_NAMES
from poolbench.data.sources.tu_names import TU_NAMES
from poolbench.learn.build import build_dataset

ROOT = Path(__file__).resolve().parents[1]
PAGE, PICTURES, FACTS = ROOT / "docs/datasets.md", ROOT / "docs/datasets", ROOT / "docs/datasets.yaml"

COLUMNS = ("graphs", "to predict", "mean nodes", "largest", "mean edges", "features", "twins", "ceiling", "1-WL", "set",
           "structure", "WL kernel", "path kernel")  # fmt: skip

HEAD = """# Datasets

Every dataset that `dataset=NAME` knows. The page is written by `python scripts/datasets_page.py` and tested to be up to
date; its figures are those of [datasets.yaml](datasets.yaml), which a test compares with what this code reads. A dash
is what nobody has measured here: the files were not at hand, and the official tables do not say.

* **to predict**: of a graph, classes or how many numbers or yes/no questions; of a node, where the set is one graph.
* **largest**: nodes of the largest graph. **mean edges**: undirected edges, each counted once, without self-loops.
* **features**: columns of x with the default features: node labels one-hot and node attributes, else the degree.
* **twins**: how many graphs fewer there are when of isomorphic ones with the same node labels one is kept, as
  `dataset.deduplicate=true` does (TU sets).
* **ceiling**: the best accuracy that a model can have which sees structure and node labels, but not the order of nodes:
  where twins differ in class, one of them is answered wrongly. In brackets with node attributes, where there are any.
* **1-WL**: the same for a model that tells apart what 1-WL (with node labels, without attributes) tells apart. 100 %
  says that no two graphs of different classes are one to it, which random graphs are not, whatever they ask.
* **set, structure, WL kernel, path kernel**: what four readers learn, the mean test accuracy over three seeds, as
  `python scripts/datasets_reach.py NAME` finds it: an MLP on each node and a sum, which sees no edges; GIN without
  pooling that sees edges and no features; support vector machines on the kernels of 1-WL and of shortest paths, which
  see edges and node labels, and take no attributes.

Checksums are those of the archives that were read here. An archive that was packed anew has another one than that of
the official host; what counts is the fingerprint of the content, which `poolbench prepare dataset=NAME` prints.
"""


@dataclass(frozen=True)
class Facts:
    """A dataset's entry in docs/datasets.yaml; None for what is not known.

    classes: how many, or None where something else is predicted, which `predict` says. checksum: SHA-256 of the archive
    on the mirror. wl: the best accuracy by what 1-WL tells apart. reach: of each reader of scripts/datasets_reach.py.
    measured: the figures are those of this code. slow: measuring takes long. generated: needs no files.
    """

    graphs: int
    classes: int | None = None
    predict: str | None = None
    nodes: float | None = None
    edges: float | None = None
    largest: int | None = None
    features: int | None = None
    distinct: int | None = None
    ceiling: float | None = None
    ceiling_with_attributes: float | None = None
    wl: float | None = None
    reach: dict[str, float | None] | None = None
    checksum: str | None = None
    note: str | None = None
    measured: bool = False
    slow: bool = False
    generated: bool = False


@cache
def sections() -> dict[str, dict[str, Any]]:
    """The collections of docs/datasets.yaml in their order: title, text, licence, source, and their datasets."""
    return OmegaConf.to_container(OmegaConf.load(FACTS))["sections"]  # type: ignore


@cache
def known() -> dict[str, Facts]:
    """All facts by name: those of the files of names, and those of docs/datasets.yaml over them."""
    held: dict[str, dict[str, Any]] = {name: {"graphs": g, "classes": c or None} for name, (g, c) in TU_NAMES.items()}
    held |= {n: {"graphs": 1, "classes": f.classes, "nodes": f.nodes, "edges": f.edges // 2, "largest": f.nodes,
                 "features": f.features} for n, f in NODE_GRAPHS.items()}  # fmt: skip
    kinds = {"binary": "{} yes/no", "numbers": "{} number", "classes": None, "words": "words"}
    for name, facts in OGB_NAMES.items():
        kind = kinds[facts.kind]
        held[name] = {"graphs": facts.graphs, "predict": kind and kind.format(facts.tasks)}
    for section in sections().values():
        for name, facts in section["datasets"].items():
            if isinstance(facts, list):  # short for what the official table says of a TU dataset
                facts = dict(zip(("nodes", "edges"), facts, strict=True))
            held[name] = {**held.get(name, {}), **facts}
    return {name: Facts(**facts) for name, facts in held.items()}


def registered() -> set[str]:
    """The names that `dataset=` takes, less the files that ask for a name."""
    files = {path.stem: OmegaConf.load(path) for path in (conf_dir() / "dataset").glob("*.yaml")}
    held = {stem: OmegaConf.to_container(config) for stem, config in files.items()}
    return set(choices("dataset")) - {stem for stem, keys in held.items() if "???" in keys.values()}


# -- measuring --------


def dataset(name: str) -> GraphDataset:
    config = composed([f"dataset={name}"])
    chosen = Part.of("dataset", OmegaConf.to_container(config.dataset, resolve=True))
    return build_dataset(chosen, config.paths.data, config.paths.mirror)


def at_hand(facts: Facts) -> bool:
    """Whether the dataset can be had without asking an official host."""
    return facts.generated or (facts.measured and bool(os.environ.get("POOLBENCH_MIRROR")))


def measure(name: str, raw: RawGraphs, source: GraphDataset) -> dict[str, Any]:
    """What the fields of `Facts` are for this dataset."""
    facts, stats = known()[name], raw.stats()
    labels = raw.node_y if raw.num_graphs == 1 else raw.y
    measured: dict[str, Any] = {
        "graphs": raw.num_graphs,
        "classes": None if labels is None else int(labels.max()) + 1,
        "nodes": round(stats["mean_nodes"], 2),
        "edges": round(stats["mean_edges"], 2),
        "largest": stats["max_nodes"],
        "features": len(source.node_features(raw).names),
    }
    if facts.distinct is not None:
        found = twins.find(raw)
        measured |= {"distinct": found.distinct, "ceiling": _rounded(found.ceiling)}
    if facts.ceiling_with_attributes is not None:
        measured["ceiling_with_attributes"] = _rounded(twins.find(raw, attributes=True).ceiling)
    if facts.wl is not None:
        measured["wl"] = _rounded(_of_wl(raw).ceiling)
    return measured


def _of_wl(raw: RawGraphs) -> twins.Twins:
    """As if the graphs that 1-WL does not tell apart were one."""
    codes = refinement.classes(raw)
    _, first, of = np.unique(codes, return_index=True, return_inverse=True)
    return twins.Twins(torch.from_numpy(first[of]), raw.y)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def differences(name: str, raw: RawGraphs, source: GraphDataset) -> list[str]:
    """How the facts of a dataset differ from what this code reads."""
    facts = known()[name]
    found = measure(name, raw, source)
    return [f"{name}: {key} is {value}, docs/datasets.yaml says {getattr(facts, key)}"
            for key, value in found.items() if value != getattr(facts, key)]  # fmt: skip


# -- the page --------


def page() -> str:
    """The whole Markdown text."""
    return "\n".join([HEAD, *(line for section in sections().values() for line in _section(section))]) + "\n"


def _section(section: Mapping[str, Any]) -> Iterator[str]:
    facts = {name: known()[name] for name in _names(section)}
    shown = [column for k, column in enumerate(COLUMNS) if any(_cells(f)[k] != "-" for f in facts.values())]
    yield f"## {section['title']}\n"
    for text in (section["text"], f"Source: {section['source']}.", f"Licence: {section['licence']}."):
        yield textwrap.fill(text, 120, break_on_hyphens=False, break_long_words=False) + "\n"
    yield "| dataset | " + " | ".join(shown) + " |"
    yield "| --- " * (len(shown) + 1) + "|"
    for name, one in facts.items():
        cells = dict(zip(COLUMNS, _cells(one), strict=True))
        yield f"| {name} | " + " | ".join(cells[column] for column in shown) + " |"
    yield ""
    for name, one in facts.items():
        if one.note or one.checksum:
            checksum = f" SHA-256 of the archive: `{one.checksum}`." if one.checksum else ""
            yield f"* **{name}**: {(one.note or '').strip()}{checksum}".replace(":  ", ": ")
    pictured = [name for name, one in facts.items() if one.measured]
    for first in range(0, len(pictured), 4):
        row = pictured[first : first + 4]
        yield "\n| " + " | ".join(row) + " |"
        yield "| " + " | ".join(":-:" for _ in row) + " |"
        yield "| " + " | ".join(f"![A graph of {name}](datasets/{name}.png)" for name in row) + " |"
    yield ""


def _names(section: Mapping[str, Any]) -> list[str]:
    return sorted(section["datasets"], key=str.lower)


def _cells(facts: Facts) -> tuple[str, ...]:
    predict = facts.predict or (f"{facts.classes} classes" if facts.classes else "numbers")
    fewer = None if facts.distinct is None else facts.graphs - facts.distinct
    ceiling = _percent(facts.ceiling, 2)
    if facts.ceiling_with_attributes is not None:
        ceiling += f" ({_percent(facts.ceiling_with_attributes, 2)})"
    nodes, edges = (_mean(value, facts.graphs) for value in (facts.nodes, facts.edges))
    readers = (_percent(facts.wl, 2), *(_percent((facts.reach or {}).get(reader), 1) for reader in READERS))
    return (_whole(facts.graphs), predict, nodes, _whole(facts.largest), edges, _whole(facts.features), _whole(fewer),
            ceiling, *readers)  # fmt: skip


def _percent(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{100 * value:.{digits}f} %"


def _whole(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _mean(value: float | None, graphs: int) -> str:
    return "-" if value is None else f"{value:,.2f}" if graphs > 1 else f"{value:,.0f}"


def check() -> list[str]:
    """What is wrong with the page, the pictures and the facts."""
    listed = [name for section in sections().values() for name in section["datasets"]]
    wrong = [f"{name} is missing in docs/datasets.yaml" for name in sorted(registered() - set(listed))]
    wrong += [f"docs/datasets.yaml names {name}, which is no dataset" for name in sorted(set(listed) - registered())]
    wrong += [f"docs/datasets/{name}.png is missing" for name in listed
              if known()[name].measured and not (PICTURES / f"{name}.png").is_file()]  # fmt: skip
    if not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != page():
        wrong.append("docs/datasets.md is stale")
    for name in listed:
        if at_hand(known()[name]) and not known()[name].slow:
            source = dataset(name)
            wrong += differences(name, source.load(), source)
    return wrong


def main(argv: Sequence[str] | None = None) -> int:
    """Write the page and the pictures, or check the page; returns the exit code."""
    parser = argparse.ArgumentParser(description="Write docs/datasets.md and its pictures.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 where something is stale")
    parser.add_argument("--only", metavar="NAME", nargs="*", help="draw the pictures of these datasets alone")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    if options.check:
        wrong = check()
        for what in wrong:
            print(f"{what}: mend it, or run python scripts/datasets_page.py", file=sys.stderr)
        return 1 if wrong else 0
    PAGE.write_text(page(), encoding="utf-8")
    PICTURES.mkdir(parents=True, exist_ok=True)
    wrong = []
    for name, facts in known().items():
        if facts.measured and at_hand(facts) and (options.only is None or name in options.only):
            source = dataset(name)
            raw = source.load()
            wrong += differences(name, raw, source)
            draw(raw, PICTURES / f"{name}.png")
    print("\n".join(wrong), file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
