"""The page: complete in one file, safe with any text, and working in a browser without a network."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from poolbench.records.gathered import add
from poolbench.records.record import Record, write_record
from poolbench.report.figures import draw
from poolbench.report.page import FIELDS, page
from poolbench.report.report import Report, build

Maker = Callable[..., Record]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
NASTY = '</script><img src=x onerror=alert(1)> {{data}} & "quoted"'


@pytest.fixture
def report(record: Maker) -> Report:
    """Scores whose order is: PROTEINS mincut, MUTAG none, MUTAG mincut, PROTEINS none; one run of topk failed."""
    scores = {("mincut", "MUTAG"): 0.6, ("none", "MUTAG"): 0.7, ("mincut", "PROTEINS"): 0.8, ("none", "PROTEINS"): 0.5}
    made = [
        record(seed, score + seed * (0.01 + 0.001 * len(pool)), pool, dataset, epoch=1.5 - score)
        for (pool, dataset), score in scores.items()
        for seed in range(4)
    ]
    failed = replace(record(0, None, "topk"), reason=NASTY)
    other = record(0, 0.9, "mincut", "PROTEINS", protocol="cv10", fold=0)
    return build([*made, failed, other], current=lambda config: "abc")


@pytest.fixture
def written(report: Report, record: Maker, tmp_path: Path) -> Path:
    """The page in a folder beside the records, which are gathered; one of them has its own file too."""
    made = record(0, 0.6)
    own = tmp_path / "results" / "runs" / made.id / "1"
    own.mkdir(parents=True)
    write_record(own, made)
    runs = [run.record for board in report.boards for cell in board.cells.values() for run in cell.runs]
    add(runs, tmp_path / "results")
    out = tmp_path / "out"
    out.mkdir()
    figures = {board.slug: draw(board)[:1] for board in report.boards}
    (out / "index.html").write_text(page(report, figures, tmp_path / "results", out), encoding="utf-8")
    return out / "index.html"


class Reader(HTMLParser):
    """The elements of a page, (tag, attributes) each."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def all(self, tag: str, kind: str | None = None) -> list[dict[str, str | None]]:
        """The attributes of every element `tag` of the class `kind`."""
        return [a for t, a in self.elements if t == tag and (kind is None or kind in (a.get("class") or "").split())]


def data(text: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found
    return json.loads(found[1])


def plain(text: str) -> str:
    """The text of some HTML."""
    return re.sub(r"<[^>]*>", "", text)


# ------------------------------------------------------------------------------------------------------------ the file


def test_the_page_needs_nothing_else(written: Path) -> None:
    text = written.read_text()
    reader = Reader(text)
    assert not reader.all("img") and "@import" not in text and not re.search(r"url\((?!#)", text)
    assert all("src" not in attributes for attributes in reader.all("script"))
    assert [a["href"] for a in reader.all("link")] == ["data:,"]
    # Names of XML namespaces are no addresses to fetch.
    addresses = set(re.findall(r"https?://[^\"'\s<>]+", text))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}


def test_no_text_of_a_record_becomes_markup(written: Path) -> None:
    text = written.read_text()
    assert not Reader(text).all("img")
    assert set(re.findall(r"\{\{\w+\}\}", text)) == {"{{data}}"}, "what a record says is no place to fill in"
    (reason,) = [run["reason"] for cell in data(text)["cells"].values() for run in cell["runs"] if run["reason"]]
    assert reason == NASTY


def test_a_board_begins_with_the_answer_for_each_dataset(written: Path) -> None:
    found = re.findall(r'<section data-dataset="(\w+)"><p class="answer">(.*?)</p>', written.read_text(), re.DOTALL)
    answers = {name: plain(text) for name, text in found[1:]}
    assert written.read_text().index('class="answer"') < written.read_text().index("<table")
    assert answers["PROTEINS"].startswith("Does pooling beat none on PROTEINS? Yes: mincut is better than none by 30.")
    assert answers["MUTAG"].startswith("Does pooling beat none on MUTAG? No: mincut is worse than none by 9.")
    assert "cannot tell for topk" in answers["MUTAG"]


def test_each_number_leads_to_its_records(written: Path, report: Report, record: Maker) -> None:
    text = written.read_text()
    cells = data(text)["cells"]
    links = Reader(text).all("a", "cell")
    assert {a["data-cell"] for a in links if a.get("data-cell")} == set(cells)
    hrefs = [run["href"] for cell in cells.values() for run in cell["runs"]]
    own, kept = f"../results/runs/{record(0, 0.6).id}/1/record.json", "../results/records"
    assert sorted(hrefs) == sorted([own, *[f"{kept}/MUTAG/holdout.jsonl"] * 8, *[f"{kept}/PROTEINS/holdout.jsonl"] * 8,
                                    f"{kept}/PROTEINS/cv10.jsonl"])  # fmt: skip
    runs = [run["values"] for cell in cells.values() for run in cell["runs"]]
    assert {values[FIELDS.index("selected epoch")] for values in runs} == {"4"}, "from 1; the records have 3"
    gathered = page(report, {}, written.parents[1] / "results", written.parent, gathered=True)
    hrefs = [run["href"] for cell in data(gathered)["cells"].values() for run in cell["runs"]]
    assert own not in hrefs and all((written.parent / href).is_file() for href in hrefs)
    board = text.split('data-protocol="holdout (version 1)"')[1]
    line = next(
        line for line in board.splitlines() if line.startswith("<tr data-order") and 'data-pool="mincut"' in line
    )
    numbers = [cell for cell in re.findall(r"<td[^>]*>(.*?)</td>", line) if re.search(r"\d", plain(cell))]
    assert numbers and all("data-cell=" in cell for cell in numbers)


