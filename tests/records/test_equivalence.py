"""The file of links: what counts, and what is found of a hand that was at it."""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec
import pytest

from poolbench.errors import PoolBenchError
from poolbench.records.equivalence import EQUIVALENCE, Covered, Kind, Link, Links, Witness, append

COVERS = Covered(pool="poolbench.pool.topk.TopKPool", model="m.M", protocol="p.P")


def link(old: str, new: str, kind: Kind = "same") -> Link:
    witness = Witness(id="0" * 16, dataset="MUTAG", epochs=5, end=False)
    return Link(old=old, new=new, kind=kind, covers=COVERS, witnesses=(witness,), machine="m", date="2026-01-01")


def test_what_was_added_is_read(tmp_path: Path) -> None:
    added = [link("a", "b"), link("b", "c", "close")]
    for one in added:
        append(tmp_path, one)
    links = Links.read(tmp_path)
    assert links.broken is None and [msgspec.structs.replace(one, seal="") for one in links.links] == added
    assert links.between(COVERS, "a", "c") == "close"


def test_no_file_no_links(tmp_path: Path) -> None:
    assert Links.read(tmp_path).links == () and Links.read(tmp_path).broken is None


@pytest.mark.parametrize(
    ("change", "line", "left"),
    [
        (lambda lines: [lines[0].replace(b"MUTAG", b"NCI1"), *lines[1:]], 1, 0),
        (lambda lines: [lines[0], lines[1].replace(b'"same"', b'"close"'), lines[2]], 2, 1),
        (lambda lines: [lines[0], lines[2]], 2, 1),
        (lambda lines: [lines[1], lines[0], lines[2]], 1, 0),
        (lambda lines: [*lines, lines[2]], 4, 3),
        (lambda lines: [*lines[:2], lines[2][:-20]], 3, 2),
        (lambda lines: [*lines[:2], b"", lines[2]], 3, 2),
        (lambda lines: [lines[0], b"\xff", *lines[1:]], 2, 1),
        (lambda lines: [lines[0], b"{}"], 2, 1),
    ],
    ids=["edited", "kind", "removed", "swapped", "twice", "cut", "blank", "bytes", "another"],
)
def test_a_line_that_was_changed_is_named_and_ends_what_counts(
    tmp_path: Path, change, line: int, left: int, caplog: pytest.LogCaptureFixture
) -> None:
    for old in "abc":
        append(tmp_path, link(old, "x"))
    path = tmp_path / EQUIVALENCE
    path.write_bytes(b"\n".join(change(path.read_bytes().splitlines())) + b"\n")
    with caplog.at_level(logging.ERROR):
        links = Links.read(tmp_path)
    (said,) = caplog.messages
    assert f"{path}, line {line}: " in said and "\n" not in said
    assert [one.old for one in links.links] == list("abc")[:left]
    before = path.read_bytes()
    with pytest.raises(PoolBenchError, match=f"line {line}"):
        append(tmp_path, link("d", "x"))
    assert path.read_bytes() == before


def test_lines_are_only_ever_added(tmp_path: Path) -> None:
    append(tmp_path, link("a", "x"))
    before = (tmp_path / EQUIVALENCE).read_bytes()
    append(tmp_path, link("b", "x"))
    assert (tmp_path / EQUIVALENCE).read_bytes().startswith(before)
