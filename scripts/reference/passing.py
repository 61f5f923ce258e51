"""Cases of message passing layers. A function makes of a case the arrays that the folder has for it."""

from __future__ import annotations

import torch

from poolbench.linalg import Ragged, Sparse, to_padded
from poolbench.nn.message_passing import GTV
from poolbench.pool.base.layers import activation
from reference.compare import Arrays
from reference.peercase import PeerCase, as_arrays

KNOWN = {"out_channels": None, "delta_coeff": 1.0, "eps": 1e-3, "act": "relu", "bias": True, "dense": False}
"""The arguments of GTVConv, and its defaults."""


def gtv(case: PeerCase) -> Arrays:
    """On the layout that the case names; both must come to the same. Without a bias of its own, ours is 0."""
    args, x = case.arguments(KNOWN), case.tensor("in/x").requires_grad_()
    layer = GTV(x.shape[1], args["out_channels"], args["delta_coeff"], args["eps"]).double()
    with torch.no_grad():
        layer.weight.weight.copy_(case.tensor("param/weight").T)
        if args["bias"]:
            layer.bias.copy_(case.tensor("param/bias"))
    a = _adjacency(case)
    padded, dense = to_padded(x, a)
    assert dense.nodes.mask is not None
    flat, block = layer(x, a), layer(padded, dense)[dense.nodes.mask]
    torch.testing.assert_close(block, flat, rtol=1e-10, atol=1e-10)
    y = activation(args["act"])(block if args["dense"] else flat)
    objective = y.square().sum() / 2
    leaves = {"x": x, "weight": layer.weight.weight, "bias": layer.bias}
    found = dict(zip(leaves, torch.autograd.grad(objective, list(leaves.values())), strict=True))
    found["weight"] = found["weight"].T
    answer = {"out/x": y, "objective": objective, **{f"grad/{name}": value for name, value in found.items()}}
    if not args["bias"]:
        del answer["grad/bias"]
    return as_arrays(answer)


def _adjacency(case: PeerCase) -> Sparse:
    """What each node hears: an edge_index is (source, target)."""
    source, target = case.tensor("in/edge_index")
    nodes = Ragged.from_index(torch.repeat_interleave(torch.tensor(case.sizes)), len(case.sizes))
    return Sparse.from_edges(target, source, case.optional("in/edge_weight"), nodes)
