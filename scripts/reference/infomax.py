"""Cases of operators that score nodes by an estimate of mutual information: as in `keeping`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from poolbench.linalg import Ragged
from poolbench.pool import VIPool
from reference.compare import Arrays
from reference.keeping import by_falling_score
from reference.peercase import PeerCase, Run, as_arrays


class Shuffled(VIPool):
    """VIPool with a case's permutation."""

    def __init__(self, order: Tensor, **args: Any) -> None:
        super().__init__(**args)
        self.order = order

    def permutation(self, nodes: Ragged) -> Tensor:
        return self.order


def vipool(case: PeerCase) -> Arrays:
    """The authors rank all rows as one graph, round the number of kept nodes down, and have two biases in one place.

    A case is run on the normalised adjacency that it holds, and its first bias is added to the second.
    """
    args = case.arguments({"in_channels": None, "ratio": 0.5})
    given, keep = dict(case.arrays), int(args["ratio"] * len(case.arrays["in/x"]))
    given["param/fc.fc.bias"] = given["param/fc.fc.bias"] + given.pop("param/fc.bias")
    square = given["param/disc.f_k.weight"].shape
    given["param/disc.f_k.weight"] = given["param/disc.f_k.weight"].reshape(1, -1)
    given.pop("in/batch", None)
    adj = case.tensor("in/adj")
    edges = adj.T.nonzero().T
    given |= {"in/edge_index": edges.numpy(), "in/edge_weight": adj.T[tuple(edges)].numpy()}
    pool = Shuffled(
        case.tensor("in/permutation"), ratio=keep if keep > 1 else 1e-9, in_channels=args["in_channels"],
        return_selection=True,
    )  # fmt: skip
    names = {"fc.act.weight": "slope"}
    parts = {"fc.fc": "embedding", "gcn1.proj": "around", "disc.f_k": "affinity"}
    names |= {f"{theirs}.{n}": f"{ours}.{n}" for theirs, ours in parts.items() for n in ("weight", "bias")}
    run = Run.of(replace(case, arrays=given), pool.eval(), names)
    assert run.out.score is not None
    order = by_falling_score(run.out, run.out.score[run.s.kept])
    h = pool.embed(run.x)
    around = pool.around(adj @ h)
    logits = torch.cat([pool.affinity(u, around.sigmoid()) for u in (h, h[pool.order])])
    found = {"out/x": run.out.x[order], "out/adj": run.blocks(len(order))[0].T[order][:, order]}
    found |= {"s/node_index": run.s.kept[order], "s/weight": run.s.weight[order]}
    found |= {"s/logits": logits, "s/neighbourhood": around, **run.common(names)}
    found |= {f"loss/{name}": loss for name, loss in run.out.losses.items()}
    found["grad/fc.bias"] = found["grad/fc.fc.bias"].float()
    found["grad/disc.f_k.weight"] = found["grad/disc.f_k.weight"].reshape(square)
    return as_arrays(found)