def test_failures_controls_and_parameters_are_on_the_page(written: Path) -> None:
    text = written.read_text()
    assert "1 failed, 3 missing" in text and "1,234" in text and '<span class="badge">control</span>' in text
    assert "Failed and pruned runs" in text


# --------------------------------------------------------------------------------------------------------- the browser


@pytest.fixture(scope="session")
def browser() -> str:
    """A headless Chromium; without one the tests of the page are skipped, or fail where POOLBENCH_REQUIRE_BROWSER=1."""
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None and os.environ.get("POOLBENCH_REQUIRE_BROWSER") == "1":
        pytest.fail(f"POOLBENCH_REQUIRE_BROWSER=1, and none of {', '.join(BROWSERS)} is on the PATH")
    if found is None:
        pytest.skip("needs Chromium on the PATH")
    return found


def dom(browser: str, path: Path, address: str = "", script: str = "") -> str:
    """The page as the browser holds it, after its own script and then `script` have run; no host can be reached."""
    text = path.read_text(encoding="utf-8").replace("</body>", f"<script>{script}</script></body>")
    copy = path.with_name("copy.html")
    copy.write_text(text, encoding="utf-8")
    options = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
               f"--user-data-dir={path.parent / 'profile'}", "--host-resolver-rules=MAP * ~NOTFOUND",
               "--virtual-time-budget=3000", "--dump-dom")  # fmt: skip
    done = subprocess.run(
        [browser, *options, f"{copy.as_uri()}#{address}"], capture_output=True, text=True, timeout=120, check=True
    )
    assert "<html" in done.stdout, done.stderr
    assert "data-error" not in done.stdout.split(">", 3)[1], "a script failed"
    return done.stdout.split('<script type="application/json"')[0]


def shown(text: str) -> list[tuple[str, str]]:
    """(pool, dataset) of the visible rows of the hold-out leaderboard, from the top."""
    board = text.split('data-protocol="holdout (version 1)"')[1]
    rows = [a for a in Reader(board).all("tr") if "data-order" in a and "hidden" not in a]
    return [(str(a["data-pool"]), str(a["data-dataset"])) for a in rows]


def test_the_leaderboard_is_sorted_and_filtered_by_its_address(browser: str, written: Path) -> None:
    best_first = shown(dom(browser, written, "sort=-score"))
    assert best_first == [("mincut", "PROTEINS"), ("none", "MUTAG"), ("mincut", "MUTAG"), ("none", "PROTEINS"),
                          ("topk", "MUTAG"), ("topk", "PROTEINS")]  # fmt: skip
    cheapest_first = shown(dom(browser, written, "sort=time0&dataset=PROTEINS&pool=N"))
    assert cheapest_first == [("mincut", "PROTEINS"), ("none", "PROTEINS")]
    assert shown(dom(browser, written, "controls=0&dataset=MUTAG")) == [("mincut", "MUTAG"), ("topk", "MUTAG")]
    assert shown(dom(browser, written, "lost=1")) == [("topk", "MUTAG"), ("topk", "PROTEINS")]


def test_a_click_sorts_and_a_choice_filters(browser: str, written: Path) -> None:
    click = "document.querySelectorAll('article')[1].querySelector('th[data-key=score] button').click();"
    text = dom(browser, written, "dataset=MUTAG", click)
    assert shown(text) == [("none", "MUTAG"), ("mincut", "MUTAG"), ("topk", "MUTAG")]
    assert 'aria-sort="descending"' in text
    assert shown(dom(browser, written, "dataset=MUTAG", click + click)) == [
        ("mincut", "MUTAG"), ("none", "MUTAG"), ("topk", "MUTAG")
    ]  # fmt: skip
    choose = "form.elements.dataset.value = 'PROTEINS'; form.dispatchEvent(new Event('input'));"
    text = dom(browser, written, "", choose)
    assert {dataset for _, dataset in shown(text)} == {"PROTEINS"}
    hidden = [a for a in Reader(text).all("section") if a.get("data-dataset") == "MUTAG"]
    assert hidden and all("hidden" in a for a in hidden)
    assert "3 of 6 rows" in text


def test_a_number_opens_its_records(browser: str, written: Path) -> None:
    click = "document.querySelector('tr[data-pool=topk] a.cell[data-cell]').click();"
    text = dom(browser, written, "", click)
    (dialog,) = re.findall(r"<dialog.*?</dialog>", text, re.DOTALL)
    assert "open" in Reader(dialog).all("dialog")[0]
    assert "topk on MUTAG" in plain(dialog) and "onerror=alert(1)" in plain(dialog) and not Reader(dialog).all("img")
    assert Reader(dialog).all("a")[0]["href"] == "../results/records/MUTAG/holdout.jsonl"
    closed = dom(browser, written, "", click + "document.getElementById('close').click();")
    assert "open" not in Reader(closed).all("dialog")[0]


def test_pointing_at_a_number_shows_its_details(browser: str, written: Path) -> None:
    event = "new Event('pointerover', {bubbles: true})"
    point = f"document.querySelector('tr[data-pool=mincut] a.cell').dispatchEvent({event});"
    (tip,) = re.findall(
        r'<div id="tip".*?</div>', dom(browser, written, "protocol=holdout (version 1)", point), re.DOTALL
    )
    assert "hidden" not in Reader(tip).all("div")[0]
    assert "over n = " in plain(tip)


def test_protocols_are_hidden_by_choice(browser: str, written: Path) -> None:
    boards = Reader(dom(browser, written, "protocol=cv10 (version 1)")).all("article")
    assert ["hidden" in a for a in boards] == [False, True]
