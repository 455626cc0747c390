"""The scripts of characters, by the ISO 15924 codes of Unicode's property Script (UAX #24)."""

from __future__ import annotations

import codecs
from collections import Counter
from collections.abc import Iterable
from functools import cached_property, lru_cache

from fontTools import unicodedata

from monograph.errors import ExportError

# Punctuation, digits and symbols; marks that take the script of what they stand on.
SHARED = frozenset({"Zyyy", "Zinh"})
# Unknown characters; a code for two scripts, of which no character has it.
_NO_SCRIPTS = ("Zzzz", "Hrkt")
_FIRST_BEYOND_ASCII = 0x80
# The bytes of UTF-8 that are not a character's first.
_CONTINUATION = bytes(range(0x80, 0xC0))
_CODE_POINTS = 0x110000


# Enough for the characters that texts have.
@lru_cache(maxsize=1 << 16)
def script_of(character: str) -> str:
    """Return the code of a character's script, Zzzz where Unicode has none."""
    return str(unicodedata.script(character))


def scripts_of(texts: Iterable[str], min_share: float) -> frozenset[str]:
    """Return the scripts that have at least a share of the letters of all texts, ``SHARED`` left out of account."""
    counts: Counter[str] = Counter()
    for character, count in Counter(character for text in texts for character in text).items():
        counts[script_of(character)] += count
    counted = {script: count for script, count in counts.items() if script not in SHARED}
    return frozenset(script for script, count in counted.items() if count >= min_share * sum(counted.values()))


def check_scripts(codes: Iterable[str]) -> None:
    """Refuse what is no script of Unicode.

    Raises:
        ExportError: naming the first code that is not known.

    """
    for code in codes:
        if code in _NO_SCRIPTS or not unicodedata.script_name(code, default=""):
            raise ExportError(
                f"script {code!r} is not known: give ISO 15924 codes of Unicode's scripts, such as Latn, Cyrl, Arab; "
                "Chinese is Hani, Japanese Hani,Hira,Kana, Korean Hang"
            )


class Scripts:
    """Some scripts, with what is shared by all of them."""

    def __init__(self, codes: Iterable[str]) -> None:
        self._codes = SHARED.union(codes)

    def has(self, piece: bytes) -> bool:
        """Tell whether UTF-8, perhaps cut inside its first and last character, can stand in a text of the scripts."""
        text = piece.lstrip(_CONTINUATION)
        head = piece[: len(piece) - len(text)]
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            whole = decoder.decode(text)
        except UnicodeDecodeError:
            return False
        tail, _ = decoder.getstate()
        if not all(script_of(character) in self._codes for character in whole):
            return False
        # Most pieces are not cut, and then the script of every character of Unicode need not be known.
        if head and not (head in self._ends or (not text and head in self._middles)):
            return False
        return not tail or tail in self._beginnings

    @cached_property
    def _encoded(self) -> list[bytes]:
        """The characters of the scripts that UTF-8 has more than one byte for."""
        characters = map(chr, range(_FIRST_BEYOND_ASCII, _CODE_POINTS))
        return [character.encode() for character in characters if script_of(character) in self._codes]

    @cached_property
    def _beginnings(self) -> frozenset[bytes]:
        return frozenset(encoded[:cut] for encoded in self._encoded for cut in range(1, len(encoded)))

    @cached_property
    def _ends(self) -> frozenset[bytes]:
        return frozenset(encoded[cut:] for encoded in self._encoded for cut in range(1, len(encoded)))

    @cached_property
    def _middles(self) -> frozenset[bytes]:
        return frozenset(beginning[cut:] for beginning in self._beginnings for cut in range(1, len(beginning)))
