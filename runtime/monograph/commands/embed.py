"""`monograph embed`: a stream of texts to a file of vectors."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from tqdm import tqdm

from monograph.atomic import missing_parent
from monograph.bundle import open_bundle
from monograph.bundle.manifest import SPARSE
from monograph.bundle.sources import locate_bundle
from monograph.commands import options
from monograph.commands.text_lines import TextLines, open_texts
from monograph.commands.vectors import DenseVectors, SparseVectors, Vectors, check_vector_options
from monograph.embedder import Embedder
from monograph.errors import InputError
from monograph.postprocess import PRECISIONS, SCALAR
from monograph.sparse_encoder import SparseEncoder
from monograph.vector_file import FORMATS, SPARSE_SUFFIX, open_vector_file

HELP = "embed the lines of a file, or of standard input, with an embedding model or a sparse encoder"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    options.add_bundle(parser)
    options.add_texts(parser, "text")
    formats = " or ".join(FORMATS)
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        help=f"file to write, {formats} (sparse vectors only {SPARSE_SUFFIX}); default: JSON lines on standard output",
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on where a run with the same input, options and -o was cut off; without it, what that run did is "
        "neither used nor replaced",
    )
    options.add_engine(parser)
    options.add_prompt(parser)
    options.add_task(parser)
    options.add_batches(parser, "texts")
    parser.add_argument(
        "--truncate-dim", type=options.positive, help="keep only the first dimensions of a dense vector"
    )
    parser.add_argument("--normalize", action="store_true", help="bring each dense vector to length 1")
    # The scalar precisions need ranges, which are arrays.
    parser.add_argument(
        "--precision",
        default="float32",
        choices=[name for name in PRECISIONS if name not in SCALAR],
        help="of dense vectors",
    )
    parser.add_argument(
        "--max-active-dims", type=options.positive, help="keep only so many of the largest values of a sparse vector"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.set_defaults(bad_usage=parser.error)


def run(arguments: argparse.Namespace) -> int:
    """Embed the texts as they are read and write the vectors as they are made."""
    output: Path | None = arguments.output
    if output is None and arguments.resume:
        arguments.bad_usage("--resume needs -o: standard output cannot be taken up again")
    with open_texts(arguments.file, arguments.field) as texts:
        if output is not None:
            _check_output(output, texts)
        # Found once: what opens it below has a folder.
        folder = locate_bundle(arguments.bundle)
        opened = (arguments.device, arguments.compute_dtype, arguments.threads)
        most = arguments.max_tokens_per_batch
        manifest = open_bundle(folder).manifest
        check_vector_options(manifest, arguments)
        if manifest.task == SPARSE:
            with SparseEncoder(folder, *opened, max_tokens_per_batch=most) as sparse:
                _write(texts, SparseVectors(sparse, arguments), output, arguments)
        else:
            with Embedder(folder, *opened, max_tokens_per_batch=most) as embedder:
                _write(texts, DenseVectors(embedder, arguments), output, arguments)
    return 0


def _check_output(output: Path, texts: TextLines) -> None:
    """Refuse an output that cannot be written or would replace the input, before a model is loaded."""
    if output.suffix not in FORMATS:
        raise InputError(f"cannot tell the format of {output}: name it {' or '.join(FORMATS)}")
    if missing := missing_parent(output):
        raise InputError(missing)
    if texts.come_from(output):
        raise InputError(f"{output} is the input, which the vectors would replace: choose another output")


def _write(texts: TextLines, vectors: Vectors[Any], output: Path | None, arguments: argparse.Namespace) -> None:
    if output is None:
        _to_standard_output(texts, vectors, arguments)
        return
    form = vectors.form(output)
    with (
        open_vector_file(output, form, vectors.settings(form), resume=arguments.resume) as file,
        _progress(texts, file.texts, arguments) as bar,
    ):
        for block in vectors.blocks(file.remaining(texts), bar.update):
            file.append(block)


def _to_standard_output(texts: TextLines, vectors: Vectors[Any], arguments: argparse.Namespace) -> None:
    with _progress(texts, 0, arguments) as bar:
        for block in vectors.blocks(texts, bar.update):
            sys.stdout.writelines(vectors.lines(block))
            # A reader at the other end of a pipe gets each block once it is there.
            sys.stdout.flush()


def _progress(texts: TextLines, done: int, arguments: argparse.Namespace) -> tqdm[Any]:
    shown = not arguments.quiet and sys.stderr.isatty()
    total = texts.count() if shown else None
    return tqdm(total=total, initial=done, desc="Texts", unit=" texts", disable=not shown)
