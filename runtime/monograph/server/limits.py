"""What a client may ask for, and for how long it may take: limits of requests and the reading of their bodies."""

from __future__ import annotations

import asyncio
import gc
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.requests import ClientDisconnect, Request

from monograph.server.errors import Failure, RequestError

_JSON_TYPES = ("application/json", "text/json")


@dataclass(frozen=True)
class Limits:
    """The limits of one server process.

    Attributes:
        max_body_bytes: Bytes of a request's body.
        max_bodies_bytes: Bytes of all bodies that are being received or computed.
        max_texts: Texts, documents or pairs of a request.
        max_queue_tokens: Tokens that wait for one model.
        timeout: Seconds from the first byte of a request to its result.
        receive_timeout: Seconds for a request's headers, and for its body.
        idle_timeout: Seconds that a connection may be open without a request.
        send_timeout: Seconds that a client may take to read a part of a response.
        max_connections: Connections at a time.
        truncate: Whether texts longer than the model's limit are truncated where a request does not say; else they are
            an error.

    """

    max_body_bytes: int = 8 * 2**20
    max_bodies_bytes: int = 256 * 2**20
    max_texts: int = 2048
    max_queue_tokens: int = 1_000_000
    timeout: float = 60.0
    receive_timeout: float = 20.0
    idle_timeout: float = 30.0
    send_timeout: float = 60.0
    max_connections: int = 4096
    truncate: bool = True


class BodyBudget:
    """The bytes of all request bodies in memory, within a limit."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.bytes = 0

    def add(self, size: int) -> None:
        """Count bytes that were received.

        Raises:
            RequestError: they are more than all bodies together may have.

        """
        if self.bytes + size > self._limits.max_bodies_bytes:
            raise RequestError(
                Failure.OVERLOADED, "too many large requests at once: send this one again later", retry_after=1
            )
        self.bytes += size

    def remove(self, size: int) -> None:
        """Forget bytes that were counted."""
        self.bytes -= size


class Body:
    """The body of one request: ``with Body(...) as body: await body.read()``; its bytes count until the end."""

    def __init__(self, request: Request, limits: Limits, budget: BodyBudget) -> None:
        self._request = request
        self._limits = limits
        self._budget = budget
        self._counted = 0

    def __enter__(self) -> Body:
        return self

    def __exit__(self, *exception: object) -> None:
        self._budget.remove(self._counted)

    async def read(self) -> bytes:
        """Return the body.

        Raises:
            RequestError: it is too large, not declared as JSON, or takes too long.
            ClientDisconnect: the client has gone.

        """
        headers = self._request.headers
        media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type not in _JSON_TYPES:
            raise RequestError(Failure.NOT_JSON, "send a body of JSON, with the header Content-Type: application/json")
        if headers.get("content-encoding", "identity") != "identity":
            raise RequestError(Failure.NOT_JSON, "send the body as it is, without Content-Encoding")
        declared = headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > self._limits.max_body_bytes:
            raise self._too_large()
        try:
            async with asyncio.timeout(self._limits.receive_timeout):
                return await self._receive()
        except TimeoutError:
            raise RequestError(
                Failure.SLOW_REQUEST,
                f"the body was not complete after {self._limits.receive_timeout:g} s: send it faster, or in parts",
            ) from None

    async def _receive(self) -> bytes:
        parts = []
        while True:
            message = await self._request.receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            part = message.get("body", b"")
            self._budget.add(len(part))
            self._counted += len(part)
            if self._counted > self._limits.max_body_bytes:
                raise self._too_large()
            parts.append(part)
            if not message.get("more_body", False):
                return parts[0] if len(parts) == 1 else b"".join(parts)

    def _too_large(self) -> RequestError:
        return RequestError(
            Failure.TOO_LARGE,
            f"the body has more than {self._limits.max_body_bytes:,} bytes: send fewer or shorter texts a request",
        )


def parse_json(body: bytes) -> Any:
    """Return what a body of JSON says.

    Raises:
        RequestError: it is not JSON: invalid UTF-8, a lone surrogate, NaN, or nested too deeply, for example.

    """
    # A bomb of 8 MB has millions of lists: each pass of the collector over those so far takes longer, seconds in all.
    collecting = gc.isenabled()
    gc.disable()
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RequestError(Failure.INVALID, f"the body is not JSON: {error}") from None
    finally:
        if collecting:
            gc.enable()
