"""How the documentation is built: `make docs`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from sphinx.pycode import ModuleAnalyzer

import parmap

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

project = "parmap"
author = "The parmap developers"
project_copyright = "2026, The parmap developers"
release = version = parmap.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.coverage",
    "sphinx.ext.doctest",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
]
exclude_patterns = ["_build", "explanation/measured"]  # the latter is included by a page

html_theme = "furo"
html_title = f"parmap {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]

myst_enable_extensions = ["colon_fence", "deflist", "fieldlist"]
myst_heading_anchors = 3

autodoc_typehints = "description"
autodoc_member_order = "bysource"
# The contract's own words for a default, not what it evaluates to on the machine that builds.
autodoc_preserve_defaults = True
# For checkers the maps are six overloads with their options in a TypedDict; a reader wants the one
# signature of the function itself, which autodoc shows when it knows of no overloads.
mapping = ModuleAnalyzer.for_module("parmap.mapping")
mapping.analyze()
mapping.overloads.clear()
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # "Attributes:" describes; autodoc would list the same names a second time

# Warnings are errors (-W -n), so each name that our pages or docstrings refer to must exist. Names
# of Python itself and type variables have no page here: there is no network when this is built, and
# so no inventory of Python's own documentation.
nitpick_ignore_regex = [
    (r"py:.*", r"(?!parmap\.).*"),
    (r"py:class", r"parmap\.[\w.]+\.([A-Z](_co)?|T_\w+)"),
]

# A bare `Pool` in a signature finds parmap.Pool and parmap.compat.Pool; the first is taken, and meant.
suppress_warnings = ["ref.python"]

# Prompts are for reading; what is copied can be run.
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

# Blocks of plain `>>>` in docstrings and {doctest} fences run under `sphinx -b doctest`.
doctest_global_setup = "import parmap; from parmap import *; from parmap.errors import *"
doctest_global_cleanup = "parmap.shutdown()"

# `-b coverage`: each public name and method of a module that has its `py:module` in the reference must
# be there, too (missing ones are warnings, and warnings are errors).
coverage_show_missing_items = True
coverage_statistics_to_stdout = False


def count_names_where_users_import_them(app: Sphinx, env: BuildEnvironment) -> None:
    """Sphinx looks at a name only in the module that defines it, and ours are defined in private ones.

    After the pages were read, for autodoc finds a member's place in the source by the same attribute.
    """
    if app.builder.name == "coverage":
        for home in map(import_module, env.domaindata["py"]["modules"]):
            for name in home.__all__:
                getattr(home, name).__module__ = home.__name__


def setup(app: Sphinx) -> None:
    app.connect("env-updated", count_names_where_users_import_them)
