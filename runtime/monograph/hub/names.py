"""How a repository of a Hub is named: ORG/NAME or ORG/NAME@REVISION."""

from __future__ import annotations

import re
from dataclasses import dataclass

# As huggingface_hub checks them: whatever else is written so cannot be on a Hub.
_PART = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?"
_NAME = re.compile(rf"(?P<repository>{_PART}/{_PART})(?:@(?P<revision>[A-Za-z0-9][A-Za-z0-9._/-]*))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class HubName:
    """A repository of a Hub, at a branch, tag or commit; None for its main branch."""

    repository: str
    revision: str | None

    def __str__(self) -> str:
        return self.repository if self.revision is None else f"{self.repository}@{self.revision}"

    @property
    def commit(self) -> str | None:
        """The revision, where it is a whole commit hash and so never stands for other files."""
        return self.revision if self.revision is not None and _COMMIT.fullmatch(self.revision) else None

    @property
    def folder_name(self) -> str:
        """The repository's name as the name of one folder."""
        return self.repository.replace("/", "--")


def hub_name(text: str) -> HubName | None:
    """Return what ORG/NAME or ORG/NAME@REVISION names, None for a text of another form."""
    match = _NAME.fullmatch(text)
    # ".." has a meaning in paths, "--" in the names of cached folders and ".git" to git; a Hub allows none of them.
    if match is None or ".." in text or "--" in match["repository"] or match["repository"].endswith(".git"):
        return None
    return HubName(match["repository"], match["revision"])
