"""Files of strangers, changed at random: whatever stands in them, a line is said of it and the rest is read."""

from __future__ import annotations

import copy
import json
import logging
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from configs import QUICK, results_in
from poolbench import cli
from poolbench.audit.trust import Trust
from poolbench.audit.verify import verify
from poolbench.errors import PoolBenchError
from poolbench.jobs import sweep
from poolbench.records.equivalence import EQUIVALENCE, Covered, Link, Links, append
from poolbench.records.record import decode
from poolbench.report.report import of_folder
from poolbench.report.table import FORMATS
from poolbench.report.writing import write_report

FEW, MANY = 150, 2000
QUIET = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]

Json = Any


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A results folder with four runs, and a link."""
    with results_in(tmp_path_factory.mktemp("made")) as folder:
        assert cli.train(["-m", "pool=mincut,none", "seed=0,1", "hydra/launcher=inprocess", *QUICK]) == 0
    yield folder


@pytest.fixture(scope="module")
def records(made: Path) -> list[Json]:
    return [json.loads(path.read_text()) for path in sorted(made.glob("runs/*/1/record.json"))]


ODD = st.one_of(
    st.sampled_from([None, True, False, -1, 0, 1, 2**63, 10**30, 10**400, -(10**400), 0.5, -0.5, 1e308, 1e-320, "NaN",
                     "Infinity", "", " ", "../../x", "=1+1", "<script>", "\x1b[31m", "\ud800", "a\nb|c", "\u202e",
                     "x" * 5000, "²", [], {}, [[]], {"_target_": "os.system"}, {"": None}, [None], {"name": []},
                     {"_target_": None}, {"_target_": ["a"]}]),
    st.floats(), st.text(max_size=5), st.integers(),
    st.recursive(st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=3),
                 lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
                 max_leaves=4),
)  # fmt: skip


def places(node: Json, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all values below a value."""
    for key, inner in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        yield (*path, key)
        yield from places(inner, (*path, key))


@st.composite
def changed(draw: st.DrawFn, value: Json) -> bytes:
    """A JSON text with some of its values put, added or left out, or with some of its bytes cut off or put."""
    value = copy.deepcopy(value)
    for _ in range(draw(st.integers(1, 3))):
        known = list(places(value))
        if not known:
            break
        *path, last = draw(st.sampled_from(known))
        node = value
        for key in path:
            node = node[key]
        how = draw(st.sampled_from(["put", "put", "put", "leave out", "add"]))
        if how == "leave out":
            del node[last]
        elif how == "add" and isinstance(node, dict):
            node[draw(st.sampled_from(["_target_", "paths", "x", "names"]))] = copy.deepcopy(draw(ODD))
        else:
            node[last] = copy.deepcopy(draw(ODD))
    text = json.dumps(value, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")
    kind = draw(st.sampled_from(["as it is", "as it is", "as it is", "cut", "bytes", "deep"]))
    at = draw(st.integers(0, len(text)))
    if kind == "cut":
        return text[:at]
    if kind == "bytes":
        return text[:at] + draw(st.binary(max_size=3).filter(lambda b: b"\n" not in b)) + text[at:]
    if kind == "deep":
        return b'{"a":' * 3000 + text + b"}" * 3000
    return text


def judged(path: Path, **asked: Any) -> list[str]:
    """The errors that verify names, a line each; what is no records at all is one."""
    try:
        found = verify(path, **asked)
    except PoolBenchError as error:
        return [str(error)]
    assert all(line.isprintable() for line in found.written().split("\n"))
    return found.errors


def check_record(data: st.DataObject, records: list[Json]) -> None:
    text = data.draw(changed(data.draw(st.sampled_from(records))))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "record.json"
        path.write_bytes(text)
        judged(path)
        try:
            record = decode(text)
        except ValueError as error:
            assert "\n" not in str(error)
            return
        try:
            Trust().check(record.config)
        except PoolBenchError as error:
            assert "\n" not in str(error)


def check_folder(data: st.DataObject, records: list[Json], whole: bool = False) -> None:
    """A file of gathered records of which one was changed: the others are reported."""
    lines = [json.dumps({**record, "curve": []}).encode() for record in records]
    bad = data.draw(changed({**records[1], "curve": []}))
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder)
        (results / "records" / "planted").mkdir(parents=True)
        (results / "records" / "planted" / "holdout.jsonl").write_bytes(b"\n".join([bad, *lines, b""]))
        judged(results)
        made = of_folder(results)
        assert all(note.isprintable() for note in made.notes)
        for format in FORMATS:
            made.written(format).encode()
        assert {row.pool for board in made.boards for row in board.rows} >= {"mincut", "none"}
        if whole:
            write_report(made, results, results / "out")


def check_links(data: st.DataObject, records: list[Json]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder)
        path = results / EQUIVALENCE
        for old in "ab":
            append(results, Link(old=old * 16, new="c" * 16, kind="same", covers=Covered.of(records[0]["config"]),
                                 witnesses=(), machine="m", date="2026-01-01"))  # fmt: skip
        first, second = path.read_bytes().splitlines()
        bad = data.draw(changed(json.loads(first)))
        path.write_bytes(bad + b"\n" + second + b"\n")
        found = Links.read(results)
        assert found.broken is not None or bad == first
        assert found.broken is None or "\n" not in found.broken


def check_sweep(data: st.DataObject, books: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "sweeps" / "one"
        shutil.copytree(books, place)
        path = data.draw(st.sampled_from(sorted(place.rglob("*.json"))))
        path.write_bytes(data.draw(changed(json.loads(path.read_text()))))
        try:
            said = sweep.report(sweep.read(sweep.find(Path(folder))))
        except PoolBenchError as error:
            said = str(error)
        said.encode()
        assert all(line.isprintable() for line in said.split("\n"))


@pytest.fixture
def books(made: Path) -> Path:
    (folder,) = (made / "sweeps").iterdir()
    return folder


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logging.disable(logging.ERROR)
    yield
    logging.disable(logging.NOTSET)


@settings(max_examples=FEW, deadline=None, suppress_health_check=QUIET)
@given(st.data())
def test_a_record(records: list[Json], data: st.DataObject) -> None:
    check_record(data, records)


@settings(max_examples=FEW // 5, deadline=None, suppress_health_check=QUIET)
@given(st.data())
def test_a_file_of_records(records: list[Json], data: st.DataObject) -> None:
    check_folder(data, records)


@settings(max_examples=FEW // 3, deadline=None, suppress_health_check=QUIET)
@given(st.data())
def test_links(records: list[Json], data: st.DataObject) -> None:
    check_links(data, records)


@settings(max_examples=FEW // 3, deadline=None, suppress_health_check=QUIET)
@given(st.data())
def test_notes_of_a_sweep(books: Path, data: st.DataObject) -> None:
    check_sweep(data, books)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("what", ["record", "folder", "links", "sweep"])
def test_thousands(records: list[Json], books: Path, what: str) -> None:
    examples = MANY if what != "folder" else MANY // 10

    @settings(max_examples=examples, deadline=None, suppress_health_check=QUIET)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        if what == "record":
            check_record(data, records)
        elif what == "folder":
            check_folder(data, records, whole=data.draw(st.integers(0, 9)) == 0)
        elif what == "links":
            check_links(data, records)
        else:
            check_sweep(data, books)

    check()
