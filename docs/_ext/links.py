"""Links between files of the repository lead to the right place on the site, too.

A page names other files by their paths, `../examples/sharded.py` say, so that links work wherever
the repository is browsed. On the site, a path that a page is made from leads to that page, and any
other file of the repository is put beside the pages and can be had there. Pages that include a file
of another folder keep its links, as they are relative to that file.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

DOCS = Path(__file__).parents[1].resolve()
REPOSITORY = DOCS.parent

PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "benchmarks/README.md": "benchmarks.md",
    "benchmarks/RESULTS.md": "benchmarks.md",
    "benchmarks/papers/RESULTS.md": "papers.md",
}
"""The page that is made from a file outside this folder."""

LINK = re.compile(r"(?<=\]\()([^()\s#:]+)(#[^()\s]*)?(?=\))")
"""Where a link or a picture leads: a path, and the heading there."""


def mended(text: str, folder: Path, page: Path) -> str:
    """The text of a file of `folder`, with links that hold where it stands on `page`."""

    def there(link: re.Match[str]) -> str:
        path, heading = Path(os.path.normpath(folder / link[1])), link[2] or ""
        if not path.is_file() or not path.is_relative_to(REPOSITORY):
            return link[0]
        known = PAGES.get(path.relative_to(REPOSITORY).as_posix())
        path = DOCS / known if known else path
        return Path(os.path.relpath(path, page.parent)).as_posix() + heading

    return LINK.sub(there, text)


def _page(app: Sphinx, name: str, content: list[str]) -> None:
    page = Path(app.env.doc2path(name))
    content[0] = mended(content[0], page.parent, page)


def _included(app: Sphinx, path: Path, parent: str, content: list[str]) -> None:
    content[0] = mended(content[0], (DOCS / path).resolve().parent, Path(app.env.doc2path(parent)))


def setup(app: Sphinx) -> dict[str, bool]:
    """Registers what mends links."""
    app.connect("source-read", _page)
    app.connect("include-read", _included)
    return {"parallel_read_safe": True}
