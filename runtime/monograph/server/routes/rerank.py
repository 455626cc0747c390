"""The rerank API of Cohere and Jina: `/v1/rerank`, and `/v2/rerank` for Cohere's newer client."""

from __future__ import annotations

import uuid
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, Field, PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError
from starlette.requests import Request
from starlette.responses import Response

from monograph.server.endpoints import Context, RequestBody, body_router, documented_errors, json_response
from monograph.server.errors import Failure, RequestError
from monograph.server.fields import Direction, PromptName, Truncate, call_options, check_number
from monograph.server.models import CallOptions, Computed, ServedModel
from monograph.tasks.rerank import RERANK

_PATHS = ("/v1/rerank", "/v2/rerank")
_DOCUMENT = {
    "anyOf": [
        {"type": "string"},
        {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
    ]
}


def _check_documents(value: Any) -> list[str]:
    if not isinstance(value, list):
        raise PydanticCustomError("documents", "must be a list of documents")
    texts = []
    for position, document in enumerate(value):
        text = document.get("text") if isinstance(document, dict) else document
        if not isinstance(text, str):
            raise PydanticCustomError(
                "documents", "document {position} must be a text, or an object with one as text", {"position": position}
            )
        texts.append(text)
    return texts


class RerankRequest(RequestBody):
    """A query and the documents to rank; the fields behind ``return_documents`` are not Cohere's."""

    model: str | None = None
    query: str
    documents: Annotated[
        list[str],
        PlainValidator(_check_documents),
        WithJsonSchema({"type": "array", "items": _DOCUMENT, "minItems": 1}),
    ]
    top_n: Annotated[int | None, Field(ge=1, description="How many of the best to return; default: all.")] = None
    return_documents: Annotated[bool | None, Field(description="Whether results have their documents.")] = None
    raw_scores: Annotated[bool, Field(description="Logits in place of their sigmoid.")] = False
    prompt_name: PromptName = None
    truncate: Truncate = None
    truncation_direction: Direction = None


class RankedText(BaseModel):
    """A document."""

    text: str


class RankedDocument(BaseModel):
    """The place of a document in the request, and its score."""

    index: int
    relevance_score: float
    document: RankedText | None = None


class RerankUsage(BaseModel):
    """The tokens of all pairs of query and document."""

    prompt_tokens: int
    total_tokens: int


class RerankResponse(BaseModel):
    """The documents, the best first."""

    id: str
    model: str
    results: list[RankedDocument]
    usage: RerankUsage
    meta: dict[str, Any]


routes = body_router()


async def rerank(body: RerankRequest, request: Request) -> Response:
    """Rank documents by their relevance to a query."""
    context: Context = request.app.state.context
    model = reranker(context, body.model)
    check_number(body.documents, context.limits, "documents")
    options = call_options(body.prompt_name, None, body.truncate, body.truncation_direction)
    computed = await score(model, body.query, body.documents, options, raw_scores=body.raw_scores)
    order = np.argsort(-computed.results, kind="stable").tolist()[: body.top_n]
    scores = computed.results
    results: list[dict[str, Any]] = [{"index": index, "relevance_score": scores[index]} for index in order]
    if body.return_documents:
        for result in results:
            result["document"] = {"text": body.documents[result["index"]]}
    content = {
        "id": str(uuid.uuid4()),
        "model": model.name,
        "results": results,
        "usage": {"prompt_tokens": computed.tokens, "total_tokens": computed.tokens},
        "meta": {"api_version": {"version": request.url.path[2]}, "billed_units": {"search_units": 1}},
    }
    return json_response(content)


for _path in _PATHS:
    routes.add_api_route(
        _path,
        rerank,
        methods=["POST"],
        response_model=RerankResponse,
        responses=documented_errors(_path),
        operation_id=f"rerank_{_path[1:3]}",
    )


def reranker(context: Context, name: str | None) -> ServedModel:
    """Return the model of a name, or the server's first, that has one score a pair.

    Raises:
        RequestError: there is none, or it is a classifier.

    """
    model = context.registry.get(name, RERANK.name)
    section: Any = model.model.manifest.section
    if section.num_labels != 1:
        raise RequestError(
            Failure.INVALID,
            f"{model.name!r} is a classifier with {section.num_labels} labels, and ranking needs one: use /predict",
            parameter="model",
        )
    return model


async def score(
    model: ServedModel, query: str, documents: list[str], options: CallOptions, *, raw_scores: bool
) -> Computed[Any]:
    """Return the score of each document, float32 [n]: from 0 to 1, or the logit if ``raw_scores``.

    Raises:
        RequestError: a text or an option is not usable.

    """
    call = model.call(options, activation_fn="Identity" if raw_scores else "Sigmoid")
    computed = await model.compute([(query, document) for document in documents], call, options)
    return Computed(computed.results[:, 0], computed.token_counts)
