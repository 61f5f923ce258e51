"""`poolbench rerun`: a recorded run once more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from poolbench.cli.options import PATH, data_paths, results, trust, trusting


@click.command
@click.argument("what", metavar="RECORD|ID")
@click.option("--out", type=PATH, metavar="FOLDER", help="Keep the new record in this results folder.")
@click.option("--command", "only_say", is_flag=True, help="Only print the command that means the same run.")
@trusting
def command(what: str, out: Path | None, only_say: bool, allow_large: bool, **asked: Any) -> int:
    """Do the run of a record.json, or of an ID in the results folder, again and compare. Exit code 1 where they differ.

    Every number is compared bit by bit where code, packages and machine are the same, else the metrics within 0.03.

    \b
    Examples:
      poolbench rerun results/runs/0123456789abcdef/1/record.json
      poolbench rerun 0123456789abcdef --command
    """
    from poolbench.audit import rerun
    from poolbench.cli.folders import words as folder_words
    from poolbench.cli.terminal import speak
    from poolbench.errors import printable
    from poolbench.records.equivalence import Links
    from poolbench.records.provenance import provenance

    record = rerun.find(what, results())
    trusted = trust(asked["trust"], allow_large)
    trusted.check(record.config)
    said = rerun.command(record, _composed, folder_words())
    said = said or "none of its own: it is a final run of a nested search, done from the record"
    print(f"command: {printable(said)}")
    if only_say:
        return 0
    links = Links.read(results())
    for line in rerun.differences(record, provenance(), links):
        print(printable(line), flush=True)
    speak()
    verdict = rerun.rerun(record, data_paths(), out, links, trusted)
    print("\n".join(map(printable, verdict.lines)))
    return 0 if verdict.same else 1


def _composed(words: list[str]) -> dict[str, Any]:
    """The configuration that the words of a command line make, as a record holds it."""
    from poolbench.cli.door import composed, resolve
    from poolbench.config import plain

    return plain(resolve(composed(words)))
