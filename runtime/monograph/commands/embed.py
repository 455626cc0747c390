"""`monograph embed`: texts to a file of vectors."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from monograph.atomic import find_parent_problem
from monograph.bulk.sources import known_kinds
from monograph.commands import embed_tables, options
from monograph.errors import InputError
from monograph.inference.pipeline import show_progress
from monograph.model import Model, open_model, prepare_call
from monograph.paths import user_path
from monograph.tasks import Task, tasks
from monograph.tasks.base import EmbedOption
from monograph.tasks.embedding import EMBEDDING
from monograph.tasks.multi_vector import MULTI_VECTOR
from monograph.text_lines import TextLines, open_texts
from monograph.vector_file.formats import VectorFormat
from monograph.vector_file.partial import open_vector_file
from monograph.vector_file.ranges import read_ranges

HELP = (
    "embed the lines of a file, of standard input, or tables, with an embedding model, sparse or multi-vector encoder"
)
_STDOUT_SUFFIX = ".jsonl"
_LINES_SUFFIXES = ("", ".txt", ".jsonl")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    options.add_bundle(parser)
    parser.add_argument(
        "files",
        metavar="FILE",
        nargs="*",
        default=["-"],
        help="a text a line, UTF-8 (.txt, or a name without a suffix), or .jsonl; - for standard input (default); or "
        "tables, see below",
    )
    parser.add_argument("--field", help="read JSON lines, and the text from this field; default for .jsonl: text")
    parser.add_argument("--lines", action="store_true", help="read a text a line, whatever the name of the file is")
    formats = "; ".join(f"{' or '.join(task.vector_formats)} of {task.title}" for task in _embedding_tasks())
    parser.add_argument(
        "-o",
        "--output",
        type=options.path,
        help=f"file to write ({formats}), and of tables a folder; default: JSON lines on standard output",
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="continue an interrupted run with the same input, options and -o; without it, its partial output is "
        "neither used nor replaced",
    )
    options.add_engine(parser)
    options.add_prompt(parser)
    options.add_task(parser)
    options.add_batches(parser, "texts")
    for option in _task_options():
        _add_option(parser, option)
    parser.add_argument(
        "--ranges",
        type=options.path,
        metavar="FILE",
        help="of --precision int8 and uint8: .npy file [2, d] with the smallest and largest value of each dimension",
    )
    embed_tables.configure(parser)
    parser.add_argument("--quiet", action="store_true", help="no progress bar and no summary")
    parser.set_defaults(bad_usage=parser.error)


def run(arguments: argparse.Namespace) -> int:
    """Embed the texts as they are read and write the vectors as they are made."""
    if embed_tables.is_table_run(arguments):
        if foreign := _foreign_options((EMBEDDING, MULTI_VECTOR), arguments):
            named = ", ".join(foreign)
            raise InputError(f"tables have dense vectors or those of tokens, and no {named}: leave that out")
        return embed_tables.run(arguments)
    (file,) = arguments.files
    _check_lines(file, arguments)
    output: Path | None = arguments.output
    if output is None and arguments.resume:
        arguments.bad_usage("--resume needs -o: standard output cannot be resumed")
    with open_texts(file, arguments.field) as texts:
        if output is not None:
            _check_output(output, texts)
        source = options.model_source_of(arguments)
        bundle = source.open_bundle()
        task_options = _check_options(bundle.task, arguments)
        with open_model(source, bundle) as model:
            stream = _VectorStream(bundle.task, model, task_options, arguments)
            if output is None:
                _write_lines(texts, stream, arguments)
            else:
                _write_file(texts, stream, output, arguments)
    return 0


class _VectorStream:
    """Blocks of vectors of texts; ``task_options`` are the options of the ``task`` by keyword."""

    def __init__(
        self, task: Task[Any], model: Model[Any], task_options: Mapping[str, Any], arguments: argparse.Namespace
    ) -> None:
        self._call = prepare_call(
            model, arguments.prompt_name, arguments.prompt, arguments.batch_size, arguments.task, **task_options
        )
        self._per_token = task.per_token
        suffix = _STDOUT_SUFFIX if arguments.output is None else arguments.output.suffix
        self.format: VectorFormat[Any] = task.vector_formats[suffix](self._call.post_process)
        routing = model.manifest.routing
        # What the vectors depend on beside the texts, by the names in errors. Threads and batch size change only
        # rounding, and a run that failed for lack of memory is resumed with smaller batches.
        self.settings: Mapping[str, str] = {
            "fingerprint of bundle, engine and device": model.fingerprint,
            "prompt": self._call.prompt,
            "route": "none" if routing is None else str(routing.route_of(arguments.task)),
            "format": self.format.name,
            **self._call.post_process.settings,
        }

    def counted(self, texts: int) -> str:
        """Return how many vectors so many texts have, in words."""
        return f"the vectors of {texts:,} text{'' if texts == 1 else 's'}" if self._per_token else f"{texts:,} vectors"

    def blocks(self, texts: Iterable[str], on_texts: Callable[[int], object]) -> Iterator[Any]:
        """Yield blocks of vectors in the order of the texts; ``on_texts`` is that of ``Pipeline.map``."""
        return self._call.iterate(texts, on_texts)


def _embedding_tasks() -> list[Task[Any]]:
    return [task for task in tasks() if task.vector_formats]


def _task_options() -> list[EmbedOption]:
    return list(dict.fromkeys(option for task in tasks() for option in task.embed_options))


def _add_option(parser: argparse.ArgumentParser, option: EmbedOption) -> None:
    common: dict[str, Any] = {"dest": option.keyword, "default": option.default, "help": option.help}
    if option.is_flag:
        parser.add_argument(option.flag, action="store_true", **common)
    elif option.choices:
        parser.add_argument(option.flag, choices=option.choices, **common)
    else:
        number = options.factor if option.is_factor else options.positive
        parser.add_argument(option.flag, type=number, **common)


def _check_options(task: Task[Any], arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the options of a bundle's task by keyword; raise ``InputError`` for an option or format of another."""
    if not task.vector_formats:
        raise InputError(f"the bundle is {task.title}, which gives no vectors: use `{task.command}`")
    if arguments.output is not None and arguments.output.suffix not in task.vector_formats:
        tables = ", or give the texts as a table, with --format parquet" if task.per_token else ""
        raise InputError(
            f"the bundle is {task.title}, whose vectors are written as {' or '.join(task.vector_formats)}: choose "
            f"another name than {arguments.output.name}{tables}"
        )
    foreign = _foreign_options((task,), arguments)
    if arguments.ranges is not None and not task.takes_ranges:
        foreign.append("--ranges")
    if foreign:
        raise InputError(f"the bundle is {task.title}, which has no {', '.join(foreign)}: leave them out")
    if arguments.precision == "float16" and not task.per_token:
        raise InputError("float16 is for tables: write the vectors of lines as float32")
    checked = {option.keyword: getattr(arguments, option.keyword) for option in task.embed_options}
    if arguments.ranges is not None:
        checked["ranges"] = read_ranges(arguments.ranges)
    return checked


