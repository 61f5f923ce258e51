#!/usr/bin/env python3
"""Write docs/operators.md, a row and a section for each operator of conf/pool, and docs/operators/NAME.png.

    python scripts/operators_page.py            # the page and the pictures (some minutes; loads MUTAG)
    python scripts/operators_page.py --check    # exit code 1 where the page is not what would be written

What works with what is tried where the page is written; --check takes the table as it stands, and a slow test tries it.

Nothing is said here about any one operator: facts are computed by building and calling it, or read from its docstrings.
The module's begins with `What: authors, "Title", venue[, arXiv id][; another][; more]`; the class's has a first
paragraph, an indented formula, and a sentence `Cost O(...)`, its own or a base's. A module docstring whose first
paragraph says "control" makes a control.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

import operators_transforms
from operators_pictures import GRAPH, SMOOTHING, STARTS, STEPS, draw, influence, molecule
from poolbench import linalg
from poolbench.nn.model import DataFacts, Part, build_pool, build_readout
from poolbench.pool.base.src import DenseSelection, GlobalPool, Operator, SRCPool

ROOT = Path(__file__).resolve().parents[1]
PAGE, PICTURES, POOLS = ROOT / "docs/operators.md", ROOT / "docs/operators", ROOT / "conf/pool"

FEATURES, CLUSTERS = 64, 6  # of the counted parameters; CLUSTERS of the pictures too
KINDS = ("dense", "sparse", "readout", "control, dense", "control, sparse")

HEAD = f"""# Operators

Every operator of `conf/pool`, as `python scripts/operators_page.py` finds it: a row here, a section below. The page is
generated and tested to be up to date; what it says is computed by calling the operator or read from its docstrings.
[How to add an operator](new_operator.md).

* **kind**: *dense* operators assign every node to k clusters of its graph, softly; *sparse* ones keep nodes, or share
  them out among as many as the data asks for; a *readout* gives one row a graph; a *control* learns nothing.
* **parameters**: with {FEATURES} input features, k = {CLUSTERS} where there are clusters, else as in `conf/pool`.
* **size**: *data* where the number of pooled nodes of a graph depends on the graph, so that a GPU must wait for it.
* **connectivity**: the matrix of the input graph that a model hands to the operator. RAW is A, SYMMETRIC
  D^-1/2 A D^-1/2, Propagation(delta) is I - delta (I - D^-1/2 A D^-1/2).
* **edges**: *kept* where pooled edges are edges of the input, *merged* where each is all edges from one cluster to
  another, *new* elsewhere. Kept and merged ones take `edge_attr` along, and tell the input edges behind each (`edge`).
* **cost**: n nodes, E edges, f features, k clusters (b graphs, where they matter). The modes are those of
  `poolbench.pool.base.door`.
"""
BELOW = f"""
## The pictures

All show one molecule, graph {GRAPH} of MUTAG (counted from 0): 24 atoms, unmarked ones carbon. Its node features are
the atom types and a one-hot number of each node, so that no two nodes look alike, after {SMOOTHING} graph convolutions
without weights. Operators with losses were trained on this one graph, {STEPS} steps on their losses alone, so the
picture shows what these ask for, not what a task would make of them; the lowest of {STARTS} starts is drawn. All others
are as initialised (seed 0).

* Left, soft clusters: the slices of a node are its shares in the clusters, white what is in none.
* Left, kept nodes: ringed; the colour is the score. The others are dropped.
* Right: the pooled graph. The area of a node is its mass (the sum of its column of S), the width of an edge its weight,
  a loop the weight of a cluster with itself (both relative to the largest of their kind). A dot is a cluster that no
  node is in.
