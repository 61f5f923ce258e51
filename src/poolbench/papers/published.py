"""The numbers that papers published, as facts: results/published/*.yaml, described in the README beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from poolbench.errors import PoolBenchError, nearest

UNVERIFIED = ("D", "E")
"""Trust codes on which no verdict rests."""
SECOND_HAND = "B"


def published_dir() -> Path:
    """The folder of the facts: inside an installed package, or results/published of a checkout."""
    inside = Path(__file__).parents[1] / "published"
    return inside if inside.is_dir() else Path(__file__).parents[3] / "results" / "published"


@dataclass(frozen=True)
class Value:
    """One published number, in the unit of its table.

    std, n: None where they were not printed. trust: A to E, see results/published/README.md.
    """

    method: str
    dataset: str
    metric: str
    mean: float
    std: float | None
    n: int | None
    trust: str
    source: str

    @property
    def verified(self) -> bool:
        return self.trust not in UNVERIFIED


@dataclass(frozen=True)
class PublishedTable:
    """A table of a paper."""

    paper: str
    id: str
    citation: str
    metric: str
    unit: str
    plus_minus: str
    """What the number after ± is, in the paper."""
    values: Mapping[tuple[str, str, str], Value]
    """By method, dataset and metric."""

    def value(self, method: str, dataset: str, metric: str) -> Value | None:
        return self.values.get((method, dataset, metric))

    @property
    def digits(self) -> int:
        """Decimal places that the table prints."""
        return max((len(f"{v.mean!r}".partition(".")[2]) for v in self.values.values()), default=3)


def has_facts(paper: str) -> bool:
    """Whether there are published numbers of a paper; a recipe of one's own may have none."""
    return (published_dir() / f"{paper}.yaml").is_file()


def published_table(paper: str, table: str, folder: Path | None = None) -> PublishedTable:
    """A table of the facts. Raises `PoolBenchError` where there is no such paper or table."""
    folder = folder or published_dir()
    path = folder / f"{paper}.yaml"
    if not path.is_file():
        known = sorted(p.stem for p in folder.glob("*.yaml"))
        raise PoolBenchError(f"{folder} holds no facts of {paper}{nearest(paper, known)}")
    facts: dict[str, Any] = OmegaConf.to_container(OmegaConf.load(path))  # type: ignore[assignment]
    tables = {entry["id"]: entry for entry in facts["tables"]}
    if table not in tables:
        raise PoolBenchError(f"{path} has no table {table}{nearest(table, tables)}; there are {', '.join(tables)}")
    return _table(facts, tables[table])


def _table(facts: Mapping[str, Any], table: Mapping[str, Any]) -> PublishedTable:
    values = {}
    for row in table["rows"]:
        value = Value(row["method"], row["dataset"], row.get("metric") or table["metric"], float(row["mean"]),
                      row["std"], row["n"], row["trust"], row["source"])  # fmt: skip
        key = (value.method, value.dataset, value.metric)
        if key in values:
            raise PoolBenchError(f"{facts['id']}/{table['id']} gives {', '.join(key)} twice")
        values[key] = value
    citation = f"{facts['authors']}: {facts['title']}. {facts['venue']}, {facts['year']}. arXiv {facts['arxiv']}"
    said = table["protocol"].get("plus_minus", "not stated")
    return PublishedTable(facts["id"], table["id"], citation, table["metric"], table["unit"], str(said), values)
