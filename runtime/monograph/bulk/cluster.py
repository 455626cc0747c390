"""A run on a Ray cluster: each table is a unit of work of Ray Data, embedded where there is room for it.

Ray starts actors, restarts those of lost nodes and gives their tables to others. A table is written by renaming a whole
file, so that one that is embedded twice is there once, and a repeated run leaves out what is done: nothing depends on
what Ray remembers.
"""

from __future__ import annotations

import logging
import os
import platform
import socket
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from monograph.atomic import atomic_file
from monograph.bulk.encoder import Encoder, EncoderOptions
from monograph.bulk.job import Summary, count_outcomes, make_folders
from monograph.bulk.packages import missing_package
from monograph.bulk.shards import Job, Shard, ShardResult, embed_shard
from monograph.bulk.workers import Failure, Outcome, attempt, message_of
from monograph.bundle import open_bundle
from monograph.bundle.archive import pack_bundle, unpack_bundle
from monograph.bundle.sources import locate_bundle
from monograph.cache import cache_folder, check_cache, make_private_folder
from monograph.errors import BundleError, MonographError, first_line
from monograph.progress import Progress

_BUNDLES = "bundles"
_CONNECT_SECONDS = 10


def import_ray() -> Any:
    """Return the module ray, with Ray Data.

    Raises:
        MissingPackageError: it is not installed.

    """
    # As other libraries here: what a cluster does is nobody else's business.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise missing_package("a cluster", "Ray", "ray", error) from error
    return ray


@dataclass(frozen=True)
class SharedBundle:
    """A bundle that every node of a cluster gets: where a node has it, or its archive in Ray's object store.

    ``archive`` is a reference to a uint8 array; each node fetches it once. ``manifest_sha256`` says which bundle it is:
    the manifest has the hashes of all other files.
    """

    path: str
    manifest_sha256: str
    archive: Any

    def locate(self) -> Path:
        """Return the folder of the bundle on this node, where it is unpacked if it is not there yet.

        Raises:
            BundleError: it cannot be unpacked, or what arrived is another one.

        """
        if self._is_at(Path(self.path)):
            return Path(self.path)
        cache, problem = check_cache(cache_folder(None))
        if problem:
            raise BundleError(self.path, [f"the cache {cache} of {platform.node()} cannot be used ({problem})"])
        folder = cache / _BUNDLES / self.manifest_sha256[:32]
        if not self._is_at(folder):
            make_private_folder(cache)
            make_private_folder(folder.parent)
            self._unpack(folder)
        return folder

    def _is_at(self, folder: Path) -> bool:
        try:
            return open_bundle(folder).manifest_sha256 == self.manifest_sha256
        except BundleError:
            return False

    def _unpack(self, folder: Path) -> None:
        content = import_ray().get(self.archive)
        with tempfile.TemporaryDirectory(dir=folder.parent) as place:
            archive = Path(place) / "bundle.tar"
            with atomic_file(archive, durable=False) as file:
                file.write(memoryview(content))
            try:
                # Hashes every file.
                unpack_bundle(archive, folder)
            except BundleError:
                # Another process of this node may have been faster.
                if not self._is_at(folder):
                    raise


def share_bundle(path: str | os.PathLike[str]) -> SharedBundle:
    """Put a bundle into the object store of the cluster that this process is connected to.

    Raises:
        BundleError: the bundle is missing or damaged.

    """
    folder = locate_bundle(path)
    bundle = open_bundle(folder)
    with tempfile.TemporaryDirectory() as place:
        archive = pack_bundle(folder, Path(place) / "bundle.tar")
        # Mapped: it is copied into the store and nowhere else.
        content = np.memmap(archive, dtype=np.uint8, mode="r")
        reference = import_ray().put(np.asarray(content))
    return SharedBundle(os.path.abspath(folder), bundle.manifest_sha256, reference)  # noqa: PTH100  # no links resolved


def granted_cpus() -> int | None:
    """Return the CPUs that Ray has granted to this actor or task, at least 1; None outside of Ray."""
    ray = import_ray()
    if not ray.is_initialized():
        return None
    granted = ray.get_runtime_context().get_assigned_resources().get("CPU")
    return None if granted is None else max(1, int(granted))


