"""The API of text-embeddings-inference: `/embed`, `/embed_all`, `/rerank`, `/predict`, `/tokenize`, `/info` and others.

Its requests name no model: they are answered by the server's first model of the task, or by the one in ``model``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, PlainValidator, RootModel, WithJsonSchema
from pydantic_core import PydanticCustomError
from starlette.requests import Request
from starlette.responses import Response

from monograph.inputs import Input
from monograph.server.endpoints import Context, RequestBody, body_router, check_body, documented_errors, json_response
from monograph.server.fields import Direction, InputType, PromptName, Texts, Truncate, call_options, check_number
from monograph.server.models import ServedModel
from monograph.server.routes.openai import dimension_options
from monograph.server.routes.rerank import reranker, score
from monograph.tasks.embedding import EMBEDDING
from monograph.tasks.multi_vector import MULTI_VECTOR
from monograph.tasks.rerank import RERANK
from monograph.tasks.sparse import SPARSE
from monograph.version import __version__

_TEXT = {"type": "string"}
_PAIR = {"type": "array", "items": _TEXT, "minItems": 2, "maxItems": 2}
_ONE_OR_TWO = {"type": "array", "items": _TEXT, "minItems": 1, "maxItems": 2}
_SEQUENCES = {"anyOf": [_TEXT, _PAIR, {"type": "array", "items": _ONE_OR_TWO, "minItems": 1}]}
_KINDS = {
    EMBEDDING.name: "embedding",
    RERANK.name: "reranker",
    SPARSE.name: "embedding",
    MULTI_VECTOR.name: "embedding",
}


class TeiRequest(RequestBody):
    """What all requests of this API have."""

    model: Annotated[str | None, Field(description="Default: the server's first model of the task.")] = None
    prompt_name: PromptName = None
    truncate: Truncate = None
    truncation_direction: Direction = None


class EmbedRequest(TeiRequest):
    """Texts to embed."""

    inputs: Texts
    normalize: Annotated[bool | None, Field(description="Whether vectors get unit length; default: true.")] = True
    dimensions: Annotated[int | None, Field(ge=1)] = None
    input_type: InputType = None


class EmbedAllRequest(TeiRequest):
    """Texts of which the vectors of all tokens are wanted."""

    inputs: Texts
    input_type: InputType = None


class EmbedSparseRequest(TeiRequest):
    """Texts to encode as sparse vectors."""

    inputs: Texts
    input_type: InputType = None


class TeiRerankRequest(TeiRequest):
    """A query and texts to rank."""

    query: str
    texts: Annotated[list[str], Field(min_length=1, fail_fast=True)]
    raw_scores: bool = False
    return_text: bool = False


class Rank(BaseModel):
    """A text of a ranking."""

    index: int
    score: float
    text: str | None = None


class SparseValue(BaseModel):
    """A value of a sparse vector that is not 0."""

    index: int
    value: float


class Prediction(BaseModel):
    """A label, and its score."""

    score: float
    label: str


class SimpleToken(BaseModel):
    """A token, and where in its text it stands, in characters; null for special tokens."""

    id: int
    text: str
    special: bool
    start: int | None
    stop: int | None


Embeddings = RootModel[list[list[float]]]
TokenEmbeddings = RootModel[list[list[list[float]]]]
SparseEmbeddings = RootModel[list[list[SparseValue]]]
Ranks = RootModel[list[Rank]]
Predictions = RootModel[list[Prediction] | list[list[Prediction]]]
Tokens = RootModel[list[list[SimpleToken]]]


class ServedModelInfo(BaseModel):
    """One of the server's models; not a part of TEI's API."""

    name: str
    task: str
    device: str
    engine: str
    compute_dtype: str
    graph_precision: str
    dimension: int
    max_input_length: int | None
    fingerprint: str
    verified: str


class Info(BaseModel):
    """The server and its first model."""

    model_id: str
    model_sha: str | None
    model_dtype: str
    served_model_name: str
    model_type: dict[str, Any]
    max_concurrent_requests: int
    max_input_length: int | None
    max_batch_tokens: int
    max_batch_requests: int | None
    max_client_batch_size: int
    auto_truncate: bool
    tokenization_workers: int
    version: str
    sha: str | None
    docker_label: str | None
    models: list[ServedModelInfo]


def _check_sequences(value: Any) -> tuple[list[Input], bool]:
    """Return texts or pairs, and whether it was one alone."""
    if isinstance(value, str):
        return [value], True
    if not isinstance(value, list):
        raise PydanticCustomError("inputs", "must be a text, a pair of texts, or a list of lists of one or two texts")
    if value and isinstance(value[0], str):
        return [_sequence(value, "inputs")], True
    return [_sequence(one, f"input {position}") for position, one in enumerate(value)], False


def _sequence(value: object, name: str) -> Input:
    texts = value if isinstance(value, list) else []
    if not all(isinstance(text, str) for text in texts) or len(texts) not in (1, 2):
        raise PydanticCustomError(
            "inputs", "{name} must be a list of one text, or of the two texts of a pair", {"name": name}
        )
    return (texts[0], texts[1]) if len(texts) == 2 else str(texts[0])


class PredictRequest(TeiRequest):
    """Texts or pairs to classify."""

    inputs: Annotated[Any, PlainValidator(_check_sequences), WithJsonSchema(_SEQUENCES)]
    raw_scores: bool = False


class TokenizeRequest(RequestBody):
    """Texts to tokenize, as they are and never truncated."""

    inputs: Texts
    model: str | None = None
    add_special_tokens: bool = True
    prompt_name: PromptName = None


class AnyRequest(RequestBody):
    """The request of the route of the server's first model."""

    model_config = ConfigDict(extra="allow")


