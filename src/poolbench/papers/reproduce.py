"""`poolbench reproduce`: plan the runs of a published table, do what is missing, set both side by side.

The runs are ordinary ones: done ones are not done again, a killed one goes on, and any number of processes and machines
that share a results folder can work on one table.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from poolbench.config import plain
from poolbench.disk import write_text
from poolbench.errors import PoolBenchError, nearest
from poolbench.jobs import launcher, sweep
from poolbench.loading import resting
from poolbench.papers.comparison import (
    Cell,
    Found,
    compare,
    decidable,
    file_stem,
    foreseen_text,
    written,
)
from poolbench.papers.published import has_facts, published_table
from poolbench.papers.recipe import (
    Compose,
    Folders,
    Planned,
    Recipe,
    Task,
    deviations,
    plan,
    read_recipe,
)
from poolbench.papers.summary import TABLES, write_summary
from poolbench.records.changes import first
from poolbench.records.clock import Clock, Taken
from poolbench.records.equivalence import Links
from poolbench.records.forgotten import Forgotten
from poolbench.records.gathered import Gist, found_records
from poolbench.records.record import Record
from poolbench.report.table import FORMATS
from poolbench.report.tables import time_text
from poolbench.wording import count


@dataclass(frozen=True)
class Options:
    """What is asked for.

    name: PAPER/TABLE. results: the results folder. plan: say what is to do, and stop. table: do nothing, make the table
    of what is there. quick: few seeds and epochs. seeds: how many, in place of the paper's. jobs: processes. only: the
    lines that all these names belong to. extra: overrides that say where and how to run.
    """

    name: str
    results: Path
    plan: bool = False
    table: bool = False
    quick: bool = False
    seeds: int | None = None
    jobs: int = 1
    only: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()


def reproduce(asked: Options, conf: Folders, compose: Compose) -> int:
    """Do what is missing of a table and write it; returns the exit code.

    Args:
        conf: the configuration folders. compose: makes configurations.

    Raises `PoolBenchError` for a table without a recipe, or names and overrides that do not go with it.
    """
    recipe = read_recipe(conf, asked.name)
    place = f"paths.results={asked.results.absolute()}"
    with resting():
        planned = plan(recipe, compose, asked.seeds, asked.quick, [*asked.extra, place])
    code = 0
    if not asked.table:
        found = found_of(planned, asked.results)
        chosen = wanted(planned, asked.only)
        left = [(one, task) for one in chosen for task in to_do(one, found)]
        left_out = Forgotten.read(asked.results).notes()
        cells: list[Cell] = []
        if not asked.quick and has_facts(recipe.paper):
            cells = compare(recipe, published_table(recipe.paper, recipe.table), chosen, found)
        print("\n".join([planned_text(recipe, chosen, left, found, asked.jobs, cells), *left_out]))
        if asked.plan:
            return 0
        code = do(recipe.name, left, asked.results, asked.jobs) if left else 0
    print(f"wrote {write_table(recipe, planned, conf, asked)}")
    print(f"wrote {write_summary(asked.results, conf)}")
    return code


def found_of(planned: Sequence[Planned], results: Path) -> Found:
    """The records of a results folder that are of the operators and datasets of a plan."""
    pairs = {_pair(plain(one.tasks[0].config)) for one in planned}

    def of_one(record: Gist | Record) -> bool:
        return _pair(record.config) in pairs

    with resting():
        return Found(found_records(results, wanted=of_one), Links.read(results))


def _pair(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The classes of operator and dataset, and the name of the dataset, whatever a search may choose."""
    pool, dataset = config.get("pool") or {}, config.get("dataset") or {}
    return first(str(pool.get("_target_"))), first(str(dataset.get("_target_"))), str(dataset.get("name"))


def wanted(planned: Sequence[Planned], only: Sequence[str]) -> list[Planned]:
    """The lines that all names of `only` belong to. Raises `PoolBenchError` for a name of none."""
    kept = list(planned)
    for name in only:
        names = {one.lower() for line in planned for one in line.line.names}
        if name.lower() not in names:
            raise PoolBenchError(f"--only {name}: no such method, dataset or variant{nearest(name, sorted(names))}")
        kept = [one for one in kept if name.lower() in map(str.lower, one.line.names)]
    return kept


def to_do(planned: Planned, found: Found) -> list[Task]:
    """The tasks of a line of which a run is not done; one of code that is close and not the same is none."""
    runs = found.of(planned)

    def done(task: Task, seed: int) -> bool:
        one = runs[task.config.seed, seed, task.fold]
        return one is not None and one.record.done and one.kind == "same"

    return [task for task in planned.tasks if not all(done(task, seed) for seed in task.seeds)]


def do(name: str, left: Sequence[tuple[Planned, Task]], results: Path, jobs: int) -> int:
    """Do tasks as a sweep with books of its own; returns the exit code."""
    from poolbench.jobs.run import run

    words = [(one.line.name, *_words(task)) for one, task in left]
    count = min(jobs, len(left))
    folder = results / sweep.SWEEPS / f"{time.strftime('%Y-%m-%d_%H-%M-%S')}-{file_stem(name)}"
    books = sweep.Books(folder, words, count)
    workers = launcher.InProcess() if count == 1 else launcher.Processes(count)
    runs = {number: task.config for number, (_, task) in enumerate(left, 1)}

    def make(number: int) -> launcher.Job:
        return launcher.beside(launcher.Job(number, books.text(number), runs[number], run, books.folder))

    return sweep.exit_code(launcher.launch(range(1, len(left) + 1), make, books, workers, runs=runs))