def _foreign_options(tasks: Sequence[Task[Any]], arguments: argparse.Namespace) -> list[str]:
    """Return those options that were given and that none of the tasks has."""
    known = {option for task in tasks for option in task.embed_options}
    return [
        option.flag
        for option in _task_options()
        if option not in known and getattr(arguments, option.keyword) != option.default
    ]


def _check_lines(file: str, arguments: argparse.Namespace) -> None:
    """Raise ``InputError`` for a file that has no text a line by its name, or for what only tables have."""
    if arguments.lines and (only := embed_tables.given(arguments)):
        raise InputError(f"{', '.join(only)}: only for tables, leave out --lines")
    if file != "-" and not arguments.lines and arguments.field is None:
        suffix = user_path(file).suffix.lower()
        if suffix not in _LINES_SUFFIXES:
            raise InputError(
                f"{file} is of a kind that is not read: tables are {known_kinds()}; if it has a text a line, say "
                "--lines, or name it .txt"
            )


def _check_output(output: Path, texts: TextLines) -> None:
    """Raise ``InputError`` if the output cannot be written or is the input, before a model is loaded."""
    suffixes = dict.fromkeys(suffix for task in _embedding_tasks() for suffix in task.vector_formats)
    if output.suffix.removeprefix(".") in embed_tables.FORMATS and output.suffix not in suffixes:
        raise InputError(
            f"{output} is named as an output of tables, and the input is lines: name it {' or '.join(suffixes)}, or "
            f"give the texts as a table: {known_kinds()}"
        )
    if output.suffix not in suffixes:
        raise InputError(f"cannot tell the format of {output}: name it {' or '.join(suffixes)}")
    if problem := find_parent_problem(output):
        raise InputError(problem)
    if texts.come_from(output):
        raise InputError(f"{output} is the input, which the vectors would replace: choose another output")


def _write_file(texts: TextLines, stream: _VectorStream, output: Path, arguments: argparse.Namespace) -> None:
    with (
        open_vector_file(output, stream.format, stream.settings, resume=arguments.resume) as file,
        _progress(texts, file.texts, arguments) as on_texts,
    ):
        for block in stream.blocks(file.remaining(texts), on_texts):
            file.append(block)
    if not arguments.quiet:
        print(f"{output}: {stream.counted(file.texts)}")


def _write_lines(texts: TextLines, stream: _VectorStream, arguments: argparse.Namespace) -> None:
    with _progress(texts, 0, arguments) as on_texts:
        for block in stream.blocks(texts, on_texts):
            sys.stdout.write(stream.format.body(block).decode("ascii"))
            # So that the reader of a pipe gets each block at once.
            sys.stdout.flush()


def _progress(
    texts: TextLines, done: int, arguments: argparse.Namespace
) -> AbstractContextManager[Callable[[int], object]]:
    shown = not arguments.quiet and sys.stderr.isatty()
    total = texts.count() if shown else None
    return show_progress(total, shown, "texts", initial=done)
