"""OpenAI's API: `/v1/embeddings` and `/v1/models`."""

from __future__ import annotations

import base64
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter
from numpy.typing import NDArray
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from monograph.server.endpoints import (
    Context,
    RequestBody,
    body_router,
    documented_errors,
    error_response,
    json_response,
)
from monograph.server.errors import Failure, RequestError
from monograph.server.fields import Direction, InputType, PromptName, Texts, Truncate, call_options, check_number
from monograph.server.models import ServedModel
from monograph.tasks.embedding import EMBEDDING

_EMBEDDINGS = "/v1/embeddings"
_MODELS = "/v1/models"


class EmbeddingsRequest(RequestBody):
    """A request of vectors; the fields behind ``user`` are not OpenAI's."""

    input: Annotated[Texts, Field(description="One text, or several. Token ids are refused.")]
    model: str
    encoding_format: Annotated[
        Literal["float", "base64"], Field(description="base64 is of the bytes of little-endian float32.")
    ] = "float"
    dimensions: Annotated[
        int | None,
        Field(ge=1, description="The first dimensions only, of unit length, if the model was trained for it."),
    ] = None
    user: str | None = None
    input_type: InputType = None
    prompt_name: PromptName = None
    truncate: Truncate = None
    truncation_direction: Direction = None


class Embedding(BaseModel):
    """The vector of one text."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class Usage(BaseModel):
    """The tokens that were computed, special ones included and cut ones not."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsResponse(BaseModel):
    """The vectors of a request's texts in their order."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: Usage


class ModelCard(BaseModel):
    """A model that is served; the fields behind ``owned_by`` are not OpenAI's."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    task: str


class ModelList(BaseModel):
    """The models that are served."""

    object: Literal["list"]
    data: list[ModelCard]


routes = body_router()
listing = APIRouter()


@routes.post(_EMBEDDINGS, response_model=EmbeddingsResponse, responses=documented_errors(_EMBEDDINGS))
async def create_embeddings(body: EmbeddingsRequest, request: Request) -> Response:
    """Embed texts."""
    context: Context = request.app.state.context
    model = context.registry.get(body.model, EMBEDDING.name)
    check_number(body.input, context.limits, "input")
    options = call_options(body.prompt_name, body.input_type, body.truncate, body.truncation_direction)
    call = model.call(options, **dimension_options(model, body.dimensions))
    computed = await model.compute(body.input, call, options)
    encode = _as_base64 if body.encoding_format == "base64" else _as_floats
    content = {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": encode(vector)}
            for index, vector in enumerate(computed.results)
        ],
        "model": model.name,
        "usage": {"prompt_tokens": computed.tokens, "total_tokens": computed.tokens},
    }
    return json_response(content)


@listing.get(_MODELS, response_model=ModelList, responses=documented_errors(_MODELS))
async def list_models(request: Request) -> Response:
    """List the models."""
    context: Context = request.app.state.context
    return json_response({"object": "list", "data": [_card(model) for model in context.registry]})


@listing.get(_MODELS + "/{model:path}", response_model=ModelCard, responses=documented_errors(_MODELS))
async def retrieve_model(model: str, request: Request) -> Response:
    """Describe one model."""
    context: Context = request.app.state.context
    for served in context.registry:
        if served.name == model:
            return json_response(_card(served))
    error = RequestError(Failure.MODEL_NOT_FOUND, f"the model {model!r} is not served here", parameter="model")
    return error_response(error, request.url.path)


def dimension_options(model: ServedModel, dimensions: int | None) -> dict[str, Any]:
    """Return the options of a call for vectors of so many dimensions, of unit length where that is not all.

    Raises:
        RequestError: the model was not trained for it.

    """
    section: Any = model.model.manifest.section
    allowed = {section.dimension, section.truncate_dim or section.dimension, *section.matryoshka_dimensions}
    if dimensions is None or dimensions == (section.truncate_dim or section.dimension):
        return {}
    if dimensions not in allowed:
        known = ", ".join(map(str, sorted(allowed)))
        raise RequestError(
            Failure.INVALID,
            f"the model {model.name!r} has vectors of {known} dimensions, and its first {dimensions} alone were not "
            "trained: leave dimensions out",
            parameter="dimensions",
        )
    return {"truncate_dim": dimensions, "normalize_embeddings": True}


def _as_floats(vector: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.ascontiguousarray(vector)


def _as_base64(vector: NDArray[np.float32]) -> str:
    return base64.b64encode(vector.astype("<f4", copy=False).tobytes()).decode("ascii")


def _card(model: ServedModel) -> dict[str, Any]:
    return {"id": model.name, "object": "model", "created": model.created, "owned_by": "monograph", "task": model.task}
