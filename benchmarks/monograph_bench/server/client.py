"""Connections that send prepared requests and time the responses, for as little of the CPU as Python allows."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit

import httptools

from monograph.errors import InputError


@dataclass(frozen=True)
class Target:
    """The server that requests go to, by its URL, and the key that it wants."""

    host: str
    port: int
    secure: bool
    prefix: str
    key: str | None

    @classmethod
    def of(cls, url: str, key: str | None) -> Target:
        """Return the target of a URL.

        Raises:
            InputError: it is none of a server.

        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InputError(f"{url!r} is no URL of a server: give one such as http://127.0.0.1:8080")
        secure = parts.scheme == "https"
        return cls(parts.hostname, parts.port or (443 if secure else 80), secure, parts.path.rstrip("/"), key)

    def request(self, path: str, body: bytes) -> bytes:
        """Return a request with a body of JSON, as it is sent."""
        lines = [
            f"POST {self.prefix}{path} HTTP/1.1",
            f"Host: {self.host}:{self.port}",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
            *([] if self.key is None else [f"Authorization: Bearer {self.key}"]),
        ]
        return "\r\n".join([*lines, "", ""]).encode() + body


@dataclass(frozen=True)
class Answer:
    """A response."""

    status: int
    body: bytes


class Connection(asyncio.Protocol):
    """A connection, for one request at a time."""

    def __init__(self) -> None:
        self._waiting: asyncio.Future[Answer] | None = None
        self._parts: list[bytes] = []
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self.is_open = True

    @classmethod
    async def open(cls, target: Target) -> Connection:
        """Connect to a server.

        Raises:
            OSError: it cannot be reached.

        """
        loop = asyncio.get_running_loop()
        context = ssl.create_default_context() if target.secure else None
        _, connection = await loop.create_connection(cls, target.host, target.port, ssl=context)
        return connection

    async def send(self, request: bytes) -> Answer:
        """Send a request and return its answer.

        Raises:
            ConnectionError: the connection was closed before the answer was complete.

        """
        if self._transport is None or not self.is_open:
            raise ConnectionError("the server has closed the connection")
        self._parser = httptools.HttpResponseParser(self)
        self._parts = []
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._waiting

    def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note the transport."""
        # uvloop's is of no class of asyncio's.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Parse a part of a response."""
        if self._parser is not None:
            self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        """Note a part of the body."""
        self._parts.append(body)

    def on_message_complete(self) -> None:
        """Hand out the answer."""
        parser, self._parser = self._parser, None
        if parser is None or self._waiting is None:
            return
        if not parser.should_keep_alive():
            self.is_open = False
        if not self._waiting.done():
            self._waiting.set_result(Answer(parser.get_status_code(), b"".join(self._parts)))

    def connection_lost(self, error: Exception | None) -> None:
        """Fail what waits for an answer."""
        self.is_open = False
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(ConnectionError(str(error or "the server closed the connection")))
