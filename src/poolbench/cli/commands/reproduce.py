"""`poolbench reproduce`: published tables and ours side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from poolbench.cli.options import PATH, RESULTS, Word, config_dir
from poolbench.errors import PoolBenchError

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from poolbench.config import Config
    from poolbench.papers.recipe import Compose


@click.command
@click.argument("words", nargs=-1, type=Word(), metavar="[PAPER/TABLE] [KEY=VALUE]...")
@click.option("--list", "list_", is_flag=True, help="Print the tables that there are recipes for.")
@click.option("--summary", is_flag=True, help="Write tables/SUMMARY.md from the tables that are there.")
@click.option("--plan", is_flag=True, help="Print the runs and about how long they take, and stop.")
@click.option("--table", is_flag=True, help="Run nothing: the table of the records that are there.")
@click.option("--quick", is_flag=True, help="Few seeds and epochs: to see that it works, marked so.")
@click.option("--seeds", type=click.IntRange(min=1), metavar="N", help="How many seeds, in place of the paper's.")
@click.option(
    "--jobs", type=click.IntRange(min=1), default=1, metavar="N", help="Processes on this machine, 1 by default."
)
@click.option("--only", multiple=True, metavar="NAME", help="Runs of this method, dataset or variant; twice: of both.")
@click.option("--results", type=PATH, envvar=RESULTS, default="results", metavar="FOLDER", help="The results folder.")
@config_dir
def command(words: tuple[str, ...], list_: bool, summary: bool, results: Path, **asked: Any) -> int:
    """Do the runs of a published table and set published and reproduced numbers side by side.

    What is done is not done again. KEY=VALUE says where and how to run, such as trainer=gpu or logger=wandb.

    \b
    Examples:
      poolbench reproduce --list
      poolbench reproduce bianchi2020_mincut/clustering --plan
      poolbench reproduce hansen2023_tvgnn/classification --only MUTAG --jobs 2
    """
    names = [word for word in words if "=" not in word]
    if len(names) > 1 or bool(names) == (list_ or summary):
        raise click.UsageError("give one PAPER/TABLE, or --list, or --summary")
    from poolbench.cli.folders import conf_dir, further
    from poolbench.papers import recipe, reproduce
    from poolbench.papers.summary import write_summary

    conf = [conf_dir(), *further()]
    if list_:
        known = recipe.recipes(conf)
        width = max(map(len, known))
        print("\n".join(f"{name:<{width}}  {recipe.about(conf, name)}" for name in known))
        return 0
    if summary:
        print(f"wrote {write_summary(results, conf)}")
        return 0
    extra = tuple(word for word in words if "=" in word)
    only = tuple(asked.pop("only"))
    return reproduce.reproduce(reproduce.Options(names[0], results, extra=extra, only=only, **asked), conf, composer())


def composer() -> Compose:
    """Makes the configurations of a recipe's command lines, one for each seed.

    It raises `PoolBenchError` for a command line that does not compose.
    """
    from poolbench.cli.composing import Composer
    from poolbench.cli.door import composed

    common = Composer()

    def compose(words: Sequence[str], seeds: Sequence[int]) -> list[Config]:
        try:
            return for_seeds(composed(words, common), seeds)
        except PoolBenchError as error:
            raise PoolBenchError(f"{' '.join(words)}: {error}") from error

    return compose


def for_seeds(config: DictConfig, seeds: Sequence[int]) -> list[Config]:
    """A configuration that Hydra composed, resolved for each seed. Raises `PoolBenchError`."""
    from omegaconf import OmegaConf

    from poolbench.cli.door import resolve
    from poolbench.config import Split, replace

    hanging = list(_of_seed(OmegaConf.to_container(config, resolve=False)))
    if hanging == [("split", "seed", "${seed}")]:  # nothing else, and so the rest is resolved once
        first = resolve(config)
        return [replace(first, seed=seed, split=Split(seed)) for seed in seeds]
    made = []
    for seed in seeds:
        config.seed = seed
        made.append(resolve(config))
    return made


def _of_seed(node: Any, *path: str) -> Iterator[tuple[str, ...]]:
    """The values that may hang on the seed, each behind the keys that lead to it."""
    if isinstance(node, dict | list):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            yield from _of_seed(value, *path, str(key))
    elif isinstance(node, str) and "${" in node and "seed" in node:
        yield *path, node
