"""`poolbench predict`: what a trained model says of graphs."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from poolbench.cli.options import PATH, Word, data_paths, results, trust, trusting
from poolbench.errors import PoolBenchError

if TYPE_CHECKING:
    from poolbench.audit.trained import Answers
    from poolbench.data.raw import RawGraphs


@click.command
@click.argument("run", metavar="RECORD|ID")
@click.argument("data", nargs=-1, type=Word(), metavar="[DATA]...")
@click.option("--out", type=PATH, metavar="FILE", help="Write the table into this file.")
@trusting
def command(run: str, data: tuple[str, ...], out: Path | None, allow_large: bool, **asked: Any) -> int:
    """Predict with the model of a record.json, of a run's folder, or of an ID in the results folder; prints CSV.

    The run must have been done with callbacks.keep_weights=true. DATA is a .pt file of a list of Data, a folder of
    tables or of TU text files (docs/own_data.md), the name of a dataset, or what train takes, dataset=... Without DATA
    it is the dataset of the run, with the part of the split that each graph is in, and what is known of it.

    \b
    Examples:
      poolbench predict 0123456789abcdef graphs.pt --out answers.csv
      poolbench predict results/runs/0123456789abcdef
    """
    import sys

    from poolbench.audit.trained import load
    from poolbench.disk import write_text

    trained = load(run, trust(asked["trust"], allow_large), data_paths(), results())
    if trained.note:
        print(f"note: {trained.note}", file=sys.stderr)
    answers = trained.answers(_read(data)) if data else trained.own_answers()
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(_rows(answers))
    if out is None:
        print(text.getvalue(), end="")
    else:
        write_text(out, text.getvalue())
        print(f"{out}: {len(answers.graph)} answers")
    return 0


def _rows(answers: Answers) -> Iterator[list[Any]]:
    """The table: a line of names, and a line for each graph or node."""
    columns: list[tuple[str, Sequence[Any]]] = [("graph", answers.graph.tolist())]
    if answers.node is not None:
        columns.append(("node", answers.node.tolist()))
    if answers.part is not None:
        columns.append(("part", answers.part))
    if answers.y is not None:
        columns += _columns("y", answers.y)
    if answers.predicted is not None:
        columns.append(("predicted", answers.predicted.tolist()))
    columns += _columns("p" if answers.predicted is not None else "predicted", answers.values)
    yield [name for name, _ in columns]
    yield from (list(row) for row in zip(*(values for _, values in columns), strict=True))


def _columns(name: str, values: Any) -> list[tuple[str, list[Any]]]:
    """One column, or one a class, question or number; what is not known is left empty."""
    if values.dim() == 1:
        return [(name, values.tolist())]
    named = [name] if values.shape[1] == 1 else [f"{name}{k}" for k in range(values.shape[1])]
    # Nine digits are those of a float32.
    return [(each, ["" if math.isnan(v) else f"{v:.9g}" for v in column.tolist()])
            for each, column in zip(named, values.T, strict=True)]  # fmt: skip


def _read(data: Sequence[str]) -> RawGraphs:
    """The graphs that the words mean. Raises `PoolBenchError` in one line."""
    from poolbench.learn.build import build_dataset

    words = list(data)
    if len(data) == 1 and "=" not in data[0]:
        place = Path(data[0])
        if place.exists() or place.suffix == ".pt" or len(place.parts) > 1:
            return _lying(place)
        words = [f"dataset={data[0]}"]
    if strange := [word for word in words if not word.lstrip("+").startswith(("dataset=", "dataset."))]:
        raise PoolBenchError(f"{strange[0]}: a file, a folder, the name of a dataset or dataset=... is expected")
    from poolbench.cli.door import composed, resolve

    config = resolve(composed(words))
    return build_dataset(config.dataset, config.paths.data, config.paths.mirror).load()


def _lying(place: Path) -> RawGraphs:
    """What lies in a file or folder outside of the data folder."""
    from poolbench.data.sources.own import OwnFiles
    from poolbench.data.sources.own_ogb import is_ogb
    from poolbench.data.sources.own_tables import tables_in
    from poolbench.data.sources.tu import parse

    if not place.exists():
        raise PoolBenchError(f"there is no file or folder {place}; docs/own_data.md says what graphs are read from")
    if place.is_dir() and (tu := sorted(place.glob("*_graph_indicator.txt"))):
        return parse(tu[0].name.removesuffix("_graph_indicator.txt"), place)
    if place.is_dir() and not (tables_in(place) or is_ogb(place)):
        raise PoolBenchError(
            f"{place} holds neither nodes.csv, edges.csv and graphs.csv nor TU text files; docs/own_data.md says how"
        )
    if place.is_file() and place.suffix != ".pt":
        raise PoolBenchError(f"{place}: a .pt file of a list of Data is expected; docs/own_data.md says how")
    files = OwnFiles("graphs")
    files.name, files.folder = place.stem if place.is_file() else place.name, place.absolute().parent
    return files.load()
