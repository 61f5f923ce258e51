"""A hook of mkdocs.yml: what the pages link to outside of docs/ (code, configurations, results) is not on the site.

Such a link goes to the repository where `repo_url` names one (POOLBENCH_URL when the site is built), else its words
alone stay.
"""

from __future__ import annotations

import posixpath
import re
from typing import Any

LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((\.\.?/[^)\s#]*)(#[^)\s]*)?\)")


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Called by MkDocs with each page."""
    folder = posixpath.dirname(page.file.src_uri)

    def outside(found: re.Match[str]) -> str:
        words, path, anchor = found[1], found[2], found[3] or ""
        place = posixpath.normpath(posixpath.join("docs", folder, path))
        if place.startswith("docs/"):
            return found[0]
        url = (config["repo_url"] or "").rstrip("/")
        return f"[{words}]({url}/blob/main/{place}{anchor})" if url else words

    return LINK.sub(outside, markdown)