class ShardActor:
    """Embeds tables on a node of a cluster. Ray Data makes it and calls it with a batch of one row."""

    def __init__(self, shards: Any, job: Job, options: EncoderOptions, bundle: SharedBundle) -> None:
        self._shards: Sequence[Shard] = import_ray().get(shards)
        self._job = job
        self._encoder = Encoder(on_this_node(options, bundle))

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Embed the tables whose numbers are in the column "id", and return what became of them."""
        outcomes = [self._embed(int(number)) for number in batch["id"]]
        return {key: [outcome[key] for outcome in outcomes] for key in outcomes[0]}

    def _embed(self, number: int) -> dict[str, Any]:
        result = attempt(embed_shard, self._shards[number], self._job, self._encoder)
        if isinstance(result, Failure):
            return {"id": number, "error": result.message, "rows": 0, "seconds": 0.0, "skipped": False}
        return {
            "id": number, "error": "", "rows": result.rows, "seconds": result.seconds, "skipped": result.skipped
        }  # fmt: skip


def on_this_node(options: EncoderOptions, bundle: SharedBundle) -> EncoderOptions:
    """Return the options with the bundle of this node and as many threads as Ray grants."""
    source = replace(
        options.source,
        path=bundle.locate(),
        manifest_sha256=bundle.manifest_sha256,
        check="full",
        threads=granted_cpus() or options.source.threads,
    )
    return replace(options, source=source)


def run_on_ray(
    shards: Sequence[Shard],
    job: Job,
    options: EncoderOptions,
    address: str | None,
    limit: int | None,
    progress: Progress,
    summary: Summary,
) -> None:
    """Embed all shards on a cluster, and count in ``summary`` what becomes of each.

    Args:
        shards: The tables; every node reads and writes them by the same paths.
        job: What they have in common.
        options: The model; its threads are the CPUs of each actor, None for 1.
        address: The cluster's; None for the one of this machine, which is started if there is none.
        limit: The largest number of actors; None for as many as there is room for, also where the cluster grows.
        progress: Where it is reported.
        summary: Where outcomes are counted.

    Raises:
        MonographError: there is no such cluster, or a node cannot open the model or opens another one.
        OSError: a folder of outputs cannot be made.

    """
    ray = import_ray()
    # Ray prints there what happens to nodes, and standard output is for results.
    with redirect_stdout(sys.stderr):
        _connect(ray, address)
        try:
            bundle = share_bundle(options.source.path)
            cpus, gpus = options.source.threads or 1, int(options.source.device.startswith("cuda"))
            options = _pinned(ray, options, bundle, cpus, gpus)
            make_folders(shards)
            outcomes = _outcomes(ray, shards, job, options, bundle, limit, cpus, gpus)
            count_outcomes(outcomes, len(shards), progress, summary)
        except ray.exceptions.RayError as error:
            raise MonographError(f"the cluster failed: {_cause(error)}") from error
        finally:
            ray.shutdown()


def _connect(ray: Any, address: str | None) -> None:
    """Connect to a cluster.

    Raises:
        MonographError: there is none, or it does not let this process in.

    """
    if address is not None:
        try:
            _check_reachable(address)
        except (OSError, ValueError) as error:
            raise _no_cluster(address, error) from error
    try:
        ray.init(
            address, log_to_driver=False, logging_level="error", include_dashboard=False if address is None else None
        )
    except (OSError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        if address is None:
            raise _no_cluster("this machine", error) from error
        # `ray start` asks for a token where the user has one, and a client that names an address gives none.
        raise MonographError(
            f"Ray does not connect to {address} ({first_line(error)}): see whether it has the same version there, and "
            "whether the cluster wants a token, which Ray gives with RAY_AUTH_MODE=token from ~/.ray/auth_token"
        ) from error


def _no_cluster(address: str, error: Exception) -> MonographError:
    return MonographError(
        f"there is no Ray cluster at {address} ({first_line(error)}): start one with `ray start --head`, or give its "
        "address"
    )


def _check_reachable(address: str) -> None:
    """Raise ``OSError`` if nothing listens at host:port; Ray would wait for minutes."""
    host, _, port = address.rpartition("/")[2].rpartition(":")
    if port.isdigit():
        socket.create_connection((host, int(port)), timeout=_CONNECT_SECONDS).close()


def _pinned(ray: Any, options: EncoderOptions, bundle: SharedBundle, cpus: int, gpus: int) -> EncoderOptions:
    """Return the options with the device, type and fingerprint that one node of the cluster has.

    Left to itself, each node would choose what is best on it, and their vectors would differ.
    """
    device, compute_dtype, fingerprint = ray.get(
        ray.remote(_describe).options(num_cpus=cpus, num_gpus=gpus).remote(options, bundle)
    )
    source = replace(options.source, device=device, compute_dtype=compute_dtype)
    return replace(options, source=source, fingerprint=fingerprint)


def _describe(options: EncoderOptions, bundle: SharedBundle) -> tuple[str, str, str]:
    with Encoder(on_this_node(options, bundle)) as encoder:
        return encoder.model.device, encoder.model.compute_dtype, encoder.model.fingerprint


def _outcomes(
    ray: Any,
    shards: Sequence[Shard],
    job: Job,
    options: EncoderOptions,
    bundle: SharedBundle,
    limit: int | None,
    cpus: int,
    gpus: int,
) -> Iterator[Outcome[Shard, ShardResult]]:
    """Yield the outcome of each shard as it is finished."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    room = max(1, int(ray.cluster_resources().get("CPU", 1)) // cpus)
    largest = min(limit or len(shards), len(shards))
    # From memory, one to a block: to read them, tasks would wait for CPUs that the actors have. Ray Data restarts
    # actors and repeats their tasks without a limit.
    numbers = ray.data.from_items([{"id": n} for n in range(len(shards))], override_num_blocks=len(shards))
    results = numbers.map_batches(
        ShardActor,
        batch_size=1,
        fn_constructor_args=(ray.put(list(shards)), job, options, bundle),
        # A second table that waits behind the first is one that another actor could embed.
        compute=ray.data.ActorPoolStrategy(
            min_size=1,
            max_size=largest,
            initial_size=min(largest, room),
            max_tasks_in_flight_per_actor=_in_flight(limit),
        ),
        num_cpus=cpus,
        num_gpus=gpus,
    )
    for row in results.iter_rows():
        shard = shards[row["id"]]
        if row["error"]:
            yield Outcome(shard, Failure(row["error"]))
        else:
            yield Outcome(shard, ShardResult(shard.output, row["rows"], row["seconds"], row["skipped"]))


def _in_flight(limit: int | None) -> int:
    """Return how many tables an actor is given at once: with 1 a pool does not grow, as Ray measures its load."""
    return 1 if limit else 2


def _cause(error: BaseException) -> str:
    """Return what an actor raised, which Ray wraps in what happened to its tasks."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MonographError):
            return message_of(cause)
        cause = getattr(cause, "cause", None) or cause.__cause__
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
