"""Which options of an export go with which task."""

from __future__ import annotations

from monograph.bundle.manifest import EMBEDDING
from monograph.errors import ExportError
from monograph_export.checkpoint.task import KINDS
from monograph_export.compression.options import Compression
from monograph_export.recipes import Recipe
from monograph_export.vocabulary.options import Trimming


def check_task_options(task: str, compression: Compression, trimming: Trimming, recipe: Recipe | None) -> None:
    """Refuse options that models of a task do not have.

    A sparse encoder's dimensions are its vocabulary, of which nothing can be left out.

    Raises:
        ExportError: naming each.

    """
    own = compression.limits[task].given()
    refused = [option for option in compression.given_limits() if option not in own]
    if task != EMBEDDING:
        refused += ["--keep-vocab or --keep-scripts"] if trimming.wanted else []
        refused += [] if recipe is None else ["--recipe"]
    if refused:
        raise ExportError(f"this is {KINDS[task]}, which has no {', '.join(refused)}: leave it out")
