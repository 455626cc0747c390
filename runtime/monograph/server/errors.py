"""What a request may fail with, and how each API spells it."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any

from pydantic import BaseModel

from monograph.errors import printable

# Characters of a message, which may quote a request.
_MAX_MESSAGE = 1_000


class Failure(Enum):
    """Why a request failed: its HTTP status, and its name in OpenAI's, TEI's and other APIs."""

    INVALID = (400, "invalid_request_error", None, "Validation")
    EMPTY = (400, "invalid_request_error", "empty_input", "Empty")
    TOO_LONG = (400, "invalid_request_error", "context_length_exceeded", "Validation")
    UNAUTHORIZED = (401, "invalid_request_error", "invalid_api_key", "Unauthorized")
    NOT_FOUND = (404, "invalid_request_error", "not_found", "Validation")
    MODEL_NOT_FOUND = (404, "invalid_request_error", "model_not_found", "Validation")
    METHOD_NOT_ALLOWED = (405, "invalid_request_error", "method_not_allowed", "Validation")
    SLOW_REQUEST = (408, "invalid_request_error", "request_timeout", "Validation")
    TOO_LARGE = (413, "invalid_request_error", "request_too_large", "Validation")
    NOT_JSON = (415, "invalid_request_error", "unsupported_media_type", "Validation")
    OVERLOADED = (429, "rate_limit_error", "overloaded", "Overloaded")
    ENGINE = (500, "server_error", None, "Backend")
    STOPPING = (503, "server_error", "unavailable", "Unhealthy")
    TIMEOUT = (504, "server_error", "timeout", "Backend")

    def __init__(self, status: int, openai_type: str, openai_code: str | None, tei_type: str) -> None:
        self.status = status
        self.openai_type = openai_type
        self.openai_code = openai_code
        self.tei_type = tei_type


class RequestError(Exception):
    """A request that is answered with an error.

    ``parameter`` is the field of the request that is wrong; ``retry_after`` the seconds after which a retry makes
    sense.
    """

    def __init__(
        self, failure: Failure, message: str, *, parameter: str | None = None, retry_after: int | None = None
    ) -> None:
        super().__init__(printable(message, _MAX_MESSAGE))
        self.failure = failure
        self.parameter = parameter
        self.retry_after = retry_after


class OpenAIErrorDetail(BaseModel):
    """An error of OpenAI's API."""

    message: str
    type: str
    param: str | None
    code: str | None


class OpenAIError(BaseModel):
    """The body of an error response of OpenAI's API."""

    error: OpenAIErrorDetail


class TeiError(BaseModel):
    """The body of an error response of text-embeddings-inference."""

    error: str
    error_type: str


class CohereError(BaseModel):
    """The body of an error response of Cohere's API."""

    message: str


ERROR_MODELS = (OpenAIError, TeiError, CohereError)

# A function from an error to the HTTP status and the JSON of its response.
Shape = Callable[[RequestError], tuple[int, dict[str, Any]]]
# Statuses of text-embeddings-inference that are not those of the other APIs.
_TEI_STATUSES = {Failure.INVALID: 422, Failure.TOO_LONG: 413, Failure.ENGINE: 424}


def openai_shape(error: RequestError) -> tuple[int, dict[str, Any]]:
    """Return status and body of an error in OpenAI's API."""
    failure = error.failure
    detail = {
        "message": str(error),
        "type": failure.openai_type,
        "param": error.parameter,
        "code": failure.openai_code,
    }
    return failure.status, {"error": detail}


def tei_shape(error: RequestError) -> tuple[int, dict[str, Any]]:
    """Return status and body of an error in the API of text-embeddings-inference."""
    failure = error.failure
    return _TEI_STATUSES.get(failure, failure.status), {"error": str(error), "error_type": failure.tei_type}


def cohere_shape(error: RequestError) -> tuple[int, dict[str, Any]]:
    """Return status and body of an error in Cohere's API."""
    return error.failure.status, {"message": str(error)}


def shape_of(path: str) -> tuple[Shape, type[BaseModel]]:
    """Return how the API that a path belongs to spells errors, and the model of that for the documentation."""
    if path in ("/v1/rerank", "/v2/rerank"):
        return cohere_shape, CohereError
    if path.startswith(("/v1/", "/v2/")):
        return openai_shape, OpenAIError
    return tei_shape, TeiError
