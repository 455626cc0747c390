"""The peers that can be run on a checkpoint, as systems to measure, and why the others cannot."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path

from monograph.bundle.manifest import EMBEDDING, RERANK, SPARSE
from monograph.errors import MonographError
from monograph_bench.peers.catalog import CHECKPOINT, Call, Peer, peers_of
from monograph_bench.peers.classifiers import classifier_source
from monograph_bench.peers.environments import PeerError, default_home, environment_of, peer_of
from monograph_bench.peers.forms import FormSource, form_of
from monograph_bench.peers.modules import Modules, read_modules
from monograph_bench.peers.settings import write_settings
from monograph_bench.peers.sparse_encoders import sparse_source
from monograph_bench.systems import PEER, System
from monograph_bench.task_profiles import TASK_PROFILES

# What makes the source of a form of a checkpoint that is no embedding model.
_SOURCES: Mapping[str, Callable[[Path], FormSource]] = {RERANK: classifier_source, SPARSE: sparse_source}


def peer_systems(
    names: Iterable[str],
    checkpoint: Path,
    threads: int,
    home: Path | None = None,
    report: Callable[[str], None] = lambda _: None,
    task: str = EMBEDDING,
) -> tuple[list[System], dict[str, str]]:
    """Return the peers that can be run on a checkpoint folder of a task, and by name the reason of each that cannot.

    A form of the checkpoint that a peer needs is exported here, once; ``report`` is told of that.

    Raises:
        PeerError: a name is not a peer's.

    """
    systems, reasons = [], {}
    for peer in [peer_of(name) for name in dict.fromkeys(names)]:
        try:
            call = _call_of(peer, task)
            place = default_home() if home is None else home
            options = _options(peer, task, checkpoint, place, report)
            systems.append(
                System(
                    name=peer.name,
                    kind=PEER,
                    python=environment_of(peer.name, place),
                    adapter=call.adapter,
                    options={"threads": threads, **peer.options, **options},
                    batch_sizes=peer.batch_sizes,
                    usage=call.usage,
                )
            )
        except MonographError as error:
            reasons[peer.name] = str(error)
    return systems, reasons


def _call_of(peer: Peer, task: str) -> Call:
    if task in peer.calls:
        return peer.calls[task]
    raise PeerError(
        f"{peer.name} is not measured with {TASK_PROFILES[task].models}: of the peers, {', '.join(peers_of(task))} are"
    )


def _options(peer: Peer, task: str, checkpoint: Path, home: Path, report: Callable[[str], None]) -> dict[str, object]:
    """Return what the peer's adapter is told of the checkpoint: where its form is, and what is behind an encoder."""
    options: dict[str, object] = {}
    place = checkpoint
    if peer.form != CHECKPOINT:
        # What no environment could help is said first.
        if task == EMBEDDING:
            modules = read_modules(checkpoint)
            if peer.poolings is not None:
                options |= _told_modules(peer, peer.poolings, modules)
            source = _encoder_source(checkpoint, modules)
        else:
            source = _SOURCES[task](checkpoint)
        environment_of(peer.name, home)
        place = form_of(peer.form, source, home, report)
    return options | {"checkpoint": str(place.resolve())}


def _encoder_source(checkpoint: Path, modules: Modules) -> FormSource:
    return FormSource(
        checkpoint, modules.transformer, "feature-extraction", partial(write_settings, checkpoint, modules)
    )


def _told_modules(peer: Peer, poolings: frozenset[str], modules: Modules) -> dict[str, object]:
    """Return what a peer has to be told of the modules behind the encoder, which it does not load.

    Raises:
        PeerError: it does not compute them; its vectors would be others.

    """
    beyond = modules.beyond_pooling()
    if beyond:
        raise PeerError(f"{peer.name} leaves out what this checkpoint has: {', '.join(beyond)}")
    if len(modules.poolings) != 1 or modules.poolings[0] not in poolings:
        raise PeerError(
            f"{peer.name} is measured with pooling {' or '.join(sorted(poolings))}, and this checkpoint has "
            f"{' + '.join(modules.poolings)}"
        )
    return {"pooling": modules.poolings[0], "normalize": modules.normalized, "max_length": modules.max_length}
