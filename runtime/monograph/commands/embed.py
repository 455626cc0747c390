"""`monograph embed`: a file of texts to a file of vectors."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.lib.format as npy
from numpy.typing import NDArray

from monograph.atomic import whole_file
from monograph.commands import options
from monograph.embedder import Embedder
from monograph.errors import InputError
from monograph.postprocess import PRECISIONS, SCALAR

HELP = "embed the lines of a file, or of standard input"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    options.add_bundle(parser)
    parser.add_argument(
        "file",
        metavar="FILE",
        nargs="?",
        default="-",
        help="a text a line, UTF-8, or .jsonl; - for standard input (default)",
    )
    parser.add_argument("--field", help="read JSON lines, and the text from this field; default for .jsonl: text")
    parser.add_argument(
        "-o", "--output", type=Path, help="file to write, .npy or .jsonl; default: JSON lines on standard output"
    )
    options.add_engine(parser)
    options.add_prompt(parser)
    parser.add_argument("--batch-size", type=options.positive, help="texts in a batch; default: by their tokens")
    parser.add_argument("--truncate-dim", type=options.positive, help="keep only the first dimensions")
    parser.add_argument("--normalize", action="store_true", help="bring each vector to length 1")
    # The scalar precisions need ranges, which are arrays.
    parser.add_argument("--precision", default="float32", choices=[name for name in PRECISIONS if name not in SCALAR])
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def run(arguments: argparse.Namespace) -> int:
    """Embed and write; the output file appears only when it is whole."""
    output: Path | None = arguments.output
    if output is not None and output.suffix not in (".npy", ".jsonl"):
        raise InputError(f"cannot tell the format of {output}: name it .npy or .jsonl")
    if output is None:
        sys.stdout.writelines(_json_lines(_embed(arguments)))
        return 0
    # Opened first, so that a place that cannot be written is known before the work is done.
    with whole_file(output) as file:
        vectors = _embed(arguments)
        if output.suffix == ".npy":
            _write_npy(file, vectors)
        else:
            file.writelines(line.encode("ascii") for line in _json_lines(vectors))
    return 0


def _embed(arguments: argparse.Namespace) -> NDArray[Any]:
    lines = _read_lines(arguments.file)
    if arguments.field is not None or arguments.file.endswith(".jsonl"):
        lines = _fields(lines, arguments.field or "text", arguments.file)
    with Embedder(arguments.bundle, arguments.device, arguments.compute_dtype, arguments.threads) as model:
        return model.encode(
            lines,
            prompt_name=arguments.prompt_name,
            prompt=arguments.prompt,
            batch_size=arguments.batch_size,
            show_progress_bar=not arguments.quiet and sys.stderr.isatty(),
            precision=arguments.precision,
            normalize_embeddings=arguments.normalize,
            truncate_dim=arguments.truncate_dim,
        )


def _fields(lines: list[str], field: str, name: str) -> list[str]:
    """Return the text of each line of JSON: a string, or an object's field."""
    texts = []
    for number, line in enumerate(lines, start=1):
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{name} line {number} is not JSON: {error}") from error
        text = value.get(field) if isinstance(value, dict) else value
        if not isinstance(text, str):
            raise InputError(f"{name} line {number} has no text in the field {field!r}: name it with --field")
        texts.append(text)
    return texts


def _read_lines(name: str) -> list[str]:
    content = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    try:
        # Only line feeds end a line: str.splitlines would also cut at a form feed or U+2028 within a text.
        lines = content.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{name} is not UTF-8 (byte {error.start}): convert it, with `iconv -t UTF-8` for example"
        ) from error
    if lines[-1] == "":
        lines.pop()
    return [line.removesuffix("\r") for line in lines]


def _write_npy(file: IO[bytes], vectors: NDArray[Any]) -> None:
    """Write what numpy.save writes, through Python's file.

    numpy.save hands the values to the C library, and a disk that is full when that empties its buffer goes unnoticed.
    """
    npy.write_array_header_1_0(file, npy.header_data_from_array_1_0(vectors))
    file.write(np.ascontiguousarray(vectors).data)


def _json_lines(vectors: NDArray[Any]) -> Iterator[str]:
    # float32 values in the shortest decimals that give them back exactly.
    for vector in vectors:
        yield json.dumps([float(str(value)) for value in vector] if vector.dtype.kind == "f" else vector.tolist())
        yield "\n"
