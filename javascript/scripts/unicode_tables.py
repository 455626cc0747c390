"""Write src/tokenizer/unicode-tables.ts: the character classes of the Rust tokenizers, whose Unicode is older than that of browsers.

python scripts/unicode_tables.py > src/tokenizer/unicode-tables.ts
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator

import tokenizers
from tokenizers import normalizers, pre_tokenizers

_CODES = [code for code in range(0x110000) if not 0xD800 <= code <= 0xDFFF]
_CLEAN = normalizers.BertNormalizer(
    clean_text=True, handle_chinese_chars=False, strip_accents=False, lowercase=False
)
_STRIP = normalizers.BertNormalizer(
    clean_text=False, handle_chinese_chars=False, strip_accents=True, lowercase=False
)
_CLASSES: dict[str, tuple[str, Callable[[str], bool]]] = {
    "CONTROL": ("What BertNormalizer removes.", lambda one: _CLEAN.normalize_str(f"a{one}a") == "aa"),
    "PUNCTUATION": (
        "What BertPreTokenizer and Punctuation isolate.",
        lambda one: len(pre_tokenizers.BertPreTokenizer().pre_tokenize_str(f"a{one}a")) == 3,
    ),
    "NONSPACING_MARK": (
        "What BertNormalizer strips as an accent.",
        lambda one: _STRIP.normalize_str(f"a{one}") == "a",
    ),
    "MARK": (
        "What StripAccents removes.",
        lambda one: normalizers.StripAccents().normalize_str(f"a{one}") == "a",
    ),
}


def _ranges(contains: Callable[[str], bool]) -> Iterator[tuple[int, int]]:
    start = previous = -2
    for code in _CODES:
        if not contains(chr(code)):
            continue
        if code != previous + 1:
            if start >= 0:
                yield start, previous
            start = code
        previous = code
    if start >= 0:
        yield start, previous


def _encode(ranges: Iterator[tuple[int, int]]) -> str:
    """Return ranges as the distance of each from the one before, and its length less one if that is not 0."""
    parts, end = [], 0
    for first, last in ranges:
        parts.append(_base36(first - end) + (f".{_base36(last - first)}" if last > first else ""))
        end = last
    return " ".join(parts)


def _base36(number: int) -> str:
    digits = ""
    while True:
        number, digit = divmod(number, 36)
        digits = "0123456789abcdefghijklmnopqrstuvwxyz"[digit] + digits
        if not number:
            return digits


def _unknown_to(form: str) -> Iterator[tuple[int, int]]:
    """Yield the characters that a newer Unicode normalizes to others, and tokenizers leave as they are."""
    script = (
        f"let out=[];for(let c=0;c<0x110000;c++){{if(c>=0xd800&&c<=0xdfff)continue;"
        f"const s=String.fromCodePoint(c);if(s.normalize('{form}')!==s)out.push(c)}}console.log(out.join(' '))"
    )
    newer = subprocess.run(["node", "-e", script], check=True, capture_output=True, text=True).stdout.split()
    normalizer = getattr(normalizers, form)()
    changed = {int(code) for code in newer}
    return _ranges(lambda one: ord(one) in changed and normalizer.normalize_str(one) == one)


def main() -> None:
    """Print the module."""
    print(f"// Written by scripts/unicode_tables.py from tokenizers {tokenizers.__version__}: do not edit.")
    for name, (comment, contains) in _CLASSES.items():
        print(f"\n/** {comment} */\nexport const {name} =\n  {_encode(_ranges(contains))!r};".replace("'", '"'))
    for form in ("NFD", "NFKD"):
        print(
            f"\n/** Characters that {form} leaves as they are, because they came after its Unicode. */"
            f'\nexport const UNKNOWN_TO_{form} =\n  "{_encode(_unknown_to(form))}";'
        )


if __name__ == "__main__":
    sys.exit(main())
