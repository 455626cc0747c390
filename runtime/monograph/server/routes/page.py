"""`/`: a small page to try a text on, with the models and live figures."""

from __future__ import annotations

from importlib import resources

from fastapi import APIRouter
from starlette.responses import Response

PATHS = {"/": ("index.html", "text/html"), "/page/page.js": ("page.js", "text/javascript")}
PATHS["/page/style.css"] = ("style.css", "text/css")
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; "
    "form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
routes = APIRouter(include_in_schema=False)


def _add(path: str, name: str, media_type: str) -> None:
    content = resources.files("monograph.server").joinpath("page", name).read_bytes()

    async def page() -> Response:
        return Response(content, headers=_HEADERS, media_type=media_type)

    routes.add_api_route(path, page, methods=["GET"])


for _path, (_name, _media_type) in PATHS.items():
    _add(_path, _name, _media_type)
