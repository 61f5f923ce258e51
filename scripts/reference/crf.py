"""Cases of StructPool, whose assignment comes out of a conditional random field: as in `keeping`."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from poolbench.pool import StructPool
from reference.compare import Arrays
from reference.peercase import Given, PeerCase, Run, as_arrays


def structpool(case: PeerCase) -> Arrays:
    """The cases hold the unary potentials, as logits."""
    args = case.arguments({"k": None, "iterations": 5, "l_hop": None})
    pool, b = StructPool(**args, return_selection=True), len(case.sizes)
    pool.potentials = Given(nn.Parameter(torch.zeros(len(case.arrays["in/x"]), args["k"])))
    names = {"logits": "potentials.logits"}
    run = Run.of(replace(case, arrays={**case.arrays, "param/logits": case.arrays["in/logits"]}), pool, names)
    adj = run.blocks(args["k"])
    found = {"s/dense": run.s.dense(), "out/x": run.out.x.reshape(b, args["k"], -1), "out/adj": adj}
    return as_arrays({**found, **run.common(names, adj)})
