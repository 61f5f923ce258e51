"""`poolbench report`: tables, figures and a page from records."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from poolbench.cli.options import PATH, Choice, results

if TYPE_CHECKING:
    from poolbench.report.report import Report


@click.command
@click.argument("words", nargs=-1, metavar="[FOLDER] [KEY=VALUE,...]...")
@click.option("--format", "format_", type=Choice(["md", "tex", "csv"]), help="How tables are printed; md by default.")
@click.option(
    "--out",
    type=PATH,
    metavar="FOLDER",
    help="Write tables, figures and a page (index.html) there; with one of the three reports below, its tables and "
    "figures alone.",
)
@click.option("--all-code", is_flag=True, help="Show other versions of the code too, marked.")
@click.option("--gather", is_flag=True, help="Also add the records to those in records/ of the results folder.")
@click.option(
    "--separability",
    is_flag=True,
    help="Show what the answers depend on, structure or features: runs with perturb=graph and perturb=features "
    "against those without.",
)
@click.option(
    "--curve",
    metavar="KEY",
    help="Show scores by a number of the configuration, such as dataset.mu, pool.ratio, perturb.share.",
)
@click.option(
    "--against",
    metavar="OPERATOR",
    help="Compare every operator with this one, graph by graph: differences, intervals and what they decide.",
)
@click.option("--wandb", is_flag=True, help="Also keep the tables as a W&B run, which poolbench sync uploads.")
def command(
    words: tuple[str, ...], format_: str | None, out: Path | None, all_code: bool, gather: bool, separability: bool,
    curve: str | None, against: str | None, wandb: bool,
) -> None:  # fmt: skip
    """Print the tables of a results folder's records, of all or of those that have one of the VALUEs for each KEY.

    KEY is a group, a dotted name of the configuration, or status, id, task or code.

    \b
    Examples:
      poolbench report
      poolbench report dataset=PROTEINS pool=mincut,topk --format csv
      poolbench report results --gather --out page
      poolbench report --separability dataset=MUTAG
      poolbench report --curve pool.ratio --out curves
      poolbench report --against topk dataset=PROTEINS
    """
    folders = [word for word in words if "=" not in word]
    if len(folders) > 1:
        raise click.UsageError(f"{folders[1]}: give one folder; what is asked for is written KEY=VALUE")
    if out and format_:
        raise click.UsageError("--out writes every format: leave --format out")
    parts = [name for name, given in (("--separability", separability), ("--curve", curve is not None),
                                      ("--against", against is not None)) if given]  # fmt: skip
    if wandb and parts:
        raise click.UsageError(f"--wandb takes the tables of all runs: leave {parts[0]} out")
    if len(parts) > 1:
        raise click.UsageError(f"{' and '.join(parts)} are reports of their own: give one of them")
    from poolbench.cli.names import canonical
    from poolbench.loading import resting
    from poolbench.records import gathered
    from poolbench.report import report as reports

    folder = Path(folders[0]) if folders else results()
    if gather:
        gathered.add(gathered.gather(folder), folder)
    query = [canonical(word) for word in words if "=" in word]
    with resting(last=True):
        made = reports.of_folder(folder, query, all_code, curves=out is not None and not parts)
        if parts:
            _one(made, curve, against, format_ or "md", out)
        elif out:
            from poolbench.report.writing import write_report

            print(f"wrote {write_report(made, folder, out, gather)[-1]}")
        else:
            print(made.written(format_ or "md"), end="")
        if wandb:
            from poolbench.report.wandb_tools import log_report

            print(f"W&B: {log_report(made, folder)}; to upload it: poolbench sync {folder}", file=sys.stderr)


def _one(made: Report, curve: str | None, against: str | None, format: str, out: Path | None) -> None:
    """Comparisons with an operator, the curves of a key, or else what answers depend on: printed, or written."""
    from poolbench.report import against as comparisons
    from poolbench.report import comparing, dial, separability
    from poolbench.report.table import document
    from poolbench.report.writing import write_parts

    if against is not None:
        tables, figures = comparisons.tables(comparing.all_compared(made.boards, against)), []
    elif curve is None:
        found = separability.questions(made.boards)
        tables, figures = [separability.table(found)], separability.figures(found)
    else:
        sheets = dial.sheets(made.boards, curve)
        tables, figures = dial.tables(sheets), dial.figures(sheets)
    if out:
        print(f"wrote {', '.join(map(str, write_parts(tables, figures, out)))}")
    else:
        print(document(tables, made.notes, format), end="")
