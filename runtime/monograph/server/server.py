"""One process of the server: open the models, listen, and serve."""

from __future__ import annotations

import asyncio
import gc
import logging
import math
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from monograph.bundle import read_probes
from monograph.errors import DeviceError, MonographError
from monograph.inference.opening import model_source
from monograph.inference.verification import verify
from monograph.model import Model, open_model, routes_of
from monograph.progress import SILENT, Progress
from monograph.quality import QualityLevel
from monograph.server.app import create_app
from monograph.server.connections import HttpServer, ServerConfig
from monograph.server.keys import ApiKeys
from monograph.server.limits import Limits
from monograph.server.metrics import Metrics
from monograph.server.models import Registry, ServedModel, Tokenizing, tokenize_in_callers_thread

logger = logging.getLogger(__name__)
# Seconds that Python lets a thread compute while another wants to. The engine's, after a batch, would else wait up to
# 5 ms for the event loop's.
_SWITCH_SECONDS = 0.0005
_BACKLOG = 2048
# Elsewhere the last process that listens at a shared address may get all connections.
SPREADS_CONNECTIONS = sys.platform == "linux"


@dataclass(frozen=True)
class ModelOptions:
    """How the models of a server are opened: options of ``Embedder``."""

    device: str = "auto"
    compute_dtype: str = "auto"
    threads: int | None = None
    quality: QualityLevel | None = None
    max_tokens_per_batch: int | None = None


@dataclass(frozen=True)
class Address:
    """Where a server listens, and with which certificate."""

    host: str = "127.0.0.1"
    port: int = 8080
    ssl_certfile: Path | None = None
    ssl_keyfile: Path | None = None
    ssl_keyfile_password: str | None = field(default=None, repr=False)

    @property
    def scheme(self) -> str:
        """The scheme of its URLs."""
        return "http" if self.ssl_certfile is None else "https"

    def bind(self, *, for_workers: bool = False) -> socket.socket:
        """Return a socket that has the address, and does not listen yet; worker processes may share its address.

        Raises:
            MonographError: it cannot be had.

        """
        try:
            return self._bind(for_workers)
        except OSError as error:
            raise MonographError(
                f"cannot listen at port {self.port} of {self.host} ({error.strerror}): choose another with --port and "
                "--host, or end the server that has it"
            ) from error

    def _bind(self, for_workers: bool) -> socket.socket:
        family, kind, protocol, _, address = socket.getaddrinfo(
            self.host, self.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
            if for_workers and SPREADS_CONNECTIONS:
                # Bound without sharing first: the workers of another server at this address would share it, too.
                address = bound.getsockname()
                bound.close()
                bound = bind_shared(family, address)
        except BaseException:
            bound.close()
            raise
        return bound

    def url(self, bound: socket.socket) -> str:
        """Return the URL of a bound socket."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{bound.getsockname()[1]}"


@dataclass(frozen=True)
class Options:
    """Everything that one process of a server needs, ``bundles`` by the names they are served under."""

    bundles: dict[str, str]
    models: ModelOptions = field(default_factory=ModelOptions)
    limits: Limits = field(default_factory=Limits)
    address: Address = field(default_factory=Address)
    api_keys: Path | None = None
    verify: bool = False
    access_log: bool = False


def serve(
    options: Options, bound: socket.socket, on_ready: Callable[[Registry], object], progress: Progress = SILENT
) -> None:
    """Open the models, then listen on a bound socket and serve until a signal ends the process.

    ``on_ready`` is called when requests are answered.

    Raises:
        MonographError: a bundle cannot be opened, or failed verification.

    """
    tokenize_in_callers_thread()
    raise_file_limit()
    sys.setswitchinterval(_SWITCH_SECONDS)
    keys, metrics = ApiKeys(options.api_keys), Metrics()
    with ExitStack() as stack:
        tokenizing = Tokenizing()
        stack.callback(tokenizing.close)
        models = []
        for name, path in options.bundles.items():
            with progress.step(f"Opening {path}"):
                model = open_served(path, options.models)
            stack.callback(model.close)
            served = ServedModel(name, model, options.limits, metrics, tokenizing)
            stack.callback(served.close)
            served.verified = verify_served(model, progress) if options.verify else verified_at_export(model)
            models.append(served)
        registry = Registry(models)
        config = ServerConfig(
            None,
            options.limits,
            access_log=options.access_log,
            server_header=False,
            proxy_headers=False,
            backlog=_BACKLOG,
            ssl_certfile=options.address.ssl_certfile,
            ssl_keyfile=options.address.ssl_keyfile,
            ssl_keyfile_password=options.address.ssl_keyfile_password,
            timeout_keep_alive=math.ceil(options.limits.idle_timeout),
        )
        config.app = create_app(registry, options.limits, metrics, keys, lambda: config.draining)
        # What is there now stays: the collector need not look at it again.
        gc.freeze()
        gc.enable()
        server = _Server(config, keys, lambda: on_ready(registry))
        server.run([bound])


def bind_shared(family: int, address: Any) -> socket.socket:
    """Return a socket that has an address, which other sockets of this user may have if they are made here, too."""
    bound = socket.socket(family, socket.SOCK_STREAM)
    for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
        bound.setsockopt(socket.SOL_SOCKET, option, 1)
    bound.bind(address)
    return bound


class _Server(HttpServer):
    """A server that reads its keys again at SIGHUP, and says when it listens."""

    def __init__(self, config: ServerConfig, keys: ApiKeys, on_ready: Callable[[], object]) -> None:
        super().__init__(config)
        self._keys = keys
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say so."""
        await super().startup(sockets)
        if hasattr(signal, "SIGHUP"):
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._keys.reload)
        self._on_ready()


def open_served(path: str, options: ModelOptions) -> Model[Any]:
    """Return a bundle opened and warmed up.

    Raises:
        MonographError: it cannot be opened.

    """
    source = model_source(
        path,
        options.device,
        options.compute_dtype,
        options.threads,
        "fast",
        None,
        options.max_tokens_per_batch,
        options.quality,
    )
    model: Model[Any] = open_model(source, source.open_bundle())
    model.warmup()
    return model


def verify_served(model: Model[Any], progress: Progress) -> str:
    """Run a bundle's probes on the open model, and say that they passed.

    Raises:
        DeviceError: they failed.

    """
    routes = routes_of(model)
    bundle = routes.bundle
    result = verify(
        routes, read_probes(bundle.path, bundle.manifest.output_width, bundle.probes_file), progress=progress
    )
    if not result.passed:
        raise DeviceError(
            f"bundle {bundle.path} failed verification on {result.device}: {result.reason}: choose another device"
        )
    return f"{result.probes} probes at the start of this server"


def verified_at_export(model: Model[Any]) -> str:
    """Return what the bundle's manifest says of the engine that the model runs on, "" for nothing."""
    engine = routes_of(model).main.engine
    for result in model.manifest.quality.verifications:
        if (result.engine, result.compute_dtype, result.passed) == (engine.name, engine.compute_dtype, True):
            return f"{result.probes} probes at the export"
    return ""


def raise_file_limit() -> None:
    """Have this process open as many files as it may: each connection is one, and the usual limit is 1,024."""
    try:
        # Not on Windows.
        import resource
    except ImportError:
        return
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
