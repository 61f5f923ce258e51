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

    form: the form of PoolBench's operator (`forms.FORMS`) that does the same work.
    differs: answers (of `Contestant.answers`) that need not agree, for the reason in `note`.
    note: what a reader of the times must know.
    given: while answers are compared, the peer gets PoolBench's selection in place of its own.
    """

    form: str = ""
    differs: tuple[str, ...] = ()
    note: str = ""
    given: bool = False


def _given(form: str, why: str) -> Match:
    return Match(form, (), f"{why}; answers are compared with PoolBench's selection in both", given=True)


_BATCH_LINK = Match("", ("losses",), "link loss: the norm of the whole batch; losses agree on single graphs")
_ROWS = Match("", ("y",), "tgp sorts the pooled rows by score but numbers the edges by node: the two disagree")
_TIES = "edges of equal score are tried in another order"
_DRAWS = (
    "sticks and pairs are drawn: answers are compared with the means of the sticks, and with the same pairs, in both"
)

#: Why the selections of two libraries are not the same, for what is computed from the graph alone.
_CHANCE = {
    "graclus": "tgp visits nodes in random order",
    "ndp": "tgp's start vector is random, and so is its split where the cut is small",
    "sep": "ties, the rule without weights, are settled in another order",
    "nmf": "the start of the factorisation is random",
    "eigenpool": "k-means is random, and tgp multiplies the features of a cluster of one node by 0",
}

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
    "lapool": Match("softmax", ("y", "pooled"), "of neighbours that vary equally PoolBench has both lead, in tgp "
                    "rounding decides"),
    "mincut": Match(),
    "diffpool": _BATCH_LINK,
    "dmon": Match("tgp"),
    "justbalance": Match("normalised"),
    "asymcheegercut": Match(),
    "hosc": Match(),
    "bnpool": Match("", (), _DRAWS),
}  # fmt: skip
_TGP_UNPADDED = {**_TGP_DENSE, "bnpool": Match("sampled", (), _DRAWS)}
_TGP = {
    **_TGP_DENSE,
    "none": Match(),
    "topk": _ROWS,
    "sag": _ROWS,
    "asap": Match("induced", _ROWS.differs, f"{_ROWS.note}; it keeps the induced subgraph where the paper has S'AS"),
    "edgepool": Match("", ("y", "pooled"), _TIES),
    "kmis": Match(),
    "maxcut": Match("ties by node", ("y",), "tgp sends nodes out of reach of the kept ones to random clusters"),
    **{pool: _given("on the fly", why) for pool, why in _CHANCE.items()},
}
_TGP_PREPARED = {pool: _given("", why) for pool, why in _CHANCE.items()}
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
    "tgp-unpadded": ("tgp", _TGP_UNPADDED),
    "tgp-prepared": ("tgp", _TGP_PREPARED),
    "spektral": ("spektral", _SPEKTRAL),
}
#: The module and class of each contestant.
CONTESTANTS = {
    "poolbench": "ours.PoolBench",
    "pyg": "pyg.PyG",
    "pyg-prepared": "pyg.PyGPrepared",
    "tgp": "tgp.TGP",
    "tgp-unpadded": "tgp.TGPUnpadded",
    "tgp-prepared": "tgp.TGPPrepared",
    "spektral": "spektral.Spektral",
}


def installed() -> list[str]:
    """The peers that can be imported here."""
    return [peer for peer, (package, _) in PEERS.items() if find_spec(package) is not None]


#: Packages whose version a table names.
PACKAGES = ("torch-geometric", "torch-geometric-pool", "torch-scatter", "torch-cluster", "torch-sparse", "spektral",
            "tensorflow", "tensorflow-cpu")  # fmt: skip


def peer_versions() -> dict[str, str]:
    """Versions of the packages of the peers that are installed."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
