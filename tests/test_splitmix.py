"""Hashes of whole numbers: known values, which decide what seeds draw, and what they depend on."""

from __future__ import annotations

import numpy as np

from poolbench.splitmix import hashed, mix, scrambled

#: The first outputs of SplitMix64 from some states: the published generator's test values.
KNOWN = {0: 0xE220A8397B1DCDAF, 1234567: 6457827717110365317}


def test_it_is_splitmix64() -> None:
    states = np.array(list(KNOWN), dtype=np.uint64)
    assert scrambled(states).tolist() == list(KNOWN.values())
    assert states.tolist() == list(KNOWN), "what is hashed stays"
    assert [mix(state) for state in KNOWN] == [value >> 1 for value in KNOWN.values()]


def test_what_seeds_draw_stays_as_it_is() -> None:
    """Records and perturbed graphs are drawn by these: not one bit may change."""
    assert (mix(), mix(3, -1, 2**70 + 5)) == (0, 3547147966872009766)
    assert hashed(7, np.arange(3), 5).tolist() == [1293217547870288028, 17284964541414992229, 8699863324141622855]


def test_seeds_do_not_collide() -> None:
    assert len({mix(a, b) for a in range(30) for b in range(30)}) == 900
    assert mix(0, 1) != mix(1, 0)
    assert all(0 <= mix(a, -1) < 2**63 for a in range(5))
