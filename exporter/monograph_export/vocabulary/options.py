"""What may be asked of a smaller vocabulary. Imports nothing heavy: the command line reads it before torch is there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from monograph.errors import ExportError
from monograph_export.text_files import read_texts


@dataclass(frozen=True)
class NamedTexts:
    """Different texts, and the names of the files they were read from."""

    texts: tuple[str, ...]
    name: str


@dataclass(frozen=True)
class Trimming:
    """The tokens to keep: those that a corpus needs, and those of whole scripts, by ISO 15924 codes.

    ``coverage`` are other texts, of which is told how the kept tokens do for them.
    """

    corpus: NamedTexts | None = None
    scripts: tuple[str, ...] = ()
    coverage: NamedTexts | None = None

    @property
    def wanted(self) -> bool:
        """Whether anything is asked for."""
        return self.corpus is not None or bool(self.scripts)

    def check(self) -> None:
        """Refuse what no vocabulary can be reduced to.

        Raises:
            ExportError: there are texts to report on and nothing to report.

        """
        if self.coverage is not None and not self.wanted:
            raise ExportError("coverage is of the tokens that --keep-vocab or --keep-scripts keep: neither was given")


def named_texts(files: Sequence[Path]) -> NamedTexts | None:
    """Return the texts of some files, None of no file.

    Raises:
        ExportError: a file cannot be read, is not UTF-8 or has no text.

    """
    if not files:
        return None
    texts = dict.fromkeys(text for file in files for text in read_texts(file))
    return NamedTexts(tuple(texts), ", ".join(file.name for file in files))
