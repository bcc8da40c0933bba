"""The files of the page, and the page itself."""

from __future__ import annotations

import base64
import html
import json
from importlib import resources

__all__ = ["document", "files", "import_map", "live_page", "modules"]

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
</head>
<body class="explorer">
<h1>{title}</h1>
<noscript>The explorer needs JavaScript; allow it for this page.</noscript>
{body}
</body>
</html>
"""

LIVE = """<link rel="stylesheet" href="/page/style.css">
<div id="explorer"></div>
<script type="importmap">{imports}</script>
<script type="module" src="/page/main.js"></script>"""


def files() -> dict[str, str]:
    """The scripts and styles of the page, by name, read from the package.

    >>> sorted(files())[-2:]
    ['toolbar.js', 'types.js']
    """
    folder = resources.files("vaelab.explorer") / "page"
    return {
        file.name: file.read_text(encoding="utf-8")
        for file in sorted(folder.iterdir(), key=lambda file: file.name)
        if file.name.endswith((".js", ".css"))
    }


def modules() -> dict[str, str]:
    """The scripts, by the bare names under which they import each other.

    >>> "vaelab/explorer.js" in modules()
    True
    """
    return {f"vaelab/{name}": text for name, text in files().items() if name.endswith(".js")}


def import_map(*, inline: bool) -> str:
    """Where the browser finds the modules, in JSON.

    Arguments:
        inline: Whether they stand in the map itself, for a page that is one file; else they are
            fetched from `/page/`.

    >>> json.loads(import_map(inline=False))["imports"]["vaelab/explorer.js"]
    '/page/explorer.js'
    """
    found = modules()
    if inline:
        where = {
            name: "data:text/javascript;base64," + base64.b64encode(text.encode()).decode()
            for name, text in found.items()
        }
    else:
        where = {name: name.replace("vaelab/", "/page/", 1) for name in found}
    return json.dumps({"imports": where}, separators=(",", ":"))


def document(title: str, body: str) -> str:
    """An HTML document that is called `title`, a text, and holds `body`, which is HTML."""
    return PAGE.format(title=html.escape(title), body=body)


def live_page(title: str) -> str:
    """The HTML document of a live explorer of what is called `title`."""
    return document(title, LIVE.format(imports=import_map(inline=False)))
