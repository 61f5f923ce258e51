"""What the model templates share: the parts list, the arguments that a pool gets from data and model, the output."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from poolbench.errors import whole
from poolbench.linalg import RAW, Connectivity, Matrix
from poolbench.linalg.coarsening import Coarsening
from poolbench.nn.block import BLOCK_NORM_AT, JUMPING, RESIDUAL, Block, Logits
from poolbench.nn.encoder import Channels, Encoder
from poolbench.nn.message_passing import layer_of
from poolbench.nn.mlp import ACTIVATIONS, MLP, NORMS, among
from poolbench.pool.base.layers import INITIALIZERS
from poolbench.pool.base.module import Module
from poolbench.pool.base.src import GlobalPool, Operator, SRCPool, constructor_arguments


class ModelOutput(NamedTuple):
    """What a model returns.

    y: [b, out_channels] for graphs, [n, ...] for nodes (an assignment, a reconstruction). losses: auxiliary losses by
    name and level. sizes: nodes of each graph at each level.
    """

    y: Tensor
    losses: dict[str, Tensor]
    sizes: list[Tensor]


@dataclass(frozen=True)
class Part:
    """An operator that a template builds once a level: its class and its own arguments."""

    cls: type[Operator]
    args: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class DataFacts:
    """What a model needs to know of the data.

    in_channels, out_channels: widths of node features and of the answer. mean_nodes: mean size of the training graphs,
        or the size that `k_from` says.
    vocabulary: categories of each column of the node features, None where they are numbers. edges: the edge features,
    None where there are none. classes: of the nodes, where they have any. sizes: of the training graphs.
    """

    in_channels: int
    out_channels: int
    mean_nodes: float
    vocabulary: tuple[int, ...] | None = None
    edges: Channels | None = None
    classes: int | None = None
    sizes: Sequence[int] = ()


class GraphModel(Module):
    """Base of the templates: (x, a, edges, coarsenings) -> `ModelOutput`.

    A template is constructed with `data` and `pool` and its own keyword arguments, and says in `refuses` which pools
    it cannot take. Node features that are categories are embedded first, at width `hidden`; `node_layers` linear layers
    follow, each with its activation.

    Edge features follow the edges through pools that keep or merge them (`SRCPool.pooled_edges`). Where edges are
    merged, the features are their means: of categories, the share of each among the merged edges.
    """

    #: What the template is for: `graphs` (an answer a graph), `clusters` (an assignment of the nodes, from the pool's
    #: own losses), `reconstruction` (the node features again), `nodes` (an answer a node).
    task = "graphs"

    def __init__(
        self, data: DataFacts, hidden: int, node_layers: int = 0, activation: str = "relu", dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.encoder = None if data.vocabulary is None else Encoder(Channels(data.in_channels, data.vocabulary), hidden)
        #: Width of the node features that the first layer sees.
        self.in_channels = data.in_channels if self.encoder is None else hidden
        self.edges = data.edges
        self.nodes: MLP | None = None
        if node_layers:
            self.nodes = MLP([self.in_channels, *[hidden] * node_layers], activation, dropout)
            self.in_channels = hidden

    @property
    def takes_edges(self) -> bool:
        """Whether a layer looks at edge features."""
        return any(isinstance(module, Block) and module.takes_edges for module in self.modules())

    def encode(self, x: Tensor) -> Tensor:
        """Node features as numbers, after the layers on nodes: [n, in_channels]."""
        x = x if self.encoder is None else self.encoder(x)
        return x if self.nodes is None else self.nodes.activation(self.nodes(x))

    def draw(self, initializer: str | None) -> None:
        """Draw the weights of all linear layers anew, but for those of operators, which have initialisers of their own;
        layers that an operator has like those of its level are the model's.

        initializer: a Keras name (`poolbench.pool.base.layers`), biases 0 then, or torch; None leaves each layer its
        own. Raises ValueError for an unknown one.
        """
        if initializer is None:
            return
        among("model.initializer", initializer, (OWN, *INITIALIZERS))
        pooled = self._below(Operator) - self._below(Logits)
        for layer in self.modules():
            if not isinstance(layer, nn.Linear) or layer in pooled:
                continue
            if initializer == OWN:
                layer.reset_parameters()
                continue
            with torch.no_grad():
                INITIALIZERS[initializer](layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def _below(self, kind: type[nn.Module]) -> set[nn.Module]:
        """The modules of a kind and all within them."""
        return {inner for module in self.modules() if isinstance(module, kind) for inner in module.modules()}

    #: Message passing layers and operators of level 0 ask for these matrices; they are computed once a dataset.
    def requirements(self) -> set[Connectivity]:
        """The connectivities that the first level asks its graphs for."""
        raise NotImplementedError

    @classmethod
    def refuses(cls, pool: type[Operator]) -> str | None:
        """Why this template cannot take an operator, None where it can."""
        raise NotImplementedError

    def precomputed(self) -> list[SRCPool]:
        """The pools, one a level, where all of them depend on the graphs alone: they are computed once a dataset."""
        pools = [module for module in self.modules() if isinstance(module, SRCPool)]
        return pools if all(pool.precomputable for pool in pools) else []

    def forward(
        self, x: Tensor, a: Matrix, edges: Tensor | None = None, coarsenings: Sequence[Coarsening] = ()
    ) -> ModelOutput:
        """Shapes: see `ModelOutput`. coarsenings: of `precomputed()`, for this batch; without, they are made anew."""
        raise NotImplementedError

    def pool_once(
        self,
        pool: nn.Module,
        x: Tensor,
        a: Matrix,
        level: int,
        coarsenings: Sequence[Coarsening],
        edges: Tensor | None = None,
        x0: Tensor | None = None,
    ) -> Any:
        """The first pool gets the matrix it was designed for; the next ones what the pool before them returned.

        edges: features of the edges of `a`, for what `pooled_channels` says to come out as `edge_attr`. x0: what the
        layers of the level were given, for operators with `takes_x0`.
        """
        assert isinstance(pool, SRCPool)
        asked: dict[str, Any] = {}
        if edges is not None and self.edges is not None and pooled_channels(pool, self.edges):
            if pool.pooled_edges == "merged":
                edges = self.edges.as_numbers(edges, x.dtype)
            asked = {"edge_attr": edges, "edge_reduce": "mean"}
        if level == 0:
            a = a.view(pool.connectivity)
        if coarsenings:
            asked["coarsening"] = coarsenings[level]
        if pool.takes_x0:
            asked["x0"] = x0
        return pool(x, a, **asked)


def check_choices(**values: Any) -> None:
    """Raise ValueError for an impossible value of an argument that the templates share, naming the choices."""
    for name, choices in CHOICES.items():
        if name in values:
            among(f"model.{name}", values[name], choices)
    if "mp" in values:
        layer_of(values["mp"])
    for name in ("levels", "depth", "hidden"):
        if name in values:
            whole(f"model.{name}", values[name])
    for width in each(values.get("head_layers", 1)):
        whole("model.head_layers", width)
    whole("model.node_layers", values.get("node_layers", 0), 0)
    for name in ("dropout", "head_dropout"):
        if (value := values.get(name)) is not None and not 0.0 <= value < 1.0:
            raise ValueError(f"model.{name}={value!r}: a share in [0, 1) is expected")


def check_levels(**values: Any) -> None:
    """`check_choices` of arguments that may be lists, one value a level. A level of a list may be of depth 0."""
    for name, value in values.items():
        up_to_level(f"model.{name}", value, 0)
        for one in each(value):
            if name == "depth" and isinstance(value, list | tuple):
                whole("model.depth", one, 0)
            else:
                check_choices(**{name: one})


CHOICES: dict[str, Sequence[str]] = {
    "activation": tuple(ACTIVATIONS), "norm": NORMS, "norm_at": BLOCK_NORM_AT, "residual": RESIDUAL, "combine": JUMPING,
    "jumping": JUMPING, "jumping_over": ("levels", "layers", "pools"),
}  # fmt: skip
LEVEL = "level"
"""The `gnn` of an operator that is like the layers of its level."""
OWN = "torch"
"""The initialiser of `torch.nn.Linear`: U(-r, r), r = 1 / sqrt(fan in), biases too."""


def each(value: Any) -> Sequence[Any]:
    """The values of a list, or the one value that is none."""
    return value if isinstance(value, list | tuple) else [value]


def head(
    in_channels: int, hidden: int, out_channels: int, layers: int | Sequence[int], activation: str, dropout: float
) -> MLP:
    """The classifier: `layers` linear layers, halving from `hidden`; or with hidden layers of the widths `layers`."""
    inner = [max(hidden // 2**j, 1) for j in range(1, layers)] if isinstance(layers, int) else layers
    return MLP([in_channels, *inner, out_channels], activation, dropout)


def build_pool(
    part: Part,
    level: int,
    in_channels: int,
    mean_nodes: float,
    lifts: bool = False,
    like_level: Callable[[int, int], nn.Module] | None = None,
    x0_channels: int | None = None,
) -> SRCPool:
    """A hierarchical operator for one level (0, 1, ...), what depends on data and model filled in.

    `lifts`: the model needs the selection. `like_level`: what makes a network like the layers of the level of two
    widths, for `gnn` = level; None: the model has no levels. `x0_channels`: of what these layers are given.

    `ratio` and `k` may be lists, one entry a level. An operator with a number of clusters k and no ratio of its own
    gets k = floor(ceil(mean) * ratio_1 ... ratio_level), as MinCutPool's authors do, where k is null.
    """
    args, names = dict(part.args), constructor_arguments(part.cls)
    ratios = up_to_level("pool.ratio", args.get("ratio"), level)
    args = {**args, **{n: up_to_level(f"pool.{n}", args[n], level)[-1] for n in ("ratio", "k") if n in args}}
    if "k" in names and "ratio" not in names:
        args.pop("ratio", None)
        if args.get("k") is None:
            args["k"] = clusters(mean_nodes, ratios)
    if "in_channels" in names:
        args["in_channels"] = in_channels
    if "x0_channels" in names:
        args["x0_channels"] = x0_channels
        if args.get("gnn") == LEVEL:
            if like_level is None:
                raise ValueError(f"pool.gnn={LEVEL}: model=hierarchical alone has levels to make a network like")
            args["gnn"] = like_level
        elif isinstance(args.get("gnn"), str):
            raise ValueError(f"pool.gnn={args['gnn']}: {LEVEL} or null is expected")
    if lifts:
        args["return_selection"] = True
    pool = part.cls(**args)
    assert isinstance(pool, SRCPool)
    return pool


def pooled_channels(pool: SRCPool, edges: Channels | None) -> Channels | None:
    """The edge features after a pool: None where its edges are not those of the graph, or of another matrix."""
    if edges is None or not pool.pooled_edges or pool.connectivity != RAW:
        return None
    return edges if pool.pooled_edges == "kept" else edges.numbers


def at_level(losses: Mapping[str, Tensor], level: int) -> dict[str, Tensor]:
    """The losses of the pool at a level (0, 1, ...), by name and level."""
    return {f"{name}_{level + 1}": value for name, value in losses.items()}


def penalties(readouts: Iterable[nn.Module]) -> dict[str, Tensor]:
    """The weight penalties of readouts (hierarchical operators return theirs with their losses)."""
    found = [readout.penalty() if isinstance(readout, Operator) else None for readout in readouts]
    return {f"regularization_readout_{number + 1}": p for number, p in enumerate(found) if p is not None}


def clusters(mean_nodes: float, ratios: Sequence[float | None]) -> int:
    """k of a dense pool after the given ratios, at least 2 (one cluster would be a global pool)."""
    share = 1.0
    for ratio in ratios:
        if not isinstance(ratio, int | float) or isinstance(ratio, bool) or not 0.0 < ratio <= 1.0:
            raise ValueError(f"pool.ratio={ratio!r}: a share of the nodes in (0, 1] is expected, or give pool.k")
        share *= ratio
    return max(2, math.floor(math.ceil(mean_nodes) * share + 1e-6))


def build_readout(part: Part, in_channels: int, hidden: int, data: DataFacts) -> GlobalPool:
    """A readout, what depends on data and model filled in where it is null: widths, the k of SortPool, the sizes of the
    training graphs."""
    args, names = dict(part.args), constructor_arguments(part.cls)
    if "k" in names and args.get("k") is None:
        args["k"] = sorted_rows(data)
    if "sizes" in names and args.get("sizes") is None:
        args["sizes"] = list(data.sizes) or [math.ceil(data.mean_nodes)]
    if "channels" in names and args.get("channels") is None:
        args["channels"] = hidden
    if "in_channels" in names:
        args["in_channels"] = in_channels
    readout = part.cls(**args)
    assert isinstance(readout, GlobalPool)
    return readout


def sorted_rows(data: DataFacts) -> int:
    """The k that 60 % of the training graphs reach, and at least 10 (Zhang et al., AAAI 2018, section 5)."""
    sizes = sorted(data.sizes) or [math.ceil(data.mean_nodes)]
    return max(10, sizes[int(0.4 * len(sizes))])


def up_to_level(name: str, value: Any, level: int) -> list[Any]:
    """The values of levels 0 .. level of the argument `name`: a list gives one a level, its last one for all that
    follow. Raises ValueError for an empty list."""
    values = list(each(value))
    if not values:
        raise ValueError(f"{name}=[]: give one value a level")
    return [values[min(j, len(values) - 1)] for j in range(level + 1)]
