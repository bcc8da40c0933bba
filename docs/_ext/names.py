"""Names in docstrings: what is in single backticks is code, and a link where it is a name here."""

from __future__ import annotations

import re
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from docutils import nodes
from docutils.parsers.rst import roles
from sphinx import addnodes

if TYPE_CHECKING:
    from docutils.parsers.rst.states import Inliner
    from sphinx.application import Sphinx

NAME = re.compile(r"((?:[A-Za-z]\w*\.)+\w+|[A-Z]\w+)(?:\(\))?")
"""A name with dots, or one that begins with a capital: others are too often arguments."""


def role(
    name: str, raw: str, text: str, line: int, inliner: Inliner, *rest: Any
) -> tuple[list[nodes.Node], list[nodes.system_message]]:
    """The text as code; a link if it is a name that the reference has."""
    raw = raw.strip("`").removeprefix(":name:`")  # backslashes too are code
    code = nodes.literal(text, raw, classes=["code"])
    match = NAME.fullmatch(raw)
    if match is None:
        return [code], []
    env = inliner.document.settings.env
    link = addnodes.pending_xref(
        raw, code, refdomain="py", reftype="obj", reftarget=match[1], refspecific=True,
        refdoc=env.docname, refexplicit=False,
    )  # fmt: skip
    for context in ("py:module", "py:class"):
        link[context] = env.ref_context.get(context)
    return [link], [] if _exists(match[1]) else [
        inliner.reporter.warning(f"no name {raw}", line=line)
    ]


def _exists(name: str) -> bool:
    """Whether a name that is written out is one of vaelab's; of others nothing is known."""
    if not name.startswith("vaelab."):
        return True
    try:
        resolve_name(name)
    except (ImportError, AttributeError):
        return False
    return True


def _left_out(app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """Fields of a named tuple are told in its own docstring, scikit-learn's methods in its own."""
    module = getattr(obj, "__module__", None) or ""
    return True if type(obj).__name__ == "_tuplegetter" or module.startswith("sklearn.") else None


def _without_the_floor(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """The number of its floor, with which a module's docstring begins, is for who changes it."""
    if what == "module" and lines and (match := re.match(r"Floor \d+: (.)", lines[0])):
        lines[0] = match[1].upper() + lines[0][match.end() :]


def _with_dashes(app: Sphinx, page: nodes.document) -> None:
    """Between an argument and what is told of it stand two hyphens: here a dash."""
    for text in list(page.findall(nodes.Text)):
        before = text.parent[: text.parent.index(text)]
        if text.startswith(" -- ") and before and any(before[-1].findall(nodes.strong)):
            text.parent.replace(text, nodes.Text(" – " + text.removeprefix(" -- ")))


def _without_long_values(
    app: Sphinx, domain: str, kind: str, content: addnodes.desc_content
) -> None:
    """The value of a table of names, which are listed beside it, is left out."""
    for value in list(content.parent.findall(addnodes.desc_annotation)) if kind == "data" else []:
        if value.astext().lstrip().startswith("=") and len(value.astext()) > 80:
            value.parent.remove(value)


def setup(app: Sphinx) -> dict[str, bool]:
    """Registers the role and what is left out."""
    roles.register_local_role("name", role)  # type: ignore[arg-type]
    app.connect("autodoc-skip-member", _left_out)
    app.connect("autodoc-process-docstring", _without_the_floor)
    app.connect("doctree-read", _with_dashes)
    app.connect("object-description-transform", _without_long_values)
    return {"parallel_read_safe": True}