routes = body_router()
information = APIRouter()


@routes.post("/embed", response_model=Embeddings, responses=documented_errors("/embed"))
async def embed(body: EmbedRequest, request: Request) -> Response:
    """Embed texts."""
    context: Context = request.app.state.context
    model = context.registry.get(body.model, EMBEDDING.name)
    check_number(body.inputs, context.limits, "inputs")
    options = call_options(body.prompt_name, body.input_type, body.truncate, body.truncation_direction)
    call = model.call(options, **_vector_options(model, body))
    computed = await model.compute(body.inputs, call, options)
    return json_response(np.ascontiguousarray(computed.results))


def _vector_options(model: ServedModel, body: EmbedRequest) -> dict[str, Any]:
    section: Any = model.model.manifest.section
    options = dimension_options(model, body.dimensions)
    if body.normalize is False:
        return options | {"normalize_embeddings": False} if options else {}
    # Vectors that have unit length already would differ in their last bits.
    whole = section.normalized and not options and section.truncate_dim is None
    return options if whole else options | {"normalize_embeddings": True}


@routes.post("/embed_all", response_model=TokenEmbeddings, responses=documented_errors("/embed_all"))
async def embed_all(body: EmbedAllRequest, request: Request) -> Response:
    """Embed texts as a vector for each token: of multi-vector encoders, and of models with token embeddings."""
    context: Context = request.app.state.context
    with_tokens = (model for model in context.registry if model.has_token_vectors)
    first = next(with_tokens, None)
    name = first.name if body.model is None and first is not None else body.model
    model = context.registry.get(name, MULTI_VECTOR.name, EMBEDDING.name)
    check_number(body.inputs, context.limits, "inputs")
    options = call_options(body.prompt_name, body.input_type, body.truncate, body.truncation_direction)
    computed = await model.compute(body.inputs, model.token_call(options), options)
    return json_response(list(map(np.ascontiguousarray, computed.results)))


@routes.post("/embed_sparse", response_model=SparseEmbeddings, responses=documented_errors("/embed_sparse"))
async def embed_sparse(body: EmbedSparseRequest, request: Request) -> Response:
    """Encode texts as sparse vectors."""
    context: Context = request.app.state.context
    model = context.registry.get(body.model, SPARSE.name)
    check_number(body.inputs, context.limits, "inputs")
    options = call_options(body.prompt_name, body.input_type, body.truncate, body.truncation_direction)
    computed = await model.compute(body.inputs, model.call(options), options)
    content = [
        [{"index": index, "value": value} for index, value in zip(vector.indices.tolist(), vector.values, strict=True)]
        for vector in computed.results.vectors()
    ]
    return json_response(content)


@routes.post("/rerank", response_model=Ranks, response_model_exclude_none=True, responses=documented_errors("/rerank"))
async def rank(body: TeiRerankRequest, request: Request) -> Response:
    """Rank texts by their relevance to a query."""
    context: Context = request.app.state.context
    model = reranker(context, body.model)
    check_number(body.texts, context.limits, "texts")
    options = call_options(body.prompt_name, None, body.truncate, body.truncation_direction)
    computed = await score(model, body.query, body.texts, options, raw_scores=body.raw_scores)
    scores = computed.results
    content: list[dict[str, Any]] = []
    for index in np.argsort(-computed.results, kind="stable").tolist():
        text = {"text": body.texts[index]} if body.return_text else {}
        content.append({"index": index, **text, "score": scores[index]})
    return json_response(content)


