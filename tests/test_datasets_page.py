"""docs/datasets.md is what scripts/datasets_page.py writes, and its figures are those of the files."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
COMMITTED = (ROOT / "docs" / "datasets.md").read_text(encoding="utf-8")

sys.path.insert(0, str(ROOT / "scripts"))
try:
    import datasets_page as page
    import datasets_reach
finally:
    sys.path.remove(str(ROOT / "scripts"))

MEASURED = [name for name, facts in page.known().items() if facts.measured]
needs_mirror = [
    pytest.mark.mirror,
    pytest.mark.skipif(not os.environ.get("POOLBENCH_MIRROR"), reason="POOLBENCH_MIRROR is not set"),
]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POOLBENCH_DATA", str(tmp_path / "cache"))


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script without datasets at hand: what it says of the page alone."""
    monkeypatch.setattr(page, "at_hand", lambda facts: False)
    return page


def row(name: str) -> list[str]:
    """The cells of a dataset's row; the tables of pictures have its name too, but no figures."""
    (line,) = re.findall(rf"^\| {re.escape(name)} \| [\d,]+ \|.*$", COMMITTED, flags=re.M)
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_committed_page_is_up_to_date(script: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert script.main(["--check"]) == 0, "run python scripts/datasets_page.py"
    assert capsys.readouterr().out == ""


def test_a_stale_page_and_a_lost_picture_are_found(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stale = tmp_path / "datasets.md"
    stale.write_text(COMMITTED.replace("1,113", "1,114", 1), encoding="utf-8")
    monkeypatch.setattr(script, "PAGE", stale)
    assert script.main(["--check"]) == 1 and "docs/datasets.md is stale" in capsys.readouterr().err
    stale.write_text(COMMITTED, encoding="utf-8")
    monkeypatch.setattr(script, "PICTURES", tmp_path)
    assert script.main(["--check"]) == 1 and "MUTAG.png is missing" in capsys.readouterr().err


def test_a_dataset_without_an_entry_is_found(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    names = script.registered()
    monkeypatch.setattr(script, "registered", lambda: (names - {"PROTEINS"}) | {"NEW"})
    assert script.check() == [
        "NEW is missing in docs/datasets.yaml", "docs/datasets.yaml names PROTEINS, which is no dataset",
    ]  # fmt: skip


def test_every_dataset_has_a_row_and_every_link_leads_somewhere() -> None:
    assert {name for name in page.registered() if row(name)} == page.registered()
    local = [target for target in re.findall(r"\]\(([^)#]+)\)", COMMITTED) if "://" not in target]
    assert not [target for target in local if not (ROOT / "docs" / target).is_file()]
    pictures = {Path(target).stem for target in local if target.endswith(".png")}
    assert pictures == set(MEASURED) == {path.stem for path in (ROOT / "docs" / "datasets").glob("*.png")}


def test_pictures_are_small() -> None:
    for path in (ROOT / "docs" / "datasets").glob("*.png"):
        assert path.stat().st_size <= 30_000, path.name


def test_facts_of_some_datasets() -> None:
    assert row("PROTEINS")[1:] == ["1,113", "2 classes", "39.06", "620", "72.82", "4", "44", "99.73 % (100.00 %)"]
    assert row("IMDB-MULTI")[7:] == ["1,113", "63.27 %"]
    assert row("AIDS")[1:] == ["2,000", "2 classes", "15.69", "-", "16.20", "-", "-", "-"]
    assert row("Cora")[1:] == ["1", "7 classes", "2,708", "2,708", "5,278", "1,433"]
    assert row("ogbg-molpcba")[1:4] == ["437,929", "128 yes/no", "26.00"]
    assert "2c75c7310275443a3d2230cfbcb9cf40c8f00aba9f8d9a18d87b63c763dd2211" in COMMITTED


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name,
            marks=[
                *([] if page.known()[name].generated else needs_mirror),
                *([pytest.mark.slow] if page.known()[name].slow else []),
            ],
        )
        for name in MEASURED
    ],
)
def test_figures_are_those_of_the_files(name: str) -> None:
    source = page.dataset(name)
    raw = source.load()
    assert page.differences(name, raw, source) == []
    if (expected := page.known()[name].checksum) and raw.provenance["kind"] == "mirror":
        assert raw.provenance["sha256"] == expected


@pytest.mark.slow
def test_readers_reach_what_the_page_says(tmp_path: Path) -> None:
    """Of the dataset that takes least, the kernels, which are the same on every machine."""
    reached = page.known()["csl"].reach
    assert reached is not None
    assert datasets_reach.reach("csl", str(tmp_path), ("wl", "paths")) == {key: reached[key] for key in ("wl", "paths")}


def test_a_difference_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = page.Facts(graphs=1, nodes=65.0, edges=112.0, largest=64, features=2)
    monkeypatch.setattr(page, "known", lambda: {"grid2d": wrong})
    source = page.dataset("grid2d")
    assert page.differences("grid2d", source.load(), source) == ["grid2d: nodes is 64.0, docs/datasets.yaml says 65.0"]
