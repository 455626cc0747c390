"""Connections and their end: uvicorn's HTTP with deadlines for clients, and a server that drains.

uvicorn itself waits for ever for a client's headers, or for it to read a response, and keeps headers of any size.
"""

from __future__ import annotations

import asyncio
import logging
import math
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from uvicorn import Config, Server
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from monograph.server.endpoints import CANCEL
from monograph.server.limits import Limits

logger = logging.getLogger(__name__)

_MAX_HEADER_BYTES = 64 * 1024
# How often deadlines are looked at.
_SWEEP_SECONDS = 0.5
# How long idle connections stay open when the server ends: their clients may be about to send.
_DRAIN_SECONDS = 1.0
# Beyond the time limit of a request.
_GRACE_SECONDS = 5.0
_REFUSED = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_HEADERS_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class ServerConfig(Config):
    """uvicorn's settings, with the limits of connections and whether the server is ending."""

    def __init__(self, app: Any, limits: Limits, **options: Any) -> None:
        super().__init__(app, http=Connection, ws="none", lifespan="off", log_config=None, **options)
        self.limits = limits
        self.draining = False


class Connection(HttpToolsProtocol):
    """A connection that is closed if its client does not send, or read, for too long."""

    config: ServerConfig

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.deadline = math.inf
        self._header_bytes: int | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, or refuse one connection too many."""
        super().connection_made(transport)
        self.deadline = self.loop.time() + self.config.limits.idle_timeout
        if len(self.connections) > self.config.limits.max_connections:
            transport.write(_REFUSED)
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """End, and cancel what is computed for the client."""
        cycle = self.cycle
        super().connection_lost(exc)
        if cycle is not None and not cycle.response_complete:
            cancel: Any = cycle.scope.get(CANCEL)
            if cancel is not None:
                cancel()

    def data_received(self, data: bytes) -> None:
        """Read on, within the limit of headers."""
        if self.transport.is_closing():
            return
        super().data_received(data)
        if self._header_bytes is not None:
            self._header_bytes += len(data)
            if self._header_bytes > _MAX_HEADER_BYTES and not self.transport.is_closing():
                self.transport.write(_HEADERS_TOO_LARGE)
                self.transport.close()

    def on_message_begin(self) -> None:
        """Give the client time for its headers."""
        super().on_message_begin()
        self._header_bytes = 0
        self.deadline = self.loop.time() + self.config.limits.receive_timeout

    def on_headers_complete(self) -> None:
        """Leave the time to the request, which has limits of its own."""
        self._header_bytes = None
        self.deadline = math.inf
        super().on_headers_complete()
        if self.config.draining:
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        """Read on: a client that goes while its request is computed is only noticed by reading."""
        super().on_message_complete()
        self.flow.resume_reading()

    def on_response_complete(self) -> None:
        """Give the client time for its next request, and to read."""
        super().on_response_complete()
        if math.isinf(self.deadline):
            self.deadline = self.loop.time() + self.config.limits.idle_timeout

    def pause_writing(self) -> None:
        """Give the client time to read."""
        super().pause_writing()
        self.deadline = self.loop.time() + self.config.limits.send_timeout

    def resume_writing(self) -> None:
        """Note that the client reads."""
        super().resume_writing()
        self.deadline = math.inf

    @property
    def is_idle(self) -> bool:
        """Whether no request is being received or answered."""
        return self._header_bytes is None and (self.cycle is None or self.cycle.response_complete)


class HttpServer(Server):
    """uvicorn's server, whose end is announced: each client gets its answer, and then a closed connection."""

    config: ServerConfig

    def __init__(self, config: ServerConfig) -> None:
        super().__init__(config)
        seconds = config.limits.timeout + _GRACE_SECONDS
        config.timeout_graceful_shutdown = math.ceil(seconds)
        self._sweeping: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen."""
        await super().startup(sockets)
        self._sweeping = asyncio.create_task(self._sweep())

    async def _sweep(self) -> None:
        """Close connections whose deadline has passed."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            now = loop.time()
            for connection in list(self.server_state.connections):
                if isinstance(connection, Connection) and connection.deadline < now:
                    # It would wait for the client to read what was written.
                    connection.transport.abort()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept no more connections, answer what those open are sending, and end."""
        self.config.draining = True
        loop = asyncio.get_running_loop()
        # The system has accepted these already.
        waiting = [connection for one in sockets or [] for connection in _accept_waiting(one)]
        for server in self.servers:
            server.close()
        for connection in waiting:
            await loop.connect_accepted_socket(self._create_connection, connection, ssl=self.config.ssl)
        for open_one in list(self.server_state.connections):
            if isinstance(open_one, Connection) and open_one.cycle is not None and not open_one.cycle.response_complete:
                open_one.cycle.keep_alive = False
        end = loop.time() + _DRAIN_SECONDS
        while self.server_state.connections and loop.time() < end and not self.force_exit:
            await asyncio.sleep(_SWEEP_SECONDS / 10)
        await super().shutdown(sockets)
        if self._sweeping is not None:
            self._sweeping.cancel()
            with suppress(asyncio.CancelledError):
                await self._sweeping

    def _create_connection(self) -> Connection:
        return Connection(self.config, self.server_state, {}, asyncio.get_running_loop())

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """End at SIGTERM or Ctrl-C as this server does, and at once at a second one; it has ended well, then."""
        handlers = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """Begin to end; at a second signal, do not wait for what is computed."""
        self.force_exit = self.should_exit
        self.should_exit = True


def _accept_waiting(listening: socket.socket) -> Iterator[socket.socket]:
    """Yield the connections that wait to be accepted."""
    listening.setblocking(False)
    while True:
        try:
            connection, _ = listening.accept()
        except OSError:
            return
        connection.setblocking(False)
        yield connection
