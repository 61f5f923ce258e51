"""Protocols of shift: trained on one kind of graph, tested on another, and on held-out graphs of the first kind beside.

By size as in Buffelli et al., "SizeShiftReg", NeurIPS 2022, arXiv 2207.07888; by density as in Wang et al., 2024,
arXiv 2406.09031; by environment (base, scaffold) as in Gui et al., "GOOD", NeurIPS 2022, arXiv 2206.08452.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

from poolbench.data.dealing import Parts, deal, members_by_class, tensors
from poolbench.data.protocols import Protocol
from poolbench.errors import PoolBenchError

if TYPE_CHECKING:
    from torch import Tensor

    from poolbench.data.dataset import GraphDataset
    from poolbench.data.raw import RawGraphs

KINDS = ("size", "density", "environment")


class Shift(Protocol):
    """The protocol `shift`. Graphs up to the quantile `upto` of what they are ordered by are the domain that is trained
    on; those above the quantile `above` are `test`; those between are in no part. In the domain, stratified by class, a
    share `held` is validated on and another one tested on (`id_test`): the metrics of both stand in the record.

    Args:
        seed: which graphs of the domain are held out.
        by: `size` (nodes), `density` (edges among all pairs of nodes) or `environment` (what the dataset says of where
            a graph comes from, such as its scaffold, a number each).
        upto, above: quantiles. A graph as large as the quantile counts to the domain.
        held: shares of the domain.
        select: which epoch counts, by the validation part: `loss`, `metric`, or `last`.

    Raises `PoolBenchError` for numbers that are no quantiles or shares in order, and where a part would be empty.
    """

    name = "shift"

    def __init__(
        self, seed: int = 0, by: str = "size", upto: float = 0.5, above: float = 0.9, held: float = 0.1,
        select: str = "loss",
    ) -> None:  # fmt: skip
        super().__init__(seed, select)
        if by not in KINDS:
            raise PoolBenchError(f"shift: by={by!r} is none of {', '.join(KINDS)}")
        for key, value, most in (("upto", upto, 1), ("above", above, 1), ("held", held, 0.5)):
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < most:
                raise PoolBenchError(f"shift: {key}={value!r} must be a number above 0 and below {most}")
        if upto > above:
            raise PoolBenchError(f"shift: upto={upto} is more than above={above}: no graph may be in two parts")
        self.by, self.upto, self.above, self.held = by, upto, above, held

    def order(self, dataset: GraphDataset, raw: RawGraphs) -> Tensor:
        """Raises `PoolBenchError` for an environment that the dataset does not say."""
        if self.by == "size":
            return raw.num_nodes
        if self.by == "environment":
            found = dataset.environment(raw)
            if found is None:
                raise PoolBenchError(
                    f"protocol=shift: dataset {raw.name} does not say where its graphs come from; take "
                    "protocol.by=size or protocol.by=density"
                )
            return found
        import torch

        per_graph = torch.repeat_interleave(torch.arange(raw.num_graphs), raw.num_nodes)
        edges = torch.bincount(per_graph[raw.edge_index[0]], minlength=raw.num_graphs)
        return edges.double() / (raw.num_nodes * (raw.num_nodes - 1)).clamp(min=1)

    def parts_by(self, order: Tensor, y: Tensor) -> Parts:
        values = order.double()
        ranked = values.sort().values
        # The smallest value that the given share of the graphs does not exceed.
        low, high = (float(ranked[min(int(q * len(ranked)), len(ranked) - 1)]) for q in (self.upto, self.above))
        inside = (values <= low).nonzero().squeeze(1)
        test = (values > max(low, high)).nonzero().squeeze(1)
        if inside.numel() < 3 or not test.numel():
            raise PoolBenchError(
                f"protocol=shift by={self.by}: of {len(ranked)} graphs {inside.numel()} are up to {low:g} and "
                f"{test.numel()} above {max(low, high):g}; take other quantiles, or a dataset whose graphs differ more"
            )
        held = Fraction(str(self.held))
        members = [[int(inside[j]) for j in own] for own in members_by_class(y[inside])]
        dealt = deal(members, held, held, f"{self.name}-{self.version}/{self.seed}")
        inner = tensors({"train": dealt["train"], "val": dealt["val"], "id_test": dealt["test"]})
        return {**inner, "test": test, "unused": ((values > low) & (values <= max(low, high))).nonzero().squeeze(1)}
