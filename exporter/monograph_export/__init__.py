"""Turn a Sentence Transformers checkpoint into a bundle: one graph, proven equal to torch."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from monograph.bundle import Bundle
from monograph.errors import ExportError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["export"]


def export(
    source: str | os.PathLike[str] | SentenceTransformer,
    output: str | os.PathLike[str],
    *,
    task: str | None = None,
    precision: str = "fp32",
    recipe: str | None = None,
) -> Bundle:
    """Export a checkpoint as a bundle and verify it against torch.

    Args:
        source: Folder of a checkpoint that sentence-transformers can load; a repository of a Hub, "org/name" or
            "org/name@revision"; the name of a recipe in models/, whose pinned revision is then downloaded and which
            counts as ``recipe``; or a loaded SentenceTransformer, which is left as it is. A folder wins over a name.
        output: Folder to write. It must not exist, or be empty; it appears only when it is whole and verified.
        task: "embedding", or None to tell it from the checkpoint.
        precision: "fp32".
        recipe: Name of a recipe in models/ that the checkpoint is one of: the manifest takes its source, licence and
            matryoshka dimensions, and a checkpoint of another shape is refused.

    Returns:
        The bundle that was written.

    Raises:
        UnsupportedModuleError: a module of the checkpoint has no exact graph.
        ParityError: the graph does not equal the torch model; nothing is written.
        ExportError: the checkpoint cannot be downloaded, read or loaded, the output cannot be written, or a package
            is missing.

    """
    try:
        # Here and not above: the command line reads this module before torch is known to be there.
        from monograph_export.pipeline import run_export
    except ModuleNotFoundError as error:
        raise ExportError(f"export needs {error.name}: pip install 'monograph[export,onnx]'") from error
    return run_export(source, output, task=task, precision=precision, recipe=recipe)
