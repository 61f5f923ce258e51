"""`poolbench report`: tables, figures and a page from records."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from poolbench.cli.options import PATH, Choice, results


@click.command
@click.argument("words", nargs=-1, metavar="[FOLDER] [KEY=VALUE,...]...")
@click.option("--format", "format_", type=Choice(["md", "tex", "csv"]), help="How tables are printed; md by default.")
@click.option("--out", type=PATH, metavar="FOLDER", help="Write tables, figures and a page (index.html) there.")
@click.option("--all-code", is_flag=True, help="Show other versions of the code too, marked.")
@click.option("--gather", is_flag=True, help="Also add the records to those in records/ of the results folder.")
@click.option("--wandb", is_flag=True, help="Also keep the tables as a W&B run, which poolbench sync uploads.")
def command(
    words: tuple[str, ...], format_: str | None, out: Path | None, all_code: bool, gather: bool, wandb: bool
) -> None:
    """Print the tables of a results folder's records, of all or of those that have one of the VALUEs for each KEY.

    KEY is a group, a dotted name of the configuration, or status, id, task or code.

    \b
    Examples:
      poolbench report
      poolbench report dataset=PROTEINS pool=mincut,topk --format csv
      poolbench report results --gather --out page
    """
    folders = [word for word in words if "=" not in word]
    if len(folders) > 1:
        raise click.UsageError(f"{folders[1]}: give one folder; what is asked for is written KEY=VALUE")
    if out and format_:
        raise click.UsageError("--out writes every format: leave --format out")
    from poolbench.cli.names import canonical
    from poolbench.records import gathered
    from poolbench.report import report as reports

    folder = Path(folders[0]) if folders else results()
    if gather:
        gathered.add(gathered.gather(folder), folder)
    query = [canonical(word) for word in words if "=" in word]
    made = reports.of_folder(folder, query, all_code, curves=out is not None)
    if out:
        from poolbench.report.writing import write_report

        print(f"wrote {write_report(made, folder, out, gather)[-1]}")
    else:
        print(made.written(format_ or "md"), end="")
    if wandb:
        from poolbench.report.wandb_tools import log_report

        print(f"W&B: {log_report(made, folder)}; to upload it: poolbench sync {folder}", file=sys.stderr)
