"""The graph-property datasets of the Open Graph Benchmark (Hu et al., 2020, arXiv 2005.00687).

Facts of https://ogb.stanford.edu/docs/graphprop/ and of `master.csv` in the ogb package. Tasks: `binary` are yes/no
questions, of which some may be unanswered; `numbers` a regression; `classes` one class a graph; `words` a sequence of
words.
"""

from __future__ import annotations

from typing import NamedTuple


class OGBFacts(NamedTuple):
    """graphs and tasks: how many. kind: of the labels. metric: the official one. archive: path of the zip on the
    official host. split: name of the official split."""

    graphs: int
    tasks: int
    kind: str
    metric: str
    archive: str
    split: str


def _mol(graphs: int, tasks: int, metric: str, archive: str, kind: str = "binary") -> OGBFacts:
    return OGBFacts(graphs, tasks, kind, metric, f"graphproppred/csv_mol_download/{archive}.zip", "scaffold")


OGB_NAMES = {
    "ogbg-molhiv": _mol(41127, 1, "rocauc", "hiv"),
    "ogbg-molpcba": _mol(437929, 128, "ap", "pcba"),
    "ogbg-ppa": OGBFacts(158100, 1, "classes", "acc", "graphproppred/ogbg_ppi_medium.zip", "species"),
    "ogbg-code2": OGBFacts(452741, 1, "words", "F1", "graphproppred/code2.zip", "project"),
    "ogbg-molbace": _mol(1513, 1, "rocauc", "bace"),
    "ogbg-molbbbp": _mol(2039, 1, "rocauc", "bbbp"),
    "ogbg-molchembl": _mol(456331, 1310, "rocauc", "chembl"),
    "ogbg-molclintox": _mol(1477, 2, "rocauc", "clintox"),
    "ogbg-molmuv": _mol(93087, 17, "ap", "muv"),
    "ogbg-molsider": _mol(1427, 27, "rocauc", "sider"),
    "ogbg-moltox21": _mol(7831, 12, "rocauc", "tox21"),
    "ogbg-moltoxcast": _mol(8576, 617, "rocauc", "toxcast"),
    "ogbg-molesol": _mol(1128, 1, "rmse", "esol", "numbers"),
    "ogbg-molfreesolv": _mol(642, 1, "rmse", "freesolv", "numbers"),
    "ogbg-mollipo": _mol(4200, 1, "rmse", "lipophilicity", "numbers"),
}
