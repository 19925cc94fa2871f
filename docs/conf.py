"""Settings of the documentation site: `make docs` builds it from these pages into build/docs."""

import sys
import warnings
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import site_math
import site_pages
import site_reference

warnings.filterwarnings("ignore", category=DeprecationWarning)

project = "kilolayer"
author = "the authors of kilolayer"
copyright = author
version = release = version_of("kilolayer")
language = "en"
smartquotes = False  # two dashes are flags

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.doctest", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown"}
root_doc = "index"

myst_enable_extensions = ["dollarmath", "amsmath", "deflist", "colon_fence"]
myst_heading_anchors = 4
myst_dmath_double_inline = True
suppress_warnings = ["myst.header"]  # some pages have small headings directly below their title

default_role = "literal"  # docstrings write code between single backticks, as Markdown does
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_member_order = "groupwise"
autodoc_preserve_defaults = True
autodoc_class_signature = "mixed"
python_maximum_signature_line_length = 88
python_use_unqualified_type_names = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
add_module_names = False
toc_object_entries_show_parents = "hide"
trim_doctest_flags = True
doctest_global_setup = "import kilolayer"

html_theme = "furo"
html_title = f"kilolayer {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {"navigation_with_keys": True}
pygments_style = "friendly"
pygments_dark_style = "monokai"


def setup(app: Any) -> None:
    """Connect what makes pages of the repository's files, and reference pages of the code."""
    site_math.connect(app)
    site_pages.connect(app)
    site_reference.connect(app)
