"""Files of vectors, written block by block and resumable after an interrupt."""

from monograph.vector_file.formats import JsonLinesFormat, NpyFormat, VectorFormat, json_lines, sparse_json_lines
from monograph.vector_file.partial import VectorFile, open_vector_file

__all__ = [
    "JsonLinesFormat",
    "NpyFormat",
    "VectorFile",
    "VectorFormat",
    "json_lines",
    "open_vector_file",
    "sparse_json_lines",
]
