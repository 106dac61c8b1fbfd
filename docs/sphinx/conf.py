"""Sphinx's settings. The sources are what `stage.py` lays out in docs/_build/source; `make site` calls both.

The address of the repository is the environment variable REPOSITORY: launch buttons and source links take it from
there, and are left out without it.
"""

import os
import sys
from importlib.metadata import files
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from formulas import docstring
from icons import lighten

import flowlib

project = "flowlib"
author = "The flowlib authors"
copyright = "The flowlib authors, MIT licence"
release = flowlib.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]
exclude_patterns = ["exercises/**", "_build"]
default_role = "code"
language = "en"

# Notebooks are shown as they are stored.
nb_execution_mode = "off"
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_dmath_double_inline = True  # a displayed formula may stand within a paragraph, as in Jupyter
myst_heading_anchors = 3
nb_number_source_lines = False

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_inherit_docstrings = False
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
add_module_names = False
toc_object_entries = False

html_theme = "sphinx_book_theme"
html_title = "flowlib"
html_static_path = [str(Path(__file__).parents[1] / "_build" / "source" / "_static")]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_sourcelink_suffix = ""
html_last_updated_fmt = None
html_context = {"default_mode": "auto"}

repository = os.environ.get("REPOSITORY", "")
html_theme_options = {
    "show_toc_level": 2,
    "use_download_button": True,
    "use_fullscreen_button": False,
    "home_page_in_toc": True,
    "navbar_persistent": [],
    "path_to_docs": "",
} | (
    {
        "repository_url": repository,
        "repository_branch": os.environ.get("BRANCH", "main"),
        "use_repository_button": True,
        "launch_buttons": {
            "binderhub_url": "https://mybinder.org",
            "colab_url": "https://colab.research.google.com",
            "notebook_interface": "jupyterlab",
        },
    }
    if repository
    else {}
)

# MathJax in two files, so that a page needs no network; the package holds all of MathJax, of which no more is needed.
# The second sets a formula only when it comes near the window: a lecture has 300, and none showed before all were set.
for _name in ("tex-svg.js", "ui/lazy.js"):
    _mathjax = next(file for file in files("sphinx-mathjax-offline") or [] if str(file).endswith(f"mathjax/{_name}"))
    html_static_path.append(str(_mathjax.locate()))
mathjax_path = "tex-svg.js"
mathjax3_config = {
    "loader": {"load": ["ui/lazy"], "source": {"ui/lazy": "[mathjax]/lazy.js"}},
    "options": {"enableMenu": False, "lazyMargin": "800px"},
    "svg": {"fontCache": "global"},
}


def setup(app):  # type: ignore[no-untyped-def]
    """Turn the prose of docstrings into reStructuredText before napoleon reads their sections."""

    def convert(app, what, name, obj, options, lines):  # type: ignore[no-untyped-def]
        lines[:] = docstring(lines)

    app.connect("autodoc-process-docstring", convert, priority=100)
    app.connect("build-finished", lambda app, error: None if error else lighten(Path(app.outdir)))
