"""The group of all commands, and how a command ends: in an exit code, and an error in one line."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

import click
from click.shell_completion import CompletionItem, shell_complete

from poolbench import __version__
from poolbench.cli.folders import VARIABLE
from poolbench.cli.options import config_dir
from poolbench.cli.table import COMMANDS
from poolbench.cli.terminal import fail, lossy_output, not_installed
from poolbench.errors import PoolBenchError, nearest

NAME, COMPLETE = "poolbench", "_POOLBENCH_COMPLETE"


class Commands(click.Group):
    """The commands of the table; the module of one is imported when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"poolbench.cli.commands.{cmd_name.replace('-', '_')}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        split = ctx.resilient_parsing and args[1:2] == ["="]  # bash completes pool=to as three words
        if name not in COMMANDS and ("=" in name or name.startswith("-") or split):  # pool=mincut: train pool=mincut
            return "train", self.get_command(ctx, "train"), args
        if name not in COMMANDS and not ctx.resilient_parsing:
            raise PoolBenchError(f"{NAME} has no command {name!r}{nearest(name, COMMANDS, 1)}; see {NAME} --help")
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Commands, and the words of `train`, which stands where no command does."""
        commands = super().shell_complete(ctx, incomplete)
        if commands or incomplete.startswith("-"):
            return commands
        train = self.get_command(ctx, "train")
        assert train is not None
        words = next(param for param in train.params if param.name == "words")
        return words.shell_complete(ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(
    NAME, cls=Commands, context_settings={
        "help_option_names": ["-h", "--help"], "max_content_width": 100, "ignore_unknown_options": True,
    },
)  # fmt: skip
@click.version_option(__version__, message="poolbench %(version)s")
@config_dir
def commands() -> None:
    """The benchmark for graph pooling: train operators, search, keep records, make tables of them.

    \b
    Examples:
      poolbench pool=mincut dataset=PROTEINS
      poolbench list pools
      poolbench COMMAND --help
    """


def run(argv: list[str]) -> int:
    """Carry out a command line; returns the exit code."""
    with lossy_output():
        return _run(argv)


def _run(argv: list[str]) -> int:
    with _surroundings():
        try:
            if asked := os.environ.get(COMPLETE):
                return shell_complete(commands, {}, NAME, COMPLETE, asked)
            with commands.make_context(NAME, ["--help"] if argv in ([], ["help"]) else argv) as ctx:
                return int(commands.invoke(ctx) or 0)
        except click.exceptions.Exit as end:  # --help, --version
            return end.exit_code
        except click.UsageError as error:
            return fail(_usage(error), 2, error)
        except KeyboardInterrupt:
            return fail("interrupted; runs go on from where they were when the same command is given again", 130)
        except ModuleNotFoundError as error:
            return fail(not_installed(error), 2, error)
        except PoolBenchError as error:
            return fail(str(error), error.exit_code, error)
        except Exception as error:
            from poolbench.jobs.sweep import explain

            return fail(explain(error), 1, error)
        except SystemExit as end:  # of Hydra's --hydra-help and the like
            return int(end.code or 0)


@contextmanager
def _surroundings() -> Iterator[None]:
    """What a command adds to the folders is its own. Code in the current folder can be imported, after all others."""
    folders, path = os.environ.get(VARIABLE), list(sys.path)
    sys.path.append(os.getcwd())
    try:
        yield
    finally:
        sys.path[:] = path
        os.environ.pop(VARIABLE, None)
        if folders is not None:
            os.environ[VARIABLE] = folders


def _usage(error: click.UsageError) -> str:
    """What click says of a command line, as PoolBench does."""
    ctx = error.ctx
    path = ctx.command_path if ctx else NAME
    if isinstance(error, click.NoSuchOption):
        params = ctx.command.get_params(ctx) if ctx else []
        near = nearest(error.option_name, [option for param in params for option in param.opts], 1)
        if error.option_name in ("--config-dir", "-cd") and ctx and ctx.command_path != NAME:
            near = ": it composes no configuration (POOLBENCH_CONFIG is for all commands, PYTHONPATH for your code)"
        elif not near and any(param.name == "words" for param in params):
            near = " (values are set as KEY=VALUE, without dashes)"
        return f"{path} has no option {error.option_name}{near}; see {path} --help"
    said = error.format_message().rstrip(".")
    return f"{path}: {said[:1].lower()}{said[1:]}; see {path} --help"
