"""The ASGI application of a server: its routes, API keys and figures, made of models that are open."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from fastapi import FastAPI
from pydantic.json_schema import models_json_schema
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from monograph.server.endpoints import REF_TEMPLATE, BodyRoute, Context, Handler, error_response
from monograph.server.errors import ERROR_MODELS, Failure, RequestError
from monograph.server.keys import ApiKeys
from monograph.server.limits import BodyBudget, Limits
from monograph.server.metrics import Metrics
from monograph.server.models import Registry
from monograph.server.routes import health, openai, page, rerank, tei
from monograph.tasks.embedding import EMBEDDING
from monograph.version import __version__

_ROUTERS = (openai.routes, openai.listing, rerank.routes, tei.routes, tei.information, health.routes, page.routes)
# Those that need no key: a load balancer has none, and a page has to be there before one is entered.
_OPEN = {health.HEALTH, health.LIVE, health.READY, *page.PATHS}
_FAILURES = {404: Failure.NOT_FOUND, 405: Failure.METHOD_NOT_ALLOWED}


def create_app(
    registry: Registry,
    limits: Limits,
    metrics: Metrics,
    keys: ApiKeys,
    stopping: Callable[[], bool] = lambda: False,
) -> FastAPI:
    """Return the application; ``stopping`` says whether the server is about to end, for `/health`."""
    app = FastAPI(
        title="monograph",
        version=__version__,
        description="Embeddings, rerankers and sparse encoders, in the APIs of OpenAI, Cohere and "
        "text-embeddings-inference.",
        # Their pages load scripts from another host.
        docs_url=None,
        redoc_url=None,
    )
    app.state.context = Context(registry, limits, BodyBudget(limits), metrics)
    app.state.stopping = stopping
    for router in _ROUTERS:
        app.include_router(router)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _unexpected_error)
    routes = [route for router in _ROUTERS for route in router.routes]
    paths = frozenset(getattr(route, "path", "") for route in routes)
    # FastAPI's way from its middleware to a route is an eighth of the event loop's time (docs/performance.md).
    handlers = {route.path: route.handler for route in routes if isinstance(route, BodyRoute)}
    app.add_middleware(Gate, keys=keys, metrics=metrics, paths=paths, handlers=handlers)
    names = [model.name for model in registry if model.task == EMBEDDING.name]
    generate = app.openapi

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            _complete(generate(), names, keys)
        return generate()

    # As FastAPI's documentation has it.
    app.openapi = document  # type: ignore[method-assign]
    return app


def _complete(document: dict[str, Any], names: list[str], keys: ApiKeys) -> None:
    """Have the OpenAPI document say what errors are, which models there are, and which routes need a key."""
    _, errors = models_json_schema([(model, "serialization") for model in ERROR_MODELS], ref_template=REF_TEMPLATE)
    document["components"]["schemas"] |= errors["$defs"]
    if names:
        # Elsewhere it may be left out.
        document["components"]["schemas"]["EmbeddingsRequest"]["properties"]["model"]["enum"] = names
    if keys.are_required:
        document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"key": []}]
        for path in _OPEN & document["paths"].keys():
            for operation in document["paths"][path].values():
                operation["security"] = []


class Gate:
    """Checks API keys, counts requests by route and status, and answers the POST requests that ``handlers`` are for."""

    def __init__(
        self, app: ASGIApp, keys: ApiKeys, metrics: Metrics, paths: frozenset[str], handlers: Mapping[str, Handler]
    ) -> None:
        self._app = app
        self._keys = keys
        self._metrics = metrics
        self._paths = paths
        self._handlers = handlers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begin, status, path = time.perf_counter(), 500, scope["path"]

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        self._metrics.in_flight.inc()
        try:
            if self._keys.are_required and not (
                (scope["method"] in ("GET", "HEAD") and path in _OPEN)
                or self._keys.accept(Headers(scope=scope).get("authorization", ""))
            ):
                message = "give one of the server's API keys, as the header Authorization: Bearer KEY"
                await error_response(RequestError(Failure.UNAUTHORIZED, message), path)(scope, receive, sending)
            elif scope["method"] == "POST" and (handler := self._handlers.get(path)) is not None:
                await (await handler(Request(scope, receive)))(scope, receive, sending)
            else:
                await self._app(scope, receive, sending)
        finally:
            self._metrics.in_flight.dec()
            # Not what anybody asks for, which would be a series of figures each.
            route = path if path in self._paths else "other"
            self._metrics.count_request(route, status, time.perf_counter() - begin)


async def _http_error(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    failure = _FAILURES.get(status, Failure.INVALID if status < 500 else Failure.ENGINE)
    path = request.url.path
    message = {
        Failure.NOT_FOUND: f"there is no {path}",
        Failure.METHOD_NOT_ALLOWED: f"{path} does not take {request.method}",
    }.get(failure, str(getattr(error, "detail", error)))
    response = error_response(RequestError(failure, message), path)
    for name, value in (getattr(error, "headers", None) or {}).items():
        response.headers[name] = value
    return response


async def _unexpected_error(request: Request, error: Exception) -> Response:  # noqa: ARG001
    return error_response(RequestError(Failure.ENGINE, "the server has failed; its log says how"), request.url.path)
