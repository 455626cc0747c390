"""`monograph serve`: an HTTP server with the APIs of OpenAI, Cohere and text-embeddings-inference."""

from __future__ import annotations

import argparse
import gc
import importlib
import ipaddress
import os
import re
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

from monograph.commands import options
from monograph.commands.reporting import add_quiet, reported
from monograph.errors import InputError, MonographError, printable

HELP = "serve models over HTTP, with the APIs of OpenAI, Cohere and text-embeddings-inference"
_NAMED = re.compile(r"([A-Za-z0-9][A-Za-z0-9._:/-]*)=(.+)")
_PACKAGES = ("fastapi", "uvicorn", "httptools", "orjson", "prometheus_client")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "bundles",
        nargs="+",
        metavar="[NAME=]BUNDLE",
        help="folder that `monograph export` wrote, or ORG/NAME[@REVISION] on the Hub, and the name it is served "
        "under; default: the folder's name",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at; default: 127.0.0.1")
    parser.add_argument("--port", type=_port, default=8080, help="default: 8080; 0 for any that is free")
    parser.add_argument(
        "--api-keys",
        type=options.path,
        metavar="FILE",
        help="require one of the keys in this file, one a line; SIGHUP has it read again",
    )
    parser.add_argument(
        "--without-keys", action="store_true", help="listen at an address other than this machine's own without keys"
    )
    parser.add_argument("--workers", type=options.positive, default=1, metavar="N", help="processes; default: 1")
    options.add_engine(parser)
    parser.add_argument("--verify", action="store_true", help="run each bundle's probes before listening")
    _add_limits(parser)
    parser.add_argument("--ssl-certfile", type=options.path, metavar="FILE", help="certificate, for HTTPS")
    parser.add_argument("--ssl-keyfile", type=options.path, metavar="FILE", help="its private key")
    parser.add_argument(
        "--access-log", action="store_true", help="log a line a request, without texts, on standard error"
    )
    # Of a worker process: the listening socket, the pipe to report on, and the one that ends with its supervisor.
    parser.add_argument("--worker", nargs=3, type=int, help=argparse.SUPPRESS)
    add_quiet(parser)


def _add_limits(parser: argparse.ArgumentParser) -> None:
    limits = parser.add_argument_group("limits")
    limits.add_argument("--max-body-bytes", type=options.positive, metavar="N", help="default: 8 MiB")
    limits.add_argument("--max-texts", type=options.positive, metavar="N", help="texts a request; default: 2048")
    limits.add_argument(
        "--max-tokens-per-batch",
        metavar="N",
        type=options.positive,
        help="tokens a batch of several texts, padding included; default: what is fastest",
    )
    limits.add_argument(
        "--max-queue-tokens",
        metavar="N",
        type=options.positive,
        help="tokens that may wait for a model; requests beyond get status 429; default: 1000000",
    )
    limits.add_argument(
        "--timeout",
        type=_seconds,
        metavar="SECONDS",
        help="for a request, from its headers to its response; default: 60",
    )
    limits.add_argument(
        "--receive-timeout",
        type=_seconds,
        metavar="SECONDS",
        help="for a client to send the headers of a request, and to send its body; default: 20",
    )
    limits.add_argument(
        "--idle-timeout", type=_seconds, metavar="SECONDS", help="for a connection without a request; default: 30"
    )
    limits.add_argument("--max-connections", type=options.positive, metavar="N", help="default: 4096")
    limits.add_argument(
        "--truncation",
        choices=("truncate", "error"),
        default="truncate",
        help="what becomes of a text that is too long, if a request does not say; default: truncate",
    )


def run(arguments: argparse.Namespace) -> int:
    """Serve until a signal."""
    begin = time.perf_counter()
    bundles = _name_bundles(arguments.bundles)
    _check_exposure(arguments)
    # Until it listens: nearly all that is created by then stays, and would only be looked at again and again.
    gc.disable()
    try:
        return _serve(arguments, bundles, begin)
    finally:
        gc.enable()


