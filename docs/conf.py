"""How the pages here become a site: `make docs`, which stops at any warning (a link, an anchor or a picture amiss)."""

from __future__ import annotations

import inspect
import re
from typing import Any

project = "JointFormer"
copyright = "the JointFormer developers"
extensions = ["myst_parser", "sphinx.ext.autodoc"]
root_doc = "index"
nitpicky = True  # a reference that leads nowhere is a warning
nitpick_ignore_regex = [("py:.*", ".*")]  # the reference shows the public names only, not every type of theirs
highlight_language = "none"  # blocks of commands and folders are no Python
smartquotes = False  # "--output" is to be copied, not to be read as a dash
default_role = "code"  # docstrings have names between single backticks
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_type_aliases = {name: name for name in ("FrameLike", "MasksLike", "VideoLike", "LabelMap", "FloatArray")}
myst_heading_anchors = 3
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["tables.css"]
html_title = "JointFormer"
html_copy_source = False
html_show_sourcelink = False


def _name_files_above(app: Any, name: str, source: list[str]) -> None:
    """Links to files of the repository beside docs/ become their names: the site has no page for them."""
    source[0] = re.sub(r"\[([^\]]+)\]\(\.\./([^)]+)\)", r"\1 (`\2`)", source[0])


def _lay_out(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Make a docstring's indented lines an example, and the names of parameters that it explains bold."""
    for i in range(len(lines) - 2, 0, -1):
        if not lines[i].strip() and lines[i + 1].startswith("    ") and not lines[i - 1].startswith("    "):
            lines[i:i] = ["", "::"]
    if what in ("function", "method", "class"):
        one = "|".join(inspect.signature(thing).parameters)
        explained = re.compile(rf"(?:^|(?<=[.,] ))({one})(?=(, ({one}))*:( |$))")
        lines[:] = [line if line.startswith("    ") else explained.sub(r"**\1**", line) for line in lines]


def _name_aliases(
    app: Any, what: str, name: str, thing: Any, options: Any, signature: str | None, result: str | None
) -> tuple[str | None, str | None]:
    """Sphinx shows aliases within unions as objects of its own."""
    plain, result = (text and re.sub(r"TypeAliasForwardRef\('(\w+)'\)", r"\1", text) for text in (signature, result))
    return plain, result


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("source-read", _name_files_above)
    app.connect("autodoc-process-signature", _name_aliases)
    app.connect("autodoc-process-docstring", _lay_out)
