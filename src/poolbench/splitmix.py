"""64-bit hashes of whole numbers by SplitMix64 (Steele, Lea & Flood, OOPSLA 2014), the same on every machine."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

_STEP = np.uint64(0x9E3779B97F4A7C15)
_SHIFTS = np.array([30, 27, 31], dtype=np.uint64)
_FACTORS = np.array([0xBF58476D1CE4E5B9, 0x94D049BB133111EB], dtype=np.uint64)


def scrambled(values: Array) -> Array:
    """uint64 of any shape, each a step on and finalised: a bijection. `values` stay as they are."""
    v = values + _STEP
    v ^= v >> _SHIFTS[0]
    v *= _FACTORS[0]
    v ^= v >> _SHIFTS[1]
    v *= _FACTORS[1]
    v ^= v >> _SHIFTS[2]
    return v


def hashed(*parts: Array | int) -> Array:
    """uint64 from whole numbers, 0 or more, or arrays of them that broadcast, each mixed in in turn; [1] of numbers."""
    state = np.zeros(1, dtype=np.uint64)
    for part in parts:
        state = scrambled(state ^ np.asarray(part).astype(np.uint64))
    return state


def mix(*numbers: int) -> int:
    """One seed below 2^63 from several whole numbers, so that (0, 1) and (1, 0) draw differently."""
    state = np.zeros(1, dtype=np.uint64)
    for number in numbers:
        state = scrambled(state + np.uint64(number & 0xFFFFFFFFFFFFFFFF))
    return int(state[0]) >> 1
