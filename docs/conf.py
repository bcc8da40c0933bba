"""The documentation site: `make docs` builds it into build/docs, with warnings as errors."""

from __future__ import annotations

import sys
from pathlib import Path

import vaelab

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "vaelab"
author = "The vaelab authors"
version = release = vaelab.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "commands",
    "links",
    "mathml",
    "names",
]
exclude_patterns = ["_ext"]

# Docstrings write code and names in single backticks, as Markdown does.
default_role = "name"
autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
napoleon_numpy_docstring = False
napoleon_use_param = False  # lists take several names a line, as docstrings have them
napoleon_custom_sections = [("Attributes", "params_style")]
add_module_names = False
smartquotes = False  # options begin with two hyphens
python_maximum_signature_line_length = 88

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"vaelab {release}"
html_math_renderer = "mathml"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_copyright = False
html_show_sphinx = False
html_copy_source = False
