"""The formats of outputs by their names, and what a complete output says of its making."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monograph.bulk.index_writers import FaissWriter, LanceWriter, UsearchWriter
from monograph.bulk.packages import pyarrow
from monograph.bulk.writers import (
    METADATA_KEY,
    ArrowWriter,
    JsonLinesWriter,
    NpyWriter,
    ParquetWriter,
    ShardWriter,
)

# By the name of the format, which is the suffix of its files and folders.
WRITERS: Mapping[str, type[ShardWriter]] = {
    "parquet": ParquetWriter,
    "arrow": ArrowWriter,
    "npy": NpyWriter,
    "jsonl": JsonLinesWriter,
    "lance": LanceWriter,
    "faiss": FaissWriter,
    "usearch": UsearchWriter,
}


def metadata_path(output: Path) -> Path:
    """Return where the metadata of a file without a place for it is."""
    return output.with_name(f"{output.name}.json")


def read_metadata(output: Path, file_format: str) -> dict[str, Any] | None:
    """Return the metadata of a complete output; None where there is none, or it is not of monograph."""
    writer = WRITERS[file_format]
    try:
        if writer.has_metadata:
            content = (writer.schema(output).metadata or {}).get(METADATA_KEY)
        else:
            content = metadata_path(output).read_bytes() if output.exists() else None
        value = None if content is None else json.loads(content)
    except (FileNotFoundError, ValueError, pyarrow.ArrowException):
        return None
    return value if isinstance(value, dict) else None
