"""`monograph embed` of tables: the options that only they have, and a run from their files to their vectors."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from monograph.commands import options
from monograph.errors import InputError, MonographError, printable
from monograph.paths import user_path
from monograph.progress import SILENT, Bars, Progress
from monograph.vector_file.ranges import read_ranges

if TYPE_CHECKING:
    from monograph.bulk.encoder import EncoderOptions
    from monograph.bulk.job import Summary
    from monograph.bulk.shards import Job, Shard

AUTO = "auto"
FORMATS = ("parquet", "arrow", "npy", "jsonl", "lance", "faiss", "usearch")
_POLICIES = ("error", "embed", "null", "skip")
# As attributes of the parsed arguments.
_NAMES = (
    "column",
    "keep",
    "format",
    "vector_column",
    "nulls",
    "empties",
    "max_text_bytes",
    "deduplicate",
    "workers",
    "ray",
    "replace",
)
_MEGABYTE = 1 << 20
_DEFAULT_TABLE_MB = 256
# Failures that are printed; a wrong option fails every table.
_MAX_PRINTED = 20


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of tables. Their defaults are None, so that it can be seen whether one was given."""
    group = parser.add_argument_group(
        "tables",
        "Parquet, Arrow, Feather, CSV, TSV and JSON lines, also with .gz or .zst, patterns and folders of them, and "
        "datasets that `datasets` saved; each becomes a table of vectors below the folder -o, and those that are there "
        "already are left out. Needs the extra arrow",
    )
    group.add_argument("--column", help="column of the texts; default: text")
    group.add_argument(
        "--keep",
        action="append",
        metavar="NAMES",
        help="columns to carry over: id,lang; id:string sets a type; '*' is for all",
    )
    group.add_argument(
        "--format",
        choices=FORMATS,
        help="of the outputs; default: parquet",
    )
    group.add_argument("--vector-column", metavar="NAME", help="name of the vectors' column; default: embedding")
    for name, what, default in (("--nulls", "a null", "error"), ("--empties", "an empty text", "embed")):
        group.add_argument(
            name,
            choices=_POLICIES,
            help=f"what {what} becomes: an error, the vector of an empty text, a row with null for its vector, or no "
            f"row; default: {default}",
        )
    group.add_argument(
        "--max-text-bytes", metavar="N", type=options.positive, help="longer texts are errors; default: 10,000,000"
    )
    _add_run_options(group)


def _add_run_options(group: argparse._ArgumentGroup) -> None:
    """Add the options of how the vectors are computed and written."""
    group.add_argument(
        "--deduplicate",
        metavar="MB",
        nargs="?",
        const=_DEFAULT_TABLE_MB,
        type=options.positive,
        help="compute texts that occur again only once, of which a process remembers as many vectors as this memory "
        f"holds; default without a number: {_DEFAULT_TABLE_MB}",
    )
    group.add_argument(
        "--workers",
        type=_workers,
        metavar="N",
        help="processes, each with its own cores and the weights in shared memory; auto measures one with all cores "
        "against one a core; default: 1",
    )
    group.add_argument(
        "--ray",
        nargs="?",
        const=AUTO,
        metavar="ADDRESS",
        help="embed on a Ray cluster, by default the one that this machine belongs to; --workers limits the actors and "
        "--threads are those of each. Needs the extra ray",
    )
    group.add_argument("--replace", action="store_true", default=None, help="replace outputs of other settings")


def given(arguments: argparse.Namespace) -> list[str]:
    """Return those options that only tables have and that were given."""
    return [f"--{name.replace('_', '-')}" for name in _NAMES if getattr(arguments, name) is not None]


