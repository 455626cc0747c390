"""Open what is to be evaluated, or compared with, by the name that the command line gives it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from monograph import Embedder
from monograph_bench.evaluation.encoder import Encoder, EvaluationError

# What stands before the name of a checkpoint that sentence-transformers is to run, in torch.
TORCH_PREFIX = "st:"


@dataclass(frozen=True)
class Model:
    """An open model: its encoder, the name of its similarity function, and what it runs on in words."""

    name: str
    encoder: Encoder
    similarity: str
    runs_on: str


@contextmanager
def open_model(name: str, device: str, compute_dtype: str, threads: int | None) -> Iterator[Model]:
    """Open a bundle, or behind "st:" a checkpoint, as SOURCE of `monograph export`, in torch on the CPU at float32.

    A checkpoint runs without ``device`` and ``compute_dtype``, which are a bundle's.

    Raises:
        EvaluationError: a checkpoint is named, and sentence-transformers is not installed.
        MonographError: the model cannot be opened.

    """
    if name.startswith(TORCH_PREFIX):
        with _torch_threads(threads):
            yield _torch_model(name)
        return
    with Embedder(name, device, compute_dtype, threads) as embedder:
        runs_on = f"{embedder.device} ({embedder.engine}), {embedder.compute_dtype}"
        yield Model(name, embedder, embedder.manifest.need_embedding().similarity, runs_on)


def _torch_model(name: str) -> Model:
    import torch

    from monograph_export.checkpoint.load import load_folder
    from monograph_export.checkpoint.source import locate_checkpoint

    source = name.removeprefix(TORCH_PREFIX)
    model = load_folder(Path(locate_checkpoint(source))).whole
    return Model(name, model, model.similarity_fn_name, f"cpu (torch {torch.__version__}), float32")


@contextmanager
def _torch_threads(threads: int | None) -> Iterator[None]:
    """Let torch have ``threads`` CPU threads, or as many as it chooses."""
    try:
        # Here and not above: bundles are evaluated without torch.
        import sentence_transformers  # noqa: F401
        import torch
    except ModuleNotFoundError as error:
        raise EvaluationError(f"{TORCH_PREFIX} needs {error.name}: pip install 'monograph[bench,export]'") from error
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
