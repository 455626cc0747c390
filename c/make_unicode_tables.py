"""Write unicode_tables.h: what the Rust tokenizers package knows of every code point.

Its crates have different versions of Unicode, so each table is read from the installed package itself: a property is
what a normalizer or pre-tokenizer does with the code point. The classes of grapheme clusters, which no function of the
package gives, are those of the regex package, as far as the crate's older Unicode knows the code points.

Run it with an environment that has tokenizers and regex: python c/make_unicode_tables.py > c/unicode_tables.h
"""

from __future__ import annotations

import struct
import sys
import unicodedata
from collections.abc import Callable, Iterable, Sequence

import regex
import tokenizers
from tokenizers import Regex, normalizers, pre_tokenizers

# Surrogates are no characters of a text.
CODE_POINTS = [code for code in range(0x110000) if not 0xD800 <= code < 0xE000]
HANGUL = range(0xAC00, 0xAC00 + 11172)
# In the order of the enumeration in monograph.c; 0 is any other.
CLUSTER_CLASSES = (
    "Control", "Extend", "ZWJ", "SpacingMark", "Prepend", "Regional_Indicator", "L", "V", "T", "LV", "LVT",
)  # fmt: skip
# General categories of regular expressions.
CATEGORIES = ("L", "N", "Nd", "M", "P", "S", "Lu", "Ll", "Lt", "Lm", "Lo")


def ranges(values: Iterable[tuple[int, int]]) -> list[tuple[int, int, int]]:
    """Return sorted code points with values as first and last of each run of one value, and that value."""
    runs: list[tuple[int, int, int]] = []
    for code, value in values:
        if runs and runs[-1][1:] == (code - 1, value):
            runs[-1] = runs[-1][0], code, value
        else:
            runs.append((code, code, value))
    return runs


def is_dropped(normalizer: normalizers.Normalizer) -> list[int]:
    """Return the code points that a normalizer removes."""
    return [code for code in CODE_POINTS if normalizer.normalize_str(f"a{chr(code)}b") == "ab"]


def matched(pattern: str) -> list[int]:
    """Return the code points that a regular expression of tokenizers matches."""
    split = pre_tokenizers.Split(Regex(pattern), "removed")
    return [code for code in CODE_POINTS if not split.pre_tokenize_str(chr(code))]


def is_apart(pre_tokenizer: pre_tokenizers.PreTokenizer, pieces: int) -> list[int]:
    """Return the code points that split the letters around them into a number of pieces."""
    return [code for code in CODE_POINTS if len(pre_tokenizer.pre_tokenize_str(f"a{chr(code)}b")) == pieces]


def mapped(normalizer: normalizers.Normalizer) -> dict[int, list[int]]:
    """Return what a normalizer makes of single code points that it changes, but for syllables of Hangul."""
    found = {}
    for code in CODE_POINTS:
        text = normalizer.normalize_str(chr(code))
        if text != chr(code) and code not in HANGUL:
            found[code] = [ord(character) for character in text]
    return found


def combining_classes() -> dict[int, int]:
    """Return the canonical combining class of the code points that have one, as the package orders them."""
    order = normalizers.NFD().normalize_str
    candidates = {code: unicodedata.combining(chr(code)) for code in CODE_POINTS if unicodedata.combining(chr(code))}
    # Of the last class, before which every mark of another goes; and of the first.
    last, first = "\u0345", "\u0334"
    decomposed = {code for code in candidates if order(chr(code)) != chr(code)}
    known = {}
    for code in CODE_POINTS:
        text = last + chr(code)
        if code in decomposed or order(chr(code)) != chr(code):
            continue
        if order(text) != text or (chr(code) == last):
            if code not in candidates:
                raise SystemExit(f"U+{code:04X} has a combining class that unicodedata does not know")
            known[code] = candidates[code]
    if known.get(ord(first)) != 1:
        raise SystemExit("combining classes cannot be found")
    return known


def compositions() -> list[tuple[int, int, int]]:
    """Return the pairs of code points that NFC makes one of."""
    compose = normalizers.NFC().normalize_str
    found = []
    for code in CODE_POINTS:
        fields = unicodedata.decomposition(chr(code)).split()
        if len(fields) == 2 and not fields[0].startswith("<"):
            first, second = (int(field, 16) for field in fields)
            if compose(chr(first) + chr(second)) == chr(code):
                found.append((first, second, code))
    return sorted(found)


def joining() -> set[int]:
    """Return the code points that continue a grapheme cluster behind a letter, as the package finds clusters.

    The normalizer Precompiled replaces a whole cluster of which it knows the start. Its table is a double array: here
    the root, the only key, "a", and the place of the text that it becomes.
    """
    units = [0] * 512
    units[0], units[0x161] = 0x100 << 10, 0x80 << 10 | 1 << 8 | ord("a")
    table = struct.pack("<I512I", 4 * len(units), *units) + b"X\0"
    normalizer = normalizers.Precompiled(table)
    return {code for code in CODE_POINTS if normalizer.normalize_str(f"a{chr(code)}") == "X"}


def conjunct(value: str, joins: set[int]) -> list[int]:
    """Return the code points of a value of Indic_Conjunct_Break; of marks those that the package knows."""
    pattern = regex.compile(rf"\p{{InCB={value}}}")
    return [code for code in CODE_POINTS if pattern.match(chr(code)) and (value == "Consonant" or code in joins)]