def run(arguments: argparse.Namespace) -> int:
    """Embed tables, and print how many; raise the error of those that failed once all others are done."""
    # Imports pyarrow.
    from monograph.bulk.job import Summary, plan_job, plan_shards
    from monograph.bulk.rows import MAX_TEXT_BYTES, Selection, parse_keep
    from monograph.bulk.sources import find_sources

    if arguments.output is None:
        arguments.bad_usage("tables need -o, the folder of the outputs")
    if arguments.field is not None:
        raise InputError("--field is for lines: name the column of a table's texts with --column")
    keep, types = parse_keep(arguments.keep or ())
    selection = Selection(
        arguments.column or "text",
        keep,
        types,
        arguments.nulls or "error",
        arguments.empties or "embed",
        arguments.max_text_bytes or MAX_TEXT_BYTES,
    )
    sources = find_sources(arguments.files)
    encoder_options = _encoder_options(arguments)
    shards, file_format = plan_shards(sources, arguments.output, arguments.format)
    job = plan_job(
        sources,
        selection,
        arguments.vector_column or "embedding",
        file_format,
        replace=bool(arguments.replace),
    )
    summary = Summary()
    try:
        _run(shards, job, encoder_options, arguments, summary)
    except BaseException as error:
        if summary.tables:
            error.add_note(f"{summary.tables:,} of {len(shards):,} tables are done, the same command continues")
        raise
    _report(summary, len(shards), arguments)
    return 0


def _run(
    shards: list[Shard], job: Job, encoder_options: EncoderOptions, arguments: argparse.Namespace, summary: Summary
) -> None:
    from monograph.bulk.choice import fastest_workers
    from monograph.bulk.job import run_job

    workers = arguments.workers or 1
    if arguments.ray is not None:
        from monograph.bulk.cluster import run_on_ray

        limit = None if arguments.workers in (None, AUTO) else workers
        address = None if arguments.ray == AUTO else arguments.ray
        run_on_ray(shards, job, encoder_options, address, limit, _progress(arguments), summary)
        return
    if workers == AUTO:
        workers = fastest_workers(encoder_options, [shard.source for shard in shards], job.selection)
    run_job(shards, job, encoder_options, min(workers, len(shards)), _progress(arguments), summary)


def _encoder_options(arguments: argparse.Namespace) -> EncoderOptions:
    from monograph.bulk.encoder import EncoderOptions

    return EncoderOptions(
        options.model_source_of(arguments),
        arguments.prompt_name,
        arguments.prompt,
        arguments.batch_size,
        arguments.task,
        arguments.truncate_dim,
        arguments.normalize_embeddings,
        arguments.precision,
        None if arguments.ranges is None else read_ranges(arguments.ranges),
        arguments.pool_factor,
        (arguments.deduplicate or 0) * _MEGABYTE,
    )


def _report(summary: Summary, total: int, arguments: argparse.Namespace) -> None:
    if not arguments.quiet:
        before = f", {summary.skipped:,} of them done before" if summary.skipped else ""
        tables = f"{summary.tables:,} table{'' if summary.tables == 1 else 's'}"
        print(f"{printable(arguments.output)}: {summary.rows:,} rows in {tables}{before}")
        sys.stdout.flush()
    if not summary.failures:
        return
    failed = len(summary.failures)
    others = {0: "", 1: "the other table is done"}.get(summary.tables, f"the other {summary.tables:,} tables are done")
    if failed == 1:
        raise MonographError("; ".join(filter(None, [summary.failures[0], others])))
    for message in summary.failures[:_MAX_PRINTED]:
        print(f"monograph: error: {printable(message)}", file=sys.stderr)
    named = f" (the first {_MAX_PRINTED} are named)" if failed > _MAX_PRINTED else ""
    raise MonographError(", ".join(filter(None, [f"{failed:,} of {total:,} tables failed{named}", others])))


def _progress(arguments: argparse.Namespace) -> Progress:
    return SILENT if arguments.quiet or not sys.stderr.isatty() else Bars()


def _workers(value: str) -> int | str:
    return AUTO if value == AUTO else options.positive(value)


def is_table_run(arguments: argparse.Namespace) -> bool:
    """Return whether the arguments of a command are for tables, and not for lines."""
    from monograph.bulk.sources import is_pattern, table_kind

    files: list[str] = arguments.files
    if arguments.lines:
        return False
    if given(arguments) or len(files) > 1:
        return True
    output: Path | None = arguments.output
    for file in files:
        kind = table_kind(file)
        plain_json_lines = kind is not None and kind[:2] == ("jsonl", None)
        if is_pattern(file) or user_path(file).is_dir() or (kind is not None and not plain_json_lines):
            return True
        if plain_json_lines and output is not None and output.suffix not in (".npy", ".jsonl"):
            return True
    return False
