"""The peers that can be run on a checkpoint, as systems to measure, and why the others cannot."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from monograph.errors import MonographError
from monograph_bench.peers.catalog import CHECKPOINT, Peer
from monograph_bench.peers.environments import PeerError, default_home, environment_of, peer_of
from monograph_bench.peers.forms import form_of
from monograph_bench.peers.modules import Modules, read_modules
from monograph_bench.systems import PEER, System


def peer_systems(
    names: Iterable[str],
    checkpoint: Path,
    threads: int,
    home: Path | None = None,
    report: Callable[[str], None] = lambda _: None,
) -> tuple[list[System], dict[str, str]]:
    """Return the peers that can be run on a checkpoint folder, and by name the reason of each that cannot.

    A form of the checkpoint that a peer needs is exported here, once; ``report`` is told of that.

    Raises:
        PeerError: a name is not a peer's.

    """
    systems, reasons = [], {}
    for peer in [peer_of(name) for name in dict.fromkeys(names)]:
        try:
            systems.append(_system_of(peer, checkpoint, threads, default_home() if home is None else home, report))
        except MonographError as error:
            reasons[peer.name] = str(error)
    return systems, reasons


def _system_of(peer: Peer, checkpoint: Path, threads: int, home: Path, report: Callable[[str], None]) -> System:
    options: dict[str, object] = {"threads": threads, **peer.options}
    # What no environment could help is said first.
    modules = None if peer.form == CHECKPOINT else read_modules(checkpoint)
    if modules is not None and peer.poolings is not None:
        options |= _told_modules(peer, peer.poolings, modules)
    python = environment_of(peer.name, home)
    place = checkpoint if modules is None else form_of(peer.form, checkpoint, modules, home, report)
    options["checkpoint"] = str(place.resolve())
    return System(
        name=peer.name,
        kind=PEER,
        python=python,
        adapter=peer.adapter,
        options=options,
        batch_sizes=peer.batch_sizes,
        usage=peer.usage,
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
