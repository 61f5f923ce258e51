"""What runs show, and what they cannot: `runs` by scores, `graphs` by single answers, `datasets` beyond one set."""

from poolbench.statistics.runs import (
    LEVEL,
    MARGIN,
    POWER,
    Comparison,
    Estimate,
    Ranking,
    Scores,
    compare,
    critical_difference,
    detectable_difference,
    estimate,
    hotelling,
    hotelling_threshold,
    rank,
    standard_error,
    told_apart,
)

__all__ = [
    "LEVEL",
    "MARGIN",
    "POWER",
    "Comparison",
    "Estimate",
    "Ranking",
    "Scores",
    "compare",
    "critical_difference",
    "detectable_difference",
    "estimate",
    "hotelling",
    "hotelling_threshold",
    "rank",
    "standard_error",
    "told_apart",
]
