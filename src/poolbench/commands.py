"""The console commands around a run: `tune`, `rerun`, `verify`, `wandb-sweep`, `sync`."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, open_dict

from poolbench import cli
from poolbench.config import plain
from poolbench.errors import PoolBenchError, nearest

# -- tune --------


def tune(argv: Sequence[str]) -> int:
    """Search hyper-parameters and write the best configuration as an experiment; returns the exit code."""
    try:
        workers, words = _tune_arguments(argv)
    except PoolBenchError as error:
        return cli._fail(str(error), error.exit_code, error)
    return cli._with_hydra(words, lambda config: _tune_job(config, workers))


def _tune_arguments(argv: Sequence[str]) -> tuple[int, list[str]]:
    """How many processes, and the words for Hydra."""
    workers, words = "1", []
    for word in argv:
        key, equals, value = word.partition("=")
        if key == "workers" and equals:
            workers = value
        else:
            words.append(f"search.trials={value}" if key == "trials" and equals else word)
    if not workers.isdigit() or not int(workers):
        raise PoolBenchError(f"workers={workers}: a whole number of at least 1 is expected")
    return int(workers), words if any(word.startswith("search=") for word in words) else ["search=default", *words]


def _tune_job(config: DictConfig, workers: int) -> float | None:
    from poolbench.jobs import tuning

    cli._speak()
    job = HydraConfig.get()
    run = cli.resolve(config)
    if run.search is None:
        raise PoolBenchError(f"poolbench tune needs a search; there are {', '.join(cli.choices('search'))}")
    values = tuning.set_values(config, job.runtime.choices, job.overrides.task)
    search, trials = tuning.tune(run, workers)
    print(tuning.summary(search, trials))
    name, text = tuning.experiment(search, trials, job.runtime.choices, values)
    folder, command = experiment_home(Path(run.paths.results))
    print(f"best: {tuning.write_experiment(folder, name, text)}\nrun it with: {command} experiment={name}")
    return search.best(trials).value


def experiment_home(results: Path) -> tuple[Path, str]:
    """Where experiments are written, and the command that finds them there: in conf/ of a checkout, else in results."""
    conf = cli.conf_dir()
    if (conf.parent / "train.py").is_file():
        return conf / "experiment", "python train.py"
    near = os.path.relpath(results / "conf")
    return results / "conf" / "experiment", f"poolbench train --config-dir {near}"


# -- verify and rerun --------


def verify(argv: Sequence[str]) -> int:
    """Check records: of a results folder, a file of lines, or one record.json; returns the exit code."""
    from poolbench.audit.verify import verify as check

    try:
        words, options = _arguments("verify", argv, flags=("--splits",))
        found = check(Path(words[0]) if words else _results(), "--splits" in options, _paths())
    except (PoolBenchError, OSError) as error:
        return cli._fail(*cli._verdict(error), error)
    print(found.written())
    return 1 if found.errors else 0


def rerun(argv: Sequence[str]) -> int:
    """Do a recorded run again and compare; returns the exit code."""
    from poolbench.audit import rerun as again
    from poolbench.records.equivalence import Links
    from poolbench.records.provenance import provenance

    try:
        words, options = _arguments("rerun", argv, values=("--out",), flags=("--command",))
        if not words:
            raise PoolBenchError("poolbench rerun: give a record.json or a run's id")
        cli.register_datasets()
        record = again.find(words[0], _results())
        said = again.command(record, _composed)
        print(f"command: {said or 'none of its own: it is a final run of a nested search, done from the record'}")
        if "--command" in options:
            return 0
        links = Links.read(_results())
        for line in again.differences(record, provenance(), links):
            print(line, flush=True)
        cli._speak()
        verdict = again.rerun(record, _paths(), Path(options["--out"]) if "--out" in options else None, links)
    except Exception as error:
        return cli._fail(*cli._verdict(error), error)
    print("\n".join(verdict.lines))
    return 0 if verdict.same else 1


def _results() -> Path:
    return Path(os.environ.get("POOLBENCH_RESULTS", "results"))


def _paths() -> dict[str, str | None]:
    """Where data is and comes from, as conf/paths has it."""
    return {"data": os.environ.get("POOLBENCH_DATA"), "mirror": os.environ.get("POOLBENCH_MIRROR")}


def _arguments(
    command: str, argv: Sequence[str], values: Sequence[str] = (), flags: Sequence[str] = ()
) -> tuple[list[str], dict[str, str]]:
    """At most one word, and the options with their values."""
    words: list[str] = []
    options: dict[str, str] = {}
    rest = iter(argv)
    for word in rest:
        name, equals, value = word.partition("=")
        if name in values:
            options[name] = value if equals else next(rest, "")
            if not options[name]:
                raise PoolBenchError(f"poolbench {command}: {name} wants a value")
        elif word in flags:
            options[word] = ""
        elif word.startswith("-") or words:
            hint = nearest(name, (*values, *flags))
            raise PoolBenchError(f"poolbench {command}: {word} is not understood{hint}; see poolbench --help")
        else:
            words.append(word)
    return words, options


def _composed(words: list[str]) -> dict[str, Any]:
    """The configuration that the words of a command line make, as a record holds it."""
    with hydra.initialize_config_dir(str(cli.conf_dir()), version_base="1.3"):
        config = hydra.compose("train", overrides=words)
    chosen = dict(word.split("=", 1) for word in words)
    with open_dict(config):
        config.names = {group: chosen.get(group) for group in cli.GROUPS.values()}
        config.names.pool = chosen.get("pool", "mincut")
    return plain(cli.resolve(config))


# -- W&B --------


def wandb_sweep(argv: Sequence[str]) -> int:
    """Print the file for `wandb sweep` that a search space makes; returns the exit code."""
    try:
        _, words = _tune_arguments(argv)
    except PoolBenchError as error:
        return cli._fail(str(error), error.exit_code, error)
    return cli._with_hydra(words, lambda config: _sweep_job(config, [w for w in argv if not w.startswith(SEARCHES)]))


#: Words of a command line that are the search's own.
SEARCHES = ("search=", "search.", "trials=", "workers=")


def _sweep_job(config: DictConfig, words: list[str]) -> None:
    from poolbench.jobs.search import dimensions
    from poolbench.jobs.tuning import check, monitored
    from poolbench.report.wandb_tools import sweep

    run = cli.resolve(config)
    if run.search is None:
        raise PoolBenchError(f"poolbench wandb-sweep needs a search; there are {', '.join(cli.choices('search'))}")
    print(sweep(run, dimensions(run), words, monitored(run, check(run))), end="")


def sync(argv: Sequence[str]) -> int:
    """Upload the W&B runs that were made offline; returns the exit code."""
    from poolbench.report.wandb_tools import sync as upload

    failed = False
    try:
        words, _ = _arguments("sync", argv)
        for worked, line in upload(Path(words[0]) if words else _results()):
            print(line, flush=True)
            failed |= not worked
    except PoolBenchError as error:
        return cli._fail(str(error), error.exit_code, error)
    return int(failed)


COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "tune": tune,
    "verify": verify,
    "rerun": rerun,
    "wandb-sweep": wandb_sweep,
    "sync": sync,
}
