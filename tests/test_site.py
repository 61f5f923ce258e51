"""The documentation site: its pages, and the code on those that no other test runs. CI builds it, strictly."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

import site_pages

ROOT = Path(__file__).parents[1]


class _Loader(yaml.SafeLoader):
    """Reads mkdocs.yml, which names environment variables."""


_Loader.add_constructor("!ENV", lambda loader, node: None)
SITE: dict[str, Any] = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), _Loader)


def _pages(nav: Any) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    return [page for part in (nav.values() if isinstance(nav, dict) else nav) for page in _pages(part)]


def test_every_page_is_in_the_navigation_once() -> None:
    there = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    listed = _pages(SITE["nav"])
    assert len(listed) == len(set(listed)) and set(listed) == there


def test_nothing_is_fetched_from_others() -> None:
    assert SITE["theme"]["font"] is False and SITE["strict"] is True


def test_the_first_page_is_right() -> None:
    page = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```$", page, flags=re.M | re.S)
    assert code.count("assert") == 2
    exec(code, {})


@pytest.mark.parametrize(
    ("page", "link", "with_url", "without"),
    [
        ("operators.md", "[a](../src/x.py)", "[a](https://host/p/blob/main/src/x.py)", "a"),
        ("benchmarks/dd.md", "[a](../../conf/x.yaml#l1)", "[a](https://host/p/blob/main/conf/x.yaml#l1)", "a"),
        ("benchmarks/dd.md", "[a](../design.md)", "[a](../design.md)", "[a](../design.md)"),
        ("index.md", "[a](https://b)", "[a](https://b)", "[a](https://b)"),
    ],
)
def test_links_out_of_the_pages(page: str, link: str, with_url: str, without: str) -> None:
    at = SimpleNamespace(file=SimpleNamespace(src_uri=page))
    for url, want in (("https://host/p/", with_url), ("", without)):
        assert site_pages.on_page_markdown(f"x {link} y", at, {"repo_url": url}, None) == f"x {want} y"
