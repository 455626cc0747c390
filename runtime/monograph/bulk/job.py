"""A whole run: from the arguments of a command to shards that are done, and what failed."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from monograph.bulk.encoder import Encoder, EncoderOptions
from monograph.bulk.formats import WRITERS
from monograph.bulk.packages import pyarrow
from monograph.bulk.readers import open_table
from monograph.bulk.rows import Selection
from monograph.bulk.shards import Job, Shard, ShardResult, embed_shard
from monograph.bulk.sources import Source, table_kind
from monograph.bulk.workers import Failure, Outcome, Workers, attempt, share_cpus
from monograph.errors import InputError, MonographError
from monograph.progress import Progress
from monograph.staging import remove_abandoned

# Sources that are looked at for the types of the columns, before one is found that has them.
_MAX_TRIED = 8


@dataclass
class Summary:
    """What a run did: its tables and their rows, those that had been done before, and a message for each failure."""

    tables: int = 0
    rows: int = 0
    skipped: int = 0
    failures: list[str] = field(default_factory=list)

    def add(self, outcome: Outcome[Shard, ShardResult]) -> None:
        """Count the outcome of a shard."""
        result = outcome.result
        if isinstance(result, Failure):
            path = str(outcome.item.source.path)
            self.failures.append(result.message if path in result.message else f"{path}: {result.message}")
            return
        self.tables += 1
        self.rows += result.rows
        self.skipped += result.skipped


def plan_shards(sources: Sequence[Source], output: Path, file_format: str | None) -> tuple[list[Shard], str]:
    """Return the shard of each source, and the format of their outputs.

    ``output`` is a folder; of a single source it may be a file whose name has the format's suffix. Neither need exist.

    Raises:
        InputError: several sources have one file as their output, an output is a source, or the format is not known.

    """
    suffix = output.suffix.removeprefix(".")
    if suffix in WRITERS and (WRITERS[suffix].is_folder or not output.is_dir()):
        if file_format not in (None, suffix):
            raise InputError(f"{output} is not named as {file_format}: leave out --format, or name a folder")
        if len(sources) > 1:
            raise InputError(f"{len(sources)} tables have as many outputs: name a folder instead of {output}")
        shards, file_format = [Shard(sources[0], output)], suffix
    elif not output.is_dir() and (output.exists() or table_kind(output) is not None):
        problem = "is a file" if output.exists() else "is named as a table of a format that is not written"
        raise InputError(f"{output} {problem}: name a folder, or a file named .{', .'.join(WRITERS)} for one table")
    else:
        file_format = file_format or "parquet"
        shards = [Shard(s, output / PurePosixPath(f"{s.name}.{file_format}")) for s in sources]
    inputs = {source.path.resolve() for source in sources}
    for shard in shards:
        if shard.output.resolve() in inputs:
            raise InputError(f"{shard.output} is an input, which the vectors would replace: choose another output")
    return shards, file_format


def make_folders(shards: Sequence[Shard]) -> None:
    """Make the folders of the outputs, once the model is open: a run that cannot begin leaves none.

    Raises:
        OSError: one cannot be made.

    """
    for folder in _folders(shards):
        folder.mkdir(parents=True, exist_ok=True)


def _folders(shards: Sequence[Shard]) -> list[Path]:
    return list(dict.fromkeys(shard.output.parent for shard in shards))


def plan_job(
    sources: Sequence[Source], selection: Selection, column: str, file_format: str, *, replace: bool = False
) -> Job:
    """Return what the shards have in common; the types of columns are those of the first source that has them.

    Raises:
        InputError: no source has the columns, or an option does not fit the format.

    """
    selection.check()
    carried, origin = _common_columns(sources, selection)
    WRITERS[file_format].check(carried, has_nulls="null" in (selection.nulls, selection.empties))
    if column in carried.names:
        raise InputError(f"the vectors' column {column!r} is one to keep: name another with --vector-column")
    # What a producer noted of its own file may not hold for another.
    return Job(selection, carried.remove_metadata(), origin, column, file_format, replace)


def _common_columns(sources: Sequence[Source], selection: Selection) -> tuple[Any, str]:
    """Return the schema of the columns to keep, and the source that has it."""
    carried: Any = None
    origin = ""
    problems: list[MonographError] = []
    for source in sources[:_MAX_TRIED]:
        try:
            with open_table(source, selection.columns, selection.read_types) as table:
                schema = selection.carried_schema(table.schema, str(source.path))
        except MonographError as error:
            problems.append(error)
            continue
        if carried is None:
            carried, origin = schema, str(source.path)
        elif schema.names == carried.names:
            # What is empty in one file of CSV or JSON lines has a type in another.
            carried = pyarrow.schema([new if _is_null(old) else old for old, new in zip(carried, schema, strict=True)])
        if not any(map(_is_null, carried)):
            break
    if carried is None:
        raise problems[0]
    return carried, origin


def _is_null(column: Any) -> bool:
    return bool(pyarrow.types.is_null(column.type))


def run_here(shards: Sequence[Shard], job: Job, encoder: Encoder) -> Iterator[Outcome[Shard, ShardResult]]:
    """Yield the outcome of each shard, which this process embeds one after the other."""
    for shard in shards:
        yield Outcome(shard, attempt(embed_shard, shard, job, encoder))


def run_in_workers(
    shards: Sequence[Shard], job: Job, options: EncoderOptions, count: int
) -> Generator[Outcome[Shard, ShardResult], None, None]:
    """Yield the outcome of each shard, which ``count`` processes embed, as they are finished."""
    try:
        with Workers(options, share_cpus(count, options.source.threads)) as workers:
            make_folders(shards)
            yield from workers.map(embed_shard, shards, job)
    finally:
        # Workers that are ended in their work leave what they had begun.
        for folder in _folders(shards):
            remove_abandoned(folder)


def run_job(
    shards: Sequence[Shard], job: Job, options: EncoderOptions, workers: int, progress: Progress, summary: Summary
) -> None:
    """Embed all shards, and count in ``summary`` what becomes of each.

    Raises:
        MonographError: the model cannot be opened.
        OSError: a folder of outputs cannot be made.

    """
    if workers > 1:
        with closing(run_in_workers(shards, job, options, workers)) as outcomes:
            count_outcomes(outcomes, len(shards), progress, summary)
        return
    with Encoder(options) as encoder:
        make_folders(shards)
        count_outcomes(run_here(shards, job, encoder), len(shards), progress, summary)


def count_outcomes(
    outcomes: Iterator[Outcome[Shard, ShardResult]], total: int, progress: Progress, summary: Summary
) -> None:
    """Report the outcomes as they come, and count them in ``summary``."""
    with progress.step("Embedding", total, "tables") as step:
        for outcome in outcomes:
            summary.add(outcome)
            step.advance()
