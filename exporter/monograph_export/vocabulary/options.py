"""Which tokens a pruned vocabulary retains. Imports nothing heavy: the command line reads it before torch is there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from monograph.errors import ExportError
from monograph_export.text_files import read_texts


@dataclass(frozen=True)
class NamedTexts:
    """The different texts of a file, and its name."""

    texts: tuple[str, ...]
    name: str


@dataclass(frozen=True)
class VocabularyOptions:
    """The tokens to retain: those that the texts of corpora need, and those of whole scripts, by ISO 15924 codes.

    ``coverage`` are other texts, whose tokenization with the retained tokens is reported.
    """

    corpora: tuple[NamedTexts, ...] = ()
    scripts: tuple[str, ...] = ()
    coverage: tuple[NamedTexts, ...] = ()

    @property
    def prunes(self) -> bool:
        """Whether the vocabulary is pruned at all."""
        return bool(self.corpora or self.scripts)

    @cached_property
    def corpus(self) -> NamedTexts | None:
        """All texts of the corpora, None without one."""
        return _joined(self.corpora)

    @cached_property
    def coverage_texts(self) -> NamedTexts | None:
        """All texts to report the coverage of, None without any."""
        return _joined(self.coverage)

    def check(self) -> None:
        """Refuse what no vocabulary can be pruned to.

        Raises:
            ExportError: there are texts to report on and nothing to report.

        """
        if self.coverage and not self.prunes:
            raise ExportError("coverage is of the tokens that --keep-vocab or --keep-scripts retain: neither was given")


def named_texts(files: Sequence[Path]) -> tuple[NamedTexts, ...]:
    """Return the texts of files.

    Raises:
        ExportError: a file cannot be read, is not UTF-8 or has no text.

    """
    return tuple(NamedTexts(tuple(read_texts(file)), file.name) for file in dict.fromkeys(files))


def _joined(parts: Sequence[NamedTexts]) -> NamedTexts | None:
    """Return all texts as those of one file, None of none."""
    if not parts:
        return None
    texts = dict.fromkeys(text for part in parts for text in part.texts)
    return NamedTexts(tuple(texts), ", ".join(part.name for part in parts))