* Readouts: how far the result moves when one node is left out, as a share of the sum over nodes.
"""


@dataclass(frozen=True)
class Entry:
    """An operator of conf/pool with its arguments there, k made CLUSTERS."""

    name: str
    cls: type[Operator]
    args: dict[str, Any]

    def make(self, in_channels: int, nodes: float, seed: int = 0) -> Any:
        torch.manual_seed(seed)
        if issubclass(self.cls, GlobalPool):
            return build_readout(Part(self.cls, self.args), in_channels, FEATURES, DataFacts(in_channels, 2, nodes))
        pool: Any = build_pool(Part(self.cls, self.args), 0, in_channels, nodes)
        pool.return_selection = True
        if hasattr(pool, "return_score"):
            pool.return_score = True
        return pool


def registry() -> list[Entry]:
    """All operators, in the order of the files."""
    entries = []
    for path in sorted(POOLS.glob("*.yaml")):
        config = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
        assert isinstance(config, dict)
        module, _, name = config.pop("_target_").rpartition(".")
        args = {str(key): CLUSTERS if key == "k" else value for key, value in config.items()}
        entries.append(Entry(path.stem, getattr(importlib.import_module(module), name), args))
    return entries


# -- facts --------


def paragraphs(documented: Any) -> list[str]:
    """The paragraphs of a docstring as they stand, arguments and what follows left out."""
    return re.split(r"\n\s*\n", re.split(r"^(?:Args|Shapes|Raises):", inspect.getdoc(documented) or "", flags=re.M)[0])


def bases(cls: type) -> Iterator[type]:
    """The class and its bases, as far as they say something about one operator and not about all."""
    return (base for base in cls.__mro__ if issubclass(base, Operator) and base.__module__ != SRCPool.__module__)


def formulas(cls: type) -> list[str]:
    """The first indented paragraph of the class, and of each base."""
    blocks = ([p for p in paragraphs(base) if re.match(r" {4}", p)][:1] for base in bases(cls))
    return [inspect.cleandoc("\n" + block[0]) for block in blocks if block]


def cost(cls: type) -> str:
    """What the sentence `Cost O(...)` says. Raises SystemExit where nobody has one."""
    for base in bases(cls):
        if found := re.search(r"\bCost (O\(.+?)\.(?:\s|$)", inspect.getdoc(base) or "", flags=re.S):
            return " ".join(re.split(r", where\b", found[1])[0].split())
    raise SystemExit(f"{cls.__module__}: the docstring of {cls.__name__} needs a sentence such as `Cost O(n f).`")


def papers(cls: type) -> list[tuple[str, str, str, str]]:
    """Authors, title, venue and arXiv number of each paper that the class's paragraph `Paper: ...` cites, or else the
    module's first paragraph."""
    own = [" ".join(p.split()) for p in paragraphs(cls) if p.startswith("Paper: ")]
    _, _, text = (own or [" ".join(paragraphs(sys.modules[cls.__module__])[0].split())])[0].partition(": ")
    pattern = r'([^;"]+), "([^"]+)", ([^;]*?)(?:, arXiv ([\d.]+\d))?(?: \([^)]*\))?(?:;|\.?$)'
    return [(a.strip(), title, venue, arxiv) for a, title, venue, arxiv in re.findall(pattern, text)]


def linked(arxiv: str) -> str:
    return f", [arXiv {arxiv}](https://arxiv.org/abs/{arxiv})" if arxiv else ""


def short(authors: str) -> str:
    """Three authors at most."""
    return authors if authors.count(",") < 3 else f"{authors.partition(',')[0]} et al."


def facts(entry: Entry) -> dict[str, str]:
    """A row of the table, in the order of its columns."""
    generator = torch.Generator().manual_seed(0)
    x, pattern = torch.randn(8, FEATURES, generator=generator), torch.rand(8, 8, generator=generator) < 0.5
    a = (pattern | pattern.T).float().fill_diagonal_(0.0)
    twice, i = torch.stack([x, x]), torch.tensor([0] * 4 + [1] * 4)
    operator = entry.make(FEATURES, 8.0)
    row = {"operator": f"[{entry.name}](#{entry.name})", "class": f"`{entry.cls.__name__}`"}
    row["paper"] = "; ".join(f"{short(p[0])}, {p[2]}{linked(p[3])}" for p in papers(entry.cls)) or "none"
    control = "control" in paragraphs(sys.modules[entry.cls.__module__])[0].lower()
    losses, size, connectivity, edges = "none", "fixed", "none", "none"
    calls: dict[str, Callable[[], Any]]
    if isinstance(operator, SRCPool):
        disjoint = torch.block_diag(a[:4, :4], a[4:, 4:])
        calls = {"single": lambda: operator(x, a), "disjoint": lambda: operator(x, disjoint, i),
                 "batch": lambda: operator(twice, a.expand(2, 8, 8)), "mixed": lambda: operator(twice, a)}  # fmt: skip
        out = operator(x, a)
        row["kind"] = ("control, " if control else "") + ("dense" if isinstance(out.s, DenseSelection) else "sparse")
        losses, size = ", ".join(out.losses) or "none", "data" if operator.size_depends_on_data else "fixed"
        names = (name for name in linalg.__all__ if getattr(linalg, name) == operator.connectivity)
        connectivity, edges = next(names, str(operator.connectivity)), operator.pooled_edges or "new"
    else:
        calls = {"single": lambda: operator(x), "disjoint": lambda: operator(x, i),
                 "batch": lambda: operator(twice), "mixed": lambda: operator(twice)}  # fmt: skip
        row["kind"] = "readout"
    row["modes"] = ", ".join(mode for mode, call in calls.items() if works(call))
    parameters = sum(p.numel() for p in operator.parameters())
    row["trainable"] = f"yes, {parameters:,}" if parameters else "no"
    return {**row, "losses": losses, "stochastic": "yes" if entry.cls.stochastic else "no", "size": size,
            "connectivity": connectivity, "edges": edges, "cost": cost(entry.cls)}  # fmt: skip


