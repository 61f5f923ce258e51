"""Links of versions of the code: what they cover, how they chain, and that the weaker kind stays weaker."""

from __future__ import annotations

from collections.abc import Callable

from poolbench.records.equivalence import Covered, Kind, Link, Links
from poolbench.records.record import Record

COVERS = Covered(pool="p", model="m", protocol="q")


def link(old: str, new: str, kind: Kind = "same", covers: Covered = COVERS) -> Link:
    return Link(old=old, new=new, kind=kind, covers=covers, witnesses=(), machine="any", date="2026-01-01")


def test_links_are_followed_in_both_directions() -> None:
    links = Links([link("a", "b"), link("c", "b"), link("x", "y")])
    for one in "abc":
        for other in "abc":
            assert links.between(COVERS, one, other) == "same"
        assert links.between(COVERS, one, "x") is None and links.least(COVERS, one) == "a"
    assert links.between(COVERS, "z", "z") == "same" and links.least(COVERS, "z") == "z"
    assert links.between(COVERS, None, "a") is None and links.between(COVERS, None, None) is None


def test_a_way_over_a_close_link_is_close() -> None:
    links = Links([link("a", "b"), link("b", "c", "close"), link("c", "d")])
    assert links.between(COVERS, "a", "d") == "close" and links.between(COVERS, "c", "d") == "same"
    assert links.least(COVERS, "d") == "a" and links.least(COVERS, "d", "same") == "c"
    both = Links([link("a", "b", "close"), link("a", "c"), link("c", "b")])
    assert both.between(COVERS, "a", "b") == "same", "another way shows more"


def test_a_link_holds_for_what_it_covers_alone() -> None:
    other = Covered(pool="other", model="m", protocol="q")
    assert Links([link("a", "b")]).between(other, "a", "b") is None


def test_what_moved_is_covered_as_before(record: Callable[..., Record]) -> None:
    made = record(0, 0.7, code="old", pool_x=1)
    made.config["pool"]["_target_"] = "poolbench.pool.readouts.sortpool.SortPool"
    covers = Covered.of(made.config)
    assert covers.pool == "poolbench.pool.sortpool.SortPool"
    links = Links([link("old", "new", covers=covers)])
    assert links.of(made, "new") == "same" and links.of(made, "old") == "same" and links.of(made, "newer") is None
