"""Turn a Sentence Transformers checkpoint into a bundle: one graph, compared with its source before it is written."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from monograph.bundle import Bundle
from monograph.bundle.manifest import TASKS
from monograph.errors import ExportError
from monograph_export.checkpoint.source import locate_checkpoint, recipe_of
from monograph_export.checkpoint.task import check_asked, task_of_folder
from monograph_export.compression.limits import ScoreLimits, SparseLimits, VectorLimits, score_limits
from monograph_export.compression.options import Compression
from monograph_export.compression.texts import read_calibration
from monograph_export.parity import check_engine
from monograph_export.task_options import check_task_options
from monograph_export.vocabulary.options import Trimming, named_texts
from monograph_export.writer import check_output

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder, SentenceTransformer, SparseEncoder

__all__ = ["export"]

# What exporting imports and grafting does not.
_PACKAGES = (
    *("torch", "transformers", "sentence_transformers", "onnxscript", "onnx", "onnx_ir", "safetensors", "scipy"),
    "fontTools",
)


def export(
    source: str | os.PathLike[str] | SentenceTransformer | CrossEncoder | SparseEncoder,
    output: str | os.PathLike[str],
    *,
    task: str | None = None,
    precision: str = "fp32",
    table: str | None = None,
    calibration: str | os.PathLike[str] | None = None,
    reduce_range: bool = False,
    min_mean_cosine: float = VectorLimits.mean_cosine,
    min_worst_cosine: float = VectorLimits.worst_cosine,
    min_neighbour_agreement: float = VectorLimits.neighbour_agreement,
    min_rank_correlation: float = ScoreLimits.spearman,
    max_score_move: float | None = None,
    min_active_overlap: float = SparseLimits.active_overlap,
    keep_vocab: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = (),
    keep_scripts: str | Sequence[str] = (),
    coverage: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = (),
    recipe: str | None = None,
    from_onnx: str | os.PathLike[str] | None = None,
) -> Bundle:
    """Export a checkpoint as a bundle and verify it against torch, or against the file of ``from_onnx``.

    Args:
        source: Folder of a checkpoint that sentence-transformers can load; a repository of a Hub, "org/name" or
            "org/name@revision"; the name of a recipe in models/, whose pinned revision is then downloaded and which
            counts as ``recipe``; or a loaded SentenceTransformer, CrossEncoder or SparseEncoder, which is left as it
            is. A folder wins over a name.
        output: Folder to write. It must not exist, or be empty; it appears only when it is whole and verified.
        task: "embedding", "rerank" (a cross-encoder), "sparse", or None to tell it from the checkpoint. The options of
            vocabulary and recipes are for embedding models; the limits of cosines and neighbours are not for
            cross-encoders, those of rank correlation and scores for nothing else, that of active dimensions for sparse
            encoders.
        precision: "fp32"; "fp16": the transformer in float16, for GPUs, and what comes after it in float32; or "int8":
            linear layers as int8 products with static ranges, and the table as int8.
        table: "fp32", or "int8": token embeddings as int8 rows with a scale each. None is "int8" for vocabularies of
            more than 100,000 and with int8 layers, "fp32" otherwise; of a cross-encoder only with int8 layers.
        calibration: UTF-8 file of texts, one a line, that set the ranges of int8 layers; half of them judge the result.
            None takes those of ``keep_vocab``, or built-in sentences of 37 languages. For a cross-encoder each line is
            a query, a tab and a passage; None are pairs of these sentences.
        reduce_range: 7 bits for the weights of int8 layers, for CPUs with AVX2 and without VNNI.
        min_mean_cosine: What texts not calibrated with must have, on average, as cosine to the original's vector.
        min_worst_cosine: The same for the text that loses most.
        min_neighbour_agreement: The share of texts that must keep their nearest neighbour.
        min_rank_correlation: What the scores of pairs not calibrated with must have as rank correlation to the
            original's.
        max_score_move: The most that one of them may move, as a part of the original's largest less its smallest. None
            is 0.25 with int8 layers, where single scores jump, and 0.1 without.
        min_active_overlap: The share of a sparse vector's active dimensions, those of either model, that both must
            have, on average.
        keep_vocab: UTF-8 file or files of texts, one a line. Only the tokens that they need are kept, and every single
            character of their scripts; their vectors stay the same.
        keep_scripts: ISO 15924 codes, such as ("Latn", "Cyrl") or "Latn,Cyrl": the tokens of these scripts are kept,
            the others not (unless a text of ``keep_vocab`` needs them).
        coverage: UTF-8 file or files of other texts, of which the manifest tells how the kept tokens do for them.
        recipe: Name of a recipe in models/ that the checkpoint is one of: the manifest takes its source, licence and
            matryoshka dimensions, and a checkpoint of another shape is refused.
        from_onnx: An ONNX file of the checkpoint's encoder, as optimum writes it: a path, or one within the checkpoint.
            Pooling and what follows it are appended to that, and neither torch nor the encoder's weights are needed.
            Options that change weights are refused.

    Returns:
        The bundle that was written.

    Raises:
        UnsupportedModuleError: a module of the checkpoint has no exact graph.
        ParityError: the graph does not equal the torch model, or the encoder's file; nothing is written.
        ExportError: the compressed model is further from the original than the limits allow; the calibration texts
            cannot be read; the checkpoint cannot be downloaded, read or loaded; the output cannot be written; or a
            package is missing.

    """
    trimming = Trimming(
        corpora=named_texts(_paths(keep_vocab)), scripts=_codes(keep_scripts), coverage=named_texts(_paths(coverage))
    )
    trimming.check()
    of_vectors = (min_mean_cosine, min_worst_cosine, min_neighbour_agreement)
    compression = Compression(
        precision=precision,
        table=table,
        calibration=None if calibration is None else read_calibration(Path(calibration)),
        reduce_range=reduce_range,
        vector_limits=VectorLimits(*of_vectors),
        sparse_limits=SparseLimits(*of_vectors, min_active_overlap),
        score_limits=score_limits(precision, min_rank_correlation, max_score_move),
    )
    compression.check()
    if from_onnx is not None:
        _check_unchanged(compression, trimming)
    # Not resolve(), which would follow a link that output may be.
    target = Path(os.path.abspath(output))  # noqa: PTH100
    check_output(target)
    if from_onnx is not None:
        return _graft(source, target, from_onnx, task, recipe)
    if task not in (None, *TASKS):
        raise ExportError(f"task {task!r} cannot be exported by this release; it has {' and '.join(map(repr, TASKS))}")
    for package in _PACKAGES:
        if importlib.util.find_spec(package) is None:
            raise ExportError(f"export needs {package}: pip install 'monograph[export,onnx]'")
    check_engine()
    # With fontTools, which is one of them.
    from monograph_export.vocabulary.scripts import check_scripts

    check_scripts(trimming.scripts)
    known = recipe_of(source, recipe)
    model: Path | SentenceTransformer | CrossEncoder | SparseEncoder
    named: object
    if isinstance(source, (str, os.PathLike)):
        folder = locate_checkpoint(source)
        model, named, found = folder, source, task_of_folder(folder, task)
    else:
        # Here and not above: torch takes seconds, and the command line reads this module where it is not installed.
        from monograph_export.pipeline import task_of_loaded

        model, named, found = source, "the model", task_of_loaded(source)
    check_asked(named, found, task)
    check_task_options(found, compression, trimming, known)
    from monograph_export.pipeline import run_export

    return run_export(model, target, task=found, compression=compression, trimming=trimming, recipe=known)


def _graft(source: object, target: Path, file: str | os.PathLike[str], task: str | None, recipe: str | None) -> Bundle:
    if not isinstance(source, (str, os.PathLike)):
        raise ExportError(
            f"an ONNX file is grafted onto the folder or name of a checkpoint, got {type(source).__name__}: save the "
            "model and give its folder, or leave out from_onnx"
        )
    try:
        from monograph_export.from_onnx.export import export_from_onnx
    except ModuleNotFoundError as error:
        raise ExportError(f"grafting needs {error.name}: pip install 'monograph[graft,onnx]'") from error
    return export_from_onnx(source, target, file, task=task, recipe=recipe)


def _check_unchanged(compression: Compression, trimming: Trimming) -> None:
    """Refuse options that change weights, which an ONNX file has as they are."""
    named = {
        "--precision": compression.precision != Compression.precision,
        "--table": compression.table not in (None, "fp32"),
        "--keep-vocab": bool(trimming.corpora),
        "--keep-scripts": bool(trimming.scripts),
    }
    if refused := [*(name for name, given in named.items() if given), *compression.given_limits()]:
        raise ExportError(
            f"{', '.join(refused)} cannot go with --from-onnx, which takes the weights as the file has them: leave out "
            "one of the two"
        )


def _paths(files: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> list[Path]:
    return [Path(file) for file in ([files] if isinstance(files, (str, os.PathLike)) else files)]


def _codes(scripts: str | Sequence[str]) -> tuple[str, ...]:
    codes = scripts.split(",") if isinstance(scripts, str) else scripts
    return tuple(dict.fromkeys(code.strip() for code in codes))
