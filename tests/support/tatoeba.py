"""Sentences of many languages from the Tatoeba test sets."""

from __future__ import annotations

from pathlib import Path

# A language for each of twenty scripts and more.
SCRIPTS = {
    "ara": "Arabic", "hye": "Armenian", "ben": "Bengali", "cmn": "Han", "rus": "Cyrillic", "hin": "Devanagari",
    "amh": "Ethiopic", "kat": "Georgian", "ell": "Greek", "heb": "Hebrew", "jpn": "Kana", "khm": "Khmer",
    "kor": "Hangul", "mal": "Malayalam", "tam": "Tamil", "tel": "Telugu", "tha": "Thai", "fra": "Latin",
    "vie": "Latin with many marks", "yid": "Yiddish", "urd": "Nastaliq", "uig": "Uyghur",
}  # fmt: skip


class Tatoeba:
    """The aligned sentences of a folder of ``tatoeba.xxx-eng.xxx`` files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def languages(self) -> list[str]:
        return sorted(path.name.split(".")[1].split("-")[0] for path in self._folder.glob("*.eng"))

    def sentences(self, language: str, limit: int | None = None) -> list[str]:
        path = self._folder / f"tatoeba.{language}-eng.{language}"
        lines = path.read_text(encoding="utf-8").split("\n")
        return [line for line in lines if line][:limit]

    def lines(self) -> list[str]:
        """Return every different sentence: those of all languages, and then their English sides."""
        sides = [self._folder / f"tatoeba.{language}-eng.eng" for language in self.languages()]
        english = [line for path in sides for line in path.read_text(encoding="utf-8").split("\n") if line]
        each = [line for language in self.languages() for line in self.sentences(language)]
        return list(dict.fromkeys([*each, *english]))

    def aligned(self, language: str, count: int) -> tuple[list[str], list[str]]:
        """Return ``count`` sentences in English, and the same in a language."""
        sides = [
            (self._folder / f"tatoeba.{language}-eng.{side}").read_text(encoding="utf-8").split("\n")[:count]
            for side in ("eng", language)
        ]
        assert all(len(side) == count and all(side) for side in sides)
        return sides[0], sides[1]

    def english(self, count: int) -> list[str]:
        """Return ``count`` different English sentences, taken alternately from all pairs of languages."""
        files = [path.read_text(encoding="utf-8").split("\n") for path in sorted(self._folder.glob("*.eng"))]
        longest = max(map(len, files))
        sentences = dict.fromkeys(
            lines[position] for position in range(longest) for lines in files if position < len(lines)
        )
        chosen = [sentence for sentence in sentences if sentence][:count]
        assert len(chosen) == count, f"only {len(chosen)} sentences"
        return chosen

    def mixed(self, count: int, languages: list[str] | None = None) -> list[str]:
        """Return ``count`` sentences, taken alternately from the languages (default: all)."""
        each = [self.sentences(language) for language in languages or self.languages()]
        longest = max(map(len, each))
        taken = [sentences[position] for position in range(longest) for sentences in each if position < len(sentences)]
        assert len(taken) >= count, f"only {len(taken)} sentences"
        return taken[:count]
