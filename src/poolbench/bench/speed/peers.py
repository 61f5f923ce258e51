"""Who is compared, who has which operator, and where a peer is known to deviate.

Nothing here imports a peer. An operator that is missing from a table is not compared with that peer.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec


@dataclass(frozen=True)
class Match:
    """How a peer's operator corresponds to PoolBench's.

    form: the form of PoolBench's operator (`ours.FORMS`) that does the same work.
    differs: answers (of `Contestant.answers`) that need not agree, for the reason in `note`.
    """

    form: str = ""
    differs: tuple[str, ...] = ()
    note: str = ""


_BATCH_LINK = Match("", ("losses",), "link loss: the norm of the whole batch; losses agree on single graphs")
_ROWS = Match("", ("y",), "tgp sorts the pooled rows by score but numbers the edges by node: the two disagree")
_TIES = "edges of equal score are tried in another order"

_PYG = {
    "none": Match(),
    "topk": Match(),
    "sag": Match(),
    "asap": Match("", ("y",), "PyG drops the pooled weights where the graph has none, so they get no gradient; "
                  "with weights its backward pass fails on torch 2.13"),
    "edgepool": Match("loops", ("y", "pooled"), f"PyG drops the weights of merged edges; {_TIES}"),
    "mincut": Match(),
    "diffpool": _BATCH_LINK,
    "dmon": Match("pyg", ("losses",), "in a batch PyG divides each graph's cluster loss by every graph's size "
                  "(its issue 10148); losses agree on single graphs"),
}  # fmt: skip
_TGP_DENSE = {
    "mincut": Match(),
    "diffpool": _BATCH_LINK,
    "dmon": Match("tgp"),
    "justbalance": Match("normalised"),
    "asymcheegercut": Match(),
}
_TGP = {
    **_TGP_DENSE,
    "none": Match(),
    "topk": _ROWS,
    "sag": _ROWS,
    "asap": Match("induced", _ROWS.differs, f"{_ROWS.note}; it keeps the induced subgraph where the paper has S'AS"),
    "edgepool": Match("", ("y", "pooled"), _TIES),
}
_SPEKTRAL = {
    "none": Match(),
    "mincut": Match(),
    "diffpool": Match("", ("losses",), "entropy: a mean over padding nodes too; losses agree on single graphs"),
    "justbalance": Match(),
}

#: Contestants beside `poolbench`: the package that each needs, and its operators.
PEERS: dict[str, tuple[str, dict[str, Match]]] = {
    "pyg": ("torch_geometric", _PYG),
    "pyg-prepared": ("torch_geometric", _PYG),
    "tgp": ("tgp", _TGP),
    "tgp-unpadded": ("tgp", _TGP_DENSE),
    "spektral": ("spektral", _SPEKTRAL),
}
#: The module and class of each contestant.
CONTESTANTS = {
    "poolbench": "ours.PoolBench",
    "pyg": "pyg.PyG",
    "pyg-prepared": "pyg.PyGPrepared",
    "tgp": "tgp.TGP",
    "tgp-unpadded": "tgp.TGPUnpadded",
    "spektral": "spektral.Spektral",
}


def installed() -> list[str]:
    """The peers that can be imported here."""
    return [peer for peer, (package, _) in PEERS.items() if find_spec(package) is not None]


#: Packages whose version a table names.
PACKAGES = ("torch-geometric", "torch-geometric-pool", "torch-scatter", "spektral", "tensorflow", "tensorflow-cpu")


def peer_versions() -> dict[str, str]:
    """Versions of the packages of the peers that are installed."""
    found = {}
    for package in (
        "torch-geometric",
        "torch-geometric-pool",
        "torch-scatter",
        "spektral",
        "tensorflow",
        "tensorflow-cpu",
    ):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
