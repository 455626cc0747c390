"""What a system under measurement has to be, and what several adapters share."""

from __future__ import annotations

import abc
import importlib.metadata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# The default of Sentence Transformers, and the most common in what users write.
DEFAULT_BATCH_SIZE = 32
# The minimum that normalization divides by, as torch.nn.functional.normalize.
_MIN_NORM = 1e-12
_OPENVINO_TYPES = {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}


class Model(abc.ABC):
    """A loaded model that embeds texts, or scores pairs of them, as its users would have it do that.

    ``first_input`` is what the first result is computed of: a text, or a pair.
    """

    first_input: Any = "a first text"

    @abc.abstractmethod
    def encode(self, texts: list[Any], batch_size: int | None) -> Any:
        """Return the results of texts or pairs in their order; the system's own batches where None is given."""

    def to_array(self, results: Any) -> NDArray[np.float32]:
        """Return what ``encode`` gave as an array: vectors [n, d], or logits of pairs [n] or [n, labels].

        Of a text with a vector for each token, the vectors are rows like others, one text after the other.
        """
        if isinstance(results, list) and results and getattr(results[0], "ndim", 0) == 2:
            return np.concatenate([np.asarray(matrix, dtype=np.float32) for matrix in results])
        return np.asarray(results, dtype=np.float32)

    def padding_share(self, texts: list[Any]) -> float | None:  # noqa: ARG002 - for those that know
        """Return the share of padding among the tokens that are computed for texts, None where it is not known."""
        return None

    @abc.abstractmethod
    def describe(self) -> dict[str, str]:
        """Return what a reader of the result should know: versions, device, type and threads that the system has."""


@dataclass(frozen=True)
class Call:
    """The method and arguments that compute the results of a task, and what the first is computed of, from JSON."""

    method: str
    arguments: dict[str, Any]
    first_input: Any


class LibraryModel(Model):
    """A model of a library that has a class for each task."""

    def __init__(self, model: Any, call: Call) -> None:
        self._model = model
        self._method = getattr(model, call.method)
        self._arguments = call.arguments
        # JSON has no tuples, which is what pairs are.
        self.first_input = tuple(call.first_input) if isinstance(call.first_input, list) else call.first_input

    def encode(self, texts: list[Any], batch_size: int | None) -> Any:
        """Call the method with the arguments of the task."""
        return self._method(texts, batch_size=batch_size, **self._arguments)


def pool(states: NDArray[np.float32], mask: NDArray[Any], pooling: str, normalize: bool) -> NDArray[np.float32]:
    """Return the vectors [n, d] of token states [n, t, d], as users write it who get the states alone.

    ``mask`` [n, t] is 1 for tokens and 0 for padding, which is on the right. ``pooling`` is "mean" or "cls".
    """
    if pooling == "cls":
        vectors = states[:, 0]
    else:
        weights = mask[:, :, np.newaxis].astype(np.float32)
        vectors = (states * weights).sum(axis=1) / np.maximum(weights.sum(axis=1), 1e-9)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), _MIN_NORM) if normalize else vectors


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Return the installed versions of packages."""
    return {package: importlib.metadata.version(package) for package in packages}


def describe_session(session: Any) -> dict[str, str]:
    """Return device, type and threads of an ONNX Runtime session of a float32 graph."""
    return {
        "device": ", ".join(session.get_providers()),
        "compute_dtype": "float32",
        "threads": str(session.get_session_options().intra_op_num_threads),
    }


def openvino_type_name(element_type: Any) -> str:
    """Return the name of an OpenVINO element type as reports have it, such as "bfloat16"."""
    short: str = element_type.get_type_name()
    return _OPENVINO_TYPES.get(short, short)


def in_length_order(
    texts: list[str], batch_size: int | None, embed: Callable[[list[str]], NDArray[np.float32]]
) -> NDArray[np.float32]:
    """Embed texts from the longest to the shortest, in characters, and return the vectors in the caller's order.

    For libraries that take one batch a call and leave the rest to their users. ``embed`` gives the vectors of one
    batch, float32 [k, d]; the result is float32 [n, d].
    """
    size = batch_size or DEFAULT_BATCH_SIZE
    order = np.argsort([-len(text) for text in texts], kind="stable")
    batches = [[texts[index] for index in order[begin : begin + size]] for begin in range(0, len(texts), size)]
    ordered = np.concatenate([embed(batch) for batch in batches])
    vectors = np.empty_like(ordered)
    vectors[order] = ordered
    return vectors
