"""What the records of results folders say of a sweep before its first job: what is done, how long the rest takes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from poolbench.config import Config, plain
from poolbench.jobs.run import counts, identities
from poolbench.loading import resting
from poolbench.records.clock import Clock, kinds
from poolbench.records.equivalence import Links
from poolbench.records.gathered import Gist, found_records, home
from poolbench.records.record import Record
from poolbench.records.version import installed_code


@dataclass(frozen=True)
class Outlook:
    """What is known of jobs, by number. done: the runs of those that are. kinds: of each, the closest first. times: the
    seconds that a run of a kind takes."""

    done: Mapping[int, tuple[str, ...]]
    kinds: Mapping[int, tuple[str, ...]]
    times: Mapping[str, float]


def look(configs: Mapping[int, Config]) -> Outlook:
    """What records say of jobs, by number: those of the datasets that are swept are read, once.

    A job whose data was never prepared is not known to be done.
    """
    done: dict[int, tuple[str, ...]] = {}
    of_kinds: dict[int, tuple[str, ...]] = {}
    times: dict[str, float] = {}
    folders: dict[str, dict[int, Config]] = defaultdict(dict)
    for number, config in configs.items():
        folders[config.paths.results][number] = config
    for folder, here in folders.items():
        records = _of_datasets(Path(folder), here)
        links, clock = Links.read(Path(folder)), Clock(records)
        by_run: dict[str, list[Record]] = defaultdict(list)
        for record in records:
            if record.done:
                by_run[record.setting].append(record)
        for number, config in here.items():
            code, runs = installed_code(plain(config)), identities(config)
            if runs and all(any(counts(r, one, code, links) for r in by_run[id]) for one, id in runs):
                done[number] = tuple(id for _, id in runs)
            of_kinds[number] = kinds(config)
            for kind in of_kinds[number]:
                if kind not in times and (taken := clock.run(kind, config)):
                    times[kind] = taken.seconds
    return Outlook(done, of_kinds, times)


def _of_datasets(results: Path, configs: Mapping[int, Config]) -> list[Record]:
    names = {home(plain(config))[0] for config in configs.values()}

    def of_one(record: Gist | Record) -> bool:
        return home(record.config)[0] in names

    with resting():
        return found_records(results, wanted=of_one)
