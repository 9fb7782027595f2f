"""How the pages here become a site: `make docs`, which stops at any warning (a link, an anchor or a picture amiss)."""

from __future__ import annotations

import re
from typing import Any

project = "JointFormer"
copyright = "the JointFormer developers"
extensions = ["myst_parser"]
root_doc = "index"
nitpicky = True  # a reference that leads nowhere is a warning
myst_heading_anchors = 3
html_theme = "furo"
html_title = "JointFormer"
html_copy_source = False
html_show_sourcelink = False


def _name_files_above(app: Any, name: str, source: list[str]) -> None:
    """Links to files of the repository beside docs/ become their names: the site has no page for them."""
    source[0] = re.sub(r"\[([^\]]+)\]\(\.\./([^)]+)\)", r"\1 (`\2`)", source[0])


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("source-read", _name_files_above)
