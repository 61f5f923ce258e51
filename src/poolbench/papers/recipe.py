"""Recipes: which runs reproduce a published table (conf/reproduce/PAPER/TABLE.yaml), and their configurations.

A recipe is a mapping with these keys; an unknown one is refused.

    experiment    the experiment (conf/experiment) that states architecture, training and deviations
    metrics       {name in the paper: name of a test metric in our records, or train/loss}
    scale         from the paper's unit to ours: 0.01 where it prints percent
    seeds         how many, from 0 on; of a k-fold table, repeats of the cross-validation
    published     {folds, repeats} or {runs}: what the paper's numbers are made of, see `Design`
    margin        differences below it count as none, in our unit; 3 points unless it says so
    factor        in its place: up to so many times as large, or as small, counts as none
    floor         with factor: smaller numbers count as this one, in the paper's unit: the last digit that it prints
    believe       one sentence: what a reader should, of this table
    quick         {seeds, folds, overrides}: of --quick
    variants      {name: overrides}: the table once for each, of which the first is the paper's and the others stand
                  beside it; none: once
    datasets      {name: overrides}, or {name: {overrides, beside: another}} to show it beside a published one
    rows          a list of {method, overrides, and experiment, datasets, metrics where they differ}
    left_out      {row or dataset of the paper: why it is not reproduced}
    explained     a list: what was found out about the differences, for the table and the summary
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from poolbench.config import Config, plain, replace
from poolbench.errors import PoolBenchError, nearest
from poolbench.jobs.search import searched
from poolbench.papers.criterion import MARGIN, Margin
from poolbench.records.changes import canonical
from poolbench.records.identity import EXECUTION_KEYS, canonical_json, without

Compose = Callable[[Sequence[str], Sequence[int]], list[Config]]
"""Overrides and seeds to the configuration of each seed."""

FOLDER = "reproduce"
KEYS = ("experiment", "metrics", "scale", "seeds", "published", "margin", "factor", "floor", "quick", "variants",
        "datasets", "rows", "left_out", "explained", "believe")  # fmt: skip
REASONS = ("unknown", "unpublished", "cost")
"""Why an experiment deviates: no source says what the authors did; what it takes was not published; to do as they did
takes computing time or code that was not spent on it."""


@dataclass(frozen=True)
class Design:
    """What a published number is made of.

    folds: it is a mean over all folds of a cross-validation; None: over runs. repeats: of the cross-validation, over
    which its spread is, if there are several; of one it is over folds. runs: how many there were, for numbers beside
    which it does not stand.
    """

    folds: int | None = None
    repeats: int = 1
    runs: int | None = None


@dataclass(frozen=True)
class Quick:
    """How --quick cuts a table down: how many seeds and folds at most, and further overrides."""

    seeds: int
    folds: int
    overrides: tuple[str, ...]


@dataclass(frozen=True)
class Line:
    """The runs of one method on one dataset in one variant; it fills a cell for each metric."""

    method: str
    dataset: str
    variant: str
    published_dataset: str
    """The dataset of the published numbers; another one than `dataset` where this is shown beside it."""
    experiment: str
    overrides: tuple[str, ...]
    metrics: Mapping[str, str] = field(hash=False)
    comparable: bool
    """Whether it is the data of the paper."""

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(filter(None, (self.method, self.dataset, self.variant)))

    @property
    def name(self) -> str:
        return ", ".join(self.names)


@dataclass(frozen=True)
class Recipe:
    """A table to reproduce."""

    paper: str
    table: str
    scale: float
    seeds: int
    design: Design
    margin: Margin
    quick: Quick
    lines: tuple[Line, ...]
    left_out: Mapping[str, str]
    explained: tuple[str, ...] = ()
    believe: str | None = None

    @property
    def name(self) -> str:
        return f"{self.paper}/{self.table}"

    @property
    def experiments(self) -> list[str]:
        return list(dict.fromkeys(line.experiment for line in self.lines))


# ----------------------------------------------------------------------------------------------------- reading recipes


Folders = Sequence[Path]
"""Configuration folders; of several the first that has a file counts."""


def recipes(conf: Folders) -> list[str]:
    """The names of all recipes, as PAPER/TABLE."""
    return sorted({f"{path.parent.name}/{path.stem}" for one in conf for path in (one / FOLDER).glob("*/*.yaml")})


def about(conf: Folders, name: str) -> str:
    """The first line of a recipe, its comment."""
    path = _file(conf, FOLDER, name)
    assert path is not None
    with open(path, encoding="utf-8") as file:
        return file.readline().removeprefix("# ").strip()


def read_recipe(conf: Folders, name: str) -> Recipe:
    """The recipe PAPER/TABLE. Raises `PoolBenchError` where there is none, or it is malformed."""
    path = _file(conf, FOLDER, name)
    if path is None:
        known = recipes(conf)
        raise PoolBenchError(f"there is no recipe for {name}{nearest(name, known)}; there are {', '.join(known)}")
    facts: dict[str, Any] = OmegaConf.to_container(OmegaConf.load(path))  # type: ignore[assignment]
    unknown = [key for key in facts if key not in KEYS]
    if unknown:
        raise PoolBenchError(f"{path}: {unknown[0]} is no key of a recipe{nearest(unknown[0], KEYS)}")
    paper, _, table = name.partition("/")
    quick = {"seeds": 1, "folds": 2, "overrides": (), **(facts.get("quick") or {})}
    try:
        return Recipe(
            paper,
            table,
            float(facts.get("scale", 1.0)),
            int(facts["seeds"]),
            Design(**(facts.get("published") or {})),
            _margin(facts),
            Quick(int(quick["seeds"]), int(quick["folds"]), tuple(quick["overrides"])),
            tuple(_lines(facts)),
            facts.get("left_out") or {},
            tuple(facts.get("explained") or ()),
            facts.get("believe"),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise PoolBenchError(f"{path} is no recipe ({type(error).__name__}: {error})") from error


def _margin(facts: Mapping[str, Any]) -> Margin:
    if "factor" not in facts:
        return Margin(float(facts.get("margin", MARGIN)))
    return Margin(float(facts["factor"]), True, float(facts["floor"]) * float(facts.get("scale", 1.0)))


def _lines(facts: Mapping[str, Any]) -> Iterator[Line]:
    variants = facts.get("variants") or {"": []}
    for variant, more in variants.items():
        for row in facts["rows"]:
            for dataset, given in facts["datasets"].items():
                if dataset not in row.get("datasets", facts["datasets"]):
                    continue
                entry = given if isinstance(given, Mapping) else {"overrides": given or []}
                named = any(word.startswith("dataset=") for word in entry["overrides"])
                yield Line(
                    row["method"],
                    dataset,
                    variant,
                    entry.get("beside", dataset),
                    row.get("experiment", facts["experiment"]),
                    (*([] if named else [f"dataset={dataset}"]), *entry["overrides"], *row.get("overrides", []), *more),
                    row.get("metrics", facts["metrics"]),
                    "beside" not in entry and variant == next(iter(variants)),
                )


def _file(conf: Folders, group: str, name: str) -> Path | None:
    return next((path for one in conf if (path := one / group / f"{name}.yaml").is_file()), None)


@dataclass(frozen=True)
class Deviation:
    """What an experiment does otherwise than its paper, and why."""

    what: str
    reason: str
    """One of `REASONS`."""

    def __str__(self) -> str:
        return f"{self.what} ({self.reason})"


def deviations(conf: Folders, experiment: str) -> list[Deviation]:
    """The list `deviations` of an experiment, which is no part of its runs' configuration.

    Raises `PoolBenchError` where there is no such experiment, or an entry is no {what, reason}.
    """
    path = _file(conf, "experiment", experiment)
    if path is None:
        raise PoolBenchError(f"there is no experiment {experiment}")
    found = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    given = found.get("deviations", []) if isinstance(found, dict) else []
    made = []
    for entry in given if isinstance(given, list) else [given]:
        if not isinstance(entry, dict) or set(entry) != {"what", "reason"} or entry["reason"] not in REASONS:
            raise PoolBenchError(
                f"{path}: deviations: {entry!r}: a list of {{what: ..., reason: ...}} is expected, the reason one of "
                f"{', '.join(REASONS)}"
            )
        made.append(Deviation(str(entry["what"]), entry["reason"]))
    return made


# ------------------------------------------------------------------------------------------------- from lines to runs


@dataclass(frozen=True)
class Task:
    """One thing to run: a configuration, with its fold where the protocol has folds.

    seeds: of the records that it leaves; several for nested cross-validation.
    """

    config: Config
    seeds: tuple[int, ...]

    @property
    def fold(self) -> int | None:
        return self.config.fold


@dataclass(frozen=True)
class Planned:
    """A line with its tasks. key: what all its records have in common, see `setting`."""

    line: Line
    tasks: tuple[Task, ...]
    key: str


def setting(config: Mapping[str, Any]) -> str:
    """What the runs of a line have in common: the configuration less execution, seeds, fold and what a search chose.

    Args:
        config: plain dictionaries, such as a record holds.
    """
    chosen = searched(config["search"]["space"], config) if config.get("search") else ()
    apart = ["seed", "split", "fold", "search.chosen", *chosen]
    # The number of devices is execution to a configuration, and yet part of what a run is.
    execution = [key for key in EXECUTION_KEYS if key != "trainer.devices"]
    return canonical_json(without(canonical(config), [*execution, *apart]))


def plan(
    recipe: Recipe, compose: Compose, seeds: int | None = None, quick: bool = False, extra: Sequence[str] = ()
) -> list[Planned]:
    """The tasks of every line.

    Args:
        seeds: how many, in place of the recipe's. quick: cut down, see `Quick`.
        extra: overrides that say where and how to run, such as trainer=gpu.

    Raises `PoolBenchError` for a line that cannot be composed, or an `extra` that changes what is run.
    """
    count = seeds or (recipe.quick.seeds if quick else recipe.seeds)
    planned = []
    for number, line in enumerate(recipe.lines):
        words = [f"experiment={line.experiment}", "logger=none", *line.overrides]
        words += recipe.quick.overrides if quick else ()
        configs = compose([*words, *extra], range(count))
        if extra and not number:
            _only_execution(compose(words, [0])[0], configs[0], extra)
        tasks = [task for config in configs for task in _tasks(config, recipe.quick.folds if quick else None)]
        planned.append(Planned(line, tuple(tasks), setting(plain(configs[0]))))
    return planned


def _only_execution(without_extra: Config, config: Config, extra: Sequence[str]) -> None:
    if setting(plain(without_extra)) != setting(plain(config)):
        raise PoolBenchError(
            f"{' '.join(extra)} changes what is run, and the table would be another one: a reproduction takes only "
            "what says where and how it runs, such as trainer=gpu, trainer.accelerator= and logger="
        )


def _tasks(config: Config, most_folds: int | None) -> Iterator[Task]:
    from poolbench.learn.locate import build_protocol

    protocol = build_protocol(config.protocol, config.split.seed, config.paths.data, config.paths.mirror)
    seeds = protocol.seeds(config.seed)
    if protocol.folds is None:
        yield Task(config, seeds)
        return
    for fold in range(min(protocol.folds, most_folds or protocol.folds)):
        yield Task(replace(config, fold=fold), seeds)
