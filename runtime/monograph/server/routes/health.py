"""`/health`, `/health/live`, `/health/ready` and `/metrics`."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from monograph.server.endpoints import Context, documented_errors, error_response, json_response
from monograph.server.errors import Failure, RequestError
from monograph.server.metrics import CONTENT_TYPE

LIVE, READY, HEALTH = "/health/live", "/health/ready", "/health"
routes = APIRouter()


@routes.get(HEALTH, responses=documented_errors(HEALTH), operation_id="health")
@routes.get(READY, responses=documented_errors(READY), operation_id="ready")
async def ready(request: Request) -> Response:
    """Say whether requests are answered: not while the server stops, or an engine has failed."""
    context: Context = request.app.state.context
    if request.app.state.stopping():
        return error_response(RequestError(Failure.STOPPING, "the server is stopping"), request.url.path)
    failed = [model.name for model in context.registry if not model.is_running]
    if failed:
        message = f"the engine of {', '.join(failed)} has failed"
        return error_response(RequestError(Failure.STOPPING, message), request.url.path)
    return json_response({"status": "ready"})


@routes.get(LIVE, responses=documented_errors(LIVE), operation_id="live")
async def live() -> Response:
    """Say that this process answers."""
    return json_response({"status": "live"})


@routes.get("/metrics", responses=documented_errors("/metrics"), response_class=Response)
async def metrics(request: Request) -> Response:
    """Return the server's figures for Prometheus."""
    context: Context = request.app.state.context
    return Response(context.metrics.text(), media_type=CONTENT_TYPE)
