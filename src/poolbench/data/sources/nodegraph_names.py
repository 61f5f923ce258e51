"""The graphs whose nodes have classes: what each is and where its files lie.

Counts are those of the tables of PyTorch Geometric's documentation (`Planetoid`, `CitationFull`, `Amazon`,
`Coauthor`); edges are counted in both directions.
"""

from __future__ import annotations

from typing import NamedTuple

PLANETOID = "https://github.com/kimiyoung/planetoid/raw/master/data"
GRAPH2GAUSS = "https://github.com/abojchevski/graph2gauss/raw/master/data"
SHCHUR = "https://github.com/shchur/gnn-benchmark/raw/master/data/npz"


class NodeGraphFacts(NamedTuple):
    """One graph. `folder` is that of its files in the cache; `file` a name, or for Planetoid the stem of eight."""

    collection: str
    folder: str
    file: str
    host: str
    nodes: int
    edges: int
    features: int
    classes: int


def _planetoid(name: str, nodes: int, edges: int, features: int, classes: int) -> NodeGraphFacts:
    place = ("Planetoid", f"Planetoid/{name}", f"ind.{name.lower()}", PLANETOID)
    return NodeGraphFacts(*place, nodes, edges, features, classes)


def _citation(name: str, nodes: int, edges: int, features: int, classes: int) -> NodeGraphFacts:
    place = ("CitationFull", f"CitationFull/{name}", f"{name}.npz", GRAPH2GAUSS)
    return NodeGraphFacts(*place, nodes, edges, features, classes)


def _shchur(folder: str, file: str, nodes: int, edges: int, features: int, classes: int) -> NodeGraphFacts:
    place = (folder.partition("/")[0], folder, f"{file}.npz", SHCHUR)
    return NodeGraphFacts(*place, nodes, edges, features, classes)


NODE_GRAPHS: dict[str, NodeGraphFacts] = {
    "Cora": _planetoid("Cora", 2708, 10556, 1433, 7),
    "CiteSeer": _planetoid("CiteSeer", 3327, 9104, 3703, 6),
    "PubMed": _planetoid("PubMed", 19717, 88648, 500, 3),
    "CitationFull-Cora": _citation("cora", 19793, 126842, 8710, 70),
    "CitationFull-Cora_ML": _citation("cora_ml", 2995, 16316, 2879, 7),
    "CitationFull-CiteSeer": _citation("citeseer", 4230, 10674, 602, 6),
    "CitationFull-PubMed": _citation("pubmed", 19717, 88648, 500, 3),
    "DBLP": _citation("dblp", 17716, 105734, 1639, 4),
    "Amazon-Computers": _shchur("Amazon/Computers", "amazon_electronics_computers", 13752, 491722, 767, 10),
    "Amazon-Photo": _shchur("Amazon/Photo", "amazon_electronics_photo", 7650, 238162, 745, 8),
    "Coauthor-CS": _shchur("Coauthor/CS", "ms_academic_cs", 18333, 163788, 6805, 15),
    "Coauthor-Physics": _shchur("Coauthor/Physics", "ms_academic_phy", 34493, 495924, 8415, 5),
}
