"""A hook of hatchling: the README for PyPI, which shows it where relative links and images lead nowhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

# "](" of a link or image, and a target that is neither an address nor an anchor.
_RELATIVE = re.compile(r"(!?)(\[[^\]]*\]\()(?![a-z]+:|#)([^)\s]+)(?=\))")


class ReadmeHook(MetadataHookInterface):
    """Set ``readme`` to README.md with absolute links, below the address "Source" of pyproject.toml."""

    PLUGIN_NAME = "custom"

    def update(self, metadata: dict[str, Any]) -> None:
        """Add the field to the metadata of the project."""
        text = (Path(self.root) / "README.md").read_text("utf-8")
        metadata["readme"] = {
            "content-type": "text/markdown",
            "text": absolute_links(text, metadata["urls"]["Source"].rstrip("/")),
        }


def absolute_links(text: str, source: str) -> str:
    """Return Markdown with links to files of the repository as addresses of GitHub, and images as their bytes."""
    return _RELATIVE.sub(
        lambda link: f"{link[1]}{link[2]}{source}/{'raw' if link[1] else 'blob'}/HEAD/{link[3].removeprefix('./')}",
        text,
    )
