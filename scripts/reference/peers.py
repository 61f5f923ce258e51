"""Cases of folders in the format of tgp, PyG and authors' own code, run by poolbench and compared.

To check an operator, write one function from a case to the arrays that the folder holds for it and enter it in
`MAPPINGS`. It raises `Outside` with the reason for arguments that poolbench's operator does not have.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from reference.cases import BadCase, read_arrays
from reference.compare import Arrays, Result, Tolerance, difference
from reference.contracted import magedge, parspool
from reference.convscores import cgipool, copool, gsapool
from reference.crf import structpool
from reference.infomax import vipool
from reference.keeping import asap, nopool, pan, sag, topk
from reference.learned import cluster, hgpsl, mem, mvpool
from reference.merged import edgepool, eigen, graclus, kmis, maxcut, ndp, nmf, precoarsening, sep
from reference.passing import gtv
from reference.peercase import Outside, PeerCase
from reference.soft import (
    bnpool,
    cheeger,
    diff,
    dmon,
    hosc,
    justbalance,
    lap,
    losses,
    mincut,
    pyg_diff,
    pyg_dmon,
    pyg_mincut,
)


def check(library: str, folder: Path, entry: dict[str, Any], default: Tolerance) -> Result:
    """Run one case. A case that cannot be read is a failure; one of an operator to come is outside."""
    result = Result(str(entry.get("name", entry)))
    try:
        own = entry.get("tolerance")
        tolerance = Tolerance(own["rtol"], own["atol"]) if own else default
        case = PeerCase(library, entry, read_arrays(folder, entry), tolerance)
        mapping = MAPPINGS.get((library, case.operator))
        if mapping is None:
            if case.operator not in NOT_OFFERED[library]:
                raise BadCase(f"operator {case.operator!r} is not known")
            raise Outside("an operator that PoolBench does not have")
        ours = mapping(case)
    except Outside as reason:
        result.outside = str(reason)
        return result
    except Exception as error:  # one case's failure must not end the run
        result.fail("case", f"{type(error).__name__}: {error}")
        return result
    expected = _sorted_edges(case.expected)
    ours = _sorted_edges(ours)
    for name, value in expected.items():
        why = difference(ours.get(name), value, tolerance)
        if why is not None:
            result.fail(name, why)
    for name in ours.keys() - expected.keys():
        result.fail(name, "poolbench answers it, the case does not list it")
    return result


def _sorted_edges(arrays: Arrays) -> Arrays:
    """Edges in the order of their ends: the order of a list of edges means nothing."""
    out = {n: value for n, value in arrays.items() if not n.endswith("/edge_weight")}
    for name in list(out):
        folder, _, last = name.rpartition("/")
        if not last.startswith("edge_index"):
            continue
        order = np.lexsort(arrays[name][::-1])
        out[name] = arrays[name][:, order]
        if f"{folder}/edge_weight" in arrays:
            out[f"{name}, weights"] = arrays[f"{folder}/edge_weight"][order]
    return out


#: Operators of these folders that PoolBench does not have.
NOT_OFFERED: dict[str, set[str]] = {
    "tgp": set(),
    "pyg": set(),
    "authors": {"hyperdrop"},
}  # fmt: skip


MAPPINGS: dict[tuple[str, str], Callable[[PeerCase], Arrays]] = {
    ("tgp", "topk"): topk,
    ("pyg", "topk"): topk,
    ("tgp", "sag"): sag,
    ("pyg", "sag"): sag,
    ("tgp", "nopool"): nopool,
    ("tgp", "asap"): asap,
    ("pyg", "asap"): asap,
    ("tgp", "pan"): pan,
    ("pyg", "pan"): pan,
    ("tgp", "ec"): edgepool,
    ("tgp", "graclus"): graclus,
    ("tgp", "kmis"): kmis,
    ("tgp", "maxcut"): maxcut,
    ("tgp", "ndp"): ndp,
    ("tgp", "nmf"): nmf,
    ("tgp", "eigen"): eigen,
    ("tgp", "sep"): sep,
    ("tgp", "precoarsening"): precoarsening,
    ("pyg", "edge"): edgepool,
    ("pyg", "cluster"): cluster,
    ("pyg", "mem"): mem,
    ("authors", "cluster"): cluster,
    ("authors", "mem"): mem,
    ("authors", "hgpsl"): hgpsl,
    ("authors", "mvpool"): mvpool,
    ("tgp", "mincut"): mincut,
    ("tgp", "mincut_u"): mincut,
    ("pyg", "mincut"): pyg_mincut,
    ("tgp", "jb"): justbalance,
    ("tgp", "jb_u"): justbalance,
    ("tgp", "acc"): cheeger,
    ("tgp", "acc_u"): cheeger,
    ("tgp", "bnpool"): bnpool,
    ("tgp", "bnpool_u"): bnpool,
    ("tgp", "hosc"): hosc,
    ("tgp", "hosc_u"): hosc,
    ("tgp", "dmon"): dmon,
    ("tgp", "dmon_u"): dmon,
    ("pyg", "dmon"): pyg_dmon,
    ("tgp", "diff"): diff,
    ("tgp", "diff_u"): diff,
    ("pyg", "diff"): pyg_diff,
    ("tgp", "lap"): lap,
    ("tgp", "lap_u"): lap,
    ("tgp", "losses"): losses,
    ("authors", "gtv"): gtv,
    ("authors", "cgipool"): cgipool,
    ("authors", "copool"): copool,
    ("authors", "gsapool"): gsapool,
    ("authors", "structpool"): structpool,
    ("authors", "magedge"): magedge,
    ("authors", "parspool"): parspool,
    ("authors", "vipool"): vipool,
}