def cluster_classes(joins: set[int]) -> dict[int, int]:
    """Return the number of the class in CLUSTER_CLASSES of code points that have one, Hangul syllables included."""
    patterns = [regex.compile(rf"\p{{Grapheme_Cluster_Break={name}}}") for name in CLUSTER_CLASSES[1:]]
    control = regex.compile(r"\p{GCB=Control}|\p{GCB=CR}|\p{GCB=LF}")
    found = {}
    for code in CODE_POINTS:
        text = chr(code)
        number = 1 if control.match(text) else 0
        number = number or next((place + 2 for place, one in enumerate(patterns) if one.match(text)), 0)
        if CLUSTER_CLASSES[number - 1] in ("Extend", "ZWJ", "SpacingMark") and code not in joins:
            number = 0
        if number:
            found[code] = number
    return found


def print_rows(declaration: str, rows: Sequence[str]) -> None:
    """Print an array of C."""
    print(f"\nstatic const {declaration}[] = {{")
    line = "   "
    for row in rows:
        if len(line) + len(row) + 2 > 120:
            print(line)
            line = "   "
        line += f" {row},"
    print(f"{line}\n}};")


def print_ranges(name: str, codes: Iterable[int]) -> None:
    """Print code points as the ranges of a property."""
    print_rows(f"Range {name}", [f"{{{first:#x},{last:#x}}}" for first, last, _ in ranges((code, 0) for code in codes)])


def print_value_ranges(name: str, values: dict[int, int]) -> None:
    """Print code points with values as the ranges of each."""
    runs = ranges(sorted(values.items()))
    print_rows(f"ValueRange {name}", [f"{{{first:#x},{last:#x},{value}}}" for first, last, value in runs])


def print_mapping(name: str, mapping: dict[int, list[int]]) -> None:
    """Print what code points become, and the pool of that."""
    pool: list[int] = []
    places: dict[tuple[int, ...], int] = {}
    rows = []
    for code, result in sorted(mapping.items()):
        place = places.setdefault(tuple(result), len(pool))
        if place == len(pool):
            pool.extend(result)
        rows.append(f"{{{code:#x},{place},{len(result)}}}")
    print_rows(f"uint32_t {name}_POOL", [f"{code:#x}" for code in pool])
    print_rows(f"Mapping {name}", rows)


def main() -> None:
    """Print the header."""
    canonical, compatible = mapped(normalizers.NFD()), mapped(normalizers.NFKD())
    joins = joining()
    print(f"/* Generated by make_unicode_tables.py from tokenizers {tokenizers.__version__}: do not edit. */\n")
    print("#ifndef MONOGRAPH_UNICODE_TABLES_H\n#define MONOGRAPH_UNICODE_TABLES_H\n\n#include <stdint.h>\n")
    print("typedef struct { uint32_t first, last; } Range;")
    print("typedef struct { uint32_t first, last; uint8_t value; } ValueRange;")
    print("/* A code point that becomes `count` others, from `place` of the pool of the same name. */")
    print("typedef struct { uint32_t code; uint16_t place; uint8_t count; } Mapping;")
    print("typedef struct { uint32_t first, second, composed; } Composition;")
    bert: Callable[..., normalizers.Normalizer] = normalizers.BertNormalizer
    off = {"clean_text": False, "handle_chinese_chars": False, "strip_accents": False, "lowercase": False}
    for name, codes in {
        # Not what becomes a space.
        "BERT_DROPPED": is_dropped(bert(**off | {"clean_text": True})),
        "BERT_ACCENTS": is_dropped(bert(**off | {"strip_accents": True})),
        "ACCENTS": is_dropped(normalizers.StripAccents()),
        "WHITE_SPACE": is_apart(pre_tokenizers.WhitespaceSplit(), 2),
        "PUNCTUATION": is_apart(pre_tokenizers.BertPreTokenizer(), 3),
        "NUMERIC": is_apart(pre_tokenizers.Digits(), 3),
        # What \w of the pre-tokenizer Whitespace is; ignorable ones are in one piece with the letters.
        "WORD": is_apart(pre_tokenizers.Whitespace(), 1),
        "REGEX_SPACE": matched(r"\s"),
        "REGEX_WORD": matched(r"\w"),
        "NOT_PRINTABLE": [code for code in CODE_POINTS if not chr(code).isprintable()],
        "PICTOGRAPHIC": [c for c in CODE_POINTS if regex.match(r"\p{Extended_Pictographic}", chr(c))],
        **{f"CONJUNCT_{value.upper()}": conjunct(value, joins) for value in ("Consonant", "Linker", "Extend")},
        **{f"CATEGORY_{name.upper()}": matched(rf"\p{{{name}}}") for name in CATEGORIES},
    }.items():
        print_ranges(name, codes)
    print_value_ranges("CLUSTER_CLASS", cluster_classes(joins))
    print_value_ranges("COMBINING_CLASS", combining_classes())
    print_mapping("LOWERCASE", mapped(normalizers.Lowercase()))
    print_mapping("CANONICAL", canonical)
    # Only where they differ from the canonical ones.
    print_mapping("COMPATIBLE", {code: to for code, to in compatible.items() if canonical.get(code) != to})
    print_rows("Composition COMPOSITION", [f"{{{a:#x},{b:#x},{c:#x}}}" for a, b, c in compositions()])
    print("\n#endif")


if __name__ == "__main__":
    sys.exit(main())
