"""What all routes with a body have in common: reading, checking, the time limit, and errors in their API's form.

FastAPI has the routes and documents them. It would also check what a request says, and takes longer for that than a
short text takes to be embedded, so a route's handler is here (docs/performance.md).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, TypeVar, get_type_hints

import orjson
from fastapi import APIRouter
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from monograph.errors import MonographError
from monograph.server.errors import Failure, RequestError, shape_of
from monograph.server.limits import Body, BodyBudget, Limits, parse_json
from monograph.server.metrics import Metrics
from monograph.server.models import Registry, as_request_error

logger = logging.getLogger(__name__)

# Where a request's scope has what cancels its computation, for the connection to call.
CANCEL = "monograph.cancel"
_JSON = "application/json"
REF_TEMPLATE = "#/components/schemas/{model}"
_JSON_OPTIONS = orjson.OPT_SERIALIZE_NUMPY
# The body of a response to a client that has gone, which nobody reads.
_GONE = 499


class RequestBody(BaseModel):
    """The body of a request; what it does not know is ignored, as the servers do whose APIs these are."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True, protected_namespaces=())


BodyT = TypeVar("BodyT", bound=RequestBody)


@dataclass(frozen=True)
class Context:
    """What the routes of a server share."""

    registry: Registry
    limits: Limits
    budget: BodyBudget
    metrics: Metrics


class _Cancellable:
    """The current task, which may be cancelled because its client has gone."""

    def __init__(self) -> None:
        self._task = asyncio.current_task()
        self.cancelled = False

    def cancel(self) -> None:
        """Cancel what the task waits for."""
        if self._task is not None:
            self.cancelled = True
            self._task.cancel()


# What answers a request.
Handler = Callable[[Request], Awaitable[Response]]


class BodyRoute(APIRoute):
    """A route whose function takes ``body``, a ``RequestBody``, and ``request``.

    Attributes:
        handler: Answers a request, for those who know the route already.

    """

    handler: Handler

    def get_route_handler(self) -> Handler:  # type: ignore[override]
        """Return what answers a request."""
        endpoint = self.endpoint
        model: type[RequestBody] = get_type_hints(endpoint)["body"]

        async def handle(request: Request) -> Response:
            context: Context = request.app.state.context
            call = _Cancellable()
            request.scope[CANCEL] = call.cancel
            try:
                async with asyncio.timeout(context.limits.timeout):
                    with Body(request, context.limits, context.budget) as body:
                        checked = check_body(model, parse_json(await body.read()))
                        response: Response = await endpoint(checked, request)
                        return response
            except RequestError as error:
                return error_response(error, request.url.path)
            except MonographError as error:
                return error_response(as_request_error(error), request.url.path)
            except TimeoutError:
                message = f"not answered within {context.limits.timeout:g} s: send fewer texts a request"
                return error_response(RequestError(Failure.TIMEOUT, message), request.url.path)
            except ClientDisconnect:
                return Response(status_code=_GONE)
            except asyncio.CancelledError:
                if not call.cancelled:
                    raise
                return Response(status_code=_GONE)
            finally:
                request.scope[CANCEL] = None

        self.handler = handle
        return handle


def body_router() -> APIRouter:
    """Return a router for routes with a body."""
    return APIRouter(route_class=BodyRoute)


def documented_errors(path: str, *statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the error responses of a route, for its documentation, which is to have ``ERROR_MODELS``.

    By reference: FastAPI makes a validator of each model of each response, which no response needs.
    """
    _, model = shape_of(path)
    content = {_JSON: {"schema": {"$ref": REF_TEMPLATE.format(model=model.__name__)}}}
    every = (400, 401, 404, 408, 413, 415, 422, 429, 500, 503, 504, *statuses)
    return {status: {"description": HTTPStatus(status).phrase, "content": content} for status in every}


def json_response(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return a response of JSON; NumPy arrays are lists in it."""
    return Response(orjson.dumps(content, option=_JSON_OPTIONS), status, headers, _JSON)


def error_response(error: RequestError, path: str) -> Response:
    """Return the response for an error, in the form of the API that the path belongs to."""
    shape, _ = shape_of(path)
    status, content = shape(error)
    headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
    if error.failure is Failure.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    if error.failure in (Failure.TOO_LARGE, Failure.SLOW_REQUEST, Failure.NOT_JSON):
        # What is left of the body is not read.
        headers["Connection"] = "close"
    return json_response(content, status, headers)


def check_body(model: type[BodyT], content: Any) -> BodyT:
    """Return what a body of JSON says as a model.

    Raises:
        RequestError: naming the first field that is wrong.

    """
    if not isinstance(content, dict):
        raise RequestError(Failure.INVALID, "the body must be a JSON object")
    try:
        return model.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        message = f"{place}: {first['msg']}" if place else first["msg"]
        raise RequestError(Failure.INVALID, message, parameter=place or None) from None
