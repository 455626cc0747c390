"""A file of vectors that is written block by block, and resumed where a run was interrupted."""

from monograph.vector_file.formats import NpyFormat, VectorFormat
from monograph.vector_file.partial import open_vector_file

__all__ = ["NpyFormat", "VectorFormat", "open_vector_file"]
