"""Arguments of constructors and of ``encode`` of embedders, sparse and multi-vector encoders that are passed on."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Required, TypedDict

from numpy.typing import ArrayLike

from monograph.compat.arguments import Device, Pool
from monograph.inputs import Texts
from monograph.tasks.embedding import Precision
from monograph.tasks.multi_vector import TokenPrecision


class OpenOptions(TypedDict, total=False):
    """Prompts, access to a Hub, the backend; and those of torch models, which are accepted if they say nothing."""

    prompts: Mapping[str, str] | None
    default_prompt_name: str | None
    revision: str | None
    cache_folder: str | os.PathLike[str] | None
    token: str | bool | None
    local_files_only: bool
    backend: str | None
    trust_remote_code: bool
    modules: object
    model_kwargs: Mapping[str, Any] | None
    processor_kwargs: Mapping[str, Any] | None
    tokenizer_kwargs: Mapping[str, Any] | None
    config_kwargs: Mapping[str, Any] | None
    model_card_data: object


class EmbedOptions(TypedDict, total=False):
    """Options of ``Embedder.encode`` that say what its vectors are."""

    precision: Precision | None
    ranges: ArrayLike | None
    normalize_embeddings: bool
    truncate_dim: int | None


class EncodeOptions(EmbedOptions, total=False):
    """These, and arguments of sentence-transformers that change nothing."""

    output_value: Literal["sentence_embedding"]
    device: Device | Sequence[Device] | None
    pool: Pool | None
    chunk_size: int | None
    sentences: Texts | None


class ArrayOptions(EncodeOptions, total=False):
    """Options of a call that returns a NumPy array."""

    convert_to_numpy: Literal[True]
    convert_to_tensor: Literal[False]


class TokenEmbeddingOptions(TypedDict, total=False):
    """Options of a call that returns the vectors of tokens."""

    output_value: Required[Literal["token_embeddings"]]
    device: Device | Sequence[Device] | None
    pool: Pool | None
    chunk_size: int | None


class TensorOptions(EncodeOptions, total=False):
    """Options of a call that returns a torch tensor."""

    convert_to_numpy: bool
    convert_to_tensor: Required[Literal[True]]


class AnyOptions(EncodeOptions, total=False):
    """Options of a call that may return either, or a list of torch tensors."""

    convert_to_numpy: bool
    convert_to_tensor: bool


class SparseOptions(TypedDict, total=False):
    """Options that other methods of ``SparseEncoder`` pass on to ``encode``."""

    max_active_dims: int | None


class SparseArrayOptions(SparseOptions, total=False):
    """These, and arguments of sentence-transformers that change nothing: options of a call that returns an array."""

    save_to_cpu: bool
    device: Device | Sequence[Device] | None
    pool: Pool | None
    chunk_size: int | None
    sentences: Texts | None


class SparseTensorOptions(SparseArrayOptions, total=False):
    """Options of a call that returns a torch tensor."""

    convert_to_tensor: Required[bool]
    convert_to_sparse_tensor: bool | None


class AnySparseOptions(SparseArrayOptions, total=False):
    """Options of a call that may return either."""

    convert_to_tensor: bool | None
    convert_to_sparse_tensor: bool | None


class TokenOptions(TypedDict, total=False):
    """Options of ``MultiVectorEncoder.encode`` that say what its vectors are."""

    normalize_embeddings: bool
    precision: TokenPrecision | None
    pool_factor: float
    protected_tokens: int


class MultiVectorOptions(TokenOptions, total=False):
    """These, and arguments of sentence-transformers that change nothing."""

    device: Device | Sequence[Device] | None
    pool: Pool | None
    chunk_size: int | None
