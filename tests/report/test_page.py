"""The page: complete in one file, safe with any text, its numbers those of the tables, and working in a browser without
a network, by keyboard, on a phone and in the dark."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from html import unescape
from html.parser import HTMLParser
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from poolbench.records.gathered import add
from poolbench.records.record import Record, write_record
from poolbench.report.against import of_board
from poolbench.report.dial import all_sheets
from poolbench.report.figures import draw
from poolbench.report.page import FIELDS, page
from poolbench.report.page.markup import cell_id
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
        for seed in range(5)
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
    figures = {one.board.slug: draw(one)[:1] for one in report.evidence}
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


def runs(text: str) -> list[dict[str, Any]]:
    return [run for cell in data(text)["cells"].values() for run in cell.get("runs", ())]


def holdout(text: str) -> str:
    """The hold-out board."""
    return text.split('data-protocol="holdout (version 1)"')[1].split("</article>", maxsplit=1)[0]


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
    (reason,) = [run["reason"] for run in runs(text) if run["reason"]]
    assert reason == NASTY


def test_a_board_begins_in_words_and_goes_on_with_its_matrix(written: Path) -> None:
    text = written.read_text()
    found = re.findall(r'<p class="answer" data-dataset="(\w+)">(.*?)</p>', holdout(text), re.DOTALL)
    answers = {name: plain(said) for name, said in found}
    parts = [holdout(text).index(part) for part in ("In words", 'class="matrix"', "Cost against gain", "leaderboard")]
    assert parts == sorted(parts)
    assert answers["PROTEINS"].startswith("PROTEINS Yes: mincut is better than none by 30.")
    assert answers["MUTAG"].startswith("MUTAG No: mincut is worse than none by 9.")


def test_what_holds_over_datasets_comes_first_of_all(record: Maker, tmp_path: Path) -> None:
    made = [
        record(seed, 0.7 + 0.001 * seed + gain * (1 + 0.01 * (seed % 3)), pool, dataset)
        for dataset in ("MUTAG", "PROTEINS", "ENZYMES")
        for pool, gain in (("none", 0.0), ("mincut", 0.15), ("topk", -0.15))
        for seed in range(8)
    ]
    text = page(build(made, current=lambda config: "abc"), {}, tmp_path, tmp_path)
    found = re.search(r'<div class="answer" data-dataset=""><p>(.*?)</p><ul>(.*?)</ul></div>', text, re.DOTALL)
    assert (
        found
        and found[1].startswith("Over 3 real datasets")
        and found.start() < text.index('class="answer" data-dataset="E')
    )
    lines = [plain(line) for line in re.findall("<li>(.*?)</li>", found[2])]
    assert [line.partition(" (")[0] for line in lines] == ["Better than none: mincut", "Worse than none: topk"]


def test_each_number_leads_to_its_records(written: Path, report: Report, record: Maker) -> None:
    text = written.read_text()
    cells = data(text)["cells"]
    links = Reader(text).all("a", "cell")
    assert {a["data-cell"] for a in links if a.get("data-cell")} == set(cells)
    assert all(set(cell["of"]) < set(cells) for cell in cells.values() if "of" in cell)
    hrefs = [run["href"] for run in runs(text)]
    own, kept = f"../results/runs/{record(0, 0.6).id}/1/record.json", "../results/records"
    files = (
        [f"{kept}/MUTAG/holdout.jsonl"] * 10 + [f"{kept}/PROTEINS/holdout.jsonl"] * 10 + [f"{kept}/PROTEINS/cv10.jsonl"]
    )
    assert sorted(href.partition("#")[0] for href in hrefs) == sorted([own, *files])
    assert {run["values"][FIELDS.index("selected epoch")] for run in runs(text)} == {"4"}, "from 1; the records have 3"
    gathered = runs(page(report, {}, written.parents[1] / "results", written.parent, gathered=True))
    assert own not in [run["href"] for run in gathered] and len(gathered) == 22
    for run in gathered:
        file, _, line = run["href"].partition("#L")
        said = json.loads((written.parent / file).read_text().split("\n")[int(line) - 1])
        assert f"{said['id']}/{said['attempt']}" == run["values"][0]
        assert run["values"][1] == f"{Path(file).name}, line {line}"
    line = next(
        line
        for line in holdout(text).splitlines()
        if line.startswith("<tr data-order") and 'data-pool="mincut"' in line
    )
    numbers = [cell for cell in re.findall(r"<td[^>]*>(.*?)</td>", line) if re.search(r"\d", plain(cell))]
    assert numbers and all("data-cell=" in cell for cell in numbers)


def test_failures_controls_and_parameters_are_on_the_page(written: Path) -> None:
    text = written.read_text()
    assert "1 failed, 4 missing" in text and "1,234" in text and '<span class="badge">control</span>' in text
    assert "Failed and pruned runs" in text


def test_the_numbers_are_those_of_the_tables(written: Path, report: Report) -> None:
    text = written.read_text()
    matrix = holdout(text).partition('<table class="matrix"')[2].partition("</table>")[0]
    shown = {id: plain(said).strip("▲▼ *+") for id, said in re.findall(r'data-cell="(.*?)"[^>]*>(.*?)</a>', matrix)}
    sure = {
        id: float(part) > 0.5 for part, id in re.findall(r'--c:([\d.]+)"><a class="cell" href="#cell=(.*?)"', matrix)
    }
    (board,) = [board for board in report.boards if board.slug == "holdout"]
    gains = {point[0]: point for chart in data(text)["charts"] if chart["kind"] == "cost" for point in chart["points"]}
    places = {(row.pool, column.dataset): cell_id(board, row, column) for row, column in board.cells}
    (evidence,) = [one for one in report.evidence if one.board is board]
    (table,) = of_board(board, evidence.compared)
    for line, record in zip(table.rows, table.records, strict=True):
        id = places[record["pool"], record["dataset"]]
        assert float(shown[id]) == float(line[2])
        assert sure[id] == (record["joint_low"] > 0 or record["joint_high"] < 0)
        assert gains[id][2:5] == pytest.approx(
            [100 * record[name] for name in ("difference", "joint_low", "joint_high")], rel=1e-5
        )
        assert gains[id][1] == pytest.approx(1.5 - {"MUTAG": 0.6, "PROTEINS": 0.8}[record["dataset"]])
    assert len(table.rows) == 2
    assert not any(id.endswith(".all") for id in shown), "two datasets say nothing of others"
    assert shown[places["none", "MUTAG"]] == "0.728"


def test_the_matrix_has_names_for_those_who_do_not_see_it(written: Path) -> None:
    text = written.read_text()
    matrix = holdout(text).partition('<table class="matrix"')[2].partition("</table>")[0]
    labels = [str(a["aria-label"]) for a in Reader(matrix).all("a")]
    assert any(label.startswith("mincut on PROTEINS: difference to none 30.") for label in labels)
    assert any("95% interval for all at once" in label and "n = 5 splits" in label for label in labels)
    heads = Reader(matrix).all("th")
    assert {a.get("scope") for a in heads} == {"col", "row"} and 'aria-describedby="how.holdout"' in text


def test_settings_are_sorted_by_their_gain_over_datasets(record: Maker, tmp_path: Path) -> None:
    scores = {"none": 0.5, "zeta": 0.9, "alpha": 0.4, "mid": 0.6}
    made = [
        record(seed, score + 0.01 * seed * (1 + i), pool, dataset)
        for i, (pool, score) in enumerate(scores.items())
        for dataset in ("MUTAG", "NCI1")
        for seed in range(3)
    ]
    text = page(build(made, current=lambda config: "abc"), {}, tmp_path, tmp_path)
    matrix = text.partition('<table class="matrix"')[2].partition("</table>")[0]
    assert [a["data-pool"] for a in Reader(matrix).all("tr") if "data-pool" in a] == ["zeta", "mid", "none", "alpha"]


def test_a_dial_is_drawn_with_scores_and_gains(record: Maker, tmp_path: Path) -> None:
    made = []
    for pool, mu, seed in product(("none", "mincut"), (0, 0.4, 1), range(3)):
        one = record(
            seed, 0.5 + mu / 3 + 0.01 * seed + 0.05 * (pool == "mincut") * (1 + 0.1 * seed), pool, "csbm", mu=mu
        )
        del one.config["mu"]
        one.config["dataset"] = {"name": "csbm", "mu": mu}
        made.append(one)
    found = build(made, current=lambda config: "abc")
    charts = data(page(found, {}, tmp_path, tmp_path))["charts"]
    score, gain = [chart for chart in charts if chart["kind"] == "dial"]
    assert (score["x"], score["y"], gain["y"]) == ("dataset.mu", "test accuracy", "gain over none, points")
    (sheet,) = all_sheets(found.boards)
    means = {
        curve.label: [cell.estimate.mean for cell in curve.cells.values() if cell.estimate] for curve in sheet.curves
    }
    assert {line["name"]: [point[2] for point in line["points"]] for line in score["lines"]} == {
        name: pytest.approx(values, rel=1e-5) for name, values in means.items()
    }
    values = {line["name"]: [point[1] for point in line["points"]] for line in gain["lines"]}
    assert values == {"none": [0, 0.4, 1], "mincut": [0, 0.4, 1]}


def test_a_page_of_two_thousand_runs_is_a_file_that_can_be_sent(record: Maker, tmp_path: Path) -> None:
    made = [record(seed, 0.5 + 0.001 * i + 0.01 * seed, pool, dataset)
            for i, pool in enumerate(["none", *map("p{}".format, range(39))])
            for dataset in ("MUTAG", "NCI1", "PROTEINS", "DD", "ENZYMES") for seed in range(10)]  # fmt: skip
    assert len(page(build(made, current=lambda config: "abc"), {}, tmp_path, tmp_path).encode()) < 2_500_000


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
    rows = [a for a in Reader(holdout(text)).all("tr") if "data-order" in a and "hidden" not in a]
    return [(str(a["data-pool"]), str(a["data-dataset"])) for a in rows]


def test_the_leaderboard_is_sorted_and_filtered_by_its_address(browser: str, written: Path) -> None:
    within_datasets = [("none", "MUTAG"), ("mincut", "MUTAG"), ("topk", "MUTAG"), ("mincut", "PROTEINS"),
                       ("none", "PROTEINS"), ("topk", "PROTEINS")]  # fmt: skip
    assert shown(dom(browser, written, "sort=-score")) == within_datasets
    names = [pool for pool, _ in shown(dom(browser, written, "sort=pool"))]
    assert names == ["mincut"] * 2 + ["none"] * 2 + ["topk"] * 2
    cheapest_first = shown(dom(browser, written, "sort=time0&dataset=PROTEINS&pool=N"))
    assert cheapest_first == [("mincut", "PROTEINS"), ("none", "PROTEINS")]
    assert shown(dom(browser, written, "controls=0&dataset=MUTAG")) == [("mincut", "MUTAG"), ("topk", "MUTAG")]
    assert shown(dom(browser, written, "lost=1")) == [("topk", "MUTAG"), ("topk", "PROTEINS")]


def test_a_click_sorts_and_a_choice_filters(browser: str, written: Path) -> None:
    click = "document.querySelector('article th[data-key=score] button').click();"
    text = dom(browser, written, "dataset=MUTAG", click)
    assert shown(text) == [("none", "MUTAG"), ("mincut", "MUTAG"), ("topk", "MUTAG")]
    assert 'aria-sort="descending"' in text
    assert shown(dom(browser, written, "dataset=MUTAG", click + click)) == [
        ("mincut", "MUTAG"), ("none", "MUTAG"), ("topk", "MUTAG")
    ]  # fmt: skip
    choose = "form.elements.dataset.value = 'PROTEINS'; form.dispatchEvent(new Event('input'));"
    text = dom(browser, written, "", choose)
    assert {dataset for _, dataset in shown(text)} == {"PROTEINS"}
    hidden = [
        a for t, a in Reader(text).elements if a.get("data-dataset") == "MUTAG" and t in ("th", "td", "p", "details")
    ]
    assert hidden and all("hidden" in a for a in hidden)
    assert "3 of 6 rows" in text


def test_a_number_opens_its_records(browser: str, written: Path) -> None:
    click = "document.querySelector('tr[data-pool=topk][data-dataset=MUTAG] a.cell[data-cell]').click();"
    text = dom(browser, written, "", click)
    (dialog,) = re.findall(r"<dialog.*?</dialog>", text, re.DOTALL)
    assert "open" in Reader(dialog).all("dialog")[0]
    assert "topk on MUTAG" in plain(dialog) and "onerror=alert(1)" in plain(dialog) and not Reader(dialog).all("img")
    href = str(Reader(dialog).all("a")[0]["href"])
    assert re.fullmatch(r"\.\./results/records/MUTAG/holdout\.jsonl#L\d+", href)
    closed = dom(browser, written, "", click + "document.getElementById('close').click();")
    assert "open" not in Reader(closed).all("dialog")[0]


def test_pointing_at_a_number_shows_its_details(browser: str, written: Path) -> None:
    event = "new Event('pointerover', {bubbles: true})"
    point = f"document.querySelector('.matrix tr[data-pool=mincut] td[data-dataset] a.cell').dispatchEvent({event});"
    (tip,) = re.findall(
        r'<div id="tip".*?</div>', dom(browser, written, "protocol=holdout (version 1)", point), re.DOTALL
    )
    assert "hidden" not in Reader(tip).all("div")[0]
    assert "difference to none" in plain(tip) and "n = 5 splits" in plain(tip) and "an epoch" in plain(tip)


def test_protocols_are_hidden_by_choice(browser: str, written: Path) -> None:
    boards = Reader(dom(browser, written, "protocol=cv10 (version 1)")).all("article")
    assert [("hidden" in a, a["data-protocol"]) for a in boards] == [
        (True, "holdout (version 1)"), (False, "cv10 (version 1)")
    ]  # fmt: skip


def test_the_search_filters_matrix_charts_and_tables(browser: str, written: Path) -> None:
    def pools(text: str) -> list[set[str]]:
        reader = Reader(holdout(text))
        rows = [a for a in reader.all("tr") if "data-pool" in a and "hidden" not in a]
        matrix = {str(a["data-pool"]) for a in rows if "data-dataset" not in a}
        return [
            matrix,
            {str(a["data-pool"]) for a in rows},
            {str(a["data-of"]) for a in reader.all("a") if "data-of" in a},
        ]

    assert pools(dom(browser, written)) == [{"mincut", "none", "topk"}] * 2 + [{"mincut", "none"}]
    type_ = "form.elements.pool.value = '{}'; form.dispatchEvent(new Event('input', {{bubbles: true}}));"
    assert pools(dom(browser, written, "", type_.format("MIN"))) == [{"mincut"}] * 3
    assert pools(dom(browser, written, "pool=mincut, none")) == [{"mincut", "none"}] * 3
    nothing = dom(browser, written, "", type_.format("zzz"))
    assert pools(nothing) == [set()] * 3
    parts = [a for a in Reader(nothing).all("section", "part") + Reader(nothing).all("details", "part")]
    assert parts and all("hidden" in a for a in parts if a.get("aria-label") != "In words"), "no part stands empty"
    charts = Reader(dom(browser, written, "dataset=MUTAG")).all("figure", "chart")
    assert sorted("hidden" in a for a in charts) == [False, True]


def test_the_keyboard_reaches_every_number(browser: str, written: Path) -> None:
    press = """
      const key = (name) => document.activeElement.dispatchEvent(
        new KeyboardEvent("keydown", {key: name, bubbles: true, cancelable: true}));
      const at = () => document.activeElement.closest("tr").dataset.pool + " " + document.activeElement.textContent;
      const matrix = document.querySelector("table.matrix");
      const stops = [...matrix.querySelectorAll("a.cell")].filter((link) => link.tabIndex === 0);
      stops[0].focus();
      const seen = [stops.length, at()];
      for (const name of ["ArrowRight", "ArrowDown", "ArrowLeft", "ArrowUp"]) { key(name); seen.push(at()); }
      const tips = !document.getElementById("tip").hidden;
      const again = [...matrix.querySelectorAll("a.cell")].filter((link) => link.tabIndex === 0).length;
      document.querySelector(".chart a.cell[tabindex='0']").focus();
      const first = document.activeElement.dataset.cell;
      key("ArrowRight");
      const said = document.activeElement.getAttribute("aria-label");
      document.title = JSON.stringify([seen, tips, again, first !== document.activeElement.dataset.cell, said]);
    """
    seen, tips, again, moved, said = json.loads(title(dom(browser, written, "", press)))
    assert seen[0] == again == 1, "the tab key stops once a table"
    start, right, down, left, up = seen[1:]
    assert start.startswith("mincut ▼ -9.") and right.startswith("mincut ▲ +30.")
    assert down.startswith("none 0.5") and left == "none 0.728" and up == start
    assert tips and moved and re.search(r" on (MUTAG|PROTEINS), hierarchical: ", said)


def test_dark_colours_and_a_phone(browser: str, written: Path) -> None:
    look = """
      const paper = () => getComputedStyle(document.documentElement).backgroundColor;
      const found = [];
      for (let i = 0; i < 3; i += 1) { theme.click(); found.push([document.documentElement.dataset.theme, paper()]); }
      const frame = document.createElement("iframe");
      frame.style.cssText = "width:390px;height:800px";
      const still = document.documentElement.outerHTML.replaceAll("<script", "<template");
      frame.srcdoc = still.replaceAll("</script", "</template");
      frame.addEventListener("load", () => {
        const page = frame.contentDocument.documentElement;
        document.title = JSON.stringify([found, page.clientWidth, page.scrollWidth]);
      });
      document.body.append(frame);
    """
    found, width, wide = json.loads(title(dom(browser, written, "", look)))
    assert [name for name, _ in found] == ["light", "dark", ""]
    assert [paper for _, paper in found][:2] == ["rgb(255, 255, 255)", "rgb(21, 23, 26)"]
    assert width <= 390 and wide <= width, "nothing but tables is wider than a phone, and those scroll"


def title(text: str) -> str:
    found = re.search(r"<title>(.*?)</title>", text, re.DOTALL)
    assert found
    return unescape(found[1])
