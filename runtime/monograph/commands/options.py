"""Options that several commands share."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING

from monograph.engines.registry import compute_dtype_names, device_help
from monograph.errors import InputError, MonographError
from monograph.paths import user_path
from monograph.quality import LEVELS

if TYPE_CHECKING:
    from monograph.inference.opening import ModelSource


def add_bundle(parser: argparse.ArgumentParser) -> None:
    """Add BUNDLE."""
    parser.add_argument(
        "bundle", metavar="BUNDLE", help="folder that `monograph export` wrote, or ORG/NAME[@REVISION] on the Hub"
    )


def add_texts(parser: argparse.ArgumentParser, what: str) -> None:
    """Add FILE and ``--field``; ``what`` is the noun for a line."""
    parser.add_argument(
        "file",
        metavar="FILE",
        nargs="?",
        default="-",
        help=f"a {what} a line, UTF-8, or .jsonl; - for standard input (default)",
    )
    parser.add_argument("--field", help="read JSON lines, and the text from this field; default for .jsonl: text")


def add_engine(parser: argparse.ArgumentParser, compute_dtype: str = "auto") -> None:
    """Add the engine's options with a default ``compute_dtype``."""
    parser.add_argument("--device", default="auto", help=f"auto (default), {device_help()}")
    parser.add_argument(
        "--compute-dtype", default=compute_dtype, choices=compute_dtype_names(), help=f"default: {compute_dtype}"
    )
    add_threads(parser)
    add_quality(parser, "the bundle's first precision")


def add_quality(parser: argparse.ArgumentParser, default: str) -> None:
    """Add ``--quality``; ``default`` says in words what is taken without it."""
    parser.add_argument(
        "--quality",
        choices=LEVELS,
        help=f"the loss that is accepted, of a bundle with several precisions: the fastest of this quality; default: "
        f"{default}",
    )


def add_threads(parser: argparse.ArgumentParser) -> None:
    """Add ``--threads``."""
    parser.add_argument("--threads", type=positive, help="CPU threads; default: all that this process may use")


def add_batches(parser: argparse.ArgumentParser, what: str) -> None:
    """Add the bounds of a batch; ``what`` is the noun for its items."""
    parser.add_argument("--batch-size", type=positive, help=f"{what} in a batch; default: by their tokens")
    parser.add_argument(
        "--max-tokens-per-batch",
        metavar="N",
        type=positive,
        help=f"bound the memory of batches: at most this many tokens, padding included, of several {what}; "
        "default: what is fastest",
    )


def model_source_of(arguments: argparse.Namespace) -> ModelSource:
    """Return what opens the bundle, by the options of ``add_bundle``, ``add_engine`` and ``add_batches``.

    Raises:
        InputError: there are more threads than any machine has.

    """
    # Here and not above: most commands have these options, and not all of them open a bundle.
    from monograph.inference.opening import model_source

    return model_source(
        arguments.bundle,
        arguments.device,
        arguments.compute_dtype,
        arguments.threads,
        check="fast",
        cache_dir=None,
        max_tokens_per_batch=arguments.max_tokens_per_batch,
        quality=arguments.quality,
    )


def add_prompt(parser: argparse.ArgumentParser) -> None:
    """Add ``--prompt-name`` and ``--prompt``."""
    parser.add_argument("--prompt-name", help="name of a prompt of the model; default: the model's default")
    parser.add_argument("--prompt", help="text to put before each text")


def add_task(parser: argparse.ArgumentParser) -> None:
    """Add ``--task``."""
    parser.add_argument(
        "--task",
        help="the task of a model with routes: query, document or another that it has; set its prompt with "
        "--prompt-name",
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add ``--json``."""
    parser.add_argument("--json", action="store_true", help="print JSON")


def path(value: str) -> Path:
    """Parse a path, whose "~" is a home folder.

    Raises:
        MonographError: there is no such user; not as a ``ValueError``, whose message argparse would hide.

    """
    try:
        return user_path(value)
    except InputError as error:
        raise MonographError(str(error)) from error


def positive(value: str) -> int:
    """Parse an integer of at least 1."""
    try:
        number = int(value)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, not {value!r}")
    return number


def factor(value: str) -> float:
    """Parse a number of at least 1."""
    try:
        number = float(value)
    except ValueError:
        number = 0.0
    if not 1 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number of at least 1, not {value!r}")
    return number
