"""Open what is to be evaluated, or compared with, by the name that the command line gives it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from monograph import CrossEncoder, Embedder, SparseEncoder
from monograph.bundle import open_bundle
from monograph.bundle.sources import locate_bundle
from monograph.model import Model as OpenBundle
from monograph_bench.evaluation.encoder import Encoder, EvaluationError
from monograph_bench.evaluation.reranking import PairScorer

if TYPE_CHECKING:
    from monograph_bench.evaluation.sparse_retrieval import SparseEncoder as AnySparseEncoder

# What stands before the name of a checkpoint that sentence-transformers is to run, in torch.
TORCH_PREFIX = "st:"


@dataclass(frozen=True)
class DenseModel:
    """An open embedding model: its encoder, the name of its similarity function, and what it runs on in words."""

    name: str
    encoder: Encoder
    similarity: str
    runs_on: str


@dataclass(frozen=True)
class PairModel:
    """An open cross-encoder, and what it runs on in words."""

    name: str
    scorer: PairScorer
    runs_on: str


@dataclass(frozen=True)
class SparseModel:
    """An open encoder of sparse vectors, and what it runs on in words."""

    name: str
    encoder: AnySparseEncoder
    runs_on: str


Model = DenseModel | PairModel | SparseModel


@dataclass(frozen=True)
class Located:
    """A bundle or a checkpoint in a folder that is not opened yet, and its task as a manifest calls it."""

    name: str
    folder: Path
    task: str
    is_checkpoint: bool


def locate_model(name: str, task: str | None = None) -> Located:
    """Find a bundle, or behind "st:" a checkpoint, as SOURCE of `monograph export`, and tell its task.

    A bare checkpoint that could be of several tasks is of the ``task`` that is asked for, as at its export.

    Raises:
        EvaluationError: a checkpoint is named, and sentence-transformers is not installed.
        MonographError: the model cannot be found, or is damaged.

    """
    if not name.startswith(TORCH_PREFIX):
        bundle = open_bundle(locate_bundle(name))
        return Located(name, Path(bundle.path), bundle.manifest.task, is_checkpoint=False)
    try:
        # Here and not above: bundles are evaluated without torch.
        import sentence_transformers  # noqa: F401
        import torch  # noqa: F401
    except ModuleNotFoundError as error:
        raise EvaluationError(f"{TORCH_PREFIX} needs {error.name}: pip install 'monograph[bench,export]'") from error
    from monograph_export.checkpoint.source import locate_checkpoint
    from monograph_export.checkpoint.task import task_of_folder

    folder = Path(locate_checkpoint(name.removeprefix(TORCH_PREFIX)))
    return Located(name, folder, task_of_folder(folder, task), is_checkpoint=True)


@contextmanager
def open_model(located: Located, device: str, compute_dtype: str, threads: int | None) -> Iterator[Model]:
    """Open a bundle, or a checkpoint in torch on the CPU at float32.

    A checkpoint runs without ``device`` and ``compute_dtype``, which are a bundle's.

    Raises:
        EvaluationError: it is of a task that is not evaluated.
        MonographError: the model cannot be opened.

    """
    if located.is_checkpoint:
        with _torch_threads(threads):
            yield _torch_model(located)
        return
    match located.task:
        case "embedding":
            with Embedder(located.folder, device, compute_dtype, threads) as embedder:
                similarity = embedder.manifest.need_embedding().similarity
                yield DenseModel(located.name, embedder, similarity, _runs_on(embedder))
        case "rerank":
            with CrossEncoder(located.folder, device, compute_dtype, threads) as scorer:
                yield PairModel(located.name, scorer, _runs_on(scorer))
        case "sparse":
            with SparseEncoder(located.folder, device, compute_dtype, threads) as encoder:
                yield SparseModel(located.name, encoder, _runs_on(encoder))
        case _:
            raise _unknown(located)


def _runs_on(model: OpenBundle) -> str:
    return f"{model.device} ({model.engine}), {model.compute_dtype}"


def _torch_model(located: Located) -> Model:
    import torch

    runs_on = f"cpu (torch {torch.__version__}), float32"
    match located.task:
        case "embedding":
            from monograph_export.checkpoint.load import load_folder

            model = load_folder(located.folder).whole
            return DenseModel(located.name, model, model.similarity_fn_name, runs_on)
        case "rerank":
            from monograph_export.reranking.load import load_cross_encoder

            return PairModel(located.name, load_cross_encoder(located.folder), runs_on)
        case "sparse":
            from monograph_bench.evaluation.torch_sparse import load_torch_sparse

            return SparseModel(located.name, load_torch_sparse(located.folder), runs_on)
    raise _unknown(located)


def _unknown(located: Located) -> EvaluationError:
    return EvaluationError(f"{located.name} is of the task {located.task!r}, which this release does not evaluate")


@contextmanager
def _torch_threads(threads: int | None) -> Iterator[None]:
    """Let torch have ``threads`` CPU threads, or as many as it chooses."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
