"""docs/operators.md is what scripts/operators_page.py writes, and says the truth about some operators."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
COMMITTED = (ROOT / "docs" / "operators.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def script() -> ModuleType:
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        import operators_page
    finally:
        sys.path.remove(str(ROOT / "scripts"))
    return operators_page


def row(name: str) -> list[str]:
    (line,) = (line for line in COMMITTED.splitlines() if line.startswith(f"| [{name}]("))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_committed_page_is_up_to_date(script: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert script.main(["--check"]) == 0, "run python scripts/operators_page.py"
    assert capsys.readouterr().out == ""


def test_a_stale_page_or_a_lost_picture_is_found(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stale = tmp_path / "operators.md"
    stale.write_text(COMMITTED.replace("1,142", "1,143", 1), encoding="utf-8")
    monkeypatch.setattr(script, "PAGE", stale)
    assert script.main(["--check"]) == 1
    assert "docs/operators.md is stale" in capsys.readouterr().err
    stale.write_text(COMMITTED, encoding="utf-8")
    monkeypatch.setattr(script, "PICTURES", tmp_path)
    assert script.main(["--check"]) == 1
    assert "mincut.png is missing" in capsys.readouterr().err
    monkeypatch.setattr(script, "PAGE", tmp_path / "none.md")
    assert script.main(["--check"]) == 1


def test_every_operator_has_a_row_and_a_section() -> None:
    names = {path.stem for path in (ROOT / "conf" / "pool").glob("*.yaml")}
    assert set(re.findall(r"^\| \[([\w-]+)\]\(#\1\) ", COMMITTED, flags=re.M)) == names
    assert names <= set(re.findall(r"^## ([\w-]+)$", COMMITTED, flags=re.M))


def test_every_link_leads_somewhere() -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", COMMITTED)
    local = [target for target in targets if "://" not in target]
    assert len(local) > 40
    assert not [target for target in local if not (ROOT / "docs" / target).is_file()]
    pictures = {ROOT / "docs" / target for target in local if target.endswith(".png")}
    assert pictures == set((ROOT / "docs" / "operators").glob("*.png"))


def test_pictures_are_small() -> None:
    for path in (ROOT / "docs" / "operators").glob("*.png"):
        assert path.stat().st_size <= 40_000, path.name


def test_facts_of_some_operators() -> None:
    # A hidden layer of 16 and 6 clusters: 64 16 + 16 + 16 6 + 6 parameters.
    assert row("mincut")[3:10] == [
        *("dense", "single, disjoint, batch, mixed", "yes, 1,142", "cut, ortho"),
        *("no", "fixed", "SYMMETRIC"),
    ]
    assert row("mincut")[2].startswith("Bianchi, Grattarola, Alippi, ICML 2020, [arXiv 1907.00481]")
    assert row("topk")[2].count("arXiv ") == 2 and row("topk")[5] == "yes, 64"
    assert row("random-sparse")[3] == "control, sparse" and row("random-sparse")[7] == "yes"
    assert row("lapool")[3:9] == ["sparse", "single, disjoint, batch, mixed", "no", "none", "no", "data"]
    assert row("globalmax")[2:4] == ["none", "readout"]
    assert row("justbalance")[9] == "Propagation(delta=0.85)"


def works_with(name: str) -> dict[str, str]:
    (head,) = re.findall(r"^\| operator \| compile .*$", COMMITTED, flags=re.M)
    (line,) = re.findall(rf"^\| {name} \| .*$", COMMITTED, flags=re.M)
    names, cells = ([cell.strip() for cell in text.strip("|").split("|")][1:] for text in (head, line))
    return dict(zip(names, cells, strict=True))


@pytest.mark.parametrize("name", ["globalsum", "mincut", "ndp"])
def test_what_works_with_what_is_so(script: ModuleType, name: str) -> None:
    (entry,) = (entry for entry in script.registry() if entry.name == name)
    assert script.operators_transforms.answers(entry) == works_with(name)


@pytest.mark.slow
@pytest.mark.timeout(1200)  # some hundred traces
def test_what_works_with_what_is_so_for_all(script: ModuleType) -> None:
    for entry in script.registry():
        assert script.operators_transforms.answers(entry) == works_with(entry.name), entry.name


def test_an_operator_without_a_cost_is_refused_by_name(script: ModuleType) -> None:
    class Silent(script.SRCPool):
        """Says nothing about what it costs."""

    with pytest.raises(SystemExit, match="Silent needs a sentence"):
        script.cost(Silent)
