"""What precomputable operators make of a dataset ahead of training, as PoolBench's models have it done."""

from __future__ import annotations

import hashlib
import tempfile
from functools import partial
from pathlib import Path

from poolbench.data.coarsen import PackedCoarsenings, Recipe, coarsen_dataset
from poolbench.linalg import Dense, Sparse
from poolbench.linalg.coarsening import Coarsening
from poolbench.pool.base.src import SRCPool
from poolbench.records.provenance import usable_cores
from poolbench.records.version import code_version
from speed.forms import Form
from speed.work import Work


def coarsened(form: Form, pool: SRCPool, graphs: Work, whole: bool) -> PackedCoarsenings:
    """The graphs coarsened by `pool`, which was built of `form`; of a whole dataset the answer is kept in the cache."""
    if whole:
        return coarsen(pool, graphs, recipe(form, pool, graphs), usable_cores())
    with tempfile.TemporaryDirectory() as folder:
        return coarsen(pool, graphs, recipe(form, pool, graphs), 1, Path(folder))


def recipe(form: Form, pool: SRCPool, graphs: Work) -> Recipe:
    """What a coarsening is found by in the cache."""
    digest = hashlib.sha256(graphs.num_nodes.numpy().tobytes() + graphs.edge_index.numpy().tobytes())
    arguments = {**form.args, "k": getattr(pool, "k", None)}
    return Recipe(type(pool).__name__, arguments, code_version([form.target]), digest.hexdigest())


def coarsen(pool: SRCPool, graphs: Work, key: Recipe, workers: int, data: Path | None = None) -> PackedCoarsenings:
    """See `coarsen_dataset`. data: the cache folder, None for the user's."""
    steps = [partial(_coarsen, pool)]
    return coarsen_dataset(graphs.num_nodes, graphs.edge_index, steps, key, None, graphs.undirected, workers, data)


def _coarsen(pool: SRCPool, a: Sparse | Dense) -> Coarsening:
    view = a.view(pool.connectivity)
    assert isinstance(view, Sparse | Dense)
    return pool.coarsen(view)