def _words(task: Task) -> tuple[str, ...]:
    fold = () if task.fold is None else (f"fold={task.fold}",)
    return (f"seed={task.config.seed}", *fold)


# ----------------------------------------------------------------------------------------------------------- the plan


def planned_text(
    recipe: Recipe,
    planned: Sequence[Planned],
    left: Sequence[tuple[Planned, Task]],
    found: Found,
    jobs: int,
    cells: Sequence[Cell] = (),
) -> str:
    """The runs of a table by line: how long those that are done took, those that are left take at most, and whether its
    cells can be decided.

    Nothing is run to know it: times are those of records.
    """
    remaining = Counter(one.line for one, _ in left)
    clock = Clock(found.all)
    lines = [f"{recipe.name}: {count(sum(len(one.tasks) for one in planned), 'run')}, {len(left)} to do"]
    took, total, unknown, elsewhere = 0.0, 0.0, False, False
    for one in planned:
        ahead, spent = remaining[one.line], _spent(one, found)
        took += spent
        text = f"  {one.line.name}: {count(len(one.tasks), 'run')}"
        if len(one.tasks) > ahead:
            text += f", {'' if not ahead else f'{len(one.tasks) - ahead} '}done in {sweep.duration(spent)}"
        if ahead:
            epoch = clock.epoch(one.tasks[0].config)
            most = ahead * (epoch.seconds if epoch else 0.0) * epochs(one.tasks[0])
            total += most
            unknown |= epoch is None
            elsewhere |= epoch is not None and epoch.machine is not None
            text += f", {ahead} to do, {f'{epoch_text(epoch)}, at most {sweep.duration(most)}' if epoch else UNKNOWN}"
        lines.append(text)
        mine = [cell for cell in cells if cell.line is one.line]
        several = len(mine) > 1
        lines += [f"    {cell.metric + ': ' if several else ''}{foreseen_text(cell)}" for cell in mine]
    able = [cell for cell in cells if decidable(cell)]
    if cells:
        lines.append(f"{len(able)} of {count(len(cells), 'cell')} can be decided")
    if took:
        lines.append(f"what is done took {sweep.duration(took)}, one run after another")
    if total:
        on = f"{jobs} process{'es' if jobs > 1 else ''}"
        rest = ", lines of unknown time not counted" if unknown else ""
        rest += ", by the clocks of other machines too" if elsewhere else ""
        lines.append(f"at most {sweep.duration(total / jobs)} on {on}{rest}; most runs stop earlier")
    return "\n".join(lines)


UNKNOWN = "time unknown: no record of such a run (--quick leaves one)"


def _spent(planned: Planned, found: Found) -> float:
    """Seconds that the runs of a line took, those that are done."""
    records = [one.record for one in found.of(planned).values() if one is not None and one.kind == "same"]
    return sum(record.time.total or 0.0 for record in records if record.done)


def epochs(task: Task) -> int:
    """The most epochs that a task can take; a nested fold has the trials of its search, too."""
    search = task.config.search
    return task.config.trainer.max_epochs * (len(task.seeds) + (search.trials if search else 0))


def epoch_text(epoch: Taken) -> str:
    """How long an epoch takes, and the machine whose records say so, where it is another."""
    return f"{time_text(epoch.seconds)} an epoch{f' on {epoch.machine}' if epoch.machine else ''}"


# --------------------------------------------------------------------------------------------------------- the results


def write_table(recipe: Recipe, planned: Sequence[Planned], conf: Folders, asked: Options) -> Path:
    """Print the table, and write it in every format; returns the Markdown file."""
    facts = published_table(recipe.paper, recipe.table)
    found = found_of(planned, asked.results)
    table = written(recipe, facts, compare(recipe, facts, planned, found, asked.quick), asked.quick)
    others = sum(found.of_other_code(one) for one in planned)
    stale = [f"{count(others, 'run')} of other versions of the code left out."] if others else []
    left_out = "".join(f"\n{said}\n" for said in [*stale, *Forgotten.read(asked.results).notes()])
    stem = asked.results / TABLES / table.name
    for format in FORMATS:
        text = table.written(format)
        write_text(stem.with_suffix(f".{format}"), text if format != "md" else text + left_out + notes(recipe, conf))
    print(table.written("md") + left_out)
    return stem.with_suffix(".md")


def notes(recipe: Recipe, conf: Folders) -> str:
    """What is done otherwise than in the paper, what that explains, and what is left out, as Markdown."""
    parts = []
    for experiment in recipe.experiments:
        items = "".join(f"- {item}\n" for item in deviations(conf, experiment)) or "- none\n"
        parts.append(f"\nDeviations of `experiment={experiment}`:\n\n{items}")
    if recipe.explained:
        items = "".join(f"- {item}\n" for item in recipe.explained)
        parts.append(f"\nOf the differences:\n\n{items}")
    if recipe.left_out:
        items = "".join(f"- {name}: {why}\n" for name, why in recipe.left_out.items())
        parts.append(f"\nLeft out:\n\n{items}")
    return "".join(parts)
