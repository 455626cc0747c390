"""Export a Sentence Transformers checkpoint as a bundle, whose graph is verified before it is written."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monograph.bundle import Bundle
from monograph.errors import ExportError
from monograph.paths import user_path
from monograph.progress import Progress, progress_for
from monograph.tasks.embedding import HYBRID_EMBEDDINGS
from monograph_export.arithmetic import reproducible_environment
from monograph_export.checkpoint.checkpoint import HYBRID_HEADS, Checkpoint, read_checkpoint
from monograph_export.checkpoint.source import check_files, locate_checkpoint, locate_with_encoder, recipe_of
from monograph_export.compression.options import (
    ACTIVE_OVERLAP,
    MEAN_COSINE,
    NEIGHBOUR_AGREEMENT,
    RANK_CORRELATION,
    SCORE_MOVE,
    WORST_COSINE,
    CompressionOptions,
    RequestedLimits,
    compression_options,
)
from monograph_export.compression.texts import read_calibration
from monograph_export.parity import check_engine
from monograph_export.reproduction import compare_bundles
from monograph_export.tasks import ExportTask, check_requested, task_names, task_of, task_of_model
from monograph_export.tasks.base import FROM_ONNX, PRUNING, RECIPE
from monograph_export.vocabulary.options import VocabularyOptions, named_texts
from monograph_export.writer import check_output

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder, SentenceTransformer, SparseEncoder
    from sentence_transformers.base.model import BaseModel

    from monograph_export.model import ExportRequest, LoadedModel
    from monograph_export.recipes import Recipe

    Loader = Callable[[ExportRequest], LoadedModel]

__all__ = ["compare_bundles", "export"]

# What is imported to trace a model.
_PACKAGES = (
    *("torch", "transformers", "sentence_transformers", "onnxscript", "onnx", "onnx_ir", "safetensors", "scipy"),
    "fontTools",
)
_PACKAGES_FROM_ONNX = ("onnx_ir", "safetensors", "huggingface_hub")


def export(
    source: str | os.PathLike[str] | SentenceTransformer | CrossEncoder | SparseEncoder,
    output: str | os.PathLike[str],
    *,
    task: str | None = None,
    precision: str | Sequence[str] = "fp32",
    table: str | None = None,
    calibration: str | os.PathLike[str] | None = None,
    reduce_range: bool = False,
    min_mean_cosine: float | None = None,
    min_worst_cosine: float | None = None,
    min_neighbour_agreement: float | None = None,
    min_rank_correlation: float | None = None,
    max_score_move: float | None = None,
    min_active_overlap: float | None = None,
    keep_vocab: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = (),
    keep_scripts: str | Sequence[str] = (),
    coverage: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = (),
    recipe: str | None = None,
    from_onnx: str | os.PathLike[str] | None = None,
    outputs: str | Sequence[str] | None = None,
    show_progress_bar: bool | Progress | None = None,
) -> Bundle:
    """Export a checkpoint as a bundle, and verify it against torch or against the file given as ``from_onnx``.

    Args:
        source: A checkpoint's folder that sentence-transformers can load; a repository on the Hub, "org/name" or
            "org/name@revision"; the name of a recipe in models/, whose pinned revision is downloaded and which is then
            also the ``recipe``; or a loaded SentenceTransformer, CrossEncoder or SparseEncoder, which is not changed. A
            folder takes precedence over a name.
        output: Folder to write. It must be empty or not exist. It appears only when it is complete and verified.
        task: "embedding", "rerank" (a cross-encoder), "sparse", or None for the task of the checkpoint. Pruning and
            recipes are only for embedding models, ``min_rank_correlation`` and ``max_score_move`` only for
            cross-encoders, ``min_active_overlap`` only for sparse encoders, and the other limits for all but
            cross-encoders.
        precision: "fp32"; "fp16": the transformer in float16, for GPUs, and all later modules in float32; "int8":
            linear layers as int8 products with static ranges, and the token embeddings as int8; or "int8-weights":
            linear layers of int8 weights whose inputs stay float32, and the token embeddings as int8. Several, such as
            "fp32,int8" or ("fp32", "int8"), become one bundle with a graph of each and weights that are equal stored
            once; the first is its default, and ``Embedder(quality=)`` chooses. All other options apply to each, and
            those of int8 layers to these.
        table: "fp32", or "int8": token embeddings as int8 rows, each with a scale. None is "int8" with layers of "int8"
            or "int8-weights" and for vocabularies of more than 100,000 tokens (for cross-encoders only with such
            layers), otherwise "fp32".
        calibration: UTF-8 file of texts, one per line, that set the ranges of int8 layers. Half of them are held out to
            measure the result. None takes the texts of ``keep_vocab``, or built-in sentences in 37 languages. For a
            cross-encoder, each line is a query, a tab and a passage, and None takes pairs of the built-in sentences.
        reduce_range: Use 7 bits for the weights of int8 layers, for CPUs with AVX2 but without VNNI.
        min_mean_cosine: Minimum mean cosine of held-out texts to the original's vectors. None is 0.999 with
            "int8-weights", otherwise 0.99.
        min_worst_cosine: Minimum cosine of every held-out text to the original's vector. None is 0.99 with
            "int8-weights", otherwise 0.93.
        min_neighbour_agreement: Minimum share of held-out texts whose nearest neighbour stays the same. None is 0.88.
        min_rank_correlation: Minimum rank correlation of the scores of held-out pairs with the original's. None is
            0.999 with "int8-weights", otherwise 0.99.
        max_score_move: Maximum difference of one of these scores from the original's, relative to the original's
            largest score minus its smallest. None is 0.25 with int8 layers, where single scores jump, otherwise 0.1.
        min_active_overlap: Minimum overlap of active dimensions with the original's sparse vectors: of the dimensions
            active in either, the share active in both, averaged over held-out texts. None is 0.8.
        keep_vocab: UTF-8 file or files of texts, one per line. Only the tokens that they need and all single characters
            of their scripts are retained; the vectors of these texts stay the same.
        keep_scripts: ISO 15924 codes, such as ("Latn", "Cyrl") or "Latn,Cyrl". Only tokens of these scripts are
            retained, and those that ``keep_vocab`` retains.
        coverage: UTF-8 file or files of other texts; the manifest records how well the retained tokens cover them.
        recipe: Name of the recipe in models/ that describes the checkpoint. The manifest takes source, license and
            matryoshka dimensions from it, and a checkpoint with a different architecture is refused.
        from_onnx: An ONNX file of the checkpoint's encoder, as exported by optimum: a path, either as given or within
            the checkpoint. Pooling and the modules after it are appended to its graph; neither torch nor the encoder's
            weights are needed. Options that change weights are refused.
        outputs: None for the task's own, and "hybrid_embeddings" of a checkpoint with the heads of bge-m3
            (colbert_linear.pt and sparse_linear.pt), for ``encode_all``; "sentence_embedding" leaves them out.
            "sentence_embedding,token_embeddings", or a sequence of these, adds the vectors of tokens to the graph of
            an embedding model, for ``encode(output_value="token_embeddings")`` and ``encode_chunks``.
        show_progress_bar: Whether to show a progress bar on stderr for each step; None shows them if the `monograph`
            logger is at INFO or DEBUG. A ``monograph.progress.Progress`` receives the steps instead.

    Returns:
        The bundle that was written.

    Raises:
        UnsupportedModuleError: a module of the checkpoint has no exact graph.
        ParityError: the graph does not match the torch model, or the encoder's file; nothing is written.
        ExportError: the compressed model differs from the original by more than the limits allow; the calibration texts
            cannot be read; the checkpoint cannot be downloaded, read or loaded; the output cannot be written; or a
            package is missing.

    Examples:
        >>> bundle = export(checkpoint, "bundle")
        >>> bundle.manifest.task, sorted(bundle.manifest.files)
        ('embedding', ['model.onnx', 'model.onnx.data', 'probes.json', 'tokenizer.json'])
        >>> result = bundle.manifest.quality.verifications[0]
        >>> result.engine, result.compute_dtype, result.passed
        ('onnxruntime', 'float32', True)

    """
    vocabulary = VocabularyOptions(
        corpora=named_texts(_paths(keep_vocab)), scripts=_codes(keep_scripts), coverage=named_texts(_paths(coverage))
    )
    vocabulary.check()
    calibration_file = None if calibration is None else read_calibration(user_path(calibration))
    compressions = compression_options(precision, table, calibration_file, reduce_range=reduce_range)
    bounds = {
        MEAN_COSINE: min_mean_cosine,
        WORST_COSINE: min_worst_cosine,
        NEIGHBOUR_AGREEMENT: min_neighbour_agreement,
        RANK_CORRELATION: min_rank_correlation,
        SCORE_MOVE: max_score_move,
        ACTIVE_OVERLAP: min_active_overlap,
    }
    requested = [RequestedLimits(bounds, one.precision) for one in compressions]
    requested[0].check()
    _check_task(task)
    if from_onnx is not None:
        _check_unchanged(compressions, vocabulary, requested[0])
    # Not resolve(), which would follow a link that output may be.
    target = Path(os.path.abspath(user_path(output)))  # noqa: PTH100
    check_output(target)
    known = recipe_of(source, recipe)
    progress = progress_for(show_progress_bar)
    # By default a download shows huggingface_hub's own bars, as loading a model by its name does.
    downloads = None if show_progress_bar is None else progress
    # From here on torch is imported.
    with reproducible_environment():
        if from_onnx is None:
            chosen, load, checkpoint = _traced(source, task, vocabulary, downloads)
        else:
            chosen, load = _from_onnx(source, from_onnx, task, downloads)
            checkpoint = None
        additional = _additional_outputs(chosen, checkpoint, outputs, from_onnx)
        others = {PRUNING: vocabulary.prunes, RECIPE: known is not None}
        chosen.check_options([*requested[0].options, *(option for option, given in others.items() if given)])
        requests = _requests(target, chosen, compressions, requested, vocabulary, known, additional)
        from monograph_export.steps import run_export

        return run_export(load, requests, progress)


def _check_task(task: str | None) -> None:
    if task not in (None, *task_names()):
        names = " and ".join(map(repr, task_names()))
        raise ExportError(f"task {task!r} cannot be exported by this release; it has {names}")


def _requests(
    target: Path,
    task: ExportTask[Any],
    compressions: Sequence[CompressionOptions],
    requested: Sequence[RequestedLimits],
    vocabulary: VocabularyOptions,
    recipe: Recipe | None,
    additional_outputs: tuple[str, ...],
) -> list[ExportRequest]:
    """Return a request for each precision, with the limits that were requested for it."""
    from monograph_export.model import ExportRequest

    return [
        ExportRequest(
            target=target,
            task=task,
            compression=compression,
            limits=limits.of(task.limits),
            calibration=task.calibration(compression, vocabulary.corpus),
            vocabulary=vocabulary,
            recipe=recipe,
            precisions=tuple(each.precision for each in compressions),
            additional_outputs=additional_outputs,
        )
        for compression, limits in zip(compressions, requested, strict=True)
    ]


def _additional_outputs(
    task: ExportTask[Any], checkpoint: Checkpoint | None, outputs: str | Sequence[str] | None, from_onnx: object
) -> tuple[str, ...]:
    """Return the outputs of a graph after the task's own: those requested, or those of the checkpoint by default.

    ``checkpoint`` is None where there is none, or an ONNX file takes the place of its encoder.

    Raises:
        ExportError: the task's own is not the first, or a graph of it has no such output.

    """
    main, known = task.task.output, task.task.additional_outputs
    if outputs is None:
        return () if checkpoint is None else task.default_outputs(checkpoint)
    names = outputs.split(",") if isinstance(outputs, str) else outputs
    first, *additional = (name.strip() for name in names or (main,))
    if first != main or len(set(additional)) < len(additional) or not set(additional) <= set(known):
        choices = f", followed by {' or '.join(known)}, or alone" if known else ""
        raise ExportError(f"--outputs of {task.title} are {main}{choices}")
    if additional and from_onnx is not None:
        raise ExportError("--outputs cannot go with --from-onnx: export the checkpoint itself")
    # What a checkpoint has not by default it has not at all.
    if HYBRID_EMBEDDINGS in additional and (checkpoint is None or not task.default_outputs(checkpoint)):
        raise ExportError(
            f"--outputs {HYBRID_EMBEDDINGS} needs the folder of a checkpoint with {' and '.join(HYBRID_HEADS)}"
        )
    return tuple(additional)


def _traced(
    source: object, task: str | None, vocabulary: VocabularyOptions, downloads: Progress | None
) -> tuple[ExportTask[Any], Loader, Checkpoint | None]:
    """Return the task of a checkpoint or loaded model, what loads it in torch, and the checkpoint if it is one."""
    if missing := _missing(_PACKAGES):
        raise ExportError(f"export needs {missing}: pip install 'monograph[export,onnx]'")
    check_engine()
    # With fontTools, which is one of them.
    from monograph_export.vocabulary.scripts import check_scripts

    check_scripts(vocabulary.scripts)
    model: Any = source
    name = "the model"
    if isinstance(source, (str, os.PathLike)):
        model, name = read_checkpoint(locate_checkpoint(source, progress=downloads)), os.fspath(source)
        check_files(model)
    chosen = task_of(model, task) if isinstance(model, Checkpoint) else task_of_model(model)
    check_requested(name, chosen, task)
    return chosen, partial(_load_traced, model), model if isinstance(model, Checkpoint) else None


def _load_traced(source: Checkpoint | BaseModel, request: ExportRequest) -> LoadedModel:
    # Here and not above: torch takes seconds, and the command line reads this module where it is not installed.
    from monograph_export.torch_model import load_torch_model

    return load_torch_model(source, request)


def _from_onnx(
    source: object, file: str | os.PathLike[str], task: str | None, downloads: Progress | None
) -> tuple[ExportTask[Any], Loader]:
    """Return the task of a checkpoint whose encoder is an ONNX file, and what opens both."""
    if not isinstance(source, (str, os.PathLike)):
        raise ExportError(
            "an ONNX file takes the place of the encoder in a checkpoint that is a folder or a name, got "
            f"{type(source).__name__}: save the model and give its folder, or leave out from_onnx"
        )
    if missing := _missing(_PACKAGES_FROM_ONNX):
        raise ExportError(f"export from an ONNX file needs {missing}: pip install 'monograph[from-onnx,onnx]'")
    check_engine()
    folder, encoder_file = locate_with_encoder(source, file, downloads)
    checkpoint = read_checkpoint(folder)
    check_files(checkpoint, encoder_file)
    chosen = task_of(checkpoint, task)
    if FROM_ONNX not in chosen.options:
        raise ExportError(
            f"{chosen.title} cannot be exported from an ONNX file: export the checkpoint itself, without --from-onnx"
        )
    check_requested(os.fspath(source), chosen, task)
    from monograph_export.from_onnx.model import load_onnx_model

    return chosen, partial(load_onnx_model, checkpoint, encoder_file)


def _check_unchanged(
    compressions: Sequence[CompressionOptions], vocabulary: VocabularyOptions, limits: RequestedLimits
) -> None:
    """Refuse options that change weights, which an ONNX file has as they are."""
    changing = {
        "--precision": [one.precision for one in compressions] != ["fp32"],
        "--table": compressions[0].table not in (None, "fp32"),
        "--keep-vocab": bool(vocabulary.corpora),
        "--keep-scripts": bool(vocabulary.scripts),
    }
    if refused := [*(name for name, given in changing.items() if given), *limits.options]:
        raise ExportError(
            f"{', '.join(refused)} cannot go with --from-onnx, which takes the weights as the file has them: leave out "
            "one of the two"
        )


def _missing(packages: Sequence[str]) -> str | None:
    return next((package for package in packages if importlib.util.find_spec(package) is None), None)


def _paths(files: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> list[Path]:
    return [user_path(file) for file in ([files] if isinstance(files, (str, os.PathLike)) else files)]


def _codes(scripts: str | Sequence[str]) -> tuple[str, ...]:
    codes = scripts.split(",") if isinstance(scripts, str) else scripts
    return tuple(dict.fromkeys(code.strip() for code in codes))
