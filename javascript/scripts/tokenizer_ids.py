"""Compare the ids of this package with those of the Rust tokenizers, line by line.

python javascript/scripts/tokenizer_ids.py [--lines N] TOKENIZER.json... --texts TEXTS...

It needs the package built (npm run build) and prints the lines that differ; the exit code is 1 if one does.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tokenizers import Tokenizer

_READER = Path(__file__).with_name("print-ids.mjs")
_BATCH = 20_000
_MAX_SHOWN = 10


def differing_lines(
    tokenizer: Path, texts: Sequence[str], extra: Sequence[str] = ()
) -> list[tuple[str, list[int], list[int]]]:
    """Return the texts that get other ids, with those of tokenizers and those of this package."""
    reference = Tokenizer.from_file(str(tokenizer))
    reference.no_padding()
    different = []
    for start in range(0, len(texts), _BATCH):
        batch = list(texts[start : start + _BATCH])
        lines = "".join(f"{json.dumps(text)}\n" for text in batch)
        command = ["node", str(_READER), str(tokenizer), *extra]
        output = subprocess.run(command, input=lines, check=True, stdout=subprocess.PIPE, text=True).stdout
        actual = [json.loads(line) for line in output.splitlines()]
        expected = [encoding.ids for encoding in reference.encode_batch_fast(batch)]
        different += [
            (text, one, other) for text, one, other in zip(batch, expected, actual, strict=True) if one != other
        ]
    return different


def read_lines(paths: Sequence[Path], limit: int | None) -> Iterator[str]:
    """Yield the lines of text files, at most ``limit`` of each."""
    for path in paths:
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
        yield from [line for line in lines if line][:limit]


def main() -> int:
    """Print the differences of each tokenizer."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("tokenizers", type=Path, nargs="+")
    parser.add_argument("--texts", type=Path, nargs="+", required=True)
    parser.add_argument("--lines", type=int, help="of each file")
    parser.add_argument("--library", action="store_true", help="compare @huggingface/tokenizers instead")
    arguments = parser.parse_args()
    texts = list(dict.fromkeys(read_lines(arguments.texts, arguments.lines)))
    failed = False
    for tokenizer in arguments.tokenizers:
        different = differing_lines(tokenizer, texts, ["--library"] if arguments.library else [])
        print(f"{tokenizer}: {len(different)} of {len(texts)} lines differ", flush=True)
        for text, expected, actual in different[:_MAX_SHOWN]:
            print(f"  {text!r}\n    {expected}\n    {actual}")
        failed |= bool(different)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
