"""`poolbench submit`: records of an operator for a repository of results."""

from __future__ import annotations

from pathlib import Path

import click

from poolbench.cli.options import PATH, data_paths, results


@click.command
@click.argument("words", nargs=-1, metavar="[FOLDER] [KEY=VALUE,...]...")
@click.option("--out", type=PATH, metavar="REPOSITORY", help="The clone of the repository of results to write into.")
@click.option("--name", help="What the submission is called: the folder submissions/NAME.")
@click.option(
    "--code",
    metavar="URL@COMMIT",
    help="Where the operator's code lies, as https://HOST/PATH@COMMIT; with --init that of PoolBench.",
)
@click.option("--authors", metavar="NAMES", help="Whose it is, with commas between the names.")
@click.option("--licence", metavar="SPDX", help="Of the code, such as MIT.")
@click.option(
    "--init",
    type=PATH,
    metavar="REPOSITORY",
    help="Begin a repository of results: write its rules, and the workflow that checks submissions.",
)
def command(
    words: tuple[str, ...], out: Path | None, name: str | None, code: str | None, authors: str | None,
    licence: str | None, init: Path | None,
) -> None:  # fmt: skip
    """Pack the records of one operator for a repository of results: all, or those with one of the VALUEs for each KEY.

    They are checked as by verify --splits --strict, and stripped of names of machines, users, folders and accounts.

    \b
    Examples:
      poolbench submit --init repo --code https://example.org/poolbench@COMMIT
      poolbench submit pool=mine --out repo --name mine --code URL@COMMIT --authors "A. Author" --licence MIT
    """
    from poolbench.audit import submit

    folders = [word for word in words if "=" not in word]
    given = {"--out": out, "--name": name, "--authors": authors, "--licence": licence}
    if len(folders) > 1:
        raise click.UsageError(f"{folders[1]}: give one folder; what is asked for is written KEY=VALUE")
    if init is not None:
        if words or any(value is not None for value in given.values()) or code is None:
            raise click.UsageError("--init goes with --code URL@COMMIT, of PoolBench, and with nothing else")
        print(f"wrote {', '.join(map(str, submit.begin(init, code)))}")
        return
    lacks = [option for option, value in {**given, "--code": code}.items() if not value]
    if out is None or not authors or lacks:
        raise click.UsageError(f"{lacks[0]} is missing")
    from poolbench.cli.names import canonical

    metadata = {"name": name, "code": code, "licence": licence,
                "authors": [author.strip() for author in authors.split(",")]}  # fmt: skip
    folder, notes = submit.pack(
        Path(folders[0]) if folders else results(), [canonical(word) for word in words if "=" in word], out, metadata,
        data_paths(),
    )  # fmt: skip
    for note in notes:
        print(f"note: {note}")
    print(f"wrote {folder}; to check it as others will: poolbench verify --submission {folder}")
