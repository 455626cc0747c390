"""A file of vectors that is written block by block, and taken up again where a run was cut off."""

from monograph.vector_file.formats import (
    FORMATS,
    SPARSE_LINES,
    SPARSE_SUFFIX,
    JsonLinesFormat,
    NpyFormat,
    VectorFormat,
    json_lines,
    sparse_json_lines,
)
from monograph.vector_file.partial import VectorFile, open_vector_file

__all__ = [
    "FORMATS",
    "SPARSE_LINES",
    "SPARSE_SUFFIX",
    "JsonLinesFormat",
    "NpyFormat",
    "VectorFile",
    "VectorFormat",
    "json_lines",
    "open_vector_file",
    "sparse_json_lines",
]
