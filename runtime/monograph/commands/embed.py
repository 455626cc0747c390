"""`monograph embed`: a stream of texts to a file of vectors."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from tqdm import tqdm

from monograph.atomic import missing_parent
from monograph.commands import options
from monograph.commands.text_lines import TextLines, open_texts
from monograph.embedder import Embedder
from monograph.errors import InputError
from monograph.postprocess import PRECISIONS, SCALAR, Postprocess, plan_postprocess
from monograph.prompts import resolve_prompt
from monograph.vector_file import FORMATS, VectorFormat, json_lines, open_vector_file

HELP = "embed the lines of a file, or of standard input"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    options.add_bundle(parser)
    options.add_texts(parser, "text")
    formats = " or ".join(FORMATS)
    parser.add_argument(
        "-o", "--output", type=Path, help=f"file to write, {formats}; default: JSON lines on standard output"
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
    parser.add_argument("--batch-size", type=options.positive, help="texts in a batch; default: by their tokens")
    parser.add_argument("--truncate-dim", type=options.positive, help="keep only the first dimensions")
    parser.add_argument("--normalize", action="store_true", help="bring each vector to length 1")
    # The scalar precisions need ranges, which are arrays.
    parser.add_argument("--precision", default="float32", choices=[name for name in PRECISIONS if name not in SCALAR])
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
        with Embedder(arguments.bundle, arguments.device, arguments.compute_dtype, arguments.threads) as model:
            known, default = model.manifest.prompts, model.manifest.default_prompt_name
            prompt = resolve_prompt(known, default, arguments.prompt_name, arguments.prompt)
            if output is None:
                _to_standard_output(texts, model, prompt, arguments)
            else:
                _to_file(texts, model, prompt, output, arguments)
    return 0


def _check_output(output: Path, texts: TextLines) -> None:
    """Refuse an output that cannot be written or would replace the input, before a model is loaded."""
    if output.suffix not in FORMATS:
        raise InputError(f"cannot tell the format of {output}: name it {' or '.join(FORMATS)}")
    if missing := missing_parent(output):
        raise InputError(missing)
    if texts.come_from(output):
        raise InputError(f"{output} is the input, which the vectors would replace: choose another output")


def _to_standard_output(texts: TextLines, model: Embedder, prompt: str, arguments: argparse.Namespace) -> None:
    with _progress(texts, 0, arguments) as bar:
        for block in _blocks(texts, model, prompt, arguments, bar):
            sys.stdout.writelines(json_lines(block))
            # A reader at the other end of a pipe gets each block once it is there.
            sys.stdout.flush()


def _to_file(texts: TextLines, model: Embedder, prompt: str, output: Path, arguments: argparse.Namespace) -> None:
    plan = plan_postprocess(
        model.manifest.need_embedding(),
        truncate_dim=arguments.truncate_dim,
        normalize=arguments.normalize,
        precision=arguments.precision,
        ranges=None,
    )
    form = FORMATS[output.suffix](plan.dtype, plan.width)
    settings = _settings(model, prompt, arguments.task, plan, form)
    with (
        open_vector_file(output, form, settings, resume=arguments.resume) as file,
        _progress(texts, file.texts, arguments) as bar,
    ):
        for block in _blocks(file.remaining(texts), model, prompt, arguments, bar):
            file.append(block)


def _blocks(
    texts: Iterable[str], model: Embedder, prompt: str, arguments: argparse.Namespace, bar: tqdm[Any]
) -> Iterator[NDArray[Any]]:
    return model.encode_iter(
        texts,
        prompt=prompt,
        task=arguments.task,
        batch_size=arguments.batch_size,
        precision=arguments.precision,
        normalize_embeddings=arguments.normalize,
        truncate_dim=arguments.truncate_dim,
        on_texts=bar.update,
    )


def _settings(model: Embedder, prompt: str, task: str | None, plan: Postprocess, form: VectorFormat) -> dict[str, str]:
    """Return what the vectors depend on beside the texts, each by the name that an error calls it.

    Threads and batch size are not among them: with others the vectors are equal but for rounding, and who ran out
    of memory goes on with smaller batches.
    """
    routing = model.manifest.routing
    return {
        "fingerprint of bundle, engine and device": model.fingerprint,
        "prompt": prompt,
        "route": "none" if routing is None else str(routing.route_of(task)),
        "dimensions": str(plan.dimension),
        "normalize": str(plan.normalize),
        "precision": plan.precision,
        "format": form.name,
    }


def _progress(texts: TextLines, done: int, arguments: argparse.Namespace) -> tqdm[Any]:
    shown = not arguments.quiet and sys.stderr.isatty()
    total = texts.count() if shown else None
    return tqdm(total=total, initial=done, desc="Texts", unit=" texts", disable=not shown)
