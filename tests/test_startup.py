"""scripts/startup.py: it waits for answers, says how long they took, and takes no failure for one."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

import startup
from startup import Question, ask, main, write


def question(code: str, expected: int = 0, until: str | None = None) -> Question:
    return Question("it", (sys.executable, "-c"), (code,), code=expected, until=until)


def test_an_answer_is_timed_to_its_line_or_to_the_end(tmp_path: Path) -> None:
    code = "import time; print('a line'); print('epoch    1  0.5', flush=True); time.sleep(1)"
    assert ask(question(code, until="epoch +1 "), str(tmp_path), dict(os.environ)) < 1
    assert ask(question(code), str(tmp_path), dict(os.environ)) >= 1


@pytest.mark.parametrize("wrong", [question("exit(1)"), question("print(1)", 2), question("print(1)", until="epoch")])
def test_what_ends_otherwise_is_no_answer(wrong: Question, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="exit code"):
        ask(wrong, str(tmp_path), dict(os.environ))


def test_the_page_keeps_what_stands_above_its_heading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "startup.md"
    page.write_text("# Title\n\ntext\n\n## Measured\n\nold numbers\n")
    monkeypatch.setattr(startup, "imports", lambda surroundings: ["what is loaded"])
    assert main(["--only", "help", "name", "--runs", "1", "--write", str(page)]) == 0
    text = page.read_text()
    assert text.startswith("# Title\n\ntext\n\n## Measured\n\n") and "old numbers" not in text
    assert "| help |" in text and "| name |" in text and "`python train.py --help` |" in text
    assert text.endswith("what is loaded\n")


def test_a_page_without_the_heading_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "other.md"
    page.write_text("text\n")
    with pytest.raises(SystemExit, match="no heading"):
        write(page, ["numbers"])
    assert page.read_text() == "text\n"