@routes.post("/predict", response_model=Predictions, responses=documented_errors("/predict"))
async def predict(body: PredictRequest, request: Request) -> Response:
    """Classify texts or pairs of texts."""
    context: Context = request.app.state.context
    model = context.registry.get(body.model, RERANK.name)
    inputs, single = body.inputs
    check_number(inputs, context.limits, "inputs")
    options = call_options(body.prompt_name, None, body.truncate, body.truncation_direction)
    section: Any = model.model.manifest.section
    several = section.num_labels > 1
    activation = "Identity" if body.raw_scores or several else "Sigmoid"
    call = model.call(options, activation_fn=activation, apply_softmax=several and not body.raw_scores)
    computed = await model.compute(inputs, call, options)
    names = section.label_names or tuple(f"LABEL_{number}" for number in range(section.num_labels))
    content = [
        [{"score": scores[place], "label": names[place]} for place in np.argsort(-scores, kind="stable").tolist()]
        for scores in computed.results
    ]
    return json_response(content[0] if single else content)


@routes.post("/tokenize", response_model=Tokens, responses=documented_errors("/tokenize"))
async def tokenize(body: TokenizeRequest, request: Request) -> Response:
    """Show the tokens of texts."""
    context: Context = request.app.state.context
    model = context.registry.get(body.model, EMBEDDING.name, SPARSE.name, RERANK.name)
    check_number(body.inputs, context.limits, "inputs")
    options = call_options(body.prompt_name, None, None, None)
    call = model.call(options, **({"activation_fn": "Identity"} if model.task == RERANK.name else {}))
    texts = [call.prompt + text for text in body.inputs]
    return await model.in_thread(_tokens_response, call.pipeline.tokenizer, texts, body.add_special_tokens)


def _tokens_response(tokenizer: Any, texts: Sequence[str], add_special_tokens: bool) -> Response:
    encodings = tokenizer.without_truncation.encode_batch(list(texts), add_special_tokens=add_special_tokens)
    content = []
    for text, encoding in zip(texts, encodings, strict=True):
        rows = zip(encoding.ids, encoding.tokens, encoding.special_tokens_mask, encoding.offsets, strict=True)
        content.append(
            [
                {"id": id_, "text": token, "special": True, "start": None, "stop": None}
                if special
                else {"id": id_, "text": text[start:stop], "special": False, "start": start, "stop": stop}
                for id_, token, special, (start, stop) in rows
            ]
        )
    return json_response(content)


@information.get("/info", response_model=Info, responses=documented_errors("/info"))
async def info(request: Request) -> Response:
    """Describe the server and its models."""
    context: Context = request.app.state.context
    models = [_describe(model) for model in context.registry]
    first = next(iter(context.registry))
    source = first.model.manifest.source
    content = {
        "model_id": source.name,
        "model_sha": source.revision,
        "model_dtype": first.model.compute_dtype,
        "served_model_name": first.name,
        "model_type": {_KINDS.get(first.task, first.task): _model_type(first)},
        "max_concurrent_requests": context.limits.max_connections,
        "max_input_length": first.model.max_length,
        "max_batch_tokens": first.tokens_per_batch,
        "max_batch_requests": None,
        "max_client_batch_size": context.limits.max_texts,
        "auto_truncate": context.limits.truncate,
        "tokenization_workers": 1,
        "version": __version__,
        "sha": None,
        "docker_label": None,
        "models": models,
    }
    return json_response(content)


def _describe(served: ServedModel) -> dict[str, Any]:
    model = served.model
    return {
        "name": served.name,
        "task": served.task,
        "device": model.device,
        "engine": model.engine,
        "compute_dtype": model.compute_dtype,
        "graph_precision": model.graph_precision,
        "dimension": model.manifest.output_width,
        "max_input_length": model.max_length,
        "fingerprint": model.fingerprint,
        "verified": served.verified,
    }


def _model_type(served: ServedModel) -> dict[str, Any]:
    section: Any = served.model.manifest.section
    if served.task != RERANK.name:
        return {"pooling": "splade" if served.task == SPARSE.name else "graph"}
    names = section.label_names or tuple(f"LABEL_{number}" for number in range(section.num_labels))
    return {
        "id2label": {str(number): name for number, name in enumerate(names)},
        "label2id": {name: number for number, name in enumerate(names)},
    }


@routes.post("/", include_in_schema=False)
async def answer_any(body: AnyRequest, request: Request) -> Response:
    """Answer as the route of the first model's task does: clients of Hugging Face's inference API post here."""
    context: Context = request.app.state.context
    fields = body.model_extra or {}
    task = next(iter(context.registry)).task
    if task == SPARSE.name:
        return await embed_sparse(check_body(EmbedSparseRequest, fields), request)
    if task == MULTI_VECTOR.name:
        return await embed_all(check_body(EmbedAllRequest, fields), request)
    if task == RERANK.name:
        if "inputs" in fields:
            return await predict(check_body(PredictRequest, fields), request)
        return await rank(check_body(TeiRerankRequest, fields), request)
    return await embed(check_body(EmbedRequest, fields), request)
