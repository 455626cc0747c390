"""MTEB: bundles as models that the benchmark's tasks evaluate."""
# mypy: disable-error-code="import-not-found, misc"

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monograph import tensors
from monograph.cross_encoder import CrossEncoder
from monograph.embedder import Embedder
from monograph.integrations.frameworks import (
    BundlePath,
    check_texts_of,
    describe,
    missing,
    open_cross_encoder,
    open_embedder,
)

try:
    from mteb.models import ModelMeta
    from mteb.models.abs_encoder import get_prompt_name
    from mteb.models.model_meta import ScoringFunction
except ImportError as error:
    raise missing("mteb", error) from error


class MonographEncoder:
    """A bundle as MTEB's ``EncoderProtocol``.

    The prompt of a task is the first that the model has by MTEB's names: that of task and prompt type
    ("SciFact-query"), of the task, of task type and prompt type ("Retrieval-query"), of the task type ("STS"), of the
    prompt type ("query"). Where there is none, texts have the prompt that ``encode_query``, ``encode_document`` or
    ``encode`` gives them. Results of MTEB are stored by the model's name and fingerprint.

    Args:
        model_name: A bundle's path, or an open ``Embedder``.
        revision: None: it is the bundle's fingerprint.
        device: Where a bundle is opened; None for the best device.
        model_prompts: Prompts by the names above, in addition to the model's.

    Raises:
        BundleError: the bundle is missing, damaged or of another task.
        DeviceError: the device cannot run the bundle.
        InputError: an argument is not valid.

    """

    def __init__(
        self,
        model_name: Embedder | BundlePath,
        revision: None = None,  # noqa: ARG002  # MTEB's signature
        *,
        device: str | None = None,
        model_prompts: Mapping[str, str] | None = None,
    ) -> None:
        self.model = open_embedder(model_name, device)
        self.model_prompts = {**self.model.prompts, **(model_prompts or {})}

    def __repr__(self) -> str:
        return describe(self, self.model)

    @property
    def mteb_model_meta(self) -> Any:
        """What MTEB records of the model."""
        function = ScoringFunction.from_str(self.model.similarity_fn_name)
        return _meta(self.model, type(self), "dense", self.model.dimension).model_copy(
            update={"similarity_fn_name": function}
        )

    def encode(
        self,
        inputs: Iterable[Mapping[str, list[str]]],
        *,
        task_metadata: Any,
        hf_split: str,  # noqa: ARG002  # MTEB's signature
        hf_subset: str,  # noqa: ARG002
        prompt_type: Any = None,
        batch_size: int | None = None,  # noqa: ARG002  # the runtime's own batches are bounded by tokens, and faster
        show_progress_bar: bool | None = None,
        precision: Any = "float32",
    ) -> NDArray[Any]:
        """Return the vectors of a task's texts, float32 [n, d] (or of another ``precision``)."""
        prompt_name = get_prompt_name(self.model_prompts, task_metadata, prompt_type)
        prompt = None if prompt_name is None else self.model_prompts[prompt_name]
        kind = "" if prompt_type is None else str(prompt_type.value)
        encode = {"query": self.model.encode_query, "document": self.model.encode_document}.get(kind, self.model.encode)
        vectors: NDArray[Any] = encode(
            _texts_of(inputs), prompt=prompt, show_progress_bar=show_progress_bar, precision=precision
        )
        return vectors

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Return the similarity of each vector to each other, a torch tensor [n, m], as MTEB's evaluators need it."""
        return tensors.to_torch(_rows(self.model.similarity(_rows(embeddings1), _rows(embeddings2))), as_list=False)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Return the similarity of vectors pair by pair, a torch tensor [n]."""
        scores = self.model.similarity_pairwise(_rows(embeddings1), _rows(embeddings2))
        return tensors.to_torch(np.asarray(scores), as_list=False)


class MonographCrossEncoder:
    """A reranker's bundle as MTEB's ``CrossEncoderProtocol``.

    Args:
        model_name: A bundle's path, or an open ``CrossEncoder`` with one label.
        revision: None: it is the bundle's fingerprint.
        device: Where a bundle is opened; None for the best device.

    Raises:
        BundleError: the bundle is missing, damaged or of another task.
        DeviceError: the device cannot run the bundle.
        InputError: an argument is not valid.

    """

    def __init__(
        self,
        model_name: CrossEncoder | BundlePath,
        revision: None = None,  # noqa: ARG002  # MTEB's signature
        device: str | None = None,
    ) -> None:
        self.model = open_cross_encoder(model_name, device)

    def __repr__(self) -> str:
        return describe(self, self.model)

    @property
    def mteb_model_meta(self) -> Any:
        """What MTEB records of the model."""
        return _meta(self.model, type(self), "cross-encoder", None)

    def predict(
        self,
        inputs1: Iterable[Mapping[str, list[str]]],
        inputs2: Iterable[Mapping[str, list[str]]],
        *,
        task_metadata: Any,  # noqa: ARG002  # MTEB's signature
        hf_split: str,  # noqa: ARG002
        hf_subset: str,  # noqa: ARG002
        prompt_type: Any = None,  # noqa: ARG002
        batch_size: int | None = None,  # noqa: ARG002  # as above
        show_progress_bar: bool | None = None,
    ) -> NDArray[np.float32]:
        """Return the scores of pairs, a text of each input, float32 [n]."""
        pairs = list(zip(_texts_of(inputs1), _texts_of(inputs2), strict=True))
        return self.model.predict(pairs, show_progress_bar=show_progress_bar)


def _texts_of(inputs: Iterable[Mapping[str, list[str]]]) -> list[str]:
    return list(chain.from_iterable(check_texts_of(batch["text"]) for batch in inputs))


def _rows(vectors: Any) -> NDArray[Any]:
    """Return tensors or arrays, of one vector or more, as an array [n, d]."""
    return np.atleast_2d(tensors.to_array(vectors))


def _meta(model: Embedder | CrossEncoder, loader: type[Any], kind: str, dimension: int | None) -> Any:
    source = model.manifest.source
    return ModelMeta.create_empty(
        overwrites={
            # MTEB needs a name with an organization.
            "name": source.name if source.name.count("/") == 1 else f"monograph/{source.name.replace('/', '-')}",
            "revision": model.fingerprint,
            "loader": loader,
            "max_tokens": math.inf if model.max_length is None else model.max_length,
            "embed_dim": dimension,
            "framework": ["ONNX", *(["OpenVINO"] if model.device.startswith("openvino") else [])],
            "model_type": [kind],
        }
    )
