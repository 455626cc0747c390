"""Open what is to be evaluated, or compared with, by the name that the command line gives it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monograph import load
from monograph.bundle import open_bundle
from monograph.bundle.sources import locate_bundle
from monograph.progress import Progress
from monograph.quality import QualityLevel
from monograph_bench.evaluation.encoder import EvaluationError
from monograph_bench.profiles import TaskProfile, profile_of

# What stands before the name of a checkpoint that sentence-transformers is to run, in torch.
TORCH_PREFIX = "st:"


@dataclass(frozen=True)
class Located:
    """A bundle or a checkpoint in a folder that is not opened yet, and the profile of its task."""

    name: str
    folder: Path
    profile: TaskProfile
    is_checkpoint: bool


@dataclass(frozen=True)
class OpenModel:
    """An open model, as the evaluations of its profile take it, and a description of what it runs on."""

    name: str
    profile: TaskProfile
    model: Any
    runs_on: str


def locate_model(name: str, task: str | None = None, progress: Progress | None = None) -> Located:
    """Find a bundle, or behind "st:" a checkpoint, as SOURCE of `monograph export`, and its task.

    ``progress`` is that of ``locate_bundle``.

    A bare checkpoint that could be of several tasks is taken to be of the requested ``task``, as at its export.

    Raises:
        EvaluationError: a checkpoint is named, and sentence-transformers is not installed.
        MonographError: the model cannot be found, is damaged, or of a task that is not evaluated.

    """
    if not name.startswith(TORCH_PREFIX):
        bundle = open_bundle(locate_bundle(name, progress=progress))
        return Located(name, Path(bundle.path), profile_of(bundle.manifest.task, name), is_checkpoint=False)
    try:
        # Here and not above: bundles are evaluated without torch.
        import sentence_transformers  # noqa: F401
        import torch  # noqa: F401
    except ModuleNotFoundError as error:
        raise EvaluationError(f"{TORCH_PREFIX} needs {error.name}: pip install 'monograph[bench,export]'") from error
    from monograph_export.checkpoint.checkpoint import read_checkpoint
    from monograph_export.checkpoint.source import locate_checkpoint
    from monograph_export.tasks import task_of

    folder = locate_checkpoint(name.removeprefix(TORCH_PREFIX), progress=progress)
    return Located(name, folder, profile_of(task_of(read_checkpoint(folder), task).name, name), is_checkpoint=True)


@contextmanager
def open_model(
    located: Located,
    device: str,
    compute_dtype: str,
    threads: int | None,
    quality: QualityLevel | None = None,
) -> Iterator[OpenModel]:
    """Open a bundle, or a checkpoint in torch on the CPU at float32.

    ``device``, ``compute_dtype`` and ``quality`` apply to bundles only.

    Raises:
        MonographError: the model cannot be opened.

    """
    profile = located.profile
    if located.is_checkpoint:
        with _torch_threads(threads) as version:
            model = profile.load_in_torch(located.folder)
            yield OpenModel(located.name, profile, model, f"cpu (torch {version}), float32")
    else:
        with load(located.folder, device, compute_dtype, threads, quality=quality) as model:
            runs_on = f"{model.device} ({model.engine}), {model.compute_dtype}"
            yield OpenModel(located.name, profile, model, runs_on)


@contextmanager
def _torch_threads(threads: int | None) -> Iterator[str]:
    """Let torch have ``threads`` CPU threads, or as many as it chooses, and yield its version."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield torch.__version__
    finally:
        torch.set_num_threads(before)