def _serve(arguments: argparse.Namespace, bundles: dict[str, str], begin: float) -> int:
    server = _import("monograph.server.server")
    request = _options(arguments, bundles, server)
    if arguments.worker is not None:
        _import("monograph.server.workers").run_worker(request, *arguments.worker)
        return 0
    with reported(arguments) as progress:
        bound = request.address.bind(for_workers=arguments.workers > 1)

        def on_ready(_: object) -> None:
            _announce(request, bound, begin)

        if arguments.workers > 1:
            workers = _import("monograph.server.workers")
            gc.enable()
            return int(workers.supervise(request, sys.argv[1:], bound, arguments.workers, on_ready, progress))
        server.serve(request, bound, on_ready, progress)
    return 0


def _announce(request: Any, bound: Any, begin: float) -> None:
    names = ", ".join(map(printable, request.bundles))
    print(f"serving {names} at {request.address.url(bound)} after {time.perf_counter() - begin:.2f} s", flush=True)


def _options(arguments: argparse.Namespace, bundles: dict[str, str], server: Any) -> Any:
    given = {
        "max_body_bytes": arguments.max_body_bytes,
        "max_texts": arguments.max_texts,
        "max_queue_tokens": arguments.max_queue_tokens,
        "timeout": arguments.timeout,
        "receive_timeout": arguments.receive_timeout,
        "idle_timeout": arguments.idle_timeout,
        "max_connections": arguments.max_connections,
        "truncate": arguments.truncation == "truncate",
    }
    limits = server.Limits(**{name: value for name, value in given.items() if value is not None})
    models = server.ModelOptions(
        arguments.device,
        arguments.compute_dtype,
        arguments.threads,
        arguments.quality,
        arguments.max_tokens_per_batch,
    )
    address = server.Address(arguments.host, arguments.port, arguments.ssl_certfile, arguments.ssl_keyfile)
    return server.Options(
        bundles, models, limits, address, arguments.api_keys, verify=arguments.verify, access_log=arguments.access_log
    )


def _name_bundles(given: list[str]) -> dict[str, str]:
    """Return bundles by the names they are served under.

    Raises:
        InputError: two have the same.

    """
    bundles: dict[str, str] = {}
    for word in given:
        match = None if Path(word).is_dir() else _NAMED.fullmatch(word)
        if match is not None:
            name, path = match[1], match[2]
        else:
            # A folder by the name that was given, of a link its own, and a bundle on the Hub by its whole one.
            name, path = Path(os.path.abspath(word)).name if Path(word).is_dir() else word, word  # noqa: PTH100
        if name in bundles:
            raise InputError(f"two bundles would be served as {name!r}: give one another name, NAME={path}")
        bundles[name] = path
    return bundles


def _check_exposure(arguments: argparse.Namespace) -> None:
    """Refuse to listen at an address that others reach without keys, unless that is wanted.

    Raises:
        InputError: others could reach it.

    """
    if arguments.api_keys is None and not arguments.without_keys and not _is_loopback(arguments.host):
        raise InputError(
            f"--host {arguments.host} is reached from other machines: give --api-keys FILE, or --without-keys if "
            "everybody there may use it"
        )
    if (arguments.ssl_certfile is None) != (arguments.ssl_keyfile is None):
        raise InputError("HTTPS needs a certificate and its key: give --ssl-certfile and --ssl-keyfile")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _import(module: str) -> ModuleType:
    """Import a part of the server, late: its packages are an extra.

    Raises:
        MonographError: one is missing.

    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in _PACKAGES:
            raise
        raise MonographError(f"serve needs {error.name}: pip install 'monograph[serve]'") from error


def _port(value: str) -> int:
    try:
        number = int(value)
    except ValueError:
        number = -1
    if not 0 <= number < 65536:
        raise argparse.ArgumentTypeError(f"must be a port, 0 to 65535, not {value!r}")
    return number


def _seconds(value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = 0
    if not 0 < number < 1e6:
        raise argparse.ArgumentTypeError(f"must be a number of seconds, not {value!r}")
    return number
