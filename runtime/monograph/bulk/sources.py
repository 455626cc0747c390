"""Which files are tables: their kinds by name, and the files that arguments, globs and folders stand for."""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from monograph.errors import InputError, first_line
from monograph.paths import user_path

# The suffix of a name -> the kind of table.
KINDS = {
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
}
# The suffix behind it -> the compression, by pyarrow's name.
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
# What `datasets.Dataset.save_to_disk` and `DatasetDict.save_to_disk` write beside the tables.
_DATASET, _DATASETS = "state.json", "dataset_dict.json"


@dataclass(frozen=True)
class Source:
    """A file of rows.

    ``name`` says where it lies below the argument that named it, with "/" and without the suffixes of its kind;
    ``kind`` is one of ``KINDS``' values and ``compression`` of ``COMPRESSIONS``', None for none.
    """

    path: Path
    name: str
    kind: str
    compression: str | None = None


def table_kind(path: str | os.PathLike[str]) -> tuple[str, str | None, str] | None:
    """Return kind, compression and the name without both suffixes, for the name of a table; None for any other."""
    name = Path(path).name
    compression = COMPRESSIONS.get(Path(name).suffix.lower())
    if compression is not None:
        name = name[: name.rindex(".")]
    kind = KINDS.get(Path(name).suffix.lower())
    return None if kind is None else (kind, compression, name[: name.rindex(".")])


def known_kinds() -> str:
    """Return the suffixes of tables, for errors."""
    return f"{', '.join(KINDS)}, and each with {' or '.join(COMPRESSIONS)}"


def is_pattern(argument: str) -> bool:
    """Return whether an argument stands for the files that match it."""
    return glob.has_magic(argument) and not os.path.lexists(argument)


def find_sources(arguments: Sequence[str]) -> list[Source]:
    """Return the tables that arguments name: files, patterns and folders, in the order of their names.

    Of a folder these are all files below it, and of a pattern those that match it, except for names that begin with
    "." or "_", as Spark's `_SUCCESS` does; of a folder that `datasets` saved, its data files.

    Raises:
        InputError: there is no such file, one is of another kind, or two would have the same output.
        OSError: a folder cannot be read.

    """
    sources: list[Source] = []
    for argument in arguments:
        if "://" in argument:
            raise InputError(f"{argument} is an address: copy its files to a disk, or mount them, and name these")
        sources += _of_pattern(argument) if is_pattern(argument) else _of_path(user_path(argument))
    sources.sort(key=lambda source: source.name)
    by_name: dict[str, Source] = {}
    for source in sources:
        other = by_name.setdefault(source.name, source)
        if other is not source:
            raise _same_output(other.path, source.path)
    return sources


def _same_output(first: Path, second: Path) -> InputError:
    if os.path.realpath(first) == os.path.realpath(second):
        return InputError(f"{second} is named twice: name it once")
    remedy = "name the folder that has both" if first.parent != second.parent else "embed them in a run each"
    return InputError(f"{first} and {second} would have the same output: {remedy}, or rename one")


def _of_pattern(pattern: str) -> list[Source]:
    pattern = str(user_path(pattern))
    paths = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207  # of a pattern that may be absolute
    if not paths:
        raise InputError(f"no file matches {pattern}: check the pattern")
    parts = Path(pattern).parts
    fixed = next(place for place, part in enumerate(parts) if glob.has_magic(part))
    base = Path(*parts[:fixed])
    sources: list[Source] = []
    for path in map(Path, paths):
        below = path.relative_to(base)
        if path.name.startswith("_") and not Path(parts[-1]).name.startswith("_"):
            continue
        if path.is_dir():
            # Of "data/**", the folders on the way.
            if "**" not in pattern:
                sources += _of_folder(path, below)
        else:
            sources.append(_source(path, below.parent, "choose another pattern"))
    return sources


def _of_path(path: Path) -> list[Source]:
    if path.is_dir():
        sources = _of_folder(path, Path())
        if not sources:
            raise InputError(f"the folder {path} has no tables: they are {known_kinds()}")
        return sources
    if not path.exists():
        raise InputError(f"there is no file {path}: check its name")
    return [_source(path, Path(), "convert it")]


def _source(path: Path, below: Path, remedy: str) -> Source:
    """Return a file as a source whose name is below ``below``, a relative path; ``remedy`` is for one that is none."""
    if not path.is_file():
        raise InputError(f"{path} is not a regular file: copy what it gives into one")
    kind = table_kind(path)
    if kind is None:
        raise InputError(f"{path} is of a kind that is not read: {remedy}; tables are {known_kinds()}")
    return Source(path, str(PurePosixPath(*below.parts, kind[2])), kind[0], kind[1])


def _of_folder(folder: Path, below: Path) -> list[Source]:
    if (folder / _DATASETS).exists():
        splits = _read_list(folder / _DATASETS, "splits")
        return [source for split in splits for source in _of_folder(folder / split, below / split)]
    if (folder / _DATASET).exists():
        return [_source(path, below, "save the dataset again") for path in _data_files(folder)]
    remedy = f"name the tables by a pattern, such as '{folder / '*.parquet'}'"
    return [
        source
        for path in _visible(folder)
        for source in (_of_folder(path, below / path.name) if path.is_dir() else [_source(path, below, remedy)])
    ]


def _visible(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.iterdir()) if not path.name.startswith((".", "_")))


def _data_files(folder: Path) -> list[Path]:
    """Return the data files of a saved Dataset; others, such as those of its cache, may lie beside them."""
    state = folder / _DATASET
    if _read_json(state).get("_indices_data_files"):
        raise InputError(f"{folder} is a selection of its rows: save it again after `flatten_indices()`")
    names = [entry.get("filename") if isinstance(entry, dict) else None for entry in _read_list(state, "_data_files")]
    if not all(isinstance(name, str) and name == Path(name).name for name in names):
        raise InputError(f"{state} does not name the data files of a saved dataset: save it again")
    return [folder / str(name) for name in names]


def _read_list(path: Path, key: str) -> list[str]:
    value = _read_json(path).get(key)
    if not isinstance(value, list):
        raise InputError(f"{path} has no list of {key}: save the dataset again")
    return value


def _read_json(path: Path) -> dict[str, object]:
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged ({first_line(error)}): save the dataset again") from error
    return value if isinstance(value, dict) else {}
