"""What `monograph embed` makes of texts: dense vectors or sparse ones, in blocks, and how they are written."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from pathlib import Path
from typing import Any, Protocol, TypeVar

from numpy.typing import NDArray

from monograph.bundle.manifest import SPARSE, Manifest
from monograph.embedder import Embedder
from monograph.errors import InputError
from monograph.model import Model
from monograph.postprocess import plan_postprocess
from monograph.prompts import resolve_prompt
from monograph.sparse.rows import Active
from monograph.sparse_encoder import SparseEncoder
from monograph.vector_file import FORMATS, SPARSE_LINES, SPARSE_SUFFIX, VectorFormat, json_lines, sparse_json_lines

# The options that only dense or only sparse vectors have, and what each is where it is not given.
_DENSE_OPTIONS = {"truncate_dim": None, "normalize": False, "precision": "float32"}
_SPARSE_OPTIONS = {"max_active_dims": None}


Block = TypeVar("Block", bound=Sized)


class Vectors(Protocol[Block]):
    """Makes vectors of texts, block by block, and knows how a block is written."""

    def blocks(self, texts: Iterable[str], on_texts: Callable[[int], object], /) -> Iterator[Block]:
        """Yield the vectors of texts as blocks, in order; ``on_texts`` is told how many more texts are done."""

    def lines(self, block: Block, /) -> Iterator[str]:
        """Yield the lines of JSON of a block."""

    def form(self, output: Path, /) -> VectorFormat[Block]:
        """Return how blocks become the bytes of a file."""

    def settings(self, form: VectorFormat[Block], /) -> dict[str, str]:
        """Return what the vectors depend on beside the texts, each by the name that an error calls it.

        Threads and batch size are not among them: with others the vectors are equal but for rounding, and who ran out
        of memory goes on with smaller batches.
        """


def check_vector_options(manifest: Manifest, arguments: argparse.Namespace) -> None:
    """Refuse, before a model is opened, options and a file that are not for its kind of vectors.

    Raises:
        InputError: naming them.

    """
    if manifest.task != SPARSE:
        _refuse(arguments, _SPARSE_OPTIONS, "an embedding model")
        return
    _refuse(arguments, _DENSE_OPTIONS, "a sparse encoder")
    output: Path | None = arguments.output
    if output is not None and output.suffix != SPARSE_SUFFIX:
        raise InputError(f"sparse vectors are written as JSON lines: name {output.name} *{SPARSE_SUFFIX}")


class DenseVectors:
    """The vectors of an embedding model.

    Raises:
        InputError: an option is not usable.

    """

    def __init__(self, model: Embedder, arguments: argparse.Namespace) -> None:
        self._model, self._arguments = model, arguments
        self._prompt = _prompt(model, arguments)
        self._plan = plan_postprocess(
            model.manifest.need_embedding(),
            truncate_dim=arguments.truncate_dim,
            normalize=arguments.normalize,
            precision=arguments.precision,
            ranges=None,
        )

    def blocks(self, texts: Iterable[str], on_texts: Callable[[int], object]) -> Iterator[NDArray[Any]]:
        """Yield arrays [k, d]."""
        return self._model.encode_iter(
            texts,
            prompt=self._prompt,
            task=self._arguments.task,
            batch_size=self._arguments.batch_size,
            precision=self._arguments.precision,
            normalize_embeddings=self._arguments.normalize,
            truncate_dim=self._arguments.truncate_dim,
            on_texts=on_texts,
        )

    def lines(self, block: NDArray[Any]) -> Iterator[str]:
        """Yield an array of numbers for each vector."""
        return json_lines(block)

    def form(self, output: Path) -> VectorFormat[NDArray[Any]]:
        """Return the format that the file's name asks for."""
        return FORMATS[output.suffix](self._plan.dtype, self._plan.width)

    def settings(self, form: VectorFormat[NDArray[Any]]) -> dict[str, str]:
        """Return what the vectors depend on beside the texts."""
        return _settings(self._model, self._prompt, self._arguments.task, form) | {
            "dimensions": str(self._plan.dimension),
            "normalize": str(self._plan.normalize),
            "precision": self._plan.precision,
        }


class SparseVectors:
    """The vectors of a sparse encoder.

    Raises:
        InputError: an option is not usable.

    """

    def __init__(self, model: SparseEncoder, arguments: argparse.Namespace) -> None:
        self._model, self._arguments = model, arguments
        self._prompt = _prompt(model, arguments)

    def blocks(self, texts: Iterable[str], on_texts: Callable[[int], object]) -> Iterator[list[Active]]:
        """Yield lists of pairs of columns (int32 [k]) and values (float32 [k])."""
        return self._model.encode_active_iter(
            texts,
            prompt=self._prompt,
            task=self._arguments.task,
            batch_size=self._arguments.batch_size,
            max_active_dims=self._arguments.max_active_dims,
            on_texts=on_texts,
        )

    def lines(self, block: list[Active]) -> Iterator[str]:
        """Yield an object of ``indices`` and ``values`` for each vector."""
        return sparse_json_lines(block)

    def form(self, output: Path) -> VectorFormat[list[Active]]:  # noqa: ARG002
        """Return the only format that there is."""
        return SPARSE_LINES

    def settings(self, form: VectorFormat[list[Active]]) -> dict[str, str]:
        """Return what the vectors depend on beside the texts."""
        most = self._arguments.max_active_dims or self._model.manifest.need_sparse().max_active_dims
        return _settings(self._model, self._prompt, self._arguments.task, form) | {"active dimensions": str(most)}


def _prompt(model: Model, arguments: argparse.Namespace) -> str:
    known, default = model.manifest.prompts, model.manifest.default_prompt_name
    return resolve_prompt(known, default, arguments.prompt_name, arguments.prompt)


def _settings(model: Model, prompt: str, task: str | None, form: VectorFormat[Any]) -> dict[str, str]:
    routing = model.manifest.routing
    return {
        "fingerprint of bundle, engine and device": model.fingerprint,
        "prompt": prompt,
        "route": "none" if routing is None else str(routing.route_of(task)),
        "format": form.name,
    }


def _refuse(arguments: argparse.Namespace, unset: Mapping[str, object], kind: str) -> None:
    """Refuse options that a kind of model does not have, by what each is where it is not given."""
    given = [f"--{name.replace('_', '-')}" for name, default in unset.items() if getattr(arguments, name) != default]
    if given:
        raise InputError(f"the bundle is {kind}, which has no {', '.join(given)}: leave them out")