def works(call: Callable[[], Any]) -> bool:
    try:
        call()
    except (TypeError, ValueError, NotImplementedError):
        return False
    return True


# -- the page --------


def page(entries: Sequence[Entry], transforms: str | None = None) -> str:
    """The whole Markdown text. transforms: the table of what works with what, tried where it is not given."""
    rows = {entry.name: facts(entry) for entry in entries}
    ordered = sorted(entries, key=lambda e: (KINDS.index(rows[e.name]["kind"]), e.name))
    if transforms is None:
        transforms = operators_transforms.table(ordered)
    titles = [title.replace("trainable", "trainable, parameters") for title in rows[entries[0].name]]
    lines = [HEAD, "| " + " | ".join(titles) + " |", "| --- " * len(titles) + "|"]
    lines += ["| " + " | ".join(rows[e.name].values()) + " |" for e in ordered]
    return "\n".join([*lines, transforms, BELOW, *(section(e) for e in ordered)])


def committed_transforms() -> str:
    """The table of what works with what, as the page has it; nothing where there is none."""
    text = PAGE.read_text(encoding="utf-8") if PAGE.is_file() else ""
    found = re.search(r"\n## What works with what\n.*?\n(?=\n\n## )", text, flags=re.S)
    return found[0] if found else ""


def section(entry: Entry) -> str:
    cls = entry.cls
    first = " ".join(paragraphs(cls)[0].split())
    home = f"[source](../src/{cls.__module__.replace('.', '/')}.py), [configuration](../conf/pool/{entry.name}.yaml)"
    parts = [f"## {entry.name}", f"**{cls.__name__}** ({home})", textwrap.fill(first, 120)]
    if blocks := formulas(cls):
        parts.append("```text\n" + "\n\n".join(blocks) + "\n```")
    parts += [f'{authors}, "{title}", {venue}{linked(arxiv)}.' for authors, title, venue, arxiv in papers(cls)]
    if has_picture(entry):
        what = "with and without each atom" if issubclass(cls, GlobalPool) else "before and after"
        parts.append(f"![A molecule {what} {cls.__name__}](operators/{entry.name}.png)")
    return "\n\n".join(parts) + "\n"


def has_picture(entry: Entry) -> bool:
    """Readouts have one where some nodes can count more than others: they are trainable, or leave nodes out."""
    operator = entry.make(FEATURES, 8.0)
    if not isinstance(operator, GlobalPool) or any(True for _ in operator.parameters()):
        return True
    return bool((influence(operator, torch.randn(8, FEATURES)) == 0).any())


def main(argv: Sequence[str] | None = None) -> int:
    """Write the page and the pictures, or check the page; returns the exit code."""
    parser = argparse.ArgumentParser(description="Write docs/operators.md and its pictures.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 where the page is stale")
    check = parser.parse_args(argv).check
    torch.set_num_threads(1)
    entries = registry()
    text = page(entries, committed_transforms() if check else None)
    pictured = [entry for entry in entries if has_picture(entry)]
    if check:
        wrong = [f"{e.name}.png is missing" for e in pictured if not (PICTURES / f"{e.name}.png").is_file()]
        if not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != text:
            wrong.append("docs/operators.md is stale")
        for what in wrong:
            print(f"{what}: run python scripts/operators_page.py", file=sys.stderr)
        return 1 if wrong else 0
    PICTURES.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(text, encoding="utf-8")
    for old in PICTURES.glob("*.png"):
        old.unlink()
    nodes, width = molecule().x.shape
    for entry in pictured:
        draw(partial(entry.make, width, float(nodes)), PICTURES / f"{entry.name}.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
