"""What a run leaves behind."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from poolbench.records.record import Outcomes

Row = dict[str, float]


@dataclass
class Outcome:
    """What a run measured."""

    task: str | None = None
    metrics: dict[str, Row] = field(default_factory=dict)
    selected_epoch: int | None = None
    curve: list[Row] = field(default_factory=list)
    losses: Row = field(default_factory=dict)
    diagnostics: dict[str, Any] = field(default_factory=dict)
    time: dict[str, float | None] = field(default_factory=dict)
    memory_peak: int | None = None
    parameters: int | None = None
    #: What was predicted for each test graph (node).
    outcomes: Outcomes | None = None
    #: The weights of the selected epoch, on the host.
    weights: dict[str, torch.Tensor] = field(default_factory=dict)
