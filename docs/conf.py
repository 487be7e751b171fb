"""How Sphinx builds the documentation: ``make docs``.

The pages are Markdown that reads well on GitHub too. What GitHub would show as a block of code is
added here: the tables of contents, and the pages that lie at the root of the repository.
"""

import pathlib
import re

from sktvae import __version__

ROOT = pathlib.Path(__file__).parents[1]

project = "sktvae"
author = "The sktvae developers"
version = release = __version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build"]
templates_path = ["_templates"]
nitpicky = True
# Documented elsewhere; the build must not depend on the network.
nitpick_ignore_regex = [(r"py:.*", r"(sklearn|imblearn|pandas|matplotlib|numpy)\..*")]

myst_enable_extensions = ["dollarmath"]
myst_fence_as_directive = ["math"]
myst_heading_anchors = 3

default_role = "literal"  # as in scikit-learn
toc_object_entries_show_parents = "hide"
autodoc_typehints = "none"  # the docstrings say it in words
numpydoc_show_class_members = False

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": "/",  # every example is run
    "within_subsection_order": "FileNameSortKey",
    "download_all_examples": False,
    "write_computation_times": False,
    "show_signature": False,
    "capture_repr": ("_repr_html_",),  # not the repr of what matplotlib returns
}

html_theme = "pydata_sphinx_theme"
html_title = "sktvae"
html_show_sourcelink = False
html_static_path = ["_static"]
html_css_files = ["sktvae.css"]
html_theme_options = {
    "show_toc_level": 2,
    "header_links_before_dropdown": 5,
    "footer_start": ["copyright"],
    "footer_end": [],
    "secondary_sidebar_items": ["page-toc"],
}
# A page without pages below it needs no navigation at its side.
html_sidebars = {
    page: []
    for page in (
        "index",
        "getting_started",
        "model",
        "privacy",
        "benchmarks",
        "migrating",
        "command_line",
        "contributing",
        "changelog",
    )
}
copyright = "the sktvae developers; BSD-3-Clause"

# Pages of the site that lie at the root of the repository.
AT_ROOT = {"index": "README.md", "contributing": "CONTRIBUTING.md", "changelog": "CHANGELOG.md"}
CONTENTS = {
    "index": [
        "getting_started",
        "guide",
        "auto_examples/index",
        "api",
        "model",
        "privacy",
        "benchmarks",
        "migrating",
        "command_line",
        "contributing",
        "changelog",
    ],
    "guide": [
        "before_you_start",
        "quality",
        "sizes",
        "tables",
        "fitting",
        "scale",
        "conditions",
        "imputation",
        "oversampling",
        "anomalies",
        "rejection",
    ],
}


def read_page(app, docname, source):
    """Take pages from the root, mend their links, and add the tables of contents."""
    if docname in AT_ROOT:
        path = ROOT / AT_ROOT[docname]
        app.env.note_dependency(path)
        source[0] = re.sub(r"\]\(docs/", "](", path.read_text())
    for page, name in AT_ROOT.items():
        source[0] = re.sub(rf"\]\((\.\./)?{re.escape(name)}", f"]({page}.md", source[0])
    if docname in CONTENTS:
        entries = [e for e in CONTENTS[docname] if "/" in e or list(app.srcdir.glob(f"{e}.*"))]
        source[0] += "\n\n```{toctree}\n:hidden:\n\n" + "\n".join(entries) + "\n```\n"


def setup(app):
    app.connect("source-read", read_page)
