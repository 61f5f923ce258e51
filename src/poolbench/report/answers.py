"""Whether pooling beats no pooling on a dataset, in a sentence."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from poolbench.report.board import BASELINE, Column, Row
from poolbench.report.comparing import REGION, Pair, short
from poolbench.report.evidence import Evidence
from poolbench.report.table import p_number
from poolbench.statistics import LEVEL


def answers(evidence: Evidence, column: Column) -> list[str]:
    """Whether pooling beats no pooling on a dataset and how sure that is: a sentence for each baseline."""
    found = [
        (one.baseline, [pair for (row, where), pair in one.pairs.items() if where == column and not row.control])
        for one in evidence.compared
    ]
    found = [(baseline, pairs) for baseline, pairs in found if pairs]
    if not found:
        return [f"Cannot tell: there are no runs of a pooling operator and of {BASELINE} with the same settings."]
    return [(f"With {_described(row)}: " if len(found) > 1 else "") + _answer(pairs) for row, pairs in found]


def _described(row: Row) -> str:
    return f"the {row.model} model" + (f" ({row.options})" if row.options else "")


def _answer(found: Sequence[Pair]) -> str:
    by_verdict: dict[str, list[Pair]] = defaultdict(list)
    for pair in found:
        by_verdict[pair.verdict].append(pair)
    parts = [_proven(pair) for pair in [*by_verdict["better"], *by_verdict["worse"]]]
    same, undecided, few = by_verdict["equivalent"], by_verdict["undecided"], by_verdict["too few runs"]
    if same:
        parts.append(f"{_named(same)} {'is' if len(same) == 1 else 'are'} equivalent to {BASELINE}, within "
                     f"{short(REGION)} points")  # fmt: skip
    if undecided:
        parts.append(_undecided(undecided))
    for words in dict.fromkeys(pair.words for pair in few):
        parts.append(f"cannot tell for {_named([pair for pair in few if pair.words == words])} ({words})")
    head = "Yes" if by_verdict["better"] else "Not shown" if undecided else "No" if len(few) < len(found) else ""
    text = f"{head}: {'; '.join(parts)}." if head else f"{'; '.join(parts)}."
    return text[0].upper() + text[1:]


def _proven(pair: Pair) -> str:
    ends = pair.column.metric.between(pair.found.joint_low, pair.found.joint_high)
    verdict, _, size = pair.words.partition(" ")
    return (
        f"{pair.row.label} is {verdict} than {BASELINE} {size} ({LEVEL:.0%} interval {ends}, p "
        f"{_p(pair)}, {pair.counted})"
    )


def _p(pair: Pair) -> str:
    said = p_number(pair.found.p)
    return said if said.startswith("<") else f"= {said}"


def _undecided(found: Sequence[Pair]) -> str:
    """One clause for all settings that could not be told from no pooling."""
    closest = min(found, key=lambda pair: 1.0 if pair.found.p is None else pair.found.p)
    sizes = sorted(found, key=lambda pair: pair.found.joint_detectable or 0.0)
    least, most = sizes[0].shown, sizes[-1].shown
    which = "smallest " if len(found) > 1 else ""
    shown = most if least == most else f"{least.removesuffix(' points')} to {most}"
    return f"undecided for {_named(found)} ({which}p {_p(closest)}); {closest.counted} could have shown {shown}"


def _named(found: Sequence[Pair]) -> str:
    return ", ".join(pair.row.label for pair in found) if len(found) <= 6 else f"{len(found)} operators"
