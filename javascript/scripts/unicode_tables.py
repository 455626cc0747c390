"""Write src/tokenizer/unicode-tables.ts: characters as the Rust tokenizers class them, whose Unicode is older.

python scripts/unicode_tables.py > src/tokenizer/unicode-tables.ts
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator

import tokenizers
from tokenizers import normalizers, pre_tokenizers

_CODES = [code for code in range(0x110000) if not 0xD800 <= code <= 0xDFFF]
_CLEAN = normalizers.BertNormalizer(clean_text=True, handle_chinese_chars=False, strip_accents=False, lowercase=False)
_STRIP = normalizers.BertNormalizer(clean_text=False, handle_chinese_chars=False, strip_accents=True, lowercase=False)
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


# U+0315 is put after most marks, and U+0334 before them.
_SCRIPT = """
const [form] = process.argv.slice(1);
const lines = [];
for (let code = 0; code < 0x110000; code++) {
  if (code >= 0xd800 && code <= 0xdfff) continue;
  const character = String.fromCodePoint(code);
  const parts = [...character.normalize("NFD")];
  const texts = [character, `\u0315${character}`, `${character}\u0334`];
  // What a newer character is composed of is as new: its first part has to stay apart.
  if (parts.length === 2) texts.push([parts.join(""), parts[0]]);
  for (const text of texts) {
    const [whole, unknown] = Array.isArray(text) ? text : [text, character];
    if (whole.normalize(form) !== whole) lines.push([whole, unknown.codePointAt(0)]);
  }
}
console.log(JSON.stringify(lines));
"""


def _unknown_to(form: str) -> Iterator[tuple[int, int]]:
    """Yield the characters that a newer Unicode decomposes, composes or orders, and tokenizers leave as they are."""
    command = ["node", "-e", _SCRIPT, form]
    newer = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    normalizer = getattr(normalizers, form)()
    unknown = {code for text, code in newer if normalizer.normalize_str(text) == text}
    return _ranges(lambda one: ord(one) in unknown)


def main() -> None:
    """Print the module."""
    print(f"// Written by scripts/unicode_tables.py from tokenizers {tokenizers.__version__}: do not edit.")
    for name, (comment, contains) in _CLASSES.items():
        print(f"\n/** {comment} */\nexport const {name} =\n  {_encode(_ranges(contains))!r};".replace("'", '"'))
    for form in ("NFC", "NFKC", "NFD", "NFKD"):
        print(
            f"\n/** Characters that {form} leaves as they are, because they are newer than its tables. */"
            f'\nexport const UNKNOWN_TO_{form} =\n  "{_encode(_unknown_to(form))}";'
        )


if __name__ == "__main__":
    main()
