"""What stands in records is text: in a page, in tables, in figures and in a terminal it is nothing else."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from msgspec.structs import replace

from poolbench import cli
from poolbench.errors import one_line, printable
from poolbench.jobs.sweep import JobState, Sweep
from poolbench.jobs.sweep import report as sweep_report
from poolbench.records.record import Record, write_record
from poolbench.report.report import build
from poolbench.report.table import latex_escape, markdown_escape, to_csv
from poolbench.report.writing import write_report

Maker = Callable[..., Record]
TAG = "<img src=x onerror=alert(1)>"
HOSTILE = [TAG, "</script><script>alert(1)</script>", '"><b>', "a|b", "=1+1", "+1", "-1", "@SUM(A1)", "\x1b[31mred\x07",
           "\u202egnp", "![x](http://h/y.png)", "\\input{/etc/passwd}", "$x$ %&#_{}~^", "[b]", "*",
           "a\nb\r\tc"]  # fmt: skip


@pytest.fixture
def records(record: Maker) -> list[Record]:
    """Records whose every word is hostile in one way or another."""
    made = []
    for number, word in enumerate(HOSTILE):
        for seed in (0, 1):
            one = record(seed, 0.5 + seed / 10, word, word, protocol=f"holdout{TAG if number % 2 else ''}",
                         code=word[:8] or "x", hardware={"cpu": word, "gpus": [word]})  # fmt: skip
            one.config["pool"] = {"_target_": word, "option": word, word: 1}
            one.config["names"]["model"] = word
            one.provenance = replace(one.provenance, git=word)
            made.append(one)
        made.append(replace(record(9, None, word, word), reason=word))
        made[-1].config["names"]["model"] = word
    made += [record(seed, 0.6 + seed / 10, "none", word) for seed in (0, 1) for word in HOSTILE]
    return made


class _Elements(HTMLParser):
    """Every element and attribute of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [tag, *(name for name, _ in attrs)]
        self.found += [value or "" for name, value in attrs if name in ("href", "src", "xlink:href")]


def test_no_word_of_a_record_is_anything_but_text(records: list[Record], tmp_path: Path) -> None:
    report = build(records[::2], all_code=True)
    written = write_report(report, tmp_path, tmp_path / "out")
    page = _Elements()
    page.feed((tmp_path / "out" / "index.html").read_text(encoding="utf-8"))
    assert not {"img", "b", "onerror"} & set(page.found)
    assert page.found.count("script") == len(re.findall("<script", _template()))
    assert not any(word.startswith(("javascript:", "http://h")) for word in page.found)
    names = {path.suffix for path in written}
    assert names >= {".md", ".tex", ".csv", ".svg", ".html"}
    assert all(tmp_path / "out" in path.parents for path in written)
    for path in written:
        if path.suffix == ".svg":
            tags = {element.tag.rpartition("}")[2] for element in ElementTree.fromstring(path.read_text()).iter()}
            assert not {"img", "script", "b"} & tags
        elif path.suffix in (".md", ".tex", ".csv"):
            assert all(line.isprintable() for line in path.read_text(encoding="utf-8").split("\n")), path


def _template() -> str:
    import poolbench.report

    return (Path(str(poolbench.report.__file__)).parent / "page" / "page.html").read_text(encoding="utf-8")


def test_a_table_keeps_its_columns(records: list[Record]) -> None:
    text = build(records, all_code=True).written("md")
    for block in re.split("\n\n", text):
        lines = [line for line in block.split("\n") if line.startswith("|")]
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) <= 1
    assert not re.search(r"(?<!\\)<[a-z/!?]", text) and "](" not in text

    for line in build(records, all_code=True).written("tex").split("\n"):
        plain = re.sub(r"\\[a-z]+\{\}|\\[&%$#_{}]", "", line)
        if not line.startswith("%"):
            assert "%" not in plain and "#" not in plain and "\\input" not in plain and not line.startswith(("[", "*"))


def test_no_cell_of_csv_is_a_formula(records: list[Record]) -> None:
    text = build(records, all_code=True).written("csv")
    cells = [cell for row in csv.reader(io.StringIO(text)) for cell in row]
    numbers = re.compile(r"-?[0-9.e+-]+")
    assert not [cell for cell in cells if cell[:1] in tuple("=+-@\t\r") and not numbers.fullmatch(cell)]
    assert {"'=1+1", "'@SUM(A1)", "'+1", "'-1"} <= set(cells)
    assert to_csv([{"a": -1.5, "b": "  =x", "c": None, "d": "a-b"}]) == "a,b,c,d\n-1.5,'  =x,,a-b\n"


def test_the_forms() -> None:
    assert printable("a\x1b[0m\x9b\u202e\ud800 ü±\t\n") == "a\\x1b[0m\\x9b\\u202e\\ud800 ü±  "
    assert one_line(" a\n b\x07 ") == "a b\\x07"
    assert markdown_escape("p < 0.05, a|b <b> ![x](y)") == "p < 0.05, a\\|b \\<b> ![x]\\(y)"
    assert latex_escape("a\\b\n{x}") == "a\\textbackslash{}b \\{x\\}"


def test_a_terminal_gets_no_commands(
    record: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = replace(record(0, None, "\x1b[2J", "\x07"), reason="\x1b]0;title\x07")
    write_record(tmp_path / "runs" / failed.id / "1", failed)
    odd = tmp_path / "odd.json"
    odd.write_text(json.dumps({"\x1b[2J": 1}))
    for words in (["report", str(tmp_path)], ["verify", str(tmp_path)], ["verify", str(odd)], ["rerun", str(odd)],
                  ["rerun", str(tmp_path / "runs" / failed.id / "1" / "record.json")],
                  ["equivalent", "--results", str(tmp_path), "--plan"],
                  ["report", str(tmp_path), "pool=\x1b[2J", "--format", "csv"]):  # fmt: skip
        cli.main(words)
        said: Any = capsys.readouterr()
        for line in (said.out + said.err).split("\n"):
            assert line.isprintable(), (words, line)
    sweep = Sweep(tmp_path / "sweeps" / "x", (JobState("\x1b[2J", "failed", reason="\x07"),))
    assert all(line.isprintable() for line in sweep_report(sweep).split("\n"))


@pytest.mark.parametrize("key", ["dataset", "pool", "model", "protocol", "trainer", "split", "seed", "names"])
def test_a_configuration_that_lacks_a_part_ends_no_report(key: str, record: Maker, tmp_path: Path) -> None:
    for seed in (0, 1):
        one = record(seed, 0.5)
        if seed:
            one.config.pop(key, None)
        write_record(tmp_path / "runs" / one.id / "1", one)
    assert cli.main(["report", str(tmp_path)]) == 0
