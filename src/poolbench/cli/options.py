"""What several commands take: a results folder, configuration folders, Hydra's words and options."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from poolbench.audit import ALLOW_LARGE, TRUST
from poolbench.cli.folders import VARIABLE, groups
from poolbench.errors import PoolBenchError, nearest

Function = Callable[..., Any]
PATH = click.Path(path_type=Path)
RESULTS = "POOLBENCH_RESULTS"


class Choice(click.Choice):
    """One of some words; the nearest is named for another."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value not in self.choices:
            self.fail(f"{value!r} is none of {', '.join(self.choices)}{nearest(str(value), self.choices)}", param, ctx)
        return value


class Word(click.ParamType):
    """KEY=VALUE, as it is; `pool=to` is completed by the names of the group."""

    name = "word"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from poolbench.cli.names import choices

        group, equals, start = incomplete.partition("=")
        if not equals:  # bash takes pool=to for three words, and wants the last one back
            before = [word for word in ctx.params.get(str(param.name)) or () if word != "="]
            group, start = str(before[-1] if before else ""), incomplete
        try:
            names = choices(group) if group in groups() else []
        except PoolBenchError:
            return []
        first, comma, last = start.rpartition(",")
        front = (f"{group}=" if equals else "") + first + comma
        return [CompletionItem(front + name) for name in names if name.lower().startswith(last.lower())]


_words = click.argument("words", nargs=-1, type=Word(), metavar="[GROUP=NAME | KEY=VALUE]...")
folder = click.argument("folder", type=PATH, envvar=RESULTS, default="results", metavar="[FOLDER]")


def results() -> Path:
    """The results folder where none is named."""
    return Path(os.environ.get(RESULTS) or "results")


def data_paths() -> dict[str, str | None]:
    """Where data is and comes from, as conf/paths has it."""
    return {"data": os.environ.get("POOLBENCH_DATA"), "mirror": os.environ.get("POOLBENCH_MIRROR")}


def _add_folders(ctx: click.Context, param: click.Parameter, value: tuple[Path, ...]) -> None:
    """Put folders into the variable that every part of PoolBench reads: in front, those of the line in their order."""
    listed: list[str] = ctx.meta.setdefault(VARIABLE, [os.environ.get(VARIABLE, "")])
    listed[-1:-1] = [str(path.absolute()) for path in value]
    if value:
        os.environ[VARIABLE] = os.pathsep.join(filter(None, listed))


config_dir = click.option(
    "-cd", "--config-dir", multiple=True, type=click.Path(exists=True, file_okay=False, path_type=Path),
    expose_value=False, callback=_add_folders, metavar="FOLDER",
    help=f"A folder laid out as conf/, with pools, datasets, experiments of your own. Of several the first that has a "
    f"name wins, then those that {VARIABLE} lists; PoolBench's own names stay its own.",
)  # fmt: skip


def trusting(function: Function) -> Function:
    """The options of a command that builds from records: what these may ask for (`trust`)."""
    for option in (
        click.option("--allow-large", is_flag=True, envvar=ALLOW_LARGE,
                     help="Also do what is above the limits of docs/security.md."),
        click.option("--trust", multiple=True, metavar="PACKAGE", envvar=TRUST,
                     help="A package whose classes a record may name: your own, or one whose code you know. It is "
                          "imported, and so its code runs. Repeatable."),
    ):  # fmt: skip
        function = option(function)
    return config_dir(function)


def trust(packages: Sequence[str], large: bool) -> Any:
    """What records may ask for, by those options and the configuration folders."""
    from poolbench.audit.registry import Registry
    from poolbench.audit.trust import Trust
    from poolbench.cli.folders import further

    return Trust(Registry.of(further()), tuple(packages), large)


def _keep(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    if value not in (None, False):
        ctx.meta.setdefault(FLAGS, []).extend([param.opts[-1], *([] if value is True else [value])])


def hydra_flags() -> list[str]:
    """The options of the line that are Hydra's, as they are."""
    return list(click.get_current_context().meta.get(FLAGS, []))


FLAGS = f"{__name__}.flags"
HYDRA: tuple[tuple[tuple[str, ...], dict[str, Any]], ...] = (
    (("-m", "--multirun"), {"is_flag": True, "help": "A sweep: a run for each combination of the values given."}),
    (("-c", "--cfg"), {"type": Choice(["job", "hydra", "all"]), "help": "Print the configuration, and stop."}),
    (("--resolve",), {"is_flag": True, "help": "With --cfg: with what its ${...} stand for."}),
    (("-p", "--package"), {"metavar": "KEY", "help": "With --cfg: this part alone, such as optimizer."}),
    (("-i", "--info"), {"is_flag": False, "flag_value": "all", "metavar": "[WHAT]",
                        "type": Choice(["all", "config", "defaults", "defaults-tree", "plugins", "searchpath"]),
                        "help": "Print where the configuration comes from, and stop."}),
    *((names, {"is_flag": True, "hidden": True}) for names in (
        ("-r", "--run"), ("--hydra-help",), ("--version",), ("-sc", "--shell-completion"))),
    *((names, {"hidden": True}) for names in (
        ("-cp", "--config-path"), ("-cn", "--config-name"))),
)  # fmt: skip


def composing(sweeps: bool = True) -> Callable[[Function], Function]:
    """The parameters of a command that composes a configuration: `words`, --config-dir, and Hydra's own options.

    Args:
        sweeps: whether the command does several runs with -m; else -m is refused where it is given, and not shown.
    """

    def decorate(function: Function) -> Function:
        for names, facts in reversed(HYDRA):
            all_facts = {**facts, "hidden": facts.get("hidden") or (names[0] == "-m" and not sweeps)}
            function = click.option(*names, **all_facts, expose_value=False, callback=_keep)(function)
        return _words(config_dir(function))

    return decorate


def search_words(given: Sequence[str]) -> tuple[int, list[str]]:
    """How many processes the words of a search ask for, and the words for Hydra."""
    workers, kept = 1, []
    for word in given:
        key, equals, value = word.partition("=")
        if key == "workers" and equals:
            if not value.isdigit() or not int(value):
                raise PoolBenchError(f"{word}: a whole number of at least 1 is expected")
            workers = int(value)
        else:
            kept.append(f"search.trials={value}" if key == "trials" and equals else word)
    return workers, kept if any(word.startswith("search=") for word in kept) else ["search=default", *kept]
